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

__all__ = ["COUNT", "COUNT_EXPECTED", "NodeValue", "Place", "compose_document", "find_values", "name_unknown", "show"]

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

COUNT = re.compile(r"0|[1-9][0-9]{0,17}")
"""A whole number as every source of settings writes it."""
COUNT_EXPECTED = "a whole number, 0 or more, of at most 18 digits"
"""What messages call it."""

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

    def error(self, problem: str) -> ConfigError:
        """Tell a problem with the value as an error of exactly one line."""
        return ConfigError(_escape(f"{self.text}: {problem}"))


def show(text: str, limit: int = 60) -> str:
    """Shorten a text that a message repeats to a number of characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def name_unknown(name: str, known: Collection[str]) -> str:
    """Tell that a name is unknown, which one it is most like, and which there are."""
    nearest = difflib.get_close_matches(show(name), known, n=1)
    suggestion = f"did you mean {nearest[0]}? " if nearest else ""
    return f"unknown, {suggestion}known are {', '.join(known)}"


def _escape(text: str) -> str:
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _describe(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if node.style:
        return f'"{show(node.value)}"'
    return show(node.value) or "nothing"


def compose_document(file: str, text: str) -> yaml.Node | None:
    """Read the one document of a YAML file; None where it is empty.

    The loader's own composer is not used: it recurses, and it refuses an anchor that is defined twice, which
    YAML 1.2 and Go allow.

    Raises:
        ConfigError: the text is not YAML, holds more than one document or is nested too deeply.
    """
    try:
        return _compose(file, LOADER(text))
    except yaml.reader.ReaderError as error:
        offset = text.find(chr(error.character))
        place = Place(f"{file}:{text.count(chr(10), 0, offset) + 1}")
        raise place.error(f"expected printable text, got {chr(error.character)!r}") from None
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        hint = " (text that begins with * needs quotes)" if error.context == "while scanning an alias" else ""
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise Place(f"{file}:{line}").error(f"not valid YAML, {told}{hint}") from None
    except (ValueError, OverflowError) as error:  # the pure-Python loader, at an escape that is no character
        raise Place(file).error(f"not valid YAML, {error}") from None


def _compose(file: str, loader: Any) -> yaml.Node | None:
    root: list[yaml.Node] = []
    open_nodes: list[tuple[yaml.CollectionNode, list[yaml.Node]]] = []
    children = root
    anchors: dict[str, yaml.Node] = {}
    while (event := loader.get_event()) is not None:
        place = Place(f"{file}:{event.start_mark.line + 1}")
        if isinstance(event, yaml.DocumentStartEvent) and root:
            raise place.error("expected one YAML document, got another one")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                what = f"expected an anchor &{show(event.anchor)} before its alias, got none"
                raise place.error(f"{what} (text that begins with * needs quotes)")
            children.append(anchors[event.anchor])
        elif isinstance(event, yaml.NodeEvent):
            node = _node(event, loader)
            children.append(node)
            if event.anchor is not None:
                anchors[event.anchor] = node
            if isinstance(node, yaml.CollectionNode):
                open_nodes.append((node, children))
                children = []
                if len(open_nodes) > _MAX_DEPTH:
                    raise place.error(f"expected at most {_MAX_DEPTH} levels of nesting, got more")
        elif isinstance(event, yaml.CollectionEndEvent):
            node, parent_children = open_nodes.pop()
            pairs = isinstance(node, yaml.MappingNode)
            node.value = list(zip(children[::2], children[1::2], strict=True)) if pairs else children
            children = parent_children
    return root[0] if root else None


def _node(event: yaml.NodeEvent, loader: Any) -> yaml.Node:
    marks = (event.start_mark, event.end_mark)
    if isinstance(event, yaml.MappingStartEvent):
        return yaml.MappingNode(event.tag or "", [], *marks)
    if isinstance(event, yaml.SequenceStartEvent):
        return yaml.SequenceNode(event.tag or "", [], *marks)
    assert isinstance(event, yaml.ScalarEvent)
    tag = event.tag
    if tag is None or tag == "!":
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    return yaml.ScalarNode(tag, event.value, *marks, style=event.style)


@attrs.frozen
class NodeValue:
    """A value in the file, not yet of any type; each call raises ConfigError where it is of another one."""

    file: str
    key: str
    node: yaml.Node

    @property
    def place(self) -> Place:
        """Where the value stands, which for an alias is where its anchor does."""
        return Place(f"{self.file}:{_line(self.node)}: {self.key}")

    def boolean(self) -> bool:
        # These spellings, unquoted, are what every version of YAML reads alike.
        if self.node.tag == _BOOLEAN and not self.node.style and self.node.value in _BOOLEANS:
            return _BOOLEANS[self.node.value]
        raise self._unexpected("true or false")

    def count(self) -> int:
        if self.node.tag == _INTEGER and not self.node.style and COUNT.fullmatch(self.node.value):
            return int(self.node.value)
        raise self._unexpected(COUNT_EXPECTED)

    def text(self, expected: str) -> str:
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag == _STRING:
            return str(self.node.value)
        raise self._unexpected(expected)

    def texts(self, expected: str) -> list[tuple[Place, str]]:
        if not isinstance(self.node, yaml.SequenceNode):
            raise self._unexpected(f"a list, each element {expected}")
        elements = [attrs.evolve(self, node=node) for node in self.node.value]
        return [(element.place, element.text(expected)) for element in elements]

    def entries(self) -> list[tuple[yaml.Node, yaml.Node]]:
        if not isinstance(self.node, yaml.MappingNode):
            raise self._unexpected("a mapping of keys to values")
        return self.node.value

    def _unexpected(self, expected: str) -> ConfigError:
        return self.place.error(f"expected {expected}, got {_describe(self.node)}")


def find_values(file: str, root: yaml.Node, keys: Collection[str], sections: Collection[str]) -> dict[str, NodeValue]:
    """Collect the values that a file gives to dotted keys; one that is null, or below a null, is not given.

    In `sections`, dotted as well, every key must be among `keys`, once. In the mappings on the way to them any other
    key is somebody else's.

    Raises:
        ConfigError: a key is given twice or is unknown, or a mapping on the way is something else.
    """
    found: dict[str, NodeValue] = {}
    pending = [("", NodeValue(file, "the file", root))]
    while pending:
        prefix, mapping = pending.pop()
        names = _names_below(prefix, keys)
        for name, value in _pick(mapping, prefix, names, strict=prefix.rstrip(".") in sections):
            if value.key in keys:
                found[value.key] = value
            else:
                pending.append((f"{prefix}{name}.", value))
    return found


def _names_below(prefix: str, keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key.removeprefix(prefix).split(".")[0] for key in keys if key.startswith(prefix)))


def _pick(mapping: NodeValue, prefix: str, names: list[str], *, strict: bool) -> Iterator[tuple[str, NodeValue]]:
    lines: dict[str, int] = {}
    for key_node, node in mapping.entries():
        name = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
        place = Place(f"{mapping.file}:{_line(key_node)}: {prefix}{show(name or _describe(key_node))}")
        if name not in names:
            if strict:
                raise place.error(name_unknown(name, names))
            if key_node.tag == _MERGE:
                _check_merged(place, node, names)
            continue
        if name in lines:
            raise place.error(f"expected it once, got it on line {lines[name]} and again on line {_line(key_node)}")
        lines[name] = _line(key_node)
        if node.tag != _NULL:
            yield name, NodeValue(mapping.file, f"{prefix}{name}", node)


def _check_merged(place: Place, node: yaml.Node, names: Collection[str]) -> None:
    """Refuse a merge that brings in a key of ours, which would be lost if it were skipped like hypeman's own."""
    pending, seen = [node], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            for key_node, value in node.value:
                if key_node.tag == _MERGE:
                    pending.append(value)
                elif key_node.value in names:
                    raise place.error(f"expected {key_node.value} to be written out, got it through a merge")


