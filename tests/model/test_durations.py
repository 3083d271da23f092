"""Durations as Go writes and reads them."""

import pytest
from hypothesis import example, given, settings, strategies as st

from hmret.model.durations import format_duration, format_span, go_duration, parse_duration, parse_span

MICRO = "\u00b5"
MU = "\u03bc"
SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
MOST = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("0s", 0),
        ("-0s", 0),
        ("720h", 720 * HOUR),
        ("1h30m", HOUR + 30 * MINUTE),
        ("1.5h", HOUR + 30 * MINUTE),
        ("90s", 90 * SECOND),
        ("+5s", 5 * SECOND),
        ("-5s", -5 * SECOND),
        ("5.s", 5 * SECOND),
        (".5s", SECOND // 2),
        ("-.5s", -SECOND // 2),
        ("1.0s", SECOND),
        ("1.004s", 1_004_000_000),
        ("100.00100s", 100_001_000_000),
        ("10ns", 10),
        ("11us", 11_000),
        (f"12{MICRO}s", 12_000),
        (f"12{MU}s", 12_000),
        ("13ms", 13_000_000),
        ("1m1h1m", HOUR + 2 * MINUTE),
        ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14_425_000_000),
        ("0." + "0" * 400 + "1h", 0),
        ("0" * 5000 + "1h", HOUR),
        ("0." + "3" * 5000 + "h", 20 * MINUTE),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_duration_is_read(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1.9ns", 1),
        ("-1.9ns", -1),
        ("0.9ns0.9ns", 0),
        ("0.0000000000001h", 0),
        ("0.000000000001h", 3),
        ("0.3333333333333333333h", 20 * MINUTE),
        ("0.9223372036854775807h", 3_320_413_933_267),
        ("0.830103483285477580700h", 2_988_372_539_827),
        ("0.100000000000000000000h", 6 * MINUTE),
    ],
)
def test_a_fraction_is_cut_off_as_go_cuts_it(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "-",
        "--5s",
        "+-5s",
        "3",
        "1.5",
        "00",
        "0.0",
        "s",
        "m1",
        ".",
        "-.",
        ".s",
        "+.s",
        "1.2.3s",
        "1d",
        "30d",
        "1w",
        "1y",
        "1H",
        "1 h",
        "1h 30m",
        " 1h",
        "1h ",
        "1h\n",
        "1h-30m",
        "1e3s",
        "0x1s",
        "1_000s",
        "1,5s",
        "1h30",
        "\u0663h",
        "1\u212b",
        "inf",
        "nan",
    ],
)
def test_what_is_no_duration_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_duration(text)
    message = str(refused.value)
    assert message.startswith(f"not a duration: {text!r}; ")
    assert message.endswith("expected a Go duration such as 720h, 1h30m or 90s; days are not a unit")
    assert "\n" not in message


def test_the_longest_durations_are_read() -> None:
    assert parse_duration("9223372036854775807ns") == MOST
    assert parse_duration("9223372036.854775807s") == MOST
    assert parse_duration("2562047h47m16.854775807s") == MOST
    assert parse_duration("-2562047h47m16.854775808s") == -MOST - 1
    assert parse_duration("-9223372036854775808ns") == -MOST - 1
    assert parse_duration("-9223372036854775.808us") == -MOST - 1


@pytest.mark.parametrize(
    "text",
    [
        "9223372036854775808ns",
        "-9223372036854775809ns",
        "9223372036854775.808us",
        "9223372036854ms775us808ns",
        "-2562047h47m16.854775809s",
        "2562048h",
        "3000000h",
        "9223372036854775808ns9223372036854775808ns",
        "-9223372036854775808ns9223372036854775808ns",
        "9" * 30 + "ns",
    ],
)
def test_a_duration_that_64_bits_do_not_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration out of range: .* at most 2562047h"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9" * 10_000 + "h", "x" * 10_000, "1h" * 10_000 + "1"])
def test_a_huge_text_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration") as refused:
        parse_duration(text)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (999, "999ns"),
        (1_000, f"1{MICRO}s"),
        (1_100, f"1.1{MICRO}s"),
        (2_200_000, "2.2ms"),
        (1_000_000, "1ms"),
        (999_999_999, "999.999999ms"),
        (SECOND, "1s"),
        (1_500_000_000, "1.5s"),
        (3_300_000_001, "3.300000001s"),
        (MINUTE, "1m0s"),
        (4 * MINUTE + 5_001_000_000, "4m5.001s"),
        (HOUR, "1h0m0s"),
        (720 * HOUR, "720h0m0s"),
        (5 * HOUR + 6 * MINUTE + 7_001_000_000, "5h6m7.001s"),
        (-1, "-1ns"),
        (-90 * SECOND, "-1m30s"),
        (MOST, "2562047h47m16.854775807s"),
        (-MOST - 1, "-2562047h47m16.854775808s"),
    ],
)
def test_a_duration_is_written_as_go_writes_it(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.integers(-MOST - 1, MOST) | st.integers(-HOUR, HOUR))
@example(MOST)
@example(-MOST - 1)
def test_what_is_written_is_read_back_to_the_nanosecond(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(max_size=12) | st.text("0123456789.+-nuµmsh", max_size=12))
def test_any_text_is_read_or_refused_as_a_value_error(text: str) -> None:
    try:
        nanoseconds = parse_duration(text)
    except ValueError:
        return
    assert -MOST - 1 <= nanoseconds <= MOST


HOUR = 3600 * 10**9
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("text", "nanoseconds", "told", "go"),
    [
        ("30d", 30 * DAY, "30d", "720h"),
        ("1w", 7 * DAY, "7d", "168h"),
        ("1.5d", 36 * HOUR, "1d12h", "36h"),
        ("1w2d3h", 9 * DAY + 3 * HOUR, "9d3h", "219h"),
        ("1d30m5s", DAY + 1805 * 10**9, "1d30m5s", "24h30m5s"),
        ("-2d", -2 * DAY, "-2d", "-48h"),
        ("90s", 90 * 10**9, "1m30s", "1m30s"),
        ("1h10s", 3610 * 10**9, "1h10s", "1h0m10s"),
        ("10m", 600 * 10**9, "10m", "10m"),
        ("100ms", 10**8, "100ms", "100ms"),
        ("0", 0, "0s", "0s"),
        ("720h", 30 * DAY, "30d", "720h"),
    ],
)
def test_hmrets_own_durations_have_days_and_weeks(text: str, nanoseconds: int, told: str, go: str) -> None:
    assert parse_span(text) == nanoseconds
    assert format_span(nanoseconds) == told
    assert parse_span(told) == nanoseconds
    assert go_duration(text) == go
    assert parse_duration(go) == nanoseconds


@pytest.mark.parametrize("text", ["", "d", "3 d", "1D", "1mo", "1y", "d1"])
def test_what_is_no_duration_of_hmrets_own_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected one such as 30d, 1w, 720h, 1h30m or 90s"):
        parse_span(text)
    assert go_duration(text) == ""


def test_a_number_of_days_that_64_bits_do_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range"):
        parse_span("106752d")
    assert parse_span("106751d") == 106751 * DAY
    assert go_duration("106752d") == ""
