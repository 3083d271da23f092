"""Processes that are killed at a system call of choice while they sweep: a program, and its caller's side.

The program forks a child for each line of its input: a fork of a process that has everything imported, and has no
threads, costs a few milliseconds. A child opens the real engine on a real directory and ends by SIGKILL right after
its n-th call that changes anything.
"""

import gc
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE
from types import TracebackType
from typing import Any, Self, cast

import anyio
import anyio.lowlevel
import attrs

import hmret
from hmret.actors.threads import WorkerThreads
from hmret.disk.filesystem import POSIX, Filesystem, FolderCalls
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from support.builders import FakeClock, make_config, make_image
from support.children import Child, child
from support.inline_threads import InlineThreads
from support.patience import PATIENCE

__all__ = ["CHANGING", "Ended", "Life", "Mortals"]

CHANGING = ("open", "write", "rename", "unlink", "symlink", "mkdir", "rmdir", "fsync")
"""The calls that are counted when they succeed; of `open` those that may make a file."""

_CALLS = (
    *CHANGING,
    *("close", "read", "pread", "fstat", "stat", "fstatvfs", "scandir", "readlink"),
    *("lock", "unlock", "lock_holder", "take_lease", "ask_lease", "now_ns", "find_barrier"),
    "earliest_stamp_ns",
)


@attrs.frozen(kw_only=True)
class Life:
    """What a process does, and when it is killed."""

    data_dir: str
    kill_at: int = 0
    """The number of the changing call after which it ends; 0: never."""
    torn: bool = False
    """Whether a write that it ends with is done by half."""
    kill_after: float | None = None
    """Seconds from the first sweep on after which it is killed from outside; None: never."""
    pull_at: int = 0
    """The number of the changing call right before which hypeman pulls an image again, if it is gone; 0: never."""
    pull: tuple[str, str, str] = ("", "", "")
    """Repository, letters of the digest, and tag of that image."""
    backend: str = "asyncio"
    uses: tuple[str, ...] = ()
    """References that it marks used before it sweeps."""
    quarantine_hours: int = 0
    """How long what it deletes can be brought back."""
    hours_later: int = 0
    """How much later than the first process it lives."""
    restores: tuple[str, ...] = ()
    """References that it brings back before it sweeps, as far as they are in quarantine."""
    sweeps: bool = True


@attrs.frozen
class Ended:
    """How a process ended."""

    signal: int
    """0: it came to its end."""
    calls: tuple[str, ...] = ()
    """The changing calls that it made, if it came to its end."""
    status: str = ""
    """That of its sweep, if it came to its end."""
    pulled: bool = False


class Mortals:
    """The caller's side. A program that hangs, or is gone, fails the test that asked it, and is replaced for the next."""

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._program.communicate(timeout=PATIENCE)
                assert self._program.returncode == 0

    def live(self, life: Life, patience: float = PATIENCE) -> Ended:
        """Let a process live and end; `patience` is in seconds."""
        try:
            answer = self._ask(life, patience)
        except BaseException:
            # Its answer would be taken for that to the next question.
            self._stack.close()
            self._start()
            raise
        assert "fault" not in answer, f"{life}: {answer['fault']}"
        return Ended(answer["signal"], tuple(answer["calls"]), answer["status"], answer["pulled"])

    def _start(self) -> None:
        tests = Path(__file__).parent.parent
        path = os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
        with ExitStack() as stack:
            self._program: Child = stack.enter_context(
                child(
                    [sys.executable, "-W", "error", __file__],
                    stdin=PIPE,
                    stdout=PIPE,
                    env=os.environ | {"PYTHONPATH": path},
                )
            )
            self._stack = stack.pop_all()

    def _ask(self, life: Life, patience: float) -> Any:
        stdin, stdout = self._program.stdin, self._program.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(attrs.asdict(life)) + "\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], patience)
        if not ready:
            raise TimeoutError(f"a process hangs: {life}")
        return json.loads(stdout.readline())


def mortal(life: Life, calls: list[str], pull: Callable[[], None]) -> Filesystem:
    """Make the real file system, deadly at one call."""

    def changing(name: str) -> Callable[..., Any]:
        real: Callable[..., Any] = getattr(POSIX, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return real(*arguments, **keywords)
            number = len(calls) + 1
            if number == life.pull_at:
                pull()
            if name == "write" and life.torn and number == life.kill_at:
                arguments = arguments[0], arguments[1][: len(arguments[1]) // 2]
            answer = real(*arguments, **keywords)
            calls.append(f"{name} {arguments[0]}")
            if number == life.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    calls_of_it = {name: changing(name) if name in CHANGING else getattr(POSIX, name) for name in _CALLS}
    # Nothing ever settles by the mere passing of time, so that each life makes the same calls, however long it takes.
    members = {name: staticmethod(call) for name, call in (calls_of_it | {"now_ns": lambda: 0}).items()}
    return cast("Filesystem", type("Mortal", (FolderCalls,), members)())


async def _live(life: Life, begun: int) -> dict[str, object]:
    calls: list[str] = []
    pulled: list[bool] = []
    place = Path(life.data_dir)
    repository, letters, tag = life.pull

    def pull() -> None:
        if not (place / "images" / repository / (letters * 64)).exists():
            make_image(place, repository, letters, tags=(tag,), size_bytes=1000)
            pulled.append(True)

    clock = FakeClock()
    clock.advance(timedelta(hours=life.hours_later))
    platform = Platform(
        filesystem=mortal(life, calls, pull),
        clock=clock,
        threads=InlineThreads() if life.kill_after is None else WorkerThreads(),
        # One batch at a time, so that each life makes the same calls.
        monotonic_ns=lambda: 0,
    )
    config = make_config(place, quarantine=timedelta(hours=life.quarantine_hours))
    status = ""
    async with open_engine(config, platform, scheduled=False) as retention:
        os.write(begun, b"\n")
        for use in life.uses:
            await retention.mark_used(use)
        for image in life.restores:
            with suppress(hmret.ImageNotFoundError, hmret.ImageExistsError):
                await retention.restore(image)
        if life.sweeps:
            status = (await retention.sweep()).status
    return {"calls": calls, "status": status, "pulled": bool(pulled)}


def _child(life: Life, begun: int, answers: int) -> None:
    try:
        answer = anyio.run(_live, life, begun, backend=life.backend)
    except BaseException as error:  # noqa: BLE001 - told to the caller
        answer = {"fault": repr(error)}
    os.write(answers, json.dumps(answer).encode())


def _fork(life: Life) -> dict[str, object]:
    reading, begun = os.pipe()
    answering, answers = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(life, begun, answers)
        os._exit(0)
    os.close(begun)
    os.close(answers)
    if life.kill_after is not None:
        os.read(reading, 1)
        select.select([answering], [], [], life.kill_after)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(answering, "rb") as file:
        text = file.read()
    os.close(reading)
    answer: dict[str, object] = {"signal": 0, "calls": [], "status": "", "pulled": False}
    answer.update(json.loads(text) if text else {"signal": os.WTERMSIG(status)})
    return answer


def main() -> None:
    """Fork a child for each line."""
    for backend in ("asyncio", "trio"):
        anyio.run(anyio.lowlevel.checkpoint, backend=backend)  # imports what a child then has
    # A collection in a child would copy every page of this process.
    gc.disable()
    gc.freeze()
    for line in sys.stdin:
        fields = json.loads(line)
        for name in ("pull", "uses", "restores"):
            fields[name] = tuple(fields[name])
        print(json.dumps(_fork(Life(**fields))), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
