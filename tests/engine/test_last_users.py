"""Who needed an image last is told when it goes, long after its last guest has gone."""

import errno
import json
import logging
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import attrs
import pytest

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.policy.config import AutoDelete
from hmret.model.references import Key
from support.builders import (
    DATA,
    START,
    FakeClock,
    has_image,
    make_config,
    make_guest,
    make_image,
    told,
)
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
WINDOW = timedelta(hours=2)
RECORD = f"{DATA}/system/hmret/last-users.json"


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="hmret")


@pytest.fixture
def key(filesystem: MemoryFilesystem) -> Key:
    return make_image(filesystem, ALPINE, "a", tags=("3.20",), created_at=START - timedelta(days=60))


def opened(filesystem: MemoryFilesystem, platform: Platform) -> AbstractAsyncContextManager[Retention]:
    auto_delete = AutoDelete(enabled=True, unused_for=WINDOW, allowed=("*",))
    config = attrs.evolve(make_config(filesystem), auto_delete=auto_delete)
    return open_engine(config, platform, scheduled=False)


def start_vm(filesystem: MemoryFilesystem, guest: str = "k3v9", name: str = "web-1") -> str:
    """Make a guest that runs from the image; returns its folder."""
    path = f"{DATA}/{make_guest(filesystem, guest, 'alpine:3.20')}"
    filesystem.write_file(path, json.dumps({"Name": name, "Image": "alpine:3.20"}).encode())
    return path.rpartition("/")[0]


def end_vm(filesystem: MemoryFilesystem, folder: str) -> None:
    filesystem.unlink(f"{folder}/metadata.json")
    filesystem.rmdir(folder)


async def live_on(retention: Retention, clock: FakeClock) -> None:
    """Sweep until the window has passed, and so often that no time goes unwatched."""
    for _ in range(13):
        clock.advance(timedelta(minutes=10))
        await retention.sweep()


def journal(filesystem: MemoryFilesystem, event: str) -> Iterator[dict[str, object]]:
    lines = filesystem.read_file(f"{DATA}/system/hmret/journal.jsonl").splitlines()
    return (entry for line in lines if (entry := json.loads(line))["event"] == event)


async def test_an_image_that_goes_is_told_with_its_tags_and_the_vms_that_needed_it_last(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    key: Key,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = start_vm(filesystem, "a1", "ci-7")
    async with opened(filesystem, platform) as retention:
        await retention.sweep()
        end_vm(filesystem, other)
        folder = start_vm(filesystem)
        await retention.sweep()
        end_vm(filesystem, folder)
        await retention.sweep()
        with retention.listen() as listener:
            await live_on(retention, clock)
            listener.end()
            events = [event.facts async for batch in listener for event in batch]
    assert not has_image(filesystem, key)
    last = {"last_referenced_by": ["instance/k3v9"], "vm_names": {"instance/k3v9": "web-1"}}
    (line,) = told(caplog, "image_deleted")
    (event,) = [event for event in events if event["event"] == "delete"]
    (entry,) = journal(filesystem, "delete")
    (mark,) = journal(filesystem, "mark")
    for facts in (line, event, entry):
        assert facts["tags"] == ["3.20"]
        assert {name: facts[name] for name in last} == last
    assert {name: mark[name] for name in last} == last


async def test_that_is_known_over_a_restart(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    key: Key,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = start_vm(filesystem)
    # As single sweeps do, which are an engine each: the last user goes between two of them.
    for _ in range(2):
        async with opened(filesystem, platform) as retention:
            await retention.sweep()
        if filesystem.exists(folder):
            end_vm(filesystem, folder)
    async with opened(filesystem, platform) as retention:
        await live_on(retention, clock)
    (line,) = told(caplog, "image_deleted")
    assert line["vm_names"] == {"instance/k3v9": "web-1"}


@pytest.mark.parametrize("content", [b"", b"{", b"[{}]", b"[1]", b"[" * 100_000, None])
async def test_an_image_goes_as_well_where_nobody_knows_who_needed_it(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    key: Key,
    caplog: pytest.LogCaptureFixture,
    content: bytes | None,
) -> None:
    async with opened(filesystem, platform) as retention:
        await retention.sweep()
    if content is None:
        filesystem.make_folder(RECORD)
    else:
        filesystem.write_file(RECORD, content)
    async with opened(filesystem, platform) as retention:
        await live_on(retention, clock)
    assert not has_image(filesystem, key)
    (line,) = told(caplog, "image_deleted")
    assert "last_referenced_by" not in line
    assert "vm_names" not in line


async def test_a_record_that_cannot_be_written_stops_nothing_and_is_told(
    platform: Platform,
    filesystem: MemoryFilesystem,
    key: Key,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start_vm(filesystem)
    filesystem.make_folder(RECORD)
    async with opened(filesystem, platform) as retention:
        assert (await retention.sweep()).status == "success"
    assert len(told(caplog, "last_users_not_recorded")) == 1


async def test_users_whose_names_are_no_text_keep_no_other_from_the_record(
    platform: Platform, filesystem: MemoryFilesystem, key: Key
) -> None:
    start_vm(filesystem)
    make_guest(filesystem, "\udcff", "alpine:3.20")
    odd = make_image(filesystem, "docker.io/library/odd", "b", tags=("odd",))
    make_guest(filesystem, "\udcfe", "odd:odd")
    async with opened(filesystem, platform) as retention:
        await retention.sweep()
    (record,) = json.loads(filesystem.read_file(RECORD))
    assert record == {
        "repository": ALPINE,
        "digest": key[1],
        "referenced_by": ["instance/k3v9"],
        "vm_names": {"instance/k3v9": "web-1"},
    }
    assert has_image(filesystem, odd)


async def test_an_image_goes_whose_last_user_has_a_name_that_is_no_text(
    platform: Platform,
    filesystem: MemoryFilesystem,
    clock: FakeClock,
    key: Key,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened(filesystem, platform) as retention:
        folder = start_vm(filesystem, "\udcff")
        await retention.sweep()
        end_vm(filesystem, folder)
        await live_on(retention, clock)
    assert told(caplog, "sweep_failed") == []
    assert not has_image(filesystem, key)
    for event in ("mark", "delete"):
        (entry,) = journal(filesystem, event)
        assert entry["last_referenced_by"] == ["instance/\\udcff"]


async def test_images_that_are_gone_are_forgotten(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, key: Key
) -> None:
    folder = start_vm(filesystem)
    async with opened(filesystem, platform) as retention:
        await retention.sweep()
        end_vm(filesystem, folder)
        await live_on(retention, clock)
    assert not has_image(filesystem, key)
    assert len(json.loads(filesystem.read_file(RECORD))) == 1
    async with opened(filesystem, platform) as retention:
        await retention.sweep()
    assert json.loads(filesystem.read_file(RECORD)) == []


async def test_they_are_forgotten_while_an_engine_runs_too_but_not_while_the_cache_cannot_be_seen(
    platform: Platform, filesystem: MemoryFilesystem, clock: FakeClock, key: Key
) -> None:
    folder = start_vm(filesystem)
    async with opened(filesystem, platform) as retention:
        await retention.sweep()
        filesystem.deny(f"{DATA}/images/docker.io", errno.EACCES)
        for _ in range(4):
            clock.advance(timedelta(minutes=10))
            await retention.sweep()
        assert len(json.loads(filesystem.read_file(RECORD))) == 1
        filesystem.allow(f"{DATA}/images/docker.io")
        end_vm(filesystem, folder)
        for _ in range(2):
            await live_on(retention, clock)
        assert not has_image(filesystem, key)
        assert json.loads(filesystem.read_file(RECORD)) == []
