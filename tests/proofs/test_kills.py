"""Killed for real: at system calls of a sweep, at moments drawn at random, while hypeman pulls the image again.

Each test kills at each rename and at every fifth call, from another one on; `make prove` at every one. That a sweep can be cut off at any
call at all is shown on the disk in memory, which does what a kernel does; that a kernel, its locks and its processes
do so is shown here.
"""

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

from hmret.disk.layout import hex_of
from hmret.model.references import Key
from hmret.model.times import format_time, timedelta_nanoseconds
from proofs.mortal import Life, Mortals
from support.bounds import IS_WHOLE, bound, part
from support.builders import START_NS, has_image, make_image, make_state, state_of
from support.cut_caches import (
    ALPINE,
    OLD_NS,
    ONE,
    TWO,
    Cache,
    check_held,
    contents_of,
    dangling_tags,
    rebuild,
)

FRESH_BYTES = 1000


T = TypeVar("T")

_EVERY = 5  # odd, for both backends to have their turns


@attrs.frozen
class Yard:
    """Where processes die, two at a time."""

    mortals: tuple[Mortals, ...]
    root: Path

    def calls(self) -> tuple[str, ...]:
        """List the calls of a sweep that nobody disturbs."""
        cache = rebuild(self.root / "undisturbed")
        ended = self.mortals[0].live(Life(data_dir=str(cache.root)))
        assert (ended.signal, ended.status) == (0, "success")
        cache.check_recovered()
        return ended.calls

    def each(self, items: Sequence[T], check: Callable[[Mortals, Path, T], bool]) -> float:
        """Check each item, with a folder to build in; returns the share of checks that say that they were one."""
        count = len(self.mortals)

        def work(number: int) -> int:
            folder = self.root / str(number)
            return sum(check(self.mortals[number], folder, item) for item in items[number::count])

        with ThreadPoolExecutor(count) as pool:
            return sum(pool.map(work, range(count))) / len(items)


@pytest.fixture(scope="module")
def mortals() -> Iterator[tuple[Mortals, ...]]:
    with Mortals() as one, Mortals() as other:
        yield one, other


@pytest.fixture
def yard(mortals: tuple[Mortals, ...], tmp_path: Path) -> Yard:
    return Yard(mortals, tmp_path)


def backend_of(number: int) -> str:
    return ("asyncio", "trio")[number % 2]


def some_of(calls: tuple[str, ...], first: int = 1, begin: int = 1) -> list[int]:
    """Choose some calls by their numbers, from `begin` on: every fifth one from the `first` on, and each rename."""
    return [
        number
        for number, call in enumerate(calls, 1)
        if number >= begin
        and (IS_WHOLE or call.startswith("rename") or (number >= first and (number - first) % _EVERY == 0))
    ]


def first_rename(calls: tuple[str, ...]) -> int:
    """Find the call by which the first image leaves the cache."""
    return next(number for number, call in enumerate(calls, 1) if call.startswith("rename aaa"))


def pull_again(cache: Cache) -> Key:
    """Pull an image as hypeman does, which found it gone."""
    return make_image(cache.root, ALPINE, "a", tags=("latest",), size_bytes=FRESH_BYTES)


def disk_bytes_of(cache: Cache) -> int:
    """Tell how large the disk of the first image is."""
    repository, digest = cache.due[0]
    return (cache.root / "images" / repository / hex_of(digest) / "rootfs.ext4").stat().st_size


def check_fresh(cache: Cache) -> None:
    """Check that the image which was pulled again is there, with its tag and a timer of its own."""
    pulled = cache.due[0]
    cache.check_recovered(pulled=pulled)
    assert disk_bytes_of(cache) == FRESH_BYTES
    assert state_of(cache.root, pulled) == format_time(START_NS), "it inherited the old timer"
    assert str((cache.root / "images" / ALPINE / "latest").readlink()) == hex_of(pulled[1])


def test_killed_after_any_call_every_image_is_whole_or_gone_and_a_restart_finishes(yard: Yard) -> None:
    calls = yard.calls()
    assert len(calls) > 50

    def check(mortals: Mortals, folder: Path, kill: tuple[int, bool]) -> bool:
        number, torn = kill
        cache = rebuild(folder)
        ended = mortals.live(Life(data_dir=str(folder), kill_at=number, torn=torn))
        assert ended.signal == signal.SIGKILL
        cache.check_cut_off()
        ended = mortals.live(Life(data_dir=str(folder), backend=backend_of(number)))
        assert (ended.signal, ended.status) == (0, "success"), f"killed after {number}, {calls[number - 1]}"
        cache.check_recovered()
        return True

    kills = [(number, False) for number in some_of(calls)]
    writes = [number for number, call in enumerate(calls, 1) if call.startswith("write")]
    kills += [(number, True) for number in part(writes, _EVERY)]
    assert yard.each(kills, check) == 1


