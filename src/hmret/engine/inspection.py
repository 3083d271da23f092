"""Looking without touching: what a sweep would do, and why."""

from collections.abc import Mapping
from datetime import datetime

from hmret.actors.scanner import Scanner
from hmret.disk.layout import DIGEST_HEX, digest_of
from hmret.engine.planner import Planner
from hmret.engine.surveyor import Survey, Surveyor
from hmret.model.errors import ImageNotFoundError, InvalidReferenceError
from hmret.model.images import Key, Suspension
from hmret.model.plan.plan import Plan
from hmret.model.plan.pressure import seen_by
from hmret.model.plan.search import find_images, is_digest, is_searchable, sole_image
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.references import ImageReference, parse_reference
from hmret.model.values import frozen
from hmret.model.verdicts import Verdict

__all__ = ["Inspection", "named_image"]


@frozen(eq=False)
class Inspection:
    """Looks without touching: what a sweep would do, and why."""

    surveyor: Surveyor
    planner: Planner
    scanner: Scanner

    async def plan(self, at: datetime | None = None) -> Plan:
        """Make the plan that a sweep would follow now, or at another time, if nothing else changes until then.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        survey, now = await self._survey()
        return await self.planner.decide(survey.inventory, at or now)

    async def compare(self, config: RetentionConfig, at: datetime | None = None) -> tuple[Plan, Plan]:
        """Make the plan by the policy in force, and that by another, of the same inventory.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        survey, now = await self._survey(measures_disk=True)
        in_force = await self.planner.decide(survey.inventory, at or now)
        policy = Policy.of(config)
        inventory = seen_by(policy, self.planner.policy, survey.inventory)
        return in_force, await self.planner.decide(inventory, at or now, policy=policy)

    async def _survey(self, *, measures_disk: bool = False) -> tuple[Survey, datetime]:
        """Look at everything, and at the time."""
        moment = self.surveyor.moment()
        leases = await self.surveyor.locks.leases()
        disk = await self.surveyor.peek_usage(moment, anyway=measures_disk)
        return await self.surveyor.survey(moment, leases=leases, disk=disk), moment.now

    async def explain(self, image: str, digest: str | None = None) -> Verdict:
        """Tell what a sweep would do now with one image, and everything that holds against its deletion.

        Where the text names no image by reference, it may be 12 digits or more of its digest, or the name or id of a VM.

        Raises:
            InvalidReferenceError: the text is no reference.
            AmbiguousImageError: the text may mean several images.
            ImageNotFoundError: the image is not here.
            EngineClosedError: the engine has stopped.
        """
        return (await self.explain_fully(image, digest))[0]

    async def explain_fully(
        self, image: str, digest: str | None = None
    ) -> tuple[Verdict, tuple[Suspension, ...]]:
        """Tell as `explain` does, and what suspends deletion everywhere."""
        return (await self.explain_with_names(image, digest))[:2]

    async def explain_with_names(
        self, image: str, digest: str | None = None
    ) -> tuple[Verdict, tuple[Suspension, ...], Mapping[str, str]]:
        """Tell as `explain_fully` does, and the names of those who refer to the image."""
        try:
            key = await self.resolve(named_image(image, digest), image)
        except (ImageNotFoundError, InvalidReferenceError):
            found = None if digest is not None else await self.search(image)
            if found is None:
                raise
            key = found
        made = await self.plan()
        verdict = made.verdict(*key)
        if verdict is None:
            raise ImageNotFoundError(f"{image}: not in the cache")
        names = {source: name for source in verdict.referenced_by if (name := made.vm_names.get(source))}
        return verdict, made.suspended, names

    async def search(self, text: str) -> Key | None:
        """Find the image that a person means by digits of its digest or by who needs it; None: none is meant so.

        Raises:
            AmbiguousImageError: it may be one of several.
            ImageNotFoundError: the text is a whole digest, and no image of that digest is here.
        """
        if not is_searchable(text):
            return None
        threads = self.planner.threads
        found = await threads.run_alone(find_images, await self.plan(), text, threads.pause)
        if not found and is_digest(text):
            raise ImageNotFoundError(f"{text}: not in the cache")
        return sole_image(found, text)

    async def resolve(self, named: ImageReference, text: str) -> Key:
        """Find the image that a reference names now."""
        if named.digest is not None:
            return named.repository, named.digest
        digest = await self.scanner.resolve_tag(named.repository, named.tag or "latest")
        if digest is None:
            raise ImageNotFoundError(f"{text}: not in the cache")
        return named.repository, digest


def named_image(image: str, digest: str | None) -> ImageReference:
    """Read what a caller names: a reference, or a digest beside it, which then counts. A digest may come with or without `sha256:`.

    Raises:
        InvalidReferenceError: it is no reference.
    """
    named = parse_reference(image)
    if digest is None:
        return named
    hexadecimal = digest.removeprefix("sha256:")
    if not DIGEST_HEX.fullmatch(hexadecimal):
        raise InvalidReferenceError(f"not a digest: {digest[:100]!r}")
    return ImageReference(named.repository, None, digest_of(hexadecimal))
