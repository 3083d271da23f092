"""The story of the demonstration: some forty days of a host, in chronological order.

It never sleeps in the hope that something has happened by then: it lets the clock run up to a moment, or
until the engine has done something.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import attrs

from hmret.cli.demo.chronicle import Chronicle, short
from hmret.cli.demo.clock import DAY, DemoClock
from hmret.cli.demo.host import Host
from hmret.cli.demo.image_store import StoredImage
from hmret.cli.display.tables import format_size
from hmret.engine.retention import Retention
from hmret.model.plan.plan import Plan
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule
from hmret.model.references import Key
from hmret.model.values import define
from hmret.model.verdicts import Reason

ALLOWED = ("docker.io/library/*", "ghcr.io/kernel/*", "registry.local:5000/*")
PINNED = ("ghcr.io/kernel/golden",)
DAYS = 44
"""Maximum length of the story, in days."""

_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 240.0

_AGENT = "ghcr.io/kernel/agent:latest"
_ALPINE = "docker.io/library/alpine:3.19"
_ARCHIVE = "ghcr.io/kernel/archive:v1"
_BASE = "ghcr.io/kernel/base:2025.12"
_BROWSER = "ghcr.io/kernel/browser:latest"
_BUILD = "registry.local:5000/ci/build"
_DEBIAN = "docker.io/library/debian:13"
_MIRROR = "registry.local:5000/mirror/node:22"
_NODE = "docker.io/library/node:22"
_RELEASE = "ghcr.io/kernel/release:1"
_RUNNER = "ghcr.io/kernel/runner:stable"
_TOOLBOX = "ghcr.io/kernel/toolbox:v2"
_WORKER = "ghcr.io/kernel/worker:latest"


class StoryError(Exception):
    """The engine did not do what the story waits for."""


@define(eq=False)
class Story:
    """Drives the host, and checks how the engine responds."""

    host: Host
    clock: DemoClock
    retention: Retention
    chronicle: Chronicle
    has_leases: bool
    """Whether the file system can reveal that a disk is open; if not, that chapter is skipped."""
    fates: dict[Key, Reason] = attrs.field(factory=dict, init=False)
    """The expected fate of each image: `expired` if it is deleted, else why it is kept."""
    patience_seconds: float = _PATIENCE_SECONDS

    async def tell(self) -> Plan:
        """Run the whole story; returns the last plan, made while the last leases and files are held.

        Raises:
            StoryError: the engine did not do what it should.
            BrokenPipeError: the reader of the output is gone.
        """
        async with AsyncExitStack() as until_the_end:
            await self._fill_cache()
            await self._begin_of_use()
            old_browser = await self._tags_move()
            await self._long_work(until_the_end)
            await self._windows_end()
            await self._torn_metadata()
            await self._until_gone(old_browser, by=40 * DAY)
            self._say("what browser:latest was before day 7 goes: no VM runs from it")
            await self._rules_and_quarantine()
            await self._pressure()
            await self.retention.sweep()
            await self._look()
            return await self.retention.plan()

    async def _fill_cache(self) -> None:
        """Day 0: the initial content of the cache."""
        await asyncio.gather(
            self._pull(_ALPINE, Reason.EXPIRED, disk_kib=320),
            self._pull("docker.io/library/alpine:3.20", Reason.REFERENCED, disk_kib=320),
            self._pull("docker.io/library/debian:12", Reason.REFERENCED, disk_kib=512),
            self._pull(_DEBIAN, Reason.RETENTION_WINDOW, disk_kib=512),
            self._pull(_AGENT, Reason.REFERENCED),
            self._pull(_BROWSER, Reason.EXPIRED, disk_kib=1024),
            self._pull(_RUNNER, Reason.RETENTION_WINDOW),
            self._pull(_ARCHIVE, Reason.LEASED),
            self._pull("ghcr.io/kernel/golden:2026.1", Reason.PINNED),
            self._pull("quay.io/vendor/appliance:7", Reason.NOT_ALLOWED),
            self._pull(f"{_BUILD}:101", Reason.EXPIRED),
            self._pull(_WORKER, Reason.REFERENCED),
            self._pull(_NODE, Reason.EXPIRED, disk_kib=512),
            self._pull(_BASE, Reason.EXPIRED, is_older_server=True),
        )
        await self.host.tag(_NODE, _MIRROR)
        if self.has_leases:
            await self._pull(_TOOLBOX, Reason.OPEN)
        for reference in (f"{_BUILD}:101", _DEBIAN, _NODE, _BASE):
            await self._until_unused(self.host.tags[reference], by=DAY / 4)
        pulled = self.host.images
        size = format_size(sum(image.disk_bytes for image in pulled.values()))
        self._say(f"{len(pulled)} images are pulled, {size}; what no VM uses has a timer of 30 days")

    async def _begin_of_use(self) -> None:
        """Days 1 to 6: VMs start; one goes, another leaves a snapshot. Two repositories share a disk."""
        await self._reach(1)
        await self.host.start_vm("vm-1", _ALPINE)
        await self.host.start_vm("vm-2", "alpine:3.20")
        await self.host.start_vm("vm-7", _MIRROR)
        await self._reach(2)
        await self.host.start_vm("vm-3", "debian:12")
        await self.host.start_vm("vm-4", _AGENT, resolves=False)
        await self.host.start_vm("vm-5", _BROWSER)
        await self.host.start_vm("vm-8", _WORKER)
        await self._pull(f"{_BUILD}:102", Reason.EXPIRED)
        self.fates[(await self.host.tag(_BASE, _RELEASE)).key] = Reason.EXPIRED
        for reference in (f"{_BUILD}:102", _RELEASE):
            await self._until_unused(self.host.tags[reference], by=2.9 * DAY)
        await self._reach(3)
        # If one sweep has started both timers, this makes release:1 expire after base:2025.12.
        await self.host.mark_used(_RELEASE)
        await self._until_unused(self.host.tags[_RELEASE], by=3.4 * DAY)
        await self._pull(_AGENT, Reason.REFERENCED)
        await self.host.delete_vm("vm-1")
        await self._until_unused(self.host.tags[_ALPINE], by=3.9 * DAY)
        self._say("vm-1 is deleted: the timer of alpine:3.19 starts")
        await self._reach(4)
        await self.host.save_snapshot("snap-1", "vm-3")
        await self._reach(6)
        await self.host.delete_vm("vm-3")
        self._say("vm-3 is deleted, its snapshot is not: no timer for debian:12")
        await self._pull(f"{_BUILD}:103", Reason.EXPIRED)
        await self._until_unused(self.host.tags[f"{_BUILD}:103"], by=6.9 * DAY)

    async def _tags_move(self) -> Key:
        """Days 7 to 10: `latest` moves twice. Returns the former image that is unused; the other is still in use."""
        old = self.host.tags[_BROWSER]
        await self._reach(7)
        await self._pull(_BROWSER, Reason.REFERENCED, disk_kib=1024)
        await self._pull(_WORKER, Reason.REFERENCED)
        self._say("worker:latest moves on; vm-8 still runs from what it was")
        await self._reach(8)
        await self.host.delete_vm("vm-5")
        await self._until_unused(old, by=8.9 * DAY)
        await self._reach(9)
        await self.host.delete_vm("vm-7")
        await self._until_unused(self.host.tags[_MIRROR], by=9.9 * DAY)
        await self._reach(10)
        await self.host.start_vm("vm-6", _BROWSER)
        await self.host.start_vm("vm-9", _WORKER)
        return old

    async def _long_work(self, until_the_end: AsyncExitStack) -> None:
        """Days 12 to 27: a long backup and a long export, and short jobs that come and go."""
        await self._reach(12)
        if self.has_leases:
            toolbox = self.host.images[self.host.tags[_TOOLBOX]]
            await until_the_end.enter_async_context(self.host.backing_up(toolbox))
            self._say("a backup opens the disk of toolbox:v2, without announcing it")
        await self._reach(13)
        await until_the_end.enter_async_context(self.host.exporting(_ARCHIVE))
        self._say("an export of archive:v1 begins, under a lease")
        for number, day in enumerate((14, 18, 22, 26), start=1):
            await self._reach(day)
            await self.host.start_vm(f"job-{number}", _RUNNER)
            await self._reach(day + 1)
            await self.host.delete_vm(f"job-{number}")
            await self._until_unused(self.host.tags[_RUNNER], by=(day + 1.9) * DAY)
        self._say("the fourth short job on runner:stable ends; each restarts its timer")

    async def _windows_end(self) -> None:
        """Days 29 to 34: one image is marked used half a day before it expires, others go, one is found open.

        Two that expire share their disk with another repository: one is kept until it is deleted there, the
        other until it has expired there as well.
        """
        await self._reach_moment(self._due_at(_DEBIAN) - DAY / 2)
        # By any name that a caller may use.
        await self.host.mark_used("debian:13")
        self._say("debian:13 is marked used, half a day before it was due")
        await self._reach_moment(max(self._due_at(_NODE), self._due_at(_BASE)) + DAY / 100)
        for reference in (_NODE, _BASE):
            await self._until_shared(self.host.tags[reference], by=self.clock.elapsed)
        self._say("node:22 is due and stays: mirror/node:22 is the same disk")
        await self.host.delete_image(_MIRROR)
        await self._until_gone(self.host.tags[_NODE], by=34 * DAY)
        self._say("mirror/node:22 is deleted by hand, and node:22 goes")
        await self._until_gone(self.host.tags[f"{_BUILD}:101"], by=34 * DAY)
        if self.has_leases:
            toolbox = self.host.tags[_TOOLBOX]
            await self._until(
                "the open disk to be found", lambda: toolbox in self.chronicle.found_open, by=34 * DAY
            )
            self._say("toolbox:v2 is due and stays: a process has its disk open")
        await self._until_gone(self.host.tags[f"{_BUILD}:102"], by=34 * DAY)
        for reference in (_BASE, _RELEASE):
            await self._until_gone(self.host.tags[reference], by=34 * DAY)
        await self._until_gone(self.host.tags[_ALPINE], by=34 * DAY)
        gone = len(self.chronicle.deleted)
        self._say(f"alpine:3.19 goes, like {gone - 1} others whose 30 days are over")

    async def _torn_metadata(self) -> None:
        """Days 35 to 37: while a reference cannot be read nothing is deleted, however long overdue."""
        await self._reach(35)
        await self.host.tear_metadata("vm-2")
        key = self.host.tags[f"{_BUILD}:103"]
        self._say("the host dies while it writes what vm-2 is: the file is torn")
        await self._until(
            "103 to be due and held back",
            lambda: bool(self.chronicle.suspended) and self.chronicle.reason(key) is Reason.SUSPENDED,
            by=37.5 * DAY,
        )
        self._say("build:103 is due and stays: vm-2 might need it, so nothing goes")
        await self.host.repair_metadata("vm-2")
        await self._until_gone(key, by=38 * DAY)
        self._say("the file is repaired, and build:103 goes")

    async def _rules_and_quarantine(self) -> None:
        """Days 40 to 42: a rule deletes CI builds after a day; what is deleted can be restored for three."""
        await self._reach(40)
        rule = Rule(match=(_BUILD,), unused_for=DAY)
        self.retention.reconfigure(attrs.evolve(self.retention.config, rules=(rule,), quarantine=3 * DAY))
        self._say("new settings: CI's builds go after a day, and into quarantine for 3")
        reference = f"{_BUILD}:104"
        key = (await self._pull(reference, Reason.RETENTION_WINDOW)).key
        # Its timer must start a day before the time at which the clock stops, however late the next sweep
        # comes, and must be seen within that day.
        await self._until_unused(key, by=40.9 * DAY)
        await self._until_gone(key, by=42.5 * DAY)
        self._say(f"{short(reference)} goes by that rule, into quarantine")
        self.retention.reconfigure(attrs.evolve(self.retention.config, rules=()))
        await self.retention.restore(reference)
        self._say(f"hmret restore {short(reference)} brings it back, with its tag")

    async def _pressure(self) -> None:
        """Day 43: the cache gets a lower size limit, and the image unused for longest goes before it expires."""
        await self._reach(43)
        here = {
            image.disk: image.disk_bytes
            for key, image in self.host.images.items()
            if key not in self.chronicle.deleted
        }
        limit = DiskLimits(max_used=sum(here.values()) - 1)
        self.fates[self.host.tags[_RUNNER]] = Reason.DISK_PRESSURE
        self.retention.reconfigure(attrs.evolve(self.retention.config, disk=limit))
        await self._until_gone(self.host.tags[_RUNNER], by=DAYS * DAY)
        self._say("a limit for the cache: runner:stable goes early, unused for longest")

    async def _pull(
        self, reference: str, fate: Reason, *, disk_kib: int = 256, is_older_server: bool = False
    ) -> StoredImage:
        image = await self.host.pull(reference, disk_kib=disk_kib, is_older_server=is_older_server)
        self.fates[image.key] = fate
        return image

    def _say(self, text: str) -> None:
        self.chronicle.say(text)

    def _due_at(self, reference: str) -> timedelta:
        """Return when an image expires, by its current timer.

        Raises:
            StoryError: it has none.
        """
        verdict = self.chronicle.verdicts[self.host.tags[reference]]
        if verdict.expires_at_ns is None:
            raise StoryError(f"{reference} has no timer on its last day")
        return self.clock.moment_of(verdict.expires_at_ns)

    async def _reach(self, day: float) -> None:
        await self._reach_moment(day * DAY)

    async def _reach_moment(self, moment: timedelta) -> None:
        """Let the clock run to a moment; it stops there while the host acts."""
        self.clock.run_to(moment)
        while self.clock.elapsed < moment:
            await self._look()
            await asyncio.sleep(min(self.clock.real_seconds_to(moment), _LOOK_SECONDS))

    async def _until(self, what: str, happened: Callable[[], bool], *, by: timedelta) -> None:
        """Wait for a condition while the clock runs, up to `by` at most.

        Raises:
            StoryError: it did not become true.
        """
        self.clock.run_to(by)
        try:
            async with asyncio.timeout(self.patience_seconds):
                await self._look()
                while not happened():
                    await asyncio.sleep(_LOOK_SECONDS / 2)
                    await self._look()
        except TimeoutError:
            raise StoryError(f"waited {self.patience_seconds:.0f} s in vain for {what}") from None
        self.clock.run_to(self.clock.elapsed)

    async def _until_gone(self, key: Key, *, by: timedelta) -> None:
        name = self.chronicle.names[key]
        await self._until(f"{name} to go", lambda: key in self.chronicle.deleted, by=by)

    async def _until_shared(self, key: Key, *, by: timedelta) -> None:
        name = self.chronicle.names[key]
        await self._until(
            f"{name} to be due and shared", lambda: self.chronicle.reason(key) is Reason.SHARED, by=by
        )

    async def _until_unused(self, key: Key, *, by: timedelta) -> None:
        name = self.chronicle.names[key]
        await self._until(f"the timer of {name}", lambda: self.chronicle.unused_since(key) is not None, by=by)

    async def _look(self) -> None:
        if self.chronicle.is_unheard:
            raise BrokenPipeError
        self.chronicle.add_plan(await self.retention.plan())
