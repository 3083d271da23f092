"""What a fleet costs its etcd: bytes, memory and processor time, on one real member that this program starts and fills.

`python benchmarks/fleet.py --holdings 50000 100000 200000` fills a member in steps and measures after each: the size of
its database and its memory, and what a join, a release, a question and a status cost. Then it says what 1,000 hosts of
2,000 images come to. The member's data are in memory, so the disk is not part of what is measured.
"""

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path

from attrs import frozen

from hmret.fleet.gateway import Gateway
from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.operating import FleetOperator
from hmret.fleet.reading import (
    MOST_DIGESTS,
    HolderRead,
    holder_operations,
    judge_release,
    parse_reading,
    read_operations,
)
from hmret.fleet.store import Put, Range, Txn
from hmret.fleet.stored_values import encode_summary
from hmret.fleet.transactions import (
    MOST_HOLDINGS,
    NewMark,
    Session,
    go_live,
    join,
    register,
    release,
)
from hmret.model.fleet import CopyRules, FleetSummary, ReleaseOutcome
from hmret.model.times import datetime_of

__all__ = ["main"]

_FLEET = "benchmark"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_IMAGES_OF_A_HOST = 500
_HOSTS_OF_A_FLEET, _IMAGES_OF_EACH = 1000, 2000
_QUOTA = 8 << 30
_MIB = 1 << 20


@frozen
class Cost:
    """What one call costs."""

    seconds: float
    """Of the wall clock."""
    member_seconds: float
    """Of the member's processor."""
    own_seconds: float
    """Of this process's."""

    def __str__(self) -> str:
        parts = (self.seconds, self.member_seconds, self.own_seconds)
        return " ".join(f"{1000 * part:9.2f}" for part in parts)


@frozen
class Size:
    """How large the member is."""

    holdings: int
    database_bytes: int
    memory_bytes: int


class Member:
    """A process of etcd."""

    def __init__(self, process: "subprocess.Popen[bytes]", endpoint: str) -> None:
        self.process = process
        self.endpoint = endpoint

    def processor_seconds(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_bytes(self) -> int:
        """Return what of it is in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE


@contextmanager
def member() -> Iterator[Member]:
    """Run a member while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="hmret-fleet-", dir="/dev/shm") as folder:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            client, peer = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in (one, other))
        command = ["etcd", "--data-dir", f"{folder}/data", "--quota-backend-bytes", str(_QUOTA)]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}", "--auto-compaction-retention", "5m"]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                yield Member(process, client)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


