"""Records that a newer version has written are read by their keys; what is not known in them does no harm."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from cli.caches import Cache

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]


def add_unknown_keys(folder: Path) -> list[str]:
    """Add a key to each object of each record; returns the names of the files."""
    changed = []
    for path in sorted(folder.rglob("*.json")):
        document = json.loads(path.read_text())
        path.write_text(json.dumps(with_unknown(document)))
        changed.append(path.name)
    return changed


def with_unknown(value: Any) -> Any:
    """Return what a newer version might have written in its place."""
    return {**value, "of_a_newer_version": [1]} if isinstance(value, dict) else value


def test_keys_of_a_newer_version_are_passed_over(cache: Cache, call: Call, call_json: CallJson) -> None:
    cache.image("ghcr.io/o/app", "a", "v1", unused=timedelta(days=40))
    cache.image("ghcr.io/o/used", "b", "v2")
    cache.guest("vm-1", {"Image": "ghcr.io/o/used:v2"})
    config = cache.root.parent / "config.yaml"
    config.write_text("images: {auto_delete: {enabled: true, allowed: ['*']}}\nhmret: {quarantine: 24h}\n")
    options = ("--config", config, "--data-dir", cache.root)
    assert call_json("sweep", "--yes", *options)[1]["deleted_images"] == 1
    _, held = call_json("quarantine", *options)
    assert len(held["images"]) == 1
    assert {"clock.json", "looks.json", "folders.json"} <= set(add_unknown_keys(cache.root / "system/hmret"))
    code, document = call_json("sweep", "--yes", *options)
    assert (code, document["status"], document["suspended"]) == (0, "success", [])
    assert call_json("quarantine", *options)[1] == held
    assert call("restore", "ghcr.io/o/app:v1", *options)[0] == 0
    assert cache.has("ghcr.io/o/app", "a")
