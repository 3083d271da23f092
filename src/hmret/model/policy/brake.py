"""The brake: if too much expires at once, all of it stays until that has been announced for long enough."""

from hmret.model.values import frozen


@frozen
class Brake:
    """Holds back everything that has expired, if that is too much at once."""

    share: float
    """Share of the images that may be deleted at all, from 0 to 1."""
    min_images: int

    def holds(self, expired: int, eligible: int) -> bool:
        """Return whether this many expired images are too many."""
        return expired >= max(self.min_images, 1) and expired > self.share * eligible


@frozen
class Braking:
    """More has expired at once than the brake allows."""

    expired: int
    """How many images have expired."""
    eligible: int
    """Images that may be deleted at all, now or later."""
    is_released: bool
    """Whether the brake was released, so that they are deleted all the same."""


@frozen
class BrakeRecord:
    """What the brake has announced, in boot time of one boot: a wrong wall clock must not release it."""

    boot_id: str
    announced_boot_ns: int
    announced_images: int
    """How many expired images it held at the announcement."""
    is_released: bool = False
    """Whether an operator has released it."""
