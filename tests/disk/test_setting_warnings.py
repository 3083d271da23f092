"""Warnings that need a look at the disk."""

import errno
import os
from pathlib import Path

import pytest

from builders import make_image
from hmret.disk.filesystem import POSIX
from hmret.disk.setting_warnings import warnings_about
from hmret.disk.settings import load_settings


def warnings_of(data_dir: Path) -> tuple[str, ...]:
    settings = load_settings(
        config_file=None, environment={}, flags={"data_dir": str(data_dir)}, default_files=()
    )
    return warnings_about(settings.config, settings.values)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def take_lease(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(POSIX, "take_lease", take_lease)


def test_a_file_system_without_file_leases_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_image(tmp_path, "docker.io/library/alpine", "a")
    refuse(monkeypatch, errno.ENOLCK)
    (warning,) = warnings_of(tmp_path)
    assert warning == (
        f"data_dir: {str(tmp_path)!r} offers no file leases (No locks available), so hmret cannot ask the kernel "
        "whether a disk is open"
    )


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOENT])
def test_a_file_that_is_open_or_has_gone_says_nothing_of_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    make_image(tmp_path, "docker.io/library/alpine", "a")
    refuse(monkeypatch, number)
    assert warnings_of(tmp_path) == ()


def test_without_an_image_nothing_is_said_of_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    refuse(monkeypatch, errno.ENOLCK)
    assert warnings_of(tmp_path) == ()


def test_trying_a_lease_changes_nothing(tmp_path: Path) -> None:
    make_image(tmp_path, "docker.io/library/alpine", "a")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    warnings_of(tmp_path)
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before
