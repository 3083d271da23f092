"""How a worker thread asks for an image before it touches it, and reports when it has finished."""

from typing import Final, Protocol


class Claim(Protocol):
    """A batch's claim on its images; users may withdraw each image until the batch begins to work on it."""

    def begin(self, digest: str, /) -> bool:
        """Begin to work on one image; False: it has been withdrawn, and nothing of it may be touched."""
        ...

    def end(self, digest: str, /) -> None:
        """Finish an image that was begun: from now on the batch touches nothing of it."""
        ...


class _UncontestedClaim:
    def begin(self, _digest: str, /) -> bool:
        return True

    def end(self, _digest: str, /) -> None:
        pass


UNCONTESTED: Final[Claim] = _UncontestedClaim()
"""The claim of a caller whose images no one can withdraw."""
