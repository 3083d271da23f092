"""All images that match a query as one file, encoded in threads while it is sent."""

import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from hmret.actors.threads import Threads
from hmret.api.http.streams import PieceStream, encode_images
from hmret.api.wire.convert import image_document
from hmret.api.wire.structs import Document, ImageDocument, cell_text
from hmret.model.plan.plan import Plan
from hmret.model.times import format_time, nanoseconds_of
from hmret.model.verdicts import Verdict

# Written at a time: one or two milliseconds.
_IMAGES = 500
_KINDS = {"json": "application/json", "csv": "text/csv; charset=utf-8"}
# How a formula begins; a spreadsheet would evaluate it. Names of VMs may be anything.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_stream(form: str, plan: Plan, verdicts: Iterator[Verdict], threads: Threads) -> PieceStream:
    """Make the response with the images of a query, as JSON or CSV."""
    pieces = _csv(verdicts) if form == "csv" else _json(plan, verdicts)
    response = PieceStream(_KINDS[form], pieces, threads)
    name = f"hmret-images-{plan.at:%Y-%m-%dT%H%M%SZ}.{form}"
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    return response


def _json(plan: Plan, verdicts: Iterator[Verdict]) -> Iterator[bytes]:
    at = msgspec.json.encode(format_time(nanoseconds_of(plan.at)))
    yield b'{"at":' + at + b',"images":['
    yield from encode_images(verdicts)
    yield b"]}\n"


def _csv(verdicts: Iterator[Verdict]) -> Iterator[bytes]:
    """Write CSV (RFC 4180): elements of a list are separated by blanks, null is empty."""
    yield _lines([ImageDocument.__struct_fields__])
    while rows := [_row(image_document(one)) for one in islice(verdicts, _IMAGES)]:
        yield _lines(rows)


def _lines(rows: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def _row(document: Document) -> list[str]:
    return [safe_cell(cell_text(value)) for value in msgspec.structs.astuple(document)]


def safe_cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
