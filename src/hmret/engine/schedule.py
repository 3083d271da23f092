"""When sweeps run: one at the start, one every interval, one for each request; never two at a time."""

import logging
import math

import anyio
import anyio.abc

from hmret.actors.mailbox import CallActor, answer_call
from hmret.engine.log import log_event
from hmret.engine.sweep.entries import Entry, write_entries
from hmret.engine.sweep.sweep import Sweep
from hmret.engine.tasks import sole_error
from hmret.model.errors import DataDirLockedError, DataDirMovedError, HmretError, StopsTimersError
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import SweepError, SweepReport, SweepStatus
from hmret.model.times import SECOND, datetime_of

_LOOK_EVERY_SECONDS = 10.0
"""How often disk usage is checked between sweeps while it is close to the high mark."""

# The engine cannot go on: the files it has open are no longer those that hypeman and the next engine work on.
_FATAL = (DataDirMovedError, DataDirLockedError)


class Schedule(CallActor):
    """The actor that runs sweeps.

    These bypass the mailbox:
        `begin`, `reconfigure` and `stop` are called on the engine's event loop; a running sweep looks by itself at
        what they set; the rest are figures for display.
    """

    def __init__(self, config: RetentionConfig, sweeps: Sweep) -> None:
        super().__init__()
        self._config = config
        self._sweeps = sweeps
        self._looks = sweeps.surveyor.looks
        self._disk = sweeps.surveyor.disk
        self._clock = sweeps.surveyor.clock
        self._counters = sweeps.counters
        self._events = sweeps.events
        self._next_config: RetentionConfig | None = None
        self._changed = anyio.Event()
        self._begins = False
        self._tasks: anyio.abc.TaskGroup | None = None
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._failure: HmretError | None = None
        """Why the engine cannot go on."""
        self._failed = anyio.Event()
        self.is_sweeping = False
        self.reports = 0
        """The number of sweeps that have ended."""
        self.deleted_images = 0
        self.deleted_bytes = 0
        self.failed_deletes = 0
        self.last_report: SweepReport | None = None

    async def run(self) -> None:
        """Sweep on request and, once begun and while enabled, at once and then every interval.

        Raises:
            DataDirMovedError, DataDirLockedError: a sweep has found that the engine must end.
        """
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._mailbox.serve_in_turn, answer_call)
                    self._tasks = tasks
                    if self._begins:
                        tasks.start_soon(self._ask_periodically)
                    await self._failed.wait()
                    tasks.cancel_scope.cancel()
        finally:
            self._ended.set()
        if self._failure is not None:
            raise self._failure

    def begin(self) -> None:
        """Start sweeping without being asked."""
        self._looks.by_engine = True
        if self._tasks is not None and not self._begins:
            self._tasks.start_soon(self._ask_periodically)
        self._begins = True

    @property
    def config(self) -> RetentionConfig:
        """The settings that the next sweep will use."""
        return self._next_config or self._config

    def reconfigure(self, config: RetentionConfig) -> bool:
        """Switch to other settings; returns whether they are fully in force already.

        While a sweep runs, their restrictions apply from its next image on, and everything else from the next
        sweep on.
        """
        self._next_config = config
        if self.is_sweeping:
            self._sweeps.change_settings(config)
        else:
            self._take_config()
        return not self.is_sweeping

    def _take_config(self) -> None:
        if self._next_config is None:
            return
        self._config, self._next_config = self._next_config, None
        self._sweeps.reconfigure(self._config)
        self._changed.set()

    async def stop(self) -> None:
        """Cancel the running sweep, and wait until it is done with its current image."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    async def sweep(
        self, *, releases_brake: bool = False, stops_timers: bool = True, asks_all: bool = True
    ) -> SweepReport:
        """Carry out one sweep, after the current one if there is one.

        Args:
            releases_brake: whether images held by the brake may be deleted.
            stops_timers: whether it may stop every timer if the patterns match no image in the cache.
            asks_all: whether the fleet is asked about everything that it holds back, however recently it asked.

        Raises:
            StopsTimersError: it would stop every timer, and may not.
        """
        return await self._ask(
            self._sweep, releases_brake=releases_brake, stops_timers=stops_timers, asks_all=asks_all
        )

    @property
    def _interval_seconds(self) -> float:
        return self._config.sweep_interval.total_seconds()

    async def _ask_periodically(self) -> None:
        begin = anyio.current_time()
        while True:
            self._changed = anyio.Event()
            due = math.inf
            if self._config.active:
                try:
                    await self.sweep(asks_all=False)
                except _FATAL:
                    return
                interval = self._interval_seconds
                # If a sweep took longer than the interval, the missed ones are not made up for.
                missed = math.floor((anyio.current_time() - begin) / interval) + 1
                begin += missed * interval
                due = begin
            # New settings, and a disk that has become too full, trigger a sweep at once.
            with anyio.CancelScope(deadline=due):
                await self._wait_need()
                begin = anyio.current_time()

    async def _wait_need(self) -> None:
        """Wait until the settings have changed or the disk, which is checked while it is close to its limit, is too full."""
        while not self._changed.is_set():
            pause = _LOOK_EVERY_SECONDS if self._disk.is_near else math.inf
            if not self._config.active:
                # No sweep measures the disk, but metrics show its usage nevertheless.
                pause = self._interval_seconds
            with anyio.move_on_after(pause):
                await self._changed.wait()
                return
            if await self._disk.is_newly_pressed(self._clock.read()):
                return

    async def _sweep(self, *, releases_brake: bool, stops_timers: bool, asks_all: bool) -> SweepReport:
        started_ns = self._clock.now_ns()
        if not self._config.active:
            return SweepReport(
                status=SweepStatus.DISABLED, started_at=datetime_of(started_ns), duration_seconds=0.0
            )
        self.is_sweeping = True
        try:
            report = await self._sweeps.sweep(
                releases_brake=releases_brake, stops_timers=stops_timers, asks_all=asks_all
            )
        except StopsTimersError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: one sweep's failure must not end the engine
            # An unforeseen error is reported, and the next sweep tries again.
            cause = sole_error(error)
            if isinstance(cause, _FATAL):
                log_event(logging.ERROR, "data_dir_lost", detail=str(cause))
                self._failure = cause
                self._failed.set()
                raise cause from None
            detail = f"{type(cause).__name__}: {cause}"
            log_event(logging.ERROR, "sweep_failed", error=detail)
            report = SweepReport(
                status=SweepStatus.ERROR,
                started_at=datetime_of(started_ns),
                duration_seconds=(self._clock.now_ns() - started_ns) / SECOND,
                errors=(SweepError(path="", error=detail),),
            )
        finally:
            self.is_sweeping = False
            self._take_config()
        self._counters.add_sweep(report)
        self.reports += 1
        self.deleted_images += report.deleted_images
        self.deleted_bytes += report.deleted_bytes + report.released_bytes
        self.failed_deletes += report.failed_deletes
        self.last_report = report
        self._tell(report)
        return report

    def _tell(self, report: SweepReport) -> None:
        """Log and publish the end of a sweep; logged at INFO only if it changed something or has errors."""
        facts: dict[str, object] = {
            "status": report.status.value,
            "seconds": round(report.duration_seconds, 3),
            "images": report.ready_images,
            "marked": report.marked_unused,
            "cleared": report.cleared_states,
            "pruned": report.pruned_states,
            "deleted": report.deleted_images,
            "bytes": report.deleted_bytes + report.released_bytes,
            "quarantined": report.quarantined_images,
            "released": report.released_images,
            "errors": len(report.errors),
        }
        happened = any(
            facts[name] for name in ("marked", "cleared", "pruned", "deleted", "released", "errors")
        )
        ended = Entry("sweep", facts=facts, level=logging.INFO if happened else logging.DEBUG)
        self._events.publish(write_entries(self._clock.now_ns(), ended))
