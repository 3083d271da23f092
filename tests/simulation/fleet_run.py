"""One seed of a fleet: whole engines that race on a store in memory, with kills, late and lost answers, copied disks.

In the store and on the disks, after each change of either: what counts is there (F2), each release left enough
counted copies (F3), and no deletion took the last of those that must stay.
"""

import random
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

import attrs
import trio
from trio.testing import MockClock

from hmret.fleet.keys import generation_key
from hmret.fleet.settings import encode_settings
from hmret.fleet.store import Delete, Put, Txn, TxnResult
from hmret.fleet.stored_values import encode_drain
from hmret.model.fleet import FleetSettings, Paused
from hmret.model.times import datetime_of
from simulation.chronicle import Chronicle
from simulation.clocks import VirtualClock
from simulation.fleet_host import LETTERS, FleetHost, Weather, disk_of
from simulation.schedule import decided_by
from support.builders import digest
from support.fleet_keys import KEYS
from support.memory_filesystem import MemoryFilesystem
from support.memory_store import MemoryStore

__all__ = ["FleetOutcome", "run_fleet_seed"]

_HOURS = 1


@attrs.frozen(kw_only=True)
class FleetOutcome:
    """What happened with one seed."""

    seed: int
    releases: int
    deletions: int
    kills: int
    late: int
    copies: int
    checksum: int


class _WatchedStore(MemoryStore):
    """Has each change looked at."""

    run: "_FleetRun"

    def carry_out(self, txn: Txn) -> TxnResult:
        before = self.revision
        result = super().carry_out(txn)
        if self.revision > before:
            self.run.look(txn if result.succeeded else None)
        return result


def run_fleet_seed(seed: int) -> FleetOutcome:
    """Simulate one seed.

    Raises:
        Breach: a promise was broken.
    """
    rng = random.Random(seed)
    with decided_by(random.Random(rng.random())):
        clock = MockClock(autojump_threshold=0)
        run = _FleetRun(seed, rng, clock)
        try:
            trio.run(run.main, clock=clock, strict_exception_groups=True)
        except BaseException:
            if run.chronicle.breach is not None:
                raise run.chronicle.breach from None
            raise
    if run.chronicle.breach is not None:
        raise run.chronicle.breach
    return run.outcome()


