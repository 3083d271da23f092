"""Runs the demonstration: its folder, the engine, the page, and the ending."""

import asyncio
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import anyio
import msgspec

from hmret.api.http.control_socket import listening_socket
from hmret.api.http.guards import own_names
from hmret.cli.demo.chronicle import Chronicle, day_of
from hmret.cli.demo.clock import DAY, DemoClock
from hmret.cli.demo.host import Host, offers_leases
from hmret.cli.demo.outcome import Outcome, find_faults, outcomes, sum_up, to_document
from hmret.cli.demo.story import ALLOWED, DAYS, PINNED, Story, StoryError
from hmret.cli.engines import collect_from_now_on
from hmret.disk.layout import OWN
from hmret.disk.records.engine import CLOCK_RECORD
from hmret.disk.records.looks import LOOKS
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.errors import ConfigError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.times import timedelta_nanoseconds
from hmret.model.values import frozen

_UNUSED_FOR = 30 * DAY
_SWEEPS_PER_DAY = 1.6
_CONFIG = "config.yaml"
_DAY_NS = timedelta_nanoseconds(DAY)
_LONGEST_PROGRAM = 20


def run(
    *, as_json: bool = False, keep: str | None = None, serve: str | None = None, day_seconds: float = 0.4
) -> int:
    """Show images come, go and be protected.

    Prints a line for each important event, then what became of all images; with `as_json`, only one JSON
    document at the end.

    Args:
        as_json: whether that document is printed.
        keep: a folder, missing or empty, in which the cache is created and kept.
        serve: the `host:port` at which the web page is served, until SIGINT even after the end.
        day_seconds: the length of a simulated day, in real seconds.

    Returns the exit code: 0 if everything went as expected, else 1; 130 at SIGINT and 143 at SIGTERM, when
    everything is cleaned up.

    Raises:
        ConfigError: the folder to keep exists and is not empty, or cannot be created.
        UnavailableError: the address to serve is not available.
    """
    collect_from_now_on()
    try:
        with (
            temporary_folder() if keep is None else _kept_folder(keep) as folder,
            nullcontext() if serve is None else listening_socket(serve) as page,
        ):
            return asyncio.run(_run(_Show(folder, keep is not None, page, as_json, day_seconds)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        # What is left in the buffer must not cause a second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


@frozen
class _Show:
    """The options of the demonstration."""

    folder: Path
    stays: bool
    page: socket.socket | None
    as_json: bool
    day_seconds: float

    @property
    def data_dir(self) -> Path:
        return self.folder if self.stays else self.folder / "data"


@contextmanager
def _kept_folder(path: str) -> Iterator[Path]:
    folder = Path(path).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"--keep: expected a folder that is empty or not there, got {folder}")
    except OSError as error:
        raise ConfigError(f"--keep: {folder}: {error.strerror}") from None
    yield folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed after this block, even if further signals arrive."""
    folder = Path(tempfile.mkdtemp(prefix="hmret-demo-"))
    try:
        yield folder
    finally:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        shutil.rmtree(folder)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _run(show: _Show) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    # It ends today, so that the times in what is left look normal.
    today_ns = time.time_ns() // _DAY_NS * _DAY_NS
    clock = DemoClock(show.day_seconds, start_ns=today_ns - DAYS * _DAY_NS)
    chronicle = Chronicle(clock, is_silent=show.as_json)
    if show.page is not None:
        chronicle.say(f"watch it at {_url(show.page)}")
    with chronicle.listening():
        faults = await _tell_story(show, chronicle)
    if show.stays:
        _forget_time(show.data_dir)
    return 1 if faults else 0


def _url(page: socket.socket) -> str:
    host, port = page.getsockname()[:2]
    return f"http://{host}:{port}/"


async def _tell_story(show: _Show, chronicle: Chronicle) -> list[str]:
    """Run the engine through the story, and show how it ended; returns what was not as told."""
    has_leases = await asyncio.to_thread(offers_leases, show.folder)
    if not has_leases:
        chronicle.tell(
            "host", "no_file_leases", "this file system does not tell that a disk is open: left out"
        )
    for name in ("images", "guests", "snapshots"):
        (show.data_dir / name).mkdir(parents=True)
    config = RetentionConfig(
        data_dir=show.data_dir,
        auto_delete=AutoDelete(enabled=True, unused_for=_UNUSED_FOR, allowed=ALLOWED),
        pinned=PINNED,
        sweep_interval=timedelta(seconds=show.day_seconds / _SWEEPS_PER_DAY),
    )
    async with (
        open_engine(config, Platform(clock=chronicle.clock), scheduled=True) as retention,
        _serving(show.page, retention),
    ):
        host = Host(show.data_dir, chronicle.clock, retention, chronicle)
        story = Story(host, chronicle.clock, retention, chronicle, has_leases)
        found: list[Outcome] = []
        try:
            found = outcomes(host, chronicle, await story.tell())
        except StoryError as error:
            faults = [str(error)]
        else:
            faults = await asyncio.to_thread(find_faults, host, found, story.fates)
            counted = retention.statistics().deleted_bytes
            freed_bytes = sum(outcome.freed_bytes for outcome in found)
            if counted != freed_bytes:
                faults.append(f"the engine counts {counted} bytes freed, its events {freed_bytes}")
        _print_ending(show, chronicle, found, faults)
        if show.page is not None and not faults:
            interrupted = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
            await interrupted.wait()
    return faults


@asynccontextmanager
async def _serving(page: socket.socket | None, retention: Retention) -> AsyncIterator[None]:
    """Serve the page inside the block."""
    if page is None:
        yield
        return
    from hmret.api.app import make_app  # noqa: PLC0415 - only needed to serve
    from hmret.api.http.server import Server  # noqa: PLC0415 - the same

    server = Server(make_app(retention, read_only=True, host_names=own_names("127.0.0.1:0")), page)
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.run)
        try:
            yield
        finally:
            server.stop()


def _print_ending(show: _Show, chronicle: Chronicle, found: list[Outcome], faults: list[str]) -> None:
    if show.as_json:
        document = to_document(chronicle, found, faults)
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
        return
    if show.stays:
        _write_config(show)
    for fault in faults:
        print(f"not as told: {fault}")
    if faults:
        return
    first, second = sum_up(found)
    print(f"{day_of(chronicle.clock.elapsed)} days, {first}; the disk agrees with each:")
    print(f"{second}. Next:")
    for line in _next_steps(show):
        print(f"  {line}")
    sys.stdout.flush()


def _forget_time(data_dir: Path) -> None:
    """Remove records of the demonstration's clock: compared with them, this host's clock has jumped."""
    for record in (CLOCK_RECORD, LOOKS):
        (data_dir / OWN / record).unlink(missing_ok=True)


def _next_steps(show: _Show) -> list[str]:
    """List the commands to try next."""
    config = shlex.quote(str(show.folder / _CONFIG))
    hmret = _program()
    if show.page is not None:
        return [f"{_url(show.page)} shows what is left, until you interrupt this"]
    if show.stays:
        return [f"{hmret} plan --config {config}", f"{hmret} explain alpine:3.20 --config {config}"]
    return [
        f"{hmret} demo --serve        the same, and the page to watch it by",
        f"{hmret} demo --keep FOLDER  leaves this cache there, to play with",
        f"{hmret} plan                what would go from data of yours",
    ]


def _program() -> str:
    """Return how to call the command here: by its name, or by a short path if it is not on PATH."""
    script = Path(sys.executable).with_name("hmret")
    path = os.path.relpath(script)
    is_known = shutil.which("hmret") is not None or not script.exists()
    return "hmret" if is_known or len(path) > _LONGEST_PROGRAM else path


def _write_config(show: _Show) -> None:
    """Write the settings with which the kept cache can be inspected."""
    settings = {
        "data_dir": str(show.data_dir),
        "images": {"auto_delete": {"enabled": True, "unused_for": "720h", "allowed": list(ALLOWED)}},
        "hmret": {"pinned": list(PINNED)},
    }
    # JSON is YAML.
    (show.folder / _CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2))
