"""The engine as a service: opening, serving, handling signals, and stopping in order."""

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Never

import anyio
import anyio.abc
import anyio.to_thread
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.types import ASGIApp

from hmret.api.app import make_app
from hmret.api.http.control_socket import ControlSocket, bound_socket, listening_socket
from hmret.api.http.guards import GroupGuard, own_names
from hmret.api.http.server import Server
from hmret.cli.display.logs import log_warnings
from hmret.cli.display.tables import put_suspension
from hmret.cli.service.reading import in_time
from hmret.cli.service.systemd import Notifier
from hmret.engine.log import log_event
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.errors import ConfigError, EngineClosedError
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import SweepReport
from hmret.model.values import define
from hmret.settings.in_force import SettingsInForce, loaded_settings
from hmret.settings.load import Settings
from hmret.settings.setting_table import SETTING_SCHEMAS, change_config

# How often the control socket is checked; a check is one `lstat`.
_LOOK_EVERY_SECONDS = 2.0
_REFUSED = "settings refused: "
_FIXED = tuple(setting for setting in SETTING_SCHEMAS if setting.declared.needs_restart)


@define(eq=False)
class Service:
    """One engine that runs until it is stopped."""

    settings: Settings
    load: Callable[[Settings], Settings]
    """Loads the settings again, given those in force."""
    notifier: Notifier = attrs.field(factory=lambda: Notifier.of(os.environ))
    load_seconds: float = 10.0
    """How long a reload waits for the settings to be read."""
    _retention: Retention | None = None
    _refused: str = ""
    """Why the settings that were read last are not in force; empty: they are."""
    _restart_needed: tuple[str, ...] = ()
    """The settings whose new value takes effect after a restart."""

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; SIGHUP reloads the settings.

        Raises:
            ConfigError: a socket cannot be created; nothing was swept.
            DataDirLockedError: another engine holds the data directory.
        """
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as running:
                # A reload requested during another one runs after it; further requests would find nothing
                # newer.
                asked, reloads = anyio.create_memory_object_stream[None](1)
                tasks.start_soon(self._reload_when_asked, reloads)
                await tasks.start(self._obey, running, asked)
                await self._serve(tasks)
            tasks.cancel_scope.cancel()
        log_event(logging.INFO, "engine_stopped")

    async def _serve(self, tasks: anyio.abc.TaskGroup) -> None:
        config = self.settings.config
        async with (
            _serving() as servers,
            open_engine(config, Platform(), scheduled=False) as retention,
        ):
            with ExitStack() as stack:
                control, bound = stack.enter_context(bound_socket(config, os.environ))
                app = make_app(retention, in_force=self._in_force)
                guarded = GroupGuard(app, os.geteuid(), lambda: retention.config.control_socket_group_writes)
                apps: list[tuple[ASGIApp | GroupGuard, socket.socket]] = [(guarded, bound)]
                if config.metrics_listen:
                    names = own_names(config.metrics_listen)
                    listening = stack.enter_context(listening_socket(config.metrics_listen))
                    shown = make_app(retention, read_only=True, host_names=names, in_force=self._in_force)
                    apps.append((shown, listening))
                try:
                    first, *_ = [await servers.start(Server(app, listening)) for app, listening in apps]
                    self._begin(retention, control, tasks)
                    await _keep_bound(control, first)
                finally:
                    self._retention = None
                    # No new clients from here on; waiting ones get their responses as the engine closes.
                    servers.stop()

    def _begin(self, retention: Retention, control: ControlSocket, tasks: anyio.abc.TaskGroup) -> None:
        self._retention = retention
        config = retention.config
        log_event(
            logging.INFO,
            "engine_started",
            data_dir=config.data_dir,
            control_socket=str(control.path),
            metrics_listen=config.metrics_listen or "off",
        )
        _tell_if_off(config)
        log_warnings(self.settings)
        tasks.start_soon(self._tell_status, retention)
        tasks.start_soon(self._feed_watchdog, retention)
        self.notifier.ready(self._status(retention))
        retention.begin_sweeps()

    async def _obey(
        self,
        running: anyio.CancelScope,
        asked: MemoryObjectSendStream[None],
        *,
        task_status: anyio.abc.TaskStatus[None],
    ) -> None:
        """Handle the signals without waiting for anything, so that a stop signal always gets through."""
        signals = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
        async with asked:
            with anyio.open_signal_receiver(*signals) as received:
                task_status.started()
                async for number in received:
                    if number is signal.SIGHUP:
                        with suppress(anyio.WouldBlock):
                            asked.send_nowait(None)
                        continue
                    log_event(logging.INFO, "engine_stopping", reason=number.name)
                    self.notifier.stopping()
                    running.cancel()

    async def _reload_when_asked(self, reloads: MemoryObjectReceiveStream[None]) -> None:
        async with reloads:
            async for _ in reloads:
                await self._reload()

    async def _reload(self) -> None:
        """Reload the settings and apply them; invalid ones are rejected and the old ones stay in force."""
        retention = self._retention
        if retention is None:
            log_event(logging.WARNING, "settings_not_reloaded", detail="the engine is starting or stopping")
            return
        self.notifier.reloading()
        try:
            settings = await self._load_in_time()
            kept = {setting.key: setting.given_in(self.settings.config) for setting in _FIXED}
            fixed = [each.key for each in _FIXED if each.given_in(settings.config) != kept[each.key]]
            applied = retention.reconfigure(change_config(settings.config, kept))
        except ConfigError as error:
            retention.counters.add_refused_settings()
            log_event(logging.ERROR, "settings_refused", detail=str(error))
            self._refused = f"{_REFUSED}{error}"
            self.notifier.ready(self._status(retention))
            return
        self._refused, self._restart_needed = "", tuple(fixed)
        for key in fixed:
            log_event(
                logging.WARNING,
                "setting_not_changed",
                setting=key,
                detail="takes effect only after a restart; the old value stays in force",
            )
        self.settings = attrs.evolve(settings, config=retention.config)
        when = "now" if applied else "restrictions now, everything else after the current sweep"
        log_event(
            logging.INFO,
            "settings_reloaded",
            config_file=", ".join(settings.config_files) or "none",
            applied=when,
        )
        _tell_if_off(retention.config)
        log_warnings(settings)
        self.notifier.ready(self._status(retention))

    def _in_force(self) -> SettingsInForce:
        refused = self._refused.removeprefix(_REFUSED) or None
        return loaded_settings(self.settings, refused=refused, restart_needed=self._restart_needed)

    async def _load_in_time(self) -> Settings:
        """Load the settings again.

        Raises:
            ConfigError: they are invalid, or cannot be read in time.
        """
        try:
            return await in_time(partial(self.load, self.settings), self.load_seconds)
        except TimeoutError:
            raise ConfigError(f"the settings could not be read within {self.load_seconds:g}s") from None
        except RuntimeError as error:
            raise ConfigError(f"the settings could not be read: {error}") from None

    async def _tell_status(self, retention: Retention) -> None:
        """Keep the status line of systemd up to date."""
        with retention.listen() as listener:
            async for batch in listener:
                if any(event.name == "sweep" for event in batch):
                    self.notifier.status(self._status(retention))

    def _status(self, retention: Retention) -> str:
        """Return the status line: settings that were refused are part of it until good ones are read."""
        status = _status_of(retention.statistics().last_report, retention.config)
        return "; ".join(filter(None, (self._refused, status)))

    async def _feed_watchdog(self, retention: Retention) -> None:
        """Send watchdog keep-alives for as long as the engine responds."""
        if self.notifier.watchdog_seconds is None:
            return
        # systemd's watchdog does not watch a service that is stopping.
        with suppress(EngineClosedError):
            while True:
                await retention.wait_answer()
                self.notifier.alive()
                await anyio.sleep(self.notifier.watchdog_seconds / 3)


@define(eq=False)
class _Servers:
    """The running servers; they outlive the engine, so that every client gets a response."""

    _tasks: anyio.abc.TaskGroup
    _servers: list[Server] = attrs.field(factory=list)

    async def start(self, server: Server) -> Server:
        self._servers.append(server)
        await self._tasks.start(_run_shielded, server)
        return server

    def stop(self) -> None:
        for server in self._servers:
            server.stop()


@asynccontextmanager
async def _serving() -> AsyncIterator[_Servers]:
    async with anyio.create_task_group() as tasks:
        servers = _Servers(tasks)
        try:
            yield servers
        finally:
            servers.stop()


async def _keep_bound(control: ControlSocket, server: Server) -> Never:
    """Restore the control socket whenever it is lost; a problem is logged once while it lasts."""
    problem = ""
    while True:
        await anyio.sleep(_LOOK_EVERY_SECONDS)
        try:
            listening = await anyio.to_thread.run_sync(control.bind_again)
        except ConfigError as error:
            if str(error) != problem:
                problem = str(error)
                log_event(logging.WARNING, "control_socket_lost", path=str(control.path), detail=problem)
            continue
        problem = ""
        if listening is not None:
            server.listen_on(listening)
            log_event(logging.WARNING, "control_socket_bound_again", path=str(control.path))


async def _run_shielded(server: Server, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    # Stopping the service stops the engine; the responses in progress get some time after that.
    with anyio.CancelScope(shield=True):
        await server.run(task_status=task_status)


def _tell_if_off(config: RetentionConfig) -> None:
    if not config.active:
        log_event(
            logging.WARNING,
            "retention_disabled",
            detail="nothing is swept or deleted; mark-used, leases, status and metrics are served. Set "
            "hmret.enabled (or images.auto_delete.enabled) to true and reload",
        )


def _status_of(report: SweepReport | None, config: RetentionConfig) -> str:
    if not config.active:
        return "disabled: nothing is swept"
    if report is None:
        return "the first sweep is running"
    words = (
        f"last sweep: {report.status.value}, {report.ready_images} images, {report.deleted_images} deleted"
    )
    for suspension in report.suspended[:1]:
        words = f"deletion is suspended: {put_suspension(suspension)}"
    return words
