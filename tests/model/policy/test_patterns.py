"""Which repositories a pattern stands for, and which patterns stand for none."""

import functools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from hmret.model.errors import ConfigError
from hmret.model.policy.pattern_doubts import why_never
from hmret.model.policy.patterns import compile_patterns
from hmret.model.references import is_repository

globs = st.text("ab/.*?[\n", max_size=10)
names = st.text("ab/.*?[\n", max_size=14)

PIECES = ["a", "b7", "Q", "5", ".", "-", "_", "__", "/", ":", "[", "]", "::1", ":80"]
PIECES += ["docker.io", "index.docker.io", "localhost", "library", "docker", "x.io/", "a/b", "[F]"]

words = st.sampled_from(["a", "b7", "0", "docker", "io", "localhost", "library"])
components = st.lists(words, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([".", "_", "__", "-", "---"]).map(lambda separator: separator.join(parts))
)
labels = st.lists(st.sampled_from(["a", "Q", "0", "b--c", "index", "docker", "io"]), min_size=1, max_size=3)
hosts = st.builds(
    str.__add__,
    labels.map(".".join)
    | st.sampled_from(["localhost", "docker.io", "ocker.io", "[::1]", "[aF]", "[ab]", "[0:]"]),
    st.sampled_from(["", "", ":5", ":5000"]),
)
repositories = st.builds(
    lambda host, path: "/".join([host, *path]),
    hosts | components,
    st.lists(components, min_size=1, max_size=3),
)
normalised = repositories.filter(is_repository)


def naive(pattern: str, name: str) -> bool:
    """Match by the definition, one character at a time."""

    @functools.cache
    def rest(at: int, here: int) -> bool:
        if at == len(pattern):
            return here == len(name)
        if pattern[at] == "*":
            return any(rest(at + 1, end) for end in range(here, len(name) + 1))
        return here < len(name) and pattern[at] in ("?", name[here]) and rest(at + 1, here + 1)

    return rest(0, 0)


def matches(pattern: str, name: str) -> bool:
    return compile_patterns([pattern]).matches(name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*", ""),
        ("*", "docker.io/library/alpine"),
        ("**", "a"),
        ("ghcr.io/kernel/*", "ghcr.io/kernel/a/b"),
        ("ghcr.io/*/x", "ghcr.io/a/b/x"),
        ("*/alpine", "docker.io/library/alpine"),
        ("a?c", "abc"),
        ("a?c", "a/c"),
        ("a?c", "a\nc"),
        ("a*c", "a\n\nc"),
        ("*?", "a"),
        ("?*", "a"),
        ("a*a", "aa"),
        ("a[b]*", "a[b]c"),
        ("a.+b*", "a.+bc"),
    ],
)
def test_a_pattern_matches(pattern: str, name: str) -> None:
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("ghcr.io/kernel/*", "ghcr.io/kernel"),
        ("ghcr.io/kernel/*", "xghcr.io/kernel/a"),
        ("ghcr.io/kernel", "ghcr.io/kernel/a"),
        ("ghcr.io/kernel", "ghcr.io/kernel\n"),
        ("*/alpine", "docker.io/library/alpine\n"),
        ("a?", "a"),
        ("a?", "a\n\n"),
        ("?", ""),
        ("*?*", ""),
        ("a*a", "a"),
        ("ab*ba", "aba"),
        ("a.c*", "abc"),
        ("[ab]*", "a"),
        ("A*", "a"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, name: str) -> None:
    assert not matches(pattern, name)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(globs, names)
@example("*ab*ab", "ab")
@example("a*?b*??", "aabab")
@example("*a?*b", "aab")
def test_matching_follows_the_definition(pattern: str, name: str) -> None:
    assume(pattern.strip())
    assert matches(pattern, name) == naive(pattern.strip(), name)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(globs.filter(str.strip), max_size=4), names)
def test_several_patterns_match_what_one_of_them_matches(patterns: list[str], name: str) -> None:
    together = compile_patterns(patterns).matches(name)
    assert together == any(naive(pattern.strip(), name) for pattern in patterns)


def test_no_patterns_match_nothing() -> None:
    assert not compile_patterns([]).matches("docker.io/library/alpine")
    assert not compile_patterns([]).matches("")


def test_patterns_are_trimmed_and_keep_their_order() -> None:
    patterns = compile_patterns(pattern for pattern in [" b/* ", "a.io/x\n", "b/*"])
    assert patterns.texts == ("b/*", "a.io/x", "b/*")
    assert patterns.matches("a.io/x")
    assert patterns.matches("b/c")


def test_patterns_of_the_same_texts_are_equal() -> None:
    assert compile_patterns(["a*"]) == compile_patterns([" a*"])
    assert hash(compile_patterns(["a*"])) == hash(compile_patterns(["a*"]))
    assert compile_patterns(["a*"]) != compile_patterns(["b*"])


@pytest.mark.parametrize("pattern", ["", " ", "\t\n"])
def test_an_empty_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="must not be empty"):
        compile_patterns(["a/*", pattern])


