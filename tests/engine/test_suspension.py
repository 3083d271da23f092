"""When in doubt, keep: what suspends deletion, what does not, what goes on meanwhile, and what people are told."""

import errno
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Literal

import pytest

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.images import Cause, Suspension
from hmret.model.references import Key
from hmret.model.times import SECOND
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
    make_snapshot,
    make_state,
    make_surroundings,
    state_of,
    told,
)
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import patiently

ALPINE = "docker.io/library/alpine"
KERNEL = "ghcr.io/kernel/x"
LONG_AGO_NS = START_NS - 40 * 86_400 * SECOND
GUEST = "guests/one/metadata.json"
SNAPSHOT = "snapshots/one/snapshot.json"
WHOLE = b'{"Image": "busybox"}'


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read torn files again at once: they are mended by the hook of the disk, not by time."""
    monkeypatch.setattr("hmret.actors.reference_collector._TORN_PAUSE", 0)


@pytest.fixture
async def retention(
    filesystem: MemoryFilesystem, platform: Platform, anyio_backend: str
) -> AsyncIterator[Retention]:
    """An engine that sweeps only when asked."""
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        yield retention
        filesystem.before = None


def make_due(filesystem: MemoryFilesystem, letters: str = "a", repository: str = ALPINE) -> Key:
    key = make_image(filesystem, repository, letters, tags=(letters,), created_at=START - timedelta(days=60))
    make_state(filesystem, key, LONG_AGO_NS)
    return key


def journal(filesystem: MemoryFilesystem) -> list[dict[str, object]]:
    return [
        json.loads(line) for line in filesystem.read_file(f"{DATA}/system/hmret/journal.jsonl").splitlines()
    ]


async def sole_suspension(retention: Retention) -> Suspension:
    """Sweep, and return the one cause for which nothing was deleted."""
    report = await retention.sweep()
    assert report.status is hmret.SweepStatus.SUSPENDED
    assert report.deleted_images == 0
    (suspension,) = report.suspended
    return suspension


# References that cannot be read.


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"Image": "alpine", "Res', id="cut off in the middle"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"Image": "\xff"}', id="no UTF-8"),
        pytest.param(b'{"Image": "alpine"} x', id="something behind it"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"Image": 7}', id="Image is a number"),
        pytest.param(b'{"Image": ["alpine"]}', id="Image is a list"),
        pytest.param(b'{"Image": {"name": "alpine"}}', id="Image is an object"),
        pytest.param(b'{"Image": "alpine", "ResolvedImage": true}', id="ResolvedImage is a boolean"),
        pytest.param(b'{"Image": "Alpine"}', id="Image has capitals"),
        pytest.param(b'{"Image": "a b"}', id="Image has a blank"),
        pytest.param(b'{"Image": "' + b"a" * 64 + b'"}', id="Image is a bare digest"),
        pytest.param(b'{"Image": "alpine@sha256:abc"}', id="Image has half a digest"),
        pytest.param(b'{"image": "alpine", "RESOLVEDIMAGE": "../x"}', id="ResolvedImage leads outside"),
    ],
)
@pytest.mark.parametrize("path", [GUEST, SNAPSHOT])
async def test_a_reference_that_makes_no_sense_suspends_deletion_and_names_its_file(
    retention: Retention, filesystem: MemoryFilesystem, path: str, content: bytes
) -> None:
    key = make_due(filesystem)
    if path == SNAPSHOT and content.startswith(b"{") and content.endswith(b"}"):
        content = b'{"stored_metadata": ' + content + b"}"
    filesystem.write_file(f"{DATA}/{path}", content)
    suspension = await sole_suspension(retention)
    assert (suspension.cause, suspension.path) == (Cause.UNREADABLE_REFERENCE, f"{DATA}/{path}")
    assert has_image(filesystem, key)


@pytest.mark.parametrize("path", [GUEST, SNAPSHOT])
async def test_a_folder_in_the_place_of_the_file_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, path: str
) -> None:
    key = make_due(filesystem)
    filesystem.make_folder(f"{DATA}/{path}")
    assert (await sole_suspension(retention)).path == f"{DATA}/{path}"
    assert has_image(filesystem, key)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("call", ["open", "read", "stat", None])
async def test_a_file_that_the_disk_refuses_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, code: int, call: str | None
) -> None:
    key = make_due(filesystem)
    path = make_guest(filesystem, "one", "busybox")
    filesystem.deny(f"{DATA}/{path}", code, call=call)
    assert (await sole_suspension(retention)).path == f"{DATA}/{path}"
    assert has_image(filesystem, key)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
async def test_a_guests_folder_that_cannot_be_entered_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, code: int
) -> None:
    key = make_due(filesystem)
    path = make_guest(filesystem, "one", "busybox")
    filesystem.deny(f"{DATA}/guests/one", code)
    assert (await sole_suspension(retention)).path == f"{DATA}/{path}"
    assert has_image(filesystem, key)


async def test_a_guests_folder_that_is_a_link_to_nowhere_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.make_link(f"{DATA}/guests/one", "/mnt/gone")
    assert (await sole_suspension(retention)).path == f"{DATA}/{GUEST}"
    assert has_image(filesystem, key)


async def test_metadata_that_is_a_link_to_nowhere_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.make_link(f"{DATA}/{GUEST}", "/mnt/gone/metadata.json")
    assert (await sole_suspension(retention)).path == f"{DATA}/{GUEST}"
    assert has_image(filesystem, key)


async def test_a_guests_folder_that_is_a_link_protects_what_is_behind_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.write_file("/mnt/one/metadata.json", b'{"Image": "alpine:a"}')
    filesystem.make_link(f"{DATA}/guests/one", "/mnt/one")
    assert (await retention.sweep()).protected_images == 1
    assert has_image(filesystem, key)


@pytest.mark.parametrize("folder", ["guests", "snapshots"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["open", "scandir"])
async def test_a_folder_of_guests_that_cannot_be_listed_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, folder: str, code: int, call: str
) -> None:
    key = make_due(filesystem)
    filesystem.make_folder(f"{DATA}/{folder}")
    filesystem.deny(f"{DATA}/{folder}", code, call=call)
    suspension = await sole_suspension(retention)
    assert (suspension.cause, suspension.path) == (Cause.UNREADABLE_REFERENCE, f"{DATA}/{folder}")
    assert has_image(filesystem, key)


@pytest.mark.parametrize("folder", ["guests", "snapshots"])
async def test_a_folder_of_guests_that_is_a_link_to_nowhere_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem, folder: str
) -> None:
    key = make_due(filesystem)
    filesystem.make_link(f"{DATA}/{folder}", "/mnt/gone")
    assert (await sole_suspension(retention)).path == f"{DATA}/{folder}"
    assert has_image(filesystem, key)


async def test_a_file_in_the_place_of_the_folder_of_guests_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{DATA}/guests", b"")
    assert (await sole_suspension(retention)).path == f"{DATA}/guests"
    assert has_image(filesystem, key)


async def test_each_unreadable_reference_is_named(retention: Retention, filesystem: MemoryFilesystem) -> None:
    make_due(filesystem)
    for path in (GUEST, SNAPSHOT):
        filesystem.write_file(f"{DATA}/{path}", b"{")
    report = await retention.sweep()
    assert [one.path for one in report.suspended] == [f"{DATA}/{GUEST}", f"{DATA}/{SNAPSHOT}"]


async def test_the_remedy_is_told_with_the_cause(retention: Retention, filesystem: MemoryFilesystem) -> None:
    make_due(filesystem)
    filesystem.write_file(f"{DATA}/{GUEST}", b'{"Image": 7}')
    suspension = await sole_suspension(retention)
    assert suspension.detail == (
        "Image is not a string; repair it, or remove its folder if the guest or snapshot is gone, "
        "or set hmret.unreadable_references: ignore"
    )


class Failing:
    """A source of references of an embedder's that cannot answer."""

    async def references(self) -> tuple[hmret.Reference, ...]:
        raise RuntimeError("the database is down")


