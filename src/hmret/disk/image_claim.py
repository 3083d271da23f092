"""What a worker thread asks before it touches an image, and tells when it is done with it."""

from typing import Final, Protocol

__all__ = ["UNCONTESTED", "Claim"]


class Claim(Protocol):
    """The hold that a batch has of its images, each of which may be taken from it until its turn comes."""

    def begin(self, digest: str, /) -> bool:
        """Begin to work on one image; False where it has been taken away: nothing of it may be touched."""
        ...

    def end(self, digest: str, /) -> None:
        """Be done with an image that was begun: nothing of it is touched any more."""
        ...


class _UncontestedClaim:
    def begin(self, _digest: str, /) -> bool:
        return True

    def end(self, _digest: str, /) -> None:
        pass


UNCONTESTED: Final[Claim] = _UncontestedClaim()
"""Of a caller from whom nothing can be taken."""
