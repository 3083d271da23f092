"""Bulk work keeps full garbage collections away, and leaves the collector as it was."""

import gc
from collections.abc import Callable, Iterator

import pytest

from hmret.actors.full_collections import FullCollections
from hmret.actors.threads import WorkerThreads


class _Loop:
    """What only the collector can find to be garbage."""

    def __init__(self, gone: Callable[[], None]) -> None:
        self.own = self
        self._gone = gone

    def __del__(self) -> None:
        self._gone()


def is_frozen() -> bool:
    """Whether anything is frozen but the few objects that Python 3.12 sets aside by itself."""
    return gc.get_freeze_count() > 2000


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    before = is_frozen()
    gc.unfreeze()
    yield
    gc.unfreeze()
    if before:
        gc.freeze()


def test_a_full_collection_finds_nothing_of_before_or_of_an_ended_part_and_finds_it_afterwards() -> None:
    collections, gone = FullCollections(), list[str]()
    _Loop(lambda: gone.append("before"))
    with collections.put_off():
        _Loop(lambda: gone.append("part"))
        collections.part_ended()
        _Loop(lambda: gone.append("running"))
        gc.collect()
        assert gone == ["running"]
    assert not is_frozen()
    gc.collect()
    assert sorted(gone) == ["before", "part", "running"]


def is_tracked(value: object) -> bool:
    """Return whether the collector looks at a value: what is frozen it does not see."""
    return any(each is value for each in gc.get_objects())


def test_what_the_process_has_frozen_itself_stays_frozen() -> None:
    # Not by counts: anything that is frozen may end at any time.
    old: list[list[int]] = [[]]
    gc.freeze()
    new: list[list[int]] = [[]]
    collections = FullCollections()
    with collections.put_off():
        collections.part_ended()
        assert (is_tracked(old), is_tracked(new)) == (False, True)
    assert (is_tracked(old), is_tracked(new)) == (False, True)


def test_a_collector_that_is_off_is_left_alone() -> None:
    collections = FullCollections()
    gc.disable()
    try:
        with collections.put_off():
            assert not is_frozen()
    finally:
        gc.enable()


def test_of_several_that_overlap_the_last_puts_everything_back() -> None:
    collections = FullCollections()
    with collections.put_off():
        with collections.put_off():
            pass
        assert is_frozen()
    assert not is_frozen()


def test_bulk_work_that_fails_puts_everything_back() -> None:
    collections = FullCollections()
    with pytest.raises(ValueError, match="lost"), collections.put_off():
        raise ValueError("lost")
    assert not is_frozen()


def test_after_a_minute_of_bulk_work_garbage_is_collected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    collections, gone = FullCollections(), list[str]()
    with collections.put_off():
        _Loop(lambda: gone.append("old"))
        now[0] = 59.9
        collections.part_ended()
        assert is_frozen()
        now[0] = 60.0
        collections.part_ended()
        assert not is_frozen()
        gc.collect()
        assert gone == ["old"]
        collections.part_ended()
        assert not is_frozen()


async def test_what_a_thread_has_made_in_bulk_work_is_out_of_sight_when_it_has_ended() -> None:
    threads, gone = WorkerThreads(), list[str]()

    def work() -> None:
        _Loop(lambda: gone.append("thread"))

    with threads.bulk():
        await threads.read(work)
        gc.collect()
        assert gone == []
    gc.collect()
    assert gone == ["thread"]
