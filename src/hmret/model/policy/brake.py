"""The brake: what has expired stays where it is too much at once, until that was announced for long enough."""

from hmret.model.values import frozen

__all__ = ["Brake", "BrakeRecord", "Braking"]


@frozen
class Brake:
    """Holds everything that has expired where that is too much at once."""

    share: float
    """Of the images that may go at all, from 0 to 1."""
    min_images: int

    def holds(self, expired: int, eligible: int) -> bool:
        """Tell whether so many expired images are too many."""
        return expired >= max(self.min_images, 1) and expired > self.share * eligible


@frozen
class Braking:
    """More has expired at once than the brake lets go."""

    expired: int
    eligible: int
    """Images that may go at all, now or later."""
    is_released: bool
    """Whether they go all the same."""


@frozen
class BrakeRecord:
    """What the brake has announced, by the boot-time clock of one boot: a wrong wall clock must not let it go."""

    boot_id: str
    announced_boot_ns: int
    announced_images: int
    """How many expired images it held then."""
    is_released: bool = False
    """Whether somebody has let it go."""
