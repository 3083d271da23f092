"""`plan`: the document, the words, and that nothing is changed."""

import json
import pathlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cli.caches import DISK_BYTES, Cache, sizes_and_times
from hmret.cli.commands import plan as plan_command
from support.image_fields import IMAGE_FIELDS

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

DUE = timedelta(days=31)
FIELDS = ["at", "data_dir", "enabled", "suspended", "stale_references", "summary", "vm_names", "images"]
SUMMARY_FIELDS = ["images", "delete", "delete_bytes", "mark", "clear", "keep", "prune"]


def test_the_document_has_the_fields_of_the_contract(cache: Cache, call_json: CallJson, backend: str) -> None:
    b = cache.image("ghcr.io/kernel/x", "b", unused=DUE)
    a = cache.image("ghcr.io/kernel/x", "a", "v1", "v0")
    cache.state("ghcr.io/kernel/x", "a", "2026-01-02T03:04:05.123456789Z")
    needed = cache.image("docker.io/library/alpine", "c", "3.20")
    cache.guest("vm-2", {"Image": "alpine:3.20"})
    cache.guest("vm-1", {"Image": "alpine:3.20"})
    cache.guest("vm-3", {"Image": "alpine:gone"})
    cache.state("ghcr.io/kernel/x", "f", "2026-01-02T03:04:05Z")
    code, plan = call_json("plan", "--enable", "--allow", "*", "--data-dir", cache.root, "--backend", backend)
    assert code == 0
    assert list(plan) == FIELDS
    assert (plan["data_dir"], plan["enabled"], plan["suspended"]) == (str(cache.root), True, [])
    assert plan["stale_references"] == [{"source": "instance/vm-3", "image": "alpine:gone"}]
    assert list(plan["summary"]) == SUMMARY_FIELDS
    assert plan["summary"] == {
        "images": 3,
        "delete": 2,
        "delete_bytes": 2 * DISK_BYTES,
        "mark": 0,
        "clear": 1,
        "keep": 0,
        "prune": 1,
    }
    assert [image["digest"] for image in plan["images"]] == [needed, a, b]
    assert all(list(image) == IMAGE_FIELDS for image in plan["images"])
    assert plan["images"][0] == {
        "repository": "docker.io/library/alpine",
        "digest": needed,
        "tags": ["3.20"],
        "status": "ready",
        "size_bytes": 5_000_000_000,
        "disk_bytes": DISK_BYTES,
        "action": "clear",
        "reason": "referenced",
        "referenced_by": ["instance/vm-1", "instance/vm-2"],
        "unused_since": None,
        "expires_at": None,
        "shared_with": [],
        "held_by": [],
        "copies_elsewhere": None,
    }
    assert plan["images"][1]["unused_since"] == "2026-01-02T03:04:05.123456789Z"
    assert plan["images"][1]["expires_at"] == "2026-02-01T03:04:05.123456789Z"
    assert plan["images"][1]["tags"] == ["v0", "v1"]


def test_not_one_byte_changes(before: pathlib.Path, call: Call, backend: str) -> None:
    earlier = sizes_and_times(before)
    for flags in ([], ["--json"], ["--enable"], ["--at", "2030-01-01T00:00:00Z"]):
        code, _, complaints = call("plan", "--allow", "*", "--data-dir", before, "--backend", backend, *flags)
        assert (code, complaints) == (0, "")
    assert sizes_and_times(before) == earlier


def test_it_works_where_retention_is_disabled_and_says_so(cache: Cache, call: Call) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    code, output, _ = call("plan", "--allow", "*", "--data-dir", cache.root)
    assert code == 0
    assert "delete" in output
    assert output.endswith("disabled: a sweep would do none of this; set hmret.enabled, or pass --enable\n")
    code, output, _ = call("plan", "--allow", "*", "--data-dir", cache.root, "--json")
    assert (code, json.loads(output)["enabled"]) == (0, False)


def test_another_time_can_be_asked_for(cache: Cache, call_json: CallJson) -> None:
    cache.image("ghcr.io/kernel/x", "a")
    cache.state("ghcr.io/kernel/x", "a", "2026-01-02T00:00:00Z")
    flags = ["plan", "--allow", "*", "--data-dir", cache.root, "--unused-for", "1h"]
    _, earlier = call_json(*flags, "--at", "2026-01-02T02:59:59.5+02:00")
    _, at_it = call_json(*flags, "--at", "2026-01-02T01:00:00Z")
    assert earlier["at"] == "2026-01-02T00:59:59.5Z"
    assert (earlier["images"][0]["reason"], at_it["images"][0]["reason"]) == ("retention_window", "expired")


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999999-23:59"]
)
def test_the_ends_of_time_can_be_asked_for(cache: Cache, call_json: CallJson, at: str) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    cache.image("ghcr.io/kernel/x", "b")
    code, plan = call_json("plan", "--allow", "*", "--data-dir", cache.root, "--at", at)
    assert (code, plan["at"][4:7]) == (0, at[4:7])


@pytest.mark.parametrize("at", ["2026-12-24T00:00:00", "2026-12-24", "tomorrow", "", "2026-13-01T00:00:00Z"])
def test_a_time_that_is_none_is_bad_usage(cache: Cache, call: Call, at: str) -> None:
    code, output, complaints = call("plan", "--data-dir", cache.root, "--at", at)
    assert (code, output) == (2, "")
    assert complaints.startswith("hmret: error: --at: expected an RFC 3339 time")
    assert complaints.endswith(f"got {at!r}\n")


