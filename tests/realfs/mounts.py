"""Loop devices, mounts and the tools for them; all of it goes when the block ends."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realfs.checking import Skipped

__all__ = ["kinds", "looped", "make", "mounted", "needs", "run", "unmount", "wait_for", "write_image"]

_PACKAGES = {
    "mkfs.xfs": "xfsprogs",
    "xfs_io": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "btrfs": "btrfs-progs",
    "mkfs.f2fs": "f2fs-tools",
    "mkfs.erofs": "erofs-utils",
    "bindfs": "bindfs",
    "fuse-overlayfs": "fuse-overlayfs",
    "bwrap": "bubblewrap",
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-storage-daemon": "qemu-system-common",
    "nbdkit": "nbdkit",
    "nbdcopy": "libnbd-bin",
    "cc": "gcc",
}
"""The package of Debian that has a tool, where its name does not say so."""
_PATIENCE = 60.0


def run(*command: str | Path, code: int = 0) -> str:
    """Run a tool to its end; returns what it has printed.

    Raises:
        AssertionError: it ended with another code.
    """
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, timeout=_PATIENCE
    )
    assert done.returncode == code, (
        f"{' '.join(map(str, command))}: {done.returncode}: {done.stdout}{done.stderr}"
    )
    return done.stdout


def needs(*tools: str, kernel: str = "") -> None:
    """Say what a check needs: tools, and a file system that the kernel knows.

    Raises:
        Skipped: something of it is not here.
    """
    missing = sorted({_PACKAGES.get(tool, tool) for tool in tools if shutil.which(tool) is None})
    if missing:
        raise Skipped(f"needs {', '.join(tools)} (apt install {' '.join(missing)})")
    if kernel and kernel not in kinds():
        raise Skipped(f"the kernel has no {kernel}")


def kinds() -> set[str]:
    """List the file systems that the kernel knows."""
    return {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}


def write_image(path: Path, kind: str, *options: str, mebibytes: int = 0) -> Path:
    """Make a sparse file with a file system in it."""
    needs(f"mkfs.{kind}", kernel=kind)
    # What xfs and btrfs want at least.
    with path.open("wb") as file:
        file.truncate((mebibytes or {"xfs": 320, "btrfs": 160}.get(kind, 96)) << 20)
    run(f"mkfs.{kind}", "-q", *options, path)
    return path


@contextmanager
def looped(file: Path, *options: str) -> Iterator[Path]:
    """Have a file as a block device."""
    device = run("losetup", *options, "--show", "-f", file).strip()
    fd = os.open(device, os.O_RDONLY)
    try:
        # From now on it goes by itself once nothing has it open, however this program ends.
        run("losetup", "-d", device)
        yield Path(device)
    finally:
        os.close(fd)


@contextmanager
def mounted(kind: str, source: str | Path, target: Path, options: str = "") -> Iterator[Path]:
    """Mount a file system."""
    target.mkdir(exist_ok=True)
    run("mount", "-t", kind, *(("-o", options) if options else ()), source, target)
    try:
        yield target
    finally:
        unmount(target)


def unmount(target: Path) -> None:
    """Unmount; what is still in use, once it is not."""
    done = subprocess.run(["umount", str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        # Whatever still holds it ends with this program.
        run("umount", "-l", target)


@contextmanager
def make(folder: Path, kind: str, *mkfs: str, options: str = "", mebibytes: int = 0) -> Iterator[Path]:
    """Mount a new file system of a kind below a folder."""
    image = write_image(folder / f"{kind}.image", kind, *mkfs, mebibytes=mebibytes)
    with looped(image) as device, mounted(kind, device, folder / kind, options) as place:
        yield place
    image.unlink()


def wait_for(path: Path) -> None:
    """Wait until a path is there."""
    ends = time.monotonic() + _PATIENCE
    while not os.path.lexists(path):
        assert time.monotonic() < ends, f"never came: {path}"
        time.sleep(0.01)
