"""What has happened in one run: its last events, a checksum of all of them, and the first broken promise."""

import zlib
from collections import deque
from collections.abc import Callable

__all__ = ["Breach", "Chronicle"]

_REMEMBERED = 120


class Breach(Exception):  # noqa: N818 - what it is called
    """A promise was broken; the text has the seed and the last events."""


class Chronicle:
    """The events of one seed, in their order."""

    def __init__(self, seed: int, true_ns: Callable[[], int]) -> None:
        self._seed = seed
        self._true_ns = true_ns
        self._last: deque[str] = deque(maxlen=_REMEMBERED)
        self.now = 0
        """The number of the last event: the order in which everything is judged."""
        self.checksum = 0
        """Equal for two runs in which the same things happened."""
        self.breach: Breach | None = None

    def tick(self) -> int:
        """Count something that has no line of its own."""
        self.now += 1
        return self.now

    def tell(self, event: str) -> int:
        """Note an event; returns its number."""
        number = self.tick()
        line = f"{self._true_ns() / 1e9:12.4f} {number:6} {event}"
        self.checksum = zlib.crc32(line.encode(), self.checksum)
        self._last.append(line)
        return number

    def fail(self, promise: str) -> Breach:
        """Note a broken promise; the first one counts."""
        self.tell(f"BROKEN: {promise}")
        if self.breach is None:
            events = "\n".join(self._last)
            self.breach = Breach(f"seed {self._seed}: {promise}\n{events}\nseed {self._seed}: {promise}")
        return self.breach
