"""Engines that run for long, on hosts where images and guests come and go: what they hold in memory stays the same."""

import gc
import sys
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

import hmret
from hmret.actors import locks
from hmret.actors.locks import Locks
from hmret.engine import events
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.engine.sweep.recent_uses import RecentUses
from support.builders import DATA, digest, loop_clock, make_config, make_guest, running, set_tag
from support.content_trees import Host
from support.inline_threads import InlineThreads
from support.memory_filesystem import MemoryFilesystem

MINUTE = timedelta(minutes=1)
SWEEPS = 1000
SWEEP_EVERY = 5 * MINUTE
SWEEPS_A_TURN = 2
# Records are written, and what texts mean is forgotten, every half hour: looked at every five hours, at the same moment.
BETWEEN_LOOKS = 60
# By then every queue and cache that holds a number of things is full, with so few events kept, and the first records of
# deletions, which are kept for a day, are gone.
WARM = 360
EVENTS_KEPT = 256
LIVES = 4
"""Turns for which a guest runs; its image goes that long after it."""


class Churn:
    """A host on which at each turn a guest comes with an image of its own, and one goes."""

    def __init__(self, filesystem: MemoryFilesystem, host: Host) -> None:
        self._filesystem = filesystem
        self._host = host.hypeman
        self._turns = 0

    async def turn(self, retention: Retention) -> None:
        """Let one guest come and one go, and have a caller ask for something."""
        number = self._turns
        self._turns += 1
        letters, repository = f"{number:08x}", f"ghcr.io/team/app-{number}"
        # An image of each layout in turn.
        if number % 2:
            self._host.content(letters, name=f"{repository}:v{number}", size_bytes=1)
            self._host.link(repository, f"v{number}", letters)
        else:
            self._host.legacy(repository, letters, size_bytes=1)
            set_tag(self._filesystem, repository, f"v{number}", letters)
        image = f"{repository}:v{number}"
        await retention.mark_used(image)
        resolved = f"{repository}@{digest(letters)}" if number % 3 else ""
        make_guest(self._filesystem, f"vm-{number}", image, resolved_image=resolved)
        if number >= LIVES:
            self._filesystem.remove(f"{DATA}/guests/vm-{number - LIVES}")
        match number % 4:
            case 0:
                async with retention.lease(image, reason="create"):
                    pass
            case 1:
                granted = await retention.grant_lease(image, owner="exporter", reason="export", ttl=MINUTE)
                await retention.end_lease(granted.id)
            case 2:
                with retention.listen():
                    await retention.explain(image)
            case _:
                with pytest.raises(hmret.ImageNotFoundError):
                    await retention.mark_used(f"ghcr.io/team/absent-{number}")


def count_objects() -> int:
    """Count the blocks of memory that Python objects take."""
    gc.collect()
    return sys.getallocatedblocks()


def test_in_a_thousand_sweeps_of_a_busy_host_the_engine_holds_no_more_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "_KEPT", EVENTS_KEPT)
    counts: list[int] = []

    async def run() -> None:
        clock = loop_clock()
        filesystem = MemoryFilesystem(clock.now_ns)
        filesystem.make_folder(f"{DATA}/images")
        churn = Churn(filesystem, Host(filesystem, clock))
        platform = Platform(
            filesystem=filesystem, clock=clock, threads=InlineThreads(), monotonic_ns=lambda: 0
        )
        config = make_config(filesystem, unused_for=LIVES * SWEEPS_A_TURN * SWEEP_EVERY)
        async with open_engine(config, platform, scheduled=False) as retention:
            for number in range(1, SWEEPS + 1):
                if number % SWEEPS_A_TURN == 0:
                    await churn.turn(retention)
                await trio.sleep(SWEEP_EVERY.total_seconds())
                report = await retention.sweep()
                assert report.status is hmret.SweepStatus.SUCCESS, report
                if number >= WARM and number % BETWEEN_LOOKS == 0:
                    counts.append(count_objects())
            numbers = retention.statistics()
            assert numbers.deleted_images > SWEEPS // SWEEPS_A_TURN - 4 * LIVES
            assert report.ready_images < 4 * LIVES

    trio.run(run, clock=MockClock(autojump_threshold=0))
    growth = (sum(counts[-3:]) - sum(counts[:3])) / 3
    # One object that stays for each image would be some 240 more, and one for each sweep some 480.
    assert growth < 120, counts


# With retention switched off no sweep takes what has been used.


def test_of_very_many_uses_the_latest_are_known() -> None:
    uses = RecentUses(most=3)
    for name in ("a", "b", "c", "a", "d"):
        uses.add((name, digest("a")))
    assert len(uses) == 3
    assert uses.take() == {(name, digest("a")) for name in ("c", "a", "d")}
    assert uses.take() == frozenset()


async def test_where_more_was_used_than_is_remembered_nothing_is_claimed_before_the_next_sweep(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    monkeypatch.setattr(locks, "_MOST_USED", 2)
    async with running(Locks(lambda _: None)) as actor:
        await actor.begin_sweep()
        for letters in "abc":
            async with actor.using(digest(letters)):
                pass
        async with actor.claiming([digest("a"), digest("f")]) as given:
            assert given.digests == frozenset()
        async with actor.using(digest("e")):
            await actor.begin_sweep()
            async with actor.claiming([digest("a"), digest("e")]) as given:
                assert given.digests == {digest("a")}
