"""`sweep`: what it deletes, what it tells, and with which exit code it ends."""

import json
import pathlib
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.caches import DISK_BYTES, Cache, sizes_and_times

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

DUE = timedelta(days=31)
FIELDS = [
    "status",
    "started_at",
    "duration_seconds",
    "suspended",
    "ready_images",
    "protected_images",
    "marked_unused",
    "cleared_states",
    "deleted_images",
    "deleted_bytes",
    "pruned_states",
    "stale_references",
    "open_images",
    "failed_deletes",
    "deleted",
    "errors",
    "quarantined_images",
    "quarantined_bytes",
    "released_images",
    "released_bytes",
]
FIXTURE = json.loads((pathlib.Path(__file__).parents[2] / "fixtures/hypeman-data.json").read_text())


def test_what_is_long_unreferenced_in_a_real_cache_goes(
    before: pathlib.Path, call_json: CallJson, backend: str
) -> None:
    flags = ["--enable", "--unused-for", "720h", "--data-dir", before, "--backend", backend]
    flags += [flag for pattern in FIXTURE["allowed"] for flag in ("--allow", pattern)]
    code, report = call_json("sweep", *flags)
    assert code == 0
    assert list(report) == FIELDS
    assert report["status"] == "success"
    assert report["ready_images"] == 60
    assert report["protected_images"] == 6
    assert report["deleted_images"] == len(report["deleted"]) > 0
    assert report["deleted_bytes"] == sum(image["disk_bytes"] for image in report["deleted"])
    assert report["errors"] == report["suspended"] == []
    for image in report["deleted"]:
        assert list(image) == ["repository", "digest", "tags", "disk_bytes", "unused_since"]
        folder = before / "images" / image["repository"]
        assert not (folder / image["digest"].removeprefix("sha256:")).exists()
        assert not any((folder / tag).is_symlink() for tag in image["tags"])
    code, again = call_json("sweep", *flags)
    assert (code, again["deleted_images"], again["marked_unused"]) == (0, 0, 0)
    assert again["ready_images"] == 60 - report["deleted_images"]


def test_the_bytes_are_freed_when_it_returns(cache: Cache, call_json: CallJson, backend: str) -> None:
    cache.image("ghcr.io/kernel/x", "a", "v1", unused=DUE)
    _, report = call_json("sweep", "--enable", "--allow", "*", "--data-dir", cache.root, "--backend", backend)
    assert report["deleted_bytes"] == DISK_BYTES
    assert report["deleted"][0]["tags"] == ["v1"]
    assert not any((cache.root / "system/hmret/trash").iterdir())


def test_times_are_told_to_the_nanosecond(cache: Cache, call_json: CallJson) -> None:
    cache.image("ghcr.io/kernel/x", "a")
    cache.state("ghcr.io/kernel/x", "a", "2026-01-02T03:04:05.123456789Z")
    _, report = call_json("sweep", "--enable", "--allow", "*", "--data-dir", cache.root)
    assert report["deleted"][0]["unused_since"] == "2026-01-02T03:04:05.123456789Z"
    assert report["started_at"].endswith("Z")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_nothing_is_touched_where_retention_is_disabled(cache: Cache, call: Call, flags: list[str]) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    earlier = sizes_and_times(cache.root)
    code, output, complaints = call("sweep", "--allow", "*", "--data-dir", cache.root, *flags)
    assert (code, complaints) == (0, "")
    assert "disabled" in output
    # Never images.auto_delete.enabled, which would start hypeman's own controller as well.
    assert flags or output == "disabled: nothing was touched; set hmret.enabled, or pass --enable\n"
    assert sizes_and_times(cache.root) == earlier


def test_the_report_of_a_disabled_sweep_counts_nothing(call_json: CallJson, tmp_path: pathlib.Path) -> None:
    code, report = call_json("sweep", "--data-dir", tmp_path / "absent")
    assert code == 0
    assert list(report) == FIELDS
    assert report["status"] == "disabled"
    assert {report[field] for field in FIELDS if field.endswith(("images", "states", "bytes"))} == {0}
    assert not (tmp_path / "absent").exists()


