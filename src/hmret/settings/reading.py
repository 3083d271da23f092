"""How the values of each kind of setting are read, whatever their source."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from fractions import Fraction
from typing import Any

from hmret.model.durations import format_duration, go_duration, parse_duration, parse_span
from hmret.model.errors import ConfigError
from hmret.model.policy.kinds import SPANS, TAG_PATTERNS, ZERO_DURATION
from hmret.model.policy.rules import Rule
from hmret.model.sizes import parse_share, parse_size
from hmret.settings.given_values import COUNT_END, WHOLE_NUMBER, Form, GivenValue
from hmret.settings.setting_table import RULE_SCHEMAS, SettingSchema
from hmret.settings.source_location import SourceLocation, show

_DURATION = "a duration of at most 2562047h, such as 30d, 1w, 720h or 1h30m"
_HYPEMAN_DURATION = "a Go duration of at most 2562047h, such as 720h or 1h30m (days are not a unit)"
_SIZE = "a size of less than 10^18 bytes, such as 500GiB or 500GB (bytes need no unit)"
_SHARE = "a percentage from 0% to 100%, such as 85%"

_GO_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False", ""), False
)
"""What Go's strconv.ParseBool accepts; the empty text is false."""

Reader = Callable[[GivenValue, SettingSchema], Any]

_RULE_SETTINGS = {setting.name: setting for setting in RULE_SCHEMAS}


def read_setting(setting: SettingSchema, value: GivenValue) -> Any:
    """Read a value of a setting; raises ConfigError with the value's place."""
    return _READERS.get(setting.kind.name, _read_text)(value, setting)


def _may_be_text(value: GivenValue, setting: SettingSchema) -> bool:
    """Return whether booleans and lists may be texts: in variables, and where hypeman's loader accepts them."""
    return value.form is Form.VARIABLE or (value.form is Form.YAML and setting.is_hypemans)


def _read_boolean(value: GivenValue, setting: SettingSchema) -> bool:
    content = value.content
    if _may_be_text(value, setting):
        match content:
            case str():
                content = _GO_BOOLEANS.get(content)
            case int() | float():
                content = content != 0
    if not isinstance(content, bool):
        raise value.unexpected("true or false")
    return content


def _is_count(content: object) -> bool:
    return isinstance(content, int) and not isinstance(content, bool) and 0 <= content < COUNT_END


def _read_count(value: GivenValue, setting: SettingSchema) -> Any:
    content = value.content
    if value.form is Form.VARIABLE and WHOLE_NUMBER.fullmatch(content):
        content = int(content)
    elif not _is_count(content):
        raise value.unexpected(setting.kind.expected or "a whole number, 0 or more, of at most 18 digits")
    return setting.check(value.place, int(content))


def _read_count_or_all(value: GivenValue, setting: SettingSchema) -> Any:
    return "all" if value.content == "all" else _read_count(value, setting)


def _read_duration(value: GivenValue, setting: SettingSchema) -> timedelta:
    # hypeman never sees an option, so days are allowed there.
    if not setting.is_hypemans or value.form is Form.OPTION:
        return _duration(value, _duration_text(value, _DURATION), setting)
    text = _duration_text(value, _HYPEMAN_DURATION)
    try:
        parse_duration(text)
    except ValueError:
        written = f"; write {go_duration(text)}" if go_duration(text) else ""
        raise value.place.error(f"expected {_HYPEMAN_DURATION}, got {show(text)!r}{written}") from None
    return _duration(value, text, setting)


def _read_window(value: GivenValue, setting: SettingSchema) -> timedelta | str:
    expected = f"never, or {_DURATION}"
    text = _duration_text(value, expected)
    return text if text == "never" else _duration(value, text, setting, expected)


def _duration_text(value: GivenValue, expected: str) -> str:
    """Return the text of a duration; a plain 0 needs no unit, and a typed number is seconds, rounded to microseconds."""
    content = value.content
    has_type = value.form in (Form.OPTION, Form.JSON) and isinstance(content, int | float)
    if has_type and not isinstance(content, bool) and abs(content) < COUNT_END:
        return format_duration(round(Fraction(content) * 1_000_000) * 1000)
    return "0" if _is_count(content) and content == 0 else value.text(expected)


