"""Repository patterns: which repositories a list of globs matches, and which globs can match none.

`*` matches any run of characters, `/` too; `?` matches any one character; everything else is literal; the
whole repository must match.
"""

import re
import reprlib
import string
from collections.abc import Iterable, Mapping

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy.pattern_doubts import other_language, show_pattern
from hmret.model.values import frozen

__all__ = ["Patterns", "compile_patterns", "why_never"]

_shortened = reprlib.Repr()
_shortened.maxstring = 200


@frozen
class Patterns:
    """Compiled patterns; made by `compile_patterns`."""

    texts: tuple[str, ...]
    """The patterns, trimmed, in the order in which they were given."""
    _everything: bool = attrs.field(init=False, eq=False, repr=False)
    _literals: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    _globs: re.Pattern[str] | None = attrs.field(init=False, eq=False, repr=False)

    @_everything.default
    def _find_everything(self) -> bool:
        return any(not text.strip("*") for text in self.texts)

    @_literals.default
    def _find_literals(self) -> frozenset[str]:
        return frozenset(text for text in self.texts if not _is_glob(text))

    @_globs.default
    def _find_globs(self) -> re.Pattern[str] | None:
        globs = [_expression(text) for text in dict.fromkeys(self.texts) if _is_glob(text)]
        return re.compile("|".join(globs), re.DOTALL) if globs else None

    def matches(self, repository: str) -> bool:
        """Whether at least one pattern matches the whole of a repository."""
        if self._everything or repository in self._literals:
            return True
        return self._globs is not None and self._globs.match(repository) is not None


def compile_patterns(patterns: Iterable[str], *, of: str = "repository") -> Patterns:
    """Compile patterns, trimmed first; no patterns match nothing.

    Args:
        patterns: the patterns.
        of: what they are matched against, which errors name.

    Raises:
        ConfigError: a pattern is empty or no text, or a lone text stands where a list of them is expected.
    """
    if isinstance(patterns, str | Mapping) or not isinstance(patterns, Iterable):
        raise ConfigError(f"expected a list of {of} patterns, got {_shortened.repr(patterns)}")
    texts: list[str] = []
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ConfigError(f"expected a {of} pattern, got {_shortened.repr(pattern)}")
        texts.append(pattern.strip())
        if not texts[-1]:
            raise ConfigError(f"a {of} pattern must not be empty, got {_shortened.repr(pattern)}")
    return Patterns(tuple(texts))


def why_never(pattern: str) -> str | None:
    """Return one line that explains why a pattern can never match a normalised repository; None where it can.

    Where the mistake is a common one, the line ends with the pattern that was probably meant.
    """
    pattern = pattern.strip()
    if _can_match(pattern):
        return None
    reason = (
        f"pattern {show_pattern(pattern)} can never match: repositories are written in full and without "
        "a tag or digest, like docker.io/library/alpine"
    )
    meant = _probably_meant(pattern)
    if meant is not None and _can_match(meant):
        return f"{reason}; perhaps {_shortened.repr(meant)} is meant"
    language = other_language(pattern)
    return reason if language is None else f"{reason}; {language}"


def _is_glob(text: str) -> bool:
    return "*" in text or "?" in text


def _expression(text: str) -> str:
    # The text between two stars is matched at its first occurrence and never searched for again (the atomic
    # group): a later occurrence leaves less for the rest, so backtracking could not help. So the time is at
    # most the length of the text times that of the pattern, however many stars there are.
    first, *between = (_chunk(part) for part in text.split("*"))
    if not between:
        return rf"{first}\Z"
    *between, last = between
    searches = "".join(f"(?>.*?{chunk})" for chunk in between if chunk)
    size = len(text) - text.rindex("*") - 1
    # The last part is compared once, at the end, and only where it does not overlap with what has been
    # matched before.
    return f"{first}{searches}" + (f"(?=.{{{size}}}).*+(?<={last})" if size else "")


def _chunk(part: str) -> str:
    return ".".join(re.escape(literal) for literal in part.split("?"))


# Whether a pattern can match is decided exactly: the normalised repositories of `parse_reference` are written
# down here as a table of the states of the grammar and the characters that may follow in each, and the
# pattern is run through all states that it can be in. The limit on the length of the path is left out. A test
# checks that table and parser agree.

