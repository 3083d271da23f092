"""`sweep`: one sweep and its result."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import anyio
from cyclopts import Parameter

from hmret.api.wire.convert_outcomes import sweep_document
from hmret.api.wire.structs_outcomes import DeletedImageDocument, SweepReportDocument
from hmret.cli.client import find_engine, say_who_answers
from hmret.cli.display.logs import log_warnings
from hmret.cli.display.output import is_terminal, printable, say
from hmret.cli.display.tables import (
    format_seconds,
    format_size,
    format_suspension,
    format_table,
    format_when,
    terminal_digest,
)
from hmret.cli.display.words import ENABLE, put_count, stopped_by, tell_stopped
from hmret.cli.engine_or_disk import do_here
from hmret.cli.engines import opened_engine
from hmret.cli.interrupted import Interrupted
from hmret.cli.parsing.options import DEFAULTS, FLAG, Common
from hmret.cli.planning import Made, make_plan
from hmret.engine.retention import Retention
from hmret.model.report import SweepReport, SweepStatus
from hmret.model.times import parse_time
from hmret.settings.load import Settings

_PROGRESS_SECONDS = 0.1
"""How often the progress is updated."""

_DONE = (SweepStatus.SUCCESS, SweepStatus.DISABLED)


def sweep(
    *,
    dry_run: Annotated[bool, FLAG, Parameter(help="Only show the plan; change nothing.")] = False,
    yes: Annotated[bool, FLAG, Parameter(name=("--yes", "-y"), help="Do not ask for confirmation.")] = False,
    release_brake: Annotated[bool, FLAG, Parameter(help="Delete the images that the brake holds.")] = False,
    stop_timers: Annotated[
        bool, FLAG, Parameter(help="Sweep even if that stops all timers, since the patterns allow no image.")
    ] = False,
    common: Common = DEFAULTS,
) -> int:
    """Sweep once, and show what was deleted."""
    if dry_run:
        from hmret.cli.commands.plan import plan  # noqa: PLC0415 - not needed for a sweep

        return plan(common=common)
    settings = common.settings()
    engine = None if common.names_policy else find_engine(settings.config, common.timeout_seconds)
    sweeps = engine is not None or settings.config.active
    if sweeps and not yes and _is_watched() and not _is_wanted(make_plan(common, settings)):
        say("nothing was done")
        return 1
    if engine is not None:
        say_who_answers(engine, common)
        parameters = {"release_brake": "true"} if release_brake else {}
        document = engine.ask("POST", "/v1/sweeps", parameters=parameters)
        report = engine.read_as(SweepReportDocument, document)
    else:
        made = _sweep_here(settings, common, release_brake=release_brake, stop_timers=stop_timers)
        document = report = sweep_document(made)
    common.write(document, _tell(report))
    return 0 if report.status in _DONE else 1


def _is_watched() -> bool:
    """Return whether the command runs interactively."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def _is_wanted(made: Made) -> bool:
    """Ask for confirmation of the deletions; does not ask if there would be none."""
    head = made.head
    if head.suspended or not head.enabled or not head.summary.delete:
        return True
    for line in tell_stopped(stopped_by(made.verdicts)):
        print(line, file=sys.stderr)
    images = put_count(head.summary.delete, "image")
    question = (
        f"Delete {images}, {format_size(head.summary.delete_bytes)}, in {printable(head.data_dir)}? [y/N] "
    )
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _sweep_here(settings: Settings, common: Common, *, release_brake: bool, stop_timers: bool) -> SweepReport:
    if not settings.config.active:
        return SweepReport(status=SweepStatus.DISABLED, started_at=datetime.now(UTC), duration_seconds=0.0)

    opened: list[Retention] = []

    async def sweep() -> SweepReport:
        async with opened_engine(settings.config) as retention:
            opened.append(retention)
            log_warnings(settings)
            return await sweep_in_sight(
                retention, shown=not common.json, release_brake=release_brake, stop_timers=stop_timers
            )

    try:
        return do_here(common, settings.config, sweep)
    except Interrupted as interrupted:
        # The engine has closed, so nothing is added any more.
        deleted = sum(retention.counters.deletes["success"] for retention in opened)
        done = f"{put_count(deleted, 'image')} deleted; the next sweep finishes the rest"
        raise Interrupted(interrupted.number, done) from None


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
                await anyio.sleep(_PROGRESS_SECONDS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            report = await retention.sweep(release_brake=release_brake, stop_timers=stop_timers)
            tasks.cancel_scope.cancel()
    return report


def _tell(report: SweepReportDocument) -> Iterator[str]:
    if report.status is SweepStatus.DISABLED:
        yield f"disabled: nothing was touched; {ENABLE}"
        return
    yield f"{report.status.value}, after {format_seconds(report.duration_seconds)}"
    yield from map(format_suspension, report.suspended)
    yield format_table(
        [
            ["deleted images", str(report.deleted_images)],
            ["freed", format_size(report.deleted_bytes + report.released_bytes)],
            *_tell_quarantine(report),
            ["failed deletions", str(report.failed_deletes)],
            ["kept because open", str(report.open_images)],
            ["timers stopped", str(report.cleared_states)],
            ["timers started", str(report.marked_unused)],
            ["records of absent images pruned", str(report.pruned_states)],
            ["ready images", str(report.ready_images)],
            ["protected images", str(report.protected_images)],
            ["stale references", str(report.stale_references)],
        ],
        right=[1],
    )
    yield from map(_tell_deleted, report.deleted)
    for error in report.errors:
        image = f"{error.repository}@{terminal_digest(error.digest)}" if error.repository else ""
        yield "error: " + printable(": ".join(filter(None, (image, error.path, error.error))))


def _tell_quarantine(report: SweepReportDocument) -> Iterator[list[str]]:
    if report.quarantined_images:
        yield ["put into quarantine", f"{report.quarantined_images}, {format_size(report.quarantined_bytes)}"]
    if report.released_images:
        yield ["released from quarantine", str(report.released_images)]


def _tell_deleted(image: DeletedImageDocument) -> str:
    tags = f" ({', '.join(image.tags)})" if image.tags else ""
    deleted = f"deleted {image.repository}@{terminal_digest(image.digest)}{tags}"
    return printable(
        f"{deleted}, {format_size(image.disk_bytes)}, unused since {format_when(parse_time(image.unused_since))}"
    )
