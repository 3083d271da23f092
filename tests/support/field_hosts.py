"""Hosts of a fleet for proofs: a real fleet keeper and data directory each, and images that are empty files.

As a program it runs some hosts until it is killed: `python -m support.field_hosts CONFIG`. What they do is in
`<base>/log`, a line of JSON for each transaction and each deletion, written before the next step.
"""

import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import attrs

from hmret.actors.fleet.keeper import FleetKeeper
from hmret.actors.fleet.membership import MemberOptions
from hmret.actors.threads import WorkerThreads
from hmret.disk.filesystem import POSIX
from hmret.fleet.gateway import Gateway
from hmret.fleet.store import Delete, Health, OutcomeUnknownError, RangeResult, Store, Txn, TxnResult
from hmret.model.fleet import CopyRules, FleetState, FleetSummary, WholeCopy
from hmret.model.records.fleet import Seen
from support.patience import patiently

__all__ = ["Field", "FieldHost", "Rounds", "Tally", "host_name", "images_of", "make_digest"]

_POLICY = "0123456789abcdef"


def make_digest(number: int) -> str:
    """Make the digest of an image of the field."""
    return f"sha256:{number:064x}"


@attrs.frozen
class Field:
    """What hosts of one proof have in common."""

    base: str
    hosts: Sequence[str]
    endpoints: Sequence[str]
    fleet: str
    copies: int = 1
    """How many must be left elsewhere."""
    images: int = 40
    session_seconds: int = 3
    timeout: float = 2.0
    stays: float = 0.05
    """How often what was released stays after all."""
    pause: float = 0.02
    """Seconds between two steps of a host, at most."""

    def folder(self, host: str) -> Path:
        """Return the folder of a host's images."""
        return Path(self.base, host, "images")


def images_of(field: Field, host: str) -> set[str]:
    """Return the digests of the images that stand in a host's data directory."""
    return {f"sha256:{name}" for name in os.listdir(field.folder(host))}  # noqa: PTH208 - names


def host_name(host: str) -> str:
    """Return what a host is called in its fleet: one on a copy of `h0`'s data directory, `h0~1`, is called `h0` too."""
    return host.partition("~")[0]


