"""Repository patterns: which repositories a list of globs matches.

`*` matches any run of characters, `/` too; `?` matches any one character; everything else is literal; the
whole repository must match.
"""

import re
from collections.abc import Iterable, Mapping

import attrs

from hmret.model.errors import ConfigError, quoted
from hmret.model.values import frozen


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
        globs = [glob_expression(text) for text in dict.fromkeys(self.texts) if _is_glob(text)]
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
        raise ConfigError(f"expected a list of {of} patterns, got {quoted(patterns)}")
    texts: list[str] = []
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ConfigError(f"expected a {of} pattern, got {quoted(pattern)}")
        texts.append(pattern.strip())
        if not texts[-1]:
            raise ConfigError(f"a {of} pattern must not be empty, got {quoted(pattern)}")
    return Patterns(tuple(texts))


def _is_glob(text: str) -> bool:
    return "*" in text or "?" in text


def glob_expression(pattern: str, any_char: str = ".") -> str:
    """Write a pattern as a regular expression that matches from the start of a text; DOTALL.

    `any_char`: the expression for what `?` matches.
    """
    # The text between two stars is matched at its first occurrence and never searched for again (the atomic
    # group): a later occurrence leaves less for the rest, so backtracking could not help. So the time is at
    # most the length of the text times that of the pattern, however many stars there are.
    first, *between = (any_char.join(map(re.escape, part.split("?"))) for part in pattern.split("*"))
    if not between:
        return rf"{first}\Z"
    *between, last = between
    searches = "".join(f"(?>.*?{chunk})" for chunk in between if chunk)
    size = len(pattern) - pattern.rindex("*") - 1
    # The last part is compared once, at the end, and only where it does not overlap with what has been
    # matched before.
    return f"{first}{searches}" + (f"(?=.{{{size}}}).*+(?<={last})" if size else "")