def test_killed_again_while_it_recovers_it_finishes_at_the_third_start(yard: Yard) -> None:
    calls = yard.calls()
    last_rename = max(number for number, call in enumerate(calls, 1) if call.startswith("rename ddd"))

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        assert mortals.live(Life(data_dir=str(folder), kill_at=last_rename + 1)).signal
        ended = mortals.live(Life(data_dir=str(folder), kill_at=number))
        cache.check_cut_off()
        assert mortals.live(Life(data_dir=str(folder))).status == "success"
        cache.check_recovered()
        return ended.signal != 0

    assert yard.each(part(range(1, 25), _EVERY, 1), check) > 0.6


def test_pulled_again_after_a_kill_an_image_keeps_its_tag_and_starts_a_new_timer(yard: Yard) -> None:
    calls = yard.calls()

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        mortals.live(Life(data_dir=str(folder), kill_at=number))
        pull_again(cache)
        link = folder / "images" / ALPINE / "latest"
        made_ns = link.lstat().st_mtime_ns
        assert mortals.live(Life(data_dir=str(folder), backend=backend_of(number))).status == "success"
        check_fresh(cache)
        assert link.lstat().st_mtime_ns == made_ns, "its tag was made anew"
        return True

    assert yard.each(some_of(calls, 2, first_rename(calls)), check) == 1


def test_pulled_again_in_the_midst_of_its_deletion_an_image_keeps_its_tag_and_starts_a_new_timer(
    yard: Yard,
) -> None:
    calls = yard.calls()

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        life = Life(data_dir=str(folder), pull_at=number, pull=(ALPINE, "a", "latest"))
        assert mortals.live(life).pulled
        assert mortals.live(Life(data_dir=str(folder), backend=backend_of(number))).status == "success"
        check_fresh(cache)
        return True

    assert yard.each(some_of(calls, 3, first_rename(calls) + 1), check) == 1


def test_pulled_again_in_the_midst_and_killed_right_then_an_image_keeps_its_tag_and_starts_a_new_timer(
    yard: Yard,
) -> None:
    calls = yard.calls()

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        life = Life(data_dir=str(folder), pull_at=number, kill_at=number, pull=(ALPINE, "a", "latest"))
        mortals.live(life)
        assert mortals.live(Life(data_dir=str(folder), backend=backend_of(number))).status == "success"
        check_fresh(cache)
        return True

    assert yard.each(some_of(calls, 4, first_rename(calls) + 1), check) == 1


def test_killed_once_mark_used_has_cleared_a_timer_the_image_stays(yard: Yard) -> None:
    calls = yard.calls()

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        mortals.live(Life(data_dir=str(folder), kill_at=number, uses=("alpine:3.20",)))
        cache.check_cut_off()
        is_used = state_of(folder, cache.due[0]) != format_time(OLD_NS)
        mortals.live(Life(data_dir=str(folder)))
        assert has_image(folder, cache.due[0]) == is_used
        return is_used

    # Up to the deletion of the image, whose use is then too late.
    assert yard.each(some_of(calls, 5), check) > 0.4


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_killed_at_any_moment_every_image_is_whole_or_gone_and_a_restart_finishes(
    yard: Yard, backend: str
) -> None:
    def check(mortals: Mortals, folder: Path, seed: int) -> bool:
        rng = random.Random(seed)
        root = folder / str(seed)
        due = []
        for number in range(48):
            key = make_image(root, f"{ONE}-{number % 5}", f"{number:02x}", tags=(f"v{number}", f"w{number}"))
            make_state(root, key, OLD_NS)
            due.append(key)
        stays = (make_image(root, TWO, "e"),)
        cache = Cache(root, tuple(due), stays, {key: contents_of(root, key) for key in (*due, *stays)})
        life = Life(data_dir=str(root), kill_after=rng.uniform(0, 0.04), backend=backend)
        ended = mortals.live(life)
        cache.check_cut_off()
        assert mortals.live(Life(data_dir=str(root), backend=backend)).status == "success"
        cache.check_recovered()
        return ended.signal != 0

    assert yard.each(range(bound(4, 200)), check) > 0


# With quarantine on.


HELD = Life(data_dir="", quarantine_hours=24)
"""How a process lives that holds what it deletes for a day."""


def calls_of(yard: Yard, *lives: Life) -> tuple[str, ...]:
    """List the calls of the last of some lives that nobody disturbs."""
    cache = rebuild(yard.root / "undisturbed")
    for life in lives:
        ended = yard.mortals[0].live(attrs.evolve(life, data_dir=str(cache.root)))
        assert ended.signal == 0
    return ended.calls


