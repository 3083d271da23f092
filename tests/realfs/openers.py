"""Ways in which a process or the kernel has a disk open: each gives a look at whether that goes on undisturbed."""

import array
import ctypes
import mmap
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from realfs.checking import Skipped
from realfs.mounts import looped, mounted, needs, run, unmount

__all__ = ["DISK_SIZE", "OPENERS", "Opener", "Undisturbed", "killed_after", "overlaid"]

Undisturbed = Callable[[], object]
"""Raises where what has the disk open cannot go on."""
Opener = Callable[[Path, Path], AbstractContextManager[Undisturbed]]
"""Takes the disk, whose bytes it may replace, and an empty folder."""

DISK_SIZE = 4 << 20
_INSIDE = b"what is in it\n"


@contextmanager
def _opened(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    with disk.open("rb") as file:
        process = subprocess.Popen(["sleep", "1000"], stdin=file)
    with process, killed_after(process):
        yield lambda: process.poll() is None or _fail("it has ended")


@contextmanager
def _mapped(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    with disk.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with mapping:
        yield lambda: len(mapping[:])


@contextmanager
def _executed(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    shutil.copyfile("/bin/sleep", disk)
    disk.chmod(0o755)
    with subprocess.Popen([str(disk), "1000"]) as process, killed_after(process):
        _wait_until(lambda: Path(f"/proc/{process.pid}/exe").resolve() == disk.resolve())
        yield lambda: process.poll() is None or _fail("it has ended")


@contextmanager
def _linked(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    other = disk.parent.parent.parent / f"{folder.name}.link"
    other.hardlink_to(disk)
    with other.open("rb") as file:
        yield lambda: file.seek(0) or len(file.read()) or _fail("nothing is read")
    other.unlink()


@contextmanager
def _sent(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    code = (
        "import array, socket, sys\n"
        "it = socket.socket(fileno=int(sys.argv[1]))\n"
        "_, [(_, _, data)], _, _ = it.recvmsg(1, 100)\n"
        "it.send(b'x')\n"
        "sys.stdin.read()\n"
        "sys.exit(0 if __import__('os').pread(array.array('i', data)[0], 1, 0) else 1)\n"
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", code, str(theirs.fileno())]
        popen = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()])
        with popen as process, killed_after(process):
            _send(ours, disk)
            assert ours.recv(1) == b"x"
            yield lambda: process.poll() is None or _fail("it has ended")
            process.communicate()
            assert process.returncode == 0, "it could not read what it was sent"


@contextmanager
def _in_flight(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _send(ours, disk)
        yield lambda: None
        _, [(_, _, data)], _, _ = theirs.recvmsg(1, 100)
        [fd] = array.array("i", data)
        assert len(os.pread(fd, DISK_SIZE, 0)) == DISK_SIZE
        os.close(fd)


def _send(target: socket.socket, disk: Path) -> None:
    with disk.open("rb") as file:
        target.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])


@contextmanager
def _fixed_file(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    library = ctypes.CDLL(None, use_errno=True)
    setup, register, register_files = 425, 427, 2
    ring = library.syscall(setup, 4, ctypes.create_string_buffer(120))
    if ring < 0:
        raise Skipped(f"io_uring: {os.strerror(ctypes.get_errno())}")
    try:
        with disk.open("rb") as file:
            files = (ctypes.c_int32 * 1)(file.fileno())
            assert library.syscall(register, ring, register_files, files, 1) == 0, ctypes.get_errno()
        yield lambda: None
    finally:
        os.close(ring)


# File systems and swap.


@contextmanager
def _loop(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    inside = _fill(disk)
    with looped(disk) as device, mounted("ext4", device, folder / "mounted") as place:
        yield lambda: _reads(place / inside)


@contextmanager
def _loop_lazily(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    inside = _fill(disk)
    device = run("losetup", "--show", "-f", disk).strip()
    with mounted("ext4", device, folder / "mounted") as place:
        run("losetup", "-d", device)
        assert str(disk) in run("losetup", "-n", "-O", "BACK-FILE", device), "it is detached already"
        yield lambda: _reads(place / inside)


def _fill(disk: Path) -> str:
    """Make an ext4 in a disk, with a file in it."""
    disk.write_bytes(bytes(DISK_SIZE))
    run("mkfs.ext4", "-q", "-O", "^has_journal", disk)
    with looped(disk) as device:
        place = disk.parent.parent.parent / "filling"
        with mounted("ext4", device, place):
            (place / "inside").write_bytes(_INSIDE)
        place.rmdir()
    return "inside"


def _reads(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.read(fd, 100) == _INSIDE
    finally:
        os.close(fd)


def _make_erofs(disk: Path, folder: Path) -> None:
    needs("mkfs.erofs", kernel="erofs")
    source = folder / "source"
    source.mkdir()
    (source / "inside").write_bytes(_INSIDE)
    made = folder / "erofs.image"
    run("mkfs.erofs", "--quiet", made, source)
    disk.write_bytes(made.read_bytes())


@contextmanager
def _erofs(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    _make_erofs(disk, folder)
    with looped(disk, "-r") as device, mounted("erofs", device, folder / "mounted", "ro") as place:
        yield lambda: _reads(place / "inside")


@contextmanager
def _erofs_of_file(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    _make_erofs(disk, folder)
    place = folder / "mounted"
    place.mkdir()
    library = ctypes.CDLL(None, use_errno=True)
    # mount(8) would put a loop device between.
    if library.mount(bytes(disk), bytes(place), b"erofs", 1, None):
        raise Skipped(f"the kernel mounts no erofs straight from a file: {os.strerror(ctypes.get_errno())}")
    try:
        yield lambda: _reads(place / "inside")
    finally:
        unmount(place)


@contextmanager
def _swap(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    disk.write_bytes(bytes(DISK_SIZE))
    disk.chmod(0o600)
    run("mkswap", disk)
    fd = os.open(disk, os.O_PATH)  # by which it is found whatever its name, and which does not have it open
    run("swapon", disk)
    try:
        yield lambda: str(disk) in Path("/proc/swaps").read_text() or _fail("it is no swap any more")
    finally:
        run("swapoff", f"/proc/{os.getpid()}/fd/{fd}")
        os.close(fd)


@contextmanager
def _lower_file(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    with overlaid(disk.parent, folder) as merged, (merged / disk.name).open("rb") as file:
        yield lambda: file.seek(0) or len(file.read()) or _fail("nothing is read")


@contextmanager
def overlaid(lower: Path, folder: Path) -> Iterator[Path]:
    """Mount an overlay over a folder."""
    needs(kernel="overlay")
    for name in ("upper", "work"):
        (folder / name).mkdir()
    layers = f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work"
    with mounted("overlay", "overlay", folder / "merged", layers) as merged:
        yield merged


@contextmanager
def killed_after(process: "subprocess.Popen[Any]") -> Iterator[None]:
    """Kill a process when the block ends, however it does."""
    try:
        yield
    finally:
        process.kill()


def _fail(text: str) -> NoReturn:
    raise AssertionError(text)


def _wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "it never came to that"
        time.sleep(0.01)


OPENERS: Mapping[str, Opener] = {
    "is open in another process": _opened,
    "is mapped, its descriptor closed": _mapped,
    "is executed": _executed,
    "is open by a hard link elsewhere": _linked,
    "was sent to a process as a descriptor": _sent,
    "is a descriptor in flight": _in_flight,
    "is a fixed file of io_uring": _fixed_file,
    "is a mounted loop device": _loop,
    "is a loop device that was lazily detached": _loop_lazily,
    "is mounted as erofs": _erofs,
    "is mounted as erofs, straight from the file": _erofs_of_file,
    "is swap": _swap,
    "is the open lower file of an overlay": _lower_file,
}
"""By what can be said of the disk."""