@pytest.mark.parametrize("patterns", ["ghcr.io/*", {"a/*": 1}, None, 5])
def test_what_is_no_list_of_patterns_is_refused(patterns: Any) -> None:
    with pytest.raises(ConfigError, match="expected a list of repository patterns, got "):
        compile_patterns(patterns)


@pytest.mark.parametrize("patterns", [[5], [None], [b"a/*"], b"a/*", [["a"]]])
def test_a_pattern_that_is_no_text_is_refused(patterns: Iterable[Any]) -> None:
    with pytest.raises(ConfigError, match="expected a repository pattern, got "):
        compile_patterns(patterns)


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 8 + "*b",
        "*" * 5000 + "b",
        "*a?" * 2000 + "b",
        "a*" * 3000 + "b",
        "*" + "a" * 2000 + "b*",
        "?*" * 2000,
    ],
)
def test_a_hostile_pattern_is_soon_done(pattern: str) -> None:
    assert not matches(pattern, "a" * 1999)
    assert why_never(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("alpine", "docker.io/library/alpine"),
        (" alpine ", "docker.io/library/alpine"),
        ("Alpine", "docker.io/library/alpine"),
        ("al?ine", "docker.io/library/al?ine"),
        ("??", "docker.io/library/??"),
        ("docker.io/?x", "docker.io/library/?x"),
        ("library/alpine", "docker.io/library/alpine"),
        ("kernel/*", "docker.io/kernel/*"),
        ("docker.io/alpine", "docker.io/library/alpine"),
        ("docker.io/Foo*", "docker.io/foo*"),
        ("index.docker.io/*", "docker.io/*"),
        ("index.docker.io/alpine", "docker.io/library/alpine"),
        ("ghcr.io/Foo", "ghcr.io/foo"),
        ("*/Foo", "*/foo"),
        ("localhost/X", "localhost/x"),
        ("GHCR/X", "GHCR/x"),
        ("foo:latest", "docker.io/library/foo"),
        ("foo:3.20", "docker.io/library/foo"),
        ("ghcr.io/kernel/*:v1", "ghcr.io/kernel/*"),
        ("h:5000/x:v1", "h:5000/x"),
        ("foo@sha256:" + "a" * 64, "docker.io/library/foo"),
        ("ghcr.io/a/b:c@sha256:*", "ghcr.io/a/b"),
    ],
)
def test_a_pattern_that_never_matches_is_pointed_out_with_what_was_meant(pattern: str, meant: str) -> None:
    line = why_never(pattern)
    assert line is not None
    assert line.startswith(f"pattern {pattern.strip()!r} can never match: ")
    assert line.endswith(f"; perhaps {meant!r} is meant")


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a b",
        "ghcr.io/a b",
        "ghcr.io/\n*x",
        "ghcr.io/a/",
        "ghcr.io//a",
        "ghcr.io/caf\u00e9",
        "*@*",
        "*:latest",
        "ghcr.io",
        "localhost",
        "docker.io",
        "docker.io?x",
        "index.docker.io?x",
        "[abc]/x",
        "[::1",
        "https://ghcr.io/*",
        "a_b.c:80/*",
        "ghcr.io/a._*",
        "ghcr.io/*___*",
    ],
)
def test_a_pattern_that_never_matches_is_pointed_out_in_one_line(pattern: str) -> None:
    line = why_never(pattern)
    assert line is not None
    assert line.endswith("like docker.io/library/alpine")
    assert "\n" not in line


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "alpine*",
        "*alpine",
        "*/alpine",
        "Foo/*",
        "ghcr.io*",
        "docker.i?/x",
        "docker.io?x/y",
        "docker.io/*x",
        "docker.io/x?y",
        "index.docker.io*",
        "index.docker.i?/x",
        "*index.docker.io/x",
        "local*/x",
        "*:5*",
        "?:?/?",
        "???",
        "[*",
        "[abc]*/x",
        "a_*",
        "a_b.c/x",
    ],
)
def test_a_pattern_that_can_match_is_not_pointed_out(pattern: str) -> None:
    assert why_never(pattern) is None


@settings(derandomize=True, deadline=None, max_examples=200)
@given(normalised, st.data())
def test_a_pattern_made_from_a_repository_is_never_pointed_out(repository: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(repository)), max_size=4)))
    pattern = ""
    for start, end in zip([0, *cuts], [*cuts, len(repository)], strict=True):
        part = repository[start:end]
        pattern += data.draw(st.sampled_from([part, part, "*", "?" * len(part)]))
    assert matches(pattern, repository)
    assert why_never(pattern) is None


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | repositories)
@example("docker.io/a/b")
@example("docker.io/a")
@example("index.docker.io/a/b")
@example("localhost/a")
@example("a_b.c/x")
@example("a_b/x")
@example("[abc]/x")
@example("[aBc]/x")
@example("[a:c]:5/x")
def test_a_pattern_without_wildcards_can_match_just_what_is_a_repository(name: str) -> None:
    assert (why_never(name) is None) == is_repository(name)
