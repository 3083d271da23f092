"""One bad thing never stops the rest: faults of single files, of the disk and of the journal, and what is told of them."""

import errno
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta

import anyio
import anyio.from_thread
import pytest

import hmret
from hmret.actors.threads import WorkerThreads
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.references import Key
from hmret.model.times import SECOND, format_time
from support.builders import (
    DATA,
    START,
    START_NS,
    FakeClock,
    GatedThreads,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_state,
    make_surroundings,
    settle,
    state_of,
    told,
)
from support.memory_filesystem import Call, ForeignOpen, MemoryFilesystem
from support.patience import PATIENCE, patiently

ALPINE = "docker.io/library/alpine"
LONG_AGO_NS = START_NS - 40 * 86_400 * SECOND
STATES = f"{DATA}/system/image-retention"
OWN = f"{DATA}/system/hmret"
JOURNAL = f"{OWN}/journal.jsonl"
TRASH = f"{OWN}/trash"
MINUTE = timedelta(minutes=1)


def opened(platform: Platform) -> AbstractAsyncContextManager[Retention]:
    assert isinstance(platform.filesystem, MemoryFilesystem)
    return open_engine(make_config(platform.filesystem), platform, scheduled=False)


@pytest.fixture
async def retention(
    filesystem: MemoryFilesystem, platform: Platform, anyio_backend: str
) -> AsyncIterator[Retention]:
    """An engine that sweeps only when asked."""
    async with opened(platform) as retention:
        yield retention
        filesystem.before = None


def make_due(
    filesystem: MemoryFilesystem, letters: str = "a", *, size_bytes: int = 4096, since_ns: int = LONG_AGO_NS
) -> Key:
    created_at = START - timedelta(days=60)
    key = make_image(
        filesystem, ALPINE, letters, tags=(letters,), created_at=created_at, size_bytes=size_bytes
    )
    make_state(filesystem, key, since_ns)
    return key


def folder(key: Key) -> str:
    return f"{DATA}/images/{key[0]}/{key[1].removeprefix('sha256:')}"


def journal(filesystem: MemoryFilesystem, event: str) -> list[dict[str, object]]:
    if not filesystem.exists(JOURNAL):
        return []
    lines = [json.loads(line) for line in filesystem.read_file(JOURNAL).splitlines()]
    return [line for line in lines if line["event"] == event]


def failing(code: int, chosen: Callable[[Call], bool]) -> Callable[[Call], None]:
    """Make what fails the calls that are chosen."""

    def fail(call: Call) -> None:
        if chosen(call):
            raise OSError(code, errno.errorcode[code])

    return fail


