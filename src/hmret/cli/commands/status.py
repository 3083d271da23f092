"""`status`: the status of the running engine."""

from collections.abc import Iterator

from hmret.api.wire import structs_outcomes as structs
from hmret.api.wire.structs import SuspensionDocument
from hmret.cli.client import need_engine
from hmret.cli.display.output import printable, write_json, write_result
from hmret.cli.display.tables import format_seconds, format_size, format_suspension, format_table
from hmret.cli.parsing.fewer_options import ASKING, Asking
from hmret.model.fleet import FleetState


def status(*, common: Asking = ASKING) -> int:
    """Show the status of the running engine."""
    engine = need_engine(common)
    document = engine.ask("GET", "/v1/status")
    listed = engine.read(lambda status: status["suspended"], document)
    suspended = engine.read_as(tuple[SuspensionDocument, ...], listed)
    if common.json:
        write_json(document)
    else:
        facts = _facts(engine.read_as(structs.StatusDocument, document))
        words = [format_table(facts), *map(format_suspension, suspended)]
        write_result("\n".join(words))
    return 1 if suspended else 0


def _facts(status: structs.StatusDocument) -> list[list[str]]:
    totals, last = status.totals, status.last_sweep
    return [
        ["engine", f"{status.version}, process {status.process}, {status.backend}"],
        ["up for", format_seconds(status.uptime_seconds)],
        ["data directory", printable(status.data_dir)],
        ["retention", "enabled" if status.enabled else "disabled: nothing is swept"],
        ["sweeping", f"yes, {status.images_seen} images seen" if status.sweeping else "no"],
        ["last sweep", "none yet" if last is None else ", ".join(_sum_up(last))],
        ["sweeps", str(totals.sweeps)],
        ["deleted images", f"{totals.deleted_images}, {format_size(totals.deleted_bytes)}"],
        ["failed deletions", str(totals.failed_deletes)],
        ["trash", "not readable" if status.trash_bytes is None else format_size(status.trash_bytes)],
        ["quarantine", f"{status.quarantine.images} images, {format_size(status.quarantine.bytes)}"],
        *_limits(status.disk, status.brake),
        *_put_stopped(status.stopped_timers),
        *_put_fleet(status.fleet),
        ["leases", str(status.granted_leases)],
        [
            "file leases",
            {True: "offered", False: "not offered", None: "not tried yet"}[status.leases_offered],
        ],
    ]


def _limits(disk: structs.DiskDocument | None, brake: structs.BrakeDocument | None) -> Iterator[list[str]]:
    """Describe how full the disk is, if a limit is set, and what the brake holds."""
    if disk is not None:
        used, total = disk.used_bytes, disk.used_bytes + disk.available_bytes
        usage = f"{format_size(used)} of {format_size(total)} in use"
        if disk.pressed:
            usage += ", too full: images are deleted early"
        if disk.shortfall_bytes:
            usage += f"; {format_size(disk.shortfall_bytes)} short of the low mark whatever is deleted"
        yield ["disk", usage]
    if brake is not None:
        expired = f"{brake.expired} of {brake.eligible} images have expired at once"
        if brake.released:
            yield ["brake", f"released: {expired}"]
        else:
            yield [
                "brake",
                f"holds: {expired}; they will be deleted in {format_seconds(brake.seconds)}, or with: hmret sweep --release-brake",
            ]


def _put_stopped(stopped: structs.StoppedTimersDocument | None) -> Iterator[list[str]]:
    """Describe which timers were stopped because of the current settings."""
    if stopped is not None:
        yield ["timers stopped", f"{stopped.timers} at {stopped.at}: {printable(stopped.detail)}"]


def _put_fleet(state: FleetState | None) -> Iterator[list[str]]:
    """Tell the state of the host in its fleet, if it is in one."""
    if state is FleetState.JOINED:
        yield ["fleet", "joined"]
    elif state is not None:
        yield ["fleet", f"{state.value}: hmret fleet status has the remedy"]


def _sum_up(last: structs.SweepReportDocument) -> Iterator[str]:
    yield f"{last.status} at {last.started_at}"
    yield f"took {format_seconds(last.duration_seconds)}"
    yield f"{last.ready_images} images"
    yield f"{last.deleted_images} deleted"
