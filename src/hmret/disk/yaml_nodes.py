"""hypeman's config file as a graph of YAML nodes, from which only the values of our own keys are taken.

Nothing is constructed from the file, so tags, merges and aliases that are hypeman's own do not matter here.
Each value knows its line; a complaint about it is one line: `FILE:LINE: key: what was expected, got …`.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import attrs
import yaml

from hmret.model.errors import ConfigError

__all__ = [
    "COUNT",
    "COUNT_EXPECTED",
    "MAPPINGS_EXPECTED",
    "NodeValue",
    "Place",
    "compose",
    "find_values",
    "name_unknown",
    "show",
]

COUNT = re.compile(r"0|[1-9][0-9]{0,17}")
"""A whole number as every source of settings writes it."""
COUNT_EXPECTED = "a whole number, 0 or more, of at most 18 digits"
"""What messages call it."""
MAPPINGS_EXPECTED = "a list, each element a mapping of keys to values"
"""What messages call a list of mappings."""

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MAX_DEPTH = 1000  # the scanners take time that is quadratic in the depth
_STRING = "tag:yaml.org,2002:str"
_BOOLEAN = "tag:yaml.org,2002:bool"
_INTEGER = "tag:yaml.org,2002:int"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@attrs.frozen
class Place:
    """Where a value was read: a line of a file and its key, an environment variable or a flag."""

    text: str

    def within(self, name: str) -> "Place":
        """Name a part of the value that stands here."""
        return Place(f"{self.text}, {name}")

    def error(self, problem: str) -> ConfigError:
        """Tell a problem with the value as an error of exactly one line."""
        told = f"{self.text}: {problem}"
        return ConfigError("".join(char if char.isprintable() else ascii(char)[1:-1] for char in told))


def show(text: str, limit: int = 60) -> str:
    """Shorten a text that a message repeats to a number of characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def name_unknown(name: str, known: Collection[str]) -> str:
    """Tell that a name is unknown, which one it is most like, and which there are."""
    nearest = difflib.get_close_matches(show(name), known, n=1)
    suggestion = f"did you mean {nearest[0]}? " if nearest else ""
    return f"unknown, {suggestion}known are {', '.join(known)}"


@attrs.frozen(eq=False, repr=False)
class _Scalar:
    line: int
    tag: str
    text: str
    plain: bool
    """Neither quoted nor a block."""


@attrs.frozen(eq=False, repr=False)
class _Sequence:
    line: int
    children: list["_Node"] = attrs.field(factory=list, init=False)


@attrs.frozen(eq=False, repr=False)
class _Mapping:
    line: int
    children: list["_Node"] = attrs.field(factory=list, init=False)
    """Each key, and after it its value."""

    def pairs(self) -> Iterable[tuple["_Node", "_Node"]]:
        return zip(self.children[::2], self.children[1::2], strict=True)


_Node = _Scalar | _Sequence | _Mapping


def _describe(node: _Node) -> str:
    match node:
        case _Mapping():
            return "a mapping"
        case _Sequence():
            return "a list"
        case _Scalar(plain=True):
            return show(node.text) or "nothing"
    return f'"{show(node.text)}"'


def _has_tag(node: _Node, tag: str) -> bool:
    return isinstance(node, _Scalar) and node.tag == tag


def compose(file: str, text: str) -> "NodeValue | None":
    """Read the one document of a YAML file; None where it is empty or null.

    The loader's own composer is not used: it recurses, and it refuses an anchor that is defined twice, which
    YAML 1.2 and Go allow.

    Raises:
        ConfigError: the text is not YAML, holds more than one document or is nested too deeply.
    """
    try:
        root = _compose(file, LOADER(text))
    except yaml.reader.ReaderError as error:
        char = chr(error.character)
        line = text.count("\n", 0, text.find(char)) + 1
        raise Place(f"{file}:{line}").error(f"expected printable text, got {char!r}") from None
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        hint = " (text that begins with * needs quotes)" if error.context == "while scanning an alias" else ""
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise Place(f"{file}:{line}").error(f"not valid YAML, {show(told, 160)}{hint}") from None
    except (ValueError, OverflowError) as error:  # the pure-Python loader, at an escape that is no character
        raise Place(file).error(f"not valid YAML, {error}") from None
    return None if root is None or _has_tag(root, _NULL) else NodeValue(file, "the file", root)


def _compose(file: str, loader: Any) -> _Node | None:
    root: list[_Node] = []
    open_nodes: list[list[_Node]] = [root]
    anchors: dict[str, _Node] = {}
    while (event := loader.get_event()) is not None:
        place = Place(f"{file}:{event.start_mark.line + 1}")
        match event:
            case yaml.DocumentStartEvent() if root:
                raise place.error("expected one YAML document, got another one")
            case yaml.AliasEvent():
                if event.anchor not in anchors:
                    raise place.error(
                        f"expected an anchor &{show(str(event.anchor))} before its alias, got none "
                        "(text that begins with * needs quotes)"
                    )
                open_nodes[-1].append(anchors[event.anchor])
            case yaml.NodeEvent():
                node = _node(event, loader)
                open_nodes[-1].append(node)
                if event.anchor is not None:
                    anchors[event.anchor] = node
                if not isinstance(node, _Scalar):
                    open_nodes.append(node.children)
                if len(open_nodes) > _MAX_DEPTH:
                    raise place.error(f"expected at most {_MAX_DEPTH} levels of nesting, got more")
            case yaml.CollectionEndEvent():
                open_nodes.pop()
    return root[0] if root else None


