"""Times as whole nanoseconds and as RFC 3339 text."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest
from hypothesis import example, given, settings, strategies as st

from hmret.model.times import (
    SECOND,
    datetime_of,
    format_time,
    nanoseconds_of,
    parse_time,
    timedelta_nanoseconds,
)

FIRST = -62_135_596_800 * SECOND
LAST = 253_402_300_799 * SECOND + 999_999_999
NOON = 1_774_526_400 * SECOND  # 2026-03-26T12:00:00Z


class Nowhere(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-03-26T12:00:00Z", NOON),
        ("2026-03-26T12:00:00.1Z", NOON + 100_000_000),
        ("2026-03-26T12:00:00.123456789Z", NOON + 123_456_789),
        ("2026-03-26T12:00:00.000000001Z", NOON + 1),
        ("2026-03-26T14:30:00+02:30", NOON),
        ("2026-03-26T11:00:00.25-01:00", NOON + 250_000_000),
        ("2026-03-26T12:00:00-00:00", NOON),
        ("2026-03-27T11:59:00+23:59", NOON),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("0001-01-01T00:00:00Z", FIRST),
        ("0001-01-01T00:00:00+01:00", FIRST - 3600 * SECOND),
        ("9999-12-31T23:59:59.999999999Z", LAST),
        ("9999-12-31T23:59:59.999999999-00:01", LAST + 60 * SECOND),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * SECOND),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


def test_digits_beyond_the_ninth_are_cut_off() -> None:
    assert parse_time("2026-03-26T12:00:00.1234567899Z") == NOON + 123_456_789


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-26",
        "2026-03-26T12:00:00,5Z",
        "2026-03-26t12:00:00z",
        "2026-03-26T12:00:00",
        "2026-03-26 12:00:00Z",
        "2026-03-26T12:00Z",
        "2026-03-26T12:00:00.Z",
        "2026-03-26T12:00:00ZZ",
        "2026-03-26T12:00:00.5ZZ",
        "2026-03-26T12:00:005Z",
        "2026-03-26T12:00:0Z",
        "2026-03-26T12:00Z00Z",
        "2026-03-26T12:00:00Z\n",
        " 2026-03-26T12:00:00Z",
        "2026-03-26T12:00:00+0100",
        "2026-03-26T12:00:00+24:00",
        "2026-03-26T12:00:00+01:60",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "\u0662\u0660\u0662\u0666-03-26T12:00:00Z",
    ],
)
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_time(text)
    assert str(refused.value) == f"not an RFC 3339 time: {text!r}"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (NOON, "2026-03-26T12:00:00Z"),
        (NOON + 1, "2026-03-26T12:00:00.000000001Z"),
        (NOON + 120_000_000, "2026-03-26T12:00:00.12Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (FIRST, "0001-01-01T00:00:00Z"),
        (FIRST + 365 * 86_400 * SECOND, "0002-01-01T00:00:00Z"),
        (LAST, "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_a_time_is_written_without_trailing_zeros(nanoseconds: int, text: str) -> None:
    assert format_time(nanoseconds) == text


def test_a_time_outside_the_years_of_the_format_is_written_as_the_nearest() -> None:
    assert format_time(FIRST - 1) == "0001-01-01T00:00:00Z"
    assert format_time(-(10**30)) == "0001-01-01T00:00:00Z"
    assert format_time(10**30) == "9999-12-31T23:59:59.999999999Z"


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(FIRST, LAST))
@example(FIRST)
@example(LAST)
def test_what_is_written_is_read_back_to_the_nanosecond(nanoseconds: int) -> None:
    assert parse_time(format_time(nanoseconds)) == nanoseconds


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.datetimes(timezones=st.just(UTC)))
@example(datetime.min.replace(tzinfo=UTC))
@example(datetime.max.replace(tzinfo=UTC))
def test_a_datetime_survives_the_way_through_nanoseconds(moment: datetime) -> None:
    assert datetime_of(nanoseconds_of(moment)) == moment


def test_a_datetime_is_cut_to_microseconds() -> None:
    assert datetime_of(NOON + 1_999) == datetime(2026, 3, 26, 12, 0, 0, 1, tzinfo=UTC)
    assert datetime_of(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def test_a_time_outside_the_range_of_datetime_becomes_the_nearest() -> None:
    assert datetime_of(-(10**30)) == datetime.min.replace(tzinfo=UTC)
    assert datetime_of(10**30) == datetime.max.replace(tzinfo=UTC)


def test_a_datetime_of_another_zone_is_the_same_moment() -> None:
    east = timezone(timedelta(hours=2))
    assert nanoseconds_of(datetime(2026, 3, 26, 14, tzinfo=east)) == NOON
    edge = timezone(timedelta(hours=23))
    assert nanoseconds_of(datetime.min.replace(tzinfo=edge)) == FIRST - 23 * 3600 * SECOND


@pytest.mark.parametrize("zone", [None, Nowhere()])
def test_a_datetime_without_an_offset_is_refused(zone: tzinfo | None) -> None:
    with pytest.raises(ValueError, match="a time needs a time zone"):
        nanoseconds_of(datetime(2026, 3, 26, tzinfo=zone))


@pytest.mark.parametrize(
    ("duration", "nanoseconds"),
    [
        (timedelta(0), 0),
        (timedelta(microseconds=1), 1_000),
        (timedelta(microseconds=-1), -1_000),
        (timedelta(days=30), 30 * 86_400 * SECOND),
        (timedelta.max, 86_399_999_999_999_999_999_000),
        (timedelta.min, -999_999_999 * 86_400 * SECOND),
    ],
)
def test_a_timedelta_becomes_nanoseconds_exactly(duration: timedelta, nanoseconds: int) -> None:
    assert timedelta_nanoseconds(duration) == nanoseconds
