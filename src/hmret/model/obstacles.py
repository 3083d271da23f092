"""What prevents the deletion of an image that is due."""

from hmret.model.values import frozen

__all__ = ["Obstacle"]


@frozen
class Obstacle:
    """Something because of which hmret or the kernel would refuse a deletion."""

    path: str
    """The path at fault, below the data directory."""
    detail: str
    """What is wrong there."""
    is_broken: bool = False
    """Whether the folder holds something other than a plain image; else it merely cannot be removed now."""
    will_pass: bool = False
    """Whether hypeman is at work there, so that the obstacle will disappear."""
