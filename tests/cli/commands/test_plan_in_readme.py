"""The plan that the README shows is what `hmret plan` prints."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.caches import Cache

Call = Callable[..., tuple[int, str, str]]

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
SHOWN = "/var/lib/hypeman"


def fill(cache: Cache) -> None:
    """Make the host of which the README shows the plan."""
    for repository, digit, tag, since, size_mib in (
        ("docker.io/library/node", "c4", "22", "2026-10-29T08:00:00Z", 11),
        ("ghcr.io/kernel/browser", "5a", "v1.9", "2026-11-02T08:00:00Z", 19),
        ("ghcr.io/kernel/browser", "e7", "v2.0", "2026-11-20T08:00:00Z", 20),
        ("docker.io/library/postgres", "9b", "17", "2026-11-25T08:00:00Z", 14),
        ("ghcr.io/kernel/runner", "31", "stable", "", 6),
    ):
        digest = cache.image(repository, digit, tag)
        disk = cache.root / "images" / repository / digest.removeprefix("sha256:") / "rootfs.ext4"
        with disk.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size_mib << 20)
        if since:
            cache.state(repository, digit, since)
    cache.guest("vm-7f3c", {"Name": "web-1", "Image": "postgres:17", "CreatedAt": "2026-11-28T08:00:00Z"})


def test_the_readme_shows_what_plan_prints(cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache)
    monkeypatch.setenv("COLUMNS", "100")
    shown = re.search(r"```text\n\$ hmret (.*)\n((?:.*\n)*?)```", README)
    assert shown is not None
    words = [word.strip("'") for word in shown[1].split()]
    code, out, err = call(*words, "--data-dir", cache.root)
    assert (code, err) == (0, "")
    assert out.replace(str(cache.root), SHOWN) == shown[2]
