"""Killed for real: at each system call of a sweep, at moments drawn at random, while hypeman pulls the image again."""

import itertools
import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from builders import START_NS, digest, has_image, make_guest, make_image, make_state, state_of
from hmret.disk.layout import hex_of
from hmret.model.images import Key
from hmret.model.times import format_time, timedelta_nanoseconds
from proofs.mortal import Life, Mortals

ALPINE = "docker.io/library/alpine"
EDGE = "docker.io/library/edge"
ONE = "ghcr.io/kernel/one"
TWO = "ghcr.io/kernel/two"

OLD_NS = START_NS - timedelta_nanoseconds(timedelta(days=60))
RECENT_NS = START_NS - timedelta_nanoseconds(timedelta(days=3))


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    with Mortals() as mortals:
        yield mortals


@attrs.frozen
class Cache:
    """A cache in which a sweep has a bit of everything to do."""

    root: Path
    due: tuple[Key, ...]
    stays: tuple[Key, ...]
    contents: dict[Key, dict[str, bytes]]

    def check_cut_off(self) -> None:
        """Check what holds at every instant: hypeman reads this as it stands."""
        for key in self.due:
            if has_image(self.root, key):
                assert contents_of(self.root, key) == self.contents[key], f"half an image is left: {key}"
        for key in self.stays:
            assert contents_of(self.root, key) == self.contents[key], f"an image was damaged: {key}"
        for path in (self.root / "system").rglob("*.json"):
            content = path.read_bytes()
            if content:
                json.loads(content)

    def check_recovered(self, *, pulled: Key | None = None) -> None:
        """Check what holds after a restart and a sweep."""
        for key in self.due:
            assert has_image(self.root, key) == (key == pulled), f"was to go: {key}"
        for key in self.stays:
            assert contents_of(self.root, key) == self.contents[key], f"an image was damaged: {key}"
        assert dangling_tags(self.root) == []
        assert left_in_trash(self.root) == []
        for path in (self.root / "system/image-retention").rglob("*.json"):
            repository = str(path.parent.relative_to(self.root / "system/image-retention"))
            key = repository, f"sha256:{path.stem}"
            assert has_image(self.root, key), f"the state of an image that is gone: {path}"


def build(root: Path) -> Cache:
    linked = make_image(root, ALPINE, "a", tags=("latest", "3.20"))
    due = [linked, make_image(root, ALPINE, "b", tags=()), make_image(root, ONE, "d", tags=("v1",))]
    disk = root / "images" / ONE / hex_of(due[2][1]) / "rootfs.ext4"
    disk.unlink()
    disk.hardlink_to(root / "images" / ALPINE / hex_of(linked[1]) / "rootfs.ext4")
    referenced = make_image(root, EDGE, "c", tags=("edge",))
    make_guest(root, "vm", f"{EDGE}:edge")
    fresh = make_image(root, TWO, "e", tags=("v1",))
    young = make_image(root, TWO, "f", tags=("v2",))
    for key in (*due, referenced, (TWO, digest("9"))):
        make_state(root, key, OLD_NS)
    make_state(root, young, RECENT_NS)
    stays = (referenced, fresh, young)
    contents = {key: contents_of(root, key) for key in (*due, *stays)}
    return Cache(root, tuple(due), stays, contents)


def contents_of(root: Path, key: Key) -> dict[str, bytes]:
    folder = root / "images" / key[0] / hex_of(key[1])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def dangling_tags(root: Path) -> list[str]:
    return [str(path) for path in (root / "images").rglob("*") if path.is_symlink() and not path.exists()]


def left_in_trash(root: Path) -> list[str]:
    trash = root / "system/hmret/trash"
    return sorted(os.listdir(trash)) if trash.exists() else []


def rebuild(folder: Path) -> Cache:
    if folder.exists():
        shutil.rmtree(folder)
    return build(folder)


def calls_of(mortals: Mortals, folder: Path) -> tuple[str, ...]:
    """List the calls of a sweep that nobody disturbs."""
    cache = rebuild(folder)
    ended = mortals.live(Life(data_dir=str(folder)))
    assert (ended.signal, ended.status) == (0, "success")
    cache.check_recovered()
    return ended.calls


