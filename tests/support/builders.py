"""A host to test on: images, guests and states, in memory or on a real disk, and the clock and threads of an engine."""

import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, closing, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, TypeVarTuple

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import attrs
import pytest

from hmret.disk.deletion.trash.erasing import Freeing
from hmret.disk.deletion.trash.intents import TrashEntry as RetiredPlace
from hmret.disk.filesystem import Filesystem
from hmret.disk.layout import IMAGES, RETENTION, digest_of, hex_of
from hmret.engine.platform import Platform
from hmret.model.clock.clock_guard import ClockReading
from hmret.model.errors import EngineClosedError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.references import Key
from hmret.model.times import SECOND, datetime_of, format_time, timedelta_nanoseconds
from support.called import name_of
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import PATIENCE, patiently

__all__ = [
    "DATA",
    "START",
    "START_NS",
    "Actor",
    "Asker",
    "Ending",
    "FakeClock",
    "Gate",
    "GatedThreads",
    "Place",
    "data_fd_of",
    "digest",
    "end_while_queued",
    "end_while_working",
    "free",
    "has_image",
    "loop_clock",
    "make_config",
    "make_guest",
    "make_image",
    "make_snapshot",
    "make_state",
    "make_surroundings",
    "running",
    "set_tag",
    "settle",
    "state_of",
    "told",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Place = MemoryFilesystem | Path
"""Where a host is built: a disk in memory, with its data directory at `DATA`, or a data directory on a real one."""

DATA = "/data"
START_NS = 1_780_000_000 * SECOND
START = datetime_of(START_NS)


# Hosts.


def digest(letters: str) -> str:
    """Make the digest that these hex digits, over and over, stand for."""
    return digest_of((letters * 64)[:64])


def make_image(
    place: Place,
    repository: str,
    letters: str,
    *,
    tags: tuple[str, ...] = ("latest",),
    status: str = "ready",
    created_at: datetime = START - timedelta(days=400),
    size_bytes: int = 4096,
    has_disk: bool = True,
) -> Key:
    """Make an image as hypeman leaves it, with its tags."""
    key = repository, digest(letters)
    folder = f"{IMAGES}/{repository}/{hex_of(key[1])}"
    name = f"{repository}:{tags[0]}" if tags else f"{repository}@{key[1]}"
    metadata = {
        "name": name,
        "digest": key[1],
        "status": status,
        "size_bytes": size_bytes,
        "created_at": created_at.isoformat(),
    }
    if has_disk:
        _write(place, f"{folder}/rootfs.ext4", bytes(size_bytes))
    _write(place, f"{folder}/metadata.json", json.dumps(metadata).encode())
    for tag in tags:
        set_tag(place, repository, tag, letters)
    return key


def set_tag(place: Place, repository: str, tag: str, letters: str) -> None:
    """Point a tag to a digest, be it here or not."""
    path = f"{IMAGES}/{repository}/{tag}"
    target = hex_of(digest(letters))
    if isinstance(place, MemoryFilesystem):
        place.make_link(f"{DATA}/{path}", target)
        return
    link = place / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def make_guest(
    place: Place,
    name: str,
    image: str = "",
    *,
    resolved_image: str = "",
    created_at: datetime | None = None,
) -> str:
    """Make a guest's metadata; returns its path below the data directory."""
    path = f"guests/{name}/metadata.json"
    _write(place, path, json.dumps(_guest(image, resolved_image, created_at)).encode())
    return path


def make_snapshot(place: Place, name: str, image: str = "", *, resolved_image: str = "") -> str:
    """Make a snapshot's metadata; returns its path below the data directory."""
    path = f"snapshots/{name}/snapshot.json"
    document = {"snapshot": {"id": name}, "stored_metadata": _guest(image, resolved_image, None)}
    _write(place, path, json.dumps(document).encode())
    return path


def make_state(place: Place, key: Key, unused_since_ns: int) -> None:
    """Start the timer of an image."""
    state = {"repository": key[0], "digest": key[1], "unused_since": format_time(unused_since_ns)}
    _write(place, _state_path(key), json.dumps(state, indent=2).encode())


def state_of(place: Place, key: Key) -> str | None:
    """Read the timer of an image as its file has it; None where there is none."""
    if not _exists(place, _state_path(key)):
        return None
    if isinstance(place, MemoryFilesystem):
        content = place.read_file(f"{DATA}/{_state_path(key)}")
    else:
        content = (place / _state_path(key)).read_bytes()
    since: str = json.loads(content)["unused_since"]
    return since


def has_image(place: Place, key: Key) -> bool:
    """Tell whether the folder of an image is there."""
    return _exists(place, f"{IMAGES}/{key[0]}/{hex_of(key[1])}")


def _guest(image: str, resolved_image: str, created_at: datetime | None) -> dict[str, str]:
    fields = {"Image": image, "ResolvedImage": resolved_image}
    if created_at is not None:
        fields["CreatedAt"] = created_at.isoformat()
    return {key: value for key, value in fields.items() if value}


def _state_path(key: Key) -> str:
    return f"{RETENTION}/{key[0]}/{hex_of(key[1])}.json"


def _exists(place: Place, path: str) -> bool:
    if isinstance(place, MemoryFilesystem):
        return place.exists(f"{DATA}/{path}")
    return (place / path).exists()


def _write(place: Place, path: str, content: bytes) -> None:
    if isinstance(place, MemoryFilesystem):
        place.write_file(f"{DATA}/{path}", content)
        return
    file = place / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def make_config(
    place: Place,
    *,
    enabled: bool = True,
    unused_for: timedelta = timedelta(days=30),
    allowed: tuple[str, ...] = ("*",),
    sweep_interval: timedelta = timedelta(minutes=1),
    unreadable_references: Literal["suspend", "ignore"] = "suspend",
    **fields: Any,
) -> RetentionConfig:
    """Make settings under which everything may go, when its time has come; `fields` are those of the configuration."""
    return RetentionConfig(
        data_dir=DATA if isinstance(place, MemoryFilesystem) else place,
        auto_delete=AutoDelete(enabled=enabled, unused_for=unused_for, allowed=allowed),
        sweep_interval=sweep_interval,
        unreadable_references=unreadable_references,
        **fields,
    )


# Clocks and threads.


@attrs.define(eq=False)
class FakeClock:
    """Clocks that stand where they are set, and go on by what `elapsed_ns` tells."""

    wall_ns: int = START_NS
    boot_ns: int = 1_000_000 * SECOND
    boot_id: str = "first-boot"
    synchronised: bool = True
    elapsed_ns: Callable[[], int] = lambda: 0
    monotonic_ns: int = 1_000_000 * SECOND

    def now_ns(self) -> int:
        return self.wall_ns + self.elapsed_ns()

    def now(self) -> datetime:
        return datetime_of(self.now_ns())

    def read(self) -> ClockReading:
        elapsed_ns = self.elapsed_ns()
        return ClockReading(
            self.boot_id,
            self.boot_ns + elapsed_ns,
            self.now_ns(),
            self.synchronised,
            monotonic_ns=self.monotonic_ns + elapsed_ns,
        )

    def advance(self, duration: timedelta) -> None:
        """Let time pass in which the host sleeps: nobody misses anything, however long it is."""
        self.wall_ns += timedelta_nanoseconds(duration)
        self.boot_ns += timedelta_nanoseconds(duration)

    def run(self, duration: timedelta) -> None:
        """Let time pass in which the host is up and at work."""
        self.advance(duration)
        self.monotonic_ns += timedelta_nanoseconds(duration)


def loop_clock() -> FakeClock:
    """Make a clock that goes with the time of the event loop, from `START` on."""
    begin = anyio.current_time()
    return FakeClock(elapsed_ns=lambda: round((anyio.current_time() - begin) * SECOND))


@attrs.frozen(eq=False)
class Gate:
    """Where a function stands still until it is let go."""

    arrived: anyio.Event = attrs.field(factory=anyio.Event)
    opened: anyio.Event = attrs.field(factory=anyio.Event)


class GatedThreads:
    """Runs functions on the spot, each after the gate that was set up for its name, which it passes uncancelled."""

    lanes = lanes_of_a_cold_disk = 1

    def __init__(self) -> None:
        self._gates: dict[str, list[Gate]] = {}
        self._within: dict[str, tuple[MemoryFilesystem, str, Gate]] = {}

    def pause(self) -> None:
        """Go on: there is nobody to give way to."""

    def hold(self, name: str) -> Gate:
        """Hold up the next call of a function; of several gates for one name each takes one call."""
        gate = Gate()
        self._gates.setdefault(name, []).append(gate)
        return gate

    @staticmethod
    def urgent() -> AbstractContextManager[None]:
        """Nobody holds anybody up."""
        return nullcontext()

    @staticmethod
    def bulk() -> AbstractContextManager[None]:
        """Leave the garbage collector alone."""
        return nullcontext()

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(function, *arguments)

    async def run_alone(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(function, *arguments)

    def hold_within(self, name: str, filesystem: MemoryFilesystem, call: str) -> Gate:
        """Hold up the next call of a function in its midst, in a thread, right before a call of the file system."""
        gate = Gate()
        self._within[name] = filesystem, call, gate
        return gate

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await anyio.lowlevel.checkpoint()
        name = name_of(function)
        within = self._within.pop(name, None)
        if within is not None:
            return await self._run_held(within, function, *arguments)
        gates = self._gates.get(name)
        if gates:
            gate = gates.pop(0)
            gate.arrived.set()
            # Bounded, so that a test that fails before it opens the gate ends.
            with anyio.move_on_after(PATIENCE, shield=True):
                await gate.opened.wait()
        return function(*arguments)

    async def _run_held(
        self, within: tuple[MemoryFilesystem, str, Gate], function: Callable[[*Ts], T], *arguments: *Ts
    ) -> T:
        filesystem, name, gate = within
        before = filesystem.before
        worker = -1

        async def stand() -> None:
            gate.arrived.set()
            with anyio.move_on_after(PATIENCE, shield=True):
                await gate.opened.wait()

        def stop(call: Call) -> None:
            if call.name == name and threading.get_ident() == worker:
                filesystem.before = before
                anyio.from_thread.run(stand)

        def work() -> T:
            nonlocal worker
            worker = threading.get_ident()
            return function(*arguments)

        filesystem.before = stop
        return await anyio.to_thread.run_sync(work)


def make_surroundings(
    filesystem: MemoryFilesystem, clock: FakeClock, threads: GatedThreads | None = None
) -> Platform:
    """Put a host in memory under an engine."""
    return Platform(
        filesystem=filesystem, clock=clock, threads=threads or GatedThreads(), monotonic_ns=lambda: 0
    )


def data_fd_of(filesystem: MemoryFilesystem) -> int:
    """Open the data directory."""
    return filesystem.open(DATA, os.O_RDONLY | os.O_DIRECTORY)


# Freeing.


def free(
    filesystem: Filesystem, data_fd: int, place: RetiredPlace, stopping: Callable[[], bool] = lambda: False
) -> int | None:
    """Free the bytes of one retired folder."""
    with closing(Freeing(filesystem, data_fd, stopping)) as freeing:
        return freeing.free(place)


# Tasks.


async def settle() -> None:
    """Wait until every other task waits for something."""
    # On asyncio the wait below looks only every 0.1 s, so let what can be done be done before.
    for _ in range(100):
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()


class Actor(Protocol):
    """What all actors have in common."""

    async def run(self) -> None: ...
    def close(self) -> None: ...


A = TypeVar("A", bound=Actor)


@asynccontextmanager
async def running(actor: A) -> AsyncIterator[A]:
    """Let an actor serve while the block lasts."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(actor.run)
        try:
            yield actor
        finally:
            actor.close()


@attrs.define(eq=False)
class Asker:
    """Someone who asks, and what came of it."""

    is_answered: bool = False
    answer: object = None
    """What was answered, or the EngineClosedError that came instead."""

    async def ask(self, call: Callable[[], Awaitable[object]]) -> None:
        try:
            self.answer = await call()
        except EngineClosedError as error:
            self.answer = error
        self.is_answered = True

    @property
    def is_refused(self) -> bool:
        """Whether the actor ended before it answered."""
        return isinstance(self.answer, EngineClosedError)


Ending = Literal["closed", "cancelled"]
"""How an actor ends."""


async def end_while_queued(actor: Actor, call: Callable[[], Awaitable[object]], ending: Ending) -> Asker:
    """End an actor while a request waits in its mailbox."""
    asker = Asker()
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asker.ask, call)
            await settle()
            with anyio.CancelScope() as scope:
                if ending == "closed":
                    actor.close()
                else:
                    scope.cancel()
                await actor.run()
    return asker


async def end_while_working(
    actor: Actor, call: Callable[[], Awaitable[object]], ending: Ending, gate: Gate
) -> Asker:
    """End an actor while one of its requests stands before a gate."""
    asker = Asker()
    scope = anyio.CancelScope()

    async def serve() -> None:
        with scope:
            await actor.run()

    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            tasks.start_soon(asker.ask, call)
            await gate.arrived.wait()
            if ending == "closed":
                actor.close()
            else:
                scope.cancel()
            await settle()
            gate.opened.set()
    return asker


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    """List what was told of an event: the keys of each time, in order."""
    no_keys: dict[str, object] = {}
    events = [getattr(record, "hmret_event", ("", no_keys)) for record in caplog.records]
    return [keys for name, keys in events if name == event]
