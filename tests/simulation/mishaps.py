"""What else goes on on a host: processes that open disks, operators, wrong permissions and wrong clocks."""

import errno
import random
from collections.abc import Mapping

from hmret.disk.layout import OWN, RETENTION
from hmret.model.times import SECOND
from simulation.landmarks import DATA, QUICK, Hold, Pulled, Work, short
from simulation.truth import Truth

__all__ = ["Mishaps"]


class Mishaps:
    """Whatever may happen to anybody.

    Args:
        documents: where the reference files are, by source.
        slow: seconds that something may last.
    """

    def __init__(
        self, truth: Truth, rng: random.Random, documents: Mapping[str, tuple[str, bytes]], slow: float
    ) -> None:
        self._truth = truth
        self._rng = rng
        self._documents = documents
        self._slow = slow

    def open_disk(self, image: Pulled | None = None) -> Work:
        """Open a disk as any process may, and close it again some time later."""
        image = image or self._truth.some_image(self._rng)
        if image is None or not image.is_present or not image.disk:
            return
        hold = Hold(image, image.disk, self._truth.filesystem.begin_open(f"{image.path}/{image.disk}"))
        self._truth.holds.append(hold)
        self._tell(f"{'opens' if hold.opened.is_open else 'waits to open'} {short(image.key)}")
        yield self._rng.choice((QUICK, self._slow, 3 * self._slow))
        hold.opened.close()
        if hold in self._truth.holds:
            self._truth.holds.remove(hold)

    def corrupt(self) -> Work:
        """Spoil one of hmret's files; the lock file is no record."""
        tree = self._truth.filesystem.tree(f"{DATA}/system")
        records = [f"{DATA}/{OWN}/clock.json", f"{DATA}/{OWN}/references.json"]
        files = [
            path
            for path, (kind, _) in tree.items()
            if kind == "file" and (path in records or path.startswith(f"{DATA}/{RETENTION}/"))
        ]
        if files:
            path = self._rng.choice(files)
            self._truth.filesystem.write_file(
                path, self._rng.choice((b"", b"{", b"null", b'{"digest": 1}', b"\xff"))
            )
            self._truth.has_spoilt_timers |= path not in records
            self._tell(f"spoils {path}")
        yield from ()

    def deny(self) -> Work:
        """Take the right to something away for a while."""
        disk = self._truth.filesystem
        tree = disk.tree(DATA)
        paths = [path for path, (kind, _) in tree.items() if kind != "file"]
        paths += [path for _, (path, _) in self._documents.items() if path in tree]
        path = self._rng.choice(paths)
        disk.deny(path, self._rng.choice((errno.EACCES, errno.EIO)))
        self._truth.denied += 1
        self._truth.disturb()
        name = f"denied {path}"
        if path in (f"{DATA}/guests", f"{DATA}/snapshots") or any(
            path == document or path == document.rpartition("/")[0]
            for document, _ in self._documents.values()
        ):
            self._truth.unreadable[name] = self._truth.chronicle.now
        self._tell(f"denies {path}")
        yield self._rng.choice((QUICK, self._slow))
        self._truth.unreadable.pop(name, None)
        self._truth.denied -= 1
        self._truth.disturb()
        if disk is self._truth.filesystem and disk.exists(path.rpartition("/")[0]):
            disk.allow(path)
        self._tell(f"allows {path}")

    def jump(self) -> Work:
        """Set the wall clock, and perhaps set it right again."""
        by = self._rng.choice((-7200, -200, 200, 3600, 86400, 30 * 86400))
        self._truth.clock.jump(by * SECOND)
        self._tell(f"sets the clock by {by} s")
        yield self._rng.choice((self._slow, 4 * self._slow))
        if self._rng.random() < 0.7:
            self._truth.clock.jump(-by * SECOND)
            self._tell(f"sets the clock by {-by} s")

    def _tell(self, event: str) -> None:
        self._truth.chronicle.tell(f"somebody {event}")
