"""What displays of the engine ask for beside its plan; nothing here changes anything."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import attrs

from hmret.actors.journal_keeper import JournalKeeper
from hmret.actors.own_loop import OwnLoop
from hmret.engine.counters import Counters
from hmret.engine.events import EventHub
from hmret.engine.inspection import Inspection, folders_of, names_of
from hmret.engine.leases import leased
from hmret.engine.overview.space import Held, Space, account
from hmret.model.images import Suspension
from hmret.model.records.history import History
from hmret.model.report import Leased
from hmret.model.times import SECOND, timedelta_nanoseconds
from hmret.model.values import frozen
from hmret.model.verdicts import Verdict

_MOST_EVENTS = 100


@frozen
class Past:
    """What happened, by the journal and by the events since the engine was opened."""

    at_ns: int
    """When it was read, in nanoseconds since the epoch."""
    history: History
    events: tuple[Mapping[str, object], ...]
    """The latest events, oldest first, those before a restart included; without sweeps that did nothing."""
    last_event: int
    """The number of the newest event that is included or was left out; a listener goes on from it."""


@frozen
class Explained:
    """Everything that is known about one image."""

    verdict: Verdict
    suspended: tuple[Suspension, ...]
    """What suspends deletion everywhere."""
    vm_names: Mapping[str, str]
    """The names of those in `referenced_by` that have one."""
    folders: tuple[str, ...]
    """The paths of its folders."""
    leases: tuple[Leased, ...]
    """The leases that cover its content, those of blocks included."""


@frozen(eq=False)
class Overview:
    """Asks the engine's parts; like the engine, it belongs to the event loop on which that was opened.

    Calls from another one raise RuntimeError at once.
    """

    _inspection: Inspection
    _journal: JournalKeeper
    _events: EventHub
    _counters: Counters
    _loop: OwnLoop = attrs.field(factory=OwnLoop, init=False)

    def now_ns(self) -> int:
        """Return the wall clock, in nanoseconds since the epoch."""
        return self._inspection.surveyor.now_ns()

    async def past(self, span: timedelta) -> Past:
        """Read what happened within a span of time before now.

        Raises:
            OSError: no thread can be started.
        """
        self._loop.require()
        now_ns = self.now_ns()
        history = await self._journal.history(now_ns - timedelta_nanoseconds(span))
        recent = [event.facts for event in self._events.recent() if not _is_quiet(event.facts)]
        events = _joined(history.latest, recent)
        # Nothing is awaited between these two, so that no event falls between the list and a listener.
        return Past(now_ns, history, events[-_MOST_EVENTS:], self._events.last_number)

    async def explain(self, image: str) -> Explained:
        """Explain as `Retention.explain_with_names` does, with the image's folders and leases."""
        self._loop.require()
        verdict, made = await self._inspection.find(image)
        surveyor = self._inspection.surveyor
        leases = await surveyor.locks.leases()
        return Explained(
            verdict,
            made.suspended,
            names_of(verdict, made),
            folders_of(verdict, made, surveyor.config.data_dir),
            tuple(leased(lease) for lease in leases if lease.digest == verdict.digest),
        )

    async def space(self, images_bytes: int, trash_bytes: int) -> Space:
        """Measure the disk and compare it with its limits; `images_bytes`: the blocks of all images."""
        self._loop.require()
        surveyor = self._inspection.surveyor
        moment = surveyor.moment()
        usage = await surveyor.peek_usage(moment, anyway=True)
        record = surveyor.disk.record
        waits_ns = record.again_boot_ns - moment.reading.boot_ns
        is_pausing = record.boot_id == moment.reading.boot_id and waits_ns > 0
        return account(
            surveyor.config,
            usage,
            Held(images_bytes, self._counters.quarantined_bytes, trash_bytes),
            self._inspection.last_plan,
            retry_seconds=waits_ns / SECOND if is_pausing else None,
        )


def _is_quiet(facts: Mapping[str, object]) -> bool:
    """Return whether an event is about a sweep that did nothing."""
    did = any(facts.get(name) for name in ("deleted", "marked", "released", "errors"))
    return facts.get("event") == "sweep" and facts.get("status") == "success" and not did


def _joined(
    journal: Sequence[Mapping[str, object]], events: list[Mapping[str, object]]
) -> tuple[Mapping[str, object], ...]:
    """Put what happened before the engine was opened before the events since then, each once."""
    known = set(map(_identity, events))
    return (*(one for one in journal if _identity(one) not in known), *events)


def _identity(facts: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(str(facts.get(name)) for name in ("time", "event", "image", "path", "digest"))
