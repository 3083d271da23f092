"""Content of very many repositories: it goes as a whole, with few folders and files open at a time, and in the right order."""

from datetime import timedelta

import pytest

from support.builders import DATA, FakeClock, digest
from support.content_trees import (
    Host,
    content_path,
    legacy_link_path,
    legacy_path,
    link_path,
    state_path,
)
from support.memory_filesystem import Call, MemoryFilesystem

D = digest("d")
CONTENT_D = content_path("d")
FEW = 100
"""Descriptors that a deletion may have open: an embedding server may have few to spare."""


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


def owner(number: int) -> str:
    return f"ghcr.io/team/app-{number:03}"


async def test_content_of_two_hundred_repositories_goes_whole_with_few_files_open(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    host.content("d", name=f"{owner(0)}:1")
    for number in range(200):
        host.link(owner(number), "1", "d")
        host.state(owner(number), "d")
        if number % 50 == 0:
            host.legacy(owner(number), "d", linked=True)
            host.legacy_link(owner(number), "1", "d")
    most = 0

    def count(_call: Call) -> None:
        nonlocal most
        most = max(most, len(filesystem.open_descriptors()))

    filesystem.before = count
    swept = await host.sweep()
    filesystem.before = None
    assert len(swept.deleted) == 200
    assert (host.files(), host.trash()) == ({}, [])
    assert most < FEW


@pytest.mark.parametrize("changed", [0, 7, 8, 199])
async def test_the_timer_of_any_of_its_rows_keeps_all_of_it(host: Host, changed: int) -> None:
    """Of the first ones the file is held open, and of the others it is not."""
    host.content("d", name=f"{owner(0)}:1")
    for number in range(200):
        host.link(owner(number), "1", "d")
        host.state(owner(number), "d")
    before = host.files()
    late = host.on(host.place)

    class Source:
        """An embedder's source: asked a second time, right before images are locked."""

        asked = 0

        async def references(self) -> tuple[()]:
            self.asked += 1
            if self.asked == 2:
                late.hypeman.state(owner(changed), "d", timedelta(0))
            return ()

    swept = await host.sweep(sources=[Source()])
    assert swept.deleted == []
    path = state_path(owner(changed), "d")
    after = host.files()
    assert {**after, path: before[path]} == before


async def test_content_goes_before_the_folders_that_others_have_of_its_digest(
    host: Host, filesystem: MemoryFilesystem
) -> None:
    """Its repository comes last by its name, and so many others are due that it would be in a later batch."""
    first, last = "a.io/first", "z.io/last"
    host.content("d", name=f"{last}:1")
    host.link(last, "1", "d")
    host.state(last, "d")
    host.legacy(first, "d")
    host.legacy_link(first, "1", "d")
    host.state(first, "d")
    for number in range(40):
        letters = f"{number:02x}"
        host.legacy(owner(number), letters)
        host.state(owner(number), letters)
    gone: list[str] = []

    def note(call: Call) -> None:
        source = call.path.partition(" -> ")[0].removeprefix(f"{DATA}/")
        if call.name == "rename" and source in (CONTENT_D, legacy_path(first, "d")):
            gone.append(source)

    filesystem.before = note
    swept = await host.sweep()
    filesystem.before = None
    assert len(swept.deleted) == 42
    assert gone == [CONTENT_D, legacy_path(first, "d")]
    # Its tag would have been left to lead to the content.
    assert not any(
        host.exists(path)
        for path in (CONTENT_D, legacy_path(first, "d"), legacy_link_path(first, "1"), link_path(last, "1"))
    )
    assert (host.files(), host.trash()) == ({}, [])
