"""Patterns that can match no tag, and patterns that match whatever another one does."""

import pytest
from hypothesis import given, strategies as st

from hmret.model.policy.pattern_doubts import covers, why_never, why_never_tag
from hmret.model.policy.patterns import compile_patterns

REGULAR = "patterns are not regular expressions: only * and ? are special"
EACH = "each pattern is an element of the list"


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("^v.*", REGULAR),
        ("^v[0-9]+", REGULAR),
        ("v[12]", REGULAR),
        ("v1$", REGULAR),
        ("(a|b)", REGULAR),
        (r"v\d", REGULAR),
        (".*", REGULAR),
        ("{a,b}", EACH),
        ("v*, latest", EACH),
        ("!pr-*", "patterns cannot be negated: put a rule for the exception before the others"),
        ("sha256:*", "what stands behind the colon of a reference, and no digest, is a tag"),
        ("ghcr.io/acme/app:v1", "what stands behind the colon of a reference, and no digest, is a tag"),
    ],
)
def test_a_pattern_in_another_language_is_pointed_out_with_what_to_write(pattern: str, told: str) -> None:
    reason = why_never_tag(pattern)
    assert reason is not None
    assert reason.startswith(f"tag pattern '{pattern}' can never match: ")
    assert reason.endswith(f"; {told}")


@pytest.mark.parametrize("pattern", ["-rc", "a b", "a/b", "v1@x", "x" * 129, "?" * 129, "ü", "v1~"])
def test_what_no_tag_can_be_is_pointed_out(pattern: str) -> None:
    assert why_never_tag(pattern) is not None


@pytest.mark.parametrize(
    "pattern",
    ["*", "v*", "v1.*", "?", "*-rc", "*.1", "_x", "x" * 128, "x" * 128 + "*", " latest ", "2.0-RC_1", "pr-?"],
)
def test_what_a_tag_can_be_is_not_pointed_out(pattern: str) -> None:
    assert why_never_tag(pattern) is None


@given(st.text("ab1._-*?:/ ^", min_size=1, max_size=6).filter(str.strip))
def test_a_pattern_that_matches_some_tag_is_never_pointed_out(pattern: str) -> None:
    text = pattern.strip()
    tags = [text.replace("*", run).replace("?", "a") for run in ("", "a", "a-a")]
    if any(is_tag(tag) for tag in tags):
        assert why_never_tag(pattern) is None
    elif not any(char in text for char in "*?"):
        assert why_never_tag(pattern) is not None


def is_tag(text: str) -> bool:
    return (
        0 < len(text) <= 128
        and all(char.isascii() and (char.isalnum() or char in "_.-") for char in text)
        and text[0] not in ".-"
    )


@pytest.mark.parametrize(
    ("pattern", "told"),
    [("^ghcr.io/acme/.*", REGULAR), ("{docker.io/a,ghcr.io/b}/*", EACH), ("a/b, c/d", EACH)],
)
def test_of_repositories_too(pattern: str, told: str) -> None:
    reason = why_never(pattern)
    assert reason is not None
    assert reason.endswith(f"; {told}")


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("*", "ghcr.io/acme/*"),
        ("*", "*"),
        ("**", "*"),
        ("*/*", "*"),
        ("ghcr.io/*", "ghcr.io/acme/*"),
        ("ghcr.io/*", "ghcr.io/*"),
        ("ghcr.io/*", "ghcr.io/acme/app"),
        ("*/app", "ghcr.io/*/app"),
        ("*/app", "*/acme/app"),
        ("g*.io/*", "ghcr.io/a*"),
        ("ghcr.io/?*", "ghcr.io/acme/*"),
        ("ghcr.io/*?", "ghcr.io/?*"),
        ("ghcr.io/a?", "ghcr.io/ab"),
        ("ghcr.io/?", "ghcr.io/?"),
        (" ghcr.io/* ", "ghcr.io/a"),
        ("*a*b*", "x/a*ab?"),
    ],
)
def test_a_wide_pattern_covers_a_narrow_one(wide: str, narrow: str) -> None:
    assert covers(wide, narrow)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("ghcr.io/acme/*", "ghcr.io/*"),
        ("ghcr.io/?", "ghcr.io/*"),
        ("ghcr.io/?", "ghcr.io/ab"),
        ("ghcr.io/app", "ghcr.io/ap?"),
        ("*/app", "*"),
        ("*b", "*"),
        ("g*a", "gh*"),
        ("docker.io/*", "ghcr.io/*"),
        ("*a*b", "*b*a"),
    ],
)
def test_a_pattern_that_leaves_something_out_covers_nothing(wide: str, narrow: str) -> None:
    assert not covers(wide, narrow)


def test_what_every_repository_has_no_tag_need_have() -> None:
    assert covers("*/*", "*")
    assert not covers("*/*", "*", of="tag")


@given(
    wide=st.text("ab*?", min_size=1, max_size=6),
    narrow=st.text("ab*?", min_size=1, max_size=5),
    runs=st.lists(st.text("abc", max_size=3), min_size=5, max_size=5),
)
def test_what_is_covered_is_matched_whatever_it_is(wide: str, narrow: str, runs: list[str]) -> None:
    taken = iter(runs)
    text = "".join(
        next(taken) if char == "*" else (next(taken) + "c")[0] if char == "?" else char for char in narrow
    )
    if covers(wide, narrow, of="tag") and text:
        assert compile_patterns([wide]).matches(text)


def test_very_many_stars_take_no_time() -> None:
    assert not covers("*a" * 2000 + "b", "a" * 20_000)
