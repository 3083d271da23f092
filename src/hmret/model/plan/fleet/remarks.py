"""What a verdict says of the fleet: the reasons that hold, and who has other copies."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import attrs

from hmret.model.durations import format_span
from hmret.model.fleet import CopyFacts, FleetView
from hmret.model.plan.fleet.judge import FleetJudge
from hmret.model.times import format_time, nanoseconds_of
from hmret.model.verdicts import ORDER, Reason, Verdict

FLEET_REASONS = frozenset(
    (
        Reason.DUPLICATE_HOST,
        Reason.FLEET_UNREACHABLE,
        Reason.FLEET_PAUSED,
        Reason.LAST_COPY,
        Reason.USED_IN_FLEET,
        Reason.FLEET_BRAKE,
    )
)
_IS_DUE = FLEET_REASONS | {
    Reason.SUSPENDED,
    Reason.BACKOFF,
    Reason.BRAKE,
    Reason.OUTSIDE_WINDOW,
    Reason.DEFERRED,
}
"""The reasons of an image that has expired and stays for now."""
_MOST_NAMES = 5
"""How many holders a remark names."""
_MINUTE = timedelta(minutes=1)


def with_fleet(verdict: Verdict, judge: FleetJudge) -> Verdict:
    """Add to a verdict the copies elsewhere, each reason of the fleet that holds, and what is behind them."""
    view = judge.view
    facts = view.facts.get(verdict.digest)
    elsewhere = None if facts is None else facts.counted_elsewhere
    if verdict.reason not in _IS_DUE or (
        verdict.reason not in FLEET_REASONS and verdict.digest in judge.repeated
    ):
        return verdict if elsewhere is None else attrs.evolve(verdict, copies_elsewhere=elsewhere)
    known = tuple(judge.reasons(verdict.digest))
    blockers = sorted({*verdict.blockers, *known}, key=ORDER.__getitem__)
    reasons = FLEET_REASONS.intersection(blockers)
    remarks = (*_remarks(reasons, view, facts, judge.now), verdict.detail)
    return attrs.evolve(
        verdict,
        blockers=tuple(blockers),
        detail="; ".join(filter(None, remarks)) or None,
        copies_elsewhere=elsewhere,
    )


def _remarks(
    reasons: frozenset[Reason], view: FleetView, facts: CopyFacts | None, now: datetime
) -> Iterator[str]:
    """Say what is behind the reasons, with the remedy."""
    settings = view.settings
    if reasons & {Reason.DUPLICATE_HOST, Reason.FLEET_UNREACHABLE}:
        yield view.detail or "the fleet has not said yet who else has a copy"
    if Reason.FLEET_PAUSED in reasons and settings is not None and settings.paused is not None:
        paused = settings.paused
        since = format_time(nanoseconds_of(paused.at))
        why = f": {paused.reason}" if paused.reason else ""
        yield f"paused by {paused.by} at {since}{why}; to go on: hmret fleet resume"
    if facts is None or settings is None:
        return
    if Reason.LAST_COPY in reasons:
        yield f"{_who_has(facts)}; {view.rules.enough(settings)} must"
        lasts = view.rules.last_copies_for
        if lasts is not None and facts.last_used_or_registered is not None:
            until = format_time(nanoseconds_of(facts.last_used_at(now) + lasts))
            yield f"goes as a last copy if it is used nowhere until {until}"
    if Reason.USED_IN_FLEET in reasons:
        required = view.rules.copies_required(settings, facts, now)
        must = "all copies stay" if required is None else f"{required} must"
        ago = format_span(max((now - facts.last_used_at(now)) // _MINUTE, 0) * 60_000_000_000)
        held = "" if Reason.LAST_COPY in reasons else f"{_who_has(facts)}; "
        yield f"{held}used in the fleet {ago} ago, so {must}"


def _who_has(facts: CopyFacts) -> str:
    counted = facts.counted_elsewhere
    if not counted:
        words = "no other live host has a copy"
    else:
        names = ", ".join(facts.holders[:_MOST_NAMES])
        more = counted - min(len(facts.holders), _MOST_NAMES)
        words = f"{counted} other live {'host has' if counted == 1 else 'hosts have'} a copy ({names}{f' and {more} more' if more > 0 else ''})"
    if facts.uncounted:
        words += f", not counted: {', '.join(facts.uncounted[:_MOST_NAMES])} (dead or drained)"
    return words
