"""The kinds of settings with the check of each, and how a field is declared to be a setting.

Checks accept `object`: settings come from files and from embedders' code, which may never have been
type-checked.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy.patterns import compile_patterns
from hmret.model.values import frozen

_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):([0-9]{1,5})")
_LAST_PORT = 65535


@frozen
class Kind:
    """What the values of a setting are."""

    name: str
    """What a schema calls it."""
    problem_of: Callable[[object], str | None] = lambda _: None
    """Says what is wrong with a value; None: nothing, or the converter of the field says it."""
    unit: str = attrs.field(default="", kw_only=True)
    """What a bare number in JSON counts; empty: nothing."""
    expected: str = attrs.field(default="", kw_only=True)
    """What messages call a text."""
    choices: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """The values that there are; empty: they are not so few."""


@frozen(kw_only=True)
class Declaration:
    """What is declared of a field that is a setting, or holds a section of settings; found in its metadata."""

    kind: Kind
    key: str = ""
    """The dotted key, or the name of the section; empty: the name of the field, in the section of its class."""
    is_policy: bool = True
    """Whether it says what is deleted, and not how the engine goes about it."""
    needs_restart: bool = False
    """Whether a running engine keeps the value with which it started."""
    shown_before: str = ""
    """The field before which it is shown; empty: where it stands."""
    in_force: str = ""
    """The property that has the value in force where none is given; empty: the field itself."""


def declare(kind: Kind, **more: Any) -> Mapping[object, Declaration]:
    """Return the metadata of a field that is a setting and has a converter that checks it."""
    return {Declaration: Declaration(kind=kind, **more)}


def setting(kind: Kind, default: object, **more: Any) -> Any:
    """Make a field that is a setting, checked by its kind; where its default is None, it may be unset.

    The text below the field is the description of the setting in a schema, and speaks to operators as well.
    """
    check = _validator(kind)
    validator = check if default is not None else attrs.validators.optional(check)
    return attrs.field(default=default, validator=validator, metadata=declare(kind, **more))


def section_of(cls: type, section: str) -> Any:
    """Make a field that holds an instance of one of our own classes, whose fields are the settings of a section."""
    article = "an" if cls.__name__.startswith("A") else "a"
    kind = Kind("section", _expect(f"{article} {cls.__name__}", lambda value: isinstance(value, cls)))
    return attrs.field(factory=cls, validator=_validator(kind), metadata=declare(kind, key=section))


def _validator(kind: Kind) -> Callable[[object, "attrs.Attribute[Any]", object], None]:
    def check(_owner: object, field: "attrs.Attribute[Any]", value: object) -> None:
        problem = kind.problem_of(value)
        if problem is not None:
            raise ConfigError(f"{field.name}: {problem}")

    return check


def _expect(expected: str, accepts: Callable[[Any], bool]) -> Callable[[object], str | None]:
    return lambda value: None if accepts(value) else f"expected {expected}, got {value!r}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_address(text: str) -> bool:
    match = _LISTEN.fullmatch(text)
    return not text or (match is not None and int(match[1]) <= _LAST_PORT)


def _expect_duration(least: str, accepts: Callable[[timedelta], bool]) -> Callable[[object], str | None]:
    def problem_of(value: object) -> str | None:
        if not isinstance(value, timedelta):
            return f"expected a timedelta, got {value!r}"
        return None if accepts(value) else f"must be {least}, got {value}"

    return problem_of


def _amount_problem(value: object) -> str | None:
    if isinstance(value, float):
        return SHARE.problem_of(value)
    return _expect("a whole number, 0 or more, or a share from 0 to 1", _is_count)(value)


BOOLEAN = Kind("boolean", _expect("true or false", lambda value: isinstance(value, bool)))
COUNT = Kind("count", _expect("a whole number, 0 or more", _is_count))
DURATION = Kind("duration", _expect_duration("more than zero", timedelta(0).__lt__), unit="seconds")
ZERO_DURATION = Kind("duration", _expect_duration("zero or more", timedelta(0).__le__), unit="seconds")
SIZE = Kind("size", COUNT.problem_of, unit="bytes")
SHARE = Kind("share", _expect("a share from 0 to 1", _is_share))
AMOUNT = Kind("size or share", _amount_problem, unit="bytes")
"""A whole number of bytes, or a share as a float."""
PATTERNS = Kind("repository patterns")
TAG_PATTERNS = Kind("tag patterns")
RULES = Kind("rules")
SPANS = Kind("spans of a day")
URLS = Kind("URLs")
TIME_ZONE = Kind("time zone", expected="a time zone such as Europe/Berlin")
WINDOW = Kind("duration or never", lambda value: None if value == "never" else DURATION.problem_of(value))


def text_of(expected: str) -> Kind:
    """Make the kind of any text; `expected`: what messages call it."""
    return Kind("text", _expect("text", _is_text), expected=expected)


PATH = attrs.evolve(text_of("a path"), name="path")
LISTEN = Kind(
    "address",
    lambda value: _expect("text", _is_text)(value) or _expect("host:port", _is_address)(value),
    expected="host:port",
)


def choice_of(*choices: str) -> Kind:
    """Make the kind of a text that is one of the given ones."""
    expected = " or ".join(choices)
    return Kind(
        "choice", _expect(expected, lambda value: value in choices), expected=expected, choices=choices
    )


def count_up_to(most: int, *, or_word: str = "") -> Kind:
    """Make the kind of a whole number from 0 to `most`; `or_word`: a text that may stand in its place."""
    expected = (
        f"{or_word}, or a whole number from 0 to {most}" if or_word else f"a whole number from 0 to {most}"
    )
    return Kind(
        f"count or {or_word}" if or_word else "count",
        _expect(
            expected, lambda value: (or_word and value == or_word) or (_is_count(value) and value <= most)
        ),
        expected=expected,
    )


def duration_from(least: timedelta, words: str) -> Kind:
    """Make the kind of a duration of at least `least`, in `words`."""
    expected = f"a duration of {words} or more"
    return Kind(
        "duration", _expect_duration(f"{words} or more", least.__le__), unit="seconds", expected=expected
    )


def read_patterns(key: str, value: Iterable[str], *, of: str = "repository") -> tuple[str, ...]:
    """Trim the patterns of a key, and refuse a value that is not a list of valid patterns."""
    try:
        return compile_patterns(value, of=of).texts
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
