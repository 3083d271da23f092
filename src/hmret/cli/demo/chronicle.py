"""The events of the demonstration: all are recorded, the important ones are printed as they happen."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import attrs

from hmret.cli.demo.clock import DAY, DemoClock
from hmret.cli.display.tables import format_size
from hmret.model.plan.plan import Plan
from hmret.model.references import Key
from hmret.model.times import parse_time
from hmret.model.values import define, frozen
from hmret.model.verdicts import Action, Reason, Verdict


@frozen
class DemoEvent:
    """One thing that happened."""

    at: timedelta
    teller: str
    """The source, `host` or `engine`."""
    name: str
    text: str


@frozen
class ReportedDeletion:
    """What the engine reported on deleting an image."""

    at: timedelta
    unused_since: timedelta
    freed_bytes: int
    reason: Reason = Reason.EXPIRED


@define(eq=False)
class Chronicle:
    """Listens to the host and the engine, records and prints."""

    clock: DemoClock
    is_silent: bool = False
    """Whether nothing is printed."""
    events: list[DemoEvent] = attrs.field(factory=list, init=False)
    names: dict[Key, str] = attrs.field(factory=dict, init=False)
    """The name of each image, deleted or not."""
    verdicts: dict[Key, Verdict] = attrs.field(factory=dict, init=False)
    """From the last plan."""
    deleted: dict[Key, ReportedDeletion] = attrs.field(factory=dict, init=False)
    found_open: dict[Key, timedelta] = attrs.field(factory=dict, init=False)
    """When the engine found an image's disk open."""
    marked_used: dict[Key, timedelta] = attrs.field(factory=dict, init=False)
    """When the host marked an image used, other than for a VM."""
    suspended: frozenset[str] = attrs.field(default=frozenset(), init=False)
    """The paths for which the engine reported suspended deletion."""
    is_unheard: bool = attrs.field(default=False, init=False)
    """Whether the reader of our output is gone."""

    def tell(self, teller: str, name: str, text: str) -> None:
        """Record an event."""
        self.events.append(DemoEvent(self.clock.elapsed, teller, name, text))

    def say(self, text: str) -> None:
        """Print a line on what has just happened."""
        if self.is_silent or self.is_unheard:
            return
        try:
            print(f"day {day_of(self.clock.elapsed):2d}  {text}", flush=True)
        except BrokenPipeError:
            self.is_unheard = True

    def hear(self, event: str, keys: Mapping[str, object]) -> bool:
        """Record an event of the engine; returns False if it is not one that is shown here."""
        key = str(keys.get("repository")), str(keys.get("digest"))
        name = self.names.get(key, key[0])
        match event:
            case "image_deleted":
                since = self.clock.moment_of(parse_time(str(keys["unused_since"])))
                freed_bytes = int(str(keys["bytes"]))
                reason = Reason(str(keys.get("reason", Reason.EXPIRED)))
                self.deleted[key] = ReportedDeletion(self.clock.elapsed, since, freed_bytes, reason)
                how = "in quarantine" if "quarantined_until" in keys else freed_text(freed_bytes)
                self.tell("engine", event, f"deleted {name}, unused since day {day_of(since)}, {how}")
            case "image_restored":
                del self.deleted[key]
                self.tell("engine", event, f"{name} is back from quarantine")
            case "image_kept":
                why = str(keys["reason"])
                if why == Reason.OPEN:
                    self.found_open[key] = self.clock.elapsed
                    why = "a process has its disk open"
                self.tell("engine", event, f"kept {name} at the last look: {why}")
            case "deletion_suspended":
                path = str(keys["path"])
                if path not in self.suspended:
                    self.suspended |= {path}
                    self.tell("engine", event, f"deletion is suspended: {keys['cause']} {path}")
            case _:
                return False
        return True

    def add_plan(self, plan: Plan) -> None:
        """Record a plan, and report what has changed since the last one."""
        if self.suspended and not plan.suspended:
            self.suspended = frozenset()
            self.tell("engine", "deletion_resumed", "every reference can be read: deletion goes on")
        verdicts = {(verdict.repository, verdict.digest): verdict for verdict in plan.verdicts}
        for key, verdict in verdicts.items():
            known = self.verdicts.get(key)
            self._tell_change(self.names.get(key, key[0]), verdict, known)
        self.verdicts = verdicts

    def reason(self, key: Key) -> Reason | None:
        """Return why an image stays or goes, by the last plan; None: it is not in the cache."""
        verdict = self.verdicts.get(key)
        return None if verdict is None else verdict.reason

    def unused_since(self, key: Key) -> timedelta | None:
        """Return since when the engine has recorded an image as unused; None if it has not."""
        verdict = self.verdicts.get(key)
        timer_ns = None if verdict is None else _timer(verdict)
        return None if timer_ns is None else self.clock.moment_of(timer_ns)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the engine's log events inside this block, and keep them from other handlers."""
        logger = logging.getLogger("hmret")
        before = logger.level, logger.propagate, logger.handlers
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers = [_Ear(self._hear_record)]
        try:
            yield
        finally:
            logger.setLevel(before[0])
            logger.propagate = before[1]
            logger.handlers = before[2]

    def _hear_record(self, record: logging.LogRecord) -> None:
        event, keys = getattr(record, "hmret_event", ("", {}))
        if not self.hear(event, keys) and record.levelno >= logging.WARNING:
            self.tell("engine", event, record.getMessage())

    def _tell_change(self, name: str, verdict: Verdict, known: Verdict | None) -> None:
        timer_ns = _timer(verdict)
        known_ns = None if known is None else _timer(known)
        if timer_ns is not None and timer_ns != known_ns and verdict.expires_at_ns is not None:
            ends = day_of(self.clock.moment_of(verdict.expires_at_ns))
            self.tell(
                "engine", "image_unused", f"{name} is unused: due on day {ends} unless something uses it"
            )
        elif timer_ns is None and known_ns is not None and verdict.reason is Reason.REFERENCED:
            self.tell("engine", "image_referenced", f"{name} is in use again")
        if verdict.reason is Reason.SHARED and (known is None or known.reason is not Reason.SHARED):
            self.tell("engine", "image_shared", f"{name} is due and stays: {held_text(verdict)}")


class _Ear(logging.Handler):
    """Passes log records on."""

    def __init__(self, hear: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.INFO)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._hear(record)
        except Exception:  # noqa: BLE001 - the boundary of logging: the engine must not fail because of a listener
            self.handleError(record)


def day_of(moment: timedelta) -> int:
    """Return the day of a moment."""
    return moment // DAY


def short(reference: str) -> str:
    """Return a reference without its registry."""
    return reference.partition("/")[2].removeprefix("library/")


def days_of(moment: timedelta) -> float:
    """Convert to days, rounded to two decimals."""
    return round(moment / DAY, 2)


def freed_text(freed_bytes: int) -> str:
    """Describe what a deletion freed; the bytes of a shared disk count in full for one repository."""
    return f"freed {format_size(freed_bytes)}" if freed_bytes else "freed with the other that shared its disk"


def held_text(verdict: Verdict) -> str:
    """Name who keeps an image that has expired; follows "because"."""
    holders = [holder.repository for holder in verdict.held_by]
    return f"{' and '.join(holders)} {'keeps' if len(holders) == 1 else 'keep'} the same disk"


def _timer(verdict: Verdict) -> int | None:
    """Return the recorded timer of an image in nanoseconds; None if a sweep is about to start or stop it."""
    return None if verdict.action in (Action.MARK, Action.CLEAR) else verdict.unused_since_ns
