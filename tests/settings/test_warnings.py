"""What is allowed but probably not meant: warnings that need a look at the disk, and those of a policy."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from hmret.disk.data_dir_warnings import doubt_data_dir, image_disk_bytes
from hmret.disk.filesystem import POSIX
from hmret.settings.load import load_settings
from settings.loading import Load
from support.builders import make_image


def warnings_of(data_dir: Path) -> tuple[str, ...]:
    settings = load_settings(
        config_file=None,
        environment={},
        flags={"data_dir": str(data_dir)},
        default_files=(),
        ask_disk=doubt_data_dir,
        disk_size=image_disk_bytes,
    )
    return settings.warnings


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


NEVER = "can never match: repositories are written in full and without a tag or digest, like docker.io/library/alpine"
EARLY = (
    "hmret.disk.min_unused_for: longer than images.auto_delete.unused_for and every rule's window, "
    "so no image goes before its window ends, however full the disk is"
)
ALL_GO = (
    "hmret.disk.low_watermark: 0, so once the disk is too full, every image that may go early goes, not just "
    "enough of them; left out, it is five points below hmret.disk.high_watermark"
)
HOURS = (
    "hmret.window.yields_to_pressure: false, so a disk that is too full stays so until the hours "
    "of hmret.window.hours (02:00-05:00)"
)


@pytest.mark.parametrize(
    ("policy", "warned"),
    [
        ("rules: [{match: ['*'], unused_for: 1h}]", []),
        (
            "rules: [{match: ['*/a'], keep_latest: 1}, {match: [a.b/*, alpine], unused_for: 1h}]",
            [f"hmret.rules, rule 2: pattern 'alpine' {NEVER}; perhaps 'docker.io/library/alpine' is meant"],
        ),
        (
            "rules: [{match: [a.b/c, '**'], keep_latest: 1}, {match: [a.b/*], unused_for: 1h}]",
            ["hmret.rules, rule 2: never applies, since rule 1 matches whatever it does"],
        ),
        (
            """\
rules:
    - {match: [a.b/c], keep_latest: 1}
    - {match: [a.b/d], tags: [x], keep_latest: 1}
    - {match: [a.b/d, a.b/c], keep_latest: 1}
    - {match: [a.b/c], tags: [x], unused_for: 1h}""",
            [
                "hmret.rules, rule 3: pattern 'a.b/c' never applies, since rule 1 matches whatever it does",
                "hmret.rules, rule 4: never applies, since rule 1 matches whatever it does",
            ],
        ),
        ("rules: [{match: ['*'], tags: ['*'], keep_latest: 1}, {match: [a.b/*], unused_for: 1h}]", []),
        ("rules: [{match: [a.b/c], keep_latest: 1}, {match: ['*'], unused_for: never}]", []),
        (
            "rules: [{match: ['*'], unused_for: never}]",
            ["hmret.rules, rule 1: keeps every image, so nothing is eligible for deletion"],
        ),
        ("rules: [{match: ['*'], tags: [x], unused_for: never}]", []),
        ("disk: {high_watermark: 85%, min_unused_for: 720h}", []),
        ("disk: {high_watermark: 85%, min_unused_for: 721h}", [EARLY]),
        ("disk: {max_used: 5GB, min_unused_for: 721h}", [EARLY]),
        ("disk: {min_unused_for: 721h}", []),
        (
            """\
rules: [{match: [a.b/c], unused_for: 1000h}, {match: ['*'], unused_for: never}]
  disk: {max_used: 5GB, min_unused_for: 721h}""",
            [],
        ),
        (
            """\
