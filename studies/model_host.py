"""A model of a host: its disk, its VMs and its images; what goes is decided by the engine's own `plan`.

Nothing is read or written. A sweep takes an inventory of the model, asks `plan`, and does what it says, at once; the disk
is watched by the engine's own `DiskWatch`. Times are in nanoseconds from the beginning of the stream.
"""

import heapq
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs
from studies.vm_stream import Creation

from hmret.engine.watch.disk import DiskWatch
from hmret.model.clock.clock_guard import ClockReading
from hmret.model.grouping import ReferenceIndex, Timers
from hmret.model.images import DiskUsage, Image, Inventory, Repository
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.records.disk import DiskRecord
from hmret.model.references import Key, Reference
from hmret.model.times import datetime_of, nanoseconds_of
from hmret.model.verdicts import Reason

__all__ = ["Departure", "Host", "Ledger"]

_BEGIN_NS = nanoseconds_of(datetime(2026, 1, 5, tzinfo=UTC))

T = TypeVar("T")


@attrs.define
class Ledger:
    """What happened while it was measured."""

    creations: int = 0
    hits: int = 0
    """The image was in the cache."""
    misses: int = 0
    refused: int = 0
    """Creations, of either kind, for which the disk had no space left."""
    pulled_bytes: int = 0
    pulled_again_bytes: int = 0
    """Of what had been in the cache before."""
    deletions: int = 0
    deleted_early: int = 0
    """Those of them that went to free space."""
    sweeps: int = 0
    fell_short: int = 0
    """Sweeps that could not reach the low mark."""
    passed_ns: int = 0
    held_byte_ns: int = 0
    """The bytes of the cache, over time."""
    largest_bytes: int = 0
    above_mark_ns: int = 0

    @property
    def mean_bytes(self) -> float:
        """What the cache held on average over time."""
        return self.held_byte_ns / self.passed_ns if self.passed_ns else 0.0


@attrs.frozen
class Departure:
    """An image that was deleted."""

    at: int
    key: Key
    reason: Reason


