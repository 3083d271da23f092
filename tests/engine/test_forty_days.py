"""Forty days on one host: the right image goes at the right minute."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.references import Key
from support.bounds import IS_WHOLE
from support.builders import (
    DATA,
    FakeClock,
    has_image,
    loop_clock,
    make_config,
    make_guest,
    make_image,
    make_state,
    state_of,
)
from support.inline_threads import InlineThreads
from support.memory_filesystem import MemoryFilesystem

WINDOW = timedelta(days=30)
LENGTH = timedelta(days=40)
MINUTE = timedelta(minutes=1)

Event = tuple[timedelta, Callable[[], Awaitable[object] | None]]


class Host:
    """A host with images that live differently, and the minutes at which they went."""

    def __init__(self, filesystem: MemoryFilesystem, clock: FakeClock) -> None:
        self.filesystem = filesystem
        self.clock = clock
        self.begin_ns = clock.now_ns()
        self.idle = self.image("idle", "a")
        self.old = self.image("old", "b")
        self.just_short = self.image("just-short", "c")
        self.served = self.image("served", "d")
        self.saved = self.image("saved", "e")
        self.kept = self.image("kept", "f")
        self.guest = make_guest(filesystem, "vm-1", "ghcr.io/kernel/served")
        make_guest(filesystem, "vm-2", "ghcr.io/kernel/kept")
        make_state(filesystem, self.old, self.before(WINDOW - timedelta(days=3, minutes=30)))
        make_state(filesystem, self.just_short, self.before(WINDOW - timedelta(days=3, minutes=30)) + 1)

    def image(self, name: str, letters: str) -> Key:
        return make_image(self.filesystem, f"ghcr.io/kernel/{name}", letters)

    def before(self, duration: timedelta) -> int:
        return self.begin_ns - round(duration.total_seconds()) * 10**9

    def remove_guest(self) -> None:
        self.filesystem.remove(f"{DATA}/guests/vm-1")


async def live(interval: timedelta, host: Host, platform: Platform) -> dict[str, timedelta]:
    """Let forty days pass; returns when after the begin each repository's image was deleted."""
    gone: dict[str, timedelta] = {}
    begin = host.clock.now()

    def note(retention: Retention) -> None:
        report = retention.statistics().last_report
        assert report is not None
        assert report.status is hmret.SweepStatus.SUCCESS, report
        for image in report.deleted:
            gone[image.repository.removeprefix("ghcr.io/kernel/")] = report.started_at - begin

    config = make_config(host.filesystem, unused_for=WINDOW, sweep_interval=interval)
    async with open_engine(config, platform, scheduled=True) as retention:
        events: list[Event] = [
            (timedelta(days=2, minutes=30, seconds=30), host.remove_guest),
            (timedelta(days=20, seconds=30), lambda: retention.mark_used("ghcr.io/kernel/saved")),
        ]
        seconds = interval.total_seconds()
        elapsed = 0.0
        sweeps = 0
        while elapsed < LENGTH.total_seconds():
            await trio.sleep(seconds / 4)  # after the sweep at the begin of this interval
            sweeps += 1
            assert retention.statistics().sweeps == sweeps
            note(retention)
            while events and events[0][0].total_seconds() < elapsed + seconds:
                outcome = events.pop(0)[1]()
                if outcome is not None:
                    await outcome
            elapsed += seconds
            await trio.sleep(seconds * 3 / 4)
        assert retention.statistics().deleted_images == len(gone)
    return gone


@pytest.mark.parametrize("interval", [30 * MINUTE] + [10 * MINUTE, 5 * MINUTE] * IS_WHOLE)
def test_in_forty_days_the_right_image_goes_at_the_right_minute(interval: timedelta) -> None:
    async def run() -> None:
        clock = loop_clock()
        filesystem = MemoryFilesystem(clock.now_ns)
        host = Host(filesystem, clock)
        platform = Platform(
            filesystem=filesystem, clock=clock, threads=InlineThreads(), monotonic_ns=lambda: 0
        )
        gone = await live(interval, host, platform)
        # A guest that goes in the midst of an interval is missed at the next sweep, and the timer starts there.
        unserved_at = timedelta(days=2, minutes=30) + interval
        assert gone == {
            "old": timedelta(days=3, minutes=30),
            "just-short": timedelta(days=3, minutes=30) + interval,
            "idle": WINDOW,
            "served": unserved_at + WINDOW,
        }
        assert has_image(filesystem, host.saved)
        assert state_of(filesystem, host.saved) is not None
        assert has_image(filesystem, host.kept)
        assert state_of(filesystem, host.kept) is None
        assert filesystem.open_descriptors() == {}

    trio.run(run, clock=MockClock(autojump_threshold=0))
