"""What the last look at a shared image finds that no plan could see: what is told of it, and what becomes of its timers."""

import json
import logging

import pytest

from support.builders import DATA, FakeClock, digest, told
from support.content_trees import Host, content_path, legacy_path, link_path, state_path, without
from support.interruptions import Between, when
from support.memory_filesystem import MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
D = digest("d")
CONTENT_D = content_path("d")
JOURNAL = "system/hmret/journal.jsonl"


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


def make_unit(host: Host) -> None:
    """Make promoted content of two repositories, both due."""
    host.content("d", name=f"{A}:1")
    host.legacy(A, "d", linked=True)
    for repository in (A, B):
        host.link(repository, "1", "d")
        host.state(repository, "d")


def cleared(host: Host) -> list[tuple[str, str]]:
    """List the journal's lines of timers that were cleared, each with its image and reason."""
    content = host.entries()[JOURNAL][1]
    assert isinstance(content, bytes)
    entries = [json.loads(line) for line in content.splitlines()]
    return [(entry["image"], entry["reason"]) for entry in entries if entry["event"] == "clear"]


@pytest.mark.parametrize("folder", [CONTENT_D, legacy_path(A, "d")])
async def test_a_folder_that_holds_more_than_files_keeps_all_of_it_and_clears_each_timer(
    host: Host, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    make_unit(host)
    before = {}

    def come() -> None:
        host.symlink(f"{folder}/latest", "elsewhere")
        before.update(host.files())

    swept = await host.sweep(sources=[Between(come)])
    assert (swept.deleted, swept.report.cleared_states, swept.report.open_images) == ([], 2, 0)
    assert cleared(host) == [(f"{A}@{D}", "broken"), (f"{B}@{D}", "broken")]
    (kept,) = told(caplog, "image_kept")
    assert (kept["reason"], kept["detail"]) == ("broken", f"{folder}/latest: not a regular file")
    assert host.files() == without(before, state_path(A, "d"), state_path(B, "d"))


async def test_a_folder_in_which_something_is_being_made_keeps_all_of_it_and_its_timers_run_on(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """A tag call is no use of an image."""
    caplog.set_level(logging.INFO)
    make_unit(host)
    before = {}

    def come() -> None:
        host.hypeman.write(f"{CONTENT_D}/.install-7/metadata.json", b"{}")
        before.update(host.files())

    swept = await host.sweep(sources=[Between(come)])
    assert (swept.deleted, swept.report.cleared_states) == ([], 0)
    (kept,) = told(caplog, "image_kept")
    assert kept["reason"] == "not_ready"
    assert host.files() == before


async def test_a_pull_that_begins_while_its_metadata_is_hidden_has_the_rest_put_back_and_the_timers_cleared(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    make_unit(host)
    filesystem.mount(f"{DATA}/images")
    before = host.files()

    def pull() -> None:
        host.hypeman.content("d", name=f"{A}:1", status="pending", has_disk=False)

    interruption = when(host, lambda: host.exists(f"{CONTENT_D}/.hmret-hidden"), pull)
    swept = await host.sweep()
    assert interruption.has_happened
    assert (swept.deleted, swept.report.cleared_states, swept.report.errors) == ([], 2, ())
    assert cleared(host) == [(f"{A}@{D}", "not_ready"), (f"{B}@{D}", "not_ready")]
    metadata = f"{CONTENT_D}/metadata.json"
    after = host.files()
    assert '"pending"' in str(after[metadata][1])
    assert without(after, metadata) == without(before, metadata, state_path(A, "d"), state_path(B, "d"))
    assert host.exists(link_path(A, "1"))
