"""What keeps a file or folder from being renamed or removed, on the real file system."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmret.disk.filesystem import POSIX
from hmret.disk.folders import opened_folder
from hmret.disk.hypeman.folder_contents import Contents, contents_of
from hmret.disk.kernel.barriers import find_barrier
from hmret.disk.layout import hex_of
from support.builders import digest
from support.children import run_program

HEX = hex_of(digest("a"))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / HEX
    folder.mkdir()
    for name in ("metadata.json", "rootfs.erofs", "manifest.json", "sbom.json"):
        (folder / name).write_bytes(b"x")
    yield folder
    if shutil.which("chattr"):
        run_program(["chattr", "-R", "-f", "-i", "-a", tmp_path])


def inside(folder: Path) -> Contents:
    fd = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with opened_folder(POSIX, folder.name, fd) as inside:
            return contents_of(POSIX, inside, POSIX.list_folder(inside))
    finally:
        os.close(fd)


def test_nothing_is_against_a_plain_file_or_folder_nor_against_what_is_not_there(image: Path) -> None:
    fd = os.open(image.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        paths = (HEX, f"{HEX}/rootfs.erofs", ".", "absent", f"{HEX}/rootfs.erofs/below")
        assert [find_barrier(path, dir_fd=fd) for path in paths] == [""] * 5
    finally:
        os.close(fd)


def test_a_link_is_not_followed(image: Path) -> None:
    (image / "link").symlink_to("/proc")
    assert find_barrier(str(image / "link")) == ""


def test_what_something_is_mounted_on_is_told() -> None:
    assert "mounted there" in find_barrier("/proc")


@pytest.mark.parametrize(("flag", "word"), [("i", "immutable"), ("a", "append-only")])
@pytest.mark.parametrize("name", ["", "rootfs.erofs"])
def test_attributes_are_told(image: Path, flag: str, word: str, name: str) -> None:
    chattr = shutil.which("chattr")
    if chattr is None or run_program([chattr, f"+{flag}", image / name]).returncode:
        pytest.skip("attributes cannot be set here")
    assert find_barrier(str(image / name)).startswith(word)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may change everything")
def test_a_folder_that_may_not_be_changed_is_told(image: Path) -> None:
    image.chmod(0o555)
    assert find_barrier(str(image)).startswith("hmret may not change it")
    image.chmod(0o755)


def test_regular_files_of_whatever_name_are_nothing_foreign(image: Path) -> None:
    assert inside(image) == Contents()


def test_what_is_no_file_is_foreign_whatever_its_kind(image: Path) -> None:
    os.mkfifo(image / "pipe")
    assert inside(image).foreign == "pipe: not a regular file"
    (image / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(image)
        try:
            listening.bind("s")
        finally:
            os.chdir(here)
        assert inside(image).foreign == "s: not a regular file"
    (image / "s").unlink()
    (image / "tag").symlink_to("absent")
    assert inside(image).foreign == "tag: a link"
    (image / "folder").mkdir()
    assert inside(image).foreign == "folder: a folder"


def test_only_a_young_install_folder_is_one_in_which_something_is_made(image: Path) -> None:
    (image / ".install-1").mkdir()
    assert inside(image).making == ".install-1: something is being made in it"
    os.utime(image / ".install-1", (0, 0))
    assert inside(image) == Contents()
