"""Two data directories, one of each layout, with every kind of image, reference and timer that is told apart."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

import hmret
from support.archives import unpack

__all__ = ["LAYOUTS", "RecordedHost", "make_host"]

FIXTURES = Path(__file__).parents[1] / "fixtures"
_LONG_BEFORE = timedelta(days=100)
_JUST_BEFORE = timedelta(minutes=10)

_OLDER_SETTINGS = """\
images:
  auto_delete:
    enabled: true
    unused_for: 720h
    allowed: ["docker.io/library/*", "ghcr.io/*", "quay.io/team/*"]
hmret:
  pinned: ["quay.io/team/pinned"]
  rules:
    - match: ["ghcr.io/kernel/*"]
      tags: ["v0", "v1"]
      unused_for: never
    - match: ["ghcr.io/kernel/*"]
      keep_latest: 2
      unused_for: 20d
  min_age: 1d
  access_time: never
"""
_CONTENT_SETTINGS = """\
images:
  auto_delete:
    enabled: true
    unused_for: 720h
    allowed: ["docker.io/library/*", "ghcr.io/kernel/*", "localhost:5000/*"]
hmret:
  pinned: ["*/pinned"]
  access_time: never
"""


@attrs.frozen
class RecordedHost:
    """One data directory, and what of it is asked for by name."""

    root: Path
    config: Path
    settings: hmret.RetentionConfig
    """What an engine on it is opened with: much as in the config file, and with a quarantine."""
    shares: bool
    """Whether repositories share content."""
    now: datetime
    used: str
    """An image that can be marked used."""
    due: str
    """One that is due, by tag."""
    due_too: str
    """Another one, by tag."""
    explained: tuple[str, ...]
    repository: str


def _write(path: Path, document: Mapping[str, Any] | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def _guest(root: Path, name: str, **fields: str) -> None:
    _write(root / "guests" / name / "metadata.json", {"Id": name, "Name": f"name-of-{name}", **fields})


def _image(folder: Path, name: str, hexadecimal: str, *, status: str = "ready", disk: str = "") -> Path:
    fields = {
        "name": name,
        "digest": f"sha256:{hexadecimal}",
        "status": status,
        "size_bytes": 8192,
        "created_at": "2026-02-03T04:05:06Z",
    }
    _write(folder / "metadata.json", fields)
    if disk:
        (folder / disk).write_bytes(bytes(8192))
    return folder


def _timer(root: Path, repository: str, hexadecimal: str, unused_since: str) -> None:
    fields = {"repository": repository, "digest": f"sha256:{hexadecimal}", "unused_since": unused_since}
    place = root / "system/image-retention" / repository / f"{hexadecimal}.json"
    _write(place, json.dumps(fields, indent=2))


def _add_to_both(root: Path) -> None:
    """Add a guest whose image is not here, and one that is being made."""
    _guest(root, "stale", Image="quay.io/gone/app:1", CreatedAt="2026-05-01T00:00:00Z")
    (root / "guests/being-made").mkdir()


def _older(root: Path) -> None:
    """What a server of spring 2026 left, and what else there is to be found in such a directory."""
    for repository in (
        "docker.io/library/app-0004",
        "ghcr.io/kernel/hypeman-0005",
        "quay.io/team/sub/svc-0002",
        "registry.local:5000",
    ):
        shutil.rmtree(root / "images" / repository)
        shutil.rmtree(root / "system/image-retention" / repository)
    images = root / "images"
    app, other = "docker.io/library/app-0000", "quay.io/team/other"
    # Broken: ready without a disk.
    (image,) = (images / app).glob("0c7c4a9e*")
    (image / "rootfs.ext4").unlink()
    # Broken: metadata that names another digest.
    _image(images / other / ("d" * 64), f"{other}:odd", "e" * 64, disk="rootfs.ext4")
    # Not ready.
    _image(images / other / ("a" * 64), f"{other}:next", "a" * 64, status="pulling")
    # Pinned.
    _image(images / "quay.io/team/pinned" / ("b" * 64), "quay.io/team/pinned:1", "b" * 64, disk="rootfs.ext4")
    # Allowed nowhere, with a timer that runs.
    _image(images / "elsewhere.io/x" / ("c" * 64), "elsewhere.io/x:1", "c" * 64, disk="rootfs.erofs")
    _timer(root, "elsewhere.io/x", "c" * 64, "2026-04-01T00:00:00Z")
    # A timer of an image that is gone, and one that cannot be read.
    _timer(root, "docker.io/library/gone", "9" * 64, "2026-05-01T00:00:00Z")
    (timer,) = (root / "system/image-retention" / app).glob("d38b502c*")
    timer.write_text('{"unused_since": ')
    # A guest that names a tag alone, a saved state that names a folder, and a snapshot.
    _guest(root, "by-tag", Image="app-0000:v5", CreatedAt="2026-05-20T00:00:00Z")
    _guest(root, "by-state", Image="quay.io/team/sub/svc-0006:v9", CreatedAt="2026-05-21T00:00:00Z")
    (image,) = (images / "quay.io/team/sub/svc-0006").glob("3263b1f9*")
    _write(
        root / "guests/by-state/snapshots/snapshot-latest/config.json",
        {"path": f"/data/{image.relative_to(root)}"},
    )
    (image,) = (images / "ghcr.io/kernel/hypeman-0001").glob("163175f3*")
    _write(
        root / "snapshots/snap/snapshot.json",
        {
            "snapshot": {"id": "snap", "name": "before-upgrade"},
            "stored_metadata": {"Image": f"ghcr.io/kernel/hypeman-0001@sha256:{image.name}"},
        },
    )


def _content(root: Path) -> None:
    """What a server of autumn 2026 left, and what else there is to be found in such a directory."""
    images = root / "images"
    # Broken: ready without a disk. Not an image. A tag that leads nowhere.
    _image(images / "content" / ("b" * 64), "docker.io/library/hollow:1", "b" * 64)
    (images / "repositories/docker.io/library/hollow").mkdir()
    (images / "repositories/docker.io/library/hollow/1").symlink_to(f"../../../../content/{'b' * 64}")
    (images / "content/notes").mkdir()
    (images / "repositories/docker.io/library/hollow/lost").symlink_to("/nowhere")
    # Pinned.
    _image(images / "content" / ("c" * 64), "quay.io/x/pinned:1", "c" * 64, disk="rootfs.erofs")
    (images / "repositories/quay.io/x/pinned").mkdir()
    (images / "repositories/quay.io/x/pinned/1").symlink_to(f"../../../../content/{'c' * 64}")
    # A guest that names a tag alone.
    _guest(root, "by-tag", Image="ghcr.io/kernel/debian:11", CreatedAt="2026-10-20T00:00:00Z")
    # Two repositories with one digest, both due: they go as one.
    _image(images / "content" / ("d" * 64), "docker.io/library/twin:1", "d" * 64, disk="rootfs.erofs")
    for repository in ("docker.io/library/twin", "ghcr.io/kernel/twin"):
        link = images / "repositories" / repository / "1"
        link.parent.mkdir()
        link.symlink_to(f"../../../../content/{'d' * 64}")
        _timer(root, repository, "d" * 64, "2026-09-15T00:00:00Z")


_BUILD: Mapping[str, tuple[str, str, Callable[[Path], None], Mapping[str, Any], Mapping[str, Any]]] = {
    "older": (
        "hypeman-data.tar.gz",
        _OLDER_SETTINGS,
        _older,
        {
            "auto_delete": hmret.AutoDelete(
                enabled=True,
                unused_for=timedelta(hours=720),
                allowed=("docker.io/library/*", "ghcr.io/*", "quay.io/team/*"),
            ),
            "pinned": ("quay.io/team/pinned",),
            "rules": (hmret.Rule(match=("ghcr.io/kernel/*",), keep_latest=2, unused_for=timedelta(days=20)),),
            "access_time": "never",
        },
        {
            "now": datetime(2026, 6, 1, tzinfo=UTC),
            "used": "app-0000:v6",
            "due": "docker.io/library/app-0000:v0",
            "due_too": "quay.io/team/sub/svc-0006:v1",
            "explained": (
                "app-0000:v0",
                "app-0000:v1",
                "app-0000:v2",
                "app-0000:v5",
                "ghcr.io/kernel/hypeman-0001:v0",
                "ghcr.io/kernel/hypeman-0001:v4",
                "quay.io/team/sub/svc-0006:v6",
                "elsewhere.io/x@sha256:" + "c" * 64,
                "d" * 64,
                "a" * 12,
                "name-of-by-state",
            ),
            "repository": "docker.io/library/app-0000",
        },
    ),
    "content": (
        "hypeman-today.tar.gz",
        _CONTENT_SETTINGS,
        _content,
        {
            "auto_delete": hmret.AutoDelete(
                enabled=True,
                unused_for=timedelta(hours=720),
                allowed=("docker.io/library/*", "ghcr.io/kernel/*", "localhost:5000/*"),
            ),
            "pinned": ("*/pinned",),
            "access_time": "never",
        },
        {
            "now": datetime(2026, 11, 1, tzinfo=UTC),
            "used": "alpine:latest",
            "due": "ghcr.io/kernel/legacy:stable",
            "due_too": "ghcr.io/kernel/twin:1",
            "explained": (
                "alpine:3.20",
                "alpine:latest",
                "mytool:2",
                "ghcr.io/kernel/tool:2",
                "ghcr.io/kernel/legacy:1",
                "ghcr.io/kernel/browser:stable",
                "hollow:1",
                "postgres:16",
                "localhost:5000/ci/app:1",
                "9d75f0d7c398",
                "web",
            ),
            "repository": "docker.io/library/twin",
        },
    ),
}
LAYOUTS = tuple(_BUILD)


def make_host(layout: str, place: Path) -> RecordedHost:
    """Make the data directory of a layout in a folder; nothing in it has changed since long before its `now`."""
    archive, text, add, fields, names = _BUILD[layout]
    unpack(FIXTURES / archive, place)
    shutil.rmtree(place / "after")
    root = (place / "before").rename(place / "data")
    _add_to_both(root)
    add(root)
    config = place / "config.yaml"
    config.write_text(text)
    settings = hmret.RetentionConfig(data_dir=root, quarantine=timedelta(days=1), **fields)
    host = RecordedHost(root=root, config=config, settings=settings, shares=layout == "content", **names)
    _date(root, host.now - _LONG_BEFORE)
    _date(root / "system/image-retention", host.now - _JUST_BEFORE)
    return host


def _date(root: Path, moment: datetime) -> None:
    """Set when everything below a folder was last changed and read."""
    seconds = moment.timestamp()
    for path in (root, *root.rglob("*")):
        os.utime(path, (seconds, seconds), follow_symlinks=False)
