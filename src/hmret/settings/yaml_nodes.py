"""A YAML document as nodes, each with its line.

No objects are constructed from it, so other programs' tags, merges and aliases do no harm. PyYAML takes long to load:
this module is imported only once there is a document to read.
"""

import re
from typing import Any

import yaml

from hmret.settings.given_values import UNREADABLE, WHOLE_NUMBER, Form, GivenValue, MappingEntries, Node
from hmret.settings.source_location import SourceLocation, show

LOADERS = ("CSafeLoader", "SafeLoader")
"""By name; the first that PyYAML was built with is taken."""

_TAG = "tag:yaml.org,2002:"
# Every version of YAML reads these spellings, unquoted, alike; of others they differ.
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}(?:\.[0-9]{0,18})?")

_MAX_DEPTH = 1000  # the scanners take time that is quadratic in the depth


def read_yaml(file: str, text: str, name: str) -> GivenValue | None:
    """Read the one document of a YAML text as a value; None where it is empty or null.

    The loader's own composer is not used: it recurses, and it refuses an anchor that is defined twice, which
    YAML 1.2 and Go allow.

    Args:
        file: the file that holds the text, or the variable.
        text: the document.
        name: what messages about the document as a whole call it.

    Raises:
        ConfigError: the text is not YAML, holds more than one document or is nested too deeply.
    """
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
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise SourceLocation(f"{file}:{line}").error(f"not valid YAML, {show(problem, 160)}{hint}") from None
    except (
        ValueError,
        OverflowError,
    ) as error:  # the pure-Python loader, at an escape that is not a character
        raise SourceLocation(file).error(f"not valid YAML, {error}") from None
    return None if root is None or root.content is None else GivenValue(root, name, Form.YAML, file)


def _compose(file: str, loader: Any) -> Node | None:
    root: list[Node] = []
    open_lists: list[list[Node]] = [root]
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
                open_lists[-1].append(anchors[event.anchor])
            case yaml.NodeEvent():
                node = _node(event, loader)
                open_lists[-1].append(node)
                if event.anchor is not None:
                    anchors[event.anchor] = node
                if isinstance(node.content, list):
                    open_lists.append(node.content)
                if len(open_lists) > _MAX_DEPTH:
                    raise place.error(f"expected at most {_MAX_DEPTH} levels of nesting, got more")
            case yaml.CollectionEndEvent():
                open_lists.pop()
    return root[0] if root else None


def _node(event: Any, loader: Any) -> Node:
    line = event.start_mark.line + 1
    match event:
        case yaml.MappingStartEvent():
            return Node(MappingEntries(), "a mapping", line=line)
        case yaml.SequenceStartEvent():
            return Node([], "a list", line=line)
    tag, text, plain = event.tag, event.value, not event.style
    if tag is None:
        tag = loader.resolve(yaml.ScalarNode, text, event.implicit)
    elif tag == "!":
        tag = f"{_TAG}str"
    kind = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
    shown = (show(text) or "nothing") if plain else f'"{show(text)}"'
    return Node(_content(kind, text, plain=plain), shown, text, line, kind == "merge")


def _content(kind: str, text: str, *, plain: bool) -> object:
    match kind:
        case "str":
            return text
        case "null":
            return None
        case "bool" if plain and text in _BOOLEANS:
            return _BOOLEANS[text]
        case "int" if plain and WHOLE_NUMBER.fullmatch(text):
            return int(text)
        case "int" | "float" if plain and _NUMBER.fullmatch(text):
            return float(text)
    return UNREADABLE