def test_a_directory_without_images_has_nothing_to_do(tmp_path: pathlib.Path, call_json: CallJson) -> None:
    code, report = call_json("sweep", "--enable", "--allow", "*", "--data-dir", tmp_path)
    assert (code, report["status"], report["ready_images"]) == (0, "success", 0)


def test_a_missing_data_directory_is_told_in_one_line(tmp_path: pathlib.Path, call: Call) -> None:
    code, output, complaints = call("sweep", "--enable", "--allow", "*", "--data-dir", tmp_path / "absent")
    assert (code, output) == (2, "")
    assert complaints.count("\n") == 1
    assert complaints.startswith(f"hmret: error: data_dir: expected a folder, got {tmp_path}/absent")


def test_the_report_for_people_names_what_went(cache: Cache, call: Call) -> None:
    digest = cache.image("ghcr.io/kernel/x", "a", "v1", "v2", unused=DUE)
    cache.image("ghcr.io/kernel/x", "b", unused=DUE)
    code, output, complaints = call("sweep", "--enable", "--allow", "*", "--data-dir", cache.root)
    assert (code, complaints) == (0, "")
    assert re.match(r"success, after ([0-9.]+(ms|s|m))+\n", output)
    assert f"deleted ghcr.io/kernel/x@{digest} (v1, v2), 8.0 KiB, unused since 20" in output
    assert f"deleted ghcr.io/kernel/x@sha256:{'b' * 64}, 8.0 KiB" in output
    assert "deleted images                          2\n" in output
    assert "\x1b" not in output


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_suspended_sweep_names_cause_path_and_remedy(
    cache: Cache, call: Call, flags: list[str], backend: str
) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    torn = cache.guest("torn", '{"Image": "ghcr')
    code, output, complaints = call(
        "sweep", "--enable", "--allow", "*", "--data-dir", cache.root, "--backend", backend, *flags
    )
    assert code == 1
    assert "suspended" in output
    assert "unreadable_reference" in output
    assert str(torn) in output
    assert "repair it" in output
    assert cache.has("ghcr.io/kernel/x", "a")
    assert complaints.count("\n") == 1
    assert "deletion_suspended" in complaints


def test_a_suspension_has_its_three_fields(cache: Cache, call_json: CallJson) -> None:
    torn = cache.guest("torn", "")
    _, report = call_json("sweep", "--enable", "--allow", "*", "--data-dir", cache.root)
    (suspension,) = report["suspended"]
    assert list(suspension) == ["cause", "path", "detail"]
    assert (suspension["cause"], suspension["path"]) == ("unreadable_reference", str(torn))


def make_unremovable(cache: Cache) -> None:
    """Let the timer of an image be no file that could be replaced or removed."""
    path = cache.state_path("ghcr.io/kernel/x", "a")
    (path / "in the way").mkdir(parents=True)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_what_failed_is_told_and_ends_with_1(cache: Cache, call: Call, flags: list[str]) -> None:
    cache.image("ghcr.io/kernel/x", "a")
    make_unremovable(cache)
    code, output, _ = call("sweep", "--enable", "--allow", "*", "--data-dir", cache.root, *flags)
    assert code == 1
    assert "partial" in output
    if flags:
        (error,) = json.loads(output)["errors"]
        assert list(error) == ["repository", "digest", "path", "error"]
        assert error["repository"] == "ghcr.io/kernel/x"
    else:
        assert f"error: ghcr.io/kernel/x@sha256:{'a' * 64}: " in output


def test_a_system_call_that_fails_is_one_line_and_1(cache: Cache, call: Call, backend: str) -> None:
    (cache.root / "system").write_text("no folder")
    code, output, complaints = call(
        "sweep", "--enable", "--allow", "*", "--data-dir", cache.root, "--backend", backend
    )
    assert (code, output) == (1, "")
    assert complaints.startswith(f"hmret: error: {cache.root}: ")
    assert complaints.count("\n") == 1


