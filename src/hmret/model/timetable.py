"""When the images of one repository fall due."""

from collections.abc import Mapping

import attrs

from hmret.model.images import Image
from hmret.model.policy import NEVER
from hmret.model.terms import RepositoryTerms
from hmret.model.times import SECOND

__all__ = ["Timetable"]

# How far in the future `unused_since` may lie before it is taken for wrong and the timer starts again.
_FUTURE_TOLERANCE_NS = 5 * 60 * SECOND


@attrs.frozen(eq=False)
class Timetable:
    """The timers of a repository, the windows that hold for them, and the time; all in nanoseconds."""

    timers: Mapping[str, int | None]
    """By digest."""
    terms: RepositoryTerms
    min_age_ns: int
    now_ns: int

    def unused_since(self, digest: str) -> int | None:
        """Tell the timer of an image; None where it has none, or one too far in the future."""
        since_ns = self.timers.get(digest)
        if since_ns is None or since_ns > self.now_ns + _FUTURE_TOLERANCE_NS:
            return None
        return since_ns

    def grown_at(self, image: Image) -> int:
        """Tell when an image is old enough; `NEVER` where nobody knows."""
        if not self.min_age_ns:
            return 0
        return NEVER if image.created_ns is None else image.created_ns + self.min_age_ns

    def due_at(self, image: Image, since_ns: int | None) -> int | None:
        """Tell when an image that is unused since then has waited for long enough, and is old enough; None: never."""
        if since_ns is None:
            return None
        due_ns = max(since_ns + self.terms.of(image.digest).window_ns, self.grown_at(image))
        return due_ns if due_ns < NEVER // 2 else None

    def next_turn(self, image: Image) -> int:
        """Tell when the time alone next changes what is to be said of an image; `NEVER`: it does not."""
        since_ns = self.timers.get(image.digest)
        if since_ns is None and not self.min_age_ns:
            return NEVER
        turns = [self.grown_at(image)]
        if since_ns is not None:
            turns += [since_ns - _FUTURE_TOLERANCE_NS, since_ns + self.terms.of(image.digest).window_ns]
        return min((turn for turn in turns if turn > self.now_ns), default=NEVER)
