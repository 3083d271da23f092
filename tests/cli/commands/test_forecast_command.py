"""`forecast`: what falls due on which day."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.caches import DISK_BYTES, Cache, sizes_and_times
from cli.services import Service, running_service

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

ALPINE = "docker.io/library/alpine"
FLAGS = ("--enable", "--allow", "*")


@pytest.fixture
def service(cache: Cache) -> Iterator[Service]:
    cache.image(ALPINE, "a", unused=timedelta(days=29))
    cache.image(ALPINE, "b", unused=timedelta(days=20))
    with running_service(cache.root, *FLAGS) as service:
        service.wait_event("sweep_ended")
        yield service


def test_each_day_tells_what_falls_due_on_it(cache: Cache, call_json: CallJson, backend: str) -> None:
    for letters, days in (("a", 40), ("b", 29), ("c", 29)):
        cache.image(ALPINE, letters, unused=timedelta(days=days))
    earlier = sizes_and_times(cache.root)
    code, forecast = call_json(
        "forecast", "--days", "3", *FLAGS, "--data-dir", cache.root, "--backend", backend
    )
    assert code == 0
    today = datetime.now(UTC).date()
    assert [day["date"] for day in forecast["days"]] in (
        [str(first + timedelta(days=number)) for number in range(3)]
        for first in (today, today - timedelta(days=1))  # the day may have changed meanwhile
    )
    due = [(day["images"], day["bytes"]) for day in forecast["days"]]
    assert due[0] == (1, DISK_BYTES)
    assert due[1] == (2, 2 * DISK_BYTES)
    assert list(forecast["days"][0]) == ["date", "images", "bytes"]
    assert sizes_and_times(cache.root) == earlier


def test_people_see_a_table_with_bars(cache: Cache, call: Call) -> None:
    for letters, days in (("a", 40), ("b", 29), ("c", 29)):
        cache.image(ALPINE, letters, unused=timedelta(days=days))
    code, output, _ = call("forecast", *FLAGS, "--data-dir", cache.root)
    lines = output.splitlines()
    assert code == 0
    assert len(lines) == 1 + 30 + 1
    assert lines[0].split() == ["DATE", "(UTC)", "IMAGES", "FALLS", "DUE"]
    assert lines[1].endswith(f"  8.0 KiB  {'#' * 20}")
    assert lines[2].endswith(f" 16.0 KiB  {'#' * 40}")
    assert lines[3].split()[1:] == ["0", "0", "B"]
    assert lines[-1] == "total: 3 images, 24.0 KiB, if nothing is used or pulled until then"


def test_nothing_that_falls_due_is_no_error(cache: Cache, call: Call) -> None:
    code, output, _ = call("forecast", *FLAGS, "--data-dir", cache.root)
    assert code == 0
    assert "#" not in output
    assert output.splitlines()[-1].startswith("total: 0 images, 0 B, ")


def test_one_image_is_counted_as_one(cache: Cache, call: Call) -> None:
    cache.image(ALPINE, "a", unused=timedelta(days=40))
    _, output, _ = call("forecast", *FLAGS, "--data-dir", cache.root)
    assert output.splitlines()[-1].startswith("total: 1 image, 8.0 KiB, ")


@pytest.mark.parametrize("days", ["0", "-1", "367", "x"])
def test_days_out_of_range_are_bad_usage(cache: Cache, call: Call, days: str) -> None:
    code, output, complaints = call("forecast", "--days", days, "--data-dir", cache.root)
    assert (code, output) == (2, "")
    assert "--days" in complaints
    assert complaints.count("\n") == 1


def test_the_running_engine_answers(service: Service, cache: Cache, call: Call) -> None:
    code, output, complaints = call("forecast", "--data-dir", cache.root, "--days", "15", "--json")
    assert code == 0
    assert complaints == ""
    days = json.loads(output)["days"]
    assert len(days) == 15
    assert [number for number, day in enumerate(days) if day["images"]] == [1, 10]
    code, output, _ = call("forecast", "--data-dir", cache.root, "--days", "60", "--json")
    assert (code, len(json.loads(output)["days"])) == (0, 60)
    _, output, complaints = call("forecast", "--data-dir", cache.root)
    assert len(output.splitlines()) == 32
    assert complaints.startswith("hmret: the running engine answers")


def test_a_candidate_policy_is_compared_with_that_of_the_running_engine(
    service: Service, cache: Cache, call: Call
) -> None:
    candidate = cache.root.parent / "candidate.yaml"
    candidate.write_text(
        "images: {auto_delete: {enabled: true, allowed: ['*'], unused_for: 600h}}\n"
        "hmret: {enabled: true, rules: [{match: ['*/other'], unused_for: never}]}\n"
    )
    code, output, complaints = call("plan", "--config", candidate, "--data-dir", cache.root, "--json")
    assert (code, complaints) == (0, "")
    plan = json.loads(output)
    assert plan["summary"]["delete"] == 1
    comparison = plan["comparison"]
    assert comparison["in_force"]["delete"] == 0
    (goes,) = comparison["newly_go"]
    assert (goes["digest"], goes["reason"], goes["reason_in_force"]) == (
        f"sha256:{'a' * 64}",
        "expired",
        "retention_window",
    )
    assert comparison["newly_stay"] == []
    code, output, _ = call("plan", "--config", candidate, "--data-dir", cache.root)
    assert code == 0
    assert (
        f"newly deleted: {ALPINE}@{'a' * 12} (-), 8.0 KiB, retention_window under the current settings"
        in output
    )
    assert "compared with the current settings, 1 image would be newly deleted and 0 newly kept" in output
    assert cache.has(ALPINE, "a")
    # What a plan a day later would delete in force, and the candidate keeps.
    candidate.write_text(
        "images: {auto_delete: {enabled: true, allowed: ['*']}}\nhmret: {enabled: true, pinned: ['*']}\n"
    )
    later = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    code, output, _ = call("plan", "--config", candidate, "--data-dir", cache.root, "--at", later, "--json")
    (stays,) = json.loads(output)["comparison"]["newly_stay"]
    assert (stays["reason"], stays["reason_in_force"]) == ("pinned", "expired")


def test_a_candidate_that_changes_nothing_is_a_plan_like_any(
    service: Service, cache: Cache, call: Call
) -> None:
    same = cache.root.parent / "same.yaml"
    same.write_text("images: {auto_delete: {enabled: true, allowed: ['*']}}\nhmret: {enabled: true}\n")
    code, output, _ = call("plan", "--config", same, "--data-dir", cache.root, "--json")
    assert code == 0
    assert "comparison" not in json.loads(output)


def test_a_sweep_can_release_the_brake(cache: Cache, call: Call, call_json: CallJson) -> None:
    config = cache.root.parent / "braked.yaml"
    config.write_text(
        "images: {auto_delete: {enabled: true, allowed: ['*']}}\n"
        "hmret: {brake_for: 24h, brake_min_images: 1}\n"
    )
    cache.image(ALPINE, "a", unused=timedelta(days=40))
    arguments = ("--config", config, "--data-dir", cache.root)
    _, plan = call_json("plan", *arguments)
    assert [image["reason"] for image in plan["images"]] == ["brake"]
    code, report = call_json("sweep", *arguments)
    assert (code, report["deleted_images"]) == (0, 0)
    _, explained, _ = call("explain", f"{ALPINE}@sha256:{'a' * 64}", *arguments)
    assert "held by the brake: too many images have expired at once" in explained
    code, report = call_json("sweep", "--release-brake", *arguments)
    assert (code, report["deleted_images"]) == (0, 1)
