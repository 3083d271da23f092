"""The grounds on which an image stays: values with one method each, made for one repository at one time."""

from collections.abc import Set as AbstractSet
from typing import Protocol

import attrs

from hmret.model.images import Image
from hmret.model.policy import NEVER
from hmret.model.timetable import Timetable
from hmret.model.verdicts import Reason

__all__ = [
    "Always",
    "Among",
    "Broken",
    "Ground",
    "KeptByRule",
    "NewlyUnused",
    "NotPullable",
    "NotReady",
    "TooYoung",
    "Waiting",
]


class Ground(Protocol):
    """Something that can hold against the deletion of an image."""

    @property
    def reason(self) -> Reason:
        """What a verdict calls it."""
        ...

    def holds(self, image: Image) -> bool:
        """Tell whether it does."""
        ...


@attrs.frozen
class NotReady:
    """It is not ready; where no metadata could be read, that is what is wrong, and all that is told."""

    reason = Reason.NOT_READY

    def holds(self, image: Image) -> bool:
        return image.status != "ready" and not (image.status == "unknown" and image.broken is not None)


@attrs.frozen
class Broken:
    """Its folder is no whole image."""

    reason = Reason.BROKEN

    def holds(self, image: Image) -> bool:
        return image.broken is not None


@attrs.frozen
class Among:
    """It is one of those that something else has chosen."""

    reason: Reason
    digests: AbstractSet[str]

    def holds(self, image: Image) -> bool:
        return image.digest in self.digests


@attrs.frozen
class Always:
    """The same for all images of the repository."""

    reason: Reason

    def holds(self, _image: Image) -> bool:
        return True


@attrs.frozen
class NotPullable:
    """It cannot be pulled again: its metadata says so, or says nothing, and its registry is this very host."""

    from_local_registry: bool
    reason = Reason.NOT_PULLABLE

    def holds(self, image: Image) -> bool:
        return self.from_local_registry if image.pullable is None else not image.pullable


@attrs.frozen
class NewlyUnused:
    """Its timer starts now."""

    timetable: Timetable
    reason = Reason.NEWLY_UNUSED

    def holds(self, image: Image) -> bool:
        return self.timetable.unused_since(image.digest) is None


@attrs.frozen
class KeptByRule:
    """A rule says that it stays."""

    timetable: Timetable
    reason = Reason.KEPT_BY_RULE

    def holds(self, image: Image) -> bool:
        return self.timetable.terms.of(image.digest).window_ns == NEVER


@attrs.frozen
class Waiting:
    """It has not been unused for long enough."""

    timetable: Timetable
    reason = Reason.RETENTION_WINDOW

    def holds(self, image: Image) -> bool:
        since_ns = self.timetable.unused_since(image.digest)
        window_ns = self.timetable.terms.of(image.digest).window_ns
        return since_ns is not None and window_ns != NEVER and since_ns + window_ns > self.timetable.now_ns


@attrs.frozen
class TooYoung:
    """It was made too short a time ago, or nobody knows when."""

    timetable: Timetable
    reason = Reason.TOO_YOUNG

    def holds(self, image: Image) -> bool:
        return self.timetable.grown_at(image) > self.timetable.now_ns
