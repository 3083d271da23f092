"""The example server end to end, over HTTP, under load, with a window so short that images go all the time."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx2
import pytest
from anycorn import Config, serve

import hmret
from hypervisor_server import make_server
from support.bounds import bound
from support.patience import PATIENCE, patiently

EXAMPLE = Path(__file__).parents[2] / "examples" / "hypervisor_server.py"
IMAGES = tuple(
    f"{registry}/ci/app-{number}:{tag}"
    for number in range(5)
    for tag in "1234"
    for registry in ("registry.local:5000", "mirror.example.com")
)
"""Of each digest two names, since the second registry mirrors the first."""
CLIENTS = 20
ROUNDS = 5
DELETIONS = len(IMAGES) + bound(2, 10)


@pytest.fixture
def anyio_backend() -> str:
    """It writes with aiofiles, which knows asyncio alone."""
    return "asyncio"


@asynccontextmanager
async def serving(root: Path, **times: timedelta) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve a host with nothing on it; gives a client of it."""
    config = hmret.RetentionConfig(
        data_dir=root,
        auto_delete=hmret.AutoDelete(enabled=True, unused_for=times["unused_for"], allowed=("*",)),
        sweep_interval=times["sweep_interval"],
    )
    serving = Config()
    serving.bind = ["127.0.0.1:0"]
    serving.errorlog = None
    stop = anyio.Event()
    app: Any = make_server(config)
    async with anyio.create_task_group() as tasks:
        (address,) = await tasks.start(partial(serve, app, serving, shutdown_trigger=stop.wait))
        # The server might close an idle connection just when a slow client comes back to it.
        limits = httpx2.Limits(max_connections=CLIENTS + 10, max_keepalive_connections=0)
        async with httpx2.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits) as client:
            yield client
        stop.set()


def disk_of(root: Path, resolved_image: str) -> Path:
    """Tell where the disk of an image is."""
    return root / "images/content" / resolved_image.partition("@sha256:")[2] / "rootfs.erofs"


def images_in(root: Path) -> list[Path]:
    # Folders may go while they are walked through, which `walk` takes as it comes.
    return [
        Path(top, disk)
        for top, _, names in os.walk(root / "images")
        for disk in names
        if disk == "rootfs.erofs"
    ]


def tags_in(root: Path) -> dict[str, str]:
    """Return the digests that tags lead to, in hex, by reference."""
    folder = root / "images/repositories"
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    assert all(link.resolve().parent == root / "images/content" for link in links)
    return {f"{link.parent.relative_to(folder)}:{link.name}": link.readlink().name for link in links}


async def status_of(client: httpx2.AsyncClient) -> Any:
    return (await client.get("/retention/v1/status")).raise_for_status().json()


def choose(chance: random.Random) -> str:
    """Choose an image: some are in use nearly always, and some seldom."""
    return IMAGES[int(len(IMAGES) * chance.random() ** 4)]


@attrs.define(eq=False)
class Progress:
    """How far the engine has come, as its status says."""

    sweeps: int = 0
    is_enough: bool = False
    _changed: anyio.Condition = attrs.field(factory=anyio.Condition, init=False)

    async def note(self, sweeps: int, *, is_enough: bool) -> None:
        async with self._changed:
            self.sweeps = sweeps
            self.is_enough = is_enough
            self._changed.notify_all()

    async def wait_sweeps(self, number: int) -> None:
        """Wait until so many sweeps have ended, however long they take, or until it is enough."""
        until = self.sweeps + number
        async with self._changed:
            while self.sweeps < until and not self.is_enough:
                await self._changed.wait()


async def use_instances(client: httpx2.AsyncClient, root: Path, seed: int, progress: Progress) -> None:
    """Create instances, look at their disks for as long as they live, and delete them, until it is enough."""
    chance = random.Random(seed)
    rounds = 0
    image = choose(chance)
    while rounds < ROUNDS or not progress.is_enough:
        rounds += 1
        answer = await client.post("/instances", json={"image": image})
        assert answer.status_code == 201, answer.text
        instance = answer.json()
        disk = disk_of(root, instance["resolved_image"])
        for _ in range(chance.randrange(1, 4)):
            assert disk.exists(), f"the disk of a living instance is gone: {disk}"
            await anyio.sleep(chance.uniform(0, 0.03))
        assert disk.stat().st_size == 64 * 1024
        answer = await client.delete(f"/instances/{instance['id']}")
        assert answer.status_code == 204, answer.text
        # One at least: where sweeps are slow, clients that never waited for any would leave them nothing to delete.
        await progress.wait_sweeps(chance.randrange(1, 4))
        image = choose(chance)
        if chance.random() < 0.1:
            # The same once more, by its digest in a repository that has no tag of it.
            image = f"example.com/any/name@{instance['resolved_image'].partition('@')[2]}"


async def wait_empty(root: Path) -> None:
    """Wait until no image is left; nobody tells of it but the disk."""
    while images_in(root):  # noqa: ASYNC110 - there is no event to wait for
        await anyio.sleep(0.02)


def check_guests(root: Path) -> int:
    """Check on the disk that no guest refers to an image that is not there; returns how many were looked at."""
    looked = 0
    for path in (root / "guests").glob("*/metadata.json"):
        try:
            resolved = json.loads(path.read_bytes())["ResolvedImage"]
        except (OSError, ValueError):
            continue  # being deleted, or being written
        looked += 1
        # Looked at again: it may have been deleted, and after it its image.
        assert disk_of(root, resolved).exists() or not path.exists(), f"{path} refers to what is not there"
    return looked


