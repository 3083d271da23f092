"""What an operator wants, in the form in which `plan` asks it."""

from typing import Self

import attrs

from hmret.model.config import RetentionConfig
from hmret.model.patterns import Patterns, compile_patterns
from hmret.model.times import timedelta_nanoseconds

__all__ = ["Policy"]


@attrs.frozen
class Policy:
    """The rules that choose among the images which nothing needs."""

    unused_for_ns: int
    """How long an image must have been unused before it is deleted, in nanoseconds."""
    allowed: Patterns
    pinned: Patterns
    max_deletes: int = 0
    """The most deletions of one plan; 0: no limit."""

    @classmethod
    def of(cls, config: RetentionConfig) -> Self:
        """Make the policy that a configuration states."""
        return cls(
            unused_for_ns=timedelta_nanoseconds(config.auto_delete.unused_for),
            allowed=compile_patterns(config.auto_delete.allowed),
            pinned=compile_patterns(config.pinned),
            max_deletes=config.max_deletes_per_sweep,
        )