def _duration(value: GivenValue, text: str, setting: SettingSchema, expected: str = _DURATION) -> timedelta:
    try:
        nanoseconds = parse_span(text)
    except ValueError:
        raise value.place.error(f"expected {expected}, got {show(text)!r}") from None
    may_be_zero = setting.kind is ZERO_DURATION
    if nanoseconds < 0 or (nanoseconds == 0 and not may_be_zero):
        least = "zero or more" if may_be_zero else "more than zero"
        raise value.place.error(f"expected a duration of {least}, got {show(text)!r}")
    read = timedelta(microseconds=-(-nanoseconds // 1000))
    if setting.kind.expected and setting.kind.problem_of(read) is not None:
        raise value.place.error(f"expected {setting.kind.expected}, got {show(text)!r}")
    return read


def _number(expected: str, parse: Callable[[str], float]) -> Reader:
    """Make a reader of numbers with a unit, and of whole numbers without one."""

    def read(value: GivenValue, _: SettingSchema) -> float:
        text = str(value.content) if _is_count(value.content) else value.text(expected)
        try:
            return parse(text)
        except ValueError:
            raise value.place.error(f"expected {expected}, got {show(text)!r}") from None

    return read


def _read_text(value: GivenValue, setting: SettingSchema) -> Any:
    text = value.text(setting.kind.expected)
    return setting.check(value.place, _check_unicode(value.place, text))


def _check_unicode(place: SourceLocation, text: str) -> str:
    """Refuse bytes that are not UTF-8: in variables they arrive as lone surrogates, which cannot be printed."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise place.error(f"expected UTF-8, got {show(text)!r}")
    return text


def _texts(expected: str) -> Reader:
    """Make a reader of lists of texts, which checks each at its own line."""

    def read(value: GivenValue, setting: SettingSchema) -> tuple[str, ...]:
        texts: list[str] = []
        for place, text in _elements(value, setting, expected):
            texts.extend(setting.check(place, [text.strip() if setting.kind is SPANS else text]))
            _check_unicode(place, text)
        # A rule without the key matches any tags; one with an empty list would match none.
        if setting.kind is TAG_PATTERNS and not texts:
            raise value.place.error("expected at least one tag pattern, or no such key, got an empty list")
        return tuple(texts)

    return read


def _elements(value: GivenValue, setting: SettingSchema, expected: str) -> list[tuple[SourceLocation, str]]:
    content = value.content
    if not (isinstance(content, str) and _may_be_text(value, setting)):
        return [(element.place, element.text(expected)) for element in value.elements(expected)]
    if value.form is Form.VARIABLE and content.strip() == "[]":
        return []
    texts = content.split(",") if content else []
    if not all(text.strip() for text in texts):
        raise value.place.error(f"expected {expected} between commas, got {show(content)!r}")
    return [(value.place, text) for text in texts]


def _read_rules(value: GivenValue, _: SettingSchema) -> tuple[Rule, ...]:
    if value.form is Form.VARIABLE:
        from hmret.settings.yaml_nodes import read_yaml  # noqa: PLC0415 - only YAML in a variable needs PyYAML

        document = read_yaml(value.name, _check_unicode(value.place, value.content), "rules")
        # An empty document is not a list: the variable itself is refused below.
        value = value if document is None else document
    return tuple(_rule(element) for element in value.elements("a mapping of keys to values", each="rule"))


def _rule(value: GivenValue) -> Rule:
    fields = value.fields([*_RULE_SETTINGS], prefix=f"{value.name}, ", strict=True, required=["tags"])
    given = {field.name.rpartition(", ")[2]: field for field in fields}
    values = {name: read_setting(_RULE_SETTINGS[name], field) for name, field in given.items()}
    try:
        return Rule(**{"match": (), **values})
    except ConfigError as error:
        name, _, problem = str(error).partition(": ")
        place = value.place.within(name) if name in _RULE_SETTINGS else value.place
        raise (given[name].place if name in given else place).error(problem) from None


_READERS: Mapping[str, Reader] = {
    "boolean": _read_boolean,
    "count": _read_count,
    "duration": _read_duration,
    "duration or never": _read_window,
    "size": _number(_SIZE, parse_size),
    "share": _number(_SHARE, lambda text: 0.0 if text == "0" else parse_share(text)),
    "size or share": _number(
        f"{_SIZE}, or a percentage of the disk such as 18%",
        lambda text: parse_share(text) if text.endswith("%") else parse_size(text),
    ),
    "repository patterns": _texts("a repository pattern"),
    "tag patterns": _texts("a tag pattern (a number needs quotes)"),
    "count or all": _read_count_or_all,
    "URLs": _texts("a URL such as http://10.0.0.1:2379"),
    "spans of a day": _texts("a span of a day such as 02:00-05:00"),
    "rules": _read_rules,
}
"""By the name of the kind; any other is a text."""
