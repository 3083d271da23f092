"""`plan`: the document, the words, and that nothing is changed."""

import json
import pathlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cli.caches import DISK_BYTES, Cache, sizes_and_times
from hmret.cli import plan as plan_command

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

DUE = timedelta(days=31)
FIELDS = ["at", "data_dir", "enabled", "suspended", "stale_references", "summary", "images"]
SUMMARY_FIELDS = ["images", "delete", "delete_bytes", "mark", "clear", "keep", "prune"]
IMAGE_FIELDS = [
    "repository",
    "digest",
    "tags",
    "status",
    "size_bytes",
    "disk_bytes",
    "action",
    "reason",
    "referenced_by",
    "unused_since",
    "expires_at",
    "shared_with",
    "held_by",
]


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
    assert "disabled: a sweep would do nothing of this" in output
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


def test_a_pipe_gets_aligned_text_with_whole_digests(cache: Cache, call: Call) -> None:
    digest = cache.image("ghcr.io/kernel/x", "a", "v1", unused=DUE)
    cache.image("ghcr.io/kernel/longer-name", "b")
    cache.guest("vm-3", {"Image": "alpine:gone"})
    _, output, _ = call("plan", "--allow", "*", "--data-dir", cache.root)
    titles, first, second, *rest = output.splitlines()
    assert titles.split() == [
        "REPOSITORY",
        "DIGEST",
        "TAGS",
        "ACTION",
        "REASON",
        "ON",
        "DISK",
        "UNUSED",
        "SINCE",
        "EXPIRES",
    ]
    assert first.startswith("ghcr.io/kernel/longer-name  sha256:bbb")
    assert digest in second
    assert titles.index("ACTION") == first.index("mark") == second.index("delete")
    assert output.isascii()
    assert "\x1b" not in output
    assert rest[0] == "stale reference: instance/vm-3 refers to alpine:gone, which is not here"
    assert "2 images, 1 to delete (8.0 KiB), 1 to mark, 0 to clear, 0 to keep, 0 states" in rest[1]


def test_an_empty_cache_has_an_empty_plan(cache: Cache, call: Call) -> None:
    code, output, _ = call("plan", "--enable", "--allow", "*", "--data-dir", cache.root)
    assert code == 0
    assert output.count("\n") == 1
    assert "0 images, 0 to delete (0 B)" in output


def test_a_terminal_sees_what_goes_first_of_too_many(
    cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for digit in "0123456789":
        cache.image("ghcr.io/kernel/x", digit)
    cache.image("ghcr.io/kernel/x", "f", unused=DUE)
    flags = ["plan", "--enable", "--allow", "*", "--data-dir", cache.root]
    monkeypatch.setattr(plan_command, "_MOST_ON_TERMINAL", 3)
    _, piped, _ = call(*flags)
    assert piped.count("sha256:") == 11
    monkeypatch.setattr(plan_command, "is_terminal", lambda _stream: True)
    _, shown, _ = call(*flags)
    assert [line.split()[1][7] for line in shown.splitlines() if "sha256:" in line] == ["0", "1", "f"]
    assert "8 more images are not shown; through a pipe all are" in shown


def test_a_missing_data_directory_is_bad_config(tmp_path: pathlib.Path, call: Call, backend: str) -> None:
    code, output, complaints = call("plan", "--data-dir", tmp_path / "absent", "--backend", backend)
    assert (code, output) == (2, "")
    assert complaints.count("\n") == 1
    assert "data_dir" in complaints
