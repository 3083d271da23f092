"""Planning under the policy in force, in a thread, reusing parts of the previous plan, with what the fleet is asked."""

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import islice

import anyio
import attrs

from hmret.actors.scanner import Scanner
from hmret.actors.threads import Threads
from hmret.model.deletion import Deletion
from hmret.model.fleet import FleetLink, FleetState, FleetView
from hmret.model.images import Image, Inventory
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.plan.selection import with_obstacles
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.references import Key
from hmret.model.values import define
from hmret.model.verdicts import Reason

_FURTHER = 32
"""How many of the images that could go in place of others are looked at, or asked about, once one of those that go
cannot; doubled each round.
"""

_PATIENCE = 60.0
"""For how many seconds the fleet is asked for one plan."""


@define(eq=False)
class Planner:
    """Makes plans under the policy in force."""

    policy: Policy
    scanner: Scanner
    threads: Threads
    fleet: FleetLink | None = None
    """The fleet that this host is part of; None: it is in none."""
    last_plan: Plan | None = attrs.field(default=None, init=False)
    """The plan of the last sweep, most of which the next one reuses; None: there was no sweep."""

    def reconfigure(self, config: RetentionConfig) -> None:
        """Use other settings from now on."""
        self.policy = Policy.of(config)

    async def plan_sweep(self, inventory: Inventory, now: datetime, *, asks_all: bool = False) -> Plan:
        """Make the plan for a sweep, with a deletion token of the fleet where it needs one.

        `asks_all`: whether the fleet is asked again about everything that it holds back, however recently it was.
        """
        made = await self.decide(inventory, now, asks_all=asks_all, patience=_PATIENCE)
        fleet = self.fleet
        if fleet is not None and made.fleet is not None:
            # None was free the last time; only taking one shows whether one is now.
            wants_token = made.reasons[Reason.FLEET_BRAKE] or made.pressure is not None
            if made.fleet.view.token_free is False and wants_token and await fleet.take_token(1):
                inventory = attrs.evolve(inventory, fleet=fleet.view())
                made = await self.decide(inventory, now, patience=_PATIENCE)
            if made.to_release and not await fleet.take_token(made.to_release):
                made = await self.decide(attrs.evolve(inventory, fleet=fleet.view()), now)
        self.last_plan = made
        return made

    async def decide(
        self,
        inventory: Inventory,
        now: datetime,
        policy: Policy | None = None,
        *,
        asks_all: bool = False,
        patience: float = _PATIENCE / 6,
    ) -> Plan:
        """Make the plan, in a thread: with 100,000 images it takes too long for an event loop.

        The images to be deleted have been checked for obstacles, so that the plan promises no deletion that
        would be refused. The fleet has been asked about them, and about those that it holds back.

        Args:
            inventory: what is here.
            now: the time of the plan.
            policy: a policy other than the one in force.
            asks_all: as `plan_sweep` has it.
            patience: for how many seconds the fleet may be asked; what it has not answered by then stays.
        """
        previous = None if policy is not None else self.last_plan
        policy = policy or self.policy
        looked_at: set[Key] = set()
        further = 0
        asking = None
        if self.fleet is not None and inventory.fleet is not None:
            asking = FleetQuestions(self.fleet, asks_all=asks_all, seconds=patience)
        while True:
            made = await self.threads.run_alone(plan, inventory, policy, now, previous, self.threads.pause)
            if asking is not None and await asking.ask(made):
                inventory = attrs.evolve(inventory, fleet=asking.view())
                previous = made
                continue
            choices = [*made.choices, *islice(made.in_stead, further)]
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

    async def ask_about(self, digest: str) -> None:
        """Ask the fleet, where there is one, about the copies of one image, however recently it was asked."""
        if self.fleet is not None:
            with anyio.move_on_after(_PATIENCE / 6):
                await self.fleet.ask((digest,), asks_all=True)

    async def recheck_newest(
        self, made: Plan, deletions: Sequence[Deletion]
    ) -> tuple[list[Deletion], set[Key]]:
        """Re-check the newest images, whose presence allows older ones to be deleted.

        Returns which of some images may still be deleted, and which images were not as expected. Without this,
        an image that became unusable without a change to its folder would be noticed only hours later.
        """
        if not self.policy.keeps_latest:
            return list(deletions), set()
        changed: set[Key] = set()
        for name in sorted({row.repository for deletion in deletions for row in deletion.rows}):
            for image in made.newest(name):
                found = await self.scanner.inspect_image((name, image.digest), is_content=image.is_content)
                # guard(newest-still-usable): Older images are deleted only because newer ones stay; if one of
                # those has become unusable, the older ones stay too.
                if found is None or _rank(found) != _rank(image):
                    changed.add((name, image.digest))
                    break
        repositories = {name for name, _ in changed}
        return [one for one in deletions if repositories.isdisjoint(one.repositories)], changed


def _rank(image: Image) -> tuple[object, ...]:
    """Return what decides whether an image is among the newest; compared with what the plan had."""
    return image.status, image.broken, image.created_ns


@define(eq=False)
class FleetQuestions:
    """What the fleet is asked while a plan is made: about what would go, until nothing unasked goes.

    Each question is asked once, so that a fleet that does not answer ends them.
    """

    link: FleetLink
    asks_all: bool = attrs.field(kw_only=True)
    """Whether to ask again about everything held back, however recently it was asked about."""
    seconds: float = attrs.field(kw_only=True)
    """How long the answers may take altogether; what has not been answered by then stays."""
    _deadline: float = attrs.field(
        default=attrs.Factory(lambda self: anyio.current_time() + self.seconds, takes_self=True), init=False
    )
    _asked: set[str] = attrs.field(factory=set, init=False)
    _further: int = attrs.field(default=0, init=False)
    _is_first_round_over: bool = attrs.field(default=False, init=False)
    """Whether all that a plan would delete was asked about; not while all that was learned is that the host has joined
    or that the fleet goes on, so that the next plan counts as the first.
    """

    def view(self) -> FleetView:
        """Return what is known now."""
        return self.link.view()

    async def ask(self, made: Plan) -> bool:
        """Ask what a plan depends on; returns whether the plan is to be made again."""
        is_first, self._is_first_round_over = not self._is_first_round_over, True
        if is_first and self.link.state is FleetState.JOINING and (made.expired or made.pressure is not None):
            # A question waits until this host has joined, or for a while.
            await self._ask(())
            self._is_first_round_over = self.link.state is FleetState.JOINING
            return True
        if is_first and self.asks_all and made.reasons[Reason.FLEET_PAUSED]:
            # Somebody may have resumed since the settings were last read.
            await self._ask(())
            self._is_first_round_over = _is_paused(self.link.view())
            return True
        wanted = made.to_ask if is_first else made.unasked
        new = [digest for digest in wanted if digest not in self._asked]
        if not new or anyio.current_time() >= self._deadline:
            return False
        if not is_first:
            # Each round asks about twice as many of those that may come next, in case the fleet keeps many.
            self._further = max(2 * self._further, _FURTHER)
            known = self.link.view().facts
            further = (choice.digest for choice in islice(made.in_stead, self._further))
            new += [one for one in further if one not in known and one not in self._asked]
        self._asked.update(new)
        await self._ask(dict.fromkeys(new))
        return made.fleet is None or self.link.view() != made.fleet.view

    async def _ask(self, digests: Collection[str]) -> None:
        with anyio.CancelScope(deadline=self._deadline):
            await self.link.ask(tuple(digests), asks_all=self.asks_all)


def _is_paused(view: FleetView) -> bool:
    return view.settings is not None and view.settings.paused is not None