class _Noted:
    """A store whose transactions that release something are noted, before and after."""

    def __init__(self, store: Store, note: Callable[..., None]) -> None:
        self._store = store
        self._note = note

    @property
    def seen(self) -> Seen | None:
        return self._store.seen

    def forget_seen(self) -> None:
        self._store.forget_seen()

    async def range(
        self, key: str, range_end: str = "", *, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        return await self._store.range(key, range_end, limit=limit, keys_only=keys_only)

    async def transact(self, txn: Txn) -> TxnResult:
        # Only a release reads again where it fails.
        if not (txn.failure and txn.success and isinstance(txn.success[0], Delete)):
            return await self._store.transact(txn)
        key = txn.success[0].key
        self._note("asked", key=key)
        try:
            result = await self._store.transact(txn)
        except OutcomeUnknownError:
            self._note("unknown", key=key)
            raise
        self._note("released" if result.succeeded else "refused", key=key, revision=result.revision)
        return result

    async def grant(self, seconds: int) -> int:
        return await self._store.grant(seconds)

    async def keep_alive(self, lease: int) -> int:
        return await self._store.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        await self._store.revoke(lease)

    async def health(self) -> Health:
        return await self._store.health()

    async def aclose(self) -> None:
        await self._store.aclose()


class FieldHost:
    """One host: it pulls images, and deletes what its fleet lets go."""

    def __init__(self, field: Field, name: str, seed: int, tally: "Tally | None" = None) -> None:
        self.field = field
        self.name = name
        self.random = random.Random(f"{name} {seed}")
        self.tally = tally or Tally()
        self.keeper: FleetKeeper | None = None
        self._joined = anyio.Event()
        self._folder = field.folder(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        (Path(field.base, name) / "system" / "hmret").mkdir(parents=True, exist_ok=True)
        self._log = os.open(Path(field.base, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, event: str, **facts: object) -> None:
        """Write a line into the log, at once."""
        line = json.dumps({"host": self.name, "event": event, **facts})
        os.write(self._log, (line + "\n").encode())
        self.tally.add(str(facts.get("reason", event)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FleetKeeper]:
        """Have the keeper run while the block lasts; it leaves the fleet at the end."""
        gateway = Gateway(
            self.field.endpoints,
            timeout=self.field.timeout,
            first=self.random.randrange(len(self.field.endpoints)),
        )
        options = MemberOptions(
            fleet=self.field.fleet,
            host=host_name(self.name),
            rules=CopyRules(min_copies=self.field.copies),
            session_seconds=self.field.session_seconds,
            timeout_seconds=self.field.timeout,
            version="0",
        )
        data_fd = os.open(Path(self.field.base, self.name), os.O_RDONLY | os.O_DIRECTORY)
        self.keeper = keeper = FleetKeeper(
            POSIX,
            data_fd,
            WorkerThreads(),
            _Noted(gateway, self.note),
            options,
            _now_ns,
            self._on_state,
            self._on_failure,
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keeper.run)
                keeper.use_policy(_POLICY)
                await keeper.tell_summary(
                    FleetSummary(copies=1000, disk_bytes=0, due=0, due_24h=0, policy=_POLICY, last_sweep=None)
                )
                await self.look()
                try:
                    yield keeper
                finally:
                    keeper.close()
        finally:
            os.close(data_fd)
            os.close(self._log)

    def _on_state(self, state: FleetState, detail: str | None) -> None:
        if state is FleetState.JOINED:
            self._joined.set()
        self.note("state", state=state.value, detail=detail)

    def _on_failure(self, error: Exception) -> None:
        self.note("failure", error=repr(error))

    async def look(self) -> None:
        """Tell the keeper what is here, as a survey does."""
        assert self.keeper is not None
        await self.keeper.saw(
            [WholeCopy(digest, 4096) for digest in sorted(images_of(self.field, self.name))]
        )

    def pull(self, digest: str) -> None:
        """Put an image here."""
        (self._folder / digest.removeprefix("sha256:")).touch()

    async def delete(self, digests: Sequence[str]) -> int:
        """Delete what the fleet lets go of some images; returns how many went."""
        keeper = self.keeper
        assert keeper is not None
        await keeper.take_token(len(digests))
        outcomes = await keeper.release(digests)
        released = []
        for digest, outcome in outcomes.items():
            if outcome.reason is None:
                released.append(digest)
            else:
                self.note("kept", reason=outcome.reason.value)
        gone = 0
        stayed = []
        for digest in released:
            if self.random.random() < self.field.stays:
                stayed.append(digest)
                continue
            self._check_others(digest)
            (self._folder / digest.removeprefix("sha256:")).unlink()
            self.note("deleted", digest=digest)
            gone += 1
        if stayed:
            await keeper.give_back(stayed)
        return gone

    def _check_others(self, digest: str) -> None:
        """Note a violation if fewer copies than must be left are on the disks of others."""
        # A copy that moves from a folder that was looked at to one that is not yet is seen the second time.
        for _ in range(2):
            if (
                sum(digest in images_of(self.field, host) for host in self.field.hosts if host != self.name)
                >= self.field.copies
            ):
                return
        self.note("violation", digest=digest)

    async def live(self) -> None:
        """Pull and delete at random, until a file says stop; then stay a member, until cancelled."""
        async with self.running():
            while not self._is_told_to_stop():
                await anyio.sleep(self.random.uniform(0, self.field.pause))
                here = sorted(images_of(self.field, self.name))
                if self.random.random() < 0.5 or not here:
                    count = self.random.randint(1, 4)
                    for _ in range(count):
                        self.pull(make_digest(self.random.randrange(self.field.images)))
                else:
                    await self.delete(self.random.sample(here, min(len(here), self.random.randint(1, 8))))
                await self.look()
            self.note("idle")
            await anyio.sleep_forever()

    def _is_told_to_stop(self) -> bool:
        return Path(self.field.base, "stop").exists()

    async def empty(self, rounds: "Rounds") -> None:
        """Delete all that the fleet lets go, until it holds back everything, here and on all hosts."""
        async with self.running():
            # Joined, a host has registered all that it has.
            await self._joined.wait()
            await rounds.end(1)
            gone = 1
            while await rounds.end(gone):
                here = sorted(images_of(self.field, self.name))
                self.random.shuffle(here)
                gone = 0
                for start in range(0, len(here), 10):
                    gone += await self.delete(here[start : start + 10])
                await self.look()


class Tally:
    """How often hosts of one event loop have noted what."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._added = anyio.Event()

    def add(self, event: str) -> None:
        """Count one more; of what was kept, by its reason."""
        self.counts[event] += 1
        self._added.set()
        self._added = anyio.Event()

    async def wait_more(self, event: str, count: int) -> None:
        """Wait for so many more of a kind."""
        wanted = self.counts[event] + count
        with patiently():
            while self.counts[event] < wanted:
                await self._added.wait()


class Rounds:
    """Where hosts of one event loop wait for each other after each round."""

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts
        self._waiting = 0
        self._sum = 0
        self._ended = anyio.Event()
        self._result = False

    async def end(self, count: int) -> bool:
        """Wait until all hosts have ended the round; returns whether the sum of their counts is not zero."""
        self._waiting += 1
        self._sum += count
        ended = self._ended
        if self._waiting == self._hosts:
            self._result = self._sum > 0
            self._waiting = self._sum = 0
            self._ended = anyio.Event()
            ended.set()
        await ended.wait()
        return self._result


def _now_ns() -> int:
    return int(datetime.now(UTC).timestamp() * 1e9)


async def _run(field: Field, hosts: Sequence[str], seed: int) -> None:
    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(FieldHost(field, host, seed).live)


def main(config: dict[str, Any]) -> None:
    """Run hosts until killed."""
    backend = config.pop("backend")
    hosts, seed = config.pop("run"), config.pop("seed")
    anyio.run(_run, Field(**config), hosts, seed, backend=backend)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
