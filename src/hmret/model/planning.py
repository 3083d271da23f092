"""The decision: what becomes of each image, and why.

Everything here is a function of its arguments. Whoever acts on a plan owes it one thing: to look again, under
the image's lock, right before a deletion.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime

import attrs

from hmret.model.images import Image, Inventory, Key, Remembered, Suspension
from hmret.model.judging import Judge
from hmret.model.policy import Policy
from hmret.model.protection import StaleReference, protect
from hmret.model.times import nanoseconds_of
from hmret.model.verdicts import ACTIONS, Action, Reason, Summary, Verdict

__all__ = ["Action", "Plan", "Reason", "Summary", "Verdict", "plan"]


@attrs.frozen(eq=False)
class Plan:
    """The verdicts on all images, sorted by repository and digest, and what else a sweep has to do."""

    at: datetime
    suspended: tuple[Suspension, ...]
    stale_references: tuple[StaleReference, ...]
    remembered: Mapping[tuple[str, str], Remembered]
    """What the next inventory carries as `remembered`."""
    pruned: tuple[Key, ...]
    """States of images that are gone."""
    ready_images: int
    """Images that are ready and whole."""
    protected_images: int
    """Images here that are referenced, ready or not."""
    _judge: Judge
    _decisions: tuple[tuple[str, Image, Reason], ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every image with its verdict; made anew at each call."""
        return tuple(self._verdict(*decision) for decision in self._decisions)

    @property
    def deletions(self) -> tuple[Verdict, ...]:
        """The images that go, longest unused first."""
        going = [self._verdict(*decision) for decision in self._decisions if decision[2] is Reason.EXPIRED]
        return tuple(sorted(going, key=lambda verdict: verdict.unused_since_ns or 0))

    @property
    def marks(self) -> tuple[Key, ...]:
        """The images whose timer starts now."""
        return tuple(
            (name, image.digest) for name, image, reason in self._decisions if reason is Reason.NEWLY_UNUSED
        )

    @property
    def clears(self) -> tuple[tuple[Key, Reason], ...]:
        """The images that have a state and should have none, and why."""
        states = self._judge.inventory.states
        return tuple(
            ((name, image.digest), reason)
            for name, image, reason in self._decisions
            if ACTIONS[reason] is Action.CLEAR and (name, image.digest) in states
        )

    @property
    def summary(self) -> Summary:
        """The plan in numbers."""
        counts = dict.fromkeys(Action, 0)
        for _name, _image, reason in self._decisions:
            counts[ACTIONS[reason]] += 1
        return Summary(
            images=len(self._decisions),
            delete=counts[Action.DELETE],
            delete_bytes=_freed_bytes(
                image for _, image, reason in self._decisions if reason is Reason.EXPIRED
            ),
            mark=counts[Action.MARK],
            clear=counts[Action.CLEAR],
            keep=counts[Action.NONE],
            prune=len(self.pruned),
        )

    def verdict(self, repository: str, digest: str) -> Verdict | None:
        """Find the verdict on one image; None where it is not here."""
        found = (one for one in self._decisions if one[0] == repository and one[1].digest == digest)
        decision = next(found, None)
        return None if decision is None else self._verdict(*decision)

    def _verdict(self, repository: str, image: Image, reason: Reason) -> Verdict:
        return self._judge.verdict(repository, image, reason)


def plan(inventory: Inventory, policy: Policy, now: datetime) -> Plan:
    """Decide on every image of the inventory.

    The result does not depend on the order of anything in the inventory. An image whose `unused_since` plus window
    is exactly `now` is due. The caller looks again at whatever a deletion rests on, under the image's lock, before
    it acts.

    Raises:
        InvalidReferenceError: a reference does not parse.
        ValueError: `now` has no time zone.
    """
    judge = Judge(inventory, policy, protect(inventory), nanoseconds_of(now))
    decisions: list[tuple[str, Image, Reason]] = []
    due: list[tuple[int, str, str, int]] = []
    for name in sorted(inventory.repositories):
        repository = inventory.repositories[name]
        for digest in sorted(repository.images):
            image = repository.images[digest]
            reason = next(judge.reasons(name, image), Reason.EXPIRED)
            if reason is Reason.EXPIRED:
                due.append((judge.unused_since(name, digest) or 0, name, digest, len(decisions)))
            decisions.append((name, image, reason))
    if policy.max_deletes and len(due) > policy.max_deletes:
        for _since, _name, _digest, position in sorted(due)[policy.max_deletes :]:
            name, image, _reason = decisions[position]
            decisions[position] = (name, image, Reason.DEFERRED)
    protection = judge.protection
    return Plan(
        at=now,
        suspended=inventory.suspensions,
        stale_references=protection.stale,
        remembered=protection.remembered,
        pruned=tuple(sorted(key for key in inventory.states if _is_gone(key, inventory))),
        ready_images=sum(image.status == "ready" and image.broken is None for _, image, _ in decisions),
        protected_images=len(protection.sources),
        judge=judge,
        decisions=tuple(decisions),
    )


def _is_gone(key: Key, inventory: Inventory) -> bool:
    """Tell whether the image of a state is known not to be here."""
    name = key[0]
    return not inventory.holds(key) and not any(
        not part or name == part or name.startswith(f"{part}/") for part in inventory.unlisted
    )


def _freed_bytes(images: Iterator[Image]) -> int:
    """Add up the blocks that come free when all these go."""
    total = 0
    links: defaultdict[tuple[int, int], int] = defaultdict(int)
    for image in images:
        disk = image.shared_disk
        if disk is None:
            total += image.disk_bytes
            continue
        links[disk.device, disk.inode] += 1
        if links[disk.device, disk.inode] == disk.links:
            total += image.disk_bytes
    return total
