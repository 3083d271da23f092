"""What the fleet is told of this host by each sweep: its copies, what uses them, and how it fares."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import attrs

from hmret.actors.threads import Threads
from hmret.engine.surveyor import Survey
from hmret.model.fleet import FleetLink, FleetSummary, WholeCopy
from hmret.model.images import Repository
from hmret.model.plan.forecast import count_due
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.values import define
from hmret.settings.policy_document import policy_fingerprint

_DAY = timedelta(days=1)


@define(eq=False)
class FleetNews:
    """What a host tells its fleet."""

    link: FleetLink
    threads: Threads
    tells_uses: bool
    """Whether a setting of this host asks for the uses of images."""
    _copies: int = attrs.field(default=0, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _has_told: bool = attrs.field(default=False, init=False)
    """Whether the others have been told anything of this host."""

    async def tell_copies(self, survey: Survey, config: RetentionConfig, now: datetime) -> None:
        """Tell which copies are here, as the survey found them, and by which policy they may go."""
        # guard(fleet-knows-the-policy-first): Under new settings nothing may be released by a token that was taken
        # under other ones.
        self.link.use_policy(policy_fingerprint(config))
        repositories = survey.inventory.repositories
        copies = await self.threads.run_alone(_whole_copies, repositories.values())
        self._copies, self._bytes = len(copies), sum(copy.disk_bytes for copy in copies)
        if not self._has_told:
            # A host that joins is seen with this at once; one that sweeps once and leaves tells no more.
            await self._tell(config, now)
        await self.link.saw(copies)

    async def tell_sweep(self, plan: Plan, survey: Survey, config: RetentionConfig) -> None:
        """Tell which copies guests, snapshots and leases use, and what the others see of this host."""
        if self.tells_uses:
            self.link.tell_use(frozenset(_used(plan, survey)), plan.at)
        due = await self.threads.run_alone(count_due, plan, timedelta())
        due_24h = await self.threads.run_alone(count_due, plan, _DAY)
        await self._tell(config, plan.at, due=due, due_24h=due_24h)

    async def _tell(self, config: RetentionConfig, now: datetime, *, due: int = 0, due_24h: int = 0) -> None:
        self._has_told = True
        await self.link.tell_summary(
            FleetSummary(
                copies=self._copies,
                disk_bytes=self._bytes,
                due=due,
                due_24h=due_24h,
                policy=policy_fingerprint(config),
                last_sweep=now,
            )
        )


def _whole_copies(repositories: Iterable[Repository]) -> list[WholeCopy]:
    """List the digests that are here ready and whole, once each, with the blocks of all that is here of them."""
    found: dict[str, int] = {}
    contents: set[str] = set()
    for repository in repositories:
        for digest, image in repository.images.items():
            folders = image.folders
            if image.is_content and digest in contents:
                folders = folders[1:]
            elif image.is_content:
                contents.add(digest)
            whole = [folder for folder in folders if folder.is_plain]
            if whole:
                found[digest] = found.get(digest, 0) + sum(folder.disk_bytes for folder in whole)
    return [WholeCopy(digest, disk_bytes) for digest, disk_bytes in found.items()]


def _used(plan: Plan, survey: Survey) -> Iterator[str]:
    for _, by_digest in plan.sources():
        yield from by_digest
    for _, digest in survey.inventory.leased:
        yield digest
