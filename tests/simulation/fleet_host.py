"""A host of the simulated fleet: its disk, the engine that runs on it, and its way to the store."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import attrs
import trio

from hmret.actors.fleet.keeper import FleetKeeper
from hmret.actors.fleet.membership import MemberOptions
from hmret.disk.records.fleet import FleetRecord
from hmret.engine.events import EventHub
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.engine.tasks import running
from hmret.fleet.keys import make_holder
from hmret.fleet.store import Put, Txn
from hmret.model.errors import EngineClosedError, ImageNotFoundError
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from simulation.chronicle import Chronicle
from simulation.clocks import VirtualClock
from support.builders import DATA, data_fd_of, digest, has_image, make_config, make_image
from support.fleet_keys import KEYS
from support.inline_threads import InlineThreads
from support.memory_client import Client, Fate, Request
from support.memory_filesystem import Call, Crash, MemoryFilesystem
from support.memory_store import MemoryStore

__all__ = ["LETTERS", "REPOSITORY", "FleetHost", "Weather"]

LETTERS = "abcd"
REPOSITORY = "docker.io/library/alpine"
SESSION_SECONDS = 60
_TIMEOUT_SECONDS = 2.0
_ENDPOINT = "http://memory.invalid:2379"
_BAD_FATES = (Fate.LOST, Fate.UNANSWERED, Fate.LATE, Fate.UNREACHABLE)


@attrs.frozen(kw_only=True)
class Weather:
    """How likely something happens."""

    bad_answer: float
    """To a request."""
    delay: float
    """Of a request, by up to some seconds; by more than a lease, a tenth as often."""
    crash: float
    """At a system call."""


@attrs.define(eq=False)
class FleetHost:
    """One data directory, with an engine that is killed, stopped and started again."""

    name: str
    filesystem: MemoryFilesystem
    store: MemoryStore
    clock: VirtualClock
    chronicle: Chronicle
    rng: random.Random
    weather: Weather
    sessions: dict[str, "FleetHost"]
    """Whose session each is, by its mark."""
    min_copies: int
    on_failure: Callable[[Exception], None]
    on_recovered: Callable[[], None]
    """Called when a kill or a power cut has left another disk."""
    is_calm: bool = False
    """Whether nothing goes wrong."""
    is_up: bool = False
    """Whether an engine runs, starts or stops."""
    kills: int = 0
    retention: Retention | None = None
    """The engine while it runs."""
    keeper: FleetKeeper | None = None
    _client: Client | None = None
    _left: MemoryFilesystem | None = None
    """The disk as a kill has left it."""

    def has(self, letter: str) -> bool:
        """Tell whether an image stands here."""
        return has_image(self.filesystem, (REPOSITORY, digest(letter)))

    def pull(self, letter: str) -> None:
        """Have an image, as a pull leaves it."""
        before, self.filesystem.before = self.filesystem.before, None
        make_image(self.filesystem, REPOSITORY, letter, tags=(letter,), created_at=self.clock.now())
        self.filesystem.before = before

    def holder(self) -> str | None:
        """Tell which holder this directory is by what is on its disk; None: it has no cache id yet."""
        disk = self.filesystem.crashed_copy()
        fd = data_fd_of(disk)
        cache_id = FleetRecord(disk, fd).cache_id
        disk.close(fd)
        return make_holder(self.name, cache_id) if cache_id else None

    async def live(self, seconds: float) -> None:
        """Run an engine for some time, to a stop or a kill."""
        self.filesystem.before = self._before
        self._left = None
        self.is_up = True
        self.chronicle.tell(f"{self.name}: an engine starts")
        try:
            async with open_engine(
                self._config(),
                Platform(self.filesystem, self.clock, InlineThreads(), self.clock.boot_ns),
                scheduled=True,
                open_fleet=self._open_fleet,
            ) as retention:
                self.retention = retention
                await trio.sleep(seconds)
        except BaseException as error:
            if self._left is None or _is_cancelled(error):
                raise
        finally:
            self.retention = self.keeper = None
        if self._left is None:
            self.chronicle.tell(f"{self.name}: the engine has stopped")
            self.filesystem.before = None
        else:
            self._recover()
        self.is_up = False

    def _recover(self) -> None:
        assert self._left is not None
        self.kills += 1
        lost_power = self.rng.random() < 0.5
        self.filesystem = self._left.after_power_loss(self.rng) if lost_power else self._left
        self.on_recovered()
        self.chronicle.tell(f"{self.name}: {'power was lost' if lost_power else 'the engine was killed'}")

    def _before(self, _call: Call) -> None:
        self.clock.tick()
        if self._left is not None:
            raise Crash
        if not self.is_calm and self.rng.random() < self.weather.crash:
            self.kill()
            raise Crash

    def kill(self) -> None:
        """End the engine where it stands: its next system call, and all that it would still send, come to nothing."""
        self._left = self.filesystem.crashed_copy()
        if self._client is not None:
            self._client.is_cut_off = True

    def _config(self) -> RetentionConfig:
        return make_config(
            self.filesystem,
            unused_for=timedelta(minutes=10),
            sweep_interval=timedelta(minutes=3),
            fleet=FleetConfig(
                endpoints=(_ENDPOINT,), min_copies=self.min_copies, last_copies_for="never", host=self.name
            ),
        )

    @asynccontextmanager
    async def _open_fleet(
        self, config: RetentionConfig, platform: Platform, data_fd: int, _events: EventHub
    ) -> AsyncIterator[FleetKeeper]:
        self._client = Client(self.store)
        self._client.fate = self._fate
        self.keeper = FleetKeeper(
            platform.filesystem,
            data_fd,
            platform.threads,
            self._client,
            MemberOptions(
                fleet=KEYS.fleet,
                host=self.name,
                rules=config.fleet.rules,
                session_seconds=SESSION_SECONDS,
                timeout_seconds=_TIMEOUT_SECONDS,
                version="0",
            ),
            self.clock.now_ns,
            lambda state, detail: self._tell(f"{state}{'' if detail is None else f' ({detail})'}"),
            self.on_failure,
            seed=self.rng.randrange(1 << 30),
        )
        async with running((self.keeper,)):
            yield self.keeper

    def _tell(self, event: str) -> None:
        self.chronicle.tell(f"{self.name}: {event}")

    async def _fate(self, request: Request) -> Fate:
        """Draw what becomes of a request; note whose a session is that it may begin."""
        if isinstance(request, Txn):
            for each in request.success:
                if isinstance(each, Put) and each.key.startswith(KEYS.sessions):
                    self.sessions[each.value] = self
        if self.is_calm:
            return Fate.DONE
        if self.rng.random() < self.weather.delay:
            longest = 1.5 * SESSION_SECONDS if self.rng.random() < 0.1 else _TIMEOUT_SECONDS
            await trio.sleep(self.rng.uniform(0, longest))
        return self.rng.choice(_BAD_FATES) if self.rng.random() < self.weather.bad_answer else Fate.DONE

    async def use(self, letter: str) -> None:
        """Mark an image used, if it is here."""
        if await self._ask(lambda retention: retention.mark_used(f"{REPOSITORY}@{digest(letter)}")):
            self._tell(f"{letter} is used")

    async def sweep(self) -> None:
        """Sweep now."""
        await self._ask(lambda retention: retention.sweep())

    async def _ask(self, call: Callable[[Retention], Awaitable[object]]) -> bool:
        """Call the engine, if it runs; whatever it makes of the call while it is killed does not matter."""
        if self.retention is None or self._left is not None:
            return False
        try:
            await call(self.retention)
        except (ImageNotFoundError, EngineClosedError):
            return False
        except BaseException as error:
            if self._left is None or _is_cancelled(error):
                raise
            return False
        return True


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_cancelled, error.exceptions))
    return isinstance(error, trio.Cancelled)


def disk_of(clock: VirtualClock) -> MemoryFilesystem:
    """Make a disk with an empty data directory."""
    filesystem = MemoryFilesystem(clock.now_ns)
    for folder in ("images", "guests", "snapshots", "system"):
        filesystem.make_folder(f"{DATA}/{folder}")
    return filesystem
