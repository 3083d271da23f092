"""`forecast`: when images expire."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

from cyclopts import Parameter

from hmret.api.wire.convert_outcomes import forecast_document
from hmret.api.wire.structs_outcomes import MOST_DAYS, ForecastDocument
from hmret.cli.client import Engine
from hmret.cli.display.logs import log_warnings
from hmret.cli.display.tables import format_size, format_table
from hmret.cli.display.words import put_count
from hmret.cli.engine_or_disk import answering_engine, do_here
from hmret.cli.engines import opened_inspection
from hmret.cli.parsing.options import DEFAULTS, Common
from hmret.model.errors import ConfigError
from hmret.model.plan.forecast import Outlook, summarize
from hmret.settings.load import Settings

_WIDTH = 40
"""Characters of the longest bar."""


def forecast(
    *,
    days: Annotated[int, Parameter(help=f"Number of UTC days, starting today; up to {MOST_DAYS}.")] = 30,
    common: Common = DEFAULTS,
) -> int:
    """Show which images expire on each day."""
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"--days: expected a number from 1 to {MOST_DAYS}, got {days}")
    settings = common.settings()
    # The running engine forecasts by its own settings only.
    works_alone = common.names_policy or common.config is not None
    engine = None if works_alone else answering_engine(common, settings.config)
    if engine is not None:
        document: Any = engine.ask("GET", "/v1/forecast", parameters={"days": str(days)})
    else:
        document = forecast_document(do_here(common, settings.config, partial(_foresee, settings, days)))
    common.write(document, _tell(document, engine))
    return 0


async def _foresee(settings: Settings, days: int) -> Outlook:
    async with opened_inspection(settings.config) as inspection:
        log_warnings(settings)
        return summarize(await inspection.plan(), days=days)


def _tell(document: Any, engine: Engine | None) -> Iterator[str]:
    days = (document if engine is None else engine.read_as(ForecastDocument, document)).days
    most = max(day.bytes for day in days)
    rows = [
        (day.date.isoformat(), str(day.images), format_size(day.bytes), _bar(day.bytes, most)) for day in days
    ]
    yield format_table(rows, titles=("date (UTC)", "images", "falls due", ""), right=[1, 2])
    images, disk_bytes = sum(day.images for day in days), sum(day.bytes for day in days)
    yield f"total: {put_count(images, 'image')}, {format_size(disk_bytes)}, if nothing is used or pulled until then"


def _bar(disk_bytes: int, most: int) -> str:
    """Draw a bar for a size; any nonzero size is visible."""
    return "#" * (-(-disk_bytes * _WIDTH // most)) if disk_bytes else ""
