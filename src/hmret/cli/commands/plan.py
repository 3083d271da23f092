"""`plan`: what a sweep would do, without doing it."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated

from cyclopts import Parameter

from hmret.api.wire.convert import image_document
from hmret.api.wire.structs import ComparisonDocument, ImageDocument
from hmret.cli.display.columns import REPOSITORY, Column, format_columns, shorten_list
from hmret.cli.display.listing import (
    EVERYTHING,
    TABLE,
    ImageFilter,
    Shown,
    beside_fleet,
    named_lines,
    write_csv,
)
from hmret.cli.display.output import is_terminal, printable, write_json, write_result
from hmret.cli.display.tables import (
    format_day,
    format_size,
    format_suspension,
    format_when,
    shorten_digest,
)
from hmret.cli.display.words import (
    ACTION_STYLES,
    ENABLE,
    KEEP,
    action_of,
    count_reasons,
    name_source,
    put_count,
    stopped_by,
    tell_summary,
)
from hmret.cli.parsing.options import DEFAULTS, FLAG, Common
from hmret.cli.planning import Made, make_plan
from hmret.model.errors import ConfigError
from hmret.model.times import datetime_of, parse_time
from hmret.model.verdicts import Verdict

# About as many as a person scrolls through; a pipe gets all.
_MOST_ON_TERMINAL = 200

_SOMETHING_GOES = 4

_COLUMNS = (
    Column(title="action", worth=8),
    REPOSITORY,
    Column(title="digest", worth=6),
    Column(title="reason", worth=7),
    Column(title="on disk", worth=5, is_right=True),
    Column(title="tags", worth=3, least=8, shorten=shorten_list),
    Column(title="expires", worth=4),
    Column(title="unused since", worth=2),
)
_WIDE = (*_COLUMNS, Column(title="status", worth=1), Column(title="needed by", worth=1))


def plan(
    *,
    at: Annotated[
        str | None, Parameter(help="Plan for this time, in RFC 3339: 2026-12-24T00:00:00Z.")
    ] = None,
    chosen: ImageFilter = EVERYTHING,
    every: Annotated[bool, FLAG, Parameter(name="--all", help="Also list the images that are kept.")] = False,
    detailed_exitcode: Annotated[
        bool, FLAG, Parameter(help="Exit with code 4 if something would be deleted.")
    ] = False,
    shown: Shown = TABLE,
    common: Common = DEFAULTS,
) -> int:
    """Show what a sweep would do, now or at another time."""
    moment = None if at is None else _read_moment(at)
    made = make_plan(common, common.settings(), moment)
    show_plan(made, common, shown, chosen, every=every)
    head = made.head
    if head.suspended:
        return 1
    return _SOMETHING_GOES if detailed_exitcode and head.summary.delete else 0


def show_plan(
    made: Made, common: Common, shown: Shown = TABLE, chosen: ImageFilter = EVERYTHING, *, every: bool = False
) -> None:
    """Write a plan in the requested format."""
    match output := shown.as_output(as_json=common.json):
        case "json":
            is_whole = not chosen.names_some and chosen.sort is None and chosen.limit is None
            write_json(made.document(None if is_whole else chosen.cut(chosen.choose(made.verdicts))))
        case "csv":
            images = chosen.cut(chosen.choose(made.verdicts))
            write_result(write_csv(ImageDocument, map(image_document, images)))
        case "name":
            images = chosen.cut(_listed(chosen, made.verdicts, every=every))
            write_result(named_lines(images))
        case "table" | "wide":
            lines = _tell(made, chosen, every=every, is_wide=output == "wide")
            write_result("\n".join(lines))


def _read_moment(text: str) -> datetime:
    try:
        return datetime_of(parse_time(text))
    except ValueError:
        raise ConfigError(
            f"--at: expected an RFC 3339 time with its zone, such as 2026-12-24T00:00:00Z, got {text!r}"
        ) from None


def _listed(chosen: ImageFilter, verdicts: Sequence[Verdict], *, every: bool) -> list[Verdict]:
    """Select the listed images: deletions and changes, or what the options select; deletions come first."""
    found = chosen.choose(verdicts, "action")
    if every or chosen.names_some:
        return found
    return [verdict for verdict in found if action_of(verdict) != KEEP]


def _tell(made: Made, chosen: ImageFilter, *, every: bool, is_wide: bool) -> Iterator[str]:
    head, verdicts = made.head, made.verdicts
    listed = _listed(chosen, verdicts, every=every)
    images = chosen.cut(listed)
    if chosen.limit is None and is_terminal(sys.stdout):
        images = images[:_MOST_ON_TERMINAL]
    if images:
        rows = [_wide_row(one, head.vm_names) if is_wide else _row(one) for one in images]
        columns, rows = beside_fleet(_WIDE if is_wide else _COLUMNS, rows, images)
        yield format_columns(columns, rows, styles=ACTION_STYLES, whole=is_wide)
    if len(images) < len(listed):
        yield f"{len(listed) - len(images)} more are not shown; use --limit to show more"
    yield from tell_summary(head.summary, stopped_by(verdicts))
    yield from _tell_kept(verdicts, hint=not (every or chosen.names_some))
    for stale in head.stale_references:
        source = name_source(stale.source, head.vm_names)
        yield printable(f"stale reference: {source} refers to {stale.image}, which is not in the cache")
    if made.comparison is not None:
        yield from _tell_comparison(made.comparison)
    yield f"at {head.at} in {printable(head.data_dir)}"
    yield from map(format_suspension, head.suspended)
    if not head.enabled:
        yield f"disabled: a sweep would do none of this; {ENABLE}"


def _tell_kept(verdicts: Sequence[Verdict], *, hint: bool) -> Iterator[str]:
    """Count the images that are kept, by reason."""
    counts = count_reasons(verdict for verdict in verdicts if action_of(verdict) == KEEP)
    if counts:
        parts = ", ".join(f"{count} {reason.value}" for reason, count in counts.items())
        kept = put_count(sum(counts.values()), "image")
        yield f"{kept} would be kept: {parts}{'; --all lists them' if hint else ''}"


def _tell_comparison(comparison: ComparisonDocument) -> Iterator[str]:
    """Describe what the given settings would change."""
    for title, differences in (
        ("newly deleted", comparison.newly_go),
        ("newly kept", comparison.newly_stay),
    ):
        for one in differences[:_MOST_ON_TERMINAL]:
            yield printable(
                f"{title}: {one.repository}@{shorten_digest(one.digest)} "
                f"({', '.join(one.tags) or '-'}), {format_size(one.disk_bytes)}, "
                f"{one.reason_in_force.value} under the current settings, {one.reason.value} under these"
            )
        if len(differences) > _MOST_ON_TERMINAL:
            yield f"{title}: {len(differences) - _MOST_ON_TERMINAL} more"
    in_force = comparison.in_force
    yield (
        f"compared with the current settings, {put_count(len(comparison.newly_go), 'image')} would be newly deleted and "
        f"{len(comparison.newly_stay)} newly kept; under those {in_force.delete} of {in_force.images} would be deleted "
        f"({format_size(in_force.delete_bytes)})"
    )


def _row(verdict: Verdict) -> list[str]:
    return [
        action_of(verdict),
        verdict.repository,
        shorten_digest(verdict.digest),
        verdict.reason.value,
        format_size(verdict.disk_bytes),
        ",".join(verdict.tags) or "-",
        format_day(verdict.expires_at_ns),
        format_day(verdict.unused_since_ns),
    ]


def _wide_row(verdict: Verdict, names: Mapping[str, str]) -> list[str]:
    row = _row(verdict)
    row[2] = verdict.digest
    row[-2:] = format_when(verdict.expires_at_ns), format_when(verdict.unused_since_ns)
    needing = ", ".join(name_source(source, names) for source in verdict.referenced_by)
    return [*row, verdict.status, needing or "-"]