_LOWER = string.ascii_lowercase + string.digits
_UPPER = string.ascii_uppercase
_HEX = "abcdef" + string.digits

_Table = dict[str, dict[str, str]]


def _component(name: str, dotted: str, others: Mapping[str, str]) -> _Table:
    """Rows for a path component that is at `name` after a letter, and at `dotted` once a dot has been in it."""
    return {
        name: {_LOWER: name, ".": f"{dotted}.", "_": f"{name}_", "-": f"{name}-", **others},
        f"{name}.": {_LOWER: name},
        f"{name}_": {_LOWER: name, "_": f"{name}__"},
        f"{name}__": {_LOWER: name},
        f"{name}-": {_LOWER: name, "-": f"{name}-"},
    }


def _repository_table() -> _Table:
    rows: _Table = {
        "start": {_LOWER: "plain", _UPPER: "upper", "[": "["},
        # A first part in lower case and without a dot is no host yet. An underscore rules a host out for
        # good; after that, a dot is what keeps the name from being moved to docker.io.
        "plain": {_LOWER: "plain", _UPPER: "upper", "-": "plain-", ".": "host.", "_": "under_", ":": ":"},
        "plain-": {_LOWER: "plain", _UPPER: "upper", "-": "plain-"},
        "host": {
            _LOWER: "host",
            _UPPER: "upper",
            "-": "host-",
            ".": "host.",
            "_": "dotted_",
            ":": ":",
            "/": "/",
        },
        "host.": {_LOWER: "host", _UPPER: "upper"},
        "host-": {_LOWER: "host", _UPPER: "upper", "-": "host-"},
        "upper": {_LOWER + _UPPER: "upper", "-": "upper-", ".": "upper.", ":": ":", "/": "/"},
        "upper.": {_LOWER + _UPPER: "upper"},
        "upper-": {_LOWER + _UPPER: "upper", "-": "upper-"},
        "[": {_HEX: "[hex", "ABCDEF:": "[v6"},
        "[hex": {_HEX: "[hex", "ABCDEF:": "[v6", "]": "hex]"},
        "[v6": {_HEX + "ABCDEF:": "[v6", "]": "v6]"},
        "hex]": {":": ":"},
        "v6]": {":": ":", "/": "/"},
        ":": {string.digits: "port"},
        "port": {string.digits: "port", "/": "/"},
        "/": {_LOWER: "path"},
        "hub/": {_LOWER: "hub"},
        **_component("under", "dotted", {}),
        **_component("dotted", "dotted", {"/": "/"}),
        **_component("hub", "hub", {"/": "/"}),
        **_component("path", "path", {"/": "/"}),
    }
    table = {name: {char: to for chars, to in row.items() for char in chars} for name, row in rows.items()}
    # Three first parts are special once they end; until then they are like any other.
    for word, end in (("docker.io", {"/": "hub/"}), ("index.docker.io", {}), ("localhost", {"/": "/"})):
        place = "start"
        for length, char in enumerate(word, start=1):
            spelled = f"={word[:length]}"
            table[spelled] = dict(table[table[place][char]])
            table[place][char] = spelled
            place = spelled
        table[place].pop("/", None)
        table[place].update(end)
    return table


_TABLE = _repository_table()


def _can_match(pattern: str) -> bool:
    places = {"start"}
    for char in pattern:
        if char == "*":
            found = list(places)
            while found:
                following = set(_TABLE[found.pop()].values()) - places
                places |= following
                found.extend(following)
        elif char == "?":
            places = {to for place in places for to in _TABLE[place].values()}
        else:
            places = {_TABLE[place][char] for place in places if char in _TABLE[place]}
    return "path" in places


def _probably_meant(pattern: str) -> str | None:
    """Correct a pattern as `parse_reference` normalises a reference; None where that would be a guess."""
    name = pattern.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    first, slash, rest = name.partition("/")
    if not name.strip("*") or (not slash and ("." in first or first == "localhost")):
        return None
    if first in ("docker.io", "index.docker.io"):
        first, rest = "docker.io", rest.lower()
    elif slash and (first == "localhost" or first.lower() != first or any(char in first for char in ".:*?")):
        return f"{first}/{rest.lower()}"
    else:
        first, rest = "docker.io", name.lower()
    return f"{first}/{rest}" if "/" in rest or "*" in rest else f"{first}/library/{rest}"