@attrs.define(eq=False)
class Host:
    """A host with one policy."""

    config: RetentionConfig
    capacity: int
    """Bytes of its one file system; 0: without end."""
    base_bytes: int
    """Of something else that stays."""
    sweep_every: int
    mark: float
    """The share of the disk above which time is counted, whatever the policy."""
    now: int = attrs.field(default=0, init=False)
    ledger: Ledger = attrs.field(factory=Ledger, init=False)
    departures: list[Departure] = attrs.field(factory=list, init=False)
    cache_bytes: int = attrs.field(default=0, init=False)
    vm_bytes: int = attrs.field(default=0, init=False)
    watch: DiskWatch = attrs.field(init=False)
    _policy: Policy = attrs.field(init=False)
    _next_sweep: int = attrs.field(default=0, init=False)
    _last: Plan | None = attrs.field(default=None, init=False)
    _repositories: dict[str, Repository] = attrs.field(factory=dict, init=False)
    _timers: dict[str, dict[str, int | None]] = attrs.field(factory=dict, init=False)
    _guests: dict[int, tuple[Creation, Reference]] = attrs.field(factory=dict, init=False)
    _ends: list[tuple[int, int]] = attrs.field(factory=list, init=False)
    """When each guest ends, as a heap."""
    _references: ReferenceIndex = attrs.field(factory=lambda: ReferenceIndex((), {}), init=False)
    _come: dict[int, Reference] = attrs.field(factory=dict, init=False)
    """References since the last sweep."""
    _gone: list[Reference] = attrs.field(factory=list, init=False)
    _ever: set[Key] = attrs.field(factory=set, init=False)

    @watch.default
    def _make_watch(self) -> DiskWatch:
        return DiskWatch(self._measure, self._forget_at_the_end, lambda: 0, self.config.disk)

    @_policy.default
    def _policy_of_config(self) -> Policy:
        return Policy.of(self.config)

    @property
    def _reading(self) -> ClockReading:
        return ClockReading("boot", self.now, _BEGIN_NS + self.now)

    @property
    def used_bytes(self) -> int:
        """What of the disk is in use."""
        return self.base_bytes + self.vm_bytes + self.cache_bytes

    def live(self, stream: Iterable[Creation], warm_up: int, end: int) -> Ledger:
        """Go through a stream; what happens from `warm_up` on is measured."""
        for creation in stream:
            if self.now < warm_up <= creation.at:
                self._begin_measuring(warm_up)
            self._advance(creation.at)
            self._create(creation)
        if self.now < warm_up:
            self._begin_measuring(warm_up)
        self._advance(end)
        return self.ledger

    def _begin_measuring(self, at: int) -> None:
        self._advance(at)
        self.ledger = Ledger(largest_bytes=self.cache_bytes)
        self.departures.clear()

    def _advance(self, to: int) -> None:
        """Let VMs end and sweeps happen until then."""
        while True:
            end = self._ends[0][0] if self._ends else to + 1
            at = min(end, self._next_sweep)
            if at > to:
                break
            self._pass_time(at)
            if end == at:
                self._end(heapq.heappop(self._ends)[1])
            else:
                self._next_sweep += self.sweep_every
                self._sweep()
        self._pass_time(to)

    def _pass_time(self, to: int) -> None:
        ledger, span = self.ledger, to - self.now
        ledger.passed_ns += span
        ledger.held_byte_ns += span * self.cache_bytes
        if self.capacity and self.used_bytes > self.mark * self.capacity:
            ledger.above_mark_ns += span
        self.now = to

    def _create(self, creation: Creation) -> None:
        ledger, key = self.ledger, (creation.repository, creation.digest)
        ledger.creations += 1
        repository = self._repositories.get(creation.repository) or Repository(creation.repository, {}, {})
        is_here = creation.digest in repository.images
        if is_here:
            ledger.hits += 1
        else:
            ledger.misses += 1
        needed = creation.vm_disk_bytes + (0 if is_here else creation.image_bytes)
        if self.capacity and self.used_bytes + needed > self.capacity:
            ledger.refused += 1
            return
        images, tags = repository.images, repository.tags
        if not is_here:
            images = {**images, creation.digest: self._pull(creation)}
            ledger.pulled_bytes += creation.image_bytes
            ledger.pulled_again_bytes += creation.image_bytes if key in self._ever else 0
            self._ever.add(key)
        if images is not repository.images or tags.get(creation.tag) != creation.digest:
            tags = {**tags, creation.tag: creation.digest}
            self._repositories[creation.repository] = Repository(creation.repository, images, tags)
        # What `mark_used` does.
        self._clear_timer(key)
        self._start(creation)
        if self.watch.is_near and run_at_once(self.watch.is_newly_pressed(self._reading)):
            self._sweep()

    def _pull(self, creation: Creation) -> Image:
        size = creation.image_bytes
        self.cache_bytes += size
        self.ledger.largest_bytes = max(self.ledger.largest_bytes, self.cache_bytes)
        return Image(creation.digest, "ready", _BEGIN_NS + self.now, size, size)

    def _start(self, creation: Creation) -> None:
        reference = Reference(
            f"instance/{creation.number}",
            f"{creation.repository}:{creation.tag}",
            f"{creation.repository}@{creation.digest}",
            datetime_of(_BEGIN_NS + self.now),
        )
        self.vm_bytes += creation.vm_disk_bytes
        self._guests[creation.number] = creation, reference
        self._come[creation.number] = reference
        heapq.heappush(self._ends, (self.now + creation.life, creation.number))

    def _end(self, number: int) -> None:
        creation, reference = self._guests.pop(number)
        self.vm_bytes -= creation.vm_disk_bytes
        if self._come.pop(number, None) is None:
            self._gone.append(reference)

    def _sweep(self) -> None:
        self.ledger.sweeps += 1
        usage = run_at_once(self.watch.look_before_sweep(self._reading))
        self._references = self._references.changed(self._gone, self._come.values())
        self._gone, self._come = [], {}
        inventory = Inventory(
            repositories=dict(self._repositories),
            states=Timers(dict(self._timers)),
            references=self._references,
            remembered=self._last.remembered if self._last else {},
            disk=usage,
        )
        found = self._last = plan(inventory, self._policy, datetime_of(_BEGIN_NS + self.now), self._last)
        for name, digest in found.marks:
            self._timers[name] = {**self._timers.get(name, {}), digest: _BEGIN_NS + self.now}
        for key in (*(key for key, _ in found.clears), *found.pruned):
            self._clear_timer(key)
        for verdict in found.deletions:
            self._delete((verdict.repository, verdict.digest), verdict.reason)
        freed_bytes = found.summary.delete_bytes
        run_at_once(self.watch.note(found.pressure, freed_bytes, self._reading))
        if found.pressure is not None and found.pressure.is_out_of_reach:
            self.ledger.fell_short += 1

    def _delete(self, key: Key, reason: Reason) -> None:
        name, digest = key
        repository = self._repositories[name]
        self.cache_bytes -= repository.images[digest].disk_bytes
        images = {other: image for other, image in repository.images.items() if other != digest}
        tags = {tag: target for tag, target in repository.tags.items() if target != digest}
        if images:
            self._repositories[name] = Repository(name, images, tags)
        else:
            del self._repositories[name]
        self._clear_timer(key)
        self.ledger.deletions += 1
        self.ledger.deleted_early += reason is Reason.DISK_PRESSURE
        self.departures.append(Departure(self.now, key, reason))

    def _clear_timer(self, key: Key) -> None:
        name, digest = key
        timers = self._timers.get(name, {})
        if digest in timers:
            left = {other: since for other, since in timers.items() if other != digest}
            if left:
                self._timers[name] = left
            else:
                del self._timers[name]

    async def _forget_at_the_end(self, record: DiskRecord) -> None:
        """Write nothing down: this host is never started again."""

    async def _measure(self) -> DiskUsage | None:
        if not self.capacity:
            return None
        return DiskUsage(self.used_bytes, self.capacity - self.used_bytes)


def run_at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits: to look at the disk of a model takes no time."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for something")
