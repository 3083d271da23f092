"""The reasons of verdicts in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from hmret.cli.display.tables import format_when
from hmret.cli.display.words import name_source
from hmret.model.durations import format_span
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.patterns import compile_patterns
from hmret.model.times import timedelta_nanoseconds
from hmret.model.verdicts import Reason, Verdict

_BY_THE_FLEET = {
    Reason.DUPLICATE_HOST: "another host that runs on a copy of this data directory is in the fleet in this one's place",
    Reason.FLEET_UNREACHABLE: "this host has no session with the etcd of its fleet, so nothing goes",
    Reason.FLEET_PAUSED: "deletions are paused in the whole fleet; to go on: hmret fleet resume",
    Reason.LAST_COPY: "too few other live hosts of the fleet have a copy: min_copies of hmret.fleet or of the fleet",
    Reason.USED_IN_FLEET: "used in the fleet within hmret.fleet.hot_for, so hmret.fleet.hot_copies of it are to stay",
    Reason.FLEET_BRAKE: "no deletion token of the fleet is free for this host; it will be deleted once it has one",
}


def describe_reason(  # noqa: C901, PLR0912, PLR0915 - one case for each reason
    blocker: Reason,
    verdict: Verdict,
    suspended: Sequence[str],
    config: RetentionConfig,
    vm_names: Mapping[str, str],
) -> Iterator[str]:
    """Describe a reason against deletion; `suspended` says what suspends deletion."""
    match blocker:
        case Reason.NOT_READY:
            yield f"not ready: its status is {verdict.status}"
        case Reason.BROKEN:
            yield f"broken, so left alone: {verdict.broken}"
        case Reason.REFERENCED:
            yield from (f"referenced by {name_source(source, vm_names)}" for source in verdict.referenced_by)
        case Reason.LEASED:
            yield "covered by a lease; hmret leases says whose"
        case Reason.PINNED:
            pins = [pin for pin in config.pinned if compile_patterns([pin]).matches(verdict.repository)]
            yield f"pinned: hmret.pinned has {', '.join(pins) or 'a pattern for it'}"
        case Reason.NOT_ALLOWED:
            yield f"not allowed: no pattern of images.auto_delete.allowed matches {verdict.repository}"
        case Reason.NOT_PULLABLE:
            yield "cannot be pulled again, according to its label, a build record or its repository; hmret.delete_unpullable is false"
        case Reason.NEWLY_UNUSED:
            yield "no timer is running yet: the next sweep starts it"
        case Reason.KEPT_BY_RULE:
            yield f"rule {verdict.rule} of hmret.rules keeps it"
        case Reason.RETENTION_WINDOW:
            by_rule = "" if verdict.rule is None else f", by rule {verdict.rule} of hmret.rules"
            yield f"in its window until {format_when(verdict.expires_at_ns)}{by_rule}"
        case Reason.LATEST:
            yield "one of the newest of its repository, within keep_latest"
        case Reason.TOO_YOUNG:
            yield f"younger than hmret.min_age, {format_span(timedelta_nanoseconds(config.min_age))}, or of unknown age"
        case Reason.SHARED:
            holders = ", ".join(f"{holder.repository} ({holder.reason})" for holder in verdict.held_by)
            yield f"its content is shared with {holders or ', '.join(verdict.shared_with)}"
        case Reason.SUSPENDED:
            yield from (f"deletion is suspended: {words}" for words in suspended)
        case Reason.BACKOFF:
            yield "its deletion failed recently, and will be retried later"
        case Reason.BRAKE:
            yield (
                "held by the brake: too many images have expired at once; it will be deleted once that has been announced "
                "for hmret.brake_for, or with: hmret sweep --release-brake"
            )
        case Reason.OUTSIDE_WINDOW:
            window = config.window
            yield f"outside the hours of hmret.window: {', '.join(window.hours)} {window.time_zone}"
        case (
            Reason.DUPLICATE_HOST
            | Reason.FLEET_UNREACHABLE
            | Reason.FLEET_PAUSED
            | Reason.LAST_COPY
            | Reason.USED_IN_FLEET
            | Reason.FLEET_BRAKE
        ):
            yield _BY_THE_FLEET[blocker]
        case Reason.DEFERRED:
            yield (
                f"deferred: more images are due than hmret.max_deletes_per_sweep, {config.max_deletes_per_sweep}, or "
                f"hmret.max_bytes_per_sweep, {config.max_bytes_per_sweep}, allows in one sweep"
            )
        case Reason.OPEN:
            yield "a process has its disk open"
        case Reason.EXPIRED:
            yield "its window has passed"
        case Reason.DISK_PRESSURE:
            yield "the disk is too full, according to hmret.disk"
        case _:
            assert_never(blocker)
