"""What keeps an image from being deleted although it is due."""

from hmret.model.values import frozen

__all__ = ["Obstacle"]


@frozen
class Obstacle:
    """Something that a deletion, or the kernel, would refuse."""

    path: str
    """Of what is at fault, below the data directory."""
    detail: str
    """What is wrong with it."""
    is_broken: bool = False
    """Whether the folder is no plain image; else it is one that cannot be removed now."""
    will_pass: bool = False
    """Whether hypeman is at work there."""
