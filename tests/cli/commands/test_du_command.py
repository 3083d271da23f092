"""`du`: bytes by repository and reason, of the disk and its marks."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.caches import DISK_BYTES, Cache
from cli.services import running_service

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

X, ALPINE = "ghcr.io/kernel/x", "docker.io/library/alpine"


@pytest.fixture
def cache(cache: Cache) -> Cache:
    cache.image(X, "a", unused=timedelta(days=31))
    cache.image(X, "b")
    cache.image(ALPINE, "c", "3.20")
    cache.guest("vm-1", {"Image": "alpine:3.20"})
    return cache


def marked(cache: Cache) -> Path:
    config = cache.root.parent / "config.yaml"
    config.write_text(
        "images: {auto_delete: {allowed: ['*']}}\n"
        "hmret: {disk: {high_watermark: 100%, low_watermark: 90%, max_used: 1GiB, count: apparent}}\n"
    )
    return config


def test_the_document_has_repositories_reasons_disk_and_marks(cache: Cache, call_json: CallJson) -> None:
    code, told = call_json("du", "--data-dir", cache.root, "--config", marked(cache))
    assert code == 0
    assert list(told) == ["at", "data_dir", "images", "bytes", "repositories", "reasons", "disk", "marks"]
    assert (told["images"], told["bytes"]) == (3, 3 * DISK_BYTES)
    assert told["repositories"] == [
        {
            "repository": X,
            "images": 2,
            "bytes": 2 * DISK_BYTES,
            "shared_bytes": 0,
            "delete_bytes": DISK_BYTES,
        },
        {"repository": ALPINE, "images": 1, "bytes": DISK_BYTES, "shared_bytes": 0, "delete_bytes": 0},
    ]
    assert {(one["reason"], one["images"], one["bytes"]) for one in told["reasons"]} == {
        ("expired", 1, DISK_BYTES),
        ("newly_unused", 1, DISK_BYTES),
        ("referenced", 1, DISK_BYTES),
    }
    total = told["disk"]["used_bytes"] + told["disk"]["available_bytes"]
    assert told["marks"] == {
        "high_watermark": "100%",
        "low_watermark": "90%",
        "high_bytes": total,
        "low_bytes": round(0.9 * total),
        "max_used": 1 << 30,
    }


def test_people_are_told_what_takes_how_much(cache: Cache, call: Call) -> None:
    code, output, complaints = call("du", "--data-dir", cache.root, "--config", marked(cache))
    assert (code, complaints) == (0, "")
    lines = [line.split() for line in output.splitlines()]
    assert [X, "2", "16.0", "KiB", "-", "8.0", "KiB"] in lines
    assert [ALPINE, "1", "8.0", "KiB", "-", "-"] in lines
    assert ["expired", "1", "8.0", "KiB"] in lines
    assert ["in", "all", "3", "images,", "24.0", "KiB,", "each", "disk", "once"] in lines
    assert any(line[:3] == ["high", "mark", "100%,"] and line[-2:] == ["below", "it"] for line in lines)
    assert any(line[:3] == ["low", "mark", "90%,"] for line in lines)
    assert ["most", "for", "images", "1.0", "GiB"] in lines
    assert max(map(len, output.splitlines())) <= 80


def test_without_marks_and_images_that_is_said(tmp_path: Path, call: Call) -> None:
    code, output, _ = call("du", "--data-dir", tmp_path)
    assert code == 0
    assert output.splitlines()[0].split()[:4] == ["in", "all", "0", "images,"]
    assert "none set: images are deleted for their age only" in output


def test_the_running_engine_adds_up_the_same(cache: Cache, call_json: CallJson) -> None:
    config = marked(cache)
    with running_service(cache.root, "--config", str(config)):
        _, alone = call_json("du", "--data-dir", cache.root, "--config", config, "--allow", "*")
        code, told = call_json("du", "--data-dir", cache.root, "--config", config)
    assert code == 0
    for one in (alone, told):
        del one["at"], one["disk"], one["marks"]
    assert told == alone
