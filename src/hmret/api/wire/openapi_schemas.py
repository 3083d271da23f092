"""The schemas of the control API: what its documents hold."""

from hmret.api.wire.documents import Document
from hmret.api.wire.forecast import MOST_DAYS
from hmret.api.wire.openapi_parts import (
    COUNT,
    DIGEST,
    FLAG,
    GIVEN_DIGEST,
    IMAGE,
    SECONDS,
    TEXT,
    TEXTS,
    TIME,
    TIME_OR_NONE,
    TTL,
    body_of,
    object_of,
    one_of,
    ref,
)
from hmret.model.images import Cause
from hmret.model.plan.decide import Action, Reason
from hmret.model.plan.forecast import HORIZONS
from hmret.model.report import SweepStatus

__all__ = ["LARGEST_PAGE", "schemas"]

LARGEST_PAGE = 1000
"""The most images of one page."""

_VM_NAMES: Document = {
    "type": "object",
    "additionalProperties": TEXT,
    "description": "Names of those in `referenced_by` that have one.",
}


def schemas() -> Document:
    """Describe every document, by the name that `ref` takes."""
    image = {
        "repository": TEXT,
        "digest": DIGEST,
        "tags": TEXTS,
        "status": TEXT,
        "size_bytes": {"type": "integer"},
        "disk_bytes": COUNT,
        "action": one_of(Action),
        "reason": one_of(Reason),
        "referenced_by": TEXTS,
        "unused_since": TIME_OR_NONE,
        "expires_at": TIME_OR_NONE,
        "shared_with": {**TEXTS, "description": "Other repositories whose rows hold the same content."},
        "held_by": {
            "type": "array",
            "items": object_of({"repository": TEXT, "reason": one_of(Reason)}),
            "description": "Those of them that keep what is due here.",
        },
    }
    lease = {"repository": TEXT, "digest": DIGEST, "owner": TEXT, "reason": TEXT}
    suspended: Document = {"type": "array", "items": ref("Suspension")}
    return {
        "Problem": object_of(
            {"type": TEXT, "title": TEXT, "status": COUNT, "detail": TEXT}, "As RFC 9457 has it."
        ),
        "Health": object_of({"status": {"const": "ok"}}),
        "Suspension": object_of(
            {"cause": one_of(Cause), "path": TEXT, "detail": TEXT},
            "Why nothing is deleted; `detail` tells the remedy.",
        ),
        "Image": object_of(image),
        "Explained": object_of(
            {
                **image,
                "blockers": {"type": "array", "items": one_of(Reason)},
                "detail": {"type": ["string", "null"]},
                "rule": {"type": ["integer", "null"]},
                "vm_names": _VM_NAMES,
            }
        ),
        "Images": object_of(
            {
                "at": TIME,
                "total": COUNT,
                "matched": COUNT,
                "images": {"type": "array", "items": ref("Image"), "maxItems": LARGEST_PAGE},
                "next": {"type": ["string", "null"]},
                "vm_names": _VM_NAMES,
            }
        ),
        "Forecast": object_of(_forecast(), "Sizes are blocks on the disk, in bytes."),
        "Plan": object_of(_plan(suspended)),
        "CandidatePlan": {
            **object_of({**_plan(suspended), "comparison": object_of(_comparison(image))}),
            "required": list(_plan(suspended)),
            "description": "Compared where the settings are other than those in force.",
        },
        "Candidate": body_of({"settings": {"type": "object", "description": _SETTINGS}}, ["settings"]),
        "SweepReport": object_of(_report(suspended)),
        "Status": object_of(_status(suspended)),
        "Confirm": body_of({"what": TEXTS}, []),
        "Confirmed": object_of({"confirmed": TEXTS}),
        "MarkUsed": body_of({"image": IMAGE, "digest": GIVEN_DIGEST}, ["image"]),
        "MarkedUsed": object_of({"repository": TEXT, "digest": DIGEST, "cleared": FLAG}),
        "Restore": body_of({"image": IMAGE, "digest": GIVEN_DIGEST}, ["image"]),
        "Restored": object_of(
            {
                "repository": TEXT,
                "digest": DIGEST,
                "tags": TEXTS,
                "unused_since": TIME,
                "taken_tags": TEXTS,
            },
            "`taken_tags` went with the image too, and point elsewhere by now.",
        ),
        "Quarantine": object_of({"images": {"type": "array", "items": object_of(_quarantined())}}),
        "GrantLease": body_of(
            {
                "image": IMAGE,
                "digest": GIVEN_DIGEST,
                "ttl": TTL,
                "owner": {"type": "string", "maxLength": 1024, "default": ""},
                "reason": {"type": "string", "maxLength": 1024, "default": ""},
            },
            ["image", "ttl"],
        ),
        "RenewLease": body_of({"ttl": TTL}, ["ttl"]),
        "Lease": object_of({"id": TEXT, **lease, "expires_at": TIME_OR_NONE}),
        "Leases": object_of({"leases": {"type": "array", "items": ref("Lease")}}),
    }


