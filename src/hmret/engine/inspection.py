"""Read-only inspection: what a sweep would do, and why."""

from collections.abc import Mapping
from datetime import datetime

from hmret.disk.layout import CONTENT, DIGEST_HEX, IMAGES, digest_of, hex_of, path_below
from hmret.engine.planner import Planner
from hmret.engine.surveyor import Survey, Surveyor
from hmret.model.errors import ImageNotFoundError, InvalidReferenceError
from hmret.model.images import Suspension
from hmret.model.plan.plan import Plan
from hmret.model.plan.pressure import without_state_of_other_policy
from hmret.model.plan.search import find_images, is_digest, is_searchable, sole_image
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.references import ImageReference, Key, parse_reference
from hmret.model.values import frozen
from hmret.model.verdicts import Verdict


@frozen(eq=False)
class Inspection:
    """Determines what a sweep would do, and why, without changing anything."""

    surveyor: Surveyor
    planner: Planner

    @property
    def last_plan(self) -> Plan | None:
        """The plan of the last sweep; None: there was none."""
        return self.planner.last_plan

    async def plan(self, at: datetime | None = None) -> Plan:
        """Make the plan that a sweep would follow now, or at another time if nothing else changes until then.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        survey, now = await self._survey()
        return await self.planner.decide(survey.inventory, at or now)

    async def compare(self, config: RetentionConfig, at: datetime | None = None) -> tuple[Plan, Plan]:
        """Make two plans from the same inventory: under the policy in force, and under another.

        Raises:
            EngineClosedError: the engine has stopped.
            ValueError: `at` has no time zone.
        """
        survey, now = await self._survey(measures_disk=True)
        in_force = await self.planner.decide(survey.inventory, at or now)
        policy = Policy.of(config)
        inventory = without_state_of_other_policy(policy, self.planner.policy, survey.inventory)
        return in_force, await self.planner.decide(inventory, at or now, policy=policy)

    async def _survey(self, *, measures_disk: bool = False) -> tuple[Survey, datetime]:
        """Take the inventory and read the clock."""
        moment = self.surveyor.moment()
        disk = await self.surveyor.peek_usage(moment, anyway=measures_disk)
        return await self.surveyor.survey(moment, disk=disk), moment.now

    async def explain(
        self, image: str, digest: str | None = None
    ) -> tuple[Verdict, tuple[Suspension, ...], Mapping[str, str]]:
        """Explain what a sweep would do now with one image, and list everything that blocks its deletion.

        Also returns what suspends deletion everywhere, and the names of the VMs and snapshots that refer to the
        image, keyed as in `referenced_by`.

        If the text is not a reference to an image, it may be 12 or more digits of its digest, or the name or
        id of a VM.

        Raises:
            InvalidReferenceError: the text is not a reference.
            AmbiguousImageError: the text matches several images.
            ImageNotFoundError: the image is not here.
            EngineClosedError: the engine has stopped.
        """
        verdict, made = await self.find(image, digest)
        return verdict, made.suspended, names_of(verdict, made)

    async def find(self, image: str, digest: str | None = None) -> tuple[Verdict, Plan]:
        """Find an image as `explain` does; returns what would happen to it, and the whole plan."""
        try:
            key = await self.resolve(named_image(image, digest), image)
        except (ImageNotFoundError, InvalidReferenceError):
            found = None if digest is not None else await self.search(image)
            if found is None:
                raise
            key = found
        await self.planner.ask_about(key[1])
        made = await self.plan()
        verdict = made.verdict(*key)
        if verdict is None:
            raise ImageNotFoundError(f"{image}: not in the cache")
        return verdict, made

    async def search(self, text: str) -> Key | None:
        """Find the image meant by digits of its digest or by a VM that needs it; None: none is meant that way.

        Raises:
            AmbiguousImageError: several images match.
            ImageNotFoundError: the text is a full digest, and no image with that digest is here.
        """
        if not is_searchable(text):
            return None
        threads = self.planner.threads
        found = await threads.run_alone(find_images, await self.plan(), text, threads.pause)
        if not found and is_digest(text):
            raise ImageNotFoundError(f"{text}: not in the cache")
        return sole_image(found, text)

    async def resolve(self, named: ImageReference, text: str) -> Key:
        """Find the image that a reference currently points to."""
        if named.digest is not None:
            return named.repository, named.digest
        scanner = self.surveyor.scanner
        digest = await scanner.resolve_tag(named.repository, named.tag or "latest")
        if digest is None:
            raise ImageNotFoundError(f"{text}: not in the cache")
        return named.repository, digest


def named_image(image: str, digest: str | None) -> ImageReference:
    """Parse the reference that a caller gives; a digest that is given too takes precedence.

    The digest may be written with or without `sha256:`.

    Raises:
        InvalidReferenceError: it is not a reference.
    """
    named = parse_reference(image)
    if digest is None:
        return named
    hexadecimal = digest.removeprefix("sha256:")
    if not DIGEST_HEX.fullmatch(hexadecimal):
        raise InvalidReferenceError(f"not a digest: {digest[:100]!r}")
    return ImageReference(named.repository, None, digest_of(hexadecimal))


def names_of(verdict: Verdict, made: Plan) -> Mapping[str, str]:
    """Return the display names of the sources that need an image, by their names in `referenced_by`."""
    return {source: name for source in verdict.referenced_by if (name := made.vm_names.get(source))}


def folders_of(verdict: Verdict, made: Plan, data_dir: str) -> tuple[str, ...]:
    """Return the paths of an image's folders: of the content, and of the repository's own."""
    image = made.image(verdict.repository, verdict.digest)
    folders = () if image is None else image.folders
    return tuple(
        path_below(
            data_dir, f"{IMAGES}/{CONTENT if one.is_content else verdict.repository}/{hex_of(one.digest)}"
        )
        for one in folders
    )
