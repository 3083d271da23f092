"""A folder of an image that goes in one call, on a real disk, with its tags and timers; and whatever may be wrong with it."""

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import CHUNK
from hmret.disk.layout import METADATA

__all__ = ["WRONG", "GoingFolder", "names_in", "random_wrongs"]

NAME = "a" * 64
_COARSE = 5
"""CLOCK_REALTIME_COARSE, by which the kernel stamps."""
LEGACY, TODAYS = "../content/" + NAME, "../../content/" + NAME


@attrs.define(eq=False)
class GoingFolder:
    """One that goes; `ask` calls for it, with what was found of it before anything went wrong."""

    top: Path
    syncs: bool = True
    leases: bool = True
    tags: tuple[str, ...] = ("latest", "3.20")
    timers: tuple[str, ...] = ("one", "two")
    recorded: str = TODAYS
    """Where the tags lead, as it is on record."""
    wrong: Callable[["GoingFolder"], None] = lambda _going: None
    """Is done to it after it was looked at."""
    _kept: list[int] = attrs.field(factory=list)

    def make(self) -> None:
        """Make all of it."""
        for name in ("content", "own", "tags", "trash", "timers", f"content/{NAME}"):
            (self.top / name).mkdir(parents=True)
        for name in (METADATA, "rootfs.ext4"):
            (self.top / "content" / NAME / name).write_bytes(name.encode())
        for tag in self.tags:
            (self.top / "tags" / tag).symlink_to(LEGACY if tag == "latest" else TODAYS)
        for timer in self.timers:
            (self.top / "timers" / timer).write_bytes(timer.encode())

    def ask(self, filesystem: Filesystem) -> tuple[tuple[int, int, int], list[bool]]:
        """Have it go; returns how far it has come, and whether what was held is closed from then on."""
        fds = [os.open(self.top / name, os.O_RDONLY) for name in (".", "content", "trash", "tags", "timers")]
        [held] = filesystem.hold_folders([fds[1]], [NAME], METADATA, CHUNK)
        assert not isinstance(held, int)
        folder_fd, inode, changed_ns, files, _, _ = held
        by_name = {file[0]: file for file in files}
        links = [(self.top / "tags" / tag).lstat().st_ino for tag in self.tags]
        marks: list[int] = []
        for timer in self.timers:
            found = (self.top / "timers" / timer).lstat()
            marks += [found.st_mode, found.st_dev, found.st_ino, found.st_size]
            marks += [found.st_mtime_ns, found.st_ctime_ns]
        held_fds = [*(file[1] for file in files), folder_fd]
        try:
            _wait_for_another_stamp()
            self.wrong(self)
            answer = filesystem.retire_folder(
                (fds[0], fds[1], fds[2], folder_fd, by_name[METADATA][1]),
                (NAME, "gone.0"),
                (inode, changed_ns, by_name[METADATA][9], self.syncs, self.leases),
                [file[1] for file in files],
                [f"content/{NAME}", f"own/{NAME}"],
                (
                    [fds[3]] * len(links),
                    [*self.tags],
                    links,
                    [LEGACY if tag == "latest" else self.recorded for tag in self.tags],
                    [f"gone.tag{number}" for number in range(len(links))],
                ),
                ([fds[4]] * len(self.timers), [*self.timers], marks),
            )
            return answer, [*map(_is_open, held_fds)]
        finally:
            # Whoever opens a file that is leased waits for that.
            filesystem.close_all([*fds, *self._kept, *filter(_is_open, held_fds)])

    def open_disk(self) -> None:
        """Open its disk, as a virtual machine does."""
        self._kept.append(os.open(self.top / "content" / NAME / "rootfs.ext4", os.O_RDONLY))


def _wait_for_another_stamp() -> None:
    """Wait until whatever changes has another time stamp than what has changed before: some milliseconds at most."""
    before = time.clock_gettime_ns(_COARSE)
    while time.clock_gettime_ns(_COARSE) == before:
        os.sched_yield()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _put_away(path: Path) -> None:
    """Take something away that keeps its inode, so that what comes in its place has another."""
    with suppress(FileNotFoundError):
        path.rename(path.with_name(f".away-{len([*path.parent.iterdir()])}"))


