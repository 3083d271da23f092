"""hypeman's own settings that can conflict with ours: where it listens, and when it refuses pulls.

A value that makes no sense there is for hypeman to refuse: it is ignored here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.sizes import format_exact_size, format_share
from hmret.settings.given_values import GivenValue, MappingEntries, Node

_IMAGE_STORAGE = "limits.max_image_storage"
_METRICS = "metrics.port"
_API = "port"

HYPEMAN_DEFAULTS: Mapping[str, str] = {
    _API: "8080",
    _METRICS: "9464",
    "metrics.listen_address": "127.0.0.1",
    _IMAGE_STORAGE: "0.2",
}
"""The defaults of the keys of hypeman that matter here."""

_ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - nothing is bound
_HEADROOM = 0.9


def neighbour_values(roots: Sequence[GivenValue | None], environment: Mapping[str, str]) -> Mapping[str, str]:
    """Read hypeman's settings with its precedence: variables over files over defaults."""
    values = {name: _value_of(name, roots, environment) for name in HYPEMAN_DEFAULTS}
    return {name: HYPEMAN_DEFAULTS[name] if value is None else value for name, value in values.items()}


def _value_of(name: str, roots: Sequence[GivenValue | None], environment: Mapping[str, str]) -> str | None:
    variable = environment.get(name.upper().replace(".", "__"))
    if variable:
        return variable
    found = [_look_up(root.node, name.split(".")) for root in roots if root is not None]
    return next((text for text in reversed(found) if text is not None), None)


def doubt_neighbours(
    config: RetentionConfig, neighbours: Mapping[str, str], disk_bytes: int | None
) -> Iterator[str]:
    """Yield a warning, one line, for each conflict with hypeman's own settings.

    `disk_bytes`: the size of the images' file system; None: unknown.
    """
    yield from _doubt_address(config.metrics_listen, neighbours)
    yield from _doubt_marks(config.disk, neighbours[_IMAGE_STORAGE], disk_bytes)


def _look_up(node: Node, path: Sequence[str]) -> str | None:
    for name in path:
        if not isinstance(node.content, MappingEntries):
            return None
        found = [value for key, value in node.content.pairs() if key.text == name]
        if not found:
            return None
        node = found[-1]
    return node.text


def _doubt_address(listen: str, neighbours: Mapping[str, str]) -> Iterator[str]:
    host, _, port = listen.rpartition(":")
    addresses = {_METRICS: neighbours["metrics.listen_address"], _API: ""}
    for key, address in addresses.items():
        if port and neighbours[key] == port and _meet(host, address):
            what = "its metrics" if key == _METRICS else "its API"
            yield (
                f"hmret.metrics_listen: hypeman serves {what} on port {port} of that address ({key}), "
                "so one of the two cannot start; choose another port"
            )


def _meet(one: str, other: str) -> bool:
    """Return whether two hosts to listen on share an address."""
    names = [host.strip("[]").replace("localhost", "127.0.0.1") for host in (one, other)]
    return names[0] == names[1] or any(name in _ANY_ADDRESS for name in names)


def _doubt_marks(limits: DiskLimits, storage: str, disk_bytes: int | None) -> Iterator[str]:
    try:
        share = float(storage)
    except ValueError:
        return
    if not (limits.is_set and 0 < share < 1):
        return
    told = f"hypeman refuses pulls once images take {format_share(share)} of the disk ({_IMAGE_STORAGE})"
    better = f"hmret.disk.max_used: {round(share * _HEADROOM * 100)}%"
    if not limits.max_used:
        yield (
            f"hmret.disk.high_watermark: {told}, long before {format_share(limits.high_watermark)} of it may be in "
            f"use; {better} with hmret.disk.count: apparent lets images go before that"
        )
        return
    cap, shown = _share_of_disk(limits.max_used, disk_bytes), _shown(limits.max_used)
    if cap is not None and cap >= share:
        yield f"hmret.disk.max_used: {told}, which comes before {shown}; {better} lets images go before that"
    elif limits.count == "blocks":
        yield (
            f"hmret.disk.count: {told}, and counts apparent sizes: sparse disks fill that before {shown} of blocks "
            "are taken; apparent counts as it does"
        )


def _share_of_disk(most: float, disk_bytes: int | None) -> float | None:
    """Return the share of the disk that the cache may occupy, as it is given or from its bytes; None: unknown."""
    if isinstance(most, float):
        return most
    return most / disk_bytes if disk_bytes else None


def _shown(most: Any) -> str:
    return format_share(most) if isinstance(most, float) else format_exact_size(most)