def test_a_sweep_that_begins_tells_settings_that_are_doubtful(cache: Cache, call: Call) -> None:
    code, _, complaints = call("sweep", "--enable", "--allow", "alpine", "--data-dir", cache.root)
    assert code == 0
    assert "setting_doubtful" in complaints
    assert "alpine" in complaints


def test_deletions_are_logged_where_that_is_asked_for(cache: Cache, call: Call) -> None:
    digest = cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    flags = ["--log-level", "info", "--log-format", "json", "--json"]
    _, output, complaints = call("sweep", "--enable", "--allow", "*", "--data-dir", cache.root, *flags)
    (line,) = [json.loads(line) for line in complaints.splitlines() if "image_deleted" in line]
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["level"], line["event"], line["digest"]) == ("info", "image_deleted", digest)
    assert line["bytes"] == DISK_BYTES
    assert json.loads(output)["deleted_images"] == 1


def test_an_image_that_a_guest_needs_stays(cache: Cache, call_json: CallJson, backend: str) -> None:
    cache.image("docker.io/library/alpine", "a", "3.20", unused=DUE)
    cache.guest("vm-1", {"Image": "alpine:3.20", "CreatedAt": datetime.now(UTC).isoformat()})
    _, report = call_json("sweep", "--enable", "--allow", "*", "--data-dir", cache.root, "--backend", backend)
    assert (report["deleted_images"], report["protected_images"], report["cleared_states"]) == (0, 1, 1)


def test_a_new_folder_of_its_own_is_for_the_owner_alone(cache: Cache, call: Call) -> None:
    call("sweep", "--enable", "--data-dir", cache.root)
    assert stat.S_IMODE((cache.root / "system/hmret").stat().st_mode) == 0o700


def test_a_sweep_whose_patterns_allow_nothing_here_stops_no_timer(
    cache: Cache, call: Call, backend: str
) -> None:
    for digit in "abc":
        cache.image("ghcr.io/kernel/x", digit, unused=timedelta(days=3))
    flags = ["--enable", "--data-dir", cache.root, "--backend", backend, "--log-level", "error"]
    timers = [cache.state_path("ghcr.io/kernel/x", digit) for digit in "abc"]
    for allow in ([], ["--allow", "alpine"], ["--allow", "quay.io/*"]):
        code, output, complaints = call("sweep", *flags, *allow)
        assert (code, output, complaints.count("\n")) == (2, "", 1)
        assert "would stop all 3 timers" in complaints
        assert f"[{', '.join(allow[1:])}]" in complaints
        # What is advised is not what was just refused.
        assert "such as --allow 'ghcr.io/kernel/x', or pass --stop-timers" in complaints
        assert all(path.exists() for path in timers)
        # The plan says it before.
        told = "3 timers would be stopped: 3 not_allowed (images.auto_delete.allowed)"
        assert told in call("plan", *flags, *allow)[1]
    code, output, complaints = call("sweep", *flags, "--stop-timers")
    assert code == 0
    assert re.search(r"^timers stopped +3$", output, re.MULTILINE)
    assert not any(path.exists() for path in timers)


def test_a_dry_run_is_a_plan(cache: Cache, call: Call) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    flags = ["--enable", "--allow", "*", "--data-dir", cache.root]
    earlier = sizes_and_times(cache.root)
    for options in ([], ["--json"]):
        dry, plan = call("sweep", "--dry-run", *flags, *options), call("plan", *flags, *options)
        assert dry[0] == plan[0] == 0
        now = re.compile(r"20\d\d-\d\d-\d\dT[0-9:.]+Z")
        assert now.sub("", dry[1]) == now.sub("", plan[1])
    assert sizes_and_times(cache.root) == earlier
