"""A host whose cache holds both layouts: builds it, runs an engine on it, and shows every file that is there.

The paths that are given and returned lie below the data directory.
"""

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import attrs

import hmret
from hmret.actors.reference_collector import ReferenceSource
from hmret.actors.threads import Threads
from hmret.disk.filesystem import POSIX
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.times import timedelta_nanoseconds
from support.builders import (
    DATA,
    START,
    FakeClock,
    GatedThreads,
    Place,
    digest,
    make_config,
    make_guest,
    make_snapshot,
    make_state,
    state_of,
)
from support.inline_threads import InlineThreads
from support.memory_filesystem import MemoryFilesystem

__all__ = [
    "CONTENT",
    "DUE",
    "FRESH",
    "LINKS",
    "TRASH",
    "Files",
    "Host",
    "Key",
    "Swept",
    "content_path",
    "hex_of",
    "legacy_link_path",
    "legacy_path",
    "link_path",
    "state_path",
    "without",
]

Key = tuple[str, str]
Files = dict[str, tuple[str, bytes | str, int]]
"""Of every file and link its path, `file` or `link`, its content or target, and its inode."""

CONTENT = "images/content"
LINKS = "images/repositories"
TRASH = "system/hmret/trash"
DUE = timedelta(days=40)
"""Longer unused than any window here."""
FRESH = timedelta(days=1)
_LONG_AGO = timedelta(days=60)


def hex_of(letters: str) -> str:
    """Return the folder name of the digest that these letters stand for."""
    return digest(letters).removeprefix("sha256:")


def content_path(letters: str) -> str:
    """Return the folder that all repositories share."""
    return f"{CONTENT}/{hex_of(letters)}"


def legacy_path(repository: str, letters: str) -> str:
    """Return the folder that one repository has for itself."""
    return f"images/{repository}/{hex_of(letters)}"


def link_path(repository: str, tag: str) -> str:
    """Return the tag's link of today's layout."""
    return f"{LINKS}/{repository}/{tag}"


def legacy_link_path(repository: str, tag: str) -> str:
    """Return the tag's link of the older layout."""
    return f"images/{repository}/{tag}"


def state_path(repository: str, letters: str) -> str:
    """Return the file of a row's timer."""
    return f"system/image-retention/{repository}/{hex_of(letters)}.json"


def without(files: Files, *paths: str) -> Files:
    """Leave out some files and folders: what is to be left of the others."""
    for path in paths:
        assert any(_lies_in(found, path) for found in files), f"never was there: {path}"
    return {
        found: about for found, about in files.items() if not any(_lies_in(found, path) for path in paths)
    }


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


@attrs.frozen
class Swept:
    """What came of one sweep."""

    report: hmret.SweepReport
    verdicts: Mapping[Key, hmret.Verdict]

    @property
    def deleted(self) -> list[Key]:
        """The rows that went, sorted."""
        return [(image.repository, image.digest) for image in self.report.deleted]

    @property
    def reasons(self) -> dict[Key, hmret.Reason]:
        """Why, for each row."""
        return {key: verdict.reason for key, verdict in self.verdicts.items()}

    def held_by(self, repository: str, letters: str) -> list[tuple[str, hmret.Reason]]:
        """List the rows for which a row stays, and their reasons."""
        verdict = self.verdicts[repository, digest(letters)]
        return [(other.repository, other.reason) for other in verdict.held_by]


