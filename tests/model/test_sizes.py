"""Sizes and shares as an operator writes them."""

import math

import pytest
from hypothesis import example, given, settings, strategies as st

from hmret.model.sizes import format_exact_size, format_share, parse_share, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("0B", 0),
        ("0.000GiB", 0),
        ("1", 1),
        ("1500", 1500),
        ("007", 7),
        ("5B", 5),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("2MB", 2_000_000),
        ("2MiB", 2 << 20),
        ("500GB", 500 * 10**9),
        ("500GiB", 500 << 30),
        ("3TB", 3 * 10**12),
        ("3TiB", 3 << 40),
        ("1.5GiB", 3 << 29),
        ("0.1kB", 100),
        ("1.0001kB", 1000),
        ("1.9999B", 1),
        ("0.000000001GB", 1),
        ("0.3TB", 300_000_000_000),
        ("999999999999999999", 10**18 - 1),
        ("999999TB", 999_999 * 10**12),
        ("909494TiB", 909_494 << 40),
    ],
)
def test_a_size_is_read_to_the_byte_and_rounded_down(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "GB",
        "B",
        "-1",
        "+1",
        "-1GB",
        " 1GB",
        "1GB ",
        "1 GB",
        "1GB\n",
        "1G",
        "1Gi",
        "1gb",
        "1GIB",
        "1gib",
        "1kiB",
        "1mB",
        "1PB",
        "1PiB",
        "1.GB",
        ".5GB",
        "1.5.5GB",
        "1,5GB",
        "1_000",
        "1e9",
        "0x10",
        "\u0661GB",
        "85%",
        "1000000000000000000",
        "1000000TB",
        "909495TiB",
        "1.0000000001GB",
        "9" * 5000,
        "0.5",
        "0.9999B",
        "0.000000001kB",
    ],
)
def test_what_is_no_size_too_large_or_less_than_a_byte_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a size|too large|less than one byte"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0"),
        (1, "1"),
        (999, "999"),
        (1000, "1kB"),
        (1001, "1001"),
        (1024, "1KiB"),
        (128_000, "125KiB"),
        (500 * 10**9, "500GB"),
        (500 << 30, "500GiB"),
        (3 << 29, "1536MiB"),
        (1 << 40, "1TiB"),
        (10**15, "1000TB"),
        (10**18 - 1, "999999999999999999"),
    ],
)
def test_a_size_is_written_with_the_largest_unit_that_keeps_it_whole(size_bytes: int, text: str) -> None:
    assert format_exact_size(size_bytes) == text


@given(
    st.integers(0, 10**18 - 1)
    | st.builds(lambda n, power: n * 1024**power, st.integers(0, 999), st.integers(0, 4))
)
def test_a_size_that_is_written_reads_back(size_bytes: int) -> None:
    assert parse_size(format_exact_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("0%", 0.0),
        ("0.0%", 0.0),
        ("1%", 0.01),
        ("5%", 0.05),
        ("085%", 0.85),
        ("85%", 0.85),
        ("85.50%", 0.855),
        ("33.333333%", 0.33333333),
        ("100%", 1.0),
        ("100.000%", 1.0),
    ],
)
def test_a_share_is_read_from_a_percentage(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%",
        "85",
        "0",
        "0.85",
        "-1%",
        "+1%",
        "100.000001%",
        "100." + "0" * 329 + "1%",
        "101%",
        "1000%",
        "85 %",
        " 85%",
        "85%\n",
        "85.%",
        ".5%",
        "85,5%",
        "8_5%",
        "1e1%",
        "nan%",
        "\u0668\u0665%",
        "1." + "0" * 5000 + "%",
    ],
)
def test_what_is_no_percentage_up_to_100_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a percentage from 0% to 100%"):
        parse_share(text)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (0.0, "0%"),
        (-0.0, "0%"),
        (1, "100%"),
        (1.0, "100%"),
        (0.1, "10%"),
        (0.5, "50%"),
        (0.85, "85%"),
        (0.855, "85.5%"),
        (0.07, "7%"),
        (0.005, "0.5%"),
        (1e-5, "0.001%"),
        (1 / 3, "33.33333333333333%"),
        (0.1 + 0.2, "30.000000000000004%"),
    ],
)
def test_a_share_is_written_with_as_few_digits_as_it_needs(share: float, text: str) -> None:
    assert format_share(share) == text


@settings(max_examples=1000)
@given(st.floats(0, 1))
@example(5e-324)
@example(2.225073858507201e-308)
@example(math.nextafter(1, 0))
def test_a_share_that_is_written_reads_back(share: float) -> None:
    assert parse_share(format_share(share)) == share
