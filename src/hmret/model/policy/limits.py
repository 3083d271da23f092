"""How full the disk may get."""

from datetime import timedelta
from typing import Literal

from hmret.model.errors import ConfigError
from hmret.model.policy.kinds import AMOUNT, DURATION, SHARE, choice_of, setting
from hmret.model.sizes import format_share
from hmret.model.values import frozen

_GAP = 0.05
_DIGITS = 12  # 85 % minus 5 is 80, but the difference of the two floats is not exactly 0.8


@frozen(kw_only=True)
class DiskLimits:
    """Limits above which images go before their window ends, longest unused first; `hmret.disk` in the config.

    Raises:
        ConfigError: a value is not usable, or the low mark lies above the high one.
    """

    high_watermark: float = setting(SHARE, 0.0)
    """The share of the file system of `images/` in use above which images are deleted early; 0: there is no mark."""
    low_watermark: float | None = setting(SHARE, None, in_force="low")
    """The share in use down to which they are then deleted; unset: five points below the high mark; 0: all that may go."""
    max_used: int | float = setting(AMOUNT, 0)
    """The most that the cache's own disks may occupy: bytes, as a whole number, or a share of the file system of
    `images/`, as a float from 0 to 1; 0: no limit.
    """
    count: Literal["blocks", "apparent"] = setting(choice_of("blocks", "apparent"), "blocks")
    """What counts towards `max_used`: the `blocks` that disks occupy, those in quarantine included, or their
    `apparent` sizes, as hypeman counts them, without the quarantine.
    """
    min_unused_for: timedelta = setting(DURATION, timedelta(hours=1))
    """How long an image must have been unused before it is deleted early; more than zero."""

    def __attrs_post_init__(self) -> None:
        if self.low_watermark is None or self.low_watermark <= self.high_watermark:
            return
        if not self.high_watermark:
            raise ConfigError("low_watermark: expected a high_watermark beside it, got none")
        raise ConfigError(
            f"low_watermark: must not be above high_watermark ({format_share(self.high_watermark)}), "
            f"got {format_share(self.low_watermark)}"
        )

    @property
    def low(self) -> float:
        """The low mark in force."""
        if self.low_watermark is not None:
            return self.low_watermark
        return max(round(self.high_watermark - _GAP, _DIGITS), 0.0)

    def max_used_bytes(self, total_bytes: int) -> int:
        """Return how many bytes the cache may occupy on a file system of this size; 0: no limit.

        Where `total_bytes` is 0, the size is unknown, and a share of it sets no limit.
        """
        if not isinstance(self.max_used, float):
            return self.max_used
        # guard(unknown-disk-sets-no-limit): On a disk of unknown size a share is no limit; otherwise a limit
        # of one byte would push every image out.
        return max(int(self.max_used * total_bytes), 1) if self.max_used and total_bytes else 0

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return bool(self.high_watermark or self.max_used)
