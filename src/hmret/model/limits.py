"""How full the disk may get."""

from datetime import timedelta

import attrs

from hmret.model.errors import ConfigError
from hmret.model.setting_checks import check_count, check_positive, check_share
from hmret.model.sizes import format_share

__all__ = ["DiskLimits"]

_GAP = 0.05
_DIGITS = 12  # 85 % less 5 is 80, which the difference of two floats is not


@attrs.frozen(kw_only=True)
class DiskLimits:
    """Limits above which images go before their window ends, longest unused first; `hmret.disk` in the config.

    Raises:
        ConfigError: a value is not usable, or the low mark lies above the high one.
    """

    high_watermark: float = attrs.field(default=0.0, validator=check_share)
    """Share of the file system of `images/` in use above which images go early; 0: off. Default: 0."""
    low_watermark: float | None = attrs.field(default=None, validator=attrs.validators.optional(check_share))
    """Share in use down to which they then go; None: five hundredths below the high mark. Default: None."""
    max_used: int = attrs.field(default=0, validator=check_count)
    """The most bytes that the cache's own disks may occupy, those in quarantine included; 0: no limit. Default: 0."""
    min_unused_for: timedelta = attrs.field(default=timedelta(hours=1), validator=check_positive)
    """How long an image must have been unused before it goes early; more than zero. Default: one hour."""

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

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return bool(self.high_watermark or self.max_used)
