"""The OpenAPI description of the control API: its calls and documents.

Source of the format: OpenAPI 3.1.
"""

import json
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import msgspec

from hmret.api.image_index import SORTS
from hmret.api.repository_table import REPOSITORY_SORTS
from hmret.api.wire import structs, structs_fleet, structs_outcomes, structs_overview, structs_requests
from hmret.api.wire.structs_outcomes import LARGEST_PAGE, MOST_DAYS
from hmret.api.wire.structs_overview import LARGEST_LIST, MOST_PAST_DAYS
from hmret.api.wire.structs_requests import GivenImage, has_required_fields
from hmret.engine.overview.space import SpaceState
from hmret.model.fleet import FleetState
from hmret.model.images import Cause
from hmret.model.plan.forecast import DAYS
from hmret.model.report import SweepStatus
from hmret.model.verdicts import Action, Reason

Described = dict[str, Any]
"""A part of the description."""

_TEXT: Described = {"type": "string"}
_STRICT = "/v1/"
"""What the paths of calls that refuse unknown parameters begin with."""
_OF_BODIES = (400, 408, 413, 415, 422)
"""Error statuses of calls that have a body."""


def openapi_document(version: str) -> Described:
    """Describe the control API."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hmret control API",
            "version": version,
            "description": "Queries and commands of a running retention engine, over its control socket.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": _paths(),
        "components": {"schemas": _schemas()},
    }


def _schemas() -> Described:
    """Describe every document, by its class name without the suffix."""
    names: Described = {}
    for module in (structs, structs_outcomes, structs_overview, structs_requests, structs_fleet):
        names |= vars(module)
    kinds = [kind for name, kind in names.items() if re.search("[a-z](Document|Body)$", name)]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    for kind in (Action, Cause, FleetState, Reason, SpaceState, SweepStatus):
        schemas[kind.__name__] = {"type": "string", "enum": list(kind)}
    for schema in schemas.values():
        if "properties" in schema and "additionalProperties" not in schema:
            _require_all(schema)
    named: Described = json.loads(re.sub(r'(?<=\w)(Document|Body)"', '"', json.dumps(schemas)))
    return named


def _require_all(schema: Described) -> None:
    """Mark fields with defaults as required: defaults are for decoding from old engines; this one writes every field."""
    properties: Mapping[str, Described] = schema["properties"]
    schema["required"] = [
        name for name, field in properties.items() if name in schema["required"] or "default" in field
    ]
    for field in properties.values():
        field.pop("default", None)


def known_parameters() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return the parameters that each call takes after the `?`, by method and path; other parameters are refused.

    Of what is not below `/v1/`, browsers, scrapers and probes ask with parameters of their own.
    """
    return {
        (method.upper(), path): tuple(
            one["name"] for one in call.get("parameters", ()) if one["in"] == "query"
        )
        for path, calls in _paths().items()
        if path.startswith(_STRICT)
        for method, call in calls.items()
    }


def _paths() -> Described:
    paths: Described = {}
    for request, call in {**_reads(), **_overview(), **_writes(), **_fleet()}.items():
        method, path = request.split()
        if path.startswith(_STRICT):
            call["responses"] = dict(sorted({**_problems(422), **call["responses"]}.items()))
        paths.setdefault(path, {})[method.lower()] = call
    return paths


def _reads() -> Described:
    return {
        "GET /": _call("page", "The page", {"200": _given(kind="text/html")}),
        "GET /healthz": _call("healthz", "Whether the engine responds", _answers("Health", 503)),
        "GET /readyz": _call("readyz", "Whether images can be marked used", _answers("Health", 503)),
        "GET /metrics": _call("metrics", "Metrics for Prometheus", {"200": _given(kind="text/plain")}),
        "GET /openapi.json": _call(
            "openapi", "This document", {"200": _given({"type": "object"}, words="OpenAPI 3.1")}
        ),
        "GET /v1/status": _call("status", "The status of the engine", _answers("Status")),
        "GET /v1/forecast": _call(
            "forecast",
            "What the cache holds and when it expires",
            _answers("Forecast", 422, 503),
            _query("days", _up_to(MOST_DAYS), f"Number of UTC days; default: {DAYS}."),
        ),
        "GET /v1/images": _call(
            "images",
            "All images with their verdicts as the last sweep left them, a page at a time",
            _answers("Images", 422, 503),
            _query("limit", _up_to(LARGEST_PAGE), "Default: 100."),
            _query("after", _TEXT, "The value of `next` in the previous page."),
            *_FILTER,
        ),
        "GET /v1/images/{image}": _call(
            "explain",
            "Why an image is kept or deleted",
            _answers("Explained", 404, 422, 503),
            _in_path("image", msgspec.json.schema(GivenImage)),
        ),
        "GET /v1/quarantine": _call(
            "quarantine",
            "The deleted images that can be restored, in order of deletion",
            _answers("Quarantine"),
        ),
        "GET /v1/events": _call(
            "events",
            "Events as server-sent events, until the client disconnects",
            {"200": _given(kind="text/event-stream"), **_problems(422)},
            _query("after", _TEXT, "The id of the last event seen, like the header Last-Event-ID."),
            _query("follow", _FLAG, "false: only past events. Default: true."),
        ),
    }


