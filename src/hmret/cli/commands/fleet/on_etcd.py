"""How a command of the fleet gets its answer: from the running engine, else from etcd itself."""

import getpass
import os
import platform
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from hmret.api.wire.structs import Document
from hmret.cli.engine_or_disk import Asked, ask_or_do
from hmret.cli.parsing.options import Common
from hmret.disk.layout import OWN
from hmret.disk.records.fleet import CACHE_ID
from hmret.model.errors import ConfigError
from hmret.model.policy.config import RetentionConfig

if TYPE_CHECKING:
    from hmret.fleet.operating import FleetOperator

D = TypeVar("D", bound=Document)

_CACHE_ID = re.compile(r"[0-9a-f]{8}")


def ask_fleet(
    common: Common,
    asked: Asked,
    kind: type[D],
    work: "Callable[[FleetOperator, RetentionConfig], Awaitable[D]]",
) -> D:
    """Ask the running engine and say so, otherwise etcd; returns the document.

    Raises:
        ConfigError: this host is in no fleet, a setting is invalid, or the files for TLS cannot be used.
        HmretError: the engine or etcd did not do it.
    """
    config = common.settings().config
    if not config.fleet.endpoints:
        raise ConfigError(
            "hmret.fleet.endpoints: expected the URLs of etcd, which each command of the fleet needs, got none"
        )

    async def on_etcd(config: RetentionConfig) -> D:
        from hmret.fleet.gateway import Gateway  # noqa: PLC0415 - only if no engine runs
        from hmret.fleet.operating import FleetOperator  # noqa: PLC0415 - the same

        store = Gateway.of(config.fleet)
        try:
            return await work(FleetOperator(store, config.fleet.name), config)
        finally:
            with anyio.CancelScope(shield=True):
                await store.aclose()

    return ask_or_do(common, asked, kind, on_etcd, config)


def own_holder(config: RetentionConfig) -> str | None:
    """Return the holder that this data directory is; None: no engine has run here as a member of a fleet."""
    try:
        cache_id = Path(config.data_dir, OWN, CACHE_ID).read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return f"{config.fleet.host_on(platform.node())}.{cache_id}" if _CACHE_ID.fullmatch(cache_id) else None


def who() -> str:
    """Return who calls this, for other operators to see."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{platform.node()}"
