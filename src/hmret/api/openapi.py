"""The control API described for programs.

Source of the format: OpenAPI 3.1.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import metadata

from hmret.api.catalog import SORTS
from hmret.api.documents import Document
from hmret.api.forecast import MOST_DAYS
from hmret.model.forecast import DAYS, HORIZONS
from hmret.model.images import Cause
from hmret.model.planning import Action, Reason
from hmret.model.report import SweepStatus

__all__ = ["LARGEST_PAGE", "openapi_document"]

LARGEST_PAGE = 1000
"""The most images of one page."""

_TEXT: Document = {"type": "string"}
_FLAG: Document = {"type": "boolean"}
_COUNT: Document = {"type": "integer", "minimum": 0}
_SECONDS: Document = {"type": "number", "minimum": 0}
_TIME: Document = {"type": "string", "format": "date-time"}
_TIME_OR_NONE: Document = {"type": ["string", "null"], "format": "date-time"}
_TEXTS: Document = {"type": "array", "items": _TEXT}
_DIGEST: Document = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_IMAGE: Document = {
    "type": "string",
    "minLength": 1,
    "description": "A reference by tag or digest, as people type it: `alpine:3.20`.",
    "examples": ["alpine:3.20"],
}
_GIVEN_DIGEST: Document = {
    "type": ["string", "null"],
    "pattern": "^(sha256:)?[0-9a-f]{64}$",
    "description": "Counts instead of what the reference says.",
}
_TTL: Document = {
    "description": "How long the lease lasts from now: seconds as a number, or a Go duration as text.",
    "oneOf": [
        {"type": "number", "minimum": 0.001, "maximum": 9_000_000_000},
        {"type": "string", "pattern": r"^[1-9][0-9]{0,5}(s|m|h)$"},
    ],
    "examples": ["10m", 600],
}


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
        "components": {"schemas": _schemas()},
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
                    _query("after", _TEXT, "What `next` of the page before was."),
                    _query("q", _TEXT, "Part of the repository, digest, a tag or who refers to it."),
                    _query("action", _one_of(("", *Action)), "Only these; empty: all."),
                    _query("reason", _one_of(("", *Reason)), "Only these; empty: all."),
                    _query("status", _TEXT, "Only these."),
                    _query("sort", _one_of(SORTS), "Default: repository."),
                    _query("order", _one_of(("asc", "desc")), "Default: asc."),
                ],
            )
        },
        "/v1/images/{image}": {
            "get": _call(
                "explain",
                "Why one image goes or stays",
                _answers("Explained", 404, 422, 503),
                parameters=[_in_path("image", _IMAGE)],
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
                    _query("after", _TEXT, "The id of the last event seen; as the header Last-Event-ID."),
                    _query(
                        "follow", _one_of(("true", "false")), "false: only what has passed. Default: true."
                    ),
                ],
            )
        },
    }


def _writes() -> Document:
    lease_id = _in_path("id", _TEXT)
    body_problems = (400, 408, 413, 415, 422)
    granted = _json(_ref("Lease"), "Granted, and recorded")
    granted["headers"] = {"Location": {"schema": _TEXT, "description": "Where the lease is."}}
    return {
        "/v1/plan": {
            "get": _call(
                "plan",
                "What a sweep would do, now or at another time; changes nothing",
                _answers("Plan", 422, 503),
                parameters=[_query("at", _TIME, "What would be due then; default: now.")],
            ),
            "post": _call(
                "candidatePlan",
                "What a sweep would do by other settings, compared with those in force; changes nothing",
                _answers("CandidatePlan", *body_problems, 503),
                parameters=[_query("at", _TIME, "What would be due then; default: now.")],
                body="Candidate",
            ),
        },
        "/v1/mark-used": {
            "post": _call(
                "markUsed",
                "Say that an image is about to be used: it is here, and stays for at least its window from now",
                _answers("MarkedUsed", 404, *body_problems, 500, 503),
                body="MarkUsed",
            )
        },
        "/v1/restore": {
            "post": _call(
                "restore",
                "Bring an image back from quarantine, with those of its tags that are free, for a full window",
                _answers("Restored", 404, 409, *body_problems, 500, 503),
                body="Restore",
            )
        },
        "/v1/sweeps": {
            "post": _call(
                "sweep",
                "Sweep once, and wait for it",
                _answers("SweepReport", 422, 503),
                parameters=[
                    _query(
                        "release_brake",
                        _one_of(("false", "true")),
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
                {"201": granted, **_problems(404, *body_problems, 500, 503)},
                body="GrantLease",
            ),
        },
        "/v1/leases/{id}": {
            "get": _call("lease", "One lease", _answers("Lease", 404), parameters=[lease_id]),
            "put": _call(
                "renewLease",
                "Let a lease last for another time from now",
                _answers("Lease", 404, *body_problems, 500, 503),
                parameters=[lease_id],
                body="RenewLease",
            ),
            "delete": _call(
                "endLease",
                "End a lease",
                {"204": {"description": "Ended"}, **_problems(404, 500, 503)},
                parameters=[lease_id],
            ),
        },
    }


def _schemas() -> Document:
    image = {
        "repository": _TEXT,
        "digest": _DIGEST,
        "tags": _TEXTS,
        "status": _TEXT,
        "size_bytes": {"type": "integer"},
        "disk_bytes": _COUNT,
        "action": _one_of(Action),
        "reason": _one_of(Reason),
        "referenced_by": _TEXTS,
        "unused_since": _TIME_OR_NONE,
        "expires_at": _TIME_OR_NONE,
    }
    lease = {"repository": _TEXT, "digest": _DIGEST, "owner": _TEXT, "reason": _TEXT}
    suspended: Document = {"type": "array", "items": _ref("Suspension")}
    return {
        "Problem": _object(
            {"type": _TEXT, "title": _TEXT, "status": _COUNT, "detail": _TEXT}, "As RFC 9457 has it."
        ),
        "Health": _object({"status": {"const": "ok"}}),
        "Suspension": _object(
            {"cause": _one_of(Cause), "path": _TEXT, "detail": _TEXT},
            "Why nothing is deleted; `detail` tells the remedy.",
        ),
        "Image": _object(image),
        "Explained": _object(
            {
                **image,
                "blockers": {"type": "array", "items": _one_of(Reason)},
                "detail": {"type": ["string", "null"]},
                "rule": {"type": ["integer", "null"]},
            }
        ),
        "Images": _object(
            {
                "at": _TIME,
                "total": _COUNT,
                "matched": _COUNT,
                "images": {"type": "array", "items": _ref("Image"), "maxItems": LARGEST_PAGE},
                "next": {"type": ["string", "null"]},
            }
        ),
        "Forecast": _object(_forecast(), "Sizes are blocks on the disk, in bytes."),
        "Plan": _object(_plan(suspended)),
        "CandidatePlan": {
            **_object({**_plan(suspended), "comparison": _object(_comparison(image))}),
            "required": list(_plan(suspended)),
            "description": "Compared where the settings are other than those in force.",
        },
        "Candidate": _body({"settings": {"type": "object", "description": _SETTINGS}}, ["settings"]),
        "SweepReport": _object(_report(suspended)),
        "Status": _object(_status(suspended)),
        "MarkUsed": _body({"image": _IMAGE, "digest": _GIVEN_DIGEST}, ["image"]),
        "MarkedUsed": _object({"repository": _TEXT, "digest": _DIGEST, "cleared": _FLAG}),
        "Restore": _body({"image": _IMAGE, "digest": _GIVEN_DIGEST}, ["image"]),
        "Restored": _object(
            {
                "repository": _TEXT,
                "digest": _DIGEST,
                "tags": _TEXTS,
                "unused_since": _TIME,
                "taken_tags": _TEXTS,
            },
            "`taken_tags` went with the image too, and point elsewhere by now.",
        ),
        "Quarantine": _object({"images": {"type": "array", "items": _object(_quarantined())}}),
        "GrantLease": _body(
            {
                "image": _IMAGE,
                "digest": _GIVEN_DIGEST,
                "ttl": _TTL,
                "owner": {"type": "string", "maxLength": 1024, "default": ""},
                "reason": {"type": "string", "maxLength": 1024, "default": ""},
            },
            ["image", "ttl"],
        ),
        "RenewLease": _body({"ttl": _TTL}, ["ttl"]),
        "Lease": _object({"id": _TEXT, **lease, "expires_at": _TIME_OR_NONE}),
        "Leases": _object({"leases": {"type": "array", "items": _ref("Lease")}}),
    }


_SETTINGS = "Settings of the policy by dotted key, as check-config shows them; what is not given is as it is in force."
_SUMMARY = ("images", "delete", "delete_bytes", "mark", "clear", "keep", "prune")


def _plan(suspended: Document) -> Document:
    return {
        "at": _TIME,
        "data_dir": _TEXT,
        "enabled": _FLAG,
        "suspended": suspended,
        "stale_references": {"type": "array", "items": _object({"source": _TEXT, "image": _TEXT})},
        "summary": _object(dict.fromkeys(_SUMMARY, _COUNT)),
        "images": {"type": "array", "items": _ref("Image")},
    }


def _comparison(image: Document) -> Document:
    differences = {
        "type": "array",
        "items": _object({**image, "reason_in_force": _one_of(Reason)}),
    }
    return {
        "in_force": _object(dict.fromkeys(_SUMMARY, _COUNT)),
        "newly_go": differences,
        "newly_stay": differences,
    }


def _quarantined() -> Document:
    return {
        "repository": _TEXT,
        "digest": _DIGEST,
        "tags": _TEXTS,
        "disk_bytes": _COUNT,
        "retired_at": _TIME,
        "until": _TIME,
    }


def _forecast() -> Document:
    amount = {"images": _COUNT, "bytes": _COUNT}
    held = _object({"action": _one_of(Action), "reason": _one_of(Reason), **amount})
    return {
        "at": _TIME,
        **amount,
        "days": {
            "type": "array",
            "items": _object({"date": {"type": "string", "format": "date"}, **amount}),
            "minItems": 1,
            "maxItems": MOST_DAYS,
            "description": "UTC days from that of `at` on; what is overdue counts on the first.",
        },
        "within": _object(
            dict.fromkeys(HORIZONS, _COUNT), "What falls due within this time, overdue included."
        ),
        "holdings": {"type": "array", "items": held},
    }


def _report(suspended: Document) -> Document:
    counts = (
        "ready_images",
        "protected_images",
        "marked_unused",
        "cleared_states",
        "deleted_images",
        "deleted_bytes",
        "pruned_states",
        "stale_references",
        "open_images",
        "failed_deletes",
    )
    deleted = {
        "repository": _TEXT,
        "digest": _DIGEST,
        "tags": _TEXTS,
        "disk_bytes": _COUNT,
        "unused_since": _TIME,
    }
    return {
        "status": _one_of(SweepStatus),
        "started_at": _TIME,
        "duration_seconds": {"type": "number"},
        "suspended": suspended,
        **dict.fromkeys(counts, _COUNT),
        "deleted": {"type": "array", "items": _object(deleted)},
        "errors": {
            "type": "array",
            "items": _object(dict.fromkeys(("repository", "digest", "path", "error"), _TEXT)),
        },
        **dict.fromkeys(
            ("quarantined_images", "quarantined_bytes", "released_images", "released_bytes"), _COUNT
        ),
    }


def _status(suspended: Document) -> Document:
    totals = ("sweeps", "deleted_images", "deleted_bytes", "failed_deletes")
    return {
        "version": _TEXT,
        "process": _COUNT,
        "backend": _one_of(("asyncio", "trio")),
        "uptime_seconds": _SECONDS,
        "data_dir": _TEXT,
        "enabled": _FLAG,
        "unused_for_seconds": _SECONDS,
        "sweep_interval_seconds": _SECONDS,
        "sweeping": _FLAG,
        "images_seen": _COUNT,
        "suspended": suspended,
        "leases_offered": {"type": ["boolean", "null"]},
        "granted_leases": _COUNT,
        "totals": _object(dict.fromkeys(totals, _COUNT)),
        "trash_bytes": {"type": ["integer", "null"], "minimum": 0},
        "quarantine": _object({"images": _COUNT, "bytes": _COUNT}),
        "disk": {"oneOf": [_object(_disk()), {"type": "null"}]},
        "brake": {"oneOf": [_object(_brake()), {"type": "null"}]},
        "waiting": {"type": "object", "additionalProperties": _COUNT},
        "listeners": _COUNT,
        "last_sweep": {"oneOf": [_ref("SweepReport"), {"type": "null"}]},
    }


def _disk() -> Document:
    return {
        "used_bytes": _COUNT,
        "available_bytes": _COUNT,
        "pressed": _FLAG,
        "backing_off": _FLAG,
        "shortfall_bytes": _COUNT,
    }


def _brake() -> Document:
    return {"expired": _COUNT, "eligible": _COUNT, "released": _FLAG, "seconds": _SECONDS}


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
        call["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    return call


def _answers(schema: str, *problems: int) -> Document:
    return {"200": _json(_ref(schema), "Done"), **_problems(*problems)}


def _problems(*statuses: int) -> Document:
    return {
        str(status): {
            "description": "What is wrong",
            "content": {"application/problem+json": {"schema": _ref("Problem")}},
        }
        for status in sorted(statuses)
    }


def _json(schema: Document, description: str) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _typed(media_type: str) -> Document:
    return {"description": "Done", "content": {media_type: {"schema": _TEXT}}}


def _query(name: str, schema: Document, description: str) -> Document:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _in_path(name: str, schema: Document) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _object(properties: Mapping[str, object], description: str = "") -> Document:
    document: Document = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
    }
    return {**document, "description": description} if description else document


def _body(properties: Mapping[str, object], required: Sequence[str]) -> Document:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _one_of(
    words: "Mapping[str, object] | Sequence[str] | type[Action | Reason | Cause | SweepStatus]",
) -> Document:
    return {"type": "string", "enum": [str(word) for word in words]}


def _ref(schema: str) -> Document:
    return {"$ref": f"#/components/schemas/{schema}"}


if __name__ == "__main__":
    print(json.dumps(openapi_document(metadata.version("hmret")), indent=2))  # noqa: T201 - what it is for
