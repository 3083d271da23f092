"""The processes that tests start: each has a group of its own, which ends with its test, whatever happens.

A test that fails, or runs into its time-out, ends them on its way out. Where the process that runs the tests is
itself killed, a keeper ends them: it is told of each group, and waits for the end of its input.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from support.patience import PATIENCE

__all__ = [
    "KEEPER",
    "Child",
    "Ended",
    "Keeper",
    "child",
    "children_here",
    "end_group",
    "hear_interrupts",
    "lasting",
    "run_program",
]

Child: TypeAlias = "subprocess.Popen[str]"
Ended: TypeAlias = "subprocess.CompletedProcess[str]"
Command: TypeAlias = "Sequence[str | bytes | os.PathLike[str]]"

_PROGRAM = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


def hear_interrupts() -> None:
    """Hear SIGINT, as the programs of tests then do: a shell has what it runs in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Keeper:
    """Ends the groups that are left when this process is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program: Child | None = None

    def start(self) -> None:
        """Start it; not in the midst of a test, which may count processes and descriptors."""
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
        self._program = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def stop(self) -> None:
        """End it, and what is left."""
        program, self._program = self._program, None
        if program is not None:
            program.communicate(timeout=PATIENCE)

    @property
    def number(self) -> int:
        """The number of its process; 0: there is none."""
        return 0 if self._program is None else self._program.pid

    def tell(self, sign: str, group: int) -> None:
        """Tell it of a group that has begun (`+`) or ended (`-`)."""
        if self._program is not None and self._program.stdin is not None:
            with self._lock:
                self._program.stdin.write(f"{sign}{group}\n")
                self._program.stdin.flush()


KEEPER = Keeper()
"""The one of this process, if it has been started."""


@contextmanager
def child(command: Command, **options: Any) -> Iterator[Child]:
    """Have a process run while the block lasts, at most; takes what `Popen` takes, and speaks text.

    Its group is killed when the block ends, with all that it has started and not put into another group.
    """
    with subprocess.Popen(command, text=True, start_new_session=True, **options) as process:
        KEEPER.tell("+", process.pid)
        try:
            yield process
        finally:
            end_group(process.pid)
            KEEPER.tell("-", process.pid)


@contextmanager
def lasting(command: Command, **options: Any) -> Iterator[Child]:
    """Have a process run as `child` does, which is not counted as left by the module whose tests it was started in."""
    with child(command, **options) as process:
        _lasting.add(process.pid)
        try:
            yield process
        finally:
            _lasting.discard(process.pid)


_lasting: set[int] = set()


def run_program(
    command: Command,
    *,
    check: bool = False,
    input: str | None = None,  # noqa: A002 - as `subprocess.run` has it
    patience: float = PATIENCE,
    **options: Any,
) -> Ended:
    """Run a process to its end, for which there are `patience` seconds, and return what it has printed.

    Raises:
        CalledProcessError: it failed, and `check` is set.
    """
    pipes = {"stdin": subprocess.PIPE if input is not None else subprocess.DEVNULL}
    pipes |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with child(command, **pipes | options) as process:
        output, complaints = process.communicate(input, timeout=patience)
    ended = subprocess.CompletedProcess(process.args, process.returncode, output, complaints)
    if check:
        ended.check_returncode()
    return ended


def end_group(group: int) -> None:
    """Kill what is left of a group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def children_here() -> dict[int, str]:
    """Give what this process has started that runs still, and its command; without the keeper and what is lasting."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        # A thread may end meanwhile; its children are then another's. And so may a child.
        with suppress(OSError):
            for number in (task / "children").read_text().split():
                with suppress(OSError):
                    place = Path("/proc") / number
                    is_running = place.joinpath("stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
                    if is_running and int(number) not in {KEEPER.number, *_lasting}:
                        found[int(number)] = place.joinpath("cmdline").read_text().replace("\0", " ").strip()
    return found
