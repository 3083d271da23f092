"""The open engine, as an embedder uses it."""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from hmret.actors.journal_keeper import JournalKeeper
from hmret.actors.locks import Locks
from hmret.actors.mailbox import Actor
from hmret.actors.own_loop import OwnLoop
from hmret.actors.threads import Threads
from hmret.engine.counters import Counters
from hmret.engine.events import EventHub, Listener
from hmret.engine.inspection import Inspection, named_image
from hmret.engine.leases import Leases, leased, new_lease
from hmret.engine.overview.overview import Overview
from hmret.engine.schedule import Schedule
from hmret.engine.statistics import Statistics, statistics_of
from hmret.engine.surveyor import Surveyor
from hmret.engine.sweep.entries import Entry, write_entries
from hmret.engine.sweep.quarantine import Quarantine
from hmret.engine.sweep.sweep import Sweep
from hmret.engine.uses import TagMovedError, UseConfirmer
from hmret.model.errors import ConfigError, ImageNotFoundError, InvalidReferenceError
from hmret.model.images import Suspension
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import Leased, MarkedUsed, Quarantined, Restored, SweepReport
from hmret.model.times import SECOND, nanoseconds_of
from hmret.model.values import define
from hmret.model.verdicts import Verdict

if TYPE_CHECKING:
    from hmret.engine.fleet.host_fleet import HostFleet


