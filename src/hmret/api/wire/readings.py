"""The JSON documents read back, by those who asked an engine for them."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from hmret.model.images import Cause, Suspension
from hmret.model.plan.decide import Action, Plan, Reason, Summary, Verdict
from hmret.model.policy.config import RetentionConfig
from hmret.model.protection import StaleReference
from hmret.model.times import datetime_of, parse_time
from hmret.model.values import frozen
from hmret.model.verdicts import Holder

__all__ = [
    "ComparisonReading",
    "DifferenceReading",
    "DueReading",
    "ExplainReading",
    "PlanReading",
    "read_explain",
    "read_forecast",
    "read_plan",
    "read_suspensions",
]

Read = Mapping[str, Any]
"""A document as a JSON decoder gives it; what is missing in it raises KeyError, what is wrong ValueError or TypeError."""


_SUSPENSIONS = re.compile(rf"(?:\A|; )(?P<words>(?:{'|'.join(Cause)})(?::|;|\Z).*)", re.DOTALL)
"""Where the detail of an image that is explained begins to tell what suspends deletion."""


@frozen(eq=False)
class DifferenceReading:
    """An image on which other settings than those in force decide otherwise."""

    verdict: Verdict
    """By the other settings."""
    reason_in_force: Reason


@frozen(eq=False)
class ComparisonReading:
    """What other settings than those in force would change."""

    in_force: Summary
    newly_go: Sequence[DifferenceReading]
    newly_stay: Sequence[DifferenceReading]


@frozen(eq=False)
class PlanReading:
    """What there is to tell of a plan, wherever it was made."""

    at: datetime
    data_dir: str
    enabled: bool
    suspended: Sequence[Suspension]
    stale_references: Sequence[StaleReference]
    summary: Summary
    verdicts: Sequence[Verdict]
    vm_names: Mapping[str, str] = attrs.field(factory=dict)
    """The names of those who refer to images, by what they are called in `referenced_by`."""
    comparison: ComparisonReading | None = None
    """Set where it is by other settings than those in force."""

    @classmethod
    def of(cls, plan: Plan, config: RetentionConfig) -> "PlanReading":
        """Take it from a plan that was made here."""
        return cls(
            plan.at,
            config.data_dir,
            config.active,
            plan.suspended,
            plan.stale_references,
            plan.summary,
            plan.verdicts,
            plan.vm_names,
        )


@frozen(eq=False)
class ExplainReading:
    """What there is to tell of one image, wherever it was found out."""

    verdict: Verdict
    suspended: Sequence[str]
    """Why nothing is deleted, in words that tell the remedy."""
    enabled: bool
    """Whether anything is swept."""
    vm_names: Mapping[str, str] = attrs.field(factory=dict)
    """The names of those who refer to the image."""


def read_plan(document: Read) -> PlanReading:
    """Read a plan."""
    return PlanReading(
        datetime_of(parse_time(document["at"])),
        document["data_dir"],
        document["enabled"],
        read_suspensions(document["suspended"]),
        [StaleReference(one["source"], one["image"]) for one in document["stale_references"]],
        Summary(**document["summary"]),
        [_verdict(image) for image in document["images"]],
        document.get("vm_names", {}),
        _comparison(document["comparison"]) if "comparison" in document else None,
    )


def read_explain(document: Read, status: Read) -> ExplainReading:
    """Read the verdict on one image, and what the engine's status says to it."""
    verdict = _verdict(document)
    detail, suspended = document["detail"] or "", ""
    if Reason.SUSPENDED in verdict.blockers and (match := _SUSPENSIONS.search(detail)):
        detail, suspended = detail[: match.start()], match["words"]
    broken = None
    if Reason.BROKEN in verdict.blockers:
        broken, _, detail = detail.removeprefix("broken: ").partition("; ")
    verdict = attrs.evolve(verdict, broken=broken, detail=detail or None)
    names = document.get("vm_names", {})
    return ExplainReading(verdict, [suspended] if suspended else [], status["enabled"], names)


@frozen
class DueReading:
    """What falls due on one UTC day."""

    date: str
    images: int
    disk_bytes: int


def read_forecast(document: Read) -> list[DueReading]:
    """Read what falls due on each day."""
    return [DueReading(day["date"], day["images"], day["bytes"]) for day in document["days"]]


def read_suspensions(documents: Sequence[Read]) -> list[Suspension]:
    """Read why nothing is deleted."""
    return [Suspension(Cause(one["cause"]), one["path"], one["detail"]) for one in documents]


def _comparison(document: Read) -> ComparisonReading:
    def differences(images: Sequence[Read]) -> list[DifferenceReading]:
        return [DifferenceReading(_verdict(image), Reason(image["reason_in_force"])) for image in images]

    return ComparisonReading(
        Summary(**document["in_force"]),
        differences(document["newly_go"]),
        differences(document["newly_stay"]),
    )


def _verdict(document: Read) -> Verdict:
    return Verdict(
        repository=document["repository"],
        digest=document["digest"],
        tags=tuple(document["tags"]),
        status=document["status"],
        size_bytes=document["size_bytes"],
        disk_bytes=document["disk_bytes"],
        action=Action(document["action"]),
        reason=Reason(document["reason"]),
        blockers=tuple(Reason(reason) for reason in document.get("blockers", ())),
        referenced_by=tuple(document["referenced_by"]),
        unused_since_ns=_nanoseconds(document["unused_since"]),
        expires_at_ns=_nanoseconds(document["expires_at"]),
        rule=document.get("rule"),
        # An engine that was started before an upgrade does not give these.
        shared_with=tuple(document.get("shared_with", ())),
        held_by=tuple(
            Holder(one["repository"], Reason(one["reason"])) for one in document.get("held_by", ())
        ),
    )


def _nanoseconds(text: str | None) -> int | None:
    return None if text is None else parse_time(text)
