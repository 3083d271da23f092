"""Tags that come back by a power loss, after all else of a deletion is on the disk, as they can on btrfs."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from support.builders import FakeClock
from support.content_trees import FRESH, TRASH, Host, content_path, legacy_link_path, link_path

pytestmark = pytest.mark.anyio

ALPINE = "docker.io/library/alpine"
EDGE = "docker.io/library/edge"
DAY = timedelta(days=1)


class PowerLoss:
    """Brings tags back, the very links that they were."""

    def __init__(self, host: Host, *tags: str) -> None:
        assert isinstance(host.place, Path)
        self._root, self._tags, self._clock = host.place, tags, host.clock
        for number, tag in enumerate(tags):
            os.link(self._root / tag, self._root / f"kept-{number}", follow_symlinks=False)

    def strike(self) -> None:
        for number, tag in enumerate(self._tags):
            assert not os.path.lexists(self._root / tag)
            (self._root / tag).parent.mkdir(parents=True, exist_ok=True)
            (self._root / f"kept-{number}").rename(self._root / tag)
        self._clock.boot_id = "after-the-power-loss"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host on which one image is due in each layout."""
    host = Host(tmp_path, FakeClock())
    host.content("a")
    host.link(ALPINE, "3.20", "a")
    host.legacy(EDGE, "b")
    host.legacy_link(EDGE, "edge", "b")
    host.state(ALPINE, "a")
    host.state(EDGE, "b")
    return host


TAGS = (link_path(ALPINE, "3.20"), legacy_link_path(EDGE, "edge"))


async def test_a_tag_that_comes_back_after_its_image_was_erased_goes_at_the_next_start(host: Host) -> None:
    loss = PowerLoss(host, *TAGS)
    assert len((await host.sweep()).deleted) == 2
    loss.strike()
    await host.recover()
    assert not any(host.exists(tag) for tag in TAGS)
    assert host.trash() == []


async def test_a_tag_that_comes_back_while_its_image_is_in_quarantine_goes_and_is_there_after_a_restore(
    host: Host,
) -> None:
    loss = PowerLoss(host, *TAGS)
    assert len((await host.sweep(quarantine=DAY)).deleted) == 2
    loss.strike()
    async with host.opened(quarantine=DAY) as retention:
        assert not any(host.exists(tag) for tag in TAGS)
        assert len(retention.quarantined()) == 2
        await retention.restore("alpine:3.20")
        await retention.restore("edge:edge")
    assert all(host.exists(tag) for tag in TAGS)
    assert host.exists(content_path("a"))


async def test_a_tag_that_leads_to_an_image_that_was_pulled_again_stays(host: Host) -> None:
    loss = PowerLoss(host, *TAGS)
    await host.sweep()
    loss.strike()
    host.hypeman.content("a")
    host.hypeman.legacy(EDGE, "b")
    await host.recover()
    assert all(host.exists(tag) for tag in TAGS)


async def test_a_tag_that_was_set_again_after_the_deletion_is_not_taken_for_the_one_that_went(
    host: Host,
) -> None:
    PowerLoss(host, TAGS[0])  # keeps its inode, so that the new one has another
    await host.sweep()
    host.hypeman.link(ALPINE, "3.20", "a")
    host.clock.boot_id = "after-a-reboot"
    await host.recover()
    assert host.exists(TAGS[0])


async def test_a_record_that_is_left_under_two_names_is_gone_through_once(host: Host) -> None:
    assert isinstance(host.place, Path)
    await host.sweep()
    [done] = (host.place / "system/hmret/deleted").iterdir()
    (host.place / TRASH / done.name).hardlink_to(done)
    await host.recover()
    assert host.trash() == []
    assert done.exists()


async def test_no_deletion_is_looked_at_again_while_the_host_runs_on(host: Host) -> None:
    loss = PowerLoss(host, *TAGS)
    await host.sweep()
    boot_id = host.clock.boot_id
    loss.strike()
    host.clock.boot_id = boot_id
    await host.recover()
    assert all(host.exists(tag) for tag in TAGS)


async def test_a_timer_of_an_image_that_came_after_the_deletion_stays(host: Host) -> None:
    loss = PowerLoss(host, *TAGS)
    await host.sweep()
    loss.strike()
    host.hypeman.content("a")
    host.state(ALPINE, "a", FRESH)
    since = host.unused_since(ALPINE, "a")
    await host.recover()
    assert host.unused_since(ALPINE, "a") == since