@define(eq=False)
class Retention:
    """The open engine; created by `open_retention`.

    It belongs to the event loop on which it was opened. A call from another event loop, or from a thread
    without one, raises RuntimeError at once and changes nothing. Only `statistics`, `counters`,
    `quarantined`, `search_quarantine`, `granted_leases`, `config`, `last_plan` and `uptime_seconds` may be used in
    any thread.
    """

    _inspection: Inspection
    _sweeps: Sweep
    _schedule: Schedule
    _actors: Mapping[str, Actor[Any]]
    fleet: "HostFleet | None" = None
    """The fleet that this host is part of; None: it is in none."""
    _loop: OwnLoop = attrs.field(factory=OwnLoop, init=False)
    _surveyor: Surveyor = attrs.field(init=False)
    _locks: Locks = attrs.field(init=False)
    _leases: Leases = attrs.field(init=False)
    _threads: Threads = attrs.field(init=False)
    _quarantine: Quarantine = attrs.field(init=False)
    _journal: JournalKeeper = attrs.field(init=False)
    _confirmer: UseConfirmer = attrs.field(init=False)
    _opened_boot_ns: int = attrs.field(init=False)
    event_hub: EventHub = attrs.field(init=False)
    """The event hub; most callers want `listen` instead."""
    counters: Counters = attrs.field(init=False)
    """The engine's counts since it was opened, and its forecast; read-only."""
    overview: Overview = attrs.field(init=False)
    """What displays of the engine show besides: the past, and the disk."""

    def __attrs_post_init__(self) -> None:
        sweeps = self._sweeps
        self._surveyor = surveyor = self._inspection.surveyor
        self._locks, self._leases = surveyor.locks, surveyor.leases
        self._opened_boot_ns = surveyor.boot_ns()
        self._threads, self._quarantine = surveyor.threads, sweeps.quarantine
        self._journal, self.event_hub, self.counters = sweeps.journal, sweeps.events, sweeps.counters
        self._confirmer = UseConfirmer(surveyor, self._journal, self.event_hub)
        self.overview = Overview(self._inspection, self._journal, self.event_hub, self.counters)

    async def mark_used(self, image: str, digest: str | None = None) -> MarkedUsed:
        """Mark an image used: check that it is present, ready and whole, and restart its window.

        It then stays for at least its window from now. Takes a reference by tag or digest; `digest` takes
        precedence. Waits for a deletion of this very image that is in progress, and for no other.

        Raises:
            InvalidReferenceError: the text is not a reference.
            ImageNotFoundError: the image is not here, not ready or broken: pull it again.
            EngineClosedError: the engine has stopped.
            OSError: its timer could not be cleared, so nothing is guaranteed.
        """
        self._loop.require()
        named = named_image(image, digest)
        with self.counters.mark_used.timing(), self._threads.urgent():
            guess = self._confirmer.guess(named)
            used = (
                None if guess is None else await self._confirmer.use(named, (named.repository, guess), image)
            )
            while used is None:
                used = await self._confirmer.use(named, await self._inspection.resolve(named, image), image)
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
        """Protect an image from deletion while this block lasts, or for at most `ttl`; implies `mark_used`.

        Raises:
            ValueError: `ttl` is not positive.
            InvalidReferenceError: the text is not a reference.
            ImageNotFoundError: the image is not here, not ready or broken: pull it again.
            EngineClosedError: the engine has stopped.
            OSError: its timer could not be cleared, so nothing is guaranteed.
        """
        self._loop.require()
        if ttl is not None and ttl <= timedelta(0):
            raise ValueError(f"ttl must be more than zero, got {ttl}")
        named = named_image(image, digest)
        while True:
            key = await self._inspection.resolve(named, image)
            lease = new_lease(key, owner, reason, ttl, self._surveyor.now_ns())
            seconds = math.inf if ttl is None else ttl.total_seconds()
            async with self._locks.leasing(lease, seconds):
                # The lease may expire before this is done; the image stays in use until then regardless.
                if await self._confirmer.use(named, key, image) is None:
                    continue
                try:
                    yield leased(lease)
                finally:
                    # Left on another event loop, the block ends nevertheless.
                    self._loop.require()
                return

    async def restore(self, image: str, digest: str | None = None) -> Restored:
        """Restore an image from quarantine whole, with those of its tags that are free, for a full window.

        Takes a reference by tag or digest; `digest` takes precedence. If several images were deleted with
        that tag, restores the latest of them. A tag that points elsewhere by now is left as it is.

        Raises:
            InvalidReferenceError: the text is not a reference.
            ImageNotFoundError: the image is not in quarantine.
            ImageExistsError: it is already in the cache.
            EngineClosedError: the engine has stopped.
            OSError: it could not be restored, and is still in quarantine.
        """
        self._loop.require()
        restored = await self._quarantine.restore(named_image(image, digest), image)
        now_ns = nanoseconds_of(restored.unused_since)
        facts = {"tags": list(restored.tags), "taken_tags": list(restored.taken_tags)}
        lines = write_entries(now_ns, Entry("restore", (restored.repository, restored.digest), facts))
        self.event_hub.publish(lines)
        await self._journal.note(lines)
        return restored

    def quarantined(self) -> tuple[Quarantined, ...]:
        """List the deleted images that can be restored, in order of deletion; never waits."""
        return self._quarantine.images()

    async def sweep(self, *, release_brake: bool = False, stop_timers: bool = True) -> SweepReport:
        """Carry out one sweep; if one is already running, waits for it first.

        With `release_brake`, this sweep, and later ones if need be, delete what the brake holds. Without
        `stop_timers`, a sweep whose patterns allow nothing here to be deleted is refused if timers run.

        Raises:
            ConfigError: it would stop every timer, and `stop_timers` is false; nothing was changed.
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        return await self._schedule.sweep(releases_brake=release_brake, stops_timers=stop_timers)

    async def confirm(self, *what: str) -> tuple[str, ...]:
        """Confirm the present state after folders were lost or the clock jumped; returns what was confirmed.

        Accepts what is lost at this moment, and nothing else. It is no error if there is nothing to confirm.

        Args:
            what: folders as named by their suspension (`guests`, `snapshots`, `images`, `images/content`, …,
                or the absolute path), and `clock`. None: whatever there is, if it is only one thing.

        Raises:
            ValueError: an unknown name, or none was given and there are several things to confirm.
            OSError: it could not be recorded, and nothing was confirmed.
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
        """Make two plans of the same images, under the current settings and under others; changes nothing.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        self._loop.require()
        return await self._inspection.compare(config, at)

    async def explain(self, image: str, digest: str | None = None) -> Verdict:
        """Explain what a sweep would do now with one image, and list everything that blocks its deletion.

        Raises:
            InvalidReferenceError: the text is not a reference.
            ImageNotFoundError: the image is not here.
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        return (await self._inspection.explain(image, digest))[0]

    async def explain_with_names(
        self, image: str, digest: str | None = None
    ) -> tuple[Verdict, tuple[Suspension, ...], Mapping[str, str]]:
        """Explain as `explain_fully` does, with the names of the referring VMs, keyed as in `referenced_by`."""
        self._loop.require()
        return await self._inspection.explain(image, digest)

    async def search(self, text: str) -> str | None:
        """Find the image meant by 12 or more digits of its digest, or by the name or id of a VM.

        Returns it as a reference by digest; None: nothing matches, or the text is a reference to an image.
        Intended for what people type: `mark_used`, `lease` and `restore` accept references only.

        Raises:
            AmbiguousImageError: several images match.
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        with suppress(ImageNotFoundError, InvalidReferenceError):
            await self._inspection.resolve(named_image(text, None), text)
            return None
        found = await self._inspection.search(text)
        return None if found is None else "@".join(found)

    def search_quarantine(self, text: str) -> str | None:
        """Find the image in quarantine meant by 12 or more digits of its digest, as `search` does; never waits.

        Raises:
            AmbiguousImageError: several images match.
        """
        return self._quarantine.search(text)

    async def explain_fully(
        self, image: str, digest: str | None = None
    ) -> tuple[Verdict, tuple[Suspension, ...]]:
        """Explain as `explain` does, with what suspends deletion everywhere and how to remedy it."""
        self._loop.require()
        return (await self._inspection.explain(image, digest))[:2]

    @property
    def config(self) -> RetentionConfig:
        """The settings that the next sweep will use."""
        return self._schedule.config

    def reconfigure(self, config: RetentionConfig) -> bool:
        """Switch to other settings; returns whether they are fully in force already.

        A running sweep applies their restrictions (disabled, pinned, not allowed, limits, quarantine) from
        the next image on, so it deletes nothing more that they would keep. The rest applies from the next
        sweep on.

        What is fixed when an engine is opened does not change: `data_dir`, `fleet`, and its owner's sockets.

        Raises:
            ConfigError: `data_dir` or `fleet` differs.
        """
        self._loop.require()
        if config.data_dir != self.config.data_dir:
            raise ConfigError(
                f"data_dir: cannot change while the engine runs, from {self.config.data_dir} to {config.data_dir}"
            )
        if config.fleet != self.config.fleet:
            raise ConfigError("fleet: cannot change while the engine runs")
        self.counters.add_settings(self._surveyor.now_ns())
        return self._schedule.reconfigure(config)

    def begin_sweeps(self) -> None:
        """Start sweeping, at once and then every interval, for an engine opened without automatic sweeps."""
        self._loop.require()
        self._schedule.begin()

    @property
    def last_plan(self) -> Plan | None:
        """The plan of the last sweep; None: no sweep has got that far yet."""
        return self._inspection.last_plan

    def listen(self, after: int | None = None) -> AbstractContextManager[Listener]:
        """Listen for the duration of the block: to marks, clears, deletions, failures, suspensions, sweeps.

        Iterating over the listener yields batches of events, and ends when the engine stops. A listener that
        falls some thousands of events behind is disconnected (`fell_behind`); the engine never waits for it.
        With `after`, an event's number, the events since then come first, if still available (`missed`).
        """
        self._loop.require()
        return self.event_hub.listen(after)

    def require_own_loop(self) -> None:
        """Reject a caller that does not run on this engine's event loop, as all calls do that are bound to it.

        Raises:
            RuntimeError: the caller runs on another event loop, or in a thread without one.
        """
        self._loop.require()

    @property
    def uptime_seconds(self) -> float:
        """How long this engine has been open, including time that the host was suspended."""
        return (self._surveyor.boot_ns() - self._opened_boot_ns) / SECOND

    async def wait_answer(self) -> None:
        """Return once the engine has answered a request, which shows that it is alive.

        Raises:
            EngineClosedError: the engine has stopped.
        """
        self._loop.require()
        await self._locks.leases()

    async def trash_bytes(self) -> int:
        """Return the size of the trash that is waiting to be freed, in blocks, including shared ones.

        Images in quarantine are not included.

        Raises:
            OSError: the trash cannot be read.
        """
        self._loop.require()
        return await self._sweeps.measure_trash()

    def statistics(self) -> Statistics:
        """Return the engine's key figures; never waits."""
        return statistics_of(self._schedule, self._sweeps, self._actors)

    async def grant_lease(
        self, image: str, digest: str | None = None, *, owner: str, reason: str, ttl: timedelta
    ) -> Leased:
        """Protect an image from deletion for `ttl`, across restarts too; implies `mark_used`.

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
                        key, owner, reason, ttl, partial(self._confirmer.confirm, named, key, image)
                    )
                )
            except TagMovedError:
                continue

    async def renew_lease(self, lease_id: str, ttl: timedelta) -> Leased:
        """Make a granted lease last for `ttl` from now.

        Raises:
            KeyError: there is no such lease, or it has expired.
            ValueError: `ttl` is not positive.
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
        """List the granted leases in order of expiry."""
        return tuple(leased(record) for record in self._leases.list())
