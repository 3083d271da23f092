"""When the images of one repository fall due.

A disk was **read unseen** if its access time shows a read by which no sweep knew that the image was in use: one since
the last look before time that no sweep watched or, with `hmret.access_time: always`, any since the image's timer
began. The timer then starts again at that read.
"""

from collections.abc import Mapping

import attrs

from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.images import Image
from hmret.model.plan.effective_rules import EffectiveRules
from hmret.model.policy.compiled import NEVER
from hmret.model.times import SECOND
from hmret.model.values import frozen

# How far in the future `unused_since` may lie before it is taken for wrong and the timer restarts.
_FUTURE_TOLERANCE_NS = 5 * 60 * SECOND

_NEVER_READ: Mapping[str, int] = {}


@frozen(eq=False)
class Expiry:
    """A repository's timers, the windows that apply to them, and the time; all in nanoseconds."""

    timers: Mapping[str, int | None]
    """By digest."""
    rules: EffectiveRules
    min_age_ns: int
    now_ns: int
    gaps: Gaps = NO_GAPS
    """Time that no sweep watched: windows do not count it."""
    accessed: Mapping[str, int] = _NEVER_READ
    """When disks were last read unseen, by digest."""

    def unused_since(self, image: Image) -> int | None:
        """Return the start of an image's timer; None where it has none that counts.

        A timer too far in the future does not count. Nor does one older than the image, which belongs to an
        earlier pull of it, or one from before the disk was last read unseen.
        """
        since_ns = self.timers.get(image.digest)
        # guard(future-timer-restarts): A timer from the future was set by a wrong clock: it starts again, or
        # the image would stay for years.
        if since_ns is None or since_ns > self.now_ns + _FUTURE_TOLERANCE_NS:
            return None
        created_ns = image.created_ns
        # guard(timer-of-this-image): A timer older than its image is that of an earlier pull; the image that
        # is here gets its full window.
        if created_ns is not None and since_ns < created_ns <= self.now_ns:
            return None
        # guard(read-disk-was-in-use): A disk that was read while nothing watched was in use then; its older
        # timer counts no longer.
        return None if since_ns < self.accessed.get(image.digest, since_ns) else since_ns

    def runs_since(self, image: Image) -> int | None:
        """Return when the timer started, or the last unseen read of the disk if later; None: there is no timer."""
        read_ns = self.accessed.get(image.digest)
        if read_ns is None or attrs.evolve(self, accessed=_NEVER_READ).unused_since(image) is None:
            return self.unused_since(image)
        return max(self.unused_since(image) or 0, read_ns)

    def begins_at(self, image: Image) -> int:
        """Return the start of a new timer for an image: the last unseen read of its disk, else now."""
        created_ns = image.created_ns or 0
        read_ns = self.accessed.get(image.digest, self.now_ns)
        return self.now_ns if read_ns < created_ns else read_ns

    def was_read_when_due(self, image: Image) -> bool:
        """Return whether the window had passed by a timer that no longer counts, as the disk was read."""
        since_ns = self.timers.get(image.digest)
        if since_ns is None or since_ns >= self.accessed.get(image.digest, since_ns):
            return False
        due_ns = self.due_at(image, since_ns)
        return due_ns is not None and due_ns <= self.now_ns

    def grown_at(self, image: Image) -> int:
        """Return when an image reaches the minimum age; `NEVER` where its age is unknown."""
        if not self.min_age_ns:
            return 0
        return NEVER if image.created_ns is None else image.created_ns + self.min_age_ns

    def due_at(self, image: Image, since_ns: int | None) -> int | None:
        """Return when an image unused since then has waited long enough and is old enough; None: never."""
        if since_ns is None:
            return None
        due_ns = max(self.runs_out_at(image, since_ns), self.grown_at(image))
        return due_ns if due_ns < NEVER // 2 else None

    def runs_out_at(self, image: Image, since_ns: int) -> int:
        """Return when the window of an image unused since then has passed, in watched time."""
        # guard(window-in-watched-time): An image must be unused for its whole window in time that was
        # watched, however long the engine was away.
        return self.gaps.moved(since_ns) + self.window_ns(image)

    def window_ns(self, image: Image) -> int:
        """Return how long an image must have been unused; `NEVER` where a rule keeps it."""
        return self.rules.of(image.digest).window_ns

    def next_change(self, image: Image) -> int:
        """Return when time alone next changes the decision on an image; `NEVER`: it does not."""
        since_ns = self.timers.get(image.digest)
        if since_ns is None and not self.min_age_ns:
            return NEVER
        moments = [self.grown_at(image)]
        if since_ns is not None:
            moments += [since_ns - _FUTURE_TOLERANCE_NS, self.runs_out_at(image, since_ns)]
            if image.created_ns is not None and since_ns < image.created_ns:
                moments.append(image.created_ns)
        return min((moment for moment in moments if moment > self.now_ns), default=NEVER)