def _node(event: Any, loader: Any) -> _Node:
    line = event.start_mark.line + 1
    match event:
        case yaml.MappingStartEvent():
            return _Mapping(line)
        case yaml.SequenceStartEvent():
            return _Sequence(line)
    tag = event.tag
    if tag is None:
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    elif tag == "!":
        tag = _STRING
    return _Scalar(line, tag, event.value, plain=not event.style)


@attrs.frozen
class NodeValue:
    """A value in the file, not yet of any type; each call raises ConfigError where it is of another one."""

    file: str
    key: str
    node: _Node

    @property
    def place(self) -> Place:
        """Where the value stands, which for an alias is where its anchor does."""
        return Place(f"{self.file}:{self.node.line}: {self.key}")

    def boolean(self) -> bool:
        match self.node:
            # Only these spellings, unquoted, are read alike by every version of YAML.
            case _Scalar(tag=tag, text=text, plain=True) if tag == _BOOLEAN and text in _BOOLEANS:
                return _BOOLEANS[text]
        raise self._unexpected("true or false")

    def count(self) -> int:
        match self.node:
            case _Scalar(tag=tag, text=text, plain=True) if tag == _INTEGER and COUNT.fullmatch(text):
                return int(text)
        raise self._unexpected(COUNT_EXPECTED)

    def text(self, expected: str) -> str:
        match self.node:
            case _Scalar(tag=tag, text=text) if tag == _STRING:
                return text
        raise self._unexpected(expected)

    def number(self, expected: str) -> str:
        """Give a text that holds a number and a unit, or the digits of a plain whole number."""
        match self.node:
            case _Scalar(tag=tag, text=text, plain=True) if tag == _INTEGER and COUNT.fullmatch(text):
                return text
        return self.text(expected)

    def duration(self, expected: str) -> str:
        """Give a text, or a plain 0, which needs no unit."""
        match self.node:
            case _Scalar(tag=tag, text="0", plain=True) if tag == _INTEGER:
                return "0"
        return self.text(expected)

    def texts(self, expected: str) -> list[tuple[Place, str]]:
        if not isinstance(self.node, _Sequence):
            raise self._unexpected(f"a list, each element {expected}")
        elements = [NodeValue(self.file, self.key, node) for node in self.node.children]
        return [(element.place, element.text(expected)) for element in elements]

    def mappings(self, each: str, names: Collection[str]) -> list[tuple[Place, dict[str, "NodeValue"]]]:
        """Give the mappings of a list, each with its place, the values by name; those that are null are left out.

        Args:
            each: what an element is, which its place says with its number, from 1.
            names: the names that there may be.
        """
        if not isinstance(self.node, _Sequence):
            raise self._unexpected(MAPPINGS_EXPECTED)
        elements = [
            NodeValue(self.file, f"{self.key}, {each} {number}", node)
            for number, node in enumerate(self.node.children, start=1)
        ]
        return [(element.place, element._fields(names)) for element in elements]

    def _fields(self, names: Collection[str]) -> dict[str, "NodeValue"]:
        prefix = f"{self.key}, "
        picked = _pick(self, prefix, names, strict=True)
        return {name: NodeValue(self.file, f"{prefix}{name}", node) for name, node in picked}

    def pairs(self) -> Iterable[tuple[_Node, _Node]]:
        if not isinstance(self.node, _Mapping):
            raise self._unexpected("a mapping of keys to values")
        return self.node.pairs()

    def _unexpected(self, expected: str) -> ConfigError:
        return self.place.error(f"expected {expected}, got {_describe(self.node)}")


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
) -> Iterator[tuple[str, _Node]]:
    lines: dict[str, int] = {}
    for key, value in mapping.pairs():
        name = key.text if isinstance(key, _Scalar) else _describe(key)
        place = Place(f"{mapping.file}:{key.line}: {prefix}{show(name)}")
        if name in lines:
            raise place.error(f"expected once, got it on line {lines[name]} and again on line {key.line}")
        if name in names:
            lines[name] = key.line
            if not _has_tag(value, _NULL):
                yield name, value
        elif strict:
            raise place.error(name_unknown(name, names))
        elif _has_tag(key, _MERGE):
            _refuse_merged(place, value, names)


def _refuse_merged(place: Place, value: _Node, names: Collection[str]) -> None:
    """Refuse a merge that brings in a key of ours: skipped like the rest of the file, it would be lost."""
    pending, seen = [value], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, _Sequence):
            pending.extend(node.children)
        elif isinstance(node, _Mapping):
            for key, merged in node.pairs():
                if _has_tag(key, _MERGE):
                    pending.append(merged)
                elif isinstance(key, _Scalar) and key.text in names:
                    raise place.error(f"expected {key.text} to be written out, got it through a merge")
