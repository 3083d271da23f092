"""The JSON documents: plans, verdicts, reports and settings as values that any JSON encoder takes.

Every field is always there; times are RFC 3339 in UTC to the nanosecond, or null.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from hmret.model.images import Suspension
from hmret.model.plan.decide import Plan, Reason, Summary, Verdict
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import format_time, nanoseconds_of
from hmret.model.verdicts import Holder

if TYPE_CHECKING:
    from hmret.model.plan.comparing import Difference
    from hmret.model.protection import StaleReference
    from hmret.model.report import (
        DeletedImage,
        MarkedUsed,
        Quarantined,
        Restored,
        SweepError,
        SweepReport,
    )
    from hmret.settings.load import Settings

__all__ = [
    "Document",
    "check_config_document",
    "comparison_document",
    "confirmed_document",
    "encode_document",
    "explain_document",
    "explained_detail",
    "image_document",
    "mark_used_document",
    "plan_document",
    "plan_head",
    "quarantine_document",
    "restored_document",
    "sweep_document",
]

Document = dict[str, object]
"""One JSON object."""

_NO_NAMES: Mapping[str, str] = {}


def encode_document(document: Mapping[str, object]) -> bytes:
    """Write a document as JSON on one line; a name on the disk that is no UTF-8 becomes an escape."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return json.dumps(document).encode()


def plan_document(plan: Plan, config: RetentionConfig) -> Document:
    """Write a plan; `enabled` tells whether a sweep would really follow it."""
    return {**plan_head(plan, config), "images": [image_document(verdict) for verdict in plan.verdicts]}


def plan_head(plan: Plan, config: RetentionConfig) -> Document:
    """Write a plan without its images, which may be very many."""
    return {
        "at": format_time(nanoseconds_of(plan.at)),
        "data_dir": config.data_dir,
        "enabled": config.active,
        "suspended": _suspended(plan.suspended),
        "stale_references": [_stale_reference(stale) for stale in plan.stale_references],
        "summary": _summary(plan.summary),
        "vm_names": dict(plan.vm_names),
    }


def comparison_document(in_force: Plan, candidate: Plan) -> Document:
    """Write what a candidate policy would change; `reason` is the candidate's."""
    from hmret.model.plan.comparing import compare  # noqa: PLC0415 - whoever compares nothing does not wait for it

    compared = compare(in_force, candidate)
    return {
        "in_force": _summary(in_force.summary),
        "newly_go": [_difference(one) for one in compared.newly_go],
        "newly_stay": [_difference(one) for one in compared.newly_stay],
    }


def explain_document(
    verdict: Verdict, suspended: Sequence[Suspension] = (), vm_names: Mapping[str, str] = _NO_NAMES
) -> Document:
    """Write the verdict on one image with every reason that holds.

    `vm_names` has the names of those in `referenced_by` that have one.

    `detail` tells in words what is wrong with the image or odd about it, and what suspends deletion with its remedy;
    null: nothing. `rule` is the place among the rules, from 1, of the one that holds for it; null: none does.
    """
    details = [] if verdict.broken is None else [f"broken: {verdict.broken}"]
    odd = explained_detail(verdict)
    if odd is not None:
        details.append(odd)
    if Reason.SUSPENDED in verdict.blockers:
        details += [": ".join(filter(None, (one.cause, one.path, one.detail))) for one in suspended]
    return {
        **image_document(verdict),
        "blockers": [blocker.value for blocker in verdict.blockers],
        "detail": "; ".join(details) or None,
        "rule": verdict.rule,
        "vm_names": dict(vm_names),
    }


def explained_detail(verdict: Verdict) -> str | None:
    """Return what is odd about an image, without what `broken` says of it already; None: nothing more."""
    if verdict.detail is None or verdict.broken is None:
        return verdict.detail
    if verdict.detail == verdict.broken:
        return None
    return verdict.detail.removeprefix(f"{verdict.broken}: ")


