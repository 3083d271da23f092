"""Whether an engine is part of a fleet; where it is in none, nothing of a fleet is imported."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from hmret.engine.events import EventHub
from hmret.engine.platform import Platform
from hmret.model.errors import ConfigError
from hmret.model.fleet import FleetLink
from hmret.model.policy.config import RetentionConfig

OpenFleet = Callable[[RetentionConfig, Platform, int, EventHub], AbstractAsyncContextManager[FleetLink]]
"""Opens the fleet that an engine is part of, as a member for the duration of a block.

Called with the settings, the platform of the engine, the data directory, open, and where what happens is published.
"""
OpenReader = Callable[[RetentionConfig, Platform, int], AbstractAsyncContextManager[FleetLink]]
"""Opens a fleet for one who only reads, for the duration of a block; nothing is joined, and nothing written.

Called with the settings, the platform, and the data directory, open.
"""


@asynccontextmanager
async def membership(
    config: RetentionConfig,
    platform: Platform,
    data_fd: int,
    events: EventHub,
    *,
    open_fleet: OpenFleet | None = None,
) -> AsyncIterator[FleetLink | None]:
    """Be a member of the fleet of the settings for the duration of a block; yields None where there is none.

    `open_fleet`: opens another one in its place.
    """
    if open_fleet is None:
        if not config.fleet.is_set:
            yield None
            return
        with _naming_what_is_missing():
            from hmret.engine.fleet.opening import open_keeper  # noqa: PLC0415 - without a fleet it is not imported
        open_fleet = open_keeper
    async with open_fleet(config, platform, data_fd, events) as link:
        yield link


@asynccontextmanager
async def readership(
    config: RetentionConfig, platform: Platform, data_fd: int, *, open_reader: OpenReader | None = None
) -> AsyncIterator[FleetLink | None]:
    """Read what the fleet of the settings says for the duration of a block; yields None where there is none.

    `open_reader`: opens another one in its place.
    """
    if open_reader is None:
        if not config.fleet.is_set:
            yield None
            return
        with _naming_what_is_missing():
            from hmret.engine.fleet.opening import open_reader as of_settings  # noqa: PLC0415 - likewise
        open_reader = of_settings
    async with open_reader(config, platform, data_fd) as link:
        yield link


@contextmanager
def _naming_what_is_missing() -> Iterator[None]:
    """Import what only a host of a fleet needs.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "httpx2":
            raise
        raise ConfigError(
            "hmret.fleet.endpoints: a fleet needs httpx2, which is not installed; pip install 'hmret[fleet]'"
        ) from None
