"""Data directories on real file systems, and on several of them at once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import attrs

from realfs.checking import Skipped
from realfs.mounts import make, mounted, needs, run, unmount

__all__ = ["SETUPS", "Setup"]


@attrs.frozen
class Setup:
    """How a data directory lies on file systems."""

    name: str
    make: Callable[[Path], AbstractContextManager[Path]]
    """Makes it below a folder; gives the data directory."""
    refuses_links: str = ""
    """Why it gives no link that leads out of its folder, as those of today's layout do; empty: it does."""


def _plain(kind: str, *mkfs: str, options: str = "") -> Callable[[Path], AbstractContextManager[Path]]:
    @contextmanager
    def set_up(folder: Path) -> Iterator[Path]:
        with make(folder, kind, *mkfs, options=options) as place:
            yield _data_in(place)

    return set_up


def _data_in(place: Path) -> Path:
    root = place / "data"
    root.mkdir()
    return root


@contextmanager
def _casefold(folder: Path) -> Iterator[Path]:
    if not Path("/sys/fs/ext4/features/casefold").exists():
        raise Skipped("the kernel's ext4 has no casefold")
    with make(folder, "ext4", "-O", "casefold", "-E", "encoding=utf8") as place:
        root = _data_in(place)
        run("chattr", "+F", root)
        yield root


def _subvolume(name: str) -> Callable[[Path], AbstractContextManager[Path]]:
    @contextmanager
    def set_up(folder: Path) -> Iterator[Path]:
        needs("btrfs")
        with make(folder, "btrfs") as place:
            root = _data_in(place)
            run("btrfs", "subvolume", "create", root / name)
            yield root

    return set_up


@contextmanager
def _overlay(folder: Path) -> Iterator[Path]:
    needs(kernel="overlay")
    with make(folder, "ext4") as place:
        for name in ("lower", "upper", "work"):
            (place / name).mkdir()
        layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        with mounted("overlay", "overlay", folder / "merged", layers) as merged:
            yield _data_in(merged)


@contextmanager
def _bindfs(folder: Path) -> Iterator[Path]:
    needs("bindfs", kernel="fuse")
    with make(folder, "ext4") as place:
        root, shown = _data_in(place), folder / "shown"
        shown.mkdir()
        run("bindfs", root, shown)
        try:
            yield shown
        finally:
            unmount(shown)


@contextmanager
def _fuse_overlayfs(folder: Path) -> Iterator[Path]:
    needs("fuse-overlayfs", kernel="fuse")
    with make(folder, "ext4") as place:
        for name in ("lower", "upper", "work"):
            (place / name).mkdir()
        merged = folder / "merged"
        merged.mkdir()
        layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
        run("fuse-overlayfs", "-o", layers, merged)
        try:
            yield _data_in(merged)
        finally:
            unmount(merged)


@contextmanager
def _sshfs(folder: Path) -> Iterator[Path]:
    needs("sshfs", kernel="fuse")
    server = Path("/usr/lib/openssh/sftp-server")
    if not server.exists():
        raise Skipped("needs an SFTP server (apt install openssh-sftp-server)")
    with make(folder, "ext4") as place:
        command, shown = folder / "command", folder / "shown"
        command.write_text(f"#!/bin/sh\nexec {server}\n")
        command.chmod(0o755)
        shown.mkdir()
        run("sshfs", "-o", f"ssh_command={command}", f"host:{place}", shown)
        try:
            yield _data_in(shown)
        finally:
            unmount(shown)


@contextmanager
def _tmpfs(folder: Path) -> Iterator[Path]:
    with mounted("tmpfs", "tmpfs", folder / "tmpfs", "size=64m") as place:
        yield _data_in(place)


@contextmanager
def _apart(folder: Path) -> Iterator[Path]:
    with make(folder, "xfs") as place:
        root = _data_in(place)
        (root / "images").mkdir()
        image = folder / "images"
        image.mkdir()
        with make(image, "ext4") as images:
            run("mount", "--move", images, root / "images")
            try:
                yield root
            finally:
                run("mount", "--move", root / "images", images)


@contextmanager
def _bound(folder: Path) -> Iterator[Path]:
    with make(folder, "ext4") as place:
        root = _data_in(place)
        for path in (root / "images", place / "elsewhere"):
            path.mkdir()
        run("mount", "--bind", place / "elsewhere", root / "images")
        try:
            yield root
        finally:
            unmount(root / "images")


SETUPS = (
    Setup("ext4, data=ordered", _plain("ext4", options="data=ordered")),
    Setup("ext4, data=writeback", _plain("ext4", options="data=writeback")),
    Setup("ext4, casefold", _casefold),
    Setup("xfs", _plain("xfs")),
    Setup("btrfs", _plain("btrfs")),
    Setup("btrfs, images/ a subvolume", _subvolume("images")),
    Setup("btrfs, system/ a subvolume", _subvolume("system")),
    Setup("f2fs", _plain("f2fs")),
    Setup("overlayfs", _overlay),
    Setup("bindfs", _bindfs),
    Setup("fuse-overlayfs", _fuse_overlayfs),
    Setup("sshfs", _sshfs, "sshfs reads no link with `..` in it, so hmret suspends deletion there"),
    Setup("tmpfs", _tmpfs),
    Setup("images/ on ext4, system/ on xfs", _apart),
    Setup("images/ bind-mounted", _bound),
)
"""All of them."""
