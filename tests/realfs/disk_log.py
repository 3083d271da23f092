"""What was written to a disk, entry by entry; and the disk as a power cut could leave it."""

import mmap
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import attrs

from realfs import recorder
from realfs.mounts import looped, run

__all__ = ["Cut", "CutKind", "DiskLog", "Recording", "draw_cuts", "recorded"]

CutKind = Literal["after a write", "at a flush", "writes lost", "blocks lost"]
"""`writes lost`: any of those since the last flush; `blocks lost`: any 4 KiB of them."""

_KINDS: tuple[CutKind, ...] = ("after a write", "at a flush", "writes lost", "blocks lost")
_BLOCK = 4096


@attrs.frozen
class Cut:
    """One power cut."""

    kind: CutKind
    length: int
    """How many entries of the log had been written."""
    seed: int
    """Decides what is lost."""


@attrs.frozen
class _Entry:
    kind: int
    offset: int
    length: int
    at: int
    """Where its bytes stand in the log."""
    end: int


@attrs.define(eq=False)
class DiskLog:
    """The disk as it was, and all that was written to it since."""

    base: Path
    path: Path
    entries: list[_Entry] = attrs.field(factory=list)
    _bytes: bytes = b""

    def load(self) -> None:
        """Read the log, once nothing is added to it any more."""
        self._bytes = self.path.read_bytes()
        at = 0
        while at < len(self._bytes):
            kind, offset, length = recorder.ENTRY.unpack_from(self._bytes, at)
            at += recorder.ENTRY.size
            end = at + (length if kind == recorder.WRITE else 0)
            self.entries.append(_Entry(kind, offset, length, at, end))
            at = end

    @property
    def position(self) -> int:
        """How long the log is by now, in bytes: whatever has been written or flushed until now stands before."""
        return self.path.stat().st_size

    def passed(self, cut: Cut, position: int) -> bool:
        """Tell whether a cut came after a position."""
        return cut.length > 0 and self.entries[cut.length - 1].end >= position

    def last_flush(self, length: int) -> int:
        """Give the number of entries up to the last flush among the first ones."""
        return max((number for number in range(1, length + 1) if self.is_flush(number)), default=0)

    def is_flush(self, number: int) -> bool:
        """Tell whether an entry, counted from 1, is a flush."""
        return self.entries[number - 1].kind == recorder.FLUSH

    def write_disk(self, cut: Cut, path: Path) -> None:
        """Write the disk as a cut leaves it."""
        run("cp", "--sparse=always", self.base, path)
        rng = random.Random(cut.seed)
        durable = cut.length if cut.kind in _KINDS[:2] else self.last_flush(cut.length)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as disk:
            for number, entry in enumerate(self.entries[: cut.length], 1):
                if entry.kind == recorder.FLUSH:
                    continue
                content = memoryview(self._bytes)[entry.at : entry.end]
                size = _BLOCK if cut.kind == "blocks lost" and number > durable else max(entry.length, 1)
                for begin in range(0, entry.length, size):
                    end = min(begin + size, entry.length)
                    if number > durable and rng.random() < 0.5:
                        continue
                    part = content[begin:end] if entry.kind == recorder.WRITE else bytes(end - begin)
                    disk[entry.offset + begin : entry.offset + end] = bytes(part)


def draw_cuts(log: DiskLog, count: int, begin: int, seed: int) -> list[Cut]:
    """Draw cuts of all kinds, evenly over what was written from a position on."""
    rng = random.Random(seed)
    first = next(number for number, entry in enumerate(log.entries, 1) if entry.end >= begin)
    lengths = range(first, len(log.entries) + 1)
    flushes = [length for length in lengths if log.is_flush(length)]
    cuts = []
    for number in range(count):
        kind = _KINDS[number % len(_KINDS)]
        of = flushes if kind == "at a flush" else lengths
        share = (number // len(_KINDS) + rng.random()) / -(-count // len(_KINDS))
        cuts.append(Cut(kind, of[min(int(share * len(of)), len(of) - 1)], rng.randrange(1 << 30)))
    return cuts


@attrs.frozen
class Recording:
    """A block device whose every write is recorded, and that fails on demand."""

    device: Path
    log: DiskLog
    _program: "subprocess.Popen[str]"

    def toggle_reads(self) -> None:
        """Have every read fail from now on, or no longer."""
        self._program.send_signal(recorder.FAIL_READS)

    def toggle_writes(self) -> None:
        """Have every write and every flush fail from now on, or no longer."""
        self._program.send_signal(recorder.FAIL_WRITES)


@contextmanager
def recorded(folder: Path, image: Path) -> Iterator[Recording]:
    """Have such a device over a file, which is gone in the end; the log is loaded when the block ends."""
    base, place = folder / "base", folder / "recorded"
    run("cp", "--sparse=always", image, base)
    place.mkdir()
    log = DiskLog(base, folder / "log")
    program = [sys.executable, recorder.__file__, str(place), str(image), str(log.path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mounted\n"
        try:
            with looped(place / recorder.DISK, "--direct-io=on") as device:
                yield Recording(device, log, process)
        finally:
            run("umount", place)
            process.wait()
    image.unlink()
    log.load()