class Filled:
    """The fleet with which a member is filled: hosts that are live, each with images that some others have, too."""

    def __init__(self, store: Gateway, keys: FleetKeys) -> None:
        self.store = store
        self.keys = keys
        self.holdings = 0
        self.hosts: list[Session] = []
        self._marks: dict[str, str] = {}
        """By holder, the last that it has put into the store."""
        self._now_ns = time.time_ns()
        self._generator = random.Random(1)

    def digest(self, number: int) -> str:
        """Make one of the digests of the fleet."""
        return f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"

    def images(self, number: int) -> list[str]:
        """Choose the images of a host: half of them are those of its neighbours."""
        first = number * _IMAGES_OF_A_HOST // 2
        return [self.digest(first + each) for each in range(_IMAGES_OF_A_HOST)]

    async def begin(self) -> None:
        """Make the fleet."""
        await FleetOperator(self.store, _FLEET).init()
        key = generation_key(_FLEET)
        generation = (await self.store.range(key)).value(key)
        assert generation is not None
        self.keys = FleetKeys(_FLEET, generation)

    async def add_host(self) -> None:
        """Have one more host join with all its images."""
        number = len(self.hosts)
        session = await self.join(f"hypervisor-{number:04}.example.{number:08x}")
        await self.register(session, self.images(number))
        self.hosts.append(session)
        self.holdings += _IMAGES_OF_A_HOST

    async def join(self, holder: str) -> Session:
        """Have a holder join, without images."""
        found = HolderRead.of(
            (await self.store.transact(Txn((), holder_operations(self.keys, holder)))).results
        )
        lease = await self.store.grant(24 * 3600)
        session = Session(self.keys, holder, self._mark(), lease)
        assert (await self.store.transact(join(session, found))).succeeded
        self._marks[holder] = session.id
        assert (await self.store.transact(go_live(session, self._summary()))).succeeded
        return session

    async def register(self, session: Session, digests: Sequence[str]) -> None:
        """Register copies."""
        for start in range(0, len(digests), MOST_HOLDINGS):
            batch = dict.fromkeys(digests[start : start + MOST_HOLDINGS], 2_000_000_000)
            txn = register(session, batch, self._next_mark(session), self._now_ns)
            assert (await self.store.transact(txn)).succeeded

    async def release_one(self, digest: str, session: Session) -> None:
        """Release a copy with two witnesses, and put it back."""
        read = Txn((), read_operations(self.keys, session.holder, [digest], token=0))
        results = (await self.store.transact(read)).results
        fleet, copies = parse_reading(self.keys, session.id, [digest], results, holder=session.holder)
        rules = CopyRules(min_copies=2, last_copies_for=None)
        witnesses = judge_release(copies[digest], fleet, rules, session.holder, datetime_of(self._now_ns))
        assert not isinstance(witnesses, ReleaseOutcome), witnesses
        assert (await self.store.transact(release(session, copies[digest], fleet, witnesses, 0))).succeeded

    def _next_mark(self, session: Session) -> NewMark:
        """Make a mark for the next transaction of a session, which is sure to be carried out."""
        mark, last_mark = self._mark(), self._marks[session.holder]
        self._marks[session.holder] = mark
        return NewMark(mark, last_mark)

    def _mark(self) -> str:
        return f"{self._generator.getrandbits(64):016x}"

    def _summary(self) -> str:
        summary = FleetSummary(
            copies=_IMAGES_OF_A_HOST,
            disk_bytes=10**12,
            due=3,
            due_24h=12,
            policy="0123456789abcdef",
            last_sweep=datetime_of(self._now_ns),
        )
        return encode_summary(summary, "0.2.0")


async def measure(member: Member, rounds: int, call: Callable[[int], Awaitable[object]]) -> Cost:
    """Measure a call: the median of the wall clock, the mean of processors, whose clocks are coarse."""
    walls = []
    member_begin, own_begin = member.processor_seconds(), time.process_time()
    for number in range(rounds):
        begin = time.perf_counter()
        await call(number)
        walls.append(time.perf_counter() - begin)
    return Cost(
        statistics.median(walls),
        (member.processor_seconds() - member_begin) / rounds,
        (time.process_time() - own_begin) / rounds,
    )


