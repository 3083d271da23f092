"""A guest that is first seen while part of the cache cannot be: what it may run from is judged once all of it can be."""

import errno
from collections.abc import Callable
from datetime import timedelta

import attrs
import pytest

import hmret
from hmret import Cause
from support.builders import DATA, FakeClock
from support.content_trees import Host, content_path
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
APP = "ghcr.io/acme/app"
DAY = timedelta(days=1)
CONTENT = f"{DATA}/images/content"
TAGS = f"{DATA}/images/repositories/docker.io"


@attrs.define(eq=False)
class Tree:
    """Two images of a repository, whose tag was moved from the first to the second a day ago."""

    host: Host
    filesystem: MemoryFilesystem

    def image(self, letters: str, name: str) -> None:
        attrs.evolve(self.host, age=200 * DAY).content(letters, name=f"{name}:pulled")
        self.host.state(ALPINE, letters, DAY)

    async def sweep(self) -> hmret.SweepReport:
        return (await self.host.sweep()).report

    async def sweep_when_due(self) -> str:
        """Sweep with both timers run out; returns which images are left."""
        for letters in ("a", "b"):
            self.host.state(ALPINE, letters)
        assert (await self.sweep()).status is hmret.SweepStatus.SUCCESS
        return "".join(letters for letters in "ab" if self.host.exists(content_path(letters)))


def lock_tags(tree: Tree) -> Callable[[], None]:
    """Hide all tags of today's layout, one of which alone says whose the first image is."""
    tree.filesystem.deny(TAGS, errno.EACCES)
    return lambda: tree.filesystem.allow(TAGS)


def lock_content(tree: Tree) -> Callable[[], None]:
    tree.filesystem.deny(CONTENT, errno.EIO)
    return lambda: tree.filesystem.allow(CONTENT)


def unmount_content(tree: Tree) -> Callable[[], None]:
    """Put the folder below the mount point in the place of the volume with all content."""
    tree.filesystem.move(CONTENT, "/away")
    tree.filesystem.make_folder(CONTENT)

    def mount() -> None:
        tree.filesystem.remove(CONTENT)
        tree.filesystem.move("/away", CONTENT)

    return mount


WAYS = pytest.mark.parametrize(
    ("hide", "cause"),
    [
        (lock_tags, Cause.UNREADABLE_CACHE),
        (lock_content, Cause.UNREADABLE_CACHE),
        (unmount_content, Cause.LOST_IMAGES),
    ],
)


@pytest.fixture
async def tree(
    filesystem: MemoryFilesystem, clock: FakeClock, hide: Callable[[Tree], Callable[[], None]]
) -> Tree:
    tree = Tree(attrs.evolve(Host(filesystem, clock), age=DAY), filesystem)
    name = APP if hide is lock_tags else ALPINE
    tree.image("a", name)
    tree.image("b", name)
    tree.host.link(ALPINE, "old", "a")
    (tree.host.legacy_link if hide is lock_tags else tree.host.link)(ALPINE, "latest", "b")
    if hide is unmount_content:
        filesystem.mount(CONTENT)
    assert (await tree.sweep()).status is hmret.SweepStatus.SUCCESS
    return tree


@WAYS
async def test_a_guest_that_was_first_seen_while_part_of_the_cache_was_hidden_keeps_what_it_may_run_from(
    tree: Tree, hide: Callable[[Tree], Callable[[], None]], cause: Cause
) -> None:
    show = hide(tree)
    tree.host.guest("alpine", created_at=tree.host.clock.now() - 30 * DAY)
    assert {one.cause for one in (await tree.sweep()).suspended} == {cause}
    show()
    assert await tree.sweep_when_due() == "ab"


@WAYS
async def test_a_guest_that_came_after_its_tag_had_moved_keeps_only_what_that_leads_to(
    tree: Tree, hide: Callable[[Tree], Callable[[], None]], cause: Cause
) -> None:
    show = hide(tree)
    tree.host.guest("alpine", created_at=tree.host.clock.now() - timedelta(hours=1))
    assert {one.cause for one in (await tree.sweep()).suspended} == {cause}
    show()
    assert await tree.sweep_when_due() == "b"
