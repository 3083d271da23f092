"""A rule of the operator's: a different window, or a different number to keep, for some images."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Literal

import attrs

from hmret.model.errors import ConfigError
from hmret.model.policy.kinds import COUNT, PATTERNS, TAG_PATTERNS, WINDOW, declare, read_patterns, setting
from hmret.model.values import frozen


def _match(value: Iterable[str]) -> tuple[str, ...]:
    return read_patterns("match", value)


def _tags(value: Iterable[str]) -> tuple[str, ...]:
    return read_patterns("tags", value, of="tag")


@frozen(kw_only=True)
class Rule:
    """Settings for the images that the rule matches, in place of the general ones; the first rule that matches counts.

    A rule never makes an image eligible that `allowed` does not.

    Raises:
        ConfigError: a value is not usable.
    """

    match: tuple[str, ...] = attrs.field(converter=_match, metadata=declare(PATTERNS))
    """Patterns of repositories, at least one."""
    tags: tuple[str, ...] = attrs.field(default=(), converter=_tags, metadata=declare(TAG_PATTERNS))
    """Patterns of tags, one of which one of the image's tags must match; empty: whatever tags it has."""
    unused_for: timedelta | Literal["never"] | None = setting(WINDOW, None)
    """The window, more than zero; `never`: they stay; unset: that of `images.auto_delete.unused_for`."""
    keep_latest: int | None = setting(COUNT, None)
    """How many of the newest that it matches in each repository stay; unset: as `hmret.keep_latest`; 0: none."""

    def __attrs_post_init__(self) -> None:
        if not self.match:
            raise ConfigError("match: expected at least one repository pattern, got none")
        if self.unused_for is None and self.keep_latest is None:
            raise ConfigError("a rule: expected unused_for or keep_latest, got neither")


def rules_of(value: object) -> tuple[Rule, ...]:
    """Check that a value is a list of rules, and return them.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"rules: expected a list of rules, got {value!r}")
    rules = tuple(value)
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ConfigError(f"rules: expected a list of rules, got {rule!r}")
    return rules