@pytest.mark.parametrize("unreadable_references", ["suspend", "ignore"])
async def test_the_remedy_for_an_embedders_source_gives_up_nothing_that_it_protects(
    filesystem: MemoryFilesystem,
    platform: Platform,
    unreadable_references: Literal["suspend", "ignore"],
) -> None:
    key = make_due(filesystem)
    config = make_config(filesystem, unreadable_references=unreadable_references)
    async with open_engine(config, platform, sources=[Failing()], scheduled=False) as retention:
        (suspension,) = (await retention.sweep()).suspended
    assert (suspension.cause, suspension.path) == (hmret.Cause.UNREADABLE_REFERENCE, "Failing")
    assert suspension.detail == (
        "RuntimeError: the database is down; deletion resumes by itself once this source of references answers"
    )
    assert has_image(filesystem, key)


NAMED = b'{"Name": "web-1", "Image": "busybox"}'


@pytest.mark.parametrize(
    ("path", "content"), [(GUEST, NAMED), (SNAPSHOT, b'{"stored_metadata": ' + NAMED + b"}")]
)
async def test_the_vm_whose_reference_turns_unreadable_is_told_by_its_name(
    retention: Retention,
    filesystem: MemoryFilesystem,
    caplog: pytest.LogCaptureFixture,
    path: str,
    content: bytes,
) -> None:
    filesystem.write_file(f"{DATA}/{path}", content)
    assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    filesystem.write_file(f"{DATA}/{path}", b"{")
    with retention.listen() as listener:
        suspension = await sole_suspension(retention)
        # That is known as long as it lasts.
        assert await sole_suspension(retention) == suspension
        listener.end()
        events = [event.facts async for batch in listener for event in batch]
    assert suspension.path == f"{DATA}/{path}"
    assert " (VM web-1); repair it" in suspension.detail
    (fact,) = told(caplog, "deletion_suspended")
    (event,) = [event for event in events if event["event"] == "deletion_suspended"]
    assert fact["detail"] == event["detail"] == suspension.detail


