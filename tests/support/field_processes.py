"""A fleet of processes for proofs: hosts that are killed and paused, an etcd that is, and what must hold after all."""

import json
import random
import shutil
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import anyio
import attrs
import pytest

from hmret.fleet.gateway import Gateway
from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.store import Delete, Put, Txn, prefix_end
from support.bounds import IS_WHOLE
from support.children import Child, child
from support.etcd import Cluster
from support.field_hosts import Field, host_name, images_of
from support.fleet_history import judge_releases, read_history, releases_in
from support.patience import wait_until

__all__ = [
    "Outcome",
    "Processes",
    "change_settings",
    "end_tokens",
    "found_fleet",
    "found_fleet_async",
    "holder_of",
    "judge",
    "settings_text",
    "tell",
    "wait_settled",
]


def settings_text(**changed: object) -> str:
    """Make the settings of a fleet that brakes nothing, but for what is changed."""
    settings = {
        "min_copies": 1,
        "budget": "1000000",
        "tokens": 100,
        "canary": "0s",
        "forget_after": "720h",
        "paused": None,
    }
    return json.dumps({**settings, **changed})


def found_fleet(cluster: Cluster, fleet: str, **settings: object) -> FleetKeys:
    """Start a fleet, as `hmret fleet init` does; returns its keys."""
    return anyio.run(partial(found_fleet_async, cluster, fleet, **settings))


async def found_fleet_async(cluster: Cluster, fleet: str, **settings: object) -> FleetKeys:
    """Start a fleet, on the event loop that runs."""
    keys = FleetKeys(fleet, uuid.uuid4().hex)
    gateway = Gateway(cluster.endpoints, timeout=30)
    puts = (Put(generation_key(fleet), keys.generation), Put(keys.settings, settings_text(**settings)))
    await gateway.transact(Txn((), puts))
    await gateway.aclose()
    return keys


async def change_settings(cluster: Cluster, keys: FleetKeys, **settings: object) -> int:
    """Write the settings of a fleet; returns the revision at which they changed."""
    gateway = Gateway(cluster.endpoints, timeout=30)
    result = await gateway.transact(Txn((), (Put(keys.settings, settings_text(**settings)),)))
    await gateway.aclose()
    return result.revision


def end_tokens(cluster: Cluster, keys: FleetKeys) -> None:
    """Have the time of all deletion tokens be over, which else takes an hour; hosts that were killed leave theirs."""

    async def delete() -> None:
        gateway = Gateway(cluster.endpoints, timeout=30)
        await gateway.transact(Txn((), (Delete(keys.tokens, prefix_end(keys.tokens)),)))
        await gateway.aclose()

    anyio.run(delete)


@attrs.frozen
class Outcome:
    """What came of a proof."""

    releases: int
    unheard: int
    """Those of them whose answer nobody has heard."""
    deleted: int
    refused: int
    sessions: int
    violations: Sequence[str]
    revisions: Sequence[int]
    """Those at which something was released."""

    def __str__(self) -> str:
        return (
            f"{self.releases} releases ({self.unheard} of them unheard of), {self.deleted} deleted, {self.refused} "
            f"refused at the last moment, {self.sessions} sessions, {len(self.violations)} violations"
        )


def tell(capsys: pytest.CaptureFixture[str], name: str, outcome: Outcome, *remarks: str) -> None:
    """Print what came of a proof where it is played as a whole, for whoever keeps the figures."""
    if IS_WHOLE:
        with capsys.disabled():
            print(f"\n{name}: {'; '.join((*remarks, str(outcome)))}")  # noqa: T201 - the figures


def read_log(field: Field) -> list[dict[str, object]]:
    """Read what hosts have noted; the last line of one that was killed may be cut off."""
    file = Path(field.base, "log")
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]


def judge(cluster: Cluster, field: Field, keys: FleetKeys) -> Outcome:
    """Look up each commit of a release in etcd's history, and what hosts have seen on each other's disks."""
    log = read_log(field)
    last = anyio.run(_mark_end, cluster, keys)
    running = next(member for member in cluster.members if member.is_running)
    changes = read_history(running.endpoint, keys.root, last)
    releases = releases_in(changes, log)
    events = Counter(line["event"] for line in log)
    violations = list(judge_releases(changes, releases, keys, field.copies))
    violations += [f"{line}" for line in log if line["event"] in {"violation", "failure"}]
    return Outcome(
        releases=len(releases),
        unheard=len(releases) - events["released"],
        deleted=events["deleted"],
        refused=events["refused"],
        sessions=sum(change.key.startswith(keys.sessions) and change.now is not None for change in changes),
        violations=violations,
        revisions=[release.revision for release in releases],
    )


async def _mark_end(cluster: Cluster, keys: FleetKeys) -> int:
    gateway = Gateway(cluster.endpoints, timeout=30)
    result = await gateway.transact(Txn((), (Put(f"{keys.root}end", ""),)))
    await gateway.aclose()
    return result.revision


def counted_copies(cluster: Cluster, keys: FleetKeys) -> dict[str, set[str]]:
    """Return the digests that each holder has registered, and that count."""

    async def read() -> dict[str, set[str]]:
        gateway = Gateway(cluster.endpoints, timeout=30)
        found = await gateway.range(keys.holdings, prefix_end(keys.holdings), keys_only=True)
        live = await gateway.range(keys.lives, prefix_end(keys.lives), keys_only=True)
        await gateway.aclose()
        copies: dict[str, set[str]] = {}
        for key_value in live.key_values:
            copies[key_value.key.removeprefix(keys.lives)] = set()
        for key_value in found.key_values:
            held = keys.holding_of(key_value.key)
            if held is not None and held[1] in copies:
                copies[held[1]].add(held[0])
        return copies

    return anyio.run(read)