def test_killed_at_any_call_every_image_is_whole_or_gone_and_a_restart_finishes(
    mortals: Mortals, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    calls = calls_of(mortals, folder)
    assert len(calls) > 50
    kills = [(number, False) for number in range(1, len(calls) + 1)]
    kills += [(number, True) for number, call in enumerate(calls, 1) if call.startswith("write")]
    backends = itertools.cycle(("asyncio", "trio"))
    for number, torn in kills:
        cache = rebuild(folder)
        ended = mortals.live(Life(data_dir=str(folder), kill_at=number, torn=torn))
        assert ended.signal == signal.SIGKILL
        cache.check_cut_off()
        ended = mortals.live(Life(data_dir=str(folder), backend=next(backends)))
        assert (ended.signal, ended.status) == (0, "success"), f"killed at {number}, {calls[number - 1]}"
        cache.check_recovered()


def test_killed_again_while_it_recovers_it_finishes_at_the_third_start(
    mortals: Mortals, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    calls = calls_of(mortals, folder)
    last_rename = max(number for number, call in enumerate(calls, 1) if call.startswith("rename ddd"))
    for number in range(1, 40):
        cache = rebuild(folder)
        assert mortals.live(Life(data_dir=str(folder), kill_at=last_rename + 2)).signal
        mortals.live(Life(data_dir=str(folder), kill_at=number))
        cache.check_cut_off()
        assert mortals.live(Life(data_dir=str(folder))).status == "success"
        cache.check_recovered()


def test_pulled_again_after_a_kill_an_image_keeps_its_tag_and_starts_a_new_timer(
    mortals: Mortals, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    calls = calls_of(mortals, folder)
    pulls = 0
    for number in range(1, len(calls) + 1):
        cache = rebuild(folder)
        mortals.live(Life(data_dir=str(folder), kill_at=number))
        pulled = cache.due[0]
        if has_image(folder, pulled):
            continue
        pulls += 1
        make_image(folder, ALPINE, "a", tags=("latest",), size_bytes=1000)
        fresh = contents_of(folder, pulled)
        assert mortals.live(Life(data_dir=str(folder))).status == "success"
        cache.check_recovered(pulled=pulled)
        assert contents_of(folder, pulled) == fresh
        assert state_of(folder, pulled) == format_time(START_NS), f"an old timer, killed at {number}"
        assert os.readlink(folder / "images" / ALPINE / "latest") == hex_of(pulled[1])
    assert pulls > 10


def test_pulled_again_in_the_midst_of_its_deletion_an_image_keeps_its_tag_and_starts_a_new_timer(
    mortals: Mortals, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    calls = calls_of(mortals, folder)
    pulls = 0
    for number in range(1, len(calls) + 1):
        cache = rebuild(folder)
        life = Life(data_dir=str(folder), pull_at=number, pull=(ALPINE, "a", "latest"))
        if not mortals.live(life).pulled:
            continue
        pulls += 1
        pulled = cache.due[0]
        assert mortals.live(Life(data_dir=str(folder))).status == "success"
        cache.check_recovered(pulled=pulled)
        assert len(contents_of(folder, pulled)["rootfs.ext4"]) == 1000
        assert state_of(folder, pulled) == format_time(START_NS), f"an old timer, pulled at {number}"
        assert os.readlink(folder / "images" / ALPINE / "latest") == hex_of(pulled[1])
    assert pulls > 10


def test_killed_right_after_mark_used_has_returned_an_image_stays(mortals: Mortals, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for number in range(1, 400):
        cache = rebuild(folder)
        life = Life(data_dir=str(folder), kill_at=number, uses=("alpine:3.20",))
        ended = mortals.live(life)
        cleared = state_of(folder, cache.due[0]) is None
        mortals.live(Life(data_dir=str(folder)))
        assert has_image(folder, cache.due[0]) == cleared
        if not ended.signal:
            break
    else:
        pytest.fail("it never came to its end")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_every_image_is_whole_or_gone_and_a_restart_finishes(
    mortals: Mortals, tmp_path: Path, backend: str, seed: int
) -> None:
    rng = random.Random(seed)
    killed = 0
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        due = []
        for number in range(48):
            repository = f"{ONE}-{number % 5}"
            letters = f"{number:02x}"
            due.append(make_image(folder, repository, letters, tags=(f"v{number}", f"w{number}")))
            make_state(folder, due[-1], OLD_NS)
        stays = (make_image(folder, TWO, "e"),)
        cache = Cache(folder, tuple(due), stays, {key: contents_of(folder, key) for key in (*due, *stays)})
        life = Life(data_dir=str(folder), kill_after=rng.uniform(0, 0.04), backend=backend)
        killed += mortals.live(life).signal != 0
        cache.check_cut_off()
        assert mortals.live(Life(data_dir=str(folder), backend=backend)).status == "success"
        cache.check_recovered()
    assert killed
