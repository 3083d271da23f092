"""Values as their sources give them, before they are read: from a YAML document, a variable, an option or JSON.

An error about a value is one line: where it stands, what was expected, and what was found.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from enum import Enum, auto
from typing import Any

from hmret.model.errors import ConfigError
from hmret.model.values import frozen
from hmret.settings.source_location import SourceLocation, name_unknown, show

COUNT_END = 10**18
"""Numbers from here on are out of range, in every source."""
WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
"""A whole number as documents and variables write it."""
UNREADABLE = object()
"""The content of a scalar that no setting accepts."""


class Form(Enum):
    """How a value is written."""

    YAML = auto()
    VARIABLE = auto()
    """Always text."""
    OPTION = auto()
    """Typed, as JSON is; hypeman never sees it."""
    JSON = auto()


class MappingEntries(list["Node"]):
    """A mapping of a document: each key, followed by its value."""

    def pairs(self) -> list[tuple["Node", "Node"]]:
        return list(zip(self[::2], self[1::2], strict=True))


@frozen(eq=False, repr=False)
class Node:
    """A scalar, a list or a mapping."""

    content: object
    """None, a boolean, a number, a text, a list, `MappingEntries`, a typed mapping, or `UNREADABLE`."""
    shown: str
    """What messages call it."""
    text: str | None = None
    """How a scalar of a document, or a key, is written; None: it is neither."""
    line: int = 0
    merges: bool = False
    """Whether it is the key `<<`, which merges another mapping into this one."""


@frozen(eq=False, repr=False)
class GivenValue:
    """A value, and where it stands."""

    node: Node
    name: str
    """Its key, with its place within the value of that key; or the variable or the option."""
    form: Form
    file: str = ""
    """What holds the document that the node is part of; empty: it is part of none."""

    @property
    def place(self) -> SourceLocation:
        """Where the value stands, which for an alias is where its anchor does."""
        return self._place_of(self.node, self.name)

    @property
    def content(self) -> Any:
        return self.node.content

    def unexpected(self, expected: str) -> ConfigError:
        """Make the error that says what was expected, and what the value is instead."""
        return self.place.error(f"expected {expected}, got {self.node.shown}")

    def text(self, expected: str) -> str:
        """Return the value as a text; raises ConfigError where it is none."""
        if not isinstance(self.content, str):
            raise self.unexpected(expected)
        return self.content

    def elements(self, expected: str, each: str = "") -> "list[GivenValue]":
        """Return the elements of a list; raises ConfigError where the value is none.

        `each`: what an element is called, with its number from 1; empty: as the list is.
        """
        if not isinstance(self.content, list | tuple) or isinstance(self.content, MappingEntries):
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
        """Yield the values of the given keys of a mapping; a key whose value is null counts as absent.

        Args:
            names: the keys.
            prefix: what precedes each key in its name.
            strict: whether other keys are refused. Where they are not, a merge that brings in one of `names` is.
            required: keys that must not be null in a document, as their absence would widen a rule.

        Raises:
            ConfigError: the value is not a mapping, a key is given twice or is unknown, or one of `required` is null.
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
        """Return the keys and values of a mapping; raises ConfigError where the value is none."""
        match self.content:
            case MappingEntries() as entries:
                return entries.pairs()
            case Mapping() as mapping:
                return [(Node(name, "", str(name)), typed_node(value)) for name, value in mapping.items()]
        raise self.unexpected("a mapping of keys to values")

    def _place_of(self, node: Node, name: str) -> SourceLocation:
        return SourceLocation(f"{self.file}:{node.line}: {name}" if self.file else name)


def typed_node(content: object) -> Node:
    """Make a node of a typed value, as options and JSON have them."""
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
    """Refuse a merge that brings in one of our keys: merges are not followed, so it would be lost silently."""
    pending, seen = [value], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node.content, MappingEntries):
            for key, merged in node.content.pairs():
                if key.merges:
                    pending.append(merged)
                elif key.text in names:
                    raise place.error(f"expected {key.text} to be written out, got it through a merge")
        elif isinstance(node.content, list):
            pending.extend(node.content)
