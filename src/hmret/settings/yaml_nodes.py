"""A YAML document as a graph of nodes.

Nothing is constructed from it, so tags, merges and aliases that are somebody else's do not matter here.
"""

from collections.abc import Iterable
from typing import Any

import attrs

from hmret.model.values import frozen
from hmret.settings.source_location import SourceLocation, show

__all__ = [
    "BOOLEAN",
    "FLOAT",
    "INTEGER",
    "MERGE",
    "NULL",
    "STRING",
    "Mapping",
    "Node",
    "Scalar",
    "Sequence",
    "compose",
    "describe",
    "has_tag",
]

LOADERS = ("CSafeLoader", "SafeLoader")
"""By name; the first that PyYAML was built with is taken."""

STRING = "tag:yaml.org,2002:str"
BOOLEAN = "tag:yaml.org,2002:bool"
INTEGER = "tag:yaml.org,2002:int"
FLOAT = "tag:yaml.org,2002:float"
NULL = "tag:yaml.org,2002:null"
MERGE = "tag:yaml.org,2002:merge"

_MAX_DEPTH = 1000  # the scanners take time that is quadratic in the depth


@frozen(eq=False, repr=False)
class Scalar:
    """A text, number, boolean or null."""

    line: int
    tag: str
    text: str
    plain: bool
    """Neither quoted nor a block."""


@frozen(eq=False, repr=False)
class Sequence:
    """A list."""

    line: int
    children: list["Node"] = attrs.field(factory=list, init=False)


@frozen(eq=False, repr=False)
class Mapping:
    """Keys and their values."""

    line: int
    children: list["Node"] = attrs.field(factory=list, init=False)
    """Each key, and after it its value."""

    def pairs(self) -> Iterable[tuple["Node", "Node"]]:
        """Give each key with its value."""
        return zip(self.children[::2], self.children[1::2], strict=True)


Node = Scalar | Sequence | Mapping
"""What a document is made of."""


def describe(node: Node) -> str:
    """Say in a few words what a node is."""
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(plain=True):
            return show(node.text) or "nothing"
    return f'"{show(node.text)}"'


def has_tag(node: Node, tag: str) -> bool:
    """Tell whether a node is a scalar with a tag."""
    return isinstance(node, Scalar) and node.tag == tag


def compose(file: str, text: str) -> Node | None:
    """Read the one document of a YAML text; None where it is empty or null.

    The loader's own composer is not used: it recurses, and it refuses an anchor that is defined twice, which
    YAML 1.2 and Go allow.

    Args:
        file: the file in which the text stands, or what else holds it.
        text: the document.

    Raises:
        ConfigError: the text is not YAML, holds more than one document or is nested too deeply.
    """
    import yaml  # noqa: PLC0415 - where there is no file nobody waits for it

    loader = next(getattr(yaml, name) for name in LOADERS if hasattr(yaml, name))
    try:
        root = _compose(file, loader(text))
    except yaml.reader.ReaderError as error:
        char = chr(error.character)
        line = text.count("\n", 0, text.find(char)) + 1
        raise SourceLocation(f"{file}:{line}").error(f"expected printable text, got {char!r}") from None
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        hint = " (text that begins with * needs quotes)" if error.context == "while scanning an alias" else ""
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise SourceLocation(f"{file}:{line}").error(f"not valid YAML, {show(told, 160)}{hint}") from None
    except (ValueError, OverflowError) as error:  # the pure-Python loader, at an escape that is no character
        raise SourceLocation(file).error(f"not valid YAML, {error}") from None
    return None if root is None or has_tag(root, NULL) else root


def _compose(file: str, loader: Any) -> Node | None:
    import yaml  # noqa: PLC0415 - the same

    root: list[Node] = []
    open_nodes: list[list[Node]] = [root]
    anchors: dict[str, Node] = {}
    while (event := loader.get_event()) is not None:
        place = SourceLocation(f"{file}:{event.start_mark.line + 1}")
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
                if not isinstance(node, Scalar):
                    open_nodes.append(node.children)
                if len(open_nodes) > _MAX_DEPTH:
                    raise place.error(f"expected at most {_MAX_DEPTH} levels of nesting, got more")
            case yaml.CollectionEndEvent():
                open_nodes.pop()
    return root[0] if root else None


def _node(event: Any, loader: Any) -> Node:
    import yaml  # noqa: PLC0415 - the same

    line = event.start_mark.line + 1
    match event:
        case yaml.MappingStartEvent():
            return Mapping(line)
        case yaml.SequenceStartEvent():
            return Sequence(line)
    tag = event.tag
    if tag is None:
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    elif tag == "!":
        tag = STRING
    return Scalar(line, tag, event.value, plain=not event.style)
