"""Which images a command lists, in which order and format."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from hmret.api.wire.structs import Document, cell_text
from hmret.cli.display.columns import Column
from hmret.cli.display.words import action_of
from hmret.model.errors import ConfigError, InvalidReferenceError
from hmret.model.policy.patterns import compile_patterns
from hmret.model.references import parse_reference
from hmret.model.values import frozen
from hmret.model.verdicts import Reason, Verdict

Output = Literal["table", "wide", "name", "json", "csv"]
"""Output format of lists."""

Wanted = Literal["delete", "stop-timer", "start-timer", "keep", "clear", "mark", "none"]
Order = Literal["repository", "size", "unused", "expires", "action", "reason"]

_LAST = 1 << 64
_ELSEWHERE = Column(title="elsewhere", worth=5, is_right=True)
_RANKS: Mapping[str, int] = {"delete": 0, "stop timer": 1, "start timer": 2, "keep": 3}
_ORDERS: Mapping[str, Callable[[Verdict], Any]] = {
    "repository": lambda verdict: verdict.repository,
    "size": lambda verdict: -verdict.disk_bytes,
    "unused": lambda verdict: _LAST if verdict.unused_since_ns is None else verdict.unused_since_ns,
    "expires": lambda verdict: _LAST if verdict.expires_at_ns is None else verdict.expires_at_ns,
    "action": lambda verdict: _RANKS[action_of(verdict)],
    "reason": lambda verdict: verdict.reason.value,
}


@Parameter(name="*", negative=())
@frozen(kw_only=True)
class Shown:
    """The format of a command's list."""

    output: Annotated[
        Output,
        Parameter(
            name=("--output", "-o"),
            help="A table, a wide table with full digests, names only, JSON, or CSV with the fields of the JSON.",
        ),
    ] = "table"
    quiet: Annotated[
        bool,
        Parameter(
            name=("--quiet", "-q"), help="Print only repository@digest, one per line.", show_default=False
        ),
    ] = False

    def as_output(self, *, as_json: bool) -> Output:
        """Return the output format, with `--json` and `-q` taken into account; JSON wins."""
        if as_json:
            return "json"
        return "name" if self.quiet else self.output


TABLE = Shown()
"""The default format, a table."""


@Parameter(name="*", negative=())
@frozen(kw_only=True)
class ImageFilter:
    """Which images a command lists, and in which order."""

    reason: Annotated[
        list[Reason] | None,
        Parameter(help="Only images with this reason; repeatable.", json_list=False, negative=()),
    ] = None
    action: Annotated[
        list[Wanted] | None,
        Parameter(
            help="Only images with this action, named as in the table or as in the JSON; repeatable.",
            json_list=False,
            negative=(),
        ),
    ] = None
    repository: Annotated[
        str | None,
        Parameter(help="Only images of this repository, or of repositories that match this pattern."),
    ] = None
    sort: Annotated[
        Order | None,
        Parameter(help="Sort key; sizes are sorted largest first, times earliest first."),
    ] = None
    limit: Annotated[int | None, Parameter(help="List at most this many.")] = None

    def __attrs_post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit: expected a number of at least 1, got {self.limit}")

    @property
    def names_some(self) -> bool:
        """Whether the options select particular images."""
        return any(option is not None for option in (self.reason, self.action, self.repository))

    def choose(self, verdicts: Sequence[Verdict], usual_order: str = "repository") -> list[Verdict]:
        """Return the selected images in the requested order."""
        is_named = self._is_named()
        chosen = [
            verdict for verdict in verdicts if self._is_asked_for(verdict) and is_named(verdict.repository)
        ]
        key = _ORDERS[self.sort or usual_order]
        return sorted(chosen, key=lambda verdict: (key(verdict), verdict.repository, verdict.digest))

    def cut(self, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        """Return the first `limit` images."""
        return verdicts if self.limit is None else verdicts[: self.limit]

    def _is_asked_for(self, verdict: Verdict) -> bool:
        if self.reason is not None and verdict.reason not in self.reason:
            return False
        words = (action_of(verdict).replace(" ", "-"), verdict.action.value)
        return self.action is None or any(word in self.action for word in words)

    def _is_named(self) -> Callable[[str], bool]:
        text = self.repository
        if text is None:
            return lambda _name: True
        try:
            pattern = compile_patterns([text])
        except ConfigError as error:
            raise ConfigError(f"--repository: {str(error).partition(': ')[2] or error}") from None
        try:
            whole = parse_reference(text).repository
        except InvalidReferenceError:
            whole = text
        return lambda name: name == whole or pattern.matches(name)


EVERYTHING = ImageFilter()
"""No filter: all images."""


def beside_fleet(
    columns: Sequence[Column], rows: list[list[str]], verdicts: Sequence[Verdict]
) -> tuple[Sequence[Column], list[list[str]]]:
    """Add a column with the copies on other hosts to a table of images, where that is known of any."""
    if all(verdict.copies_elsewhere is None for verdict in verdicts):
        return columns, rows
    counts = ("-" if one.copies_elsewhere is None else str(one.copies_elsewhere) for one in verdicts)
    return (*columns, _ELSEWHERE), [[*row, count] for row, count in zip(rows, counts, strict=True)]


def named_lines(images: Sequence[Any]) -> str:
    """List images as one `repository@digest` a line; empty if there are none."""
    return "".join(f"{image.repository}@{image.digest}\n" for image in images)


def write_csv(kind: type[Document], documents: Iterable[Document]) -> str:
    """Format JSON objects of a type as CSV (RFC 4180), with a header of their fields.

    Elements of a list are separated by spaces; objects in lists are written as their values joined by colons;
    null is empty.
    """
    import csv  # noqa: PLC0415 - only needed for CSV

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(kind.__struct_fields__)
    writer.writerows(map(cell_text, msgspec.structs.astuple(document)) for document in documents)
    return text.getvalue()
