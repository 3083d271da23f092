"""Doubtful patterns: those that can match no tag, and those that match everything that another one does."""

import re
import reprlib
from functools import lru_cache

__all__ = ["covers", "other_language", "show_pattern", "why_never_tag"]

_shortened = reprlib.Repr()
_shortened.maxstring = 200

# The grammar of distribution/reference: a letter, digit or underscore, then at most 127 more of these, dots
# and hyphens.
_LONGEST_TAG = 128
_TAG_CHARS = re.compile(r"[A-Za-z0-9_.*?-]*")
_TAG_START = re.compile(r"[A-Za-z0-9_*?]")
_EVERY_REPOSITORY = re.compile(r"\*+|\*+/\*+")  # each repository has a host and a path

_REGULAR = "patterns are no regular expressions: only * and ? stand for something else"

_ANY_RUN = "\0"
_ANY_CHAR = "\1"


def show_pattern(pattern: str) -> str:
    """Quote a pattern as its operator wrote it, shortened; unprintable characters are escaped."""
    return _shortened.repr(pattern).replace("\\\\", "\\")


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
    meant = other_language(pattern)
    if meant is None and "[" in pattern:
        meant = _REGULAR
    elif meant is None and ":" in pattern:
        meant = "what stands behind the colon of a reference, and no digest, is a tag"
    return reason if meant is None else f"{reason}; {meant}"


def other_language(pattern: str) -> str | None:
    """Return how to write here a pattern that has another tool's syntax; None where it has not."""
    if "," in pattern or "{" in pattern:
        return "each pattern is an element of the list"
    if pattern.startswith("!"):
        return "nothing negates a pattern: what is special has a rule before the others"
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
    return _expression(_ordered(wide)).fullmatch(text) is not None


def _ordered(pattern: str) -> str:
    """Write a run of wildcards in one canonical way: first the single characters, then one star."""
    return re.sub(
        r"[*?]+", lambda found: "?" * found[0].count("?") + "*" * ("*" in found[0]), pattern.strip()
    )


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    # Each star takes the shortest run and is never tried again (the atomic group): a later place leaves less
    # for the rest.
    *between, last = pattern.split("*")
    if not between:
        return re.compile(_chunk(last), re.DOTALL)
    first, *middle = (_chunk(part) for part in between)
    searched = "".join(f"(?>.*?{chunk})" for chunk in middle)
    ending = f"(?=.{{{len(last)}}}).*+(?<={_chunk(last)})" if last else ".*"
    return re.compile(f"{first}{searched}{ending}", re.DOTALL)


def _chunk(part: str) -> str:
    return f"[^{_ANY_RUN}]".join(re.escape(literal) for literal in part.split("?"))