def _write(path: str, content: bytes = b"x") -> Callable[[GoingFolder], None]:
    def write(going: GoingFolder) -> None:
        (going.top / path).parent.mkdir(parents=True, exist_ok=True)
        _put_away(going.top / path)
        (going.top / path).write_bytes(content)

    return write


def _link(path: str, target: str) -> Callable[[GoingFolder], None]:
    def link(going: GoingFolder) -> None:
        _put_away(going.top / path)
        (going.top / path).symlink_to(target)

    return link


def _folder(path: str) -> Callable[[GoingFolder], None]:
    return lambda going: (going.top / path).mkdir(parents=True)


def _move(source: str, target: str) -> Callable[[GoingFolder], Any]:
    return lambda going: (going.top / source).rename(going.top / target)


def _replace(path: str, make: Callable[[GoingFolder], None]) -> Callable[[GoingFolder], None]:
    def replace(going: GoingFolder) -> None:
        _put_away(going.top / path)
        make(going)

    return replace


def _change_in_place(path: str) -> Callable[[GoingFolder], None]:
    def change(going: GoingFolder) -> None:
        found = (going.top / path).stat()
        with (going.top / path).open("r+b") as file:
            file.write(b"X")
        # What can be put back is: its ctime cannot.
        os.utime(going.top / path, ns=(found.st_atime_ns, found.st_mtime_ns))

    return change


def _pull_again(going: GoingFolder) -> None:
    (going.top / "content" / NAME).rename(going.top / "away")
    _folder(f"content/{NAME}")(going)


WRONG: dict[str, Callable[[GoingFolder], None]] = {
    "nothing": lambda _going: None,
    "its disk is open": GoingFolder.open_disk,
    "its metadata is written over": _change_in_place(f"content/{NAME}/{METADATA}"),
    "a file comes into it": _write(f"content/{NAME}/new"),
    "another folder is in its place": _pull_again,
    "it has gone": _move(f"content/{NAME}", "away"),
    "its name in the trash is taken by a folder with a file": _write("trash/gone.0/file"),
    "its name in the trash is taken by a file": _write("trash/gone.0"),
    "an owner has a folder of its own": _folder(f"own/{NAME}"),
    "a file is where an owner's folder would be": _replace("own", _write("own")),
    "the way to an owner's folder goes in a circle": _replace("own", _link("own", "own")),
    "a link that leads nowhere is in an owner's place": _link(f"own/{NAME}", "gone"),
    "the first tag leads elsewhere": _link("tags/latest", "../content/" + "b" * 64),
    "the last tag leads to the same": _link("tags/3.20", TODAYS),
    "the last tag is a file": _write("tags/3.20"),
    "the last tag has gone": lambda going: _put_away(going.top / "tags/3.20"),
    "a tag's name in the trash is taken by a folder": _folder("trash/gone.tag1"),
    "the first timer is another": _write("timers/one", b"one"),
    "the last timer is written over": _change_in_place("timers/two"),
    "the last timer has gone": lambda going: _put_away(going.top / "timers/two"),
    "the last timer is a folder": _replace("timers/two", _folder("timers/two")),
}
"""What can have become of it since it was looked at."""


def names_in(top: Path) -> dict[str, str]:
    """Return all that is below a folder: what kind it is, and what it holds or where it leads."""
    return {
        str(path.relative_to(top)): f"link {path.readlink()}"
        if path.is_symlink()
        else "folder"
        if path.is_dir()
        else f"file {path.read_bytes()!r}"
        for path in top.rglob("*")
    }


def random_wrongs(rng: random.Random) -> Callable[[GoingFolder], None]:
    """Choose some of all that can be wrong at once."""
    chosen = rng.sample(sorted(WRONG), rng.randint(0, 3))

    def do(going: GoingFolder) -> None:
        for name in chosen:
            with suppress(OSError):
                WRONG[name](going)

    return do
