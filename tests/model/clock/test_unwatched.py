"""Time that nobody watched: what it takes off, compared with counting each moment."""

from hypothesis import given, strategies as st

from hmret.model.clock.unwatched import MOST_GAPS, NO_GAPS, Gaps

HOUR = 3600
DAY = 24 * HOUR

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def unwatched_moments(found: list[tuple[int, int]]) -> set[int]:
    """List the moments that nobody watched, one by one."""
    return {moment for start, end in found for moment in range(start, end)}


@given(spans, st.integers(-5, 70))
def test_the_time_since_a_moment_that_nobody_watched_is_what_counting_it_gives(
    found: list[tuple[int, int]], since: int
) -> None:
    moments = unwatched_moments(found)
    assert Gaps.of(found).since(since) == sum(moment >= since for moment in moments)


@given(spans, st.integers(-5, 70), st.integers(-5, 70))
def test_what_began_earlier_never_counts_as_begun_later(
    found: list[tuple[int, int]], one: int, other: int
) -> None:
    gaps = Gaps.of(found)
    first, last = sorted((one, other))
    assert first <= gaps.moved(first) <= gaps.moved(last)


@given(spans, st.integers(-5, 140))
def test_the_latest_beginning_is_the_last_that_is_moved_no_further(
    found: list[tuple[int, int]], moment: int
) -> None:
    gaps = Gaps.of(found)
    latest = gaps.latest_moved_to(moment)
    assert gaps.moved(latest) <= moment < gaps.moved(latest + 1)


@given(spans, st.integers(-5, 70))
def test_what_lies_after_now_is_cut_off(found: list[tuple[int, int]], now: int) -> None:
    cut = Gaps.of(found).until(now)
    assert unwatched_moments(list(cut)) == {moment for moment in unwatched_moments(found) if moment < now}


def test_gaps_that_meet_or_overlap_become_one() -> None:
    assert Gaps.of([(10, 20), (5, 10), (15, 30), (40, 40)]).spans == ((5, 30),)
    assert NO_GAPS.with_gap(5, 5) == NO_GAPS


def nights(count: int, *, first: int = 0) -> list[tuple[int, int]]:
    """Make the gaps of a host that is switched off for sixteen hours of each day."""
    return [(day * DAY, day * DAY + 16 * HOUR) for day in range(first, first + count)]


def test_more_gaps_than_are_told_apart_take_off_as_much_as_all_of_them() -> None:
    found = nights(3000)
    gaps = NO_GAPS
    for start, end in found:
        gaps = gaps.with_gap(start, end)
    assert len(gaps.spans) == MOST_GAPS
    assert gaps.since(-DAY) == sum(end - start for start, end in found)


def test_a_moment_from_between_gaps_that_became_one_loses_no_less_than_it_should_and_little_more() -> None:
    found = nights(1000)
    exact, bounded = Gaps(tuple(found)), NO_GAPS
    for start, end in found:
        bounded = bounded.with_gap(start, end)
    for day in range(0, 1000, 7):
        since = day * DAY + 20 * HOUR
        age = 1000 * DAY - since
        assert exact.since(since) <= bounded.since(since) <= exact.since(since) + age // 5


def test_a_window_ends_however_many_gaps_there_are() -> None:
    gaps, began = NO_GAPS, 100 * DAY + 20 * HOUR
    for day, (start, end) in enumerate(nights(1500)):
        gaps = gaps.with_gap(start, end)
        if gaps.moved(began) + 90 * DAY <= (day + 1) * DAY:
            break
    # Eight hours a day are watched, so ninety days take two hundred and seventy, and a little more.
    assert 370 <= day <= 420
