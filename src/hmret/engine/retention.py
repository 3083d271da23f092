"""What an embedder holds: the open engine."""

import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

import attrs

from hmret.actors.locks import Locks
from hmret.actors.own_loop import OwnLoop
from hmret.actors.scanner import Scanner
from hmret.actors.state_keeper import StateKeeper
from hmret.actors.threads import Threads
from hmret.disk.kernel.clock import Clock
from hmret.engine.counters import Counters
from hmret.engine.events import EventHub, Listener
from hmret.engine.inspection import Inspection, named_image
from hmret.engine.leases import Leases, leased, new_lease
from hmret.engine.log import log_event
from hmret.engine.schedule import Schedule
from hmret.engine.statistics import HasMailbox, Statistics, statistics_of
from hmret.engine.surveyor import Surveyor
from hmret.engine.sweep.ledger import journal_entry
from hmret.engine.sweep.quarantine import Quarantine
from hmret.engine.sweep.sweep import Sweep
from hmret.engine.uses import TagMovedError, Uses
from hmret.model.errors import ConfigError, ImageNotFoundError, InvalidReferenceError
from hmret.model.images import Suspension
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import Leased, MarkedUsed, Quarantined, Restored, SweepReport
from hmret.model.times import SECOND, nanoseconds_of
from hmret.model.values import define
from hmret.model.verdicts import Verdict

__all__ = ["Retention"]