async def measure_all(member: Member, filled: Filled, rounds: int) -> dict[str, Cost]:
    """Measure what hosts do."""
    store, keys = filled.store, filled.keys
    number = len(filled.hosts)
    joined: list[Session] = []

    async def join_one(each: int) -> None:
        joined.append(await filled.join(f"newcomer-{number}-{each}.example.{each:08x}"))

    costs = {"join without images": await measure(member, rounds, join_one)}
    newcomer = joined[0]
    shared = [filled.digest(each) for each in range(_IMAGES_OF_A_HOST // 2, 2 * _IMAGES_OF_A_HOST)]
    costs[f"register {MOST_HOLDINGS} copies"] = await measure(
        member,
        rounds,
        lambda each: filled.register(
            newcomer, [filled.digest(10**9 + each * 1000 + n) for n in range(MOST_HOLDINGS)]
        ),
    )
    token = Put(keys.token(0), newcomer.token_value)
    await filled.register(newcomer, shared[:rounds])
    await store.transact(Txn((), (token,)))
    costs["release (read and transaction, k = 2)"] = await measure(
        member, min(rounds, len(shared)), lambda each: filled.release_one(shared[each], newcomer)
    )
    question = read_operations(keys, newcomer.holder, shared[:MOST_DIGESTS], token=0)
    costs[f"question about {MOST_DIGESTS} digests"] = await measure(
        member, rounds, lambda _: store.transact(Txn((), question))
    )
    costs["keepalive"] = await measure(member, rounds, lambda _: store.keep_alive(newcomer.lease))
    costs["status"] = await measure(
        member, max(rounds // 10, 3), lambda _: FleetOperator(store, _FLEET).status()
    )
    costs["who holds one image"] = await measure(
        member, rounds, lambda each: FleetOperator(store, _FLEET).holdings(shared[each % len(shared)])
    )
    for each in joined:
        await store.revoke(each.lease)
    return costs


async def run(steps: Sequence[int], rounds: int) -> None:
    """Fill a member in steps, measure after each, and say what a large fleet comes to."""
    with member() as etcd:
        async with aclosing(Gateway([etcd.endpoint], timeout=30)) as store:
            await wait_until_it_answers(store)
            empty = Size(0, (await store.health()).size_bytes, etcd.memory_bytes())
            filled = Filled(store, FleetKeys(_FLEET, "0"))
            await filled.begin()
            sizes = [empty]
            for step in steps:
                begin, processor = time.perf_counter(), etcd.processor_seconds()
                before = filled.holdings
                while filled.holdings < step:
                    await filled.add_host()
                seconds = time.perf_counter() - begin
                spent = etcd.processor_seconds() - processor
                added = filled.holdings - before
                size = Size(filled.holdings, (await store.health()).size_bytes, etcd.memory_bytes())
                sizes.append(size)
                show_size(size, empty)
                print(
                    f"  loaded {added / seconds:,.0f} a second; {1e6 * spent / added:.0f} µs of the member each"
                )
                print(f"  {'ms':>50} {'wall':>9} {'member':>9} {'client':>9}")
                for name, cost in (await measure_all(etcd, filled, rounds)).items():
                    print(f"  {name:>50} {cost}")
            foretell(sizes)


async def wait_until_it_answers(store: Gateway) -> None:
    """Wait for a member that has just been started."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await store.transact(Txn((), (Range("/"),)))
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


def show_size(size: Size, empty: Size) -> None:
    """Say how large a member is."""
    each = (size.database_bytes - empty.database_bytes) / size.holdings
    memory = (size.memory_bytes - empty.memory_bytes) / size.holdings
    print(
        f"{size.holdings:,} holdings of {size.holdings // _IMAGES_OF_A_HOST} hosts: "
        f"database {size.database_bytes / _MIB:.0f} MiB ({each:.0f} B each), "
        f"memory {size.memory_bytes / _MIB:.0f} MiB ({memory / 1024:.2f} KiB each)"
    )


def foretell(sizes: Sequence[Size]) -> None:
    """Say what a large fleet comes to, by a straight line through the smallest and the largest that were measured."""
    first, last = sizes[0] if len(sizes) == 2 else sizes[1], sizes[-1]
    holdings = _HOSTS_OF_A_FLEET * _IMAGES_OF_EACH
    grown = last.holdings - first.holdings
    database = last.database_bytes + (last.database_bytes - first.database_bytes) / grown * (
        holdings - last.holdings
    )
    memory = last.memory_bytes + (last.memory_bytes - first.memory_bytes) / grown * (holdings - last.holdings)
    print(
        f"{_HOSTS_OF_A_FLEET:,} hosts of {_IMAGES_OF_EACH:,} images, not measured but extrapolated: "
        f"database {database / _MIB:.0f} MiB of a quota of {_QUOTA >> 30} GiB, memory {memory / (1 << 30):.1f} GiB"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--holdings", type=int, nargs="+", default=[50_000, 100_000, 200_000])
    parser.add_argument("--rounds", type=int, default=50, help="how often each call is measured")
    given = parser.parse_args(arguments)
    if shutil.which("etcd") is None:
        print(
            "etcd is not installed: apt-get install -y --no-install-recommends etcd-server", file=sys.stderr
        )
        return 1
    asyncio.run(run(given.holdings, given.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
