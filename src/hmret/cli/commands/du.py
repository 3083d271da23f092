"""`du`: how many bytes the images occupy, and how full their disk is."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hmret.api.wire.convert_outcomes import forecast_document
from hmret.api.wire.structs_outcomes import ForecastDocument
from hmret.cli.display.columns import REPOSITORY, Column, format_columns
from hmret.cli.display.tables import format_size, format_table
from hmret.cli.parsing.options import DEFAULTS, Common
from hmret.cli.planning import Made, make_plan
from hmret.disk.layout import IMAGES
from hmret.model.plan.forecast import summarize
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.sizes import format_share
from hmret.model.verdicts import Action, Verdict

_BY_REPOSITORY = (
    REPOSITORY,
    Column(title="images", worth=7, is_right=True),
    Column(title="on disk", worth=8, is_right=True),
    Column(title="shared", worth=5, is_right=True),
    Column(title="would go", worth=6, is_right=True),
)
_BY_REASON = (
    Column(title="reason", worth=9),
    Column(title="images", worth=7, is_right=True),
    Column(title="on disk", worth=8, is_right=True),
)


class _Repository(msgspec.Struct):
    """The usage of one repository, as in the JSON document."""

    repository: str
    images: int = 0
    bytes: int = 0
    shared_bytes: int = 0
    """Bytes that are shared with other repositories."""
    delete_bytes: int = 0


def du(*, common: Common = DEFAULTS) -> int:
    """Show the disk usage of the images."""
    made = make_plan(common, common.settings())
    forecast = _forecast(made)
    repositories = _by_repository(made.verdicts)
    space = _look_at_disk(made.config)
    marks = _marks(made.config.disk, space)
    document = {
        "at": made.head.at,
        "data_dir": made.head.data_dir,
        "images": forecast.images,
        "bytes": forecast.bytes,
        "repositories": repositories,
        "reasons": forecast.holdings,
        "disk": space,
        "marks": marks,
    }
    common.write(document, _tell(forecast, repositories, space, marks))
    return 0


def _forecast(made: Made) -> ForecastDocument:
    """Add up the bytes, counting a disk with several links once."""
    if made.engine is not None:
        return made.engine.read_as(ForecastDocument, made.engine.ask("GET", "/v1/forecast"))
    assert made.plan is not None
    return forecast_document(summarize(made.plan))


def _by_repository(verdicts: Sequence[Verdict]) -> list[_Repository]:
    """Add up usage by repository, the largest first; shared content counts for each repository."""
    found: dict[str, _Repository] = {}
    for verdict in verdicts:
        one = found.setdefault(verdict.repository, _Repository(verdict.repository))
        one.images += 1
        one.bytes += verdict.disk_bytes
        one.shared_bytes += verdict.disk_bytes if verdict.shared_with else 0
        one.delete_bytes += verdict.disk_bytes if verdict.action is Action.DELETE else 0
    return sorted(found.values(), key=lambda one: (-one.bytes, one.repository))


def _look_at_disk(config: RetentionConfig) -> Mapping[str, int] | None:
    """Return the usage of the images' file system, as df shows it; None: not available."""
    try:
        space = os.statvfs(f"{config.data_dir}/{IMAGES}")
    except OSError:
        return None
    used_bytes = (space.f_blocks - space.f_bfree) * space.f_frsize
    return {"used_bytes": used_bytes, "available_bytes": space.f_bavail * space.f_frsize}


def _marks(limits: DiskLimits, space: Mapping[str, int] | None) -> Mapping[str, object] | None:
    """Return the disk limits, and the distance in bytes between each and the usage; None: no limit is set."""
    if not limits.is_set:
        return None
    total = 0 if space is None else space["used_bytes"] + space["available_bytes"]
    high = round(limits.high_watermark * total) if limits.high_watermark and total else None
    low = round(limits.low * total) if limits.high_watermark and total else None
    max_used = limits.max_used
    return {
        "high_watermark": format_share(limits.high_watermark) if limits.high_watermark else None,
        "low_watermark": format_share(limits.low) if limits.high_watermark else None,
        "high_bytes": high,
        "low_bytes": low,
        "max_used": format_share(max_used) if isinstance(max_used, float) else max_used or None,
    }


def _tell(
    forecast: ForecastDocument,
    repositories: Sequence[_Repository],
    space: Mapping[str, int] | None,
    marks: Mapping[str, Any] | None,
) -> Iterator[str]:
    if repositories:
        rows = [
            [
                one.repository,
                str(one.images),
                format_size(one.bytes),
                format_size(one.shared_bytes) if one.shared_bytes else "-",
                format_size(one.delete_bytes) if one.delete_bytes else "-",
            ]
            for one in repositories
        ]
        yield format_columns(_BY_REPOSITORY, rows)
        yield ""
        held = sorted(forecast.holdings, key=lambda one: (-one.bytes, one.reason))
        rows = [[one.reason.value, str(one.images), format_size(one.bytes)] for one in held if one.images]
        yield format_columns(_BY_REASON, rows)
        yield ""
    facts = [["in all", f"{forecast.images} images, {format_size(forecast.bytes)}, each disk once"]]
    if space is not None:
        total = space["used_bytes"] + space["available_bytes"]
        share = format_share(round(space["used_bytes"] / total, 3)) if total else "0%"
        facts.append(["disk", f"{format_size(space['used_bytes'])} of {format_size(total)} in use, {share}"])
    facts += _tell_marks(marks, space)
    yield format_table(facts)


def _tell_marks(marks: Mapping[str, Any] | None, space: Mapping[str, int] | None) -> Iterator[list[str]]:
    if marks is None:
        yield ["marks", "none set: images are deleted for their age only"]
        return
    for name in ("high", "low"):
        share, size_bytes = marks[f"{name}_watermark"], marks[f"{name}_bytes"]
        if share is None:
            continue
        mark = share
        if size_bytes is not None and space is not None:
            left = size_bytes - space["used_bytes"]
            mark += f", {format_size(size_bytes)}: {format_size(abs(left))} {'below' if left >= 0 else 'above'} it"
        yield [f"{name} mark", mark]
    if marks["max_used"] is not None:
        most = marks["max_used"]
        yield ["most for images", most if isinstance(most, str) else format_size(most)]