def test_a_suspended_plan_ends_with_1_and_tells_the_remedy(cache: Cache, call: Call, backend: str) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    torn = cache.guest("torn", "{")
    flags = ["plan", "--allow", "*", "--data-dir", cache.root, "--backend", backend]
    code, output, _ = call(*flags)
    assert code == 1
    assert f"deletion is suspended: unreadable_reference: {torn}: " in output
    assert "repair it" in output
    code, output, _ = call(*flags, "--json")
    plan = json.loads(output)
    assert code == 1
    assert [list(one) for one in plan["suspended"]] == [["cause", "path", "detail"]]
    assert (plan["images"][0]["action"], plan["images"][0]["reason"]) == ("none", "suspended")


def test_a_pipe_gets_aligned_text_of_the_same_columns(cache: Cache, call: Call) -> None:
    cache.image("ghcr.io/kernel/x", "a", "v1", unused=DUE)
    cache.image("ghcr.io/kernel/longer-name", "b")
    cache.guest("vm-3", {"Name": "web-3", "Image": "alpine:gone"})
    _, output, _ = call("plan", "--allow", "*", "--data-dir", cache.root)
    titles, first, second, *rest = output.splitlines()
    assert titles.split() == ["ACTION", "REPOSITORY", "DIGEST", "REASON", "ON", "DISK"]
    # What goes comes first.
    assert first.split() == ["delete", "ghcr.io/kernel/x", "a" * 12, "expired", "8.0", "KiB"]
    assert second.split() == [
        "start",
        "timer",
        "ghcr.io/kernel/longer-name",
        "b" * 12,
        "newly_unused",
        "8.0",
        "KiB",
    ]
    assert titles.index("REPOSITORY") == first.index("ghcr") == second.index("ghcr")
    assert max(map(len, (titles, first, second))) <= 80
    assert output.isascii()
    assert "\x1b" not in output
    assert rest[:3] == [
        "1 image of 2 would be deleted (8.0 KiB)",
        "1 timer would be started",
        "stale reference: instance/vm-3 (web-3) refers to alpine:gone, which is not in the cache",
    ]


def test_an_empty_cache_has_an_empty_plan(cache: Cache, call: Call) -> None:
    code, output, _ = call("plan", "--enable", "--allow", "*", "--data-dir", cache.root)
    assert code == 0
    first, second = output.splitlines()
    assert first == "no image of 0 would be deleted (0 B)"
    assert second.startswith("at 20")
    assert second.endswith(f" in {cache.root}")


def test_a_terminal_sees_what_goes_first_of_too_many(
    cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for digit in "0123456789":
        cache.image("ghcr.io/kernel/x", digit)
    cache.image("ghcr.io/kernel/x", "f", unused=DUE)
    flags = ["plan", "--enable", "--allow", "*", "--data-dir", cache.root]
    monkeypatch.setattr(plan_command, "_MOST_ON_TERMINAL", 3)
    _, piped, _ = call(*flags)
    assert piped.count("ghcr.io/kernel/x") == 11
    monkeypatch.setattr(plan_command, "is_terminal", lambda _stream: True)
    _, shown, _ = call(*flags)
    digests = [line.split("ghcr.io/kernel/x")[1].split()[0] for line in shown.splitlines() if "ghcr" in line]
    assert digests == [digit * 12 for digit in "f01"]
    assert "8 more are not shown; use --limit to show more" in shown
    _, shown, _ = call(*flags, "--limit", "11")
    assert shown.count("ghcr.io/kernel/x") == 11


def test_what_goes_is_said_first_and_then_which_timers_would_be_stopped_and_by_what(
    cache: Cache, call: Call
) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    cache.image("ghcr.io/kernel/x", "b", "v1", unused=timedelta(days=3))
    cache.image("ghcr.io/kernel/x", "c")
    cache.image("quay.io/other/y", "d", unused=timedelta(days=3))
    cache.image("quay.io/other/y", "e", unused=timedelta(days=3))
    cache.image("quay.io/other/y", "f", status="pulling")
    cache.state("ghcr.io/kernel/x", "0", "2026-01-02T03:04:05Z")
    cache.guest("vm-1", {"ResolvedImage": f"ghcr.io/kernel/x@sha256:{'b' * 64}"})
    _, output, _ = call("plan", "--allow", "ghcr.io/*", "--data-dir", cache.root)
    lines = output.splitlines()
    assert [line.split("  ")[0] for line in lines[1:6]] == ["delete", *["stop timer"] * 3, "start timer"]
    assert lines[6:11] == [
        "1 image of 6 would be deleted (8.0 KiB)",
        "3 timers would be stopped: 2 not_allowed (images.auto_delete.allowed), 1 referenced",
        "1 timer would be started",
        "1 record of absent images would be pruned",
        "1 image would be kept: 1 not_ready; --all lists them",
    ]
    # The JSON goes on to have its own words.
    _, output, _ = call("plan", "--allow", "ghcr.io/*", "--data-dir", cache.root, "--json")
    assert [image["action"] for image in json.loads(output)["images"]] == [
        "delete",
        "clear",
        "mark",
        "clear",
        "clear",
        "clear",
    ]


def test_the_exit_code_can_tell_whether_something_would_go(cache: Cache, call: Call) -> None:
    flags = ["plan", "--allow", "*", "--data-dir", cache.root, "--detailed-exitcode"]
    cache.image("ghcr.io/kernel/x", "b")
    assert call(*flags)[0] == 0
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    assert call(*flags)[0] == 4
    assert call(*flags[:-1])[0] == 0
    cache.guest("torn", "{")
    assert call(*flags)[0] == 1


def test_a_missing_data_directory_is_bad_config(tmp_path: pathlib.Path, call: Call, backend: str) -> None:
    code, output, complaints = call("plan", "--data-dir", tmp_path / "absent", "--backend", backend)
    assert (code, output) == (2, "")
    assert complaints.count("\n") == 1
    assert "data_dir" in complaints
