"""Blockers prevent an image's deletion; each is a value with one method, evaluated for one repository."""

from collections.abc import Mapping, Set as AbstractSet
from typing import Protocol

from hmret.model.images import Image
from hmret.model.plan.expiry import Expiry
from hmret.model.plan.repository_inputs import RepositoryInputs
from hmret.model.policy.compiled import NEVER
from hmret.model.values import frozen
from hmret.model.verdicts import Reason


class Evaluation(Protocol):
    """What is known of the repository whose images are evaluated."""

    @property
    def expiry(self) -> Expiry: ...
    @property
    def inputs(self) -> RepositoryInputs: ...
    @property
    def sources(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def latest(self) -> AbstractSet[str]: ...
    @property
    def is_local(self) -> bool: ...


class Blocker(Protocol):
    """Something that can prevent the deletion of an image."""

    @property
    def reason(self) -> Reason:
        """The reason that a verdict gives for it."""
        ...

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        """Return whether it prevents the deletion of an image."""
        ...


@frozen
class NotReady:
    """It is not ready, or another folder of its digest is not. Unreadable metadata is `Broken` instead."""

    reason = Reason.NOT_READY

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        if image.digest in evaluation.inputs.unready:
            return True
        if image.making is not None and image.foreign is None:
            return True
        return image.status != "ready" and not (image.status == "unknown" and image.broken is not None)


@frozen
class Broken:
    """Its folder is not a complete image, or holds something that must not be deleted with it."""

    reason = Reason.BROKEN

    def blocks(self, image: Image, _evaluation: Evaluation) -> bool:
        return image.broken is not None or image.foreign is not None


@frozen
class Referenced:
    """An instance, a snapshot or another source refers to it."""

    reason = Reason.REFERENCED

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        return image.digest in evaluation.sources


@frozen
class HeldByLease:
    """A live lease covers it."""

    reason = Reason.LEASED

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        return image.digest in evaluation.inputs.leased


@frozen
class Always:
    """The same answer for all images of the repository."""

    reason: Reason

    def blocks(self, _image: Image, _evaluation: Evaluation) -> bool:
        return True


@frozen
class NotPullable:
    """It cannot be pulled again: its label says so, or it has none and was, or may have been, made here."""

    reason = Reason.NOT_PULLABLE

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        if image.pullable is not None:
            return not image.pullable
        return evaluation.is_local or image.digest in evaluation.inputs.built


@frozen
class NewlyUnused:
    """Its timer starts now."""

    reason = Reason.NEWLY_UNUSED

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        return evaluation.expiry.unused_since(image) is None


@frozen
class KeptByRule:
    """A rule keeps it for ever."""

    reason = Reason.KEPT_BY_RULE

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        # guard(rule-keeps-for-ever): An image that an operator's rule keeps for ever is never deleted.
        return evaluation.expiry.rules.of(image.digest).window_ns == NEVER


@frozen
class Waiting:
    """It has not been unused for long enough."""

    reason = Reason.RETENTION_WINDOW

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        expiry = evaluation.expiry
        since_ns = expiry.unused_since(image)
        if since_ns is None or expiry.rules.of(image.digest).window_ns == NEVER:
            return False
        # guard(whole-window-passes): An image that is unused waits for its whole retention window, and falls
        # due at the very end of it.
        return expiry.runs_out_at(image, since_ns) > expiry.now_ns


@frozen
class Latest:
    """It is one of the newest of its repository."""

    reason = Reason.LATEST

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        # guard(newest-images-stay): The newest images of a repository stay, so that one to boot from is
        # always left.
        return image.digest in evaluation.latest


@frozen
class TooYoung:
    """It is younger than the minimum age, or its age is unknown."""

    reason = Reason.TOO_YOUNG

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        # guard(minimum-age-is-respected): An image younger than the minimum age, or of unknown age, stays
        # even if its window has passed.
        return evaluation.expiry.grown_at(image) > evaluation.expiry.now_ns


@frozen
class BackingOff:
    """Its deletion failed lately."""

    reason = Reason.BACKOFF

    def blocks(self, image: Image, evaluation: Evaluation) -> bool:
        return image.digest in evaluation.inputs.backing_off
