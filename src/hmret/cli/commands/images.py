"""`images`: every image of the cache, with what is known about its use."""

from collections.abc import Mapping

from hmret.api.wire.convert import image_document
from hmret.api.wire.structs import ImageDocument
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
from hmret.cli.display.output import write_json, write_result
from hmret.cli.display.tables import format_day, format_size, format_suspension, format_when, shorten_digest
from hmret.cli.display.words import name_source
from hmret.cli.parsing.options import DEFAULTS, Common
from hmret.cli.planning import make_plan
from hmret.model.verdicts import Action, Reason, Verdict

_COLUMNS = (
    REPOSITORY,
    Column(title="digest", worth=8),
    Column(title="on disk", worth=7, is_right=True),
    Column(title="last use", worth=4),
    Column(title="due", worth=5),
    Column(title="reason", worth=6),
    Column(title="holders", worth=3, least=10, shorten=shorten_list),
    Column(title="tags", worth=2, least=8, shorten=shorten_list),
)
_WIDE = (*_COLUMNS, Column(title="status", worth=1))
_IN_USE = (Reason.REFERENCED, Reason.LEASED, Reason.OPEN)


def images(*, chosen: ImageFilter = EVERYTHING, shown: Shown = TABLE, common: Common = DEFAULTS) -> int:
    """List every image."""
    made = make_plan(common, common.settings())
    head = made.head
    listed = chosen.cut(chosen.choose(made.verdicts))
    match output := shown.as_output(as_json=common.json):
        case "json":
            images = made.images(listed)
            write_json(
                {"at": head.at, "data_dir": head.data_dir, "images": images, "vm_names": head.vm_names}
            )
        case "csv":
            write_result(write_csv(ImageDocument, map(image_document, listed)))
        case "name":
            write_result(named_lines(listed))
        case "table" | "wide":
            is_wide = output == "wide"
            rows = [_row(verdict, head.vm_names, is_wide=is_wide) for verdict in listed]
            columns, rows = beside_fleet(_WIDE if is_wide else _COLUMNS, rows, listed)
            lines = [format_columns(columns, rows, whole=is_wide)] if rows else []
            lines += map(format_suspension, head.suspended)
            write_result("\n".join(lines or ["no images"]))
    return 1 if head.suspended else 0


def _row(verdict: Verdict, names: Mapping[str, str], *, is_wide: bool) -> list[str]:
    put_time = format_when if is_wide else format_day
    if is_wide:
        needing = [name_source(source, names) for source in verdict.referenced_by]
    else:
        # VM names are short and familiar.
        needing = [names.get(source, source) for source in verdict.referenced_by]
    holders = [*needing, *(holder.repository for holder in verdict.held_by)]
    last_use = "in use" if verdict.reason in _IN_USE else put_time(verdict.unused_since_ns)
    # A timer that the next sweep stops never expires.
    due = "-" if verdict.action is Action.CLEAR else put_time(verdict.expires_at_ns)
    row = [
        verdict.repository,
        verdict.digest if is_wide else shorten_digest(verdict.digest),
        format_size(verdict.disk_bytes),
        last_use,
        due,
        verdict.reason.value,
        ",".join(holders) or "-",
        ",".join(verdict.tags) or "-",
    ]
    return [*row, verdict.status] if is_wide else row
