"""`run`: the engine, until it is told to stop."""

import logging
import signal
from functools import partial

import anyio

from hmret.cli.backend import run_on
from hmret.cli.logs import log_warnings
from hmret.cli.options import DEFAULTS, Common
from hmret.cli.output import write_result
from hmret.disk.settings import Settings
from hmret.engine.log import log_event
from hmret.engine.opening import open_retention

__all__ = ["run"]


def run(*, common: Common = DEFAULTS) -> int:
    """Sweep in the background until SIGTERM or SIGINT."""
    settings = common.settings()
    if not settings.config.active:
        write_result("disabled: nothing to run; set images.auto_delete.enabled, or give --enable")
        return 0
    with common.logging("info"):
        run_on(common.backend, settings.config.data_dir, partial(_run, settings))
    return 0


async def _run(settings: Settings) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with open_retention(settings.config):
            log_event(logging.INFO, "engine_started", data_dir=settings.config.data_dir)
            log_warnings(settings)
            async for number in received:
                log_event(logging.INFO, "engine_stopping", reason=number.name)
                break
    log_event(logging.INFO, "engine_stopped")
