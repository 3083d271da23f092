"""What the calls of today's hypeman are made of: looking an image up, and writing, linking and removing, step by step.

A call is a generator that yields before each change to the disk and before whatever it does with something that it
has read; between two steps anything can happen. It also yields for as long as the kernel makes it wait for a file that
hmret holds a lease on. What it yields says what it is about to do; what it returns, how the call ended.
"""

import json
from collections.abc import Callable, Generator
from datetime import datetime
from itertools import count
from typing import Any, Literal

import attrs

from support.host_disk import HostDisk, OpenedFile
from support.hypeman_lookup import CONTENT, DISK, IMAGES, IN_PROGRESS, METADATA, Found, Reading, link_of

__all__ = ["Call", "Finds", "Outcome", "Parts", "Server", "finish", "is_waiting"]

_WAITS = "waits for "


@attrs.frozen
class Outcome:
    """How a call ended."""

    kind: Literal["done", "not found", "being pulled", "failed"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


Call = Generator[str, None, Outcome]
Parts = Generator[str, None, None]
Finds = Generator[str, None, tuple[Found, dict[str, Any]] | None]


def is_waiting(step: str) -> bool:
    """Return whether a call goes on only when hmret has released a lease."""
    return step.startswith(_WAITS)


def finish(call: Call) -> Outcome:
    """Make a call in one go, on a disk that no one else works on."""
    while True:
        try:
            next(call)
        except StopIteration as stop:
            outcome = stop.value
            assert isinstance(outcome, Outcome)
            return outcome


class Server:
    """The disk, the clock and the numbers of one server.

    Args:
        disk: what it works on.
        now: its clock.
        number: numbers its pulls and its staging folders, which are random on a real host.
    """

    def __init__(
        self, disk: HostDisk, now: Callable[[], datetime], number: Callable[[], int] | None = None
    ) -> None:
        self.disk = disk
        self._now = now
        self._number = number or count(1).__next__

    def reading(self) -> Reading:
        """Look at the tree as it is now."""
        return Reading(self.disk.tree())

    def _stamp(self) -> str:
        return self._now().isoformat().replace("+00:00", "Z")

    def attempt(self, call: Call) -> Call:
        """Let a call end with an error of the disk as hypeman's calls do: it is told, and nothing is undone."""
        try:
            return (yield from call)
        except OSError as error:
            return Outcome("failed", str(error))

    # Looking.

    def _get(self, repository: str, reference: str) -> Finds:
        """Find what a tag or a digest leads to, and its metadata."""
        if reference.startswith("sha256:"):
            return (yield from self._look(repository, reference.removeprefix("sha256:")))
        hexadecimal = self.reading().hex_of_tag(repository, reference)
        if hexadecimal is None:
            return None
        yield f"look for {hexadecimal[:4]}, where {repository}:{reference} leads"
        return (yield from self._look(repository, hexadecimal))

    def _look(self, repository: str, hexadecimal: str) -> Finds:
        """Find a digest of a repository, and its metadata; one that is broken is not found."""
        for folder in (f"{CONTENT}/{hexadecimal}", f"{IMAGES}/{repository}/{hexadecimal}"):
            yield from self._read(f"{folder}/{METADATA}")
        reading = self.reading()
        found = reading.resolve(repository, f"sha256:{hexadecimal}")
        metadata = None if found is None else reading.metadata(found.folder)
        return None if found is None or metadata is None else (found, metadata)

    def _read(self, path: str) -> Parts:
        """Read a file that may not be there; the kernel tells hmret where it has a lease on it."""
        try:
            file = yield from self._open(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        file.close()

    def _open(self, path: str) -> Generator[str, None, OpenedFile]:
        file = self.disk.open_file(path)
        while not file.is_open:
            yield f"{_WAITS}{path}"
        return file

    # Writing.

    def _install_metadata(self, folder: str, metadata: dict[str, Any], status: str) -> Parts:
        content = json.dumps(metadata | {"status": status}, indent=2)
        yield from self._install(folder, METADATA, content.encode())

    def _install(self, folder: str, name: str, content: bytes) -> Parts:
        """Write a file in a staging folder beside its place, and rename it there; what is missing is made."""
        stage = f"{folder}/.install-{self._number()}"
        yield f"make {folder}"
        self.disk.make_folders(folder)
        yield f"make {stage}"
        self.disk.make_folder(stage)
        yield f"write {stage}/{name}"
        self.disk.write(f"{stage}/{name}", content)
        yield f"rename {stage}/{name}"
        self.disk.rename(f"{stage}/{name}", f"{folder}/{name}")
        yield f"remove {stage}"
        self.disk.rmdir(stage)

    def _set_tag(self, repository: str, tag: str, hexadecimal: str, *, in_content: bool) -> Parts:
        """Set a tag: stage its link, rename it to its place, and remove the other layout's link of that name."""
        link = link_of(repository, tag, in_content=in_content)
        folder = link.rpartition("/")[0]
        stage = f"{folder}/.tag-stage-{self._number()}"
        yield f"make {folder}"
        self.disk.make_folders(folder)
        yield f"make {stage}"
        self.disk.make_folder(stage)
        yield f"link {stage}/{tag}"
        self.disk.symlink(self._target(repository, hexadecimal, in_content=in_content), f"{stage}/{tag}")
        yield f"rename {stage}/{tag}"
        self.disk.rename(f"{stage}/{tag}", link)
        yield f"remove {stage}"
        self.disk.rmdir(stage)
        other = link_of(repository, tag, in_content=not in_content)
        if self.disk.exists(other):
            yield f"unlink {other}"
            self.remove(other)

    @staticmethod
    def _target(repository: str, hexadecimal: str, *, in_content: bool) -> str:
        up = "../" * (repository.count("/") + 2)
        return f"{up}content/{hexadecimal}" if in_content else hexadecimal

    # Removing.

    def _remove_content(self, hexadecimal: str) -> Parts:
        """Remove content, where no link below `repositories/` leads to it and no pull works on it."""
        reading = self.reading()
        content = f"{CONTENT}/{hexadecimal}"
        status = (reading.metadata(content) or {}).get("status")
        if not reading.links_to(hexadecimal, in_content=True) and status not in IN_PROGRESS:
            yield from self._remove_folder(content)

    def _remove_folder(self, folder: str) -> Parts:
        """Remove a folder with all that is in it, one by one; what has gone already is no error."""
        for name in self.disk.names(folder):
            path = f"{folder}/{name}"
            if self.disk.names(path):
                yield from self._remove_folder(path)
                continue
            yield f"unlink {path}"
            self.remove(path)
        if self.disk.exists(folder):
            yield f"remove {folder}"
            try:
                self.disk.rmdir(folder)
            except FileNotFoundError:
                return

    def remove(self, path: str) -> None:
        """Remove a file, a link or an empty folder; what has gone already is no error."""
        try:
            self.disk.unlink(path)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            self.disk.rmdir(path)

    def _has_disk(self, folder: str) -> bool:
        return self.disk.exists(f"{folder}/{DISK}")