def _overview() -> Described:
    return {
        "GET /v1/history": _call(
            "history",
            "What went on each of the last days, by the journal, and the latest events",
            _answers("History", 422, 503),
            _query("days", _up_to(MOST_PAST_DAYS), "Number of UTC days, today included; default: 30."),
        ),
        "GET /v1/space": _call("space", "The disk of the images and its limits", _answers("Space", 503)),
        "GET /v1/repositories": _call(
            "repositories",
            "The repositories, with what goes next in each, a page at a time",
            _answers("Repositories", 422, 503),
            *_LIST,
            _query("q", _TEXT, "Part of the name."),
            _query("sort", _one_of(*REPOSITORY_SORTS), "Default: repository."),
            _ORDER,
        ),
        "GET /v1/users": _call(
            "users",
            "Who needs which images: VMs, snapshots and others, a page at a time",
            _answers("Users", 422, 503),
            *_LIST,
            _query("q", _TEXT, "Part of the id or the name."),
        ),
        "GET /v1/policy": _call(
            "policy", "The settings in force, and where each was set", _answers("Policy")
        ),
        "GET /v1/export": _call(
            "export",
            "All images that match, as one file",
            {
                "200": {
                    "description": "Done",
                    "content": {
                        "application/json": {"schema": {"type": "object"}},
                        "text/csv": {"schema": _TEXT},
                    },
                },
                **_problems(422, 503),
            },
            _query("format", _one_of("json", "csv"), "Default: json."),
            *_FILTER,
        ),
    }


def _writes() -> Described:
    granted = _given(_ref("Lease"), words="Granted and recorded")
    granted["headers"] = {"Location": {"schema": _TEXT, "description": "The path of the lease."}}
    return {
        "GET /v1/plan": _call(
            "plan",
            "What a sweep would do, now or at another time; changes nothing",
            _answers("Plan", 422, 503),
            _AT,
        ),
        "POST /v1/plan": _call(
            "candidatePlan",
            "What a sweep would do under other settings, compared with those in force; changes nothing",
            _answers("CandidatePlan", *_OF_BODIES, 503),
            _AT,
            body="Candidate",
        ),
        "POST /v1/mark-used": _call(
            "markUsed",
            "Mark an image as used: check that it is present, and keep it for at least its window from now",
            _answers("MarkedUsed", 403, 404, *_OF_BODIES, 500, 503),
            body="MarkUsed",
        ),
        "POST /v1/restore": _call(
            "restore",
            "Restore an image from quarantine, with those of its tags not taken since, for a full window",
            _answers("Restored", 403, 404, 409, *_OF_BODIES, 500, 503),
            body="Restore",
        ),
        "POST /v1/confirm": _call(
            "confirm",
            "Confirm that the present state is correct after folders were lost or the clock jumped",
            _answers("Confirmed", 403, *_OF_BODIES, 500, 503),
            body="Confirm",
        ),
        "POST /v1/sweeps": _call(
            "sweep",
            "Sweep once, and wait for it",
            _answers("SweepReport", 403, 422, 503),
            _query("release_brake", _FLAG, "true: delete what the brake holds. Default: false."),
        ),
        "GET /v1/leases": _call("leases", "The leases in force", _answers("Leases")),
        "POST /v1/leases": _call(
            "grantLease",
            "Protect an image from deletion for some time, across restarts too",
            {"201": granted, **_problems(403, 404, *_OF_BODIES, 500, 503)},
            body="GrantLease",
        ),
        "GET /v1/leases/{id}": _call("lease", "One lease", _answers("Lease", 404), _ID),
        "PUT /v1/leases/{id}": _call(
            "renewLease",
            "Make a lease last for a new duration from now",
            _answers("Lease", 403, 404, *_OF_BODIES, 500, 503),
            _ID,
            body="RenewLease",
        ),
        "DELETE /v1/leases/{id}": _call(
            "endLease",
            "End a lease",
            {"204": {"description": "Ended"}, **_problems(403, 404, 500, 503)},
            _ID,
        ),
    }


