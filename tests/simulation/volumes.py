"""Volumes that are not mounted for a while, and a data directory that is moved aside under its engine."""

import random

import attrs

from hmret.disk.layout import CONTENT, IMAGES, REPOSITORIES, RETENTION, TRASH
from hmret.disk.records.folders import load_folders
from simulation.landmarks import ASIDE, DATA
from support.memory_filesystem import MemoryFilesystem, Tree

__all__ = ["Absence"]

_FOLDERS = ("guests", "snapshots", IMAGES, f"{IMAGES}/{CONTENT}", f"{IMAGES}/{REPOSITORIES}")


@attrs.define(eq=False)
class Absence:
    """A folder that is away, with an empty one in its place or none."""

    disk: MemoryFilesystem
    folder: str
    """Below the data directory; empty: that itself, under the engine that runs in it."""
    is_replaced: bool
    _before: Tree = attrs.field(init=False, factory=dict)

    @classmethod
    def choose(cls, rng: random.Random, disk: MemoryFilesystem) -> "Absence | None":
        """Choose what goes away; None where an engine would have other work to do, or nothing is on record."""
        trash = f"{DATA}/{TRASH}"
        if disk.exists(trash) and disk.tree(trash):
            return None
        folder = rng.choice(("", *_FOLDERS))
        found = cls(disk, folder, rng.random() < 0.7)
        return found if not folder or found._is_on_record() else None

    def _is_on_record(self) -> bool:
        """Tell whether enough is known of the folder for it to be missed."""
        path = f"{DATA}/{self.folder}"
        if not self.disk.exists(path):
            return False
        # A copy: the calls of the disk itself are the engine's, and may be made to fail.
        copy = self.disk.crashed_copy()
        fd = copy.open(DATA, 0)
        try:
            record = load_folders(copy, fd).get(self.folder)
        finally:
            copy.close(fd)
        if record is None:
            return False
        if self.folder in ("guests", "snapshots", f"{IMAGES}/{REPOSITORIES}"):
            return bool(record.names)
        # Where both layouts are mixed, older folders may hold more than half.
        has_others = any(
            found.endswith("/rootfs.erofs") and not found.startswith(path)
            for found in self.disk.tree(f"{DATA}/{IMAGES}")
        )
        return not has_others and bool(self.timers())

    def timers(self) -> Tree:
        """List all timers."""
        retention = f"{DATA}/{RETENTION}"
        found = self.disk.tree(retention) if self.disk.exists(retention) else {}
        return {path: about for path, about in found.items() if path.endswith(".json")}

    def begin(self) -> None:
        """Take it away; no power cut later brings it back."""
        self._before = self.timers()
        with self.disk.durably():
            self.disk.move(self._path, ASIDE)
            if self.is_replaced:
                self.disk.make_folder(self._path)

    def end(self) -> None:
        """Bring it back as it was; no power cut later takes it away again."""
        with self.disk.durably():
            if self.disk.exists(self._path):
                self.disk.remove(self._path)
            self.disk.move(ASIDE, self._path)

    @property
    def _path(self) -> str:
        return f"{DATA}/{self.folder}".rstrip("/")

    @property
    def costs_nothing(self) -> bool:
        """Whether every timer is as it was, and none has come."""
        return self.timers() == self._before
