"""What the deleter renames out of the cache, frees, and finishes after a crash."""

import errno
from collections.abc import AsyncIterator

import anyio
import pytest

from hmret.actors.deleter import Deleter
from hmret.disk.deletion.outcomes import BatchRetired, Retired
from hmret.disk.deletion.recovery.quarantine_records import HeldImage
from hmret.disk.deletion.trash.intents import TrashEntry
from hmret.model.deletion import Deletion, Failed, Kept, RetireCriteria
from hmret.model.errors import EngineClosedError
from hmret.model.references import Key
from hmret.model.times import nanoseconds_of
from hmret.model.verdicts import Reason
from support.builders import (
    DATA,
    START,
    START_NS,
    Ending,
    GatedThreads,
    digest,
    end_while_queued,
    end_while_working,
    has_image,
    make_image,
    make_state,
    running,
    settle,
    state_of,
)
from support.deletions import deletion, key_of, plain
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
TRASH = f"{DATA}/system/hmret/trash"
LOOK = RetireCriteria(frozenset(), 1, nanoseconds_of(START) + 1)


@pytest.fixture
def actor(filesystem: MemoryFilesystem, data_fd: int, threads: GatedThreads) -> Deleter:
    return Deleter(filesystem, data_fd, threads)


@pytest.fixture
async def deleter(actor: Deleter, anyio_backend: str) -> AsyncIterator[Deleter]:
    async with running(actor):
        yield actor


def make_due(filesystem: MemoryFilesystem, letters: str, *, tags: tuple[str, ...] = ()) -> Deletion:
    """Make an image that is due."""
    key = make_image(filesystem, ALPINE, letters, tags=tags, size_bytes=8192)
    make_state(filesystem, key, START_NS)
    return deletion(*key, START_NS)


def places_of(batch: BatchRetired) -> list[TrashEntry]:
    return [outcome.place for outcome in batch.outcomes if isinstance(outcome, Retired)]


def trash_of(filesystem: MemoryFilesystem) -> list[str]:
    return sorted(filesystem.tree(TRASH)) if filesystem.exists(TRASH) else []


