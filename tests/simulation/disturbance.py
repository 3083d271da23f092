"""What happens between two of hmret's system calls: errors, crashes, other threads, and hypeman."""

import errno
import random
import re
from collections.abc import Callable

import attrs

from hmret.disk.layout import IMAGES, digest_of
from hmret.model.references import Key
from simulation.chronicle import Breach
from simulation.landmarks import DATA
from simulation.schedule import SteppedThreads
from simulation.truth import Truth
from support.memory_filesystem import Call, Crash

__all__ = ["Disturbance", "Weather"]

_CHANGES = frozenset({"rename", "unlink", "rmdir", "symlink", "mkdir", "write", "fsync"})
_DELICATE = frozenset({"rename", "take_lease", "ask_lease", "readlink", "unlink", "symlink"})
_IN_HAND = re.compile(rf"{DATA}/{IMAGES}/([^ ]+)/([0-9a-f]{{64}})(?:/.*| -> .*)?")
_ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES)


@attrs.frozen(kw_only=True)
class Weather:
    """How likely things are at one system call."""

    error: float
    crash: float
    pause: float
    step: float
    short: float


class Disturbance:
    """The hook of the file system: raises what a call fails with, and has it judged otherwise.

    `close` is spared, for what is known of it: one that fails leaks the descriptor of the next step of a path.

    Args:
        step: has hypeman do something, near the image in hand if one is named.
    """

    def __init__(
        self,
        truth: Truth,
        threads: SteppedThreads,
        weather: Weather,
        rng: random.Random,
        step: Callable[[Key | None], None],
    ) -> None:
        self._truth = truth
        self._threads = threads
        self._weather = weather
        self._rng = rng
        self._step = step
        self._in_hand: Key | None = None
        self.is_calm = False
        self.has_crashed = False

    def attach(self) -> None:
        """Disturb the calls of the disk that there is now."""
        self.has_crashed = False
        disk = self._truth.filesystem
        disk.before = self.before
        if self._weather.short:
            disk.shorten = self._shorten

    def before(self, call: Call) -> None:
        """Come before one call."""
        self._truth.clock.tick()
        self._truth.settle()
        changes = call.name in _CHANGES
        match = _IN_HAND.fullmatch(call.path)
        if match is not None:
            self._in_hand = match[1], digest_of(match[2])
        try:
            if not self.is_calm:
                self._disturb(call, changes=changes)
            if changes:
                self._truth.chronicle.tell(f"  {call.name} {call.path}")
            else:
                self._truth.chronicle.tick()
            self._truth.judge(call)
        except Breach:
            # The engine would take it for an error of its own; it ends here instead.
            self.has_crashed = True
            raise Crash("a promise was broken") from None

    def _disturb(self, call: Call, *, changes: bool) -> None:
        weather, rng = self._weather, self._rng
        if rng.random() < weather.crash * (10 if changes else 1):
            self._truth.chronicle.tell(f"CRASH before {call.name} {call.path}")
            self.has_crashed = True
            raise Crash(call.name)
        if call.name != "close" and rng.random() < weather.error * (3 if call.name == "take_lease" else 1):
            code = rng.choice(_ERRORS)
            self._truth.chronicle.tell(f"ERROR {errno.errorcode[code]} from {call.name} {call.path}")
            self._truth.forgive(call)
            raise OSError(code, errno.errorcode[code], call.path)
        if rng.random() < weather.step * (6 if call.name in _DELICATE else 1):
            for _ in range(rng.choice((1, 1, 2, 4, 8))):
                self._truth.clock.tick()
                self._step(self._in_hand if call.name in _DELICATE and rng.random() < 0.5 else None)
        self._threads.may_pause(weather.pause * (6 if call.name in _DELICATE else 1))
        if self.has_crashed:
            raise Crash("the process has ended")

    def _shorten(self, length: int) -> int:
        if not self.is_calm and self._rng.random() < self._weather.short:
            return self._rng.randint(1, max(1, min(length, 200)))
        return length
