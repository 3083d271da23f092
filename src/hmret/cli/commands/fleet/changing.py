"""`fleet init`, `reset`, `set`, `pause`, `resume`, `drain`, `undrain`, `forget`: what an operator changes in a fleet."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from hmret.api.wire import structs_fleet as structs
from hmret.cli.commands.fleet.display import put_paused, tell_drained
from hmret.cli.commands.fleet.on_etcd import ask_fleet, who
from hmret.cli.display.output import printable, say
from hmret.cli.display.words import put_count
from hmret.cli.engine_or_disk import Asked
from hmret.cli.parsing.fewer_options import WITHOUT_POLICY, WithoutPolicy
from hmret.cli.parsing.options import FLAG
from hmret.model.policy.config import RetentionConfig

if TYPE_CHECKING:
    from hmret.fleet.operating import FleetOperator
    from hmret.model.fleet import FleetSettings

_Host = Annotated[
    str,
    Parameter(name="HOST", help="The name of a host, or of one of its holders, as fleet status shows them."),
]
_Reason = Annotated[str, Parameter(help="Why, for other operators to see.")]

_SHORTEST_WAIT = 5.0
_LONGEST_WAIT = 60.0
_REST = 10
"""A look at all copies is followed by a wait this many times as long, within these bounds."""


def init(*, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Create the fleet in etcd."""
    return _begin(common, "init", lambda operator: operator.init())


def reset(*, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Start a new generation of the fleet."""
    return _begin(common, "reset", lambda operator: operator.reset())


def set_setting(
    key: Annotated[str, Parameter(name="KEY", help="The name of the setting.")],
    value: Annotated[str, Parameter(name="VALUE", help="Its new value.")],
    /,
    *,
    common: WithoutPolicy = WITHOUT_POLICY,
) -> int:
    """Change a setting of the whole fleet."""
    asked = _posting("set", key=key, value=value)
    return _change(
        common,
        asked,
        lambda operator: operator.change(key, value),
        lambda settings: f"{key}: {getattr(settings, key)}",
    )


def pause(*, reason: _Reason = "", common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Pause deletion on all hosts of the fleet."""
    by = who()
    asked = _posting("pause", by=by, reason=reason)
    return _change(common, asked, lambda operator: operator.pause(by, datetime.now(UTC), reason), put_paused)


def resume(*, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Resume deletion after a pause."""
    return _change(common, _posting("resume"), lambda operator: operator.resume(), put_paused)


def drain(
    host: _Host,
    /,
    *,
    reason: _Reason = "",
    wait: Annotated[
        bool,
        FLAG,
        Parameter(help="Wait until the host has no last copy of any image, however long that takes."),
    ] = False,
    common: WithoutPolicy = WITHOUT_POLICY,
) -> int:
    """Stop counting the copies on a host."""
    by = who()

    def ask() -> structs.DrainDocument:
        async def on_etcd(operator: "FleetOperator", config: RetentionConfig) -> structs.DrainDocument:
            from hmret.api.wire.convert_fleet import drain_document  # noqa: PLC0415 - only if no engine runs

            holders = await operator.drain(host, by, datetime.now(UTC), reason)
            return drain_document(holders, await operator.last_copies(holders, config.fleet.min_copies))

        asked = _posting("drain", host=host, by=by, reason=reason)
        return ask_fleet(common, asked, structs.DrainDocument, on_etcd)

    drained = ask()
    if wait:
        drained = _wait_for_copies(ask, drained)
    common.write(drained, tell_drained(drained))
    return 0


def undrain(host: _Host, /, *, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Count the copies on a drained host again."""
    return _about_host(common, "undrain", host, "no longer drained", lambda operator: operator.undrain(host))


def forget(host: _Host, /, *, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Remove a host that is gone for good from the fleet."""
    return _about_host(common, "forget", host, "forgotten", lambda operator: operator.forget(host))


def _begin(common: WithoutPolicy, path: str, call: "Callable[[FleetOperator], Awaitable[str]]") -> int:
    async def on_etcd(operator: "FleetOperator", _: RetentionConfig) -> structs.FleetGenerationDocument:
        return structs.FleetGenerationDocument(operator.fleet, await call(operator))

    begun = ask_fleet(common, _posting(path), structs.FleetGenerationDocument, on_etcd)
    common.write(begun, [printable(f"fleet {begun.fleet}, generation {begun.generation}")])
    return 0


def _change(
    common: WithoutPolicy,
    asked: Asked,
    call: "Callable[[FleetOperator], Awaitable[FleetSettings]]",
    put: Callable[[structs.FleetSettingsDocument], str],
) -> int:
    async def on_etcd(operator: "FleetOperator", _: RetentionConfig) -> structs.FleetSettingsChangedDocument:
        from hmret.api.wire.convert_fleet import settings_document  # noqa: PLC0415 - only if no engine runs

        return structs.FleetSettingsChangedDocument(settings_document(await call(operator)))

    changed = ask_fleet(common, asked, structs.FleetSettingsChangedDocument, on_etcd)
    common.write(changed, map(put, [changed.settings]))
    return 0


def _about_host(
    common: WithoutPolicy,
    path: str,
    host: str,
    done: str,
    call: "Callable[[FleetOperator], Awaitable[tuple[str, ...]]]",
) -> int:
    async def on_etcd(operator: "FleetOperator", _: RetentionConfig) -> structs.FleetHoldersDocument:
        return structs.FleetHoldersDocument(await call(operator))

    meant = ask_fleet(common, _posting(path, host=host), structs.FleetHoldersDocument, on_etcd)
    common.write(meant, (f"{holder}: {done}" for holder in meant.holders))
    return 0


def _posting(path: str, **body: object) -> Asked:
    """Return the request to a running engine that changes something."""
    return Asked("POST", f"/v1/fleet/{path}", body or None)


def _wait_for_copies(
    ask: Callable[[], structs.DrainDocument], drained: structs.DrainDocument
) -> structs.DrainDocument:
    """Ask again until there is no last copy on what is drained."""
    told = 0
    seconds = _SHORTEST_WAIT
    while drained.last_copies:
        if told != len(drained.last_copies):
            told = len(drained.last_copies)
            say(f"{put_count(told, 'last copy', 'last copies')} left: waiting")
        time.sleep(min(max(seconds, _SHORTEST_WAIT), _LONGEST_WAIT))
        begun = time.monotonic()
        drained = ask()
        seconds = _REST * (time.monotonic() - begun)
    return drained
