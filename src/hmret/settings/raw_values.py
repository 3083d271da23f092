"""The values of settings as their sources have them, not yet of any kind: environment variables, and what is typed.

A value of the config file is a `yaml_values.NodeValue`.
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from hmret.model.durations import format_duration
from hmret.model.errors import ConfigError
from hmret.model.values import frozen
from hmret.settings.source_location import SourceLocation, name_unknown, show
from hmret.settings.written_values import (
    COUNT,
    COUNT_EXPECTED,
    MAPPINGS_EXPECTED,
    between_commas,
    parse_go_boolean,
)

if TYPE_CHECKING:
    from hmret.settings.yaml_values import NodeValue

__all__ = ["OptionValue", "TypedValue", "Value", "VariableValue", "check_unicode"]

_COUNT_END = 10**18


class Value(Protocol):
    """A value as its source has it; each call raises ConfigError where it is something else."""

    @property
    def place(self) -> SourceLocation: ...
    def boolean(self) -> bool: ...
    def weak_boolean(self) -> bool:
        """Give a boolean that may be written in any way that hypeman's loader takes."""
        ...

    def count(self) -> int: ...
    def text(self, expected: str) -> str: ...
    def number(self, expected: str) -> str:
        """Give a text that holds a number and a unit, or the digits of a whole number without one."""
        ...

    def duration(self, expected: str) -> str:
        """Give the text of a duration."""
        ...

    def texts(self, expected: str) -> list[tuple[SourceLocation, str]]: ...
    def weak_texts(self, expected: str) -> list[tuple[SourceLocation, str]]:
        """Give the elements of a list that may be one text with commas."""
        ...

    def mappings(
        self, each: str, names: Collection[str], narrowing: Collection[str] = ()
    ) -> Sequence[tuple[SourceLocation, Mapping[str, "Value"]]]:
        """Give the mappings of a list, each with its place, the values by name; those that are null are left out.

        Args:
            each: what an element is, which its place says with its number, from 1.
            names: the names that there may be.
            narrowing: those that may not be null where a person wrote them, as that would widen what the others say.
        """
        ...


def check_unicode(place: SourceLocation, text: str) -> str:
    """Refuse bytes of the environment that are no UTF-8: they arrive as lone surrogates, which no report could print."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise place.error(f"expected UTF-8, got {show(text)!r}")
    return text


@frozen
class VariableValue:
    """The text of an environment variable; one that is empty is not given. An empty list is written `[]`."""

    place: SourceLocation
    content: str

    def boolean(self) -> bool:
        found = parse_go_boolean(self.content)
        if found is None:
            raise self.place.error(f"expected true or false, got {show(self.content)!r}")
        return found

    weak_boolean = boolean

    def count(self) -> int:
        if COUNT.fullmatch(self.content) is None:
            raise self.place.error(f"expected {COUNT_EXPECTED}, got {show(self.content)!r}")
        return int(self.content)

    def text(self, expected: str) -> str:  # noqa: ARG002 - a variable is always a text
        return self.content

    number = duration = text

    def texts(self, expected: str) -> list[tuple[SourceLocation, str]]:
        if self.content.strip() == "[]":
            return []
        return between_commas(self.place, self.content, expected)

    weak_texts = texts

    def mappings(
        self, each: str, names: Collection[str], narrowing: Collection[str] = ()
    ) -> Sequence[tuple[SourceLocation, "Mapping[str, NodeValue]"]]:
        """Read the list as YAML."""
        from hmret.settings.yaml_values import read_yaml  # noqa: PLC0415 - few write YAML into a variable

        root = read_yaml(self.place.text, check_unicode(self.place, self.content), f"{each}s")
        if root is None:
            raise self.place.error(f"expected {MAPPINGS_EXPECTED}, got {show(self.content)!r}")
        return root.mappings(each, names, narrowing)


@frozen
class TypedValue:
    """A value that has a type already, as the command line and JSON have them."""

    place: SourceLocation
    content: object

    def boolean(self) -> bool:
        if not isinstance(self.content, bool):
            raise self._unexpected("true or false")
        return self.content

    weak_boolean = boolean

    def count(self) -> int:
        if isinstance(self.content, bool) or not isinstance(self.content, int):
            raise self._unexpected(COUNT_EXPECTED)
        if not 0 <= self.content < _COUNT_END:
            raise self.place.error(f"expected {COUNT_EXPECTED}, got one out of range")
        return self.content

    def text(self, expected: str) -> str:
        if not isinstance(self.content, str):
            raise self._unexpected(expected)
        return self.content

    def number(self, expected: str) -> str:
        match self.content:
            case int() if not isinstance(self.content, bool) and 0 <= self.content < _COUNT_END:
                return str(self.content)
        return self.text(expected)

    def duration(self, expected: str) -> str:
        """Take a text, or a number of seconds, rounded to a microsecond."""
        match self.content:
            case int() | float() if not isinstance(self.content, bool) and _is_shown(self.content):
                return format_duration(round(Fraction(self.content) * 1_000_000) * 1000)
        return self.text(expected)

    def texts(self, expected: str) -> list[tuple[SourceLocation, str]]:
        if not isinstance(self.content, list | tuple):
            raise self._unexpected(f"a list, each element {expected}")
        elements = [TypedValue(self.place, element) for element in self.content]
        return [(self.place, element.text(expected)) for element in elements]

    weak_texts = texts

    def mappings(
        self,
        each: str,
        names: Collection[str],
        narrowing: Collection[str] = (),  # noqa: ARG002 - programs say null where people leave a key out
    ) -> Sequence[tuple[SourceLocation, Mapping[str, "TypedValue"]]]:
        if not isinstance(self.content, list | tuple):
            raise self._unexpected(MAPPINGS_EXPECTED)
        elements = [
            TypedValue(self.place.within(f"{each} {number}"), element)
            for number, element in enumerate(self.content, start=1)
        ]
        return [(element.place, element._fields(names)) for element in elements]

    def _fields(self, names: Collection[str]) -> Mapping[str, "TypedValue"]:
        if not isinstance(self.content, Mapping):
            raise self._unexpected("a mapping of keys to values")
        fields = {}
        for name, content in self.content.items():
            place = self.place.within(show(str(name)))
            if name not in names:
                raise place.error(name_unknown(str(name), names))
            if content is not None:
                fields[name] = TypedValue(place, content)
        return fields

    def _unexpected(self, expected: str) -> ConfigError:
        return self.place.error(f"expected {expected}, got {_describe(self.content)}")


@frozen
class OptionValue(TypedValue):
    """A value that was typed as an option of hmret's own."""


def _describe(content: object) -> str:
    match content:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[content]
        case int() | float():
            return str(content) if _is_shown(content) else "a number out of range"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return show(repr(content))


def _is_shown(number: float) -> bool:
    return abs(number) < _COUNT_END  # of NaN nothing is true
