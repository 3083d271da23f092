"""Values as their sources give them, not yet of any kind: from a YAML document, a variable, an option or JSON.

A complaint about a value is one line: where it stands, what was expected, and what was got.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from enum import Enum, auto
from typing import Any

from hmret.model.errors import ConfigError
from hmret.model.values import frozen
from hmret.settings.source_location import SourceLocation, name_unknown, show

__all__ = ["COUNT_END", "UNREADABLE", "WHOLE_NUMBER", "Entries", "Form", "GivenValue", "Node", "typed_node"]

COUNT_END = 10**18
"""A number that is this large, or larger, is out of range in every source."""
WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
"""A whole number as documents and variables write it."""
UNREADABLE = object()
"""The content of a scalar of no kind that a setting may have."""


class Form(Enum):
    """How a value is written."""

    YAML = auto()
    VARIABLE = auto()
    """As text; a value that is empty is not given."""
    OPTION = auto()
    """With a type already."""
    JSON = auto()
    """With a type already."""


class Entries(list["Node"]):
    """The keys of a mapping of a document, each with its value behind it."""

    def pairs(self) -> list[tuple["Node", "Node"]]:
        return list(zip(self[::2], self[1::2], strict=True))


@frozen(eq=False, repr=False)
class Node:
    """A scalar, a list or a mapping."""

    content: object
    """None, a boolean, a number, a text, a list, `Entries`, a mapping with a type, or `UNREADABLE`."""
    shown: str
    """What messages say that it is."""
    text: str | None = None
    """Of a scalar of a document, and of a key: as it is written."""
    line: int = 0
    merges: bool = False
    """Whether it is the key `<<`, which brings in the keys of another mapping."""


@frozen(eq=False, repr=False)
class GivenValue:
    """A value, and where it stands."""

    node: Node
    name: str
    """Its key, and which part of the value of that key it is; else the variable or the option."""
    form: Form
    file: str = ""
    """What holds the document in which the node stands; empty: it stands in none."""

    @property
    def place(self) -> SourceLocation:
        """Where the value stands, which for an alias is where its anchor does."""
        return self._place_of(self.node, self.name)

    @property
    def content(self) -> Any:
        return self.node.content

    def unexpected(self, expected: str) -> ConfigError:
        """Make the error that says that the value is something else."""
        return self.place.error(f"expected {expected}, got {self.node.shown}")

    def text(self, expected: str) -> str:
        """Return the text that the value is; raises ConfigError where it is none."""
        if not isinstance(self.content, str):
            raise self.unexpected(expected)
        return self.content

    def elements(self, expected: str, each: str = "") -> "list[GivenValue]":
        """Return the elements of the list that the value is; `each`: what each is called, with its number from 1.

        Raises:
            ConfigError: it is no list.
        """
        if not isinstance(self.content, list | tuple) or isinstance(self.content, Entries):
            raise self.unexpected(f"a list, each element {expected}")
        return [
            GivenValue(
                element if isinstance(element, Node) else typed_node(element),
                f"{self.name}, {each} {number}" if each else self.name,
                self.form,
                self.file,
            )
            for number, element in enumerate(self.content, start=1)
        ]

    def fields(
        self, names: Collection[str], *, prefix: str, strict: bool, required: Collection[str] = ()
    ) -> "Iterator[GivenValue]":
        """Yield the values of some keys of the mapping that the value is; one that is null is not given.

        Args:
            names: the keys.
            prefix: what stands before each in its name.
            strict: whether there may be no other keys. Where there may, no merge may bring in one of `names`.
            required: keys that may not be null in a document, where that would widen what the others say.

        Raises:
            ConfigError: it is no mapping, a key is given twice or is unknown, or one of `required` is null.
        """
        lines: dict[str, int] = {}
        for key, node in self.pairs():
            name = key.shown if key.text is None else key.text
            place = self._place_of(key, f"{prefix}{show(name)}")
            if name in lines:
                raise place.error(f"expected once, got it on line {lines[name]} and again on line {key.line}")
            if name in names:
                lines[name] = key.line
                if node.content is not None:
                    yield GivenValue(node, f"{prefix}{name}", self.form, self.file)
                elif name in required and self.form is Form.YAML:
                    raise place.error("expected a value, or no such key, got nothing")
            elif strict:
                raise place.error(name_unknown(name, names))
            elif key.merges:
                _refuse_merged(place, node, names)

    def pairs(self) -> list[tuple[Node, Node]]:
        """Return each key of the mapping that the value is with its value; raises ConfigError where it is none."""
        match self.content:
            case Entries() as entries:
                return entries.pairs()
            case Mapping() as mapping:
                return [(Node(name, "", str(name)), typed_node(value)) for name, value in mapping.items()]
        raise self.unexpected("a mapping of keys to values")

    def _place_of(self, node: Node, name: str) -> SourceLocation:
        return SourceLocation(f"{self.file}:{node.line}: {name}" if self.file else name)


def typed_node(content: object) -> Node:
    """Make a node of a value that has a type already, as the command line and JSON have them."""
    return Node(content, _describe(content))


def _describe(content: object) -> str:
    match content:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[content]
        case int() | float():
            # Of NaN nothing is true.
            return str(content) if abs(content) < COUNT_END else "a number out of range"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return show(repr(content))


def _refuse_merged(place: SourceLocation, value: Node, names: Collection[str]) -> None:
    """Refuse a merge that brings in a key of ours: skipped like the rest of the file, it would be lost."""
    pending, seen = [value], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node.content, Entries):
            for key, merged in node.content.pairs():
                if key.merges:
                    pending.append(merged)
                elif key.text in names:
                    raise place.error(f"expected {key.text} to be written out, got it through a merge")
        elif isinstance(node.content, list):
            pending.extend(node.content)
