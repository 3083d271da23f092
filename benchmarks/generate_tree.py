"""Makes a data directory as a large host has it, from a seed: `python benchmarks/generate_tree.py FOLDER`.

It writes files and knows nothing of hmret. The same shape, seed and time always give the same names and bytes.
Guests refer to distinct images by tag and by digest, snapshots to images of guests; every ready image that nothing
refers to has a state file.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = [
    "EXPIRED_FOR",
    "Guest",
    "Shape",
    "StoredImage",
    "Tree",
    "format_time",
    "generate_tree",
    "write_guest",
    "write_image",
]

EXPIRED_FOR = timedelta(days=60)
"""How long an expired image has been unused; the others with a state for 1 to 20 days."""

Role = Literal["referenced", "tracked", "expired", "converting"]

_HOSTS = ("docker.io/library", "ghcr.io/kernel", "quay.io/team/sub", "registry.local:5000/ci")
_DISK_BYTES = 64 << 20
_BLOCK = bytes(4096)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

_IMAGE = json.dumps(
    {
        "name": "%(name)s",
        "digest": "sha256:%(hexadecimal)s",
        "status": "%(status)s",
        "request": {"Name": "%(name)s"},
        "size_bytes": _DISK_BYTES,
        "entrypoint": ["/usr/local/bin/docker-entrypoint.sh"],
        "cmd": ["node", "server.js", "--port", "8080"],
        "env": {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "NODE_VERSION": "22.6.0",
            "YARN_VERSION": "1.22.22",
            "LANG": "C.UTF-8",
            "APP_ENV": "production",
        },
        "working_dir": "/app",
        "created_at": "%(created_at)s",
    },
    indent=2,
)
_STATE = json.dumps(
    {"repository": "%(repository)s", "digest": "sha256:%(hexadecimal)s", "unused_since": "%(since)s"},
    indent=2,
)
_GUEST = json.dumps(
    {
        "Id": "%(id)s",
        "Name": "vm-%(id)s",
        "Image": "%(image)s",
        "ResolvedImage": "%(resolved)s",
        "Platform": "linux/amd64",
        "Size": 1 << 30,
        "HotplugSize": 0,
        "OverlaySize": 10 << 30,
        "Vcpus": 2,
        "NetworkBandwidthDownload": 125_000_000,
        "NetworkBandwidthUpload": 125_000_000,
        "DiskIOBps": 0,
        "Env": {"APP_ENV": "production", "REGION": "us-east-1", "SESSION_ID": "%(id)s"},
        "Tags": {"team": "infra", "owner": "ci"},
        "NetworkEnabled": True,
        "NetworkEgress": None,
        "Credentials": None,
        "IP": "10.102.0.155",
        "MAC": "02:00:00:92:6b:dc",
        "Volumes": None,
        "CreatedAt": "%(created_at)s",
        "ExpiresAt": None,
        "StartedAt": "%(created_at)s",
        "StoppedAt": None,
        "ProgramStartedAt": "%(created_at)s",
        "GuestAgentReadyAt": "%(created_at)s",
        "KernelVersion": "ch-6.12.8-kernel-1.3-202601152",
        "HypervisorType": "cloud-hypervisor",
        "HypervisorVersion": "v51.1",
        "HypervisorPID": 3_296_711,
        "FirecrackerSnapshotCacheKey": "",
        "FirecrackerUseUFFDOnNextRestore": False,
        "FirecrackerUFFDSessionID": "",
        "FirecrackerUFFDPagerVersion": "",
        "SocketPath": "/var/lib/hypeman/guests/%(id)s/ch.sock",
        "DataDir": "/var/lib/hypeman/guests/%(id)s",
        "VsockCID": 2_491_015_657,
        "VsockSocket": "/var/lib/hypeman/guests/%(id)s/vsock.sock",
        "Devices": None,
        "GPUProfile": "",
        "GPUMdevUUID": "",
        "Entrypoint": None,
        "Cmd": None,
        "SkipKernelHeaders": True,
        "SkipGuestAgent": False,
        "EnableRosetta": False,
        "SnapshotPolicy": None,
        "PendingStandbyCompression": None,
        "AutoStandby": None,
        "HealthCheck": None,
        "RestartPolicy": None,
        "RestartStatus": {},
        "StopTimeout": 0,
        "ExitCode": None,
        "ExitMessage": "",
        "phases": {
            "current": "running",
            "since": "%(created_at)s",
            "cumulative": {"created": 120, "initializing": 830},
        },
    },
    indent=2,
)
_SNAPSHOT = (
    '{"snapshot": {"id": "%(id)s", "name": "nightly", "kind": "full", "source_instance_id": "%(guest)s", '
    '"created_at": "%(created_at)s"}, "stored_metadata": %(stored)s}'
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much of what a directory holds."""

    images: int = 20_000
    repositories: int = 0
    """0: one to a hundred images."""
    guests: int = -1
    """-1: one to ten images."""
    snapshots: int = -1
    """-1: one to a hundred images."""
    tags: tuple[int, int] = (1, 2)
    """Fewest and most tags that point to one image."""
    crowd: int = 0
    """More tags in the first repository, spread over its images."""
    expired: float = 0.0
    """Share of all images that has been unused for `EXPIRED_FOR`."""
    converting: int = 0
    """Images that are not ready yet: without a disk and without a state."""
    blocks: bool = True
    """Whether each disk has one block; without, it takes no room at all."""
    seed: int = 1


