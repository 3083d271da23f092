"""What was recorded of the outside, and how what is seen now is held against it.

What is seen is written as JSON over several lines, so that a difference is one of lines. Masked are values only, never
a field's name or the order of fields: those of the keys in `MASKED`, and what `Masks` says.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

__all__ = ["Masks", "answer_of", "hold", "shape_of"]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "outside"
AGAIN = "HMRET_RECORD_OUTSIDE"

MASKED = frozenset(
    (
        "available_bytes",
        "duration_seconds",
        "host",
        "id",
        "last_event_id",
        "listeners",
        "other_bytes",
        "process",
        "seconds",
        "total_bytes",
        "uptime_seconds",
        "used_bytes",
        "version",
        "waiting",
    )
)
"""Keys of which only the kind of the value is kept.

Measured times, random names, how full this host's disk is, and what waits for a moment.
"""

_WIDTH = 110

_FORMS: Mapping[str, Mapping[str, Any]] = {
    "compact": {"separators": (",", ":"), "ensure_ascii": False},
    "spaced": {"ensure_ascii": False},
    "spaced ascii": {},
    "indented": {"indent": 2, "ensure_ascii": False},
}


@attrs.frozen
class Masks:
    """Texts that differ from run to run, and what stands for them."""

    texts: Mapping[str, str] = attrs.field(factory=dict)
    """As they are: paths of temporary folders."""
    patterns: Mapping[str, str] = attrs.field(factory=dict)
    """As regular expressions."""
    keys: frozenset[str] = MASKED
    shares: bool = False
    """Whether repositories share content: which reason its bytes count for is then any of theirs."""

    def text(self, text: str) -> str:
        """Mask what is to be masked in a text."""
        for found, mask in self.texts.items():
            text = text.replace(found, mask)
        for pattern, mask in self.patterns.items():
            text = re.sub(pattern, mask, text)
        return text

    def value(self, value: Any, *more: str) -> Any:
        """Mask what is to be masked in a document, and the values of some more keys."""
        keys = self.keys.union(more)
        match value:
            case dict():
                told = {
                    self.text(key): _kind(one) if key in keys else self.value(one, *more)
                    for key, one in value.items()
                }
                # Names of what is on the disk, in the order in which its file system lists them.
                return {
                    key: dict(sorted(one.items())) if key == "vm_names" else one for key, one in told.items()
                }
            case list():
                return [self.value(one, *more) for one in (_summed(value) if self.shares else value)]
            case str():
                return self.text(value)
        return value


def _summed(rows: list[Any]) -> list[Any]:
    """Replace the bytes of each reason by those of all."""
    if not (rows and isinstance(rows[0], dict) and {"action", "reason", "bytes"} <= {*rows[0]}):
        return rows
    total = sum(row["bytes"] for row in rows)
    return [*({**row, "bytes": "<part>"} for row in rows), {"bytes of all": total}]


def _kind(value: Any) -> Any:
    """Say what kind of value it is; what tells that there is none stays."""
    match value:
        case None | "" | [] | {} | bool():
            return value
        case str():
            return "<text>"
        case int() | float():
            return "<number>"
        case dict():
            return {key: _kind(one) for key, one in value.items()}
    return "<more>"


def answer_of(text: str, masks: Masks, *more: str) -> dict[str, Any]:
    """Read a document, so that what is returned says each byte of it: what it says, and in which form."""
    try:
        document = json.loads(text)
    except ValueError:
        return {"text": masks.text(text).splitlines()}
    body = text.removesuffix("\n")
    end = " and a line feed" if body != text else ""
    forms = [name for name, form in _FORMS.items() if json.dumps(document, **form) == body]
    seen = {"form": f"{forms[0]}{end}" if forms else "another", "document": masks.value(document, *more)}
    return seen if forms else {**seen, "text": masks.text(text).splitlines()}


def shape_of(value: Any, masks: Masks) -> Any:
    """Return the keys of a document in their order, with the kinds of the values; lists have each shape once."""
    match value:
        case dict():
            return {masks.text(key): shape_of(one, masks) for key, one in value.items()}
        case list():
            return _union(shape_of(one, masks) for one in value)
        case None | bool():
            return json.dumps(value)
    return _kind(value) or "<text>"


def _union(shapes: Iterable[Any]) -> list[Any]:
    """Put shapes together that have the same keys in the same order."""
    found: list[Any] = []
    for shape in shapes:
        for number, other in enumerate(found):
            if _are_alike(shape, other):
                found[number] = _merged(shape, other)
                break
        else:
            found.append(shape)
    return sorted(found, key=json.dumps)


def _are_alike(shape: Any, other: Any) -> bool:
    if isinstance(shape, dict) and isinstance(other, dict):
        return [*shape] == [*other] and all(map(_are_alike, shape.values(), other.values()))
    return type(shape) is type(other)


def _merged(shape: Any, other: Any) -> Any:
    match shape:
        case dict():
            return {key: _merged(one, other[key]) for key, one in shape.items()}
        case list():
            return _union([*shape, *other])
    return " or ".join(sorted({*shape.split(" or "), *other.split(" or ")}))


def _lines(value: Any, *, indent: int = 0, head: str = "", end: str = "") -> Iterable[str]:
    """Put a document into lines: what fits into one stands in one."""
    pad = " " * indent
    whole = f"{pad}{head}{json.dumps(value, ensure_ascii=False)}{end}"
    if len(whole) <= _WIDTH or not isinstance(value, dict | list) or not value:
        yield whole
        return
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    yield f"{pad}{head}{opened}"
    parts = (
        [(f"{json.dumps(key, ensure_ascii=False)}: ", one) for key, one in value.items()]
        if isinstance(value, dict)
        else [("", one) for one in value]
    )
    for number, (name, one) in enumerate(parts, 1):
        yield from _lines(one, indent=indent + 1, head=name, end="," if number < len(parts) else "")
    yield f"{pad}{closed}{end}"


def hold(**seen: Mapping[str, Any]) -> None:
    """Hold what is seen against what is recorded under these names, where `_` stands for `-`.

    Where `HMRET_RECORD_OUTSIDE=1` is set, records it instead.
    """
    lines = [line for name, one in seen.items() for line in _difference(name.replace("_", "-"), one)]
    if lines:
        head = f"it is not what was recorded; where that is meant: {AGAIN}=1 pytest tests/outside"
        pytest.fail("\n".join([head, *lines]), pytrace=False)


def _difference(name: str, seen: Mapping[str, Any]) -> list[str]:
    place = FIXTURES / f"{name}.json"
    lines = [*_lines(seen)]
    if os.environ.get(AGAIN) == "1":
        if os.environ.get("CI"):
            pytest.fail(f"{AGAIN} is set, and so is CI: what was recorded is changed by people only")
        place.parent.mkdir(exist_ok=True)
        place.write_text("\n".join([*lines, ""]), encoding="utf-8")
        return []
    before = place.read_text(encoding="utf-8").splitlines() if place.exists() else []
    return [*difflib.unified_diff(before, lines, f"recorded/{name}", f"seen/{name}", lineterm="", n=6)]
