"""Doubtful patterns: those that can match no repository or no tag, and those that match all that another one does."""

import re
import string
from collections.abc import Mapping
from functools import lru_cache

from hmret.model.errors import quoted
from hmret.model.policy.patterns import glob_expression

# The grammar of distribution/reference: a letter, digit or underscore, then at most 127 more of these, dots
# and hyphens.
_LONGEST_TAG = 128
_TAG_CHARS = re.compile(r"[A-Za-z0-9_.*?-]*")
_TAG_START = re.compile(r"[A-Za-z0-9_*?]")
_EVERY_REPOSITORY = re.compile(r"\*+|\*+/\*+")  # each repository has a host and a path

_REGULAR = "patterns are not regular expressions: only * and ? are special"

_ANY_RUN = "\0"
_ANY_CHAR = "\1"


def show_pattern(pattern: str) -> str:
    """Quote a pattern as its operator wrote it, shortened; unprintable characters are escaped."""
    return quoted(pattern).replace("\\\\", "\\")


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
        return f"{reason}; perhaps {quoted(meant)} is meant"
    language = _other_language(pattern)
    return reason if language is None else f"{reason}; {language}"


def why_never_tag(pattern: str) -> str | None:
    """Return one line that explains why a pattern can never match a tag; None where it can match."""
    pattern = pattern.strip()
    least = len(pattern.replace("*", ""))
    begins = _TAG_START.match(pattern) is not None
    if _TAG_CHARS.fullmatch(pattern) and begins and least <= _LONGEST_TAG:
        return None
    reason = (
        f"tag pattern {show_pattern(pattern)} can never match: a tag has only letters, digits, '_', '.' and '-', "
        f"begins with neither of the last two, and is at most {_LONGEST_TAG} long"
    )
    meant = _other_language(pattern)
    if meant is None and "[" in pattern:
        meant = _REGULAR
    elif meant is None and ":" in pattern:
        meant = "what stands behind the colon of a reference, and no digest, is a tag"
    return reason if meant is None else f"{reason}; {meant}"


def _other_language(pattern: str) -> str | None:
    """Return how to write here a pattern that has another tool's syntax; None where it has not."""
    if "," in pattern or "{" in pattern:
        return "each pattern is an element of the list"
    if pattern.startswith("!"):
        return "patterns cannot be negated: put a rule for the exception before the others"
    if any(char in pattern for char in "^$|()+\\") or pattern.startswith("."):
        return _REGULAR
    return None


def covers(wide: str, narrow: str, *, of: str = "repository") -> bool:
    """Return whether a pattern certainly matches everything that another one does; `of`: repositories, else tags.

    A True is always right. Patterns that are equivalent only by the form of repository names are recognised
    if they match every repository.
    """
    if of == "repository" and _EVERY_REPOSITORY.fullmatch(wide):
        return True
    # Each wildcard is replaced by one character that only a star of the other pattern can match.
    text = _ordered(narrow).replace("*", _ANY_RUN).replace("?", _ANY_CHAR)
    return _expression(_ordered(wide)).match(text) is not None


def _ordered(pattern: str) -> str:
    """Write a run of wildcards in one canonical way: first the single characters, then one star."""
    return re.sub(
        r"[*?]+", lambda found: "?" * found[0].count("?") + "*" * ("*" in found[0]), pattern.strip()
    )


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(glob_expression(pattern, f"[^{_ANY_RUN}]"), re.DOTALL)


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
        # A first part in lower case and without a dot is not a host yet. An underscore rules a host out for
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
