"""Whether an engine is part of a fleet; where it is in none, nothing of a fleet is imported."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol

from hmret.engine.events import EventHub
from hmret.engine.platform import Platform
from hmret.model.errors import ConfigError
from hmret.model.fleet import FleetLink
from hmret.model.policy.config import RetentionConfig


class OpenFleet(Protocol):
    """Opens the fleet that an engine is part of."""

    def __call__(
        self, config: RetentionConfig, platform: Platform, data_fd: int, events: EventHub, /
    ) -> AbstractAsyncContextManager[FleetLink]:
        """Be a member for the duration of a block.

        Args:
            config: the settings.
            platform: the platform of the engine.
            data_fd: the data directory, open.
            events: where what happens is published.
        """
        ...


class OpenReader(Protocol):
    """Opens a fleet for one who only reads."""

    def __call__(
        self, config: RetentionConfig, platform: Platform, data_fd: int, /
    ) -> AbstractAsyncContextManager[FleetLink]:
        """Read for the duration of a block; nothing is joined, and nothing written."""
        ...


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
    if open_fleet is None and not config.fleet.is_set:
        yield None
        return
    if open_fleet is None:
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
    if open_reader is None and not config.fleet.is_set:
        yield None
        return
    if open_reader is None:
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