async def test_an_engine_that_finds_a_reference_unreadable_knows_the_vm_from_before_its_start(
    filesystem: MemoryFilesystem, clock: FakeClock, platform: Platform
) -> None:
    filesystem.write_file(f"{DATA}/{GUEST}", NAMED)
    clock.advance(timedelta(seconds=3))
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        await retention.sweep()
    filesystem.deny(f"{DATA}/{GUEST}", errno.EIO)
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        assert "(VM web-1)" in (await sole_suspension(retention)).detail


async def test_an_unreadable_reference_may_be_ignored_and_is_told(
    filesystem: MemoryFilesystem, platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    config = make_config(filesystem, unreadable_references="ignore")
    async with open_engine(config, platform, scheduled=False) as retention:
        report = await retention.sweep()
        await retention.sweep()
    assert (report.status, report.suspended) == (hmret.SweepStatus.SUCCESS, ())
    assert not has_image(filesystem, key)
    assert [one["path"] for one in told(caplog, "reference_ignored")] == [GUEST]


async def test_what_is_readable_protects_also_where_unreadable_references_are_ignored(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    key = make_due(filesystem)
    make_guest(filesystem, "two", "alpine:a")
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    config = make_config(filesystem, unreadable_references="ignore")
    async with open_engine(config, platform, scheduled=False) as retention:
        await retention.sweep()
    assert has_image(filesystem, key)


# What does not suspend.


@pytest.mark.parametrize("missing", ["guests", "snapshots", "guests/one/metadata.json", "nothing at all"])
async def test_what_is_absent_does_not_suspend_deletion(
    retention: Retention, filesystem: MemoryFilesystem, missing: str
) -> None:
    key = make_due(filesystem)
    filesystem.make_folder(f"{DATA}/guests/one")
    filesystem.make_folder(f"{DATA}/snapshots/one")
    if filesystem.exists(f"{DATA}/{missing}"):
        filesystem.remove(f"{DATA}/{missing}")
    report = await retention.sweep()
    assert (report.status, report.suspended) == (hmret.SweepStatus.SUCCESS, ())
    assert not has_image(filesystem, key)


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b'{"Image": null, "ResolvedImage": ""}',
        b'{"Image": "busybox", "CreatedAt": 7}',
        b'{"Image": "busybox", "Volumes": {"Image": 7}, "HypervisorPID": "none"}',
    ],
)
async def test_what_else_is_odd_in_a_guests_metadata_does_not_suspend_deletion(
    retention: Retention, filesystem: MemoryFilesystem, content: bytes
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{DATA}/{GUEST}", content)
    assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    assert not has_image(filesystem, key)


@pytest.mark.parametrize("content", [b"{}", b'{"snapshot": 7}', b'{"stored_metadata": null}'])
async def test_a_snapshot_that_stores_no_metadata_does_not_suspend_deletion(
    retention: Retention, filesystem: MemoryFilesystem, content: bytes
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{DATA}/{SNAPSHOT}", content)
    assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    assert not has_image(filesystem, key)


async def test_a_stale_reference_does_not_suspend_deletion_and_is_counted(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    make_guest(filesystem, "one", "busybox")
    make_guest(filesystem, "two", "busybox")
    make_snapshot(filesystem, "three", f"alpine@{digest('f')}")
    report = await retention.sweep()
    assert (report.status, report.stale_references) == (hmret.SweepStatus.SUCCESS, 2)
    assert not has_image(filesystem, key)


def on_read(filesystem: MemoryFilesystem, path: str, act: Callable[[int], None]) -> None:
    """Act each time this file is opened, before it is; the calls are counted from 1."""
    count = 0

    def before(call: Call) -> None:
        nonlocal count
        if call.name == "open" and call.path == f"{DATA}/{path}":
            count += 1
            act(count)

    filesystem.before = before


@pytest.mark.parametrize("path", [GUEST, SNAPSHOT])
@pytest.mark.parametrize("whole_at", [2, 3, 4])
async def test_a_torn_file_that_becomes_whole_does_not_suspend_deletion(
    retention: Retention, filesystem: MemoryFilesystem, path: str, whole_at: int
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{DATA}/{path}", b'{"Ima')

    def mend(count: int) -> None:
        if count == whole_at:
            filesystem.write_file(f"{DATA}/{path}", WHOLE)

    on_read(filesystem, path, mend)
    report = await retention.sweep()
    assert report.suspended == ()
    assert not has_image(filesystem, key)


async def test_a_torn_file_that_becomes_whole_protects_what_it_names(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{DATA}/{GUEST}", b'{"Ima')

    def mend(count: int) -> None:
        if count == 2:
            filesystem.write_file(f"{DATA}/{GUEST}", b'{"Image": "alpine:a"}')

    on_read(filesystem, GUEST, mend)
    assert (await retention.sweep()).protected_images == 1
    assert has_image(filesystem, key)


async def test_a_file_that_stays_torn_suspends_deletion(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{DATA}/{GUEST}", b'{"Ima')
    counts: list[int] = []
    on_read(filesystem, GUEST, counts.append)
    await sole_suspension(retention)
    assert counts == [1, 2, 3, 4]
    assert has_image(filesystem, key)


async def test_a_guest_that_goes_while_it_is_read_does_not_suspend_deletion(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    make_guest(filesystem, "one", "busybox")

    def remove(count: int) -> None:
        if count == 1:
            filesystem.remove(f"{DATA}/guests/one")

    on_read(filesystem, GUEST, remove)
    assert (await retention.sweep()).suspended == ()
    assert not has_image(filesystem, key)


# Between the plan and the deletion.


def at_the_last_look(filesystem: MemoryFilesystem, act: Callable[[], None]) -> Callable[[], bool]:
    """Act when the folders of guests are listed for the second time, which is under the images' locks.

    Returns what tells whether that has come.
    """
    listed = 0

    def before(call: Call) -> None:
        nonlocal listed
        if call.name == "scandir" and call.path == f"{DATA}/guests":
            listed += 1
            if listed == 2:
                act()

    filesystem.before = before
    return lambda: listed >= 2


async def test_a_reference_that_turns_unreadable_before_the_deletion_suspends_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    make_guest(filesystem, "one", "busybox")
    came = at_the_last_look(filesystem, lambda: filesystem.write_file(f"{DATA}/{GUEST}", b"{"))
    suspension = await sole_suspension(retention)
    assert came()
    assert (suspension.cause, suspension.path) == (Cause.UNREADABLE_REFERENCE, f"{DATA}/{GUEST}")
    assert has_image(filesystem, key)


async def test_a_folder_of_guests_that_turns_unreadable_before_the_deletion_suspends_it(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    make_guest(filesystem, "one", "busybox")
    came = at_the_last_look(filesystem, lambda: filesystem.deny(f"{DATA}/snapshots", errno.EIO, call="open"))
    assert (await sole_suspension(retention)).path == f"{DATA}/snapshots"
    assert came()
    assert has_image(filesystem, key)


async def test_a_guest_that_comes_before_the_deletion_keeps_its_image(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    kept, gone = make_due(filesystem, "a"), make_due(filesystem, "b")
    make_guest(filesystem, "one", "busybox")
    came = at_the_last_look(filesystem, lambda: void(make_guest(filesystem, "two", f"alpine@{digest('a')}")))
    report = await retention.sweep()
    assert came()
    assert report.status is hmret.SweepStatus.SUCCESS
    assert has_image(filesystem, kept)
    assert not has_image(filesystem, gone)


def void(_path: str) -> None:
    """Drop what a builder returns."""


async def test_a_reference_that_turns_unreadable_between_two_batches_stops_the_rest(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    for number in range(40):
        make_due(filesystem, f"{number:04x}", f"{KERNEL}{number:02d}")
    make_guest(filesystem, "one", "busybox")
    listed = 0

    def tear_at_the_second_batch(call: Call) -> None:
        nonlocal listed
        if call.name == "scandir" and call.path == f"{DATA}/guests":
            listed += 1
            if listed == 3:
                filesystem.write_file(f"{DATA}/{GUEST}", b"{")

    filesystem.before = tear_at_the_second_batch
    report = await retention.sweep()
    assert report.status is hmret.SweepStatus.SUSPENDED
    assert report.deleted_images == 32
    assert len([one for one in report.suspended if one.path == f"{DATA}/{GUEST}"]) == 1


# What goes on.


async def test_a_suspended_sweep_marks_clears_and_prunes(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    fresh = make_image(filesystem, ALPINE, "b", tags=())
    needed = make_due(filesystem, "c")
    gone = ALPINE, digest("d")
    make_state(filesystem, gone, LONG_AGO_NS)
    make_guest(filesystem, "two", f"alpine@{digest('c')}")
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    report = await retention.sweep()
    assert report.status is hmret.SweepStatus.SUSPENDED
    assert (report.marked_unused, report.cleared_states, report.pruned_states) == (1, 1, 1)
    assert state_of(filesystem, fresh) is not None
    assert state_of(filesystem, needed) is None
    assert state_of(filesystem, gone) is None


async def test_a_suspended_sweep_keeps_the_timer_of_what_is_due(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    before = state_of(filesystem, key)
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    await sole_suspension(retention)
    assert state_of(filesystem, key) == before


async def test_once_the_cause_is_gone_what_is_due_goes(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    await sole_suspension(retention)
    filesystem.write_file(f"{DATA}/{GUEST}", WHOLE)
    assert (await retention.sweep()).status is hmret.SweepStatus.SUCCESS
    assert not has_image(filesystem, key)


async def test_a_suspended_plan_deletes_nothing_and_says_why(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem)
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    plan = await retention.plan()
    (verdict,) = plan.verdicts
    assert [one.path for one in plan.suspended] == [f"{DATA}/{GUEST}"]
    assert plan.summary.delete == 0
    assert (verdict.action, verdict.reason) == (hmret.Action.NONE, hmret.Reason.SUSPENDED)
    assert (await retention.explain("alpine:a")).blockers == (hmret.Reason.SUSPENDED,)


async def test_an_inspection_is_suspended_as_a_sweep_is(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    make_due(filesystem)
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    async with open_inspection(make_config(filesystem), platform) as inspection:
        assert [one.path for one in (await inspection.plan()).suspended] == [f"{DATA}/{GUEST}"]


# What people are told.


async def test_a_suspension_is_told_once_while_it_lasts_and_when_it_ends(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hmret")
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    for _ in range(3):
        await retention.sweep()
    (suspended,) = told(caplog, "deletion_suspended")
    assert (suspended["cause"], suspended["path"]) == ("unreadable_reference", f"{DATA}/{GUEST}")
    assert told(caplog, "no_longer") == []
    filesystem.write_file(f"{DATA}/{GUEST}", WHOLE)
    for _ in range(2):
        await retention.sweep()
    assert told(caplog, "no_longer") == [
        {"what": "deletion_suspended", "cause": "unreadable_reference", "path": f"{DATA}/{GUEST}"}
    ]
    assert len(told(caplog, "deletion_suspended")) == 1


async def test_a_suspension_whose_fault_changes_is_told_once(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hmret")
    for content in (b"{", b"[]", b'{"Image": 7}'):
        filesystem.write_file(f"{DATA}/{GUEST}", content)
        await retention.sweep()
    assert len(told(caplog, "deletion_suspended")) == 1
    assert told(caplog, "no_longer") == []


async def test_a_suspension_that_comes_back_is_told_again(
    retention: Retention, filesystem: MemoryFilesystem, caplog: pytest.LogCaptureFixture
) -> None:
    for content in (b"{", WHOLE, b"{"):
        filesystem.write_file(f"{DATA}/{GUEST}", content)
        await retention.sweep()
    assert len(told(caplog, "deletion_suspended")) == 2


async def test_a_suspension_stands_in_the_journal_once(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    for _ in range(2):
        await retention.sweep()
    (line,) = (line for line in journal(filesystem) if line["event"] == "deletion_suspended")
    assert (line["cause"], line["path"]) == ("unreadable_reference", f"{DATA}/{GUEST}")
    assert "repair it" in str(line["detail"])


async def test_statistics_show_the_suspended_sweep(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    report = await retention.sweep()
    assert retention.statistics().last_report is report
    assert report.status == "suspended"


# The cache itself.


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["open", "scandir"])
async def test_a_part_of_the_cache_that_cannot_be_listed_suspends_deletion_everywhere(
    retention: Retention, filesystem: MemoryFilesystem, code: int, call: str
) -> None:
    hidden, seen = make_due(filesystem, "a", KERNEL), make_due(filesystem, "b")
    filesystem.deny(f"{DATA}/images/ghcr.io/kernel", code, call=call)
    suspension = await sole_suspension(retention)
    assert suspension.cause is Cause.UNREADABLE_CACHE
    assert suspension.path == f"{DATA}/images/ghcr.io/kernel"
    assert "allow hmret to list it" in suspension.detail
    assert has_image(filesystem, hidden)
    assert has_image(filesystem, seen)


async def test_states_in_a_part_that_cannot_be_listed_are_kept_and_all_others_are_seen_to(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    hidden = make_due(filesystem, "a", KERNEL)
    gone_elsewhere = ALPINE, digest("d")
    make_state(filesystem, gone_elsewhere, LONG_AGO_NS)
    fresh, needed = make_image(filesystem, ALPINE, "b", tags=()), make_due(filesystem, "c")
    make_guest(filesystem, "two", f"alpine@{digest('c')}")
    filesystem.deny(f"{DATA}/images/{KERNEL}", errno.EACCES)
    report = await retention.sweep()
    assert (report.marked_unused, report.cleared_states, report.pruned_states) == (1, 1, 1)
    assert state_of(filesystem, hidden) is not None
    assert state_of(filesystem, fresh) is not None
    assert state_of(filesystem, needed) is None
    assert state_of(filesystem, gone_elsewhere) is None


async def test_a_cache_that_cannot_be_listed_at_all_suspends_deletion_and_prunes_nothing(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.deny(f"{DATA}/images", errno.EACCES, call="scandir")
    suspension = await sole_suspension(retention)
    assert (suspension.cause, suspension.path) == (Cause.UNREADABLE_CACHE, f"{DATA}/images")
    assert state_of(filesystem, key) is not None


async def test_a_cache_that_was_never_seen_is_left_alone_with_all_its_states(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    key = make_due(filesystem)
    filesystem.remove(f"{DATA}/images")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        report = await retention.sweep()
    assert (report.status, report.pruned_states) == (hmret.SweepStatus.SUCCESS, 0)
    assert (report.ready_images, report.deleted_images) == (0, 0)
    assert state_of(filesystem, key) is not None


@pytest.mark.parametrize(
    "folder", ["images", "guests", "snapshots", "system", "system/image-retention", "system/hmret"]
)
async def test_a_folder_that_was_moved_elsewhere_is_found_through_the_link_in_its_place(
    filesystem: MemoryFilesystem, platform: Platform, folder: str
) -> None:
    due, needed = make_due(filesystem, "a"), make_due(filesystem, "b")
    make_guest(filesystem, "one", f"alpine@{digest('b')}")
    make_snapshot(filesystem, "one", "busybox")
    filesystem.make_folder(f"{DATA}/{folder}")
    filesystem.move(f"{DATA}/{folder}", "/bigger")
    filesystem.make_link(f"{DATA}/{folder}", "/bigger")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        report = await retention.sweep()
        assert (await retention.mark_used(f"alpine@{digest('b')}")).digest == needed[1]
    assert (report.status, report.deleted_images, report.cleared_states, report.errors) == (
        hmret.SweepStatus.SUCCESS,
        1,
        1,
        (),
    )
    assert not has_image(filesystem, due)
    assert has_image(filesystem, needed)
    assert filesystem.tree(DATA)[f"{DATA}/{folder}"] == ("link", "/bigger")


async def test_a_cache_behind_a_link_to_nowhere_suspends_deletion_and_costs_no_timer(
    filesystem: MemoryFilesystem, platform: Platform
) -> None:
    key = make_due(filesystem)
    filesystem.move(f"{DATA}/images", "/mnt/images")
    filesystem.make_link(f"{DATA}/images", "/mnt/other")
    async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
        suspension = await sole_suspension(retention)
    assert (suspension.cause, suspension.path) == (Cause.UNREADABLE_CACHE, f"{DATA}/images")
    assert "dangling symbolic link" in suspension.detail
    assert state_of(filesystem, key) is not None


async def test_timers_behind_a_link_to_nowhere_are_not_taken_for_none(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key, folder = make_due(filesystem), "system/image-retention"
    filesystem.move(f"{DATA}/{folder}", "/elsewhere")
    filesystem.make_link(f"{DATA}/{folder}", "/nowhere")
    report = await retention.sweep()
    assert (report.marked_unused, report.deleted_images) == (0, 0)
    assert report.errors
    assert has_image(filesystem, key)
    filesystem.remove(f"{DATA}/{folder}")
    filesystem.move("/elsewhere", f"{DATA}/{folder}")


@pytest.mark.parametrize(
    "link",
    [
        "docker.io",
        "docker.io/library",
        "docker.io/library/alpine",
        "repositories/docker.io",
        "repositories/docker.io/library",
        "repositories/docker.io/library/alpine",
    ],
)
async def test_a_link_that_hides_images_suspends_deletion_and_costs_no_timer(
    retention: Retention, filesystem: MemoryFilesystem, link: str
) -> None:
    hidden = make_due(filesystem)
    filesystem.make_folder(f"{DATA}/images/repositories/{ALPINE}")
    seen = make_due(filesystem, "b", KERNEL)
    filesystem.move(f"{DATA}/images/{link}", "/mnt/moved")
    filesystem.make_link(f"{DATA}/images/{link}", "/mnt/moved")
    before = filesystem.tree("/mnt")
    for _ in range(2):
        suspension = await sole_suspension(retention)
        assert (suspension.cause, suspension.path) == (Cause.UNREADABLE_CACHE, f"{DATA}/images/{link}")
        assert "bind mount" in suspension.detail
    assert state_of(filesystem, hidden) is not None
    assert has_image(filesystem, seen)
    assert filesystem.tree("/mnt") == before
    filesystem.remove(f"{DATA}/images/{link}")
    filesystem.move("/mnt/moved", f"{DATA}/images/{link}")
    assert (await retention.sweep()).deleted_images == 2


@pytest.mark.parametrize("target", ["/mnt/gone", f"/mnt/{'a' * 64}", "a" * 64, "/mnt/file"])
async def test_a_link_that_hides_no_folder_suspends_nothing(
    retention: Retention, filesystem: MemoryFilesystem, target: str
) -> None:
    make_due(filesystem, "b", KERNEL)
    filesystem.make_folder(f"/mnt/{'a' * 64}")
    filesystem.write_file("/mnt/file", b"")
    filesystem.make_link(f"{DATA}/images/docker.io/library/old", target)
    report = await retention.sweep()
    assert (report.status, report.deleted_images) == (hmret.SweepStatus.SUCCESS, 1)


async def test_a_host_behind_a_link_that_leads_nowhere_costs_no_timer(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    key = make_due(filesystem)
    filesystem.move(f"{DATA}/images/docker.io", "/mnt/moved")
    filesystem.make_link(f"{DATA}/images/docker.io", "/mnt/gone")
    assert (await retention.sweep()).pruned_states == 0
    assert state_of(filesystem, key) is not None


async def test_a_part_of_the_cache_that_turns_unlistable_is_known_by_the_next_sweep(
    retention: Retention, filesystem: MemoryFilesystem
) -> None:
    make_due(filesystem, "a", KERNEL)
    filesystem.deny(f"{DATA}/images/{KERNEL}", errno.EIO)
    await sole_suspension(retention)
    filesystem.allow(f"{DATA}/images/{KERNEL}")
    report = await retention.sweep()
    assert (report.status, report.deleted_images) == (hmret.SweepStatus.SUCCESS, 1)


async def test_several_causes_are_all_told(
    retention: Retention, filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    make_snapshot(filesystem, "one", "busybox")
    filesystem.make_folder(f"{DATA}/images/repositories/docker.io")
    await retention.sweep()
    make_due(filesystem, "a", KERNEL)
    for folder in ("snapshots", "images/repositories"):
        filesystem.move(f"{DATA}/{folder}", f"/{folder.replace('/', '-')}")
        filesystem.make_folder(f"{DATA}/{folder}")
    filesystem.write_file(f"{DATA}/{GUEST}", b"{")
    filesystem.deny(f"{DATA}/images/{KERNEL}", errno.EIO)
    clock.wall_ns += 3600 * SECOND
    report = await retention.sweep()
    assert {one.cause for one in report.suspended} == set(Cause) - {Cause.LEASES_BROKEN}


# Whatever the order in which a disk lists.


@pytest.mark.parametrize("seed", range(4))
async def test_one_unreadable_guest_among_many_is_found(
    clock: FakeClock, threads: GatedThreads, seed: int
) -> None:
    rng = random.Random(seed)
    filesystem = MemoryFilesystem(clock.now_ns, order=rng)
    key = make_due(filesystem)
    names = [f"vm-{number}" for number in range(20)]
    for name in names:
        make_guest(filesystem, name, "busybox")
    bad = rng.choice(names)
    filesystem.write_file(f"{DATA}/guests/{bad}/metadata.json", b"{")
    platform = make_surroundings(filesystem, clock, threads)
    with patiently():
        async with open_engine(make_config(filesystem), platform, scheduled=False) as retention:
            assert (await sole_suspension(retention)).path == f"{DATA}/guests/{bad}/metadata.json"
    assert has_image(filesystem, key)