def test_killed_at_any_call_each_image_is_here_whole_or_held_whole(yard: Yard) -> None:
    calls = calls_of(yard, HELD)

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        life = attrs.evolve(HELD, data_dir=str(folder))
        assert mortals.live(attrs.evolve(life, kill_at=number)).signal == signal.SIGKILL
        cache.check_cut_off()
        # A start alone puts it in order, and takes nothing further.
        assert mortals.live(attrs.evolve(life, sweeps=False, backend=backend_of(number))).signal == 0
        (folder / "system/hmret/trash").mkdir(exist_ok=True)
        check_held(cache)
        assert mortals.live(life).status == "success"
        check_held(cache)
        assert not any(has_image(folder, key) for key in cache.due)
        # The time of all of them comes.
        assert mortals.live(attrs.evolve(life, hours_later=24)).status == "success"
        cache.check_recovered()
        return True

    assert len(calls) > 50
    assert yard.each(some_of(calls, 2), check) == 1


def test_killed_at_any_call_of_a_restore_each_image_is_here_whole_or_held_whole(yard: Yard) -> None:
    restoring = attrs.evolve(HELD, restores=("alpine:3.20", f"{ONE}:v1"), sweeps=False, hours_later=1)
    calls = calls_of(yard, HELD, restoring)

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        assert mortals.live(attrs.evolve(HELD, data_dir=str(folder))).status == "success"
        life = attrs.evolve(restoring, data_dir=str(folder))
        assert mortals.live(attrs.evolve(life, kill_at=number)).signal == signal.SIGKILL
        cache.check_cut_off()
        assert mortals.live(attrs.evolve(life, restores=(), backend=backend_of(number))).signal == 0
        check_held(cache)
        # Asked for again, it comes back, for a full window and with its tags.
        assert mortals.live(attrs.evolve(life, sweeps=True)).status == "success"
        back = cache.due[0], cache.due[2]
        check_held(cache, here=back)
        assert (folder / "images" / ALPINE / "latest").exists()
        assert [state_of(folder, key) for key in back] == [format_time(later_ns(1))] * 2
        return True

    assert len(calls) > 15
    assert yard.each(some_of(calls, 1), check) == 1


def later_ns(hours: int) -> int:
    return START_NS + timedelta_nanoseconds(timedelta(hours=hours))


def test_killed_at_any_call_of_a_release_each_image_is_held_whole_or_gone(yard: Yard) -> None:
    releasing = attrs.evolve(HELD, hours_later=24)
    calls = calls_of(yard, HELD, releasing)

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        assert mortals.live(attrs.evolve(HELD, data_dir=str(folder))).status == "success"
        life = attrs.evolve(releasing, data_dir=str(folder))
        assert mortals.live(attrs.evolve(life, kill_at=number)).signal == signal.SIGKILL
        cache.check_cut_off()
        assert mortals.live(attrs.evolve(life, sweeps=False, backend=backend_of(number))).signal == 0
        check_held(cache, gone=True)
        assert mortals.live(life).status == "success"
        cache.check_recovered()
        return True

    assert len(calls) > 15
    assert yard.each(some_of(calls, 3), check) == 1


def test_pulled_again_in_the_midst_of_its_restore_the_fresh_image_stays_and_so_does_the_held_one(
    yard: Yard,
) -> None:
    restoring = attrs.evolve(HELD, restores=("alpine:3.20",), sweeps=False, hours_later=1)
    calls = calls_of(yard, HELD, restoring)

    def check(mortals: Mortals, folder: Path, number: int) -> bool:
        cache = rebuild(folder)
        assert mortals.live(attrs.evolve(HELD, data_dir=str(folder))).status == "success"
        life = attrs.evolve(restoring, data_dir=str(folder))
        pulled = mortals.live(
            attrs.evolve(
                life, pull_at=number, kill_at=number if number % 2 else 0, pull=(ALPINE, "a", "latest")
            )
        )
        mortals.live(attrs.evolve(life, restores=(), backend=backend_of(number)))
        fresh = disk_bytes_of(cache) == FRESH_BYTES
        held = list((folder / "system/hmret/trash").glob("*.0/rootfs.ext4"))
        assert fresh == bool(held)
        assert (folder / "images" / ALPINE / "latest").readlink() == Path(hex_of(cache.due[0][1]))
        assert dangling_tags(folder) == []
        return pulled.pulled or pulled.signal != 0

    back_at = next(
        number for number, call in enumerate(calls, 1) if call.startswith("rename") and ".0" in call
    )
    assert yard.each(part(range(1, back_at + 1), 3), check) > 0.3
