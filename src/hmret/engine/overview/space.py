"""How full the disk is, what fills it, and what the limits on it would have go."""

import enum
from datetime import timedelta

from hmret.model.durations import format_span
from hmret.model.images import DiskUsage
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import timedelta_nanoseconds
from hmret.model.values import frozen
from hmret.model.verdicts import Reason


class SpaceState(enum.StrEnum):
    """The state of the disk with respect to its limits."""

    UNKNOWN = "unknown"
    """It cannot be measured."""
    NO_LIMIT = "no_limit"
    WITHIN = "within"
    PRESSED = "pressed"
    """A limit is exceeded, and images go for that."""
    HELD_UP = "held_up"
    """A limit is exceeded, and nothing may go at the moment."""
    OUT_OF_REACH = "out_of_reach"
    """The low mark would be missed even if all went that may go."""
    FUTILE = "futile"
    """Deletions have freed no space on this disk."""


@frozen
class Held:
    """What hmret knows to be on the disk, in bytes of blocks."""

    images_bytes: int
    quarantine_bytes: int
    trash_bytes: int
    """What waits to be erased."""


@frozen(kw_only=True)
class Space:
    """The disk of `images/`, its limits, and what they would have go; sizes are in bytes."""

    state: SpaceState
    detail: str
    """What follows from the state, with the remedy, in one line."""
    total_bytes: int | None
    """As `df` shows it, without what is reserved for root; None: it cannot be measured."""
    used_bytes: int | None
    available_bytes: int | None
    other_bytes: int | None
    """What is in use by something other than images, quarantine and trash."""
    held: Held
    high_bytes: int | None
    """The high mark; None: there is none, or the disk cannot be measured."""
    low_bytes: int | None
    max_used_bytes: int | None
    """The most that images and quarantine may occupy."""
    excess_bytes: int
    """What has to come free to reach the low mark and `max_used`; 0: no limit is exceeded."""
    going_images: int
    """Images that the last plan deletes to free space."""
    retry_seconds: float | None
    """How long attempts still pause; None: they do not."""


def account(
    config: RetentionConfig,
    usage: DiskUsage | None,
    held: Held,
    plan: Plan | None,
    *,
    retry_seconds: float | None = None,
) -> Space:
    """Compare the disk with its limits, by a measurement and the last plan; None: there is none."""
    limits = config.disk
    total = None if usage is None else usage.total_bytes
    marks = bool(limits.high_watermark and total)
    high = round(limits.high_watermark * (total or 0)) if marks else None
    low = round(limits.low * (total or 0)) if marks else None
    most = limits.max_used_bytes(total or 0) or None
    excess = _excess(usage, high, low)
    if most is not None:
        excess = max(excess, _over_cap(config, held, plan, most))
    state = _state(config, usage, plan, excess, is_pausing=retry_seconds is not None)
    known = held.images_bytes + held.quarantine_bytes + held.trash_bytes
    return Space(
        state=state,
        detail=_detail(state, config, plan, retry_seconds),
        total_bytes=total,
        used_bytes=None if usage is None else usage.used_bytes,
        available_bytes=None if usage is None else usage.available_bytes,
        other_bytes=None if usage is None else max(usage.used_bytes - known, 0),
        held=held,
        high_bytes=high,
        low_bytes=low,
        max_used_bytes=most,
        excess_bytes=excess,
        going_images=0 if plan is None else plan.reasons[Reason.DISK_PRESSURE],
        retry_seconds=retry_seconds,
    )


def _excess(usage: DiskUsage | None, high: int | None, low: int | None) -> int:
    if usage is None or high is None or low is None:
        return 0
    return max(usage.used_bytes - low, 0) if usage.used_bytes > high or usage.is_pressed else 0


def _over_cap(config: RetentionConfig, held: Held, plan: Plan | None, most: int) -> int:
    """Return by how much the cache exceeds `max_used`; apparent sizes are known of the last plan only."""
    if config.disk.count == "apparent":
        return 0 if plan is None or plan.pressure is None else plan.pressure.asked_sizes_bytes
    return max(held.images_bytes + held.quarantine_bytes - most, 0)


def _state(
    config: RetentionConfig, usage: DiskUsage | None, plan: Plan | None, excess: int, *, is_pausing: bool
) -> SpaceState:
    if usage is None:
        return SpaceState.UNKNOWN
    if not config.disk.is_set:
        return SpaceState.NO_LIMIT
    if usage.is_futile:
        return SpaceState.FUTILE
    if is_pausing or (plan is not None and plan.pressure is not None and plan.pressure.is_out_of_reach):
        return SpaceState.OUT_OF_REACH
    if not excess:
        return SpaceState.WITHIN
    return SpaceState.HELD_UP if _why_held_up(config, plan) else SpaceState.PRESSED


def _why_held_up(config: RetentionConfig, plan: Plan | None) -> str:
    if not config.active:
        return "retention is switched off: set hmret.enabled to true and reload"
    if plan is None:
        return ""
    if plan.suspended:
        return "deletion is suspended: see the cause and its remedy in hmret status"
    if plan.is_closed and not config.window.yields_to_pressure:
        return "it is outside hmret.window.hours, and hmret.window.yields_to_pressure is false"
    pressure = plan.pressure
    if pressure is not None and not (pressure.projected_bytes or pressure.quarantined_bytes):
        least = format_span(timedelta_nanoseconds(config.disk.min_unused_for))
        return (
            "every image is in use, kept by the policy, or unused for less than hmret.disk.min_unused_for "
            f"({least}); hmret plan shows what keeps each"
        )
    return ""


def _detail(
    state: SpaceState, config: RetentionConfig, plan: Plan | None, retry_seconds: float | None
) -> str:
    again = "" if retry_seconds is None else f"; it is tried again in {_span(retry_seconds)}"
    return {
        SpaceState.UNKNOWN: "the disk cannot be measured, so no limit on it has an effect",
        SpaceState.NO_LIMIT: (
            "no limit is set, so images go for their age alone, however full the disk is; "
            "hmret.disk.high_watermark or hmret.disk.max_used sets one"
        ),
        SpaceState.WITHIN: "no limit is exceeded",
        SpaceState.FUTILE: (
            f"the last deletions have freed no space on this disk{again}; something else keeps the blocks: "
            "a snapshot of the file system, a process with a deleted disk open, or other hard links"
        ),
        SpaceState.OUT_OF_REACH: (
            "the low mark would be missed even if every image went that may go, so only the cache's share "
            f"goes{again}; something else fills the disk: du -x finds it"
        ),
        SpaceState.HELD_UP: f"nothing can go: {_why_held_up(config, plan)}",
        SpaceState.PRESSED: (
            "what is in quarantine goes first, then images that only their window keeps, longest unused first"
        ),
    }[state]


def _span(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))}"
