"""Planning under the policy in force, in a thread, reusing parts of the previous plan."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

import attrs

from hmret.actors.scanner import Scanner
from hmret.actors.threads import Threads
from hmret.model.deletion import Deletion
from hmret.model.images import Image, Inventory, Key
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.plan.selection import Choice, with_obstacles
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.values import define

__all__ = ["Planner"]

_FURTHER = 32
"""How many of the images that could be deleted in place of others are checked in the first round."""


@define(eq=False)
class Planner:
    """Makes plans under the policy in force."""

    policy: Policy
    scanner: Scanner
    threads: Threads
    last_plan: Plan | None = attrs.field(default=None, init=False)
    """The plan of the last sweep, most of which the next one reuses; None: there was no sweep."""

    def reconfigure(self, config: RetentionConfig) -> None:
        """Use other settings from now on."""
        self.policy = Policy.of(config)

    async def plan_sweep(self, inventory: Inventory, now: datetime) -> Plan:
        """Make the plan for a sweep."""
        self.last_plan = await self.decide(inventory, now)
        return self.last_plan

    async def decide(self, inventory: Inventory, now: datetime, policy: Policy | None = None) -> Plan:
        """Make the plan, in a thread: with 100,000 images it takes too long for an event loop.

        The images to be deleted have been checked for obstacles, so that the plan promises no deletion that
        would be refused.

        `policy`: a policy other than the one in force.
        """
        previous = None if policy is not None else self.last_plan
        policy = policy or self.policy
        looked_at: set[Key] = set()
        further = 0
        while True:
            made = await self.threads.run_alone(plan, inventory, policy, now, previous, self.threads.pause)
            choices = [*made.choices, *islice(_in_stead(made), further)]
            fresh = [choice for choice in choices if choice.keys[0] not in looked_at]
            obstacles = await self.scanner.find_obstacles(fresh) if fresh else {}
            if not obstacles:
                return made
            looked_at.update(choice.keys[0] for choice in fresh)
            chosen = {choice: obstacles[key] for choice in fresh if (key := choice.keys[0]) in obstacles}
            # From now on the scan notices what is in such a folder by itself.
            await self.scanner.invalidate(
                {
                    key
                    for choice, obstacle in chosen.items()
                    if obstacle.is_broken or obstacle.will_pass
                    for key in choice.keys
                }
            )
            inventory = with_obstacles(inventory, chosen)
            previous = made
            # Each round checks twice as many, in case there are many.
            further = max(2 * further, _FURTHER)

    async def confirm_newest(
        self, made: Plan, deletions: Sequence[Deletion]
    ) -> tuple[list[Deletion], set[Key]]:
        """Re-check the newest images, whose presence allows older ones to be deleted.

        Returns which of some images may still be deleted, and which images were not as expected. Without this,
        an image that became unusable without a change to its folder would be noticed only hours later.
        """
        if not self.policy.keeps_latest:
            return list(deletions), set()
        otherwise: set[Key] = set()
        for name in sorted({row.repository for deletion in deletions for row in deletion.rows}):
            for image in made.newest(name):
                found = await self.scanner.inspect_image((name, image.digest), is_content=image.is_content)
                # guard(newest-still-usable): Older images are deleted only because newer ones stay; if one of
                # those has become unusable, the older ones stay too.
                if found is None or _rank(found) != _rank(image):
                    otherwise.add((name, image.digest))
                    break
        changed = {name for name, _ in otherwise}
        return [one for one in deletions if changed.isdisjoint(one.repositories)], otherwise


def _in_stead(made: Plan) -> Iterator[Choice]:
    return (choice for substitute in made.substitutes for choice in substitute.choices)


def _rank(image: Image) -> tuple[object, ...]:
    """Return the sort key by which an image is among the newest."""
    return image.status, image.broken, image.created_ns