async def test_a_batch_is_retired_with_its_tags_and_states(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    candidates = [make_due(filesystem, "a", tags=("latest", "3.20")), make_due(filesystem, "b")]
    batch = await deleter.retire(candidates, LOOK)
    assert [key_of(outcome) for outcome in batch.outcomes] == [candidate.key for candidate in candidates]
    assert all(isinstance(outcome, Retired) for outcome in batch.outcomes)
    assert filesystem.tree(f"{DATA}/images") == {}
    assert all(state_of(filesystem, candidate.key) is None for candidate in candidates)


async def test_freeing_tells_the_bytes_and_leaves_no_trash(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    batch = await deleter.retire([make_due(filesystem, "a"), make_due(filesystem, "b")], LOOK)
    freed = await deleter.free(batch.batch_name, places_of(batch))
    assert (freed.disk_bytes, freed.errors) == ((8192, 8192), ())
    assert trash_of(filesystem) == []


async def test_what_is_protected_by_now_is_kept(deleter: Deleter, filesystem: MemoryFilesystem) -> None:
    kept, gone = make_due(filesystem, "a"), make_due(filesystem, "b")
    batch = await deleter.retire([kept, gone], RetireCriteria(frozenset([kept.key]), 1, START_NS + 1))
    assert plain(batch.outcomes[0]) == Kept(kept, Reason.REFERENCED)
    assert isinstance(batch.outcomes[1], Retired)
    assert has_image(filesystem, kept.key)


async def test_a_file_system_without_leases_is_told(deleter: Deleter, filesystem: MemoryFilesystem) -> None:
    filesystem.lease_error = errno.ENOLCK
    batch = await deleter.retire([make_due(filesystem, "a")], LOOK)
    assert batch.lease_error is not None
    assert isinstance(batch.outcomes[0], Retired)


async def test_an_open_disk_is_kept(deleter: Deleter, filesystem: MemoryFilesystem) -> None:
    candidate = make_due(filesystem, "a")
    opener = filesystem.hold_open(f"{DATA}/images/{ALPINE}/{'a' * 64}/rootfs.ext4")
    batch = await deleter.retire([candidate], LOOK)
    opener.close()
    assert [*map(plain, batch.outcomes)] == [Kept(candidate, Reason.OPEN)]


async def test_a_trash_that_cannot_be_written_fails_the_batch_and_frees_nothing(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    candidate = make_due(filesystem, "a")
    filesystem.write_file(TRASH, b"in the way")
    batch = await deleter.retire([candidate], LOOK)
    assert isinstance(batch.outcomes[0], Failed)
    freed = await deleter.free(batch.batch_name, [])
    assert (freed.disk_bytes, freed.errors) == ((), ())
    assert has_image(filesystem, candidate.key)


async def test_what_cannot_be_erased_is_told_and_stays_on_record(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    batch = await deleter.retire([make_due(filesystem, "a"), make_due(filesystem, "b")], LOOK)
    stuck, erased = places_of(batch)
    filesystem.deny(f"{DATA}/{stuck.folder}/{stuck.name}", errno.EIO)
    freed = await deleter.free(batch.batch_name, [stuck, erased])
    assert freed.disk_bytes == (0, 8192)
    assert freed.errors == ((stuck, "Input/output error"),)
    assert filesystem.exists(f"{TRASH}/{batch.batch_name}.json")


async def test_told_to_stop_it_retires_no_more(deleter: Deleter, filesystem: MemoryFilesystem) -> None:
    candidate = make_due(filesystem, "a")
    deleter.stop_early()
    batch = await deleter.retire([candidate], LOOK)
    assert batch.outcomes == ()
    assert has_image(filesystem, candidate.key)


async def test_told_to_stop_it_leaves_the_bytes_for_the_next_start(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    batch = await deleter.retire([make_due(filesystem, "a")], LOOK)
    deleter.stop_early()
    freed = await deleter.free(batch.batch_name, places_of(batch))
    assert (freed.disk_bytes, freed.errors) == ((0,), ())
    assert f"{TRASH}/{batch.batch_name}.json" in trash_of(filesystem)


async def test_recovery_finds_nothing_in_a_new_directory(deleter: Deleter) -> None:
    recovery = await deleter.recover()
    assert (recovery.finished, recovery.freed_bytes, recovery.errors) == ((), 0, ())
    assert not recovery.put_back


async def test_recovery_frees_what_was_retired(deleter: Deleter, filesystem: MemoryFilesystem) -> None:
    candidate = make_due(filesystem, "a", tags=("latest",))
    await deleter.retire([candidate], LOOK)
    recovery = await deleter.recover()
    assert [retired.intent.key for retired in recovery.finished] == [candidate.key]
    assert recovery.freed_bytes == 8192
    assert trash_of(filesystem) == []


async def test_recovery_puts_back_what_somebody_has_open(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    candidate = make_due(filesystem, "a", tags=("latest",))
    batch = await deleter.retire([candidate], LOOK)
    (place,) = places_of(batch)
    opener = filesystem.hold_open(f"{DATA}/{place.folder}/{place.name}/rootfs.ext4")
    recovery = await deleter.recover()
    opener.close()
    assert recovery.put_back
    assert has_image(filesystem, candidate.key)


async def test_recovery_erases_what_no_record_names(deleter: Deleter, filesystem: MemoryFilesystem) -> None:
    filesystem.write_file(f"{TRASH}/0123456789abcdef.0/rootfs.ext4", bytes(4096))
    recovery = await deleter.recover()
    assert recovery.freed_bytes == 4096
    assert trash_of(filesystem) == []


async def test_recovery_tells_what_it_cannot_erase(deleter: Deleter, filesystem: MemoryFilesystem) -> None:
    filesystem.make_folder(f"{TRASH}/0123456789abcdef.0")
    filesystem.deny(f"{TRASH}/0123456789abcdef.0", errno.EIO)
    recovery = await deleter.recover()
    assert recovery.errors == (("system/hmret/trash/0123456789abcdef.0", "Input/output error"),)


async def test_recovery_that_fails_for_one_image_finishes_the_others(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    stuck = await deleter.retire([make_due(filesystem, "a")], LOOK)
    await deleter.retire([make_due(filesystem, "b")], LOOK)
    (place,) = places_of(stuck)
    filesystem.deny(f"{DATA}/{place.folder}/{place.name}", errno.EACCES, call="scandir")
    recovery = await deleter.recover()
    assert [retired.intent.key for retired in recovery.finished] == [(ALPINE, digest("b"))]
    assert [path for path, _ in recovery.errors] == [f"{place.folder}/{place.name}"]
    assert filesystem.exists(f"{TRASH}/{stuck.batch_name}.json")


async def test_a_deletion_that_failed_halfway_is_unfinished_until_it_is_recovered(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    candidate = make_due(filesystem, "a")
    assert not deleter.has_unfinished
    batch = await deleter.retire([candidate], LOOK)
    (place,) = places_of(batch)
    filesystem.deny(f"{DATA}/{place.folder}/{place.name}", errno.EIO)
    await deleter.free(batch.batch_name, [place])
    assert deleter.has_unfinished
    assert await deleter.unfinished() == {candidate.digest}
    filesystem.allow(f"{DATA}/{place.folder}/{place.name}")
    await deleter.recover()
    assert not deleter.has_unfinished
    assert await deleter.unfinished() == frozenset()


async def test_what_failed_between_the_rename_and_the_clean_up_stays_on_record(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    candidate = make_due(filesystem, "a", tags=("latest",))

    def fail_after_the_rename(call: Call) -> None:
        is_of_the_intents = ".json" in call.path
        is_way_out = f"{'a' * 64} ->" in call.path
        if call.name in ("stat", "rename") and "trash" in call.path and not (is_of_the_intents or is_way_out):
            raise OSError(errno.EIO, "Input/output error")

    filesystem.before = fail_after_the_rename
    batch = await deleter.retire([candidate], LOOK)
    freed = await deleter.free(batch.batch_name, [])
    filesystem.before = None
    (failed,) = batch.outcomes
    assert isinstance(failed, Failed)
    assert failed.unfinished
    assert freed.errors == ()
    assert await deleter.unfinished() == {candidate.digest}
    recovery = await deleter.recover()
    assert [retired.intent.key for retired in recovery.finished] == [candidate.key]


async def test_recovery_tells_a_trash_that_cannot_be_listed(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    filesystem.make_folder(TRASH)
    filesystem.deny(TRASH, errno.EACCES)
    recovery = await deleter.recover()
    assert recovery.errors == (("system/hmret/trash", "Permission denied"),)


# Quarantine.


async def hold_all(deleter: Deleter, *candidates: Deletion) -> tuple[HeldImage, ...]:
    batch = await deleter.retire(candidates, LOOK)
    retired = [outcome for outcome in batch.outcomes if isinstance(outcome, Retired)]
    return await deleter.hold(batch.batch_name, retired, START_NS)


async def test_what_is_held_outlasts_a_recovery_and_is_settled_at_the_start(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    held = await hold_all(deleter, make_due(filesystem, "a"), make_due(filesystem, "b"))
    assert (await deleter.recover()).freed_bytes == 0
    recovered = await deleter.recover_quarantine()
    assert (recovered.held, recovered.erasing, recovered.freed_bytes, recovered.errors) == (held, (), 0, ())
    assert (await deleter.list_held()).held == held
    assert await deleter.unfinished() == frozenset()


async def test_what_is_held_is_released_and_its_record_goes_with_the_last(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    one, other = await hold_all(deleter, make_due(filesystem, "a"), make_due(filesystem, "b"))
    released = await deleter.release([one])
    assert (released.disk_bytes, released.done, released.errors) == ((8192,), (True,), ())
    assert (await deleter.list_held()).held == (other,)
    await deleter.release([other])
    assert trash_of(filesystem) == []


async def test_what_is_restored_is_not_held_any_more(deleter: Deleter, filesystem: MemoryFilesystem) -> None:
    (held,) = await hold_all(deleter, make_due(filesystem, "a", tags=("latest",)))
    assert (await deleter.restore(held, START_NS)).tags == {ALPINE: ("latest",)}
    assert has_image(filesystem, held.key)
    with pytest.raises(LookupError):
        await deleter.restore(held, START_NS)
    assert (await deleter.release([held])).disk_bytes == (0,)
    assert has_image(filesystem, held.key)


async def test_a_batch_that_cannot_be_held_is_held_by_the_next_recovery(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    batch = await deleter.retire([make_due(filesystem, "a")], LOOK)
    retired = [outcome for outcome in batch.outcomes if isinstance(outcome, Retired)]
    filesystem.deny(f"{TRASH}/{batch.batch_name}.held.tmp", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        await deleter.hold(batch.batch_name, retired, START_NS)
    assert deleter.has_unfinished
    assert await deleter.unfinished() == {digest("a")}
    filesystem.allow(f"{TRASH}/{batch.batch_name}.held.tmp")
    recovery = await deleter.recover(hold_at_ns=START_NS)
    assert (await deleter.list_held()).held == recovery.held
    assert len(recovery.held) == 1
    assert not deleter.has_unfinished


async def test_what_is_unfinished_of_a_batch_joins_what_is_held_of_it(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    stuck = make_due(filesystem, "b", tags=("b",))
    filesystem.deny(f"{DATA}/images/{ALPINE}/b", errno.EIO, call="rename")
    held = await hold_all(deleter, make_due(filesystem, "a"), stuck)
    assert [one.digest for one in held] == [digest("a")]
    assert await deleter.unfinished() == {stuck.digest}
    filesystem.allow(f"{DATA}/images/{ALPINE}/b")
    recovery = await deleter.recover(hold_at_ns=START_NS + 5)
    assert [(one.digest, one.tags_of(ALPINE)) for one in recovery.held] == [(digest("b"), ("b",))]
    assert [one.digest for one in (await deleter.list_held()).held] == [digest("a"), digest("b")]


async def test_a_restore_waits_until_no_other_record_is_written(
    deleter: Deleter, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    (held,) = await hold_all(deleter, make_due(filesystem, "a"))
    gate = threads.hold("_recover")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deleter.recover)
            await gate.arrived.wait()
            tasks.start_soon(deleter.restore, held, START_NS)
            await settle()
            assert not has_image(filesystem, held.key)
            gate.opened.set()
    assert has_image(filesystem, held.key)


async def test_what_was_retired_later_than_a_moment_is_dated_back_to_it(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    (held,) = await hold_all(deleter, make_due(filesystem, "a"))
    (dated,) = await deleter.redate(held.batch_name, START_NS - 7)
    assert dated.retired_at_ns == START_NS - 7
    assert (await deleter.redate(held.batch_name, START_NS)) == (dated,)
    assert (await deleter.list_held()).held == (dated,)


async def test_a_trash_that_cannot_be_listed_settles_nothing_and_is_told(
    deleter: Deleter, filesystem: MemoryFilesystem
) -> None:
    filesystem.make_folder(TRASH)
    filesystem.deny(TRASH, errno.EACCES)
    recovered = await deleter.recover_quarantine()
    assert (recovered.held, recovered.errors) == ((), (("system/hmret/trash", "Permission denied"),))


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_the_end_answers_or_refuses_a_queued_request(actor: Deleter, ending: Ending) -> None:
    asker = await end_while_queued(actor, actor.recover, ending)
    assert asker.is_answered
    assert asker.is_refused == (ending == "cancelled")


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_a_deletion_that_was_begun_is_finished_whatever_ends(
    actor: Deleter, filesystem: MemoryFilesystem, threads: GatedThreads, ending: Ending
) -> None:
    candidate = make_due(filesystem, "a")
    gate = threads.hold("retire")
    asker = await end_while_working(actor, lambda: actor.retire([candidate], LOOK), ending, gate)
    assert asker.is_answered
    assert not has_image(filesystem, candidate.key)


async def test_calls_after_the_end_are_refused(actor: Deleter) -> None:
    async with running(actor):
        assert actor.waiting == 0
    key: Key = (ALPINE, digest("a"))
    with pytest.raises(EngineClosedError):
        await actor.retire([deletion(*key, START_NS)], LOOK)
    with pytest.raises(EngineClosedError):
        await actor.free("batch", [])
    with pytest.raises(EngineClosedError):
        await actor.recover()
