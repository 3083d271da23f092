"""Hosts of a fleet with keepers of their own, on a store in memory and in virtual time."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import anyio
import attrs

from hmret.actors.fleet.keeper import FleetKeeper
from hmret.actors.fleet.membership import MemberOptions
from hmret.disk.layout import OWN
from hmret.disk.records.fleet import CACHE_ID, FLEET, FleetRecord
from hmret.fleet.keys import generation_key
from hmret.fleet.settings import encode_settings
from hmret.fleet.store import Delete, Put, Txn
from hmret.model.fleet import CopyRules, FleetSettings, FleetState, FleetSummary, ReleaseOutcome, WholeCopy
from hmret.model.times import SECOND, datetime_of
from hmret.model.verdicts import Reason
from support.builders import DATA, START_NS, data_fd_of
from support.fleet_keys import KEYS
from support.inline_threads import InlineThreads
from support.memory_client import Client
from support.memory_filesystem import MemoryFilesystem
from support.memory_store import MemoryStore

__all__ = ["POLICY", "TTL", "Fleet", "Host", "make_fleet"]

TTL = 60
POLICY = "00ff00ff00ff00ff"
_STEP = 0.05
_LONGEST_STEP = 2.0
_MOST_STEPS = 4000


@attrs.define(eq=False)
class Host:
    """A host: its data directory, the copies in it, and its keeper while it runs."""

    name: str
    fleet: "Fleet"
    filesystem: MemoryFilesystem
    rules: CopyRules
    images: dict[str, int] = attrs.field(factory=dict)
    """What stands in the data directory, with its bytes."""
    states: list[tuple[FleetState, str | None]] = attrs.field(factory=list)
    """Each way in which it stood to the fleet, in order."""
    failures: list[Exception] = attrs.field(factory=list)
    forgotten: list[str] = attrs.field(factory=list)
    _keeper: FleetKeeper | None = None
    _client: Client | None = None

    @property
    def keeper(self) -> FleetKeeper:
        assert self._keeper is not None
        return self._keeper

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    @property
    def holder(self) -> str:
        assert self.keeper.holder is not None
        return self.keeper.holder

    @asynccontextmanager
    async def running(self, *, stops: bool = True) -> AsyncIterator["Host"]:
        """Run the keeper while the block lasts; without `stops` the host is killed at its end."""
        fd = data_fd_of(self.filesystem)
        self._client = Client(self.fleet.store)
        self._keeper = FleetKeeper(
            self.filesystem,
            fd,
            InlineThreads(),
            self._client,
            MemberOptions(
                fleet=KEYS.fleet,
                host=self.name,
                rules=self.rules,
                session_seconds=self.fleet.session_seconds,
                timeout_seconds=2.0,
                version="0.2.0",
            ),
            self.fleet.now_ns,
            lambda state, detail: self.states.append((state, detail)),
            self.failures.append,
            self.forgotten.append,
            seed=next(self.fleet.seeds),
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keeper.run)
                yield self
                if not stops:
                    self._client.is_cut_off = True
                self._keeper.close()
                tasks.cancel_scope.cancel()
        finally:
            self.filesystem.close(fd)

    async def see(self) -> None:
        """Have a survey find what is here."""
        await self.keeper.saw([WholeCopy(digest, size) for digest, size in self.images.items()])

    async def join(self, *images: str) -> "Host":
        """Have images, and join with them."""
        self.images.update(dict.fromkeys(images, 4096))
        await self.use_policy()
        await self.see()
        await self.until(FleetState.JOINED)
        return self

    async def sweep(self) -> None:
        """Have a survey find what is here, and wait until the store has it."""
        await self.see()
        await anyio.sleep(1)

    async def use_policy(self, policy: str = POLICY) -> None:
        """Have a policy, and tell of it, as a sweep does."""
        self.keeper.use_policy(policy)
        await self.keeper.tell_summary(
            FleetSummary(
                copies=len(self.images),
                disk_bytes=sum(self.images.values()),
                due=0,
                due_24h=0,
                policy=policy,
                last_sweep=datetime_of(self.fleet.now_ns()),
            )
        )

    async def until(self, state: FleetState) -> None:
        """Wait for a state."""
        await until(lambda: self.keeper.state is state)

    async def release(self, *digests: str, for_space: bool = False) -> list[Reason | None]:
        """Release copies; returns the reasons of those that stay, None for those that go."""
        outcomes = await self.outcomes(*digests, for_space=for_space)
        return [outcomes[digest].reason for digest in digests]

    async def outcomes(self, *digests: str, for_space: bool = False) -> dict[str, ReleaseOutcome]:
        """Release copies; those that go are deleted, as an engine does."""
        outcomes = await self.keeper.release(digests, for_space=digests if for_space else ())
        for digest, outcome in outcomes.items():
            if outcome.is_released:
                self.images.pop(digest, None)
        return dict(outcomes)

    @contextmanager
    def record(self) -> Iterator[FleetRecord]:
        """Read the record as it is on the disk."""
        fd = data_fd_of(self.filesystem)
        try:
            yield FleetRecord(self.filesystem, fd)
        finally:
            self.filesystem.close(fd)

    def copied(self, name: str | None = None) -> "Host":
        """Make a host with a copy of this data directory."""
        copy = self.fleet.host(name or self.name, self.rules)
        copy.images = dict(self.images)
        copy.put_back(self.saved())
        return copy

    def saved(self) -> dict[str, bytes]:
        """Return what the keeper has written."""
        paths = (f"{DATA}/{OWN}/{name}" for name in (CACHE_ID, FLEET))
        return {path: self.filesystem.read_file(path) for path in paths if self.filesystem.exists(path)}

    def put_back(self, saved: dict[str, bytes]) -> None:
        """Put back what was saved."""
        for path, content in saved.items():
            self.filesystem.write_file(path, content)


@attrs.define(eq=False)
class Fleet:
    """The store, and the hosts."""

    store: MemoryStore
    begin: float
    seeds: Iterator[int] = attrs.field(factory=itertools.count)
    session_seconds: int = TTL
    """Of hosts that begin to run; long ones make months of waiting short."""

    def now_ns(self) -> int:
        """Return the wall clock of all hosts, which goes with the event loop."""
        return START_NS + round((anyio.current_time() - self.begin) * SECOND)

    def host(self, name: str, rules: CopyRules | None = None) -> Host:
        """Make a host with an empty data directory."""
        filesystem = MemoryFilesystem(self.now_ns)
        filesystem.make_folder(f"{DATA}/images")
        return Host(name, self, filesystem, rules or CopyRules(last_copies_for=None))

    def put(self, key: str, value: str) -> None:
        """Write a key."""
        self.store.carry_out(Txn((), (Put(key, value),)))

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.store.carry_out(Txn((), (Delete(key),)))

    def set_settings(self, **settings: Any) -> None:
        """Write the settings; those that are not given are such that tokens are plenty, and no policy is young."""
        plenty = {"canary": timedelta(0), "budget": "2000"}
        self.put(KEYS.settings, encode_settings(FleetSettings(**{**plenty, **settings})))

    def has(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self.store.items()

    def value(self, key: str) -> str:
        """Return the value of a key."""
        return self.store.items()[key]

    def holders(self, digest: str) -> set[str]:
        """List who holds a digest, counted or not."""
        found = (KEYS.holding_of(key) for key in self.store.items(KEYS.copies(digest)))
        return {each[1] for each in found if each is not None}

    def counted(self, digest: str) -> set[str]:
        """List whose copies of a digest count."""
        return {holder for holder in self.holders(digest) if self.has(KEYS.live(holder))}


def make_fleet(**settings: Any) -> Fleet:
    """Make a store with a fleet in it, on the clock of the running event loop."""
    fleet = Fleet(MemoryStore(), anyio.current_time())
    fleet.put(generation_key(KEYS.fleet), KEYS.generation)
    fleet.set_settings(**settings)
    return fleet


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so; fails after some hours of virtual time."""
    step = _STEP
    for _ in range(_MOST_STEPS):
        if holds():
            return
        await anyio.sleep(step)
        step = min(1.02 * step, _LONGEST_STEP)
    raise AssertionError("it is still not so after hours")