class Processes:
    """Hosts in processes, some in each, which are killed, paused and started again."""

    def __init__(
        self, field: Field, backend: str, seed: int, *, each: int = 1, hosts: Sequence[str] = ()
    ) -> None:
        self.field = field
        self.random = random.Random(seed)
        self.kills = self.pauses = 0
        self._backend = backend
        self._seed = seed
        running = list(hosts or field.hosts)
        self._groups = [running[start : start + each] for start in range(0, len(running), each)]
        self._stacks = [ExitStack() for _ in self._groups]
        self._running: list[Child | None] = [None] * len(self._groups)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run all of them while the block lasts."""
        for host in self.field.hosts:
            self.field.folder(host).mkdir(parents=True, exist_ok=True)
        try:
            for number in range(len(self._groups)):
                self._start(number)
            yield
        finally:
            for stack in self._stacks:
                stack.close()

    def _start(self, number: int) -> None:
        self._seed += 1
        config = {
            **attrs.asdict(self.field),
            "backend": self._backend,
            "run": list(self._groups[number]),
            "seed": self._seed,
        }
        command = [sys.executable, "-m", "support.field_hosts", json.dumps(config)]
        self._running[number] = self._stacks[number].enter_context(
            child(command, cwd=Path(__file__).parents[1])
        )

    def kill_one(self) -> None:
        """Kill a process at whatever it is doing, and start it again."""
        number = self.random.randrange(len(self._groups))
        self._stacks[number].close()
        self.kills += 1
        self._start(number)

    def pause_one(self, seconds: float) -> None:
        """Have a process stand still for a while."""
        process = self._running[self.random.randrange(len(self._groups))]
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        self.pauses += 1

    def end(self, host: str) -> None:
        """Kill a host's process for good."""
        number = self._groups.index([host])
        self._stacks[number].close()
        self._running[number] = None
        self.kills += 1

    def back_up(self, host: str, folder: Path) -> None:
        """Copy what a host has on record, at whatever it is doing."""
        with self._standing_still(host):
            shutil.copytree(Path(self.field.base, host, "system", "hmret"), folder)

    def put_back(self, host: str, folder: Path) -> None:
        """Kill a host, put a copy of its record in the place of that, and start it again."""
        self.end(host)
        own = Path(self.field.base, host, "system", "hmret")
        shutil.rmtree(own)
        shutil.copytree(folder, own)
        self._start(self._groups.index([host]))

    def start_copy(self, host: str, copy: str) -> None:
        """Copy the whole data directory of a host, at whatever it is doing, and run another host on the copy."""
        with self._standing_still(host):
            shutil.copytree(Path(self.field.base, host), Path(self.field.base, copy), dirs_exist_ok=True)
        self._groups.append([copy])
        self._stacks.append(ExitStack())
        self._running.append(None)
        self._start(len(self._groups) - 1)

    @contextmanager
    def _standing_still(self, host: str) -> Iterator[None]:
        process = self._running[self._groups.index([host])]
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def assert_alive(self) -> None:
        """Fail if one has ended by itself."""
        for process in self._running:
            assert process is None or process.poll() is None, f"ended with {process.returncode}"

    def count(self, event: str, **facts: str) -> int:
        """Return how many lines of a kind, with these facts, are in the log."""
        if not Path(self.field.base, "log").exists():
            return 0
        wanted = {"event": event, **facts}
        return sum(wanted.items() <= line.items() for line in read_log(self.field))

    def wait_events(self, event: str, count: int, **facts: str) -> None:
        """Wait until there are so many."""

        def is_so() -> bool:
            self.assert_alive()
            return self.count(event, **facts) >= count

        wait_until(is_so, f"{count} times {event} {facts}", pause=lambda: time.sleep(0.05))

    def state(self, host: str) -> object:
        """Return how a host stands to its fleet, as it has noted last."""
        states = (line for line in read_log(self.field) if (line["event"], line["host"]) == ("state", host))
        return [None, *(line["state"] for line in states)][-1]

    def wait_state(self, host: str, *states: str) -> None:
        """Wait until a host stands to its fleet in one of these ways."""

        def is_so() -> bool:
            self.assert_alive()
            return self.state(host) in states

        wait_until(is_so, f"{host} is {' or '.join(states)}", pause=lambda: time.sleep(0.05))


def wait_settled(cluster: Cluster, field: Field, keys: FleetKeys, hosts: Sequence[str] = ()) -> None:
    """Have the hosts, all of the field or some, do nothing more, and wait until exactly what they have counts."""
    Path(field.base, "stop").touch()

    def is_settled() -> bool:
        counted = counted_copies(cluster, keys)
        here = {holder_of(field, host): images_of(field, host) for host in hosts or field.hosts}
        return counted == here

    wait_until(is_settled, "what counts is what is there", pause=lambda: time.sleep(0.1))


def holder_of(field: Field, host: str) -> str:
    """Return the holder that a host's data directory is now."""
    cache_id = Path(field.base, host, "system", "hmret", "cache-id").read_text().strip()
    return f"{host_name(host)}.{cache_id}"