@attrs.define(eq=False)
class Host:
    """A data directory, in memory or on a real disk, and the clock of its engine."""

    place: Place
    clock: FakeClock
    age: timedelta = _LONG_AGO
    """How long ago what is built was made; timers and references are written now."""

    @property
    def hypeman(self) -> Self:
        """The same host, for what its server does now."""
        return attrs.evolve(self, age=timedelta(0))

    def on(self, place: Place) -> Self:
        """Return what this host is on another disk."""
        return attrs.evolve(self, place=place)

    # Images.

    def content(
        self,
        letters: str,
        *,
        name: str = "docker.io/library/first-puller:1",
        status: str = "ready",
        size_bytes: int = 8192,
        has_disk: bool = True,
        metadata: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> str:
        """Make a folder that repositories share; nothing but links, or `name`, says whose it is."""
        fields = {"build_id": f"{letters}-0000", "requested_tag": "1", "tag_generation": 1}
        fields |= self._metadata(name, letters, status, size_bytes) | dict(metadata or {})
        return self._image(content_path(letters), fields, size_bytes if has_disk else None, files)

    def legacy(
        self,
        repository: str,
        letters: str,
        *,
        linked: bool = False,
        status: str = "ready",
        size_bytes: int = 4096,
        has_disk: bool = True,
        metadata: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> str:
        """Make a folder of one repository; `linked`: its disk is that of the content."""
        path = legacy_path(repository, letters)
        fields = self._metadata(f"{repository}@{digest(letters)}", letters, status, size_bytes)
        made = self._image(
            path, fields | dict(metadata or {}), None if linked or not has_disk else size_bytes, files
        )
        if linked:
            self.hard_link(f"{content_path(letters)}/rootfs.erofs", f"{path}/rootfs.erofs")
        return made

    def _metadata(self, name: str, letters: str, status: str, size_bytes: int) -> dict[str, Any]:
        return {
            "name": name,
            "digest": digest(letters),
            "platform": "linux/amd64",
            "status": status,
            "request": {"Name": name, "Tags": None, "Platform": ""},
            "size_bytes": size_bytes if status == "ready" else 0,
            "cmd": ["/bin/sh"],
            "created_at": (self.clock.now() - self.age).isoformat(),
        }

    def _image(
        self,
        path: str,
        metadata: Mapping[str, Any],
        size_bytes: int | None,
        files: Mapping[str, bytes] | None,
    ) -> str:
        if size_bytes is not None:
            self.write(f"{path}/rootfs.erofs", path.encode().ljust(size_bytes, b"."))
        for name, content in (files or {}).items():
            self.write(f"{path}/{name}", content)
        self.write(f"{path}/metadata.json", json.dumps(metadata, indent=2).encode())
        return path

    # Tags.

    def link(self, repository: str, tag: str, letters: str) -> str:
        """Set a tag as today's servers do."""
        up = "../" * (repository.count("/") + 2)
        return self.symlink(link_path(repository, tag), f"{up}content/{hex_of(letters)}")

    def legacy_link(self, repository: str, tag: str, letters: str) -> str:
        """Set a tag as older servers did."""
        return self.symlink(legacy_link_path(repository, tag), hex_of(letters))

    # What refers to images, and their timers.

    def state(self, repository: str, letters: str, unused_for: timedelta = DUE) -> str:
        """Start the timer of a row so long ago."""
        since_ns = self.clock.now_ns() - timedelta_nanoseconds(unused_for)
        make_state(self.place, (repository, digest(letters)), since_ns)
        return state_path(repository, letters)

    def unused_since(self, repository: str, letters: str) -> str | None:
        """Read the timer of a row as its file has it."""
        return state_of(self.place, (repository, digest(letters)))

    def guest(
        self, image: str, *, resolved: str = "", name: str = "vm", created_at: datetime | None = None
    ) -> str:
        """Make an instance; by default as old as the images."""
        created_at = created_at or START - _LONG_AGO
        return make_guest(self.place, name, image, resolved_image=resolved, created_at=created_at)

    def snapshot(self, image: str, *, resolved: str = "", name: str = "snap") -> str:
        """Make a snapshot."""
        return make_snapshot(self.place, name, image, resolved_image=resolved)

    def build(self, name: str, **fields: object) -> str:
        """Record an image build on this host."""
        path = f"builds/{name}/metadata.json"
        self.write(path, json.dumps({"id": name, "status": "ready", **fields}).encode())
        return path

    # Files.

    def write(self, path: str, content: bytes) -> str:
        """Write a file, and the folders above it."""
        with self._aged(path):
            if isinstance(self.place, MemoryFilesystem):
                self.place.write_file(f"{DATA}/{path}", content)
            else:
                (self.place / path).parent.mkdir(parents=True, exist_ok=True)
                (self.place / path).write_bytes(content)
        return path

    def folder(self, path: str) -> str:
        """Make a folder, and those above it."""
        with self._aged(path):
            if isinstance(self.place, MemoryFilesystem):
                self.place.make_folder(f"{DATA}/{path}")
            else:
                (self.place / path).mkdir(parents=True, exist_ok=True)
        return path

    def symlink(self, path: str, target: str) -> str:
        """Make a symbolic link in the place of one that is there, by another inode."""
        with self._aged(path):
            if isinstance(self.place, MemoryFilesystem):
                self.place.make_link(f"{DATA}/{path}", target)
            else:
                link = self.place / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(target)
        return path

    def hard_link(self, source: str, path: str) -> str:
        """Give a file a second name."""
        with self._aged(path):
            if isinstance(self.place, MemoryFilesystem):
                self.place.link(f"{DATA}/{source}", f"{DATA}/{path}")
            else:
                (self.place / path).parent.mkdir(parents=True, exist_ok=True)
                (self.place / path).hardlink_to(self.place / source)
        return path

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that is in it; on a disk in memory."""
        assert isinstance(self.place, MemoryFilesystem)
        self.place.remove(f"{DATA}/{path}")

    def exists(self, path: str) -> bool:
        """Return whether anything has this path, a dangling link too."""
        if isinstance(self.place, MemoryFilesystem):
            return self.place.exists(f"{DATA}/{path}")
        return os.path.lexists(self.place / path)

    def inode(self, path: str) -> int | None:
        """Return the inode of what has this path; None: nothing has."""
        if isinstance(self.place, MemoryFilesystem):
            return self.place.inode(f"{DATA}/{path}")
        return (self.place / path).lstat().st_ino if self.exists(path) else None

    def age_to(self, path: str, age: timedelta) -> None:
        """Set how long ago a file, a folder or a link was changed."""
        stamp_ns = self.clock.now_ns() - timedelta_nanoseconds(age)
        if isinstance(self.place, MemoryFilesystem):
            self.place.set_mtime(f"{DATA}/{path}", stamp_ns)
        else:
            os.utime(self.place / path, ns=(stamp_ns, stamp_ns), follow_symlinks=False)

    def entries(self) -> dict[str, tuple[str, bytes | str | None]]:
        """Show all that is below the data directory: `folder`, `file` with its content, or `link` with its target."""
        if isinstance(self.place, MemoryFilesystem):
            found = self.place.tree(DATA)
            return {path.removeprefix(f"{DATA}/"): about for path, about in found.items()}
        return dict(_entries(self.place))

    def files(self) -> Files:
        """Show every file and link but hmret's own."""
        found: Files = {}
        for path, (kind, content) in self.entries().items():
            if content is not None and not _lies_in(path, "system/hmret"):
                found[path] = kind, content, self.inode(path) or 0
        return found

    def trash(self) -> list[str]:
        """List what lies in hmret's trash."""
        return [path for path in self.entries() if path.startswith(f"{TRASH}/")]

    @contextmanager
    def _aged(self, path: str) -> Iterator[None]:
        """Have what is made in the block be as old as this host says."""
        if isinstance(self.place, MemoryFilesystem):
            wall_ns = self.clock.wall_ns
            self.clock.wall_ns -= timedelta_nanoseconds(self.age)
            try:
                yield
            finally:
                self.clock.wall_ns = wall_ns
            return
        yield
        # The path itself, and the folders in which that made a change.
        while path:
            self.age_to(path, self.age)
            path = path.rpartition("/")[0]

    # The engine.

    @asynccontextmanager
    async def opened(
        self, *, sources: Sequence[ReferenceSource] = (), threads: Threads | None = None, **settings: Any
    ) -> AsyncIterator[Retention]:
        """Open an engine that sweeps only when asked; under these settings everything may go when it is due."""
        if isinstance(self.place, MemoryFilesystem):
            filesystem: Any = self.place
            default: Threads = GatedThreads()
        else:
            filesystem, default = POSIX, InlineThreads()
        platform = Platform(
            filesystem=filesystem,
            clock=self.clock,
            threads=threads or default,
            monotonic_ns=lambda: 0,
        )
        config = make_config(self.place, **settings)
        async with open_engine(config, platform, sources=sources, scheduled=False) as retention:
            yield retention
        if isinstance(self.place, MemoryFilesystem):
            assert self.place.open_descriptors() == {}

    async def sweep(self, *, sources: Sequence[ReferenceSource] = (), **settings: Any) -> Swept:
        """Carry out one sweep with an engine of its own."""
        async with self.opened(sources=sources, **settings) as retention:
            return await self.sweep_by(retention)

    @staticmethod
    async def sweep_by(retention: Retention) -> Swept:
        """Carry out one sweep."""
        report = await retention.sweep()
        assert retention.last_plan is not None
        return Swept(report, {(one.repository, one.digest): one for one in retention.last_plan.verdicts})

    async def recover(self, **settings: Any) -> None:
        """Open an engine and close it again: what an earlier one left is finished or undone."""
        async with self.opened(**settings):
            pass


def _entries(root: Path) -> Iterator[tuple[str, tuple[str, bytes | str | None]]]:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            yield name, ("link", str(path.readlink()))
        elif path.is_dir():
            yield name, ("folder", None)
        else:
            yield name, ("file", path.read_bytes())