def compose_document(file: str, text: str) -> yaml.Node | None:
    """Read the one document of a YAML file; None where it is empty.

    The loader's own composer is not used: it recurses, and it refuses an anchor that is defined twice, which
    YAML 1.2 and Go allow.

    Raises:
        ConfigError: the text is not YAML, holds more than one document or is nested too deeply.
    """
    try:
        return _compose(file, LOADER(text))
    except yaml.reader.ReaderError as error:
        offset = text.find(chr(error.character))
        place = Place(f"{file}:{text.count(chr(10), 0, offset) + 1}")
        raise place.error(f"expected printable text, got {chr(error.character)!r}") from None
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        hint = " (text that begins with * needs quotes)" if error.context == "while scanning an alias" else ""
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise Place(f"{file}:{line}").error(f"not valid YAML, {told}{hint}") from None
    except (ValueError, OverflowError) as error:  # the pure-Python loader, at an escape that is no character
        raise Place(file).error(f"not valid YAML, {error}") from None


def _compose(file: str, loader: Any) -> yaml.Node | None:
    root: list[yaml.Node] = []
    open_nodes: list[tuple[yaml.CollectionNode, list[yaml.Node]]] = []
    children = root
    anchors: dict[str, yaml.Node] = {}
    while (event := loader.get_event()) is not None:
        place = Place(f"{file}:{event.start_mark.line + 1}")
        if isinstance(event, yaml.DocumentStartEvent) and root:
            raise place.error("expected one YAML document, got another one")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                what = f"expected an anchor &{show(event.anchor)} before its alias, got none"
                raise place.error(f"{what} (text that begins with * needs quotes)")
            children.append(anchors[event.anchor])
        elif isinstance(event, yaml.NodeEvent):
            node = _node(event, loader)
            children.append(node)
            if event.anchor is not None:
                anchors[event.anchor] = node
            if isinstance(node, yaml.CollectionNode):
                open_nodes.append((node, children))
                children = []
                if len(open_nodes) > _MAX_DEPTH:
                    raise place.error(f"expected at most {_MAX_DEPTH} levels of nesting, got more")
        elif isinstance(event, yaml.CollectionEndEvent):
            node, parent_children = open_nodes.pop()
            pairs = isinstance(node, yaml.MappingNode)
            node.value = list(zip(children[::2], children[1::2], strict=True)) if pairs else children
            children = parent_children
    return root[0] if root else None


def _node(event: yaml.NodeEvent, loader: Any) -> yaml.Node:
    marks = (event.start_mark, event.end_mark)
    if isinstance(event, yaml.MappingStartEvent):
        return yaml.MappingNode(event.tag or "", [], *marks)
    if isinstance(event, yaml.SequenceStartEvent):
        return yaml.SequenceNode(event.tag or "", [], *marks)
    assert isinstance(event, yaml.ScalarEvent)
    tag = event.tag
    if tag is None or tag == "!":
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    return yaml.ScalarNode(tag, event.value, *marks, style=event.style)