class _FleetRun:
    """The fleet of one seed."""

    def __init__(self, seed: int, rng: random.Random, mock: MockClock) -> None:
        self._seed = seed
        self._rng = rng
        self._clock = VirtualClock(mock)
        self.chronicle = Chronicle(seed, self._clock.true_ns)
        self._store = _WatchedStore(self._clock.seconds)
        self._store.run = self
        self._min_copies = rng.choice((1, 1, 2))
        self._weather = Weather(
            bad_answer=rng.choice((0, 0.02, 0.1)),
            delay=rng.choice((0, 0.1, 0.3)),
            crash=rng.choice((0, 0.00002, 0.0001)),
        )
        self._sessions: dict[str, FleetHost] = {}
        self._hosts: list[FleetHost] = []
        self._saved: tuple[FleetHost, MemoryFilesystem] | None = None
        self._standing: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._is_paused = False
        self._is_over = False

    def outcome(self) -> FleetOutcome:
        """Sum up."""
        return FleetOutcome(
            seed=self._seed,
            releases=self._counts["releases"],
            deletions=self._counts["deletions"],
            kills=sum(host.kills for host in self._hosts),
            late=self._counts["late"],
            copies=self._counts["copies"],
            checksum=self.chronicle.checksum,
        )

    async def main(self) -> None:
        """Live through some hours, then a quiet end."""
        for key, value in (
            (generation_key(KEYS.fleet), KEYS.generation),
            (KEYS.settings, self._settings()),
        ):
            self._store.carry_out(Txn((), (Put(key, value),)))
        for name in "xyzw"[: self._rng.randint(2, 4)]:
            self._add(name, disk_of(self._clock))
        async with trio.open_nursery() as nursery:
            for host in tuple(self._hosts):
                nursery.start_soon(self._lives_of, host)
            end = self._clock.seconds() + 3600 * _HOURS
            while self._clock.seconds() < end:
                await trio.sleep(self._rng.uniform(1, 60))
                await self._anything(nursery)
                self.look(None)
                if self.chronicle.breach is not None:
                    raise self.chronicle.breach
            self._is_over = True
            nursery.cancel_scope.cancel()

    def _add(self, name: str, filesystem: MemoryFilesystem) -> FleetHost:
        host = FleetHost(
            name,
            filesystem,
            self._store,
            self._clock,
            self.chronicle,
            random.Random(self._rng.random()),
            self._weather,
            self._sessions,
            self._min_copies,
            self._fail,
            self._count_standing,
        )
        self._hosts.append(host)
        self._count_standing()
        return host

    def _fail(self, error: Exception) -> None:
        self.chronicle.fail(f"the keeper failed: {error!r}")

    async def _lives_of(self, host: FleetHost) -> None:
        while not self._is_over:
            await host.live(host.rng.uniform(60, 2400))
            await trio.sleep(host.rng.choice((0.1, 5, 200)))

    def _settings(self) -> str:
        paused = Paused("x", datetime_of(self._clock.now_ns()), "x") if self._is_paused else None
        return encode_settings(FleetSettings(canary=timedelta(0), budget="2000", paused=paused))

    async def _anything(self, nursery: trio.Nursery) -> None:
        """Do something to the fleet."""
        rng, host = self._rng, self._rng.choice(self._hosts)
        letter = rng.choice(LETTERS)
        chance = rng.random()
        if chance < 0.35:
            if not host.has(letter):
                host.pull(letter)
                self._count_standing()
                self.chronicle.tell(f"{host.name}: pulls {letter}")
        elif chance < 0.55:
            for each in self._hosts:
                nursery.start_soon(each.sweep)
        elif chance < 0.65:
            await host.use(letter)
        elif chance < 0.75:
            self._deliver_late()
        elif chance < 0.8:
            if host.retention is not None:
                self.chronicle.tell(f"{host.name}: is killed")
                host.kill()
        elif chance < 0.85:
            self._is_paused = not self._is_paused
            self._store.carry_out(Txn((), (Put(KEYS.settings, self._settings()),)))
            self.chronicle.tell(f"the fleet is {'paused' if self._is_paused else 'resumed'}")
        elif chance < 0.89:
            self._drain(host)
        elif chance < 0.92:
            self._copy(host, nursery)
        elif chance < 0.95:
            self._back_up(host)

    def _deliver_late(self) -> None:
        outcomes = self._store.deliver_late()
        self._counts["late"] += len(outcomes)
        if outcomes:
            self.chronicle.tell(f"{len(outcomes)} late writes arrive")

    def _drain(self, host: FleetHost) -> None:
        holder = host.holder()
        if holder is None:
            return
        key = KEYS.drain(holder)
        is_drained = key in self._store.items(KEYS.drains)
        change = Delete(key) if is_drained else Put(key, encode_drain("x", self._clock.now(), "x"))
        self._store.carry_out(Txn((), (change,)))
        self.chronicle.tell(f"{host.name}: is {'not drained any more' if is_drained else 'drained'}")

    def _copy(self, host: FleetHost, nursery: trio.Nursery) -> None:
        if len(self._hosts) > 5:
            return
        name = self._rng.choice((host.name, f"{host.name}{len(self._hosts)}"))
        copy = self._add(name, host.filesystem.crashed_copy())
        self._counts["copies"] += 1
        self.chronicle.tell(f"{host.name}: its disk is copied, for a host named {name}")
        nursery.start_soon(self._lives_of, copy)

    def _back_up(self, host: FleetHost) -> None:
        """Save a disk; or put it back, where its host is down and its session over."""
        if self._saved is None:
            self._saved = host, host.filesystem.crashed_copy()
            self.chronicle.tell(f"{host.name}: is backed up")
            return
        host, disk = self._saved
        holder = host.holder()
        is_live = holder is not None and KEYS.live(holder) in self._store.items(KEYS.lives)
        if not host.is_up and not is_live:
            host.filesystem = disk
            self._saved = None
            self._count_standing()
            self.chronicle.tell(f"{host.name}: is put back from its backup")

    # What has to hold.

    def _count_standing(self) -> None:
        self._standing = Counter(letter for host in self._hosts for letter in LETTERS if host.has(letter))

    def look(self, txn: Txn | None) -> None:
        """Look at everything, after a change."""
        before = self._standing
        self._count_standing()
        for letter in LETTERS:
            lost = before[letter] - self._standing[letter]
            if lost > 0:
                self._counts["deletions"] += lost
                self.chronicle.tell(f"{lost} of {letter} went, {self._standing[letter]} are left")
                if self._standing[letter] < self._min_copies:
                    raise self.chronicle.fail(f"only {self._standing[letter]} of {letter} are left")
        items = self._store.items()
        live = {
            holder: self._sessions[items[KEYS.session(holder)]]
            for holder in (key.removeprefix(KEYS.lives) for key in items if key.startswith(KEYS.lives))
        }
        for letter in LETTERS:
            self._look_at_counted(letter, items, live)
        if txn is not None and any(each.key == KEYS.settings for each in txn.compares):
            self._look_at_release(txn, items, live)

    def _look_at_counted(self, letter: str, items: Mapping[str, str], live: Mapping[str, FleetHost]) -> None:
        owners = []
        for holder, host in live.items():
            if KEYS.holding(digest(letter), holder) in items:
                owners.append(host)
                if not host.has(letter):
                    raise self.chronicle.fail(f"{holder} is counted with {letter}, and does not have it")
        if len(owners) != len({id(host) for host in owners}):
            raise self.chronicle.fail(f"one copy of {letter} is counted twice")

    def _look_at_release(self, txn: Txn, items: Mapping[str, str], live: Mapping[str, FleetHost]) -> None:
        for each in txn.success:
            holding = KEYS.holding_of(each.key) if isinstance(each, Delete) else None
            if holding is None:
                continue
            self._counts["releases"] += 1
            self.chronicle.tell(f"{holding[1]} releases {holding[0][-4:]}")
            counted = [
                holder
                for holder in live
                if KEYS.holding(holding[0], holder) in items and KEYS.drain(holder) not in items
            ]
            if len(counted) < self._min_copies:
                raise self.chronicle.fail(f"released while only {counted} count")
            if self._is_paused:
                raise self.chronicle.fail("released while the fleet was paused")