async def watch(client: httpx2.AsyncClient, root: Path, progress: Progress) -> None:
    """Check the guests again and again, and tell once enough images have been deleted."""
    looked = 0
    while not (progress.is_enough and looked):
        looked += await anyio.to_thread.run_sync(check_guests, root)
        totals = (await status_of(client))["totals"]
        await progress.note(totals["sweeps"], is_enough=totals["deleted_images"] > DELETIONS)
        await anyio.sleep(0.02)


async def test_no_instance_ever_refers_to_an_image_that_is_not_there(tmp_path: Path) -> None:
    times = {"unused_for": timedelta(milliseconds=20), "sweep_interval": timedelta(milliseconds=50)}
    progress = Progress()
    with patiently():
        async with serving(tmp_path, **times) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, client, tmp_path, progress)
                for seed in range(CLIENTS):
                    tasks.start_soon(use_instances, client, tmp_path, seed, progress)
            await wait_empty(tmp_path)
            status = await status_of(client)
            assert (await client.get("/instances")).json() == []
    # All went, and some of them more than once: deleted, pulled again, and deleted again.
    assert images_in(tmp_path) == []
    assert status["totals"]["deleted_images"] > DELETIONS
    assert status["totals"]["failed_deletes"] == 0
    assert status["suspended"] == []
    assert tags_in(tmp_path) == {}
    assert list((tmp_path / "guests").iterdir()) == []
    assert list((tmp_path / "system/pulls").iterdir()) == []
    assert [path for path in (tmp_path / "images").rglob("*") if path.name.startswith(".")] == []


async def test_an_image_that_is_used_again_in_time_is_not_pulled_again(tmp_path: Path) -> None:
    async with serving(tmp_path, unused_for=timedelta(hours=1), sweep_interval=timedelta(hours=1)) as client:
        disks = set()
        for _ in range(3):
            instance = (await client.post("/instances", json={"image": "alpine:3.20"})).json()
            disk = disk_of(tmp_path, instance["resolved_image"])
            disks.add((disk, disk.stat().st_ino))
            await client.delete(f"/instances/{instance['id']}")
        assert len(disks) == 1
        assert [one["id"] for one in (await client.get("/instances")).json()] == []


async def test_an_image_is_found_by_whatever_name_it_is_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path, unused_for=timedelta(hours=1), sweep_interval=timedelta(hours=1)) as client:
        first = (await client.post("/instances", json={"image": "registry.local:5000/ci/app:1"})).json()
        digest = first["resolved_image"].partition("@")[2]
        names = [
            f"registry.local:5000/ci/app@{digest}",
            f"registry.local:5000/ci/app:1@{digest}",
            f"example.com/any/name@{digest}",
            "mirror.example.com/ci/app:1",
        ]
        inode = disk_of(tmp_path, first["resolved_image"]).stat().st_ino
        for name in names:
            answer = await client.post("/instances", json={"image": name})
            assert answer.json()["resolved_image"].endswith(digest)
            (disk,) = images_in(tmp_path)
            assert disk.stat().st_ino == inode
        hexadecimal = digest.removeprefix("sha256:")
        assert tags_in(tmp_path) == {
            "registry.local:5000/ci/app:1": hexadecimal,
            "mirror.example.com/ci/app:1": hexadecimal,
        }
        images = (await client.get("/retention/v1/plan")).json()["images"]
        assert [image["repository"] for image in images] == [
            "mirror.example.com/ci/app",
            "registry.local:5000/ci/app",
        ]
        assert {image["digest"] for image in images} == {digest}


async def test_an_image_that_is_asked_for_by_digest_is_pulled_without_a_tag(tmp_path: Path) -> None:
    async with serving(tmp_path, unused_for=timedelta(hours=1), sweep_interval=timedelta(hours=1)) as client:
        image = f"registry.local:5000/ci/app@sha256:{'a' * 64}"
        instance = (await client.post("/instances", json={"image": image})).json()
        assert instance["resolved_image"] == image
        assert images_in(tmp_path) == [disk_of(tmp_path, image)]
        assert tags_in(tmp_path) == {}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"image": "Not A Reference"}', b'{"image": 7}'])
async def test_a_bad_request_is_told_so(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path, unused_for=timedelta(hours=1), sweep_interval=timedelta(hours=1)) as client:
        assert (await client.post("/instances", content=body)).status_code == 422
        assert (await client.delete("/instances/none")).status_code == 404


async def test_retention_shows_its_page_and_its_metrics_below_a_path_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path, unused_for=timedelta(hours=1), sweep_interval=timedelta(hours=1)) as client:
        assert "Image retention" in (await client.get("/retention/")).text
        assert "hmret_build_info" in (await client.get("/retention/metrics")).text
        assert (await client.post("/retention/v1/sweeps")).status_code in (404, 405)


async def test_it_runs_as_a_program(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (
        sys.executable,
        str(EXAMPLE),
        "--data-dir",
        str(tmp_path / "host"),
        "--listen",
        f"127.0.0.1:{port}",
    )
    async with (
        await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        instance = None
        with patiently():
            while instance is None:
                try:
                    instance = (await client.post("/instances", json={"image": "alpine"})).json()
                except httpx2.TransportError:
                    await anyio.sleep(0.05)
            assert disk_of(tmp_path / "host", instance["resolved_image"]).exists()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
