"""The hours in which deletions may happen: edges, midnight, and the days on which clocks change."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from hmret.model.errors import ConfigError
from hmret.model.policy.window import DeletionWindow

BERLIN = "Europe/Berlin"


def refusal(**settings: Any) -> str:
    """Return the message with which a DeletionWindow is refused."""
    with pytest.raises(ConfigError) as refused:
        DeletionWindow(**settings)
    return str(refused.value)


def open_minutes(window: DeletionWindow, begin: datetime, hours: int) -> list[str]:
    """The stretches, in UTC, in which a window is open from a time on."""
    edges: list[str] = []
    was_open = False
    for minute in range(hours * 60 + 1):
        moment = begin + timedelta(minutes=minute)
        is_open = minute < hours * 60 and window.is_open(moment)
        if is_open != was_open:
            edges.append(f"{moment:%H:%M}")
            was_open = is_open
    return [f"{start}-{end}" for start, end in zip(edges[::2], edges[1::2], strict=True)]


def day(month: int, number: int, zone: str = "UTC") -> datetime:
    """Midnight of a day of 2026, as the clocks of a zone show it."""
    return datetime(2026, month, number, tzinfo=ZoneInfo(zone)).astimezone(UTC)


@pytest.mark.parametrize("hours", [(), ("00:00-24:00",), ("00:00-12:00", "12:00-24:00")])
def test_without_hours_and_with_all_of_them_it_is_always_open(hours: tuple[str, ...]) -> None:
    assert open_minutes(DeletionWindow(hours=hours), day(6, 1), 24) == ["00:00-00:00"]


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("01:59:59.999999", False),
        ("02:00:00", True),
        ("02:00:00.000001", True),
        ("04:59:59.999999", True),
        ("05:00:00", False),
    ],
)
def test_the_first_moment_of_a_span_is_in_it_and_its_end_is_not(moment: str, is_open: bool) -> None:
    now = datetime.fromisoformat(f"2026-06-01T{moment}+00:00")
    assert DeletionWindow(hours=("02:00-05:00",)).is_open(now) is is_open


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (["02:00-05:00"], ["02:00-05:00"]),
        (["22:00-05:00"], ["00:00-05:00", "22:00-00:00"]),
        (["22:00-24:00"], ["22:00-00:00"]),
        (["22:00-00:00"], ["22:00-00:00"]),
        (["00:00-00:01"], ["00:00-00:01"]),
        (["23:59-00:00"], ["23:59-00:00"]),
        (["05:01-05:00"], ["00:00-05:00", "05:01-00:00"]),
        (["12:00-13:00", "02:00-03:00"], ["02:00-03:00", "12:00-13:00"]),
        (["02:00-03:00", "03:00-04:00"], ["02:00-04:00"]),
        (["02:00-04:00", "03:00-05:00", "22:00-02:30"], ["00:00-05:00", "22:00-00:00"]),
    ],
)
def test_spans_go_over_midnight_touch_and_overlap(hours: list[str], expected: list[str]) -> None:
    assert open_minutes(DeletionWindow(hours=hours), day(6, 1), 24) == expected


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (day(1, 15, BERLIN), ["01:00-04:00"]),  # one hour ahead of UTC
        (day(7, 15, BERLIN), ["00:00-03:00"]),  # two
    ],
)
def test_the_clocks_of_the_zone_say_what_hour_it_is(begin: datetime, expected: list[str]) -> None:
    assert open_minutes(DeletionWindow(hours=("02:00-05:00",), time_zone=BERLIN), begin, 24) == expected


# On 29 March 2026 the clocks of Berlin go from 02:00 to 03:00, which is 01:00 in UTC; on 25 October from 03:00 back to
# 02:00, which is 01:00 in UTC too.


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("01:30-02:30", ["00:30-01:00"]),
        ("02:00-03:00", []),
        ("02:30-02:45", []),
        ("02:30-03:30", ["01:00-01:30"]),
        ("03:00-04:00", ["01:00-02:00"]),
        ("01:00-05:00", ["00:00-03:00"]),
        ("22:00-02:30", ["23:00-01:00", "20:00-22:00"]),
    ],
)
def test_an_hour_that_the_clocks_skip_has_no_window(hours: str, expected: list[str]) -> None:
    window = DeletionWindow(hours=(hours,), time_zone=BERLIN)
    assert open_minutes(window, day(3, 29, BERLIN), 23) == expected


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("01:30-02:30", ["23:30-00:30", "01:00-01:30"]),
        ("02:00-03:00", ["00:00-02:00"]),
        ("02:30-02:45", ["00:30-00:45", "01:30-01:45"]),
        ("02:30-03:30", ["00:30-01:00", "01:30-02:30"]),
        ("03:00-04:00", ["02:00-03:00"]),
        ("01:00-05:00", ["23:00-04:00"]),
        ("22:00-02:30", ["22:00-00:30", "01:00-01:30", "21:00-23:00"]),
    ],
)
def test_an_hour_that_the_clocks_show_twice_has_its_window_twice(hours: str, expected: list[str]) -> None:
    window = DeletionWindow(hours=(hours,), time_zone=BERLIN)
    assert open_minutes(window, day(10, 25, BERLIN), 25) == expected


def test_a_zone_with_minutes_in_its_offset_is_understood() -> None:
    window = DeletionWindow(hours=("02:00-05:00",), time_zone="Asia/Kathmandu")  # 5:45 ahead
    assert open_minutes(window, day(6, 1), 24) == ["20:15-23:15"]


def test_the_zone_of_the_time_that_is_asked_for_does_not_matter() -> None:
    window = DeletionWindow(hours=("02:00-05:00",), time_zone=BERLIN)
    moment = datetime(2026, 6, 1, 1, 30, tzinfo=UTC)
    assert window.is_open(moment)
    assert window.is_open(moment.astimezone(ZoneInfo("America/New_York")))


clocks = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the bounds


@given(begin=clocks, end=clocks, moment=moments, zone=st.sampled_from(["UTC", BERLIN, "America/New_York"]))
def test_a_span_and_its_reverse_share_the_day_between_them(
    begin: str, end: str, moment: datetime, zone: str
) -> None:
    if begin == end:
        return
    there = DeletionWindow(hours=(f"{begin}-{end}",), time_zone=zone)
    back = DeletionWindow(hours=(f"{end}-{begin}",), time_zone=zone)
    assert there.is_open(moment) is not back.is_open(moment)


@given(begin=clocks, end=clocks, moment=moments)
def test_a_window_is_open_when_the_clock_shows_a_time_in_it(begin: str, end: str, moment: datetime) -> None:
    if begin == end:
        return
    shown = f"{moment.astimezone(ZoneInfo(BERLIN)):%H:%M}"
    inside = begin <= shown < end if begin < end else not end <= shown < begin
    assert DeletionWindow(hours=(f"{begin}-{end}",), time_zone=BERLIN).is_open(moment) is inside


def test_windows_are_equal_by_what_was_said() -> None:
    window = DeletionWindow(hours=["02:00-05:00"], time_zone=BERLIN)
    assert window == DeletionWindow(hours=("02:00-05:00",), time_zone=BERLIN)
    assert window != DeletionWindow(hours=("02:00-05:00",))
    assert repr(window) == (
        "DeletionWindow(hours=('02:00-05:00',), time_zone='Europe/Berlin', yields_to_pressure=False)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00",
        "2:00-5:00",
        "02:00-5:00",
        "02-05",
        "02:00 - 05:00",
        "02:00-05:00\n",
        " 02:00-05:00",
        "02:00-05:60",
        "02:60-05:00",
        "24:00-05:00",
        "02:00-24:01",
        "02:00-25:00",
        "02:00:00-05:00:00",
        "\u0660\u0662:00-05:00",
        None,
        5,
        ("02:00", "05:00"),
    ],
)
def test_what_is_no_span_is_refused(text: Any) -> None:
    expected = f"hours: expected a span of a day such as 02:00-05:00, got {text!r}"
    assert refusal(hours=["02:00-05:00", text]) == expected


@pytest.mark.parametrize("text", ["00:00-00:00", "05:00-05:00"])
def test_a_span_that_ends_where_it_begins_is_refused(text: str) -> None:
    assert refusal(hours=[text]) == f"hours: expected a span that lasts, got {text!r}"


@pytest.mark.parametrize("value", ["02:00-05:00", None, 5])
def test_hours_that_are_no_list_are_refused(value: Any) -> None:
    assert refusal(hours=value) == f"hours: expected a list of spans such as 02:00-05:00, got {value!r}"


@pytest.mark.parametrize(
    "value",
    [
        "Berlin",
        "CEST",
        "Europe",
        "Europe/",
        "/Europe/Berlin",
        "../zoneinfo/UTC",
        "+02:00",
        "a\0b",
        "\udcff",
        "x" * 5000,
    ],
)
def test_a_time_zone_that_the_host_does_not_know_is_refused(value: str) -> None:
    assert refusal(time_zone=value) == (
        f"time_zone: expected a time zone that this host knows, such as Europe/Berlin, got {value!r}"
    )


@pytest.mark.parametrize("value", ["", None, 2, UTC])
def test_a_time_zone_that_is_no_name_is_refused(value: Any) -> None:
    assert refusal(time_zone=value) == f"time_zone: expected a time zone such as Europe/Berlin, got {value!r}"


def test_whether_it_yields_is_true_or_false() -> None:
    assert refusal(yields_to_pressure=1) == "yields_to_pressure: expected true or false, got 1"


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_the_ends_of_time_are_no_fault(zone: str) -> None:
    window = DeletionWindow(hours=["02:00-05:00"], time_zone=zone)
    for year in (1, 9999):
        for moment in (datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, tzinfo=UTC)):
            assert isinstance(window.is_open(moment), bool)
