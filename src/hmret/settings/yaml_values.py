"""The values of our own keys in a YAML document, each with its line.

A complaint about a value is one line: `FILE:LINE: key: what was expected, got …`.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from hmret.model.errors import ConfigError
from hmret.model.values import frozen
from hmret.settings.source_location import SourceLocation, name_unknown, show
from hmret.settings.written_values import (
    COUNT,
    COUNT_EXPECTED,
    GO_BOOLEANS,
    MAPPINGS_EXPECTED,
    between_commas,
)
from hmret.settings.yaml_nodes import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    MERGE,
    NULL,
    STRING,
    Mapping,
    Node,
    Scalar,
    Sequence,
    compose,
    describe,
    has_tag,
)

__all__ = [
    "NodeValue",
    "find_values",
    "read_yaml",
]

_NUMBER = re.compile(r"[-+]?[0-9]{1,18}(?:\.[0-9]{0,18})?")

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@frozen
class NodeValue:
    """A value in the file, not yet of any type; each call raises ConfigError where it is of another one."""

    file: str
    key: str
    node: Node

    @property
    def place(self) -> SourceLocation:
        """Where the value stands, which for an alias is where its anchor does."""
        return SourceLocation(f"{self.file}:{self.node.line}: {self.key}")

    def boolean(self) -> bool:
        match self.node:
            # Only these spellings, unquoted, are read alike by every version of YAML.
            case Scalar(tag=tag, text=text, plain=True) if tag == BOOLEAN and text in _BOOLEANS:
                return _BOOLEANS[text]
        raise self._unexpected("true or false")

    def weak_boolean(self) -> bool:
        """Take what hypeman's loader takes for one: the texts of Go's strconv.ParseBool, nothing for false, and numbers."""
        match self.node:
            case Scalar(tag=tag, text="") if tag == STRING:
                return False
            case Scalar(tag=tag, text=text) if tag == STRING and text in GO_BOOLEANS:
                return GO_BOOLEANS[text]
            case Scalar(tag=tag, text=text, plain=True) if tag in (INTEGER, FLOAT) and _NUMBER.fullmatch(
                text
            ):
                return float(text) != 0
        return self.boolean()

    def count(self) -> int:
        match self.node:
            case Scalar(tag=tag, text=text, plain=True) if tag == INTEGER and COUNT.fullmatch(text):
                return int(text)
        raise self._unexpected(COUNT_EXPECTED)

    def text(self, expected: str) -> str:
        match self.node:
            case Scalar(tag=tag, text=text) if tag == STRING:
                return text
        raise self._unexpected(expected)

    def number(self, expected: str) -> str:
        """Give a text that holds a number and a unit, or the digits of a plain whole number."""
        match self.node:
            case Scalar(tag=tag, text=text, plain=True) if tag == INTEGER and COUNT.fullmatch(text):
                return text
        return self.text(expected)

    def duration(self, expected: str) -> str:
        """Give a text, or a plain 0, which needs no unit."""
        match self.node:
            case Scalar(tag=tag, text="0", plain=True) if tag == INTEGER:
                return "0"
        return self.text(expected)

    def texts(self, expected: str) -> list[tuple[SourceLocation, str]]:
        if not isinstance(self.node, Sequence):
            raise self._unexpected(f"a list, each element {expected}")
        elements = [NodeValue(self.file, self.key, node) for node in self.node.children]
        return [(element.place, element.text(expected)) for element in elements]

    def weak_texts(self, expected: str) -> list[tuple[SourceLocation, str]]:
        """Take what hypeman's loader takes for a list: one text with commas too."""
        match self.node:
            case Scalar(tag=tag, text=text) if tag == STRING:
                return between_commas(self.place, text, expected)
        return self.texts(expected)

    def mappings(
        self, each: str, names: Collection[str], narrowing: Collection[str] = ()
    ) -> list[tuple[SourceLocation, dict[str, "NodeValue"]]]:
        """Give the mappings of a list, each with its place, the values by name; those that are null are left out.

        Args:
            each: what an element is, which its place says with its number, from 1.
            names: the names that there may be.
            narrowing: those that may not be null, as that would widen what the others say.
        """
        if not isinstance(self.node, Sequence):
            raise self._unexpected(MAPPINGS_EXPECTED)
        elements = [
            NodeValue(self.file, f"{self.key}, {each} {number}", node)
            for number, node in enumerate(self.node.children, start=1)
        ]
        return [(element.place, element._fields(names, narrowing)) for element in elements]

    def _fields(self, names: Collection[str], narrowing: Collection[str]) -> dict[str, "NodeValue"]:
        prefix = f"{self.key}, "
        for key, value in self.pairs():
            if isinstance(key, Scalar) and key.text in narrowing and has_tag(value, NULL):
                place = SourceLocation(f"{self.file}:{key.line}: {prefix}{key.text}")
                raise place.error("expected a value, or no such key, got nothing")
        picked = _pick(self, prefix, names, strict=True)
        return {name: NodeValue(self.file, f"{prefix}{name}", node) for name, node in picked}

    def pairs(self) -> Iterable[tuple[Node, Node]]:
        if not isinstance(self.node, Mapping):
            raise self._unexpected("a mapping of keys to values")
        return self.node.pairs()

    def _unexpected(self, expected: str) -> ConfigError:
        return self.place.error(f"expected {expected}, got {describe(self.node)}")


