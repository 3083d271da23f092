"""The progress of a sweep: a line on standard error of a terminal, removed at the end."""

import sys

import anyio

from hmret.cli.display.output import is_terminal
from hmret.engine.retention import Retention
from hmret.model.report import SweepReport

_PAUSE = 0.1  # seconds between updates


async def sweep_in_sight(
    retention: Retention, *, shown: bool, release_brake: bool = False, stop_timers: bool = True
) -> SweepReport:
    """Sweep once; if `shown` and on a terminal, show the number of images examined so far."""
    if not shown or not is_terminal(sys.stderr):
        return await retention.sweep(release_brake=release_brake, stop_timers=stop_timers)
    from rich.console import Console  # noqa: PLC0415 - not needed without a terminal
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        line = progress.add_task("sweeping", total=None)

        async def follow() -> None:
            while True:
                seen = retention.statistics().images_seen
                progress.update(line, description=f"sweeping: {seen} images seen", refresh=True)
                await anyio.sleep(_PAUSE)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            report = await retention.sweep(release_brake=release_brake, stop_timers=stop_timers)
            tasks.cancel_scope.cancel()
    return report