_SETTINGS = "Settings of the policy by dotted key, as check-config shows them; what is not given is as it is in force."
_SUMMARY = ("images", "delete", "delete_bytes", "mark", "clear", "keep", "prune")


def _plan(suspended: Document) -> Document:
    return {
        "at": TIME,
        "data_dir": TEXT,
        "enabled": FLAG,
        "suspended": suspended,
        "stale_references": {"type": "array", "items": object_of({"source": TEXT, "image": TEXT})},
        "summary": object_of(dict.fromkeys(_SUMMARY, COUNT)),
        "vm_names": _VM_NAMES,
        "images": {"type": "array", "items": ref("Image")},
    }


def _comparison(image: Document) -> Document:
    differences = {
        "type": "array",
        "items": object_of({**image, "reason_in_force": one_of(Reason)}),
    }
    return {
        "in_force": object_of(dict.fromkeys(_SUMMARY, COUNT)),
        "newly_go": differences,
        "newly_stay": differences,
    }


def _quarantined() -> Document:
    return {
        "repository": TEXT,
        "digest": DIGEST,
        "tags": TEXTS,
        "disk_bytes": COUNT,
        "retired_at": TIME,
        "until": TIME,
    }


def _forecast() -> Document:
    amount = {"images": COUNT, "bytes": COUNT}
    held = object_of({"action": one_of(Action), "reason": one_of(Reason), **amount})
    return {
        "at": TIME,
        **amount,
        "days": {
            "type": "array",
            "items": object_of({"date": {"type": "string", "format": "date"}, **amount}),
            "minItems": 1,
            "maxItems": MOST_DAYS,
            "description": "UTC days from that of `at` on; what is overdue counts on the first.",
        },
        "within": object_of(
            dict.fromkeys(HORIZONS, COUNT), "What falls due within this time, overdue included."
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
        "repository": TEXT,
        "digest": DIGEST,
        "tags": TEXTS,
        "disk_bytes": COUNT,
        "unused_since": TIME,
    }
    return {
        "status": one_of(SweepStatus),
        "started_at": TIME,
        "duration_seconds": {"type": "number"},
        "suspended": suspended,
        **dict.fromkeys(counts, COUNT),
        "deleted": {"type": "array", "items": object_of(deleted)},
        "errors": {
            "type": "array",
            "items": object_of(dict.fromkeys(("repository", "digest", "path", "error"), TEXT)),
        },
        **dict.fromkeys(
            ("quarantined_images", "quarantined_bytes", "released_images", "released_bytes"), COUNT
        ),
    }


def _status(suspended: Document) -> Document:
    totals = ("sweeps", "deleted_images", "deleted_bytes", "failed_deletes")
    return {
        "version": TEXT,
        "process": COUNT,
        "backend": one_of(("asyncio", "trio")),
        "uptime_seconds": SECONDS,
        "data_dir": TEXT,
        "enabled": FLAG,
        "unused_for_seconds": SECONDS,
        "sweep_interval_seconds": SECONDS,
        "sweeping": FLAG,
        "images_seen": COUNT,
        "suspended": suspended,
        "leases_offered": {"type": ["boolean", "null"]},
        "granted_leases": COUNT,
        "totals": object_of(dict.fromkeys(totals, COUNT)),
        "trash_bytes": {"type": ["integer", "null"], "minimum": 0},
        "quarantine": object_of({"images": COUNT, "bytes": COUNT}),
        "disk": {"oneOf": [object_of(_disk()), {"type": "null"}]},
        "brake": {"oneOf": [object_of(_brake()), {"type": "null"}]},
        "stopped_timers": {"oneOf": [object_of(_stopped_timers(), _STOPPED_TIMERS), {"type": "null"}]},
        "waiting": {"type": "object", "additionalProperties": COUNT},
        "listeners": COUNT,
        "last_sweep": {"oneOf": [ref("SweepReport"), {"type": "null"}]},
    }


def _disk() -> Document:
    return {
        "used_bytes": COUNT,
        "available_bytes": COUNT,
        "pressed": FLAG,
        "backing_off": FLAG,
        "shortfall_bytes": COUNT,
    }


def _brake() -> Document:
    return {"expired": COUNT, "eligible": COUNT, "released": FLAG, "seconds": SECONDS}


_STOPPED_TIMERS = "Timers that a sweep by the settings in force has stopped, because of their patterns."


def _stopped_timers() -> Document:
    return {
        "at": TIME,
        "timers": COUNT,
        "by_reason": {"type": "object", "additionalProperties": COUNT},
        "detail": TEXT,
    }