# States.


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"repository": 7}', b"\xff", b"null"])
async def test_a_corrupt_state_restarts_that_timer_and_no_other(
    retention: Retention,
    filesystem: MemoryFilesystem,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    bad, due = make_due(filesystem, "a"), make_due(filesystem, "b")
    other = make_due(filesystem, "c", since_ns=START_NS - SECOND)
    path = f"{STATES}/{ALPINE}/{'a' * 64}.json"
    filesystem.write_file(path, content)
    report = await retention.sweep()
    assert (report.status, report.marked_unused, report.deleted_images) == (hmret.SweepStatus.SUCCESS, 1, 1)
    assert state_of(filesystem, bad) == format_time(START_NS)
    assert not has_image(filesystem, due)
    assert state_of(filesystem, other) == format_time(START_NS - SECOND)
    assert [one["path"] for one in told(caplog, "state_unreadable")] == [path.removeprefix(f"{DATA}/")]


async def test_a_timer_that_the_disk_does_not_give_is_logged_once_while_that_lasts(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_due(filesystem, "a")
    path = f"{STATES}/{ALPINE}/{'a' * 64}.json"
    filesystem.deny(path, errno.EIO)
    for _ in range(3):
        await retention.sweep()
    assert has_image(filesystem, key)
    assert len(told(caplog, "state_unreadable")) == 1


async def test_a_state_that_names_another_image_restarts_its_timer(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key, other = make_due(filesystem, "a"), make_due(filesystem, "b")
    filesystem.write_file(
        f"{STATES}/{ALPINE}/{'a' * 64}.json", filesystem.read_file(f"{STATES}/{ALPINE}/{'b' * 64}.json")
    )
    await retention.sweep()
    assert state_of(filesystem, key) == format_time(START_NS)
    assert not has_image(filesystem, other)


async def test_a_state_that_the_disk_refuses_restarts_that_timer_and_no_other(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    bad, due = make_due(filesystem, "a"), make_due(filesystem, "b")
    filesystem.deny(f"{STATES}/{ALPINE}/{'a' * 64}.json", errno.EIO, call="read")
    assert (await retention.sweep()).deleted_images == 1
    assert has_image(filesystem, bad)
    assert not has_image(filesystem, due)


async def test_a_state_that_turns_unreadable_before_the_deletion_keeps_its_image(
    retention: Retention, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    bad, due = make_due(filesystem, "a"), make_due(filesystem, "b")
    gate = threads.hold("retire")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            await gate.arrived.wait()
            filesystem.write_file(f"{STATES}/{ALPINE}/{'a' * 64}.json", b"{")
            gate.opened.set()
    assert has_image(filesystem, bad)
    assert not has_image(filesystem, due)


def fail_marks(call: Call) -> bool:
    return call.name in ("write", "mkdir") and call.path.startswith(STATES)


async def test_a_full_disk_while_marking_never_leads_to_a_deletion(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_image(filesystem, ALPINE, "a", created_at=START - timedelta(days=400))
    filesystem.before = failing(errno.ENOSPC, fail_marks)
    for _ in range(4):
        report = await retention.sweep()
        assert (report.status, report.marked_unused) == (hmret.SweepStatus.PARTIAL, 0)
        assert [(one.repository, one.digest) for one in report.errors] == [key]
        clock.advance(timedelta(days=30))
    filesystem.before = None
    assert (await retention.sweep()).marked_unused == 1
    clock.advance(timedelta(days=30) - timedelta(seconds=1))
    await retention.sweep()
    assert has_image(filesystem, key)
    clock.advance(timedelta(seconds=1))
    await retention.sweep()
    assert not has_image(filesystem, key)


async def test_a_full_disk_while_marking_leaves_nothing_half_written(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    filesystem.before = failing(errno.ENOSPC, fail_marks)
    await retention.sweep()
    assert not [path for path in filesystem.tree(DATA) if ".json" in path and path.startswith(STATES)]


async def test_a_timer_that_cannot_be_restarted_on_a_full_disk_never_leads_to_a_deletion(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{STATES}/{ALPINE}/{'a' * 64}.json", b"{")
    filesystem.before = failing(errno.ENOSPC, fail_marks)
    for _ in range(3):
        await retention.sweep()
        clock.advance(timedelta(days=31))
    assert has_image(filesystem, key)


async def test_one_state_that_cannot_be_cleared_does_not_stop_the_others(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    stuck, needed, due = (make_due(filesystem, letter) for letter in "abc")
    for key in (stuck, needed):
        make_guest(filesystem, key[1][-1], f"alpine@{key[1]}")
    filesystem.deny(f"{STATES}/{ALPINE}/{'a' * 64}.json", errno.EROFS, call="unlink")
    report = await retention.sweep()
    assert (report.status, report.cleared_states) == (hmret.SweepStatus.PARTIAL, 1)
    assert [(one.digest, one.error) for one in report.errors] == [(stuck[1], "Read-only file system")]
    assert state_of(filesystem, needed) is None
    assert has_image(filesystem, stuck)
    assert not has_image(filesystem, due)


# Deletions that fail.


async def test_a_failed_deletion_is_told_with_errno_and_path_and_the_sweep_goes_on(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, gone = make_due(filesystem, "a"), make_due(filesystem, "b")
    filesystem.deny(folder(stuck), errno.EIO, call="rename")
    report = await retention.sweep()
    path = folder(stuck).removeprefix(f"{DATA}/")
    assert (report.status, report.failed_deletes) == (hmret.SweepStatus.PARTIAL, 1)
    assert [(one.repository, one.digest, one.path, one.error) for one in report.errors] == [
        (*stuck, path, "Input/output error")
    ]
    (failure,) = told(caplog, "deletion_failed")
    assert (failure["errno"], failure["path"], failure["digest"]) == (errno.EIO, path, stuck[1])
    assert not has_image(filesystem, gone)


async def test_an_image_whose_deletion_failed_is_whole_with_its_tag_and_its_timer(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    before = filesystem.tree(f"{DATA}/images")
    filesystem.deny(folder(key), errno.EIO, call="rename")
    await retention.sweep()
    assert filesystem.tree(f"{DATA}/images") == before
    assert state_of(filesystem, key) == format_time(LONG_AGO_NS)
    assert filesystem.tree(TRASH) == {}


async def test_a_failed_deletion_backs_off_doubling_from_a_minute_to_an_hour(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    filesystem.deny(folder(key), errno.EIO, call="rename")
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        assert (await retention.sweep()).failed_deletes == 1
        clock.advance(minutes * MINUTE - timedelta(microseconds=1))
        assert (await retention.explain("alpine:a")).reason is hmret.Reason.BACKOFF
        assert (await retention.sweep()).failed_deletes == 0
        clock.advance(timedelta(microseconds=1))
        assert (await retention.explain("alpine:a")).reason is hmret.Reason.EXPIRED
    filesystem.allow(folder(key))
    assert (await retention.sweep()).deleted_images == 1
    assert not has_image(filesystem, key)


async def test_backing_off_goes_by_the_time_since_boot(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    filesystem.deny(folder(key), errno.EIO, call="rename")
    await retention.sweep()
    clock.wall_ns += 4 * 60 * SECOND
    (verdict,) = (await retention.plan()).verdicts
    assert (verdict.action, verdict.reason) == (hmret.Action.NONE, hmret.Reason.BACKOFF)
    clock.boot_ns += 60 * SECOND
    assert (await retention.explain("alpine:a")).reason is hmret.Reason.EXPIRED


async def test_one_image_that_backs_off_does_not_keep_another(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    stuck = make_due(filesystem, "a")
    filesystem.deny(folder(stuck), errno.EIO, call="rename")
    await retention.sweep()
    gone = make_due(filesystem, "b")
    assert (await retention.sweep()).deleted_images == 1
    assert not has_image(filesystem, gone)


async def test_a_new_engine_knows_what_failed_lately_and_waits_as_long(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    filesystem.deny(folder(key), errno.EIO, call="rename")
    for minutes in (1, 2, 4):
        async with opened(platform) as retention:
            assert (await retention.sweep()).failed_deletes == 1
            clock.advance(minutes * MINUTE - timedelta(microseconds=1))
        async with opened(platform) as retention:
            assert (await retention.explain("alpine:a")).reason is hmret.Reason.BACKOFF
            assert (await retention.sweep()).failed_deletes == 0
            clock.advance(timedelta(microseconds=1))
    filesystem.allow(folder(key))
    async with opened(platform) as retention:
        assert (await retention.sweep()).deleted_images == 1


async def test_in_another_boot_a_failed_deletion_is_tried_at_once(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    filesystem.deny(folder(key), errno.EIO, call="rename")
    async with opened(platform) as retention:
        await retention.sweep()
    filesystem.allow(folder(key))
    clock.boot_id = "second-boot"
    async with opened(platform) as retention:
        assert (await retention.sweep()).deleted_images == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[{}]", b'"x"', b"[" * 100_000], ids=range(5))
async def test_a_record_of_failures_that_makes_no_sense_is_none(
    platform: Platform, filesystem: MemoryFilesystem, content: bytes
) -> None:
    make_due(filesystem)
    filesystem.write_file(f"{DATA}/system/hmret/backoff.json", content)
    async with opened(platform) as retention:
        assert (await retention.sweep()).deleted_images == 1


async def test_an_image_that_went_and_came_again_does_not_back_off(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.deny(folder(key), errno.EIO, call="rename")
    await retention.sweep()
    filesystem.allow(folder(key))
    filesystem.remove(folder(key))
    await retention.sweep()
    make_due(filesystem)
    assert (await retention.explain("alpine:a")).reason is hmret.Reason.EXPIRED


async def test_where_no_intent_can_be_written_nothing_is_deleted(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.before = failing(errno.EIO, lambda call: call.name == "write" and TRASH in call.path)
    for _ in range(2):
        # It is nothing about that image, so nothing backs off.
        report = await retention.sweep()
        assert (report.status, report.failed_deletes) == (hmret.SweepStatus.PARTIAL, 1)
        assert has_image(filesystem, key)


# Leftovers.


def erasing_a_disk(call: Call) -> bool:
    return call.name == "unlink" and TRASH in call.path and call.path.endswith("rootfs.ext4")


async def test_an_image_that_cannot_be_erased_is_gone_and_reported_and_the_next_sweep_finishes_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.before = failing(errno.EIO, erasing_a_disk)
    report = await retention.sweep()
    filesystem.before = None
    assert (report.status, report.deleted_images, report.deleted_bytes) == (hmret.SweepStatus.PARTIAL, 1, 0)
    assert [one.path.startswith("system/hmret/trash/") for one in report.errors] == [True]
    assert not has_image(filesystem, key)
    assert filesystem.tree(TRASH) != {}
    await retention.sweep()
    assert filesystem.tree(TRASH) == {}


async def test_what_cannot_be_erased_for_long_is_tried_at_each_sweep_and_stops_none(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem, "a")
    filesystem.before = failing(errno.EIO, erasing_a_disk)
    await retention.sweep()
    for letter in "bc":
        key = make_due(filesystem, letter)
        await retention.sweep()
        assert not has_image(filesystem, key)
    filesystem.before = None
    await retention.sweep()
    assert filesystem.tree(TRASH) == {}


def fail_after_the_rename(filesystem: MemoryFilesystem) -> None:
    """Let neither the look after the rename succeed nor the way back."""

    def chosen(call: Call) -> bool:
        is_way_back = call.name == "rename" and f"-> {DATA}/images" in call.path
        return is_way_back or (call.name == "stat" and call.path.startswith(f"{TRASH}/"))

    filesystem.before = failing(errno.EIO, chosen)


async def test_a_deletion_that_could_not_be_checked_after_its_rename_is_finished_by_the_next_sweep(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    fail_after_the_rename(filesystem)
    report = await retention.sweep()
    filesystem.before = None
    assert (report.failed_deletes, report.deleted_images) == (1, 0)
    assert filesystem.tree(TRASH) != {}
    await retention.sweep()
    assert filesystem.tree(TRASH) == {}
    assert not has_image(filesystem, key)
    assert state_of(filesystem, key) is None
    assert not filesystem.exists(f"{DATA}/images/{ALPINE}")


async def test_a_deletion_that_could_not_be_checked_is_undone_where_its_disk_is_open(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    before = filesystem.tree(f"{DATA}/images")
    fail_after_the_rename(filesystem)
    await retention.sweep()
    filesystem.before = None
    (disk,) = (path for path in filesystem.tree(TRASH) if path.endswith("rootfs.ext4"))
    opener = filesystem.hold_open(disk)
    await retention.sweep()
    opener.close()
    assert filesystem.tree(f"{DATA}/images") == before
    assert [line["reason"] for line in journal(filesystem, "recover")] == ["open"]
    # It is back, and the same sweep found it unused: its time starts again.
    assert state_of(filesystem, key) == format_time(START_NS)


async def test_leftovers_wait_while_a_fresh_pull_of_the_same_digest_is_in_use(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    fail_after_the_rename(filesystem)
    await retention.sweep()
    filesystem.before = None
    make_image(filesystem, ALPINE, "a", tags=("a",))
    leftovers = filesystem.tree(TRASH)
    async with retention.lease("alpine:a"):
        await retention.sweep()
        assert filesystem.tree(TRASH) == leftovers
    await settle()
    await retention.sweep()
    assert filesystem.tree(TRASH) == {}
    assert has_image(filesystem, key)
    assert filesystem.exists(f"{DATA}/images/{ALPINE}/a")


@pytest.mark.parametrize("is_one_shot", [False, True], ids=["engine", "one-shot"])
@pytest.mark.parametrize("name", ["rootfs.ext4", "metadata.json"])
async def test_every_sweep_that_cannot_free_bytes_says_so_and_it_is_logged_once(
    platform: Platform,
    filesystem: MemoryFilesystem,
    caplog: pytest.LogCaptureFixture,
    name: str,
    is_one_shot: bool,
) -> None:
    make_due(filesystem)
    filesystem.before = failing(
        errno.EPERM, lambda call: call.name == "unlink" and TRASH in call.path and call.path.endswith(name)
    )
    found = []
    async with AsyncExitStack() as stack:
        retention = await stack.enter_async_context(opened(platform))
        for _ in range(3):
            if is_one_shot:
                await stack.aclose()
                retention = await stack.enter_async_context(opened(platform))
            report = await retention.sweep()
            (error,) = report.errors
            found.append((report.status, error.path.rpartition("/")[0], error.error))
        assert found == [(hmret.SweepStatus.PARTIAL, "system/hmret/trash", "EPERM")] * 3
        if not is_one_shot:
            assert len(told(caplog, "deletion_unfinished")) == len(told(caplog, "recovery_failed")) == 1
        filesystem.before = None
        report = await retention.sweep()
        assert (report.status, report.errors) == (hmret.SweepStatus.SUCCESS, ())
    assert filesystem.tree(TRASH) == {}


async def test_strays_in_the_trash_are_erased_at_the_start(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    filesystem.write_file(f"{TRASH}/stray", b"x")
    filesystem.write_file(f"{TRASH}/0123456789abcdef.json.tmp", b"[")
    filesystem.write_file(f"{TRASH}/folder.7/below/rootfs.ext4", b"x")
    filesystem.write_file("/elsewhere/precious", b"x")
    filesystem.make_link(f"{TRASH}/link", "/elsewhere")
    filesystem.make_link(f"{TRASH}/folder.7/link", "/elsewhere")
    async with opened(platform):
        assert filesystem.tree(TRASH) == {}
    assert filesystem.read_file("/elsewhere/precious") == b"x"


async def test_a_stray_that_cannot_be_erased_is_told_and_stops_nothing(
    platform: Platform, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{TRASH}/stray", b"x")
    filesystem.deny(f"{TRASH}/stray", errno.EIO, call="unlink")
    async with opened(platform) as retention:
        for _ in range(2):
            report = await retention.sweep()
            assert [one.path for one in report.errors] == ["system/hmret/trash/stray"]
    assert [one["path"] for one in told(caplog, "recovery_failed")] == ["system/hmret/trash/stray"]
    assert not has_image(filesystem, key)


# A stop in the midst of deletions.


async def test_a_stop_in_the_midst_of_deletions_finishes_the_image_in_hand_and_writes_it_down(
    filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    keys = [make_due(filesystem, letter) for letter in "abcdef"]
    arrived, go = anyio.Event(), threading.Event()

    def stand_still(call: Call) -> None:
        if call.name == "rename" and call.path.startswith(f"{DATA}/images") and not go.is_set():
            anyio.from_thread.run_sync(arrived.set)
            assert go.wait(PATIENCE)

    platform = Platform(filesystem=filesystem, clock=clock, threads=WorkerThreads())
    scope = anyio.CancelScope()

    async def embed() -> None:
        with scope:
            async with opened(platform) as retention:
                await retention.sweep()

    with patiently():
        async with anyio.create_task_group() as tasks:
            filesystem.before = stand_still
            tasks.start_soon(embed)
            await arrived.wait()
            scope.cancel()
            await settle()
            go.set()
    filesystem.before = None
    assert [has_image(filesystem, key) for key in keys] == [False, True, True, True, True, True]
    assert [line["image"] for line in journal(filesystem, "delete")] == ["@".join(keys[0])]
    async with opened(make_surroundings(filesystem, clock)) as retention:
        assert filesystem.tree(TRASH) == {}
        assert (await retention.sweep()).deleted_images == 5
    assert not any(has_image(filesystem, key) for key in keys)


async def test_a_stop_between_two_batches_begins_no_further_one(
    filesystem: MemoryFilesystem, platform: Platform, threads: GatedThreads
) -> None:
    keys = [make_due(filesystem, f"{number:04x}") for number in range(40)]
    gate = threads.hold("_free")
    scope = anyio.CancelScope()

    async def embed() -> None:
        with scope:
            async with opened(platform) as retention:
                await retention.sweep()

    with patiently():
        async with anyio.create_task_group() as tasks:
            second = threads.hold("retire"), threads.hold("retire")
            second[0].opened.set()
            tasks.start_soon(embed)
            await gate.arrived.wait()
            await second[1].arrived.wait()
            scope.cancel()
            await settle()
            gate.opened.set()
            second[1].opened.set()
    gone = {"@".join(key) for key in keys if not has_image(filesystem, key)}
    assert len(gone) == 32
    assert {line["image"] for line in journal(filesystem, "delete")} == gone
    async with opened(platform) as retention:
        assert filesystem.tree(TRASH) == {}
        assert (await retention.sweep()).deleted_images == 8


# Open disks, and leases that are not offered.


@pytest.mark.parametrize("name", ["rootfs.ext4", "metadata.json"])
async def test_an_image_that_a_process_has_open_is_kept_and_counted_and_its_timer_cleared(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, logger="hmret")
    key, gone = make_due(filesystem, "a"), make_due(filesystem, "b")
    opener = filesystem.hold_open(f"{folder(key)}/{name}")
    report = await retention.sweep()
    assert (report.open_images, report.cleared_states, report.failed_deletes) == (1, 1, 0)
    assert report.status is hmret.SweepStatus.SUCCESS
    assert [(one["digest"], one["reason"]) for one in told(caplog, "image_kept")] == [(key[1], "open")]
    assert [(one["image"], one["reason"]) for one in journal(filesystem, "clear")] == [
        ("@".join(key), "open")
    ]
    assert state_of(filesystem, key) is None
    assert not has_image(filesystem, gone)
    opener.close()
    assert (await retention.sweep()).marked_unused == 1
    assert state_of(filesystem, key) == format_time(START_NS)


async def test_a_disk_that_is_open_through_another_link_keeps_its_image(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.make_folder("/elsewhere")
    filesystem.link(f"{folder(key)}/rootfs.ext4", "/elsewhere/disk")
    opener = filesystem.hold_open("/elsewhere/disk")
    assert (await retention.sweep()).open_images == 1
    opener.close()
    assert has_image(filesystem, key)


async def test_whoever_opens_a_disk_right_after_its_rename_has_it_put_back(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    before = filesystem.tree(f"{DATA}/images")
    openers: list[ForeignOpen] = []

    def open_it(call: Call) -> None:
        if call.name == "stat" and call.path.startswith(f"{TRASH}/") and not openers:
            (disk,) = (path for path in filesystem.tree(TRASH) if path.endswith("rootfs.ext4"))
            openers.append(filesystem.begin_open(disk))

    filesystem.before = open_it
    report = await retention.sweep()
    filesystem.before = None
    for opener in openers:
        opener.close()
    assert len(openers) == 1
    assert (report.open_images, report.deleted_images) == (1, 0)
    assert filesystem.tree(f"{DATA}/images") == before
    assert state_of(filesystem, key) is None


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EINVAL, errno.EACCES])
async def test_leases_that_are_not_offered_are_told_once_and_shown_and_deletion_goes_on(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    filesystem.lease_error = code
    assert retention.statistics().leases_offered is None
    for letter in "abc":
        key = make_due(filesystem, letter)
        await retention.sweep()
        assert not has_image(filesystem, key)
    assert len(told(caplog, "no_file_leases")) == 1
    assert retention.statistics().leases_offered is False


async def test_where_no_image_came_as_far_as_its_leases_nothing_is_learned_about_them(
    retention: Retention,
    filesystem: MemoryFilesystem,
    threads: GatedThreads,
    caplog: pytest.LogCaptureFixture,
) -> None:
    filesystem.lease_error = errno.ENOLCK
    for letter, is_needed in (("a", False), ("b", True), ("c", False)):
        key = make_due(filesystem, letter)
        gate = threads.hold("plan")
        with patiently():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(retention.sweep)
                await gate.arrived.wait()
                if is_needed:
                    make_guest(filesystem, "one", f"alpine@{key[1]}")
                gate.opened.set()
        assert has_image(filesystem, key) is is_needed
        assert retention.statistics().leases_offered is False
    assert len(told(caplog, "no_file_leases")) == 1


# The journal.


async def test_the_journal_has_a_line_for_each_mark_clear_and_deletion(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    fresh, needed = make_image(filesystem, ALPINE, "b", tags=()), make_due(filesystem, "c")
    due = make_due(filesystem, "a", size_bytes=8192)
    gone = ALPINE, digest("d")
    make_state(filesystem, gone, LONG_AGO_NS)
    make_guest(filesystem, "one", f"alpine@{needed[1]}")
    await retention.sweep()
    time = format_time(START_NS)
    assert journal(filesystem, "mark") == [
        {"time": time, "event": "mark", "image": "@".join(fresh), "reason": "newly_unused"}
    ]
    assert journal(filesystem, "clear") == [
        {
            "time": time,
            "event": "clear",
            "image": "@".join(needed),
            "reason": "referenced",
            "referenced_by": ["instance/one"],
        },
        {"time": time, "event": "clear", "image": "@".join(gone), "reason": "gone"},
    ]
    assert journal(filesystem, "delete") == [
        {
            "time": time,
            "event": "delete",
            "image": "@".join(due),
            "reason": "expired",
            "bytes": 8192,
            "unused_since": format_time(LONG_AGO_NS),
            "tags": ["a"],
        }
    ]


async def test_the_journal_has_what_went_in_a_batch_before_the_sweep_has_ended(
    filesystem: MemoryFilesystem, platform: Platform, threads: GatedThreads
) -> None:
    """A sweep may be killed at any moment."""
    keys = [make_due(filesystem, f"{number:04x}") for number in range(40)]
    first, second = threads.hold("retire"), threads.hold("retire")
    with patiently():
        async with opened(platform) as retention, anyio.create_task_group() as tasks:
            tasks.start_soon(retention.sweep)
            first.opened.set()
            await second.arrived.wait()
            await settle()
            gone = {"@".join(key) for key in keys if not has_image(filesystem, key)}
            written = {line["image"] for line in journal(filesystem, "delete")}
            second.opened.set()
    assert 0 < len(gone) < len(keys)
    assert written == gone
    assert len(journal(filesystem, "delete")) == len(keys)


async def test_the_journal_tells_why_a_timer_was_cleared(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    names = ("used", "leased", "pinned", "not_allowed", "broken", "not_ready")
    keys = {}
    for number, name in enumerate(names):
        repository = f"ghcr.io/{name.replace('_', '-')}/x"
        status = "failed" if name == "not_ready" else "ready"
        keys[name] = make_image(filesystem, repository, f"{number}", status=status, has_disk=name != "broken")
        make_state(filesystem, keys[name], LONG_AGO_NS)
    config = hmret.RetentionConfig(
        data_dir=DATA,
        auto_delete=hmret.AutoDelete(
            enabled=True,
            unused_for=timedelta(days=30),
            allowed=tuple(keys[name][0] for name in names if name != "not_allowed"),
        ),
        pinned=(keys["pinned"][0],),
    )
    async with open_engine(config, platform, scheduled=False) as retention:
        await retention.mark_used(keys["used"][0], keys["used"][1])
        async with retention.lease(keys["leased"][0], keys["leased"][1]):
            make_state(filesystem, keys["leased"], LONG_AGO_NS)
            await retention.sweep()
    lines = journal(filesystem, "clear")
    assert {(line["image"], line["reason"]) for line in lines} >= {
        ("@".join(keys[name]), name) for name in names
    }


async def test_the_journal_tells_what_failed_where_and_why(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.deny(folder(key), errno.EIO, call="rename")
    await retention.sweep()
    assert journal(filesystem, "failure") == [
        {
            "time": format_time(START_NS),
            "event": "failure",
            "image": "@".join(key),
            "reason": "deletion_failed",
            "path": folder(key).removeprefix(f"{DATA}/"),
            "error": "Input/output error",
            "errno": errno.EIO,
        }
    ]


async def test_the_journal_tells_what_was_recovered(
    filesystem: MemoryFilesystem, platform: Platform, clock: FakeClock
) -> None:
    key = make_due(filesystem)
    after: list[MemoryFilesystem] = []

    def copy(call: Call) -> None:
        if call.name == "unlink" and call.path.startswith(TRASH) and not after:
            after.append(filesystem.crashed_copy())

    filesystem.before = copy
    async with opened(platform) as retention:
        await retention.sweep()
    filesystem.before = None
    (crashed,) = after
    async with opened(make_surroundings(crashed, clock)):
        pass
    assert [(line["image"], line["reason"]) for line in journal(crashed, "recover")] == [
        ("@".join(key), "finished")
    ]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
async def test_a_journal_that_cannot_be_written_stops_nothing_and_is_told_once(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    filesystem.write_file(JOURNAL, b"")
    filesystem.deny(JOURNAL, code)
    for letter in "abc":
        key = make_due(filesystem, letter)
        make_image(filesystem, ALPINE, "f", tags=())
        report = await retention.sweep()
        assert (report.status, report.deleted_images) == (hmret.SweepStatus.SUCCESS, 1)
        assert not has_image(filesystem, key)
    make_due(filesystem, "d")
    assert (await retention.mark_used("alpine:d")).cleared
    assert len(told(caplog, "journal_not_written")) == 1


async def test_a_journal_that_fails_again_is_told_again(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem.write_file(JOURNAL, b"")
    for letter, fails in (("a", True), ("b", False), ("c", True)):
        make_due(filesystem, letter)
        if fails:
            filesystem.deny(JOURNAL, errno.ENOSPC)
        else:
            filesystem.allow(JOURNAL)
        await retention.sweep()
        filesystem.allow(JOURNAL)
    assert len(told(caplog, "journal_not_written")) == 2
    assert len(journal(filesystem, "delete")) == 1


async def test_a_line_that_was_cut_off_stays_alone_on_its_line(
    platform: Platform, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem)
    filesystem.write_file(JOURNAL, b'{"time": "2026-')
    async with opened(platform) as retention:
        await retention.sweep()
    first, *rest = filesystem.read_file(JOURNAL).splitlines()
    assert first == b'{"time": "2026-'
    assert [json.loads(line)["event"] for line in rest] == ["delete"]


async def test_a_kill_while_the_journal_is_written_leaves_an_engine_that_starts(
    filesystem: MemoryFilesystem, platform: Platform, clock: FakeClock
) -> None:
    make_due(filesystem)
    after: list[MemoryFilesystem] = []

    def copy(call: Call) -> None:
        if call.path == JOURNAL:
            after.append(filesystem.crashed_copy())

    filesystem.shorten = lambda length: (length + 1) // 2
    filesystem.before = copy
    async with opened(platform) as retention:
        await retention.sweep()
    filesystem.before = None
    assert after
    for crashed in after:
        make_due(crashed, "b")
        async with opened(make_surroundings(crashed, clock)) as retention:
            assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
        assert len(journal_lines(crashed)) >= 1


def journal_lines(filesystem: MemoryFilesystem) -> list[object]:
    """Read the lines that are whole."""
    lines: list[object] = []
    for line in filesystem.read_file(JOURNAL).splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
