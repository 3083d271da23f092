"""`plan`: what a sweep would do, and nothing of it done."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from hmret.api.documents import plan_document
from hmret.api.readings import ComparisonReading, PlanReading, read_plan
from hmret.cli.backend import run_on, until_interrupted
from hmret.cli.client import find_engine, say_who_answers
from hmret.cli.logs import log_warnings
from hmret.cli.options import DEFAULTS, Common
from hmret.cli.output import is_terminal, printable, write_json, write_result
from hmret.cli.tables import (
    format_size,
    format_suspension,
    format_table,
    format_when,
    shorten_digest,
    shorten_time,
)
from hmret.disk.policy_settings import policy_settings
from hmret.disk.settings import Settings
from hmret.engine.opening import open_inspection
from hmret.engine.surroundings import Surroundings
from hmret.model.errors import ConfigError
from hmret.model.planning import Action, Plan, Summary, Verdict
from hmret.model.times import datetime_of, format_time, nanoseconds_of, parse_time

__all__ = ["plan"]

# What somebody still scrolls through; a pipe gets everything.
_MOST_ON_TERMINAL = 200

_TITLES = ("repository", "digest", "tags", "action", "reason", "on disk", "unused since", "expires")
_ON_DISK = 5
_STYLES = {Action.DELETE.value: "red", Action.MARK.value: "yellow"}


def plan(
    *,
    at: Annotated[
        str | None, Parameter(help="What would be due then: an RFC 3339 time, such as 2026-12-24T00:00:00Z.")
    ] = None,
    common: Common = DEFAULTS,
) -> int:
    """Tell what a sweep would do, now or at another time."""
    moment = None if at is None else _read_moment(at)
    settings = common.settings()
    engine = None if common.names_policy else find_engine(settings.config)
    if engine is not None:
        say_who_answers(engine)
        document = (
            engine.plan(at) if common.config is None else engine.compare(policy_settings(settings.config), at)
        )
        reading = engine.read(read_plan, document)
    else:
        with common.logging():
            work = partial(until_interrupted, partial(_plan, settings, moment))
            made = run_on(common.backend, settings.config.data_dir, work)
        reading = PlanReading.of(made, settings.config)
        document = plan_document(made, settings.config) if common.json else {}
    if common.json:
        write_json(document)
    else:
        write_result("\n".join(_tell(reading)))
    return 1 if reading.suspended else 0


def _read_moment(text: str) -> datetime:
    try:
        return datetime_of(parse_time(text))
    except ValueError:
        raise ConfigError(
            f"--at: expected an RFC 3339 time with its zone, such as 2026-12-24T00:00:00Z, got {text!r}"
        ) from None


async def _plan(settings: Settings, at: datetime | None) -> Plan:
    async with open_inspection(settings.config, Surroundings()) as inspection:
        log_warnings(settings)
        return await inspection.plan(at)


def _tell(made: PlanReading) -> Iterator[str]:
    verdicts = made.verdicts
    shown = _choose(verdicts)
    if shown:
        yield format_table(map(_row, shown), titles=_TITLES, right=[_ON_DISK], styles=_STYLES).rstrip("\n")
    if len(shown) < len(verdicts):
        yield f"{len(verdicts) - len(shown)} more images are not shown; through a pipe all are"
    for stale in made.stale_references:
        yield printable(f"stale reference: {stale.source} refers to {stale.image}, which is not here")
    if made.comparison is not None:
        yield from _tell_comparison(made.comparison)
    yield f"at {format_time(nanoseconds_of(made.at))} in {printable(made.data_dir)}: {_sum_up(made.summary)}"
    yield from map(format_suspension, made.suspended)
    if not made.enabled:
        yield "disabled: a sweep would do nothing of this; set images.auto_delete.enabled, or give --enable"


def _tell_comparison(comparison: ComparisonReading) -> Iterator[str]:
    """Tell what the settings that were given would change."""
    for title, differences in (
        ("would newly go", comparison.newly_go),
        ("would newly stay", comparison.newly_stay),
    ):
        for one in differences[:_MOST_ON_TERMINAL]:
            yield printable(
                f"{title}: {one.verdict.repository}@{shorten_digest(one.verdict.digest)} "
                f"({', '.join(one.verdict.tags) or '-'}), {format_size(one.verdict.disk_bytes)}, "
                f"{one.reason_in_force.value} by the settings in force, {one.verdict.reason.value} by these"
            )
        if len(differences) > _MOST_ON_TERMINAL:
            yield f"{title}: {len(differences) - _MOST_ON_TERMINAL} more"
    yield (
        f"compared with the settings in force, {len(comparison.newly_go)} images would newly go and "
        f"{len(comparison.newly_stay)} newly stay; by those it is {_sum_up(comparison.in_force)}"
    )


def _choose(verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """Leave out what a terminal is too short for, and of what goes away as little as possible."""
    if len(verdicts) <= _MOST_ON_TERMINAL or not is_terminal(sys.stdout):
        return verdicts
    by_weight = sorted(range(len(verdicts)), key=lambda place: verdicts[place].action is not Action.DELETE)
    return [verdicts[place] for place in sorted(by_weight[:_MOST_ON_TERMINAL])]


def _row(verdict: Verdict) -> Sequence[str]:
    return (
        verdict.repository,
        shorten_digest(verdict.digest),
        ",".join(verdict.tags) or "-",
        verdict.action.value,
        verdict.reason.value,
        format_size(verdict.disk_bytes),
        shorten_time(format_when(verdict.unused_since_ns)),
        shorten_time(format_when(verdict.expires_at_ns)),
    )


def _sum_up(summary: Summary) -> str:
    return (
        f"{summary.images} images, {summary.delete} to delete ({format_size(summary.delete_bytes)}), "
        f"{summary.mark} to mark, {summary.clear} to clear, {summary.keep} to keep, "
        f"{summary.prune} states of gone images to prune"
    )