class StoredImage(NamedTuple):
    """One image, as it was written."""

    repository: str
    hexadecimal: str
    tags: tuple[str, ...]
    role: Role


class Guest(NamedTuple):
    """One guest, as it was written."""

    id: str
    image: StoredImage
    has_snapshot: bool


@dataclass(frozen=True)
class Tree:
    """A data directory, and what is in it."""

    folder: Path
    shape: Shape
    now: datetime
    images: list[StoredImage] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)

    def of(self, role: Role) -> list[StoredImage]:
        """List the images of one role."""
        return [image for image in self.images if image.role == role]


def generate_tree(folder: Path, shape: Shape, now: datetime) -> Tree:
    """Write a data directory into an empty or absent folder; `now` is aware and counts in whole seconds."""
    rng = random.Random(shape.seed)
    now = now.replace(microsecond=0)
    tree = Tree(folder, shape, now)
    roles = _choose_roles(shape, rng)
    repositories = shape.repositories or max(shape.images // 100, 1)
    for number in range(repositories):
        _write_repository(tree, number, roles[number::repositories], rng)
    _write_references(tree, rng)
    return tree


def _choose_roles(shape: Shape, rng: random.Random) -> list[Role]:
    guests = shape.images // 10 if shape.guests < 0 else shape.guests
    expired = round(shape.images * shape.expired)
    tracked = shape.images - guests - expired - shape.converting
    if tracked < 0:
        raise SystemExit("more guests, expired and converting images than images")
    counts: list[tuple[Role, int]] = [
        ("referenced", guests),
        ("expired", expired),
        ("converting", shape.converting),
        ("tracked", tracked),
    ]
    roles = [role for role, count in counts for _ in range(count)]
    rng.shuffle(roles)
    return roles


def _write_repository(tree: Tree, number: int, roles: Sequence[Role], rng: random.Random) -> None:
    repository = f"{_HOSTS[number % len(_HOSTS)]}/app-{number:05}"
    images: list[StoredImage] = []
    versions = 0
    for position, role in enumerate(roles):
        count = rng.randint(*tree.shape.tags)
        if not number:
            count += len(range(position, tree.shape.crowd, len(roles)))
        tags = tuple(f"v{version}" for version in range(versions, versions + count))
        versions += count
        images.append(StoredImage(repository, f"{rng.getrandbits(256):064x}", tags, role))
    folder_fd = _make_folder(tree.folder / "images" / repository)
    try:
        for image in images:
            created_at = tree.now - timedelta(seconds=rng.randrange(70 * 86_400, 200 * 86_400))
            write_image(folder_fd, image, created_at, has_block=tree.shape.blocks)
    finally:
        os.close(folder_fd)
    with_state = [image for image in images if image.role in ("tracked", "expired")]
    if with_state:
        _write_states(tree, repository, with_state, rng)
    tree.images.extend(images)


def write_image(repository_fd: int, image: StoredImage, created_at: datetime, *, has_block: bool) -> None:
    """Write one digest folder and its tags into the open folder of its repository."""
    os.mkdir(image.hexadecimal, 0o755, dir_fd=repository_fd)
    status = "converting" if image.role == "converting" else "ready"
    name = f"{image.repository}:{image.tags[0]}" if image.tags else f"{image.repository}:latest"
    text = _IMAGE % {
        "name": name,
        "hexadecimal": image.hexadecimal,
        "status": status,
        "created_at": format_time(created_at),
    }
    _write(f"{image.hexadecimal}/metadata.json", text, repository_fd)
    if status == "ready":
        fd = os.open(f"{image.hexadecimal}/rootfs.ext4", _NEW_FILE, 0o644, dir_fd=repository_fd)
        os.truncate(fd, _DISK_BYTES)
        if has_block:
            os.write(fd, _BLOCK)
        os.close(fd)
    for tag in image.tags:
        os.symlink(image.hexadecimal, tag, dir_fd=repository_fd)


def _write_states(tree: Tree, repository: str, images: Sequence[StoredImage], rng: random.Random) -> None:
    folder_fd = _make_folder(tree.folder / "system" / "image-retention" / repository)
    try:
        for image in images:
            unused_for = EXPIRED_FOR
            if image.role == "tracked":
                unused_for = timedelta(seconds=rng.randrange(86_400, 20 * 86_400))
            text = _STATE % {
                "repository": repository,
                "hexadecimal": image.hexadecimal,
                "since": format_time(tree.now - unused_for),
            }
            _write(f"{image.hexadecimal}.json", text, folder_fd)
    finally:
        os.close(folder_fd)


def _write_references(tree: Tree, rng: random.Random) -> None:
    referenced = tree.of("referenced")
    rng.shuffle(referenced)
    snapshots = tree.shape.images // 100 if tree.shape.snapshots < 0 else tree.shape.snapshots
    snapshots = min(snapshots, len(referenced))
    guests_fd = _make_folder(tree.folder / "guests")
    snapshots_fd = _make_folder(tree.folder / "snapshots")
    try:
        for number, image in enumerate(referenced):
            created_at = tree.now - timedelta(seconds=rng.randrange(60, 60 * 86_400))
            guest = Guest(f"{rng.getrandbits(120):030x}", image, has_snapshot=number < snapshots)
            text = write_guest(guests_fd, guest, created_at)
            tree.guests.append(guest)
            if guest.has_snapshot:
                snapshot_id = f"{rng.getrandbits(120):030x}"
                os.mkdir(snapshot_id, 0o755, dir_fd=snapshots_fd)
                stored = {
                    "id": snapshot_id,
                    "guest": guest.id,
                    "created_at": format_time(created_at),
                    "stored": text,
                }
                _write(f"{snapshot_id}/snapshot.json", _SNAPSHOT % stored, snapshots_fd)
    finally:
        os.close(guests_fd)
        os.close(snapshots_fd)


def write_guest(guests_fd: int, guest: Guest, created_at: datetime) -> str:
    """Write one guest into the open folder of guests, or write it again in place; returns its metadata."""
    image = guest.image
    resolved = f"{image.repository}@sha256:{image.hexadecimal}"
    text = _GUEST % {
        "id": guest.id,
        "image": f"{image.repository}:{image.tags[0]}" if image.tags else resolved,
        "resolved": resolved,
        "created_at": format_time(created_at),
    }
    if not os.access(guest.id, os.F_OK, dir_fd=guests_fd):
        os.mkdir(guest.id, 0o755, dir_fd=guests_fd)
    _write(f"{guest.id}/metadata.json", text, guests_fd)
    return text


def format_time(moment: datetime) -> str:
    """Write a time as Go does."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def _make_folder(path: Path) -> int:
    path.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _write(path: str, text: str, dir_fd: int) -> None:
    fd = os.open(path, _NEW_FILE, 0o644, dir_fd=dir_fd)
    os.write(fd, text.encode())
    os.close(fd)


def main() -> None:
    """Write one data directory as the command line says."""
    default = Shape()
    parser = argparse.ArgumentParser(description="Make a data directory with many images.")
    parser.add_argument("folder", type=Path, help="where; made if it is not there")
    parser.add_argument("--images", type=int, default=default.images)
    parser.add_argument("--repositories", type=int, default=default.repositories, help="0: one to 100 images")
    parser.add_argument("--guests", type=int, default=default.guests, help="-1: one to 10 images")
    parser.add_argument("--snapshots", type=int, default=default.snapshots, help="-1: one to 100 images")
    parser.add_argument("--tags", type=int, nargs=2, default=default.tags, metavar=("FEWEST", "MOST"))
    parser.add_argument("--crowd", type=int, default=default.crowd, help="more tags in the first repository")
    parser.add_argument(
        "--expired", type=float, default=default.expired, help="share of all images, 0 to 0.9"
    )
    parser.add_argument(
        "--converting", type=int, default=default.converting, help="images that are not ready"
    )
    parser.add_argument("--no-blocks", action="store_true", help="disks that take no room at all")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--now", type=datetime.fromisoformat, default=datetime.now(UTC), help="default: now")
    options = parser.parse_args()
    shape = Shape(
        images=options.images,
        repositories=options.repositories,
        guests=options.guests,
        snapshots=options.snapshots,
        tags=(options.tags[0], options.tags[1]),
        crowd=options.crowd,
        expired=options.expired,
        converting=options.converting,
        blocks=not options.no_blocks,
        seed=options.seed,
    )
    begin = time.perf_counter()
    tree = generate_tree(options.folder, shape, options.now)
    seconds = time.perf_counter() - begin
    print(f"{len(tree.images)} images, {len(tree.guests)} guests in {seconds:.1f} s: {options.folder}")


if __name__ == "__main__":
    main()
