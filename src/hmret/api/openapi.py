"""The control API described for programs: its calls.

Source of the format: OpenAPI 3.1.
"""

import json
from collections.abc import Sequence
from importlib import metadata

from hmret.api.image_index import SORTS
from hmret.api.wire.documents import Document
from hmret.api.wire.forecast import MOST_DAYS
from hmret.api.wire.openapi_parts import IMAGE, TEXT, TIME, one_of, ref
from hmret.api.wire.openapi_schemas import LARGEST_PAGE, schemas
from hmret.model.plan.decide import Action, Reason
from hmret.model.plan.forecast import DAYS

__all__ = ["openapi_document"]


def openapi_document(version: str) -> Document:
    """Describe the control API."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hmret control API",
            "version": version,
            "description": "What a running retention engine is asked and told, over its control socket.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {**_reads(), **_writes()},
        "components": {"schemas": schemas()},
    }


def _reads() -> Document:
    return {
        "/": {"get": _call("page", "The page", {"200": _typed("text/html")})},
        "/healthz": {"get": _call("healthz", "Whether the engine answers", _answers("Health", 503))},
        "/readyz": {"get": _call("readyz", "Whether images can be marked used", _answers("Health", 503))},
        "/metrics": {"get": _call("metrics", "Numbers for Prometheus", {"200": _typed("text/plain")})},
        "/openapi.json": {
            "get": _call("openapi", "This document", {"200": _json({"type": "object"}, "OpenAPI 3.1")})
        },
        "/v1/status": {"get": _call("status", "The state of the engine", _answers("Status"))},
        "/v1/forecast": {
            "get": _call(
                "forecast",
                "What the cache holds and what falls due when",
                _answers("Forecast", 422, 503),
                parameters=[
                    _query(
                        "days",
                        {"type": "integer", "minimum": 1, "maximum": MOST_DAYS},
                        f"How many UTC days; default: {DAYS}.",
                    )
                ],
            )
        },
        "/v1/images": {
            "get": _call(
                "images",
                "All images with their verdicts as the last sweep left them, a page at a time",
                _answers("Images", 422, 503),
                parameters=[
                    _query(
                        "limit", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}, "Default: 100."
                    ),
                    _query("after", TEXT, "What `next` of the page before was."),
                    _query("q", TEXT, "Part of the repository, digest, a tag or who refers to it."),
                    _query("action", one_of(("", *Action)), "Only these; empty: all."),
                    _query("reason", one_of(("", *Reason)), "Only these; empty: all."),
                    _query("status", TEXT, "Only these."),
                    _query("sort", one_of(SORTS), "Default: repository."),
                    _query("order", one_of(("asc", "desc")), "Default: asc."),
                ],
            )
        },
        "/v1/images/{image}": {
            "get": _call(
                "explain",
                "Why one image goes or stays",
                _answers("Explained", 404, 422, 503),
                parameters=[_in_path("image", IMAGE)],
            )
        },
        "/v1/quarantine": {
            "get": _call(
                "quarantine",
                "The deleted images that can be brought back, by when they were deleted",
                _answers("Quarantine"),
            )
        },
        "/v1/events": {
            "get": _call(
                "events",
                "What happens, as server-sent events, until the client goes",
                {"200": _typed("text/event-stream"), **_problems(422)},
                parameters=[
                    _query("after", TEXT, "The id of the last event seen; as the header Last-Event-ID."),
                    _query(
                        "follow", one_of(("true", "false")), "false: only what has passed. Default: true."
                    ),
                ],
            )
        },
    }


def _writes() -> Document:
    lease_id = _in_path("id", TEXT)
    body_problems = (400, 408, 413, 415, 422)
    granted = _json(ref("Lease"), "Granted, and recorded")
    granted["headers"] = {"Location": {"schema": TEXT, "description": "Where the lease is."}}
    return {
        "/v1/plan": {
            "get": _call(
                "plan",
                "What a sweep would do, now or at another time; changes nothing",
                _answers("Plan", 422, 503),
                parameters=[_query("at", TIME, "What would be due then; default: now.")],
            ),
            "post": _call(
                "candidatePlan",
                "What a sweep would do by other settings, compared with those in force; changes nothing",
                _answers("CandidatePlan", *body_problems, 503),
                parameters=[_query("at", TIME, "What would be due then; default: now.")],
                body="Candidate",
            ),
        },
        "/v1/mark-used": {
            "post": _call(
                "markUsed",
                "Say that an image is about to be used: it is here, and stays for at least its window from now",
                _answers("MarkedUsed", 403, 404, *body_problems, 500, 503),
                body="MarkUsed",
            )
        },
        "/v1/restore": {
            "post": _call(
                "restore",
                "Bring an image back from quarantine, with those of its tags that are free, for a full window",
                _answers("Restored", 403, 404, 409, *body_problems, 500, 503),
                body="Restore",
            )
        },
        "/v1/confirm": {
            "post": _call(
                "confirm",
                "Say that what is there now is right, where folders are lost or the clock has jumped",
                _answers("Confirmed", 403, *body_problems, 500, 503),
                body="Confirm",
            )
        },
        "/v1/sweeps": {
            "post": _call(
                "sweep",
                "Sweep once, and wait for it",
                _answers("SweepReport", 403, 422, 503),
                parameters=[
                    _query(
                        "release_brake",
                        one_of(("false", "true")),
                        "true: let go what the brake holds. Default: false.",
                    )
                ],
            ),
        },
        "/v1/leases": {
            "get": _call("leases", "The leases that were granted", _answers("Leases")),
            "post": _call(
                "grantLease",
                "Keep an image from deletion for some time, over restarts too",
                {"201": granted, **_problems(403, 404, *body_problems, 500, 503)},
                body="GrantLease",
            ),
        },
        "/v1/leases/{id}": {
            "get": _call("lease", "One lease", _answers("Lease", 404), parameters=[lease_id]),
            "put": _call(
                "renewLease",
                "Let a lease last for another time from now",
                _answers("Lease", 403, 404, *body_problems, 500, 503),
                parameters=[lease_id],
                body="RenewLease",
            ),
            "delete": _call(
                "endLease",
                "End a lease",
                {"204": {"description": "Ended"}, **_problems(403, 404, 500, 503)},
                parameters=[lease_id],
            ),
        },
    }


def _call(
    name: str,
    summary: str,
    responses: Document,
    *,
    parameters: Sequence[Document] = (),
    body: str = "",
) -> Document:
    call: Document = {"operationId": name, "summary": summary, "responses": responses}
    if parameters:
        call["parameters"] = list(parameters)
    if body:
        call["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref(body)}}}
    return call


def _answers(schema: str, *problems: int) -> Document:
    return {"200": _json(ref(schema), "Done"), **_problems(*problems)}


def _problems(*statuses: int) -> Document:
    return {
        str(status): {
            "description": "What is wrong",
            "content": {"application/problem+json": {"schema": ref("Problem")}},
        }
        for status in sorted(statuses)
    }


def _json(schema: Document, description: str) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _typed(media_type: str) -> Document:
    return {"description": "Done", "content": {media_type: {"schema": TEXT}}}


def _query(name: str, schema: Document, description: str) -> Document:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _in_path(name: str, schema: Document) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": schema}


if __name__ == "__main__":
    print(json.dumps(openapi_document(metadata.version("hmret")), indent=2))  # noqa: T201 - what it is for