@define(eq=False)
class Retention:
    """The open engine; made by `open_retention`.

    It belongs to the event loop on which it was opened. A call from another one, or from a thread without one, raises
    RuntimeError at once and changes nothing; only `statistics`, `counters`, `quarantined`, `granted_leases`, `config`,
    `last_plan` and `uptime_seconds` may be read in any thread.
    """

    _inspection: Inspection
    _sweeps: Sweep
    _states: StateKeeper
    _schedule: Schedule
    _mailboxes: Mapping[str, HasMailbox]
    _loop: OwnLoop = attrs.field(factory=OwnLoop, init=False)
    _surveyor: Surveyor = attrs.field(init=False)
    _scanner: Scanner = attrs.field(init=False)
    _locks: Locks = attrs.field(init=False)
    _leases: Leases = attrs.field(init=False)
    _clock: Clock = attrs.field(init=False)
    _threads: Threads = attrs.field(init=False)
    _quarantine: Quarantine = attrs.field(init=False)
    _uses: Uses = attrs.field(init=False)
    _opened_boot_ns: int = attrs.field(init=False)
    event_hub: EventHub = attrs.field(init=False)
    """Where events are numbered; `listen` is what most callers want."""
    counters: Counters = attrs.field(init=False)
    """What the engine has counted since it was opened, and its forecast; to be read, on its event loop."""

    def __attrs_post_init__(self) -> None:
        surveyor, sweeps = self._inspection.surveyor, self._sweeps
        self._surveyor = surveyor
        self._scanner, self._locks, self._leases = surveyor.scanner, surveyor.locks, surveyor.leases
        self._clock, self._threads, self._quarantine = surveyor.clock, surveyor.threads, sweeps.quarantine
        self.event_hub, self.counters = sweeps.events, sweeps.counters
        self._opened_boot_ns = self._clock.read().boot_ns
        self._uses = Uses(
            self._locks,
            self._scanner,
            self._states,
            self._threads,
            self._clock,
            surveyor.uses,
            sweeps.journal,
            sweeps.events,
        )

    async def mark_used(self, image: str, digest: str | None = None) -> MarkedUsed:
        """Say that an image is about to be used: it is here now, and stays for at least its window from now.

        Takes a reference by tag or digest; a digest given beside it counts instead. Waits for a deletion of this
        very image that is under way, and for no other.

        Raises:
            InvalidReferenceError: the text is no reference.
            ImageNotFoundError: the image is not here, not ready or broken: pull it again.
            EngineClosedError: the engine has stopped.
            OSError: its timer could not be cleared, so nothing is promised.
        """
        self._loop.require()
        named = named_image(image, digest)
        with self.counters.mark_used.timing(), self._threads.urgent():
            guess = None if named.tag is None else self._scanner.guess(named.repository, named.tag)
            used = None if guess is None else await self._uses.use(named, (named.repository, guess), image)
            while used is None:
                used = await self._uses.use(named, await self._inspection.resolve(named, image), image)
        return used

    @asynccontextmanager
    async def lease(
        self,
        image: str,
        digest: str | None = None,
        *,
        reason: str = "",
        owner: str = "",
        ttl: timedelta | None = None,
    ) -> AsyncIterator[Leased]:
        """Keep an image from deletion while this block lasts, or for `ttl` at most; implies `mark_used`.

        Raises:
            as `mark_used`; ValueError: `ttl` is not more than zero.
        """
        self._loop.require()
        if ttl is not None and ttl <= timedelta(0):
            raise ValueError(f"ttl must be more than zero, got {ttl}")
        named = named_image(image, digest)
        while True:
            key = await self._inspection.resolve(named, image)
            lease = new_lease(key, owner, reason, ttl, self._clock.now_ns())
            seconds = math.inf if ttl is None else ttl.total_seconds()
            async with self._locks.leasing(lease, seconds):
                # The lease may be over before this is done; the image is in use until then all the same.
                if await self._uses.use(named, key, image) is None:
                    continue
                try:
                    yield leased(lease)
                finally:
                    # Left elsewhere, the block ends all the same.
                    self._loop.require()
                return

    async def restore(self, image: str, digest: str | None = None) -> Restored:
        """Bring an image back from quarantine whole, with those of its tags that are free, for a full window.

        Takes a reference by tag or digest; a digest given beside it counts instead. Of several images that went with
        that tag, the one that was deleted last comes back. A tag that points elsewhere by now goes on to do so.

        Raises:
            InvalidReferenceError: the text is no reference.
            ImageNotFoundError: the image is not in quarantine.
            ImageExistsError: it is in the cache already.
            EngineClosedError: the engine has stopped.
            OSError: it could not be brought back, and is in quarantine as before.
        """
        self._loop.require()
        restored = await self._quarantine.restore(named_image(image, digest), image)
        now_ns = nanoseconds_of(restored.unused_since)
        facts = {"tags": list(restored.tags), "taken_tags": list(restored.taken_tags)}
        log_event(
            logging.INFO, "image_restored", repository=restored.repository, digest=restored.digest, **facts
        )
        await self._note(journal_entry(now_ns, "restore", (restored.repository, restored.digest), **facts))
        return restored

    def quarantined(self) -> tuple[Quarantined, ...]:
        """List the deleted images that can be brought back, by when they were deleted; never waits."""
        return self._quarantine.images()

    async def sweep(self, *, release_brake: bool = False, stop_timers: bool = True) -> SweepReport:
        """Carry out one sweep; if one runs already, waits for that and then has its own.

        With `release_brake`, what the brake holds goes, in this sweep and in those that it takes. Without `stop_timers`, a
        sweep whose patterns let nothing go that is here, while timers run, is refused instead of stopping them all.

        Raises:
            ConfigError: it would stop every timer, and was told not to; nothing was changed.
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        return await self._schedule.sweep(releases_brake=release_brake, stops_timers=stop_timers)

    async def confirm(self, *what: str) -> tuple[str, ...]:
        """Say that what is there now is right, where folders are lost or the clock has jumped; returns what was confirmed.

        What is lost at this moment is taken over, and nothing else; other causes of a suspension stay. Nothing to
        confirm is no error.

        Args:
            what: folders as their suspension tells them (`guests`, `snapshots`, `images`, `images/content`, …; or by
                their whole path), and `clock`; none: the one thing that there is.

        Raises:
            ValueError: a name is none of these, or none is given where there are several things to confirm.
            OSError: it could not be put on record, and nothing was confirmed.
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        return await self._sweeps.confirming().confirm(what)

    async def plan(self, at: datetime | None = None) -> Plan:
        """Make the plan that a sweep would follow now, or at another time; changes nothing.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        self._loop.require()
        return await self._inspection.plan(at)

    async def compare(self, config: RetentionConfig, at: datetime | None = None) -> tuple[Plan, Plan]:
        """Make the plan by the settings in force, and that by others, of the same images and references; changes nothing.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        self._loop.require()
        return await self._inspection.compare(config, at)

    async def explain(self, image: str, digest: str | None = None) -> Verdict:
        """Tell what a sweep would do now with one image, and everything that holds against its deletion.

        Raises:
            InvalidReferenceError: the text is no reference.
            ImageNotFoundError: the image is not here.
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        return await self._inspection.explain(image, digest)

    async def explain_with_names(
        self, image: str, digest: str | None = None
    ) -> tuple[Verdict, tuple[Suspension, ...], Mapping[str, str]]:
        """Tell as `explain_fully` does, and the names of the VMs that refer to the image, by `referenced_by`."""
        self._loop.require()
        return await self._inspection.explain_with_names(image, digest)

    async def search(self, text: str) -> str | None:
        """Find the image that a person means by 12 digits or more of its digest, or by the name or id of a VM.

        Returns it as a reference by digest; None: none is meant so, or the text names an image by reference. For what
        people type: `mark_used`, `lease` and `restore` take references alone.

        Raises:
            AmbiguousImageError: it may be one of several.
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        with suppress(ImageNotFoundError, InvalidReferenceError):
            await self._inspection.resolve(named_image(text, None), text)
            return None
        found = await self._inspection.search(text)
        return None if found is None else "@".join(found)

    def search_quarantine(self, text: str) -> str | None:
        """Find the image in quarantine that a person means by 12 digits or more of its digest, as `search` does.

        Raises:
            AmbiguousImageError: it may be one of several.
        """
        return self._quarantine.search(text)

    async def explain_fully(
        self, image: str, digest: str | None = None
    ) -> tuple[Verdict, tuple[Suspension, ...]]:
        """Tell as `explain` does, and what suspends deletion everywhere, with its remedy."""
        self._loop.require()
        return await self._inspection.explain_fully(image, digest)

    @property
    def config(self) -> RetentionConfig:
        """The settings that the next sweep goes by."""
        return self._schedule.config

    def reconfigure(self, config: RetentionConfig) -> bool:
        """Go by other settings; returns whether they count already.

        Of a sweep that runs, what they forbid (switched off, pinned, not allowed, limits, quarantine) counts from the next
        image on: it deletes nothing more that they would keep. All else counts from the next sweep on.

        What is laid down when an engine is opened does not change: `data_dir` here, and the sockets, which are
        whoever's that opened them.

        Raises:
            ConfigError: `data_dir` is another one.
        """
        self._loop.require()
        if config.data_dir != self.config.data_dir:
            raise ConfigError(
                f"data_dir: cannot change while the engine runs, from {self.config.data_dir} to {config.data_dir}"
            )
        self.counters.add_settings(self._clock.now_ns())
        return self._schedule.reconfigure(config)

    def begin_sweeps(self) -> None:
        """Sweep at once and then every interval, where `open_engine` was told not to begin by itself."""
        self._loop.require()
        self._schedule.begin()

    @property
    def last_plan(self) -> Plan | None:
        """What the last sweep decided; None: none has come that far yet."""
        return self._inspection.planner.last_plan

    def listen(self, after: int | None = None) -> AbstractContextManager[Listener]:
        """Listen to what happens while the block lasts: each mark, clear, deletion, failure, suspension and sweep.

        Iterating the listener gives batches of events, and ends when the engine stops. A listener that falls some
        thousands of events behind is let go (`fell_behind`); the engine never waits for one. With `after`, the
        number of an event, what has happened since then comes first, as far as it is still known (`missed`).
        """
        self._loop.require()
        return self.event_hub.listen(after)

    def require_own_loop(self) -> None:
        """Refuse a caller who does not run on this engine's event loop, as every call here does.

        Raises:
            RuntimeError: it is another event loop, or a thread without one.
        """
        self._loop.require()

    @property
    def uptime_seconds(self) -> float:
        """How long this engine has been open, time asleep included."""
        return (self._clock.read().boot_ns - self._opened_boot_ns) / SECOND

    async def wait_answer(self) -> None:
        """Return once the engine has answered a question: it is alive.

        Raises:
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        await self._locks.leases()

    async def trash_bytes(self) -> int:
        """Add up what lies in the trash and waits for its bytes to be freed: blocks, whoever else shares them.

        What is in quarantine does not count.

        Raises:
            OSError: the trash cannot be read.
        """
        self._loop.require()
        return await self._sweeps.measure_trash()

    def statistics(self) -> Statistics:
        """Tell the engine in numbers; never waits."""
        return statistics_of(self._schedule, self._sweeps, self._surveyor, self.counters, self._mailboxes)

    async def grant_lease(
        self, image: str, digest: str | None = None, *, owner: str, reason: str, ttl: timedelta
    ) -> Leased:
        """Keep an image from deletion for `ttl`, over restarts too; implies `mark_used`.

        Raises:
            as `lease`; OSError: the lease could not be recorded, so it is not granted.
        """
        self._loop.require()
        named = named_image(image, digest)
        while True:
            key = await self._inspection.resolve(named, image)
            try:
                return leased(
                    await self._leases.grant(
                        key, owner, reason, ttl, partial(self._uses.confirm, named, key, image)
                    )
                )
            except TagMovedError:
                continue

    async def renew_lease(self, lease_id: str, ttl: timedelta) -> Leased:
        """Let a granted lease last for `ttl` from now.

        Raises:
            KeyError: there is no such lease, or it has expired.
            ValueError: `ttl` is not more than zero.
        """
        self._loop.require()
        return leased(await self._leases.renew(lease_id, ttl))

    async def end_lease(self, lease_id: str) -> None:
        """End a granted lease.

        Raises:
            KeyError: there is no such lease, or it has expired.
        """
        self._loop.require()
        await self._leases.end(lease_id)

    def granted_leases(self) -> tuple[Leased, ...]:
        """List the granted leases, by when they expire."""
        return tuple(leased(record) for record in self._leases.list())

    async def _note(self, *entries: Mapping[str, object]) -> None:
        self.event_hub.publish(entries)
        await self._sweeps.journal.note(entries)
