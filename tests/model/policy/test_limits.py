"""How full the disk may get."""

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hmret.model.errors import ConfigError
from hmret.model.policy.limits import DiskLimits


def refusal(**settings: Any) -> str:
    """Return the message with which DiskLimits are refused."""
    with pytest.raises(ConfigError) as refused:
        DiskLimits(**settings)
    return str(refused.value)


def test_by_default_there_is_no_limit() -> None:
    limits = DiskLimits()
    assert not limits.is_set
    assert (limits.high_watermark, limits.low_watermark, limits.low, limits.max_used) == (0, None, 0, 0)
    assert limits.min_unused_for == timedelta(hours=1)


@pytest.mark.parametrize("settings", [{"high_watermark": 0.01}, {"high_watermark": 1}, {"max_used": 1}])
def test_either_limit_is_one(settings: dict[str, Any]) -> None:
    assert DiskLimits(**settings).is_set


@pytest.mark.parametrize(
    ("high", "low"),
    [(0.85, 0.8), (1.0, 0.95), (0.5, 0.45), (0.1, 0.05), (0.05, 0.0), (0.02, 0.0), (0.0, 0.0)],
)
def test_the_low_mark_is_five_points_below_the_high_one_where_none_is_given(high: float, low: float) -> None:
    assert DiskLimits(high_watermark=high).low == low


@pytest.mark.parametrize(("high", "low"), [(0.85, 0.85), (0.85, 0.0), (1.0, 1.0), (0.0, 0.0), (0.5, 0.1)])
def test_a_low_mark_up_to_the_high_one_is_in_force(high: float, low: float) -> None:
    assert DiskLimits(high_watermark=high, low_watermark=low).low == low


@given(high=st.floats(0, 1), low=st.none() | st.floats(0, 1))
def test_the_low_mark_in_force_is_never_above_the_high_one(high: float, low: float | None) -> None:
    below = None if low is None else low * high
    assert 0 <= DiskLimits(high_watermark=high, low_watermark=below).low <= high


def test_a_low_mark_above_the_high_one_is_refused() -> None:
    told = "low_watermark: must not be above high_watermark (80%), got 85.5%"
    assert refusal(high_watermark=0.8, low_watermark=0.855) == told


def test_a_low_mark_alone_is_refused() -> None:
    assert refusal(low_watermark=0.8) == "low_watermark: expected a high_watermark beside it, got none"
    assert refusal(low_watermark=0.8, max_used=5) == refusal(low_watermark=0.8)


@pytest.mark.parametrize("value", [-0.01, 1.01, 85, math.nan, math.inf, True, "85%", []])
@pytest.mark.parametrize("key", ["high_watermark", "low_watermark"])
def test_a_mark_that_is_no_share_is_refused(key: str, value: Any) -> None:
    assert (
        refusal(**{"high_watermark": 1.0, key: value})
        == f"{key}: expected a share from 0 to 1, got {value!r}"
    )


@pytest.mark.parametrize("value", [-1, True, None, "500GiB"])
def test_a_size_that_is_no_whole_number_from_0_is_refused(value: Any) -> None:
    told = f"max_used: expected a whole number, 0 or more, or a share from 0 to 1, got {value!r}"
    assert refusal(max_used=value) == told


@pytest.mark.parametrize("value", [-0.01, 1.01, 85.0, math.nan, math.inf])
def test_the_most_that_may_be_used_is_a_share_where_it_is_a_float(value: float) -> None:
    assert refusal(max_used=value) == f"max_used: expected a share from 0 to 1, got {value!r}"


@pytest.mark.parametrize(
    ("most", "total_bytes", "expected"),
    [
        (0, 1000, 0),
        (0.0, 1000, 0),
        (7, 1000, 7),
        (0.18, 1000, 180),
        (1.0, 1000, 1000),
        (0.001, 1, 1),
        (0.18, 0, 0),
    ],
)
def test_a_share_of_the_file_system_comes_to_bytes_and_only_of_an_unknown_one_to_no_limit(
    most: float, total_bytes: int, expected: int
) -> None:
    assert DiskLimits(max_used=most).max_used_bytes(total_bytes) == expected


def test_what_counts_is_blocks_or_apparent_sizes() -> None:
    assert DiskLimits().count == "blocks"
    assert refusal(count="inodes") == "count: expected blocks or apparent, got 'inodes'"


def test_how_long_an_image_must_have_been_unused_is_more_than_zero() -> None:
    assert refusal(min_unused_for=timedelta(0)) == "min_unused_for: must be more than zero, got 0:00:00"
    assert refusal(min_unused_for=3600) == "min_unused_for: expected a timedelta, got 3600"
