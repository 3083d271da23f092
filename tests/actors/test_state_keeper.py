"""What the state keeper reads and writes."""

import errno
from collections.abc import AsyncIterator

import pytest

from hmret.actors.state_keeper import StateKeeper
from hmret.model.clock.clock_guard import ClockRecord
from hmret.model.errors import EngineClosedError
from hmret.model.references import Key
from hmret.model.times import format_time
from support.builders import (
    DATA,
    START_NS,
    Ending,
    GatedThreads,
    digest,
    end_while_queued,
    end_while_working,
    make_state,
    running,
    state_of,
)
from support.memory_filesystem import MemoryFilesystem

A: Key = ("docker.io/library/alpine", digest("a"))
B: Key = ("docker.io/library/alpine", digest("b"))
C: Key = ("ghcr.io/kernel/x", digest("c"))
RETENTION = f"{DATA}/system/image-retention"


@pytest.fixture
def actor(filesystem: MemoryFilesystem, data_fd: int, threads: GatedThreads) -> StateKeeper:
    return StateKeeper(filesystem, data_fd, threads)


@pytest.fixture
async def keeper(actor: StateKeeper, anyio_backend: str) -> AsyncIterator[StateKeeper]:
    async with running(actor):
        yield actor


async def test_without_states_there_are_none(keeper: StateKeeper) -> None:
    loaded = await keeper.load()
    assert (dict(loaded.states), loaded.corrupt) == ({}, ())


async def test_marked_states_are_loaded(keeper: StateKeeper) -> None:
    assert await keeper.mark([A, B, C], START_NS) == ()
    assert (await keeper.load()).states == {A: START_NS, B: START_NS, C: START_NS}


async def test_more_states_than_one_batch_holds_are_loaded_and_cleared(keeper: StateKeeper) -> None:
    keys = [(f"ghcr.io/kernel/x{number % 7}", digest(f"{number:04x}")) for number in range(700)]
    assert await keeper.mark(keys, START_NS) == ()
    assert len((await keeper.load()).states) == 700
    assert await keeper.clear(keys) == (700, ())
    assert (await keeper.load()).states == {}


async def test_a_state_is_written_as_hypeman_writes_it(
    keeper: StateKeeper, filesystem: MemoryFilesystem
) -> None:
    await keeper.mark([A], START_NS)
    path = f"{RETENTION}/{A[0]}/{'a' * 64}.json"
    expected = (
        "{\n"
        f'  "repository": "{A[0]}",\n'
        f'  "digest": "{A[1]}",\n'
        f'  "unused_since": "{format_time(START_NS)}"\n'
        "}"
    )
    assert filesystem.read_file(path).decode() == expected


async def test_a_corrupt_state_counts_as_unset_and_is_told(
    keeper: StateKeeper, filesystem: MemoryFilesystem
) -> None:
    make_state(filesystem, A, START_NS)
    filesystem.write_file(f"{RETENTION}/{B[0]}/{'b' * 64}.json", b'{"repository": "doc')
    loaded = await keeper.load()
    assert loaded.states == {A: START_NS, B: None}
    assert [path for path, _ in loaded.corrupt] == [f"system/image-retention/{B[0]}/{'b' * 64}.json"]


async def test_states_that_cannot_be_opened_are_told(
    keeper: StateKeeper, filesystem: MemoryFilesystem
) -> None:
    make_state(filesystem, A, START_NS)
    filesystem.deny(RETENTION, errno.EACCES)
    loaded = await keeper.load()
    assert loaded.states == {}
    assert loaded.corrupt == (("system/image-retention", "Permission denied"),)


async def test_a_mark_that_fails_does_not_stop_the_others(
    keeper: StateKeeper, filesystem: MemoryFilesystem
) -> None:
    filesystem.make_folder(f"{RETENTION}/{A[0]}")
    filesystem.deny(f"{RETENTION}/{A[0]}", errno.EROFS)
    faults = await keeper.mark([A, C], START_NS)
    assert [(fault.key, fault.error) for fault in faults] == [(A, "Read-only file system")]
    assert faults[0].path == f"system/image-retention/{A[0]}/{'a' * 64}.json"
    assert state_of(filesystem, C) == format_time(START_NS)


async def test_clearing_counts_the_states_that_there_were(
    keeper: StateKeeper, filesystem: MemoryFilesystem
) -> None:
    make_state(filesystem, A, START_NS)
    assert await keeper.clear([A, B, C]) == (1, ())
    assert not filesystem.exists(f"{RETENTION}/docker.io")


async def test_a_clear_that_fails_does_not_stop_the_others(
    keeper: StateKeeper, filesystem: MemoryFilesystem
) -> None:
    make_state(filesystem, A, START_NS)
    make_state(filesystem, C, START_NS)
    filesystem.deny(f"{RETENTION}/{A[0]}/{'a' * 64}.json", errno.EIO)
    cleared, faults = await keeper.clear([A, C])
    assert cleared == 1
    assert [(fault.key, fault.error) for fault in faults] == [(A, "Input/output error")]


async def test_the_record_of_the_clocks_is_read_back(keeper: StateKeeper) -> None:
    assert await keeper.load_clock() is None
    record = ClockRecord("boot", 1, 2, 3)
    await keeper.save_clock(record)
    assert await keeper.load_clock() == record


async def test_a_record_of_the_clocks_that_cannot_be_written_is_an_error(
    keeper: StateKeeper, filesystem: MemoryFilesystem
) -> None:
    filesystem.make_folder(f"{DATA}/system/hmret")
    filesystem.deny(f"{DATA}/system/hmret", errno.EROFS)
    with pytest.raises(OSError, match="Read-only"):
        await keeper.save_clock(ClockRecord("boot", 1, 2, 3))


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_the_end_answers_or_refuses_a_queued_request(actor: StateKeeper, ending: Ending) -> None:
    asker = await end_while_queued(actor, actor.load, ending)
    assert asker.is_answered
    assert asker.is_refused == (ending == "cancelled")


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_the_end_answers_or_refuses_a_request_being_worked_on(
    actor: StateKeeper, threads: GatedThreads, ending: Ending
) -> None:
    gate = threads.hold("write_states")
    asker = await end_while_working(actor, lambda: actor.mark([A], START_NS), ending, gate)
    assert asker.is_answered


async def test_a_mark_that_was_begun_is_finished_whatever_ends(
    actor: StateKeeper, threads: GatedThreads, filesystem: MemoryFilesystem
) -> None:
    gate = threads.hold("write_states")
    await end_while_working(actor, lambda: actor.mark([A], START_NS), "cancelled", gate)
    assert state_of(filesystem, A) == format_time(START_NS)


async def test_calls_after_the_end_are_refused(actor: StateKeeper) -> None:
    async with running(actor):
        assert actor.waiting == 0
    with pytest.raises(EngineClosedError):
        await actor.load()
    with pytest.raises(EngineClosedError):
        await actor.clear([A])
