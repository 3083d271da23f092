"""Converts plans and verdicts to JSON documents and back; a missing or wrong field raises ValueError."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import msgspec

from hmret.api.wire import structs
from hmret.model.images import Cause, Suspension
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import format_time, nanoseconds_of, parse_time
from hmret.model.verdicts import Holder, Reason, Verdict

if TYPE_CHECKING:
    from hmret.model.plan.differences import Difference

D = TypeVar("D", bound=structs.Document)

_SUSPENSIONS = re.compile(rf"(?:\A|; )(?P<words>(?:{'|'.join(Cause)})(?::|;|\Z).*)", re.DOTALL)
"""Matches where the detail of an explained image starts to list what suspends deletion."""


def image_document(verdict: Verdict) -> structs.ImageDocument:
    """Convert an image with its verdict, as plans list it."""
    since_ns, expires_ns = verdict.unused_since_ns, verdict.expires_at_ns
    # Field by field, unlike elsewhere: there may be 100,000.
    return structs.ImageDocument(
        repository=verdict.repository,
        digest=verdict.digest,
        tags=verdict.tags,
        status=verdict.status,
        size_bytes=verdict.size_bytes,
        disk_bytes=verdict.disk_bytes,
        action=verdict.action,
        reason=verdict.reason,
        referenced_by=verdict.referenced_by,
        unused_since=None if since_ns is None else format_time(since_ns),
        expires_at=None if expires_ns is None else format_time(expires_ns),
        shared_with=verdict.shared_with,
        held_by=documents_of(structs.HolderDocument, verdict.held_by),
        copies_elsewhere=verdict.copies_elsewhere,
    )


def _read_verdict(image: structs.ImageDocument) -> Verdict:
    since, expires = image.unused_since, image.expires_at
    return Verdict(
        repository=image.repository,
        digest=image.digest,
        tags=image.tags,
        status=image.status,
        size_bytes=image.size_bytes,
        disk_bytes=image.disk_bytes,
        action=image.action,
        reason=image.reason,
        blockers=(),
        referenced_by=image.referenced_by,
        unused_since_ns=None if since is None else parse_time(since),
        expires_at_ns=None if expires is None else parse_time(expires),
        shared_with=image.shared_with,
        held_by=tuple(Holder(holder.repository, holder.reason) for holder in image.held_by),
        copies_elsewhere=image.copies_elsewhere,
    )


def plan_head(plan: Plan, config: RetentionConfig) -> structs.PlanHead:
    """Convert a plan without its images, which may be very many."""
    return document_of(
        structs.PlanHead,
        plan,
        data_dir=config.data_dir,
        enabled=config.active,
        suspended=documents_of(structs.SuspensionDocument, plan.suspended),
        stale_references=documents_of(structs.StaleReferenceDocument, plan.stale_references),
        summary=document_of(structs.SummaryDocument, plan.summary),
        vm_names=dict(plan.vm_names),
    )


def read_plan(document: object) -> tuple[structs.CandidatePlanDocument, list[Verdict]]:
    """Decode a plan to its document without images, and its verdicts."""
    plan = msgspec.convert(document, structs.CandidatePlanDocument)
    return msgspec.structs.replace(plan, images=()), list(map(_read_verdict, plan.images))


def comparison_document(in_force: Plan, candidate: Plan) -> structs.ComparisonDocument:
    """Convert the comparison of a candidate policy with the policy in force."""
    from hmret.model.plan.differences import compare  # noqa: PLC0415 - only commands that compare need it

    compared = compare(in_force, candidate)
    return structs.ComparisonDocument(
        in_force=document_of(structs.SummaryDocument, in_force.summary),
        newly_go=tuple(map(_difference, compared.newly_go)),
        newly_stay=tuple(map(_difference, compared.newly_stay)),
    )


def explain_document(
    verdict: Verdict,
    suspended: Sequence[Suspension] = (),
    vm_names: Mapping[str, str] | None = None,
    *,
    paths: Sequence[str] = (),
    leases: Iterable[object] = (),
) -> structs.ExplainedDocument:
    """Convert the verdict on one image, with every reason that applies.

    `vm_names` maps those in `referenced_by` that have a name to it; `paths` are its folders.
    """
    details = [] if verdict.broken is None else [f"broken: {verdict.broken}"]
    odd = explained_detail(verdict)
    if odd is not None:
        details.append(odd)
    if Reason.SUSPENDED in verdict.blockers:
        details += [": ".join(filter(None, (each.cause, each.path, each.detail))) for each in suspended]
    return document_of(
        structs.ExplainedDocument,
        image_document(verdict),
        blockers=verdict.blockers,
        detail="; ".join(details) or None,
        rule=verdict.rule,
        vm_names=dict(vm_names or {}),
        paths=tuple(paths),
        leases=documents_of(structs.CoveringLeaseDocument, leases),
    )


def explained_detail(verdict: Verdict) -> str | None:
    """Return what is unusual about an image, beyond what `broken` already says; None: nothing."""
    if verdict.detail is None or verdict.broken is None:
        return verdict.detail
    if verdict.detail == verdict.broken:
        return None
    return verdict.detail.removeprefix(f"{verdict.broken}: ")


def read_explained(document: object) -> tuple[Verdict, list[str], Mapping[str, str]]:
    """Decode an explained image: its verdict, the suspensions in words with their remedies, and VM names."""
    explained = msgspec.convert(document, structs.ExplainedDocument)
    detail, suspended = explained.detail or "", ""
    if Reason.SUSPENDED in explained.blockers and (match := _SUSPENSIONS.search(detail)):
        detail, suspended = detail[: match.start()], match["words"]
    broken = None
    if Reason.BROKEN in explained.blockers:
        broken, _, detail = detail.removeprefix("broken: ").partition("; ")
    verdict = attrs.evolve(
        _read_verdict(explained),
        blockers=explained.blockers,
        rule=explained.rule,
        broken=broken,
        detail=detail or None,
    )
    return verdict, [suspended] if suspended else [], explained.vm_names


def document_of(kind: type[D], value: object, /, **others: Any) -> D:
    """Make a document of a class from a value's fields of the same names, times as text, and from `others`."""
    fields: dict[str, Any] = {}
    for name in kind.__struct_fields__:
        field = others[name] if name in others else getattr(value, name)
        fields[name] = format_time(nanoseconds_of(field)) if isinstance(field, datetime) else field
    return kind(**fields)


def documents_of(kind: type[D], values: Iterable[object]) -> tuple[D, ...]:
    """Make documents of a class, each from a value's fields of the same names."""
    return tuple(document_of(kind, value) for value in values)


def _difference(difference: "Difference") -> structs.DifferenceDocument:
    image = image_document(difference.candidate)
    return document_of(structs.DifferenceDocument, image, reason_in_force=difference.in_force.reason)
