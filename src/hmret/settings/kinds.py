"""The kinds of settings: how a value of each is read, and how it is shown in JSON."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from hmret.model.durations import go_duration, parse_duration, parse_span
from hmret.model.errors import ConfigError
from hmret.model.policy.patterns import compile_patterns
from hmret.model.policy.rules import Rule
from hmret.model.sizes import format_share, parse_share, parse_size
from hmret.model.values import frozen
from hmret.settings.raw_values import OptionValue, Value, check_unicode
from hmret.settings.source_location import SourceLocation, show

__all__ = [
    "AMOUNT",
    "BOOLEAN",
    "COUNT",
    "DURATION",
    "HYPEMAN_BOOLEAN",
    "HYPEMAN_DURATION",
    "HYPEMAN_PATTERNS",
    "PATTERNS",
    "RULES",
    "SHARE",
    "SIZE",
    "SPANS",
    "ZERO_DURATION",
    "SettingKind",
    "tell",
    "text_of",
]

_MAX_PROBLEM = 160  # characters
_DURATION = "a duration of at most 2562047h, such as 30d, 1w, 720h or 1h30m"
_HYPEMAN_DURATION = "a Go duration of at most 2562047h, such as 720h or 1h30m (days are not a unit)"
_SIZE = "a size of less than 10^18 bytes, such as 500GiB or 500GB (bytes need no unit)"
_AMOUNT = f"{_SIZE}, or a percentage of the disk such as 18%"
_SHARE = "a percentage from 0% to 100%, such as 85%"
_PATTERN = "a repository pattern"
_TAG = "a tag pattern (a number needs quotes)"
_SPAN = "a span of a day such as 02:00-05:00"

Check = Callable[[SourceLocation, object], Any]
"""Lets the class whose field a setting is check a value; raises ConfigError with the place."""


@frozen
class SettingKind:
    """What the values of a setting are."""

    read: Callable[[Value, Check], object]
    """Reads a value; raises ConfigError with its place."""
    show: Callable[[Any], object] = lambda value: value
    """Makes a value ready for JSON, in a form that can be read again; not asked about one that is unset."""


def text_of(expected: str) -> SettingKind:
    """Make the kind of a text; `expected` is what it must be."""
    return SettingKind(
        lambda value, check: check(value.place, check_unicode(value.place, value.text(expected)))
    )


def tell(place: SourceLocation, error: ConfigError, field: str = "") -> ConfigError:
    """Tell what the model found in a value with the value's place instead of the field's name."""
    return place.error(show(str(error).removeprefix(f"{field}: "), _MAX_PROBLEM))


def _read_boolean(value: Value, _check: Check) -> bool:
    return value.boolean()


def _read_hypeman_boolean(value: Value, _check: Check) -> bool:
    return value.weak_boolean()


def _read_count(value: Value, _check: Check) -> int:
    return value.count()


def _read_duration(value: Value, _check: Check) -> timedelta:
    return _duration(value.place, value.duration(_DURATION))


def _read_hypeman_duration(value: Value, _check: Check) -> timedelta:
    """Read a duration as hypeman reads it; one that is typed as an option, which hypeman never sees, may have days."""
    if isinstance(value, OptionValue):
        return _duration(value.place, value.duration(_DURATION))
    text = value.duration(_HYPEMAN_DURATION)
    try:
        parse_duration(text)
    except ValueError:
        written = f"; write {go_duration(text)}" if go_duration(text) else ""
        raise value.place.error(f"expected {_HYPEMAN_DURATION}, got {show(text)!r}{written}") from None
    return _duration(value.place, text)


def _read_zero_duration(value: Value, _check: Check) -> timedelta:
    return _duration(value.place, value.duration(_DURATION), zero=True)


def _duration(
    place: SourceLocation, text: str, expected: str = _DURATION, *, zero: bool = False
) -> timedelta:
    try:
        nanoseconds = parse_span(text)
    except ValueError:
        raise place.error(f"expected {expected}, got {show(text)!r}") from None
    if nanoseconds < 0 or (nanoseconds == 0 and not zero):
        least = "zero or more" if zero else "more than zero"
        raise place.error(f"expected a duration of {least}, got {show(text)!r}")
    return timedelta(microseconds=-(-nanoseconds // 1000))


def _read_size(value: Value, _check: Check) -> int:
    text = value.number(_SIZE)
    try:
        return parse_size(text)
    except ValueError:
        raise value.place.error(f"expected {_SIZE}, got {show(text)!r}") from None


def _read_amount(value: Value, _check: Check) -> float:
    text = value.number(_AMOUNT)
    try:
        return parse_share(text) if text.endswith("%") else parse_size(text)
    except ValueError:
        raise value.place.error(f"expected {_AMOUNT}, got {show(text)!r}") from None


def _show_amount(amount: Any) -> object:
    return format_share(amount) if isinstance(amount, float) else amount


def _read_share(value: Value, _check: Check) -> float:
    text = value.number(_SHARE)
    try:
        return 0.0 if text == "0" else parse_share(text)
    except ValueError:
        raise value.place.error(f"expected {_SHARE}, got {show(text)!r}") from None


def _read_patterns(value: Value, _check: Check) -> tuple[str, ...]:
    return _patterns(value.texts(_PATTERN), "repository")


def _read_hypeman_patterns(value: Value, _check: Check) -> tuple[str, ...]:
    return _patterns(value.weak_texts(_PATTERN), "repository")


def _patterns(texts: Iterable[tuple[SourceLocation, str]], of: str) -> tuple[str, ...]:
    patterns: list[str] = []
    for place, text in texts:
        checked = check_unicode(place, text)
        try:
            patterns.extend(compile_patterns([checked], of=of).texts)
        except ConfigError as error:
            raise tell(place, error) from None
    return tuple(patterns)


def _read_spans(value: Value, check: Check) -> tuple[str, ...]:
    spans: list[str] = []
    for place, text in value.texts(_SPAN):
        spans.extend(check(place, [text.strip()]))
    return tuple(spans)


def _read_rules(value: Value, _check: Check) -> tuple[Rule, ...]:
    return tuple(_rule(place, fields) for place, fields in value.mappings("rule", [*_RULE_FIELDS], ["tags"]))


def _rule(place: SourceLocation, fields: Mapping[str, Value]) -> Rule:
    values = {name: _RULE_FIELDS[name](value) for name, value in fields.items()}
    try:
        return Rule(**{"match": (), **values})
    except ConfigError as error:
        field, _, problem = str(error).partition(": ")
        if field in fields:
            place = fields[field].place
        elif field in _RULE_FIELDS:
            place = place.within(field)
        raise place.error(problem) from None


def _match(value: Value) -> tuple[str, ...]:
    return _patterns(value.texts(_PATTERN), "repository")


def _tags(value: Value) -> tuple[str, ...]:
    patterns = _patterns(value.texts(_TAG), "tag")
    if (
        not patterns
    ):  # such a rule would match nothing, where one without tags matches whatever tags there are
        raise value.place.error("expected at least one tag pattern, or no such key, got an empty list")
    return patterns


def _window(value: Value) -> timedelta | str:
    expected = f"never, or {_DURATION}"
    text = value.duration(expected)
    return text if text == "never" else _duration(value.place, text, expected)


_RULE_FIELDS: Mapping[str, Callable[[Value], Any]] = {
    "match": _match,
    "tags": _tags,
    "unused_for": _window,
    "keep_latest": lambda value: value.count(),
}


def _show_rule(rule: Rule) -> dict[str, object]:
    window = rule.unused_for
    return {
        "match": list(rule.match),
        "tags": list(rule.tags) or None,
        "unused_for": window.total_seconds() if isinstance(window, timedelta) else window,
        "keep_latest": rule.keep_latest,
    }


BOOLEAN = SettingKind(_read_boolean)
COUNT = SettingKind(_read_count)
DURATION = SettingKind(_read_duration, timedelta.total_seconds)
"""More than zero; seconds in JSON."""
HYPEMAN_DURATION = SettingKind(_read_hypeman_duration, timedelta.total_seconds)
"""More than zero, and in a config file or a variable as Go writes it."""
ZERO_DURATION = SettingKind(_read_zero_duration, timedelta.total_seconds)
"""Zero or more."""
SIZE = SettingKind(_read_size)
"""Bytes in JSON."""
AMOUNT = SettingKind(_read_amount, _show_amount)
"""Bytes in JSON, or a percentage as text."""
SHARE = SettingKind(_read_share, format_share)
"""A percentage as text in JSON."""
PATTERNS = SettingKind(_read_patterns, list)
HYPEMAN_BOOLEAN = SettingKind(_read_hypeman_boolean)
"""As hypeman's loader takes it: quoted or a number as well."""
HYPEMAN_PATTERNS = SettingKind(_read_hypeman_patterns, list)
"""As hypeman's loader takes them: as one text with commas as well."""
SPANS = SettingKind(_read_spans, list)
RULES = SettingKind(_read_rules, lambda rules: [_show_rule(rule) for rule in rules])
