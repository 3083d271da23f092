"""Programs that have a disk open: hypervisors, exports, sandboxes."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from realfs.mounts import needs, run, wait_for
from realfs.openers import DISK_SIZE, Opener, Undisturbed, killed_after

__all__ = ["PROGRAMS", "running_with_disk"]

_PATIENCE = 60.0


@contextmanager
def running_with_disk(command: Sequence[str | Path], disk: Path | None) -> Iterator[Undisturbed]:
    """Run a program while the block lasts; the block begins once it, or a child of it, has the disk open."""
    with subprocess.Popen(
        [*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        ends = time.monotonic() + _PATIENCE
        while disk is not None and not _is_open(disk):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < ends, "it never opens the disk"
            time.sleep(0.02)

        def undisturbed() -> None:
            assert process.poll() is None, "it has ended"

        try:
            yield undisturbed
        finally:
            process.kill()


def _is_open(disk: Path) -> bool:
    found = disk.stat()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            status = link.stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == (found.st_dev, found.st_ino):
            return True
    return False


@contextmanager
def _machine(drive: str, snapshot: str, disk: Path, folder: Path) -> Iterator[Undisturbed]:
    """A virtual machine that stands still, with a disk."""
    needs("qemu-system-x86_64", "qemu-img")
    file = disk
    if "qcow2" in drive:
        file = folder / "overlay.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", file)
    command = [
        "qemu-system-x86_64",
        "-nodefaults",
        "-display",
        "none",
        "-machine",
        "q35,accel=tcg",
        "-S",
        "-m",
        "64",
    ]
    command += ["-drive", f"file={file},if=virtio,{drive}", *filter(None, [snapshot])]
    with running_with_disk(command, disk) as undisturbed:
        yield undisturbed


@contextmanager
def _vhost_user(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    needs("qemu-storage-daemon")
    export = f"type=vhost-user-blk,id=export,addr.type=unix,addr.path={folder}/socket,node-name=disk"
    file = f"driver=file,node-name=disk,filename={disk},read-only=on"
    with running_with_disk(
        ["qemu-storage-daemon", "--blockdev", file, "--export", export], disk
    ) as undisturbed:
        yield undisturbed


@contextmanager
def _qemu_nbd(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    needs("qemu-nbd")
    with running_with_disk(
        ["qemu-nbd", "-k", folder / "socket", "-r", "-f", "raw", "-t", disk], disk
    ) as undisturbed:
        yield undisturbed


@contextmanager
def _nbdkit(disk: Path, folder: Path) -> Iterator[Undisturbed]:
    needs("nbdkit", "nbdcopy")
    socket = folder / "socket"
    with running_with_disk(["nbdkit", "-f", "-r", "-U", socket, "file", disk], None):
        wait_for(socket)
        # A client that does not get on, as nobody takes what it has read.
        command = ["nbdcopy", f"nbd+unix:///?socket={socket}", "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client, killed_after(client):
            assert client.stdout is not None
            assert client.stdout.read(1)
            yield lambda: None
            assert len(client.stdout.read()) == DISK_SIZE - 1
            assert client.wait() == 0


@contextmanager
def _bubblewrap(disk: Path, _folder: Path) -> Iterator[Undisturbed]:
    needs("bwrap")
    command: list[str | Path] = [
        "bwrap",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        "--tmpfs",
        "/tmp",
        "--ro-bind",
        disk,
        "/tmp/disk",
    ]
    command += ["sh", "-c", "exec sleep 1000 < /tmp/disk"]
    with running_with_disk(command, disk) as undisturbed:
        yield undisturbed


PROGRAMS: Mapping[str, Opener] = {
    "is written by a virtual machine": partial(_machine, "format=raw", ""),
    "is read by a virtual machine": partial(_machine, "format=raw,readonly=on", ""),
    "is under a virtual machine with -snapshot": partial(_machine, "format=raw", "-snapshot"),
    "is the backing file of a virtual machine's disk": partial(_machine, "format=qcow2", ""),
    "is exported by vhost-user": _vhost_user,
    "is exported by qemu-nbd": _qemu_nbd,
    "is exported by nbdkit to a client": _nbdkit,
    "is open in a sandbox of bubblewrap": _bubblewrap,
}
"""By what can be said of the disk."""
