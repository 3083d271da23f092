"""Deciding by the policy in force, in a thread, with what the decision before this one has found."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

import attrs

from hmret.actors.scanner import Scanner
from hmret.actors.threads import Threads
from hmret.model.images import Image, Inventory, Key
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.plan.selection import Choice, with_obstacles
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.values import define
from hmret.model.verdicts import Verdict

__all__ = ["Planner"]

_FURTHER = 32
"""How many images are looked at that may go in place of others."""


@define(eq=False)
class Planner:
    """Makes plans by the policy in force."""

    policy: Policy
    scanner: Scanner
    threads: Threads
    last_plan: Plan | None = attrs.field(default=None, init=False)
    """That of the last sweep, most of which stands in the next one; None: there was none."""

    def reconfigure(self, config: RetentionConfig) -> None:
        """Go by other settings from now on."""
        self.policy = Policy.of(config)

    async def plan_sweep(self, inventory: Inventory, now: datetime) -> Plan:
        """Make the plan that a sweep follows."""
        self.last_plan = await self.decide(inventory, now)
        return self.last_plan

    async def decide(self, inventory: Inventory, now: datetime, policy: Policy | None = None) -> Plan:
        """Make the plan, in a thread: at 100,000 images it takes too long for an event loop.

        What goes by it has been looked at once more, whether a deletion would be refused: a plan does not promise that.

        `policy`: another one than that in force.
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
            # What is in a folder the scan will see by itself then.
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
            # Where there are many, each round looks at twice as many.
            further = max(2 * further, _FURTHER)

    async def confirm_newest(
        self, made: Plan, units: Sequence[tuple[Verdict, ...]]
    ) -> tuple[list[tuple[Verdict, ...]], set[Key]]:
        """Look afresh at the newest images, for which older ones may go; returns what of some units may go, and what is otherwise.

        An image that has become unusable without its folder's having changed would be seen hours later.
        """
        if not self.policy.keeps_latest:
            return list(units), set()
        otherwise: set[Key] = set()
        for name in sorted({verdict.repository for rows in units for verdict in rows}):
            for image in made.newest(name):
                found = await self.scanner.inspect_image((name, image.digest), is_content=image.is_content)
                # guard(newest-still-usable): Older images go only because newer ones stay; if one of those is
                # unusable by now, the older ones stay, too.
                if found is None or _rank(found) != _rank(image):
                    otherwise.add((name, image.digest))
                    break
        changed = {name for name, _ in otherwise}
        return [rows for rows in units if not any(row.repository in changed for row in rows)], otherwise


def _in_stead(made: Plan) -> Iterator[Choice]:
    return (choice for substitute in made.substitutes for choice in substitute.choices)


def _rank(image: Image) -> tuple[object, ...]:
    """Tell what makes an image one of the newest."""
    return image.status, image.broken, image.created_ns