def _fleet() -> Described:
    """Describe the calls of a fleet; 404: also that this host is in none."""
    return {
        "GET /v1/fleet": _call(
            "fleet", "The hosts of the fleet, its settings, and etcd", _answers("Fleet", 404)
        ),
        "GET /v1/fleet/holdings": _call(
            "fleetHoldings",
            "Which hosts hold a copy of an image, and which of them count",
            _answers("FleetHoldings", 404, 409, 422, 503),
            {
                **_query("image", _TEXT, "A digest, a reference by digest, or an image that is here."),
                "required": True,
            },
        ),
        "GET /v1/fleet/plan": _call(
            "fleetPlan",
            "What the hosts would delete, and the fleet's budget",
            _answers("FleetPlan", 404, 409, 503),
        ),
        "POST /v1/fleet/init": _call(
            "fleetInit", "Create the fleet in etcd", _answers("FleetGeneration", 403, 404, 409, 503)
        ),
        "POST /v1/fleet/reset": _call(
            "fleetReset",
            "Start a new generation of the fleet, after etcd was restored from a backup",
            _answers("FleetGeneration", 403, 404, 409, 503),
        ),
        "POST /v1/fleet/set": _call(
            "fleetSet", "Change a setting of the whole fleet", _changes("FleetSettingsChanged"), body="Set"
        ),
        "POST /v1/fleet/pause": _call(
            "fleetPause",
            "Pause deletion on all hosts; once this is answered, none deletes any further image",
            _changes("FleetSettingsChanged"),
            body="Pause",
        ),
        "POST /v1/fleet/resume": _call(
            "fleetResume",
            "Resume deletion after a pause",
            _answers("FleetSettingsChanged", 403, 404, 409, 503),
        ),
        "POST /v1/fleet/drain": _call(
            "fleetDrain",
            "Stop counting the copies on a host; lists the last copies there",
            _changes("Drain"),
            body="Drain",
        ),
        "POST /v1/fleet/undrain": _call(
            "fleetUndrain", "Count the copies on a drained host again", _changes("FleetHolders"), body="Host"
        ),
        "POST /v1/fleet/forget": _call(
            "fleetForget", "Remove a host that is gone for good", _changes("FleetHolders"), body="Host"
        ),
    }


def _changes(schema: str) -> Described:
    return _answers(schema, 403, 404, 409, *_OF_BODIES, 503)


def _call(name: str, summary: str, responses: Described, *parameters: Described, body: str = "") -> Described:
    call: Described = {"operationId": name, "summary": summary, "responses": responses}
    if parameters:
        call["parameters"] = list(parameters)
    if body:
        (kind,) = (
            vars(module)[f"{body}Body"]
            for module in (structs_requests, structs_fleet)
            if f"{body}Body" in vars(module)
        )
        call["requestBody"] = {
            "required": has_required_fields(kind),
            "content": {"application/json": {"schema": _ref(body)}},
        }
    return call


def _answers(schema: str, *problems: int) -> Described:
    return {"200": _given(_ref(schema)), **_problems(*problems)}


def _problems(*statuses: int) -> Described:
    problem = _given(_ref("Problem"), "application/problem+json", "What is wrong")
    return {str(status): problem for status in sorted(statuses)}


def _given(schema: Described = _TEXT, kind: str = "application/json", words: str = "Done") -> Described:
    return {"description": words, "content": {kind: {"schema": schema}}}


def _query(name: str, schema: Described, description: str) -> Described:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _in_path(name: str, schema: Described) -> Described:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _up_to(most: int) -> Described:
    return {"type": "integer", "minimum": 1, "maximum": most}


def _one_of(*words: str) -> Described:
    return {"type": "string", "enum": list(map(str, words))}


def _ref(schema: str) -> Described:
    return {"$ref": f"#/components/schemas/{schema}"}


_AT = _query("at", {"type": "string", "format": "date-time"}, "The time to plan for; default: now.")
_ID = _in_path("id", _TEXT)
_ORDER = _query("order", _one_of("asc", "desc"), "Default: asc.")
_FILTER = (
    _query("q", _TEXT, "Part of the repository, the digest, a tag or a user's id or name."),
    _query("action", _one_of("", *Action), "Only these; empty: all."),
    _query("reason", _one_of("", *Reason), "Only these; empty: all."),
    _query("status", _TEXT, "Only these."),
    _query("sort", _one_of(*SORTS), "Default: repository."),
    _ORDER,
)
_LIST = (
    _query("limit", _up_to(LARGEST_LIST), "Default: 100."),
    _query("after", _TEXT, "The value of `next` in the previous page."),
)
_FLAG = _one_of("true", "false")


if __name__ == "__main__":
    print(json.dumps(openapi_document(metadata.version("hmret")), indent=2))  # noqa: T201 - the purpose of this module
