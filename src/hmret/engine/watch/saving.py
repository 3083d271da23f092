"""Writing a record without which the engine goes on as well."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hmret.engine.log import log_event

T = TypeVar("T")


async def try_to_save(save: Callable[[T], Awaitable[None]], record: T, otherwise: str) -> bool:
    """Write a record; returns whether it is written. Where it could not be, the event `otherwise` is logged."""
    try:
        await save(record)
    except OSError as error:
        log_event(logging.WARNING, otherwise, error=error.strerror)
        return False
    return True