rules: [{match: [a.b/c], unused_for: 700h}, {match: ['*'], unused_for: never}]
  disk: {max_used: 5GB, min_unused_for: 721h}""",
            [EARLY],
        ),
        ("disk: {high_watermark: 85%}", []),
        ("disk: {high_watermark: 3%}", []),
        ("disk: {high_watermark: 85%, low_watermark: 1%}", []),
        ("disk: {high_watermark: 85%, low_watermark: 0}", [ALL_GO]),
        ("disk: {high_watermark: 85%, low_watermark: 0%}", [ALL_GO]),
        ("disk: {low_watermark: 0%, max_used: 5GB}", []),
        ("window: {hours: [02:00-05:00]}", []),
        ("window: {hours: [02:00-05:00]}\n  disk: {max_used: 5GB}", [HOURS]),
        ("window: {hours: [02:00-05:00], yields_to_pressure: true}\n  disk: {max_used: 5GB}", []),
        ("window: {hours: []}\n  disk: {max_used: 5GB}", []),
        (
            "delete_unpullable: true",
            ["hmret.delete_unpullable: images that cannot be pulled again may be deleted for good"],
        ),
        (
            "brake: 50%",
            ["hmret.brake: has no effect while hmret.brake_for is 0, which switches the brake off"],
        ),
        (
            "brake_min_images: 5\n  brake_for: 0",
            [
                "hmret.brake_min_images: has no effect while hmret.brake_for is 0, which switches the brake off"
            ],
        ),
        ("brake: 50%\n  brake_for: 1h", []),
        ("brake_for: 0", []),
        ("quarantine: 24h", []),
    ],
)
def test_what_is_probably_not_meant_in_a_policy_is_warned_of(
    load: Load, tmp_path: Path, policy: str, warned: list[str]
) -> None:
    (tmp_path / "images").mkdir()

    hypeman = "limits: {max_image_storage: 1.0}\n"
    loaded = load(f"{hypeman}hmret:\n  {policy}\n", flags={"data_dir": str(tmp_path)})

    assert list(loaded.warnings) == warned


def test_a_file_system_that_notes_no_reads_is_warned_of(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(
        os,
        "statvfs",
        lambda _path: SimpleNamespace(f_flag=os.ST_NOATIME, f_frsize=1, f_blocks=1, f_bfree=0, f_bavail=0),
    )
    warnings = {
        mode: [
            warning
            for warning in load(
                flags={"data_dir": str(tmp_path)}, environment={"HMRET__ACCESS_TIME": mode}
            ).warnings
            if warning.startswith("hmret.access_time")
        ]
        for mode in ("gaps", "always", "never")
    }
    assert warnings["never"] == []
    (warning,) = warnings["gaps"]
    assert warning == (
        "hmret.access_time: gaps, but the images lie on a file system that is mounted noatime, "
        "so no read of a disk is ever noted; mount it relatime, or set never"
    )
    assert len(warnings["always"]) == 1


READ_ONLY = "lies on a file system that is mounted read-only, so"


@pytest.mark.parametrize(
    ("read_only", "told"),
    [
        ("", []),
        (".", [f"{READ_ONLY} run does not start"]),
        ("system", [f"system' {READ_ONLY} run does not start"]),
        ("system/hmret", [f"system/hmret' {READ_ONLY} run does not start"]),
        ("images", [f"images' {READ_ONLY} no image can be deleted"]),
        ("guests", []),
    ],
)
def test_a_data_directory_that_is_mounted_read_only_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: str, told: list[str]
) -> None:
    for folder in ("images", "guests", read_only):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    below = (tmp_path / read_only).resolve()

    def statvfs(path: Path | str) -> SimpleNamespace:
        if not Path(path).exists():
            raise FileNotFoundError(path)
        is_below = read_only and Path(path).resolve().is_relative_to(below)
        flags = os.ST_RDONLY if is_below else 0
        return SimpleNamespace(f_flag=flags, f_frsize=1, f_blocks=1, f_bfree=0, f_bavail=0)

    monkeypatch.setattr(os, "statvfs", statvfs)
    warnings = warnings_of(tmp_path)
    assert [one.startswith("data_dir: ") for one in warnings] == [True] * len(told)
    assert all(one.endswith(end) for one, end in zip(warnings, told, strict=True))


def test_a_relative_control_socket_is_warned_of(load: Load) -> None:
    (warning,) = (
        one
        for one in load("hmret: {control_socket: rel.sock}").warnings
        if one.startswith("hmret.control_socket: ")
    )
    assert warning == "hmret.control_socket: 'rel.sock' depends on the folder in which hmret is started"


@pytest.mark.parametrize("written", ["''", "/run/hmret.sock"])
def test_an_absolute_control_socket_and_none_is_not(load: Load, written: str) -> None:
    warnings = load(f"hmret: {{control_socket: {written}}}").warnings
    assert not [one for one in warnings if one.startswith("hmret.control_socket: ")]


@pytest.mark.parametrize(("written", "told"), [("endpoints: []", []), ("endpoints: [], name: a", ["name"])])
def test_of_a_fleet_without_endpoints_only_what_has_no_effect_is_warned_of(
    load: Load, written: str, told: list[str]
) -> None:
    warnings = load(f"hmret: {{fleet: {{{written}}}}}").warnings
    assert [one for one in warnings if "fleet" in one] == [
        f"hmret.fleet.{key}: has no effect while hmret.fleet.endpoints is empty, which means no fleet"
        for key in told
    ]