def sweep_document(report: "SweepReport") -> Document:
    """Write what a sweep did."""
    return {
        "status": report.status.value,
        "started_at": format_time(nanoseconds_of(report.started_at)),
        "duration_seconds": report.duration_seconds,
        "suspended": _suspended(report.suspended),
        "ready_images": report.ready_images,
        "protected_images": report.protected_images,
        "marked_unused": report.marked_unused,
        "cleared_states": report.cleared_states,
        "deleted_images": report.deleted_images,
        "deleted_bytes": report.deleted_bytes,
        "pruned_states": report.pruned_states,
        "stale_references": report.stale_references,
        "open_images": report.open_images,
        "failed_deletes": report.failed_deletes,
        "deleted": [_deleted_image(image) for image in report.deleted],
        "errors": [_sweep_error(error) for error in report.errors],
        "quarantined_images": report.quarantined_images,
        "quarantined_bytes": report.quarantined_bytes,
        "released_images": report.released_images,
        "released_bytes": report.released_bytes,
    }


def check_config_document(settings: "Settings") -> Document:
    """Write the effective settings, each with where it came from, and what is probably not meant."""
    return {
        "settings": {
            key: {"value": setting.value, "source": setting.source}
            for key, setting in settings.values.items()
        },
        "warnings": list(settings.warnings),
    }


def mark_used_document(used: "MarkedUsed") -> Document:
    """Write what a use of an image came to."""
    return {"repository": used.repository, "digest": used.digest, "cleared": used.cleared}


def confirmed_document(confirmed: Sequence[str]) -> Document:
    """Write what was confirmed."""
    return {"confirmed": list(confirmed)}


def restored_document(restored: "Restored") -> Document:
    """Write what came back from quarantine."""
    return {
        "repository": restored.repository,
        "digest": restored.digest,
        "tags": list(restored.tags),
        "unused_since": format_time(nanoseconds_of(restored.unused_since)),
        "taken_tags": list(restored.taken_tags),
    }


def quarantine_document(images: "Iterable[Quarantined]") -> Document:
    """Write what is in quarantine, by when it was deleted."""
    return {
        "images": [
            {
                "repository": image.repository,
                "digest": image.digest,
                "tags": list(image.tags),
                "disk_bytes": image.disk_bytes,
                "retired_at": format_time(nanoseconds_of(image.retired_at)),
                "until": format_time(nanoseconds_of(image.until)),
            }
            for image in images
        ]
    }


def image_document(verdict: Verdict) -> Document:
    """Write an image with its verdict, as plans list it."""
    return {
        "repository": verdict.repository,
        "digest": verdict.digest,
        "tags": list(verdict.tags),
        "status": verdict.status,
        "size_bytes": verdict.size_bytes,
        "disk_bytes": verdict.disk_bytes,
        "action": verdict.action.value,
        "reason": verdict.reason.value,
        "referenced_by": list(verdict.referenced_by),
        "unused_since": _time(verdict.unused_since_ns),
        "expires_at": _time(verdict.expires_at_ns),
        "shared_with": list(verdict.shared_with),
        "held_by": [_holder(holder) for holder in verdict.held_by],
    }


def _summary(summary: Summary) -> Document:
    return {
        "images": summary.images,
        "delete": summary.delete,
        "delete_bytes": summary.delete_bytes,
        "mark": summary.mark,
        "clear": summary.clear,
        "keep": summary.keep,
        "prune": summary.prune,
    }


def _difference(one: "Difference") -> Document:
    return {**image_document(one.candidate), "reason_in_force": one.in_force.reason.value}


def _holder(holder: Holder) -> Document:
    return {"repository": holder.repository, "reason": holder.reason.value}


def _suspended(suspensions: Sequence[Suspension]) -> list[Document]:
    return [{"cause": one.cause.value, "path": one.path, "detail": one.detail} for one in suspensions]


def _stale_reference(stale: "StaleReference") -> Document:
    return {"source": stale.source, "image": stale.image}


def _deleted_image(image: "DeletedImage") -> Document:
    return {
        "repository": image.repository,
        "digest": image.digest,
        "tags": list(image.tags),
        "disk_bytes": image.disk_bytes,
        "unused_since": format_time(image.unused_since_ns),
    }


def _sweep_error(error: "SweepError") -> Document:
    return {
        "repository": error.repository,
        "digest": error.digest,
        "path": error.path,
        "error": error.error,
    }


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else format_time(nanoseconds)