def read_yaml(file: str, text: str, key: str) -> NodeValue | None:
    """Read the one document of a YAML text as a value; None where it is empty or null.

    Args:
        file: the file in which the text stands, or what else holds it.
        text: the document.
        key: what problems with the value as a whole are told of.

    Raises:
        ConfigError: see `compose`.
    """
    root = compose(file, text)
    return None if root is None else NodeValue(file, key, root)


def find_values(root: NodeValue, keys: Collection[str], sections: Collection[str]) -> dict[str, NodeValue]:
    """Collect the values that a file gives to dotted keys; one that is null, or below a null, is not given.

    In `sections`, dotted as well, every key must be among `keys`. In the mappings on the way to them any other
    key is somebody else's.

    Raises:
        ConfigError: a key is given twice or is unknown, or a mapping on the way is something else.
    """
    found: dict[str, NodeValue] = {}
    pending = [("", root)]
    while pending:
        prefix, mapping = pending.pop()
        strict = prefix.rstrip(".") in sections
        names = list(
            dict.fromkeys(key[len(prefix) :].split(".")[0] for key in keys if key.startswith(prefix))
        )
        for name, node in _pick(mapping, prefix, names, strict=strict):
            value = NodeValue(mapping.file, f"{prefix}{name}", node)
            if value.key in keys:
                found[value.key] = value
            else:
                pending.append((f"{prefix}{name}.", value))
    return found


def _pick(
    mapping: NodeValue, prefix: str, names: Collection[str], *, strict: bool
) -> Iterator[tuple[str, Node]]:
    lines: dict[str, int] = {}
    for key, value in mapping.pairs():
        name = key.text if isinstance(key, Scalar) else describe(key)
        place = SourceLocation(f"{mapping.file}:{key.line}: {prefix}{show(name)}")
        if name in lines:
            raise place.error(f"expected once, got it on line {lines[name]} and again on line {key.line}")
        if name in names:
            lines[name] = key.line
            if not has_tag(value, NULL):
                yield name, value
        elif strict:
            raise place.error(name_unknown(name, names))
        elif has_tag(key, MERGE):
            _refuse_merged(place, value, names)


def _refuse_merged(place: SourceLocation, value: Node, names: Collection[str]) -> None:
    """Refuse a merge that brings in a key of ours: skipped like the rest of the file, it would be lost."""
    pending, seen = [value], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Sequence):
            pending.extend(node.children)
        elif isinstance(node, Mapping):
            for key, merged in node.pairs():
                if has_tag(key, MERGE):
                    pending.append(merged)
                elif isinstance(key, Scalar) and key.text in names:
                    raise place.error(f"expected {key.text} to be written out, got it through a merge")
