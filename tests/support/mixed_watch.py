"""What one engine after the other knows of time that nobody watched, told plainly: only what lies before the first look.

Later sweeps here are single ones of one boot, between which the host sleeps: no time is missed then.
"""

import pathlib
from dataclasses import dataclass
from datetime import timedelta

from support import naive
from support.mixed_values import Settings

__all__ = ["Gap", "Watch"]

Gap = tuple[int, int]
MINUTE = 60 * 10**9


@dataclass
class Watch:
    """What is known of looks; times are nanoseconds since the epoch."""

    last: int | None = None
    """What stands for the last look, before the first that is on record."""
    has_looked: bool = False
    gap: Gap | None = None

    def begin(self, root: pathlib.Path, now: int) -> None:
        """Begin an engine: where nobody is known to have looked, the newest file of a timer says when somebody did."""
        if not self.has_looked and self.last is None:
            self.last = naive.newest_timer(root / "system/image-retention", now)

    def unwatched(self, settings: Settings, now: int) -> Gap | None:
        """Tell from when to when nobody watched, if somebody looks now."""
        if self.has_looked or self.last is None:
            return self.gap
        windows = [settings.unused_for, *(rule.unused_for for rule in settings.rules)]
        shortest = min(one for one in windows if isinstance(one, timedelta)) // timedelta(microseconds=1)
        return (self.last, now) if naive.is_far_apart(self.last, now, shortest * 1000, MINUTE) else None

    def note(self, settings: Settings, now: int) -> None:
        """Take note of a look that nothing suspended."""
        self.gap = self.unwatched(settings, now)
        self.has_looked = True
