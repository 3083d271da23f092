"""The hours in which deletions may happen."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy.kinds import BOOLEAN, SPANS, TIME_ZONE, declare, setting
from hmret.model.values import frozen

_SPAN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)")
_DAY = 24 * 60


def _hours(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"hours: expected a list of spans such as 02:00-05:00, got {value!r}")
    texts = tuple(value)
    for text in texts:
        span = _span(text)
        if span is None:
            raise ConfigError(f"hours: expected a span of a day such as 02:00-05:00, got {text!r}")
        if span[0] == span[1]:
            raise ConfigError(f"hours: expected a span that lasts, got {text!r}")
    return texts


def _span(text: object) -> tuple[int, int] | None:
    """Read a span as minutes of the day; None where the text is not a span."""
    match = _SPAN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    begin = 60 * int(match[1]) + int(match[2])
    return begin, _DAY if match[3] is None else 60 * int(match[3]) + int(match[4])


def _time_zone(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"time_zone: expected a time zone such as Europe/Berlin, got {value!r}")
    try:
        _zone(value)
    except (OSError, ValueError, LookupError):
        raise ConfigError(
            f"time_zone: expected a time zone that this host knows, such as Europe/Berlin, got {value!r}"
        ) from None
    return value


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - a setting without a zone does not wait for it

    return ZoneInfo(name)


@frozen(kw_only=True)
class DeletionWindow:
    """The hours of the day in which images may be deleted; `hmret.window` in the config.

    Raises:
        ConfigError: a value is not usable.
    """

    hours: tuple[str, ...] = attrs.field(default=(), converter=_hours, metadata=declare(SPANS))
    """The spans of the day in which images may be deleted, as `02:00-05:00`, also over midnight. The end is not included;
    empty: at any hour.
    """
    time_zone: str = attrs.field(default="UTC", converter=_time_zone, metadata=declare(TIME_ZONE))
    """The time zone of these hours, by its name in the host's time zone database, or in the package `tzdata`. An hour
    that its clocks skip has no window, one that they show twice has it twice.
    """
    yields_to_pressure: bool = setting(BOOLEAN, False)
    """Whether images are deleted at any hour while a limit of the disk is exceeded."""
    _zone: tzinfo = attrs.field(init=False, eq=False, repr=False)
    _spans: tuple[tuple[int, int], ...] = attrs.field(init=False, eq=False, repr=False)

    @_zone.default
    def _load_zone(self) -> tzinfo:
        return _zone(self.time_zone)

    @_spans.default
    def _read_spans(self) -> tuple[tuple[int, int], ...]:
        return tuple(span for text in self.hours if (span := _span(text)) is not None)

    def is_open(self, moment: datetime) -> bool:
        """Return whether images may be deleted at a given time.

        The local time of the zone decides: an hour that its clocks skip has no window, one that they show
        twice has two.
        """
        if not self._spans:
            return True
        try:
            local = moment.astimezone(self._zone)
        except OverflowError:
            # At the very ends of the time range the local time cannot be computed.
            local = moment
        minute = 60 * local.hour + local.minute
        return any(
            begin <= minute < end if begin < end else minute >= begin or minute < end
            for begin, end in self._spans
        )
