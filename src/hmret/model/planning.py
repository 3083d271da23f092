"""The decision: what becomes of each image, and why.

Everything here is a function of its arguments. Whoever acts on a plan owes it one thing: to look again, under
the image's lock, right before a deletion.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set as AbstractSet
from datetime import datetime
from itertools import chain

import attrs

from hmret.model.brake import Braking
from hmret.model.due_times import DueTimes
from hmret.model.images import DiskUsage, Image, Inventory, Key, Remembered, Suspension
from hmret.model.judging import Circumstances
from hmret.model.policy import Policy
from hmret.model.pressure import Pressed
from hmret.model.protection import Memory, StaleReference, kept_in_mind
from hmret.model.repository_plan import RepositoryPlan, inputs_of, plan_repository
from hmret.model.selection import (
    AtHours,
    Braked,
    Choice,
    Freed,
    Limited,
    Pressure,
    Selection,
    Step,
)
from hmret.model.times import nanoseconds_of
from hmret.model.verdicts import ACTIONS, Action, Reason, Summary, Verdict

__all__ = ["Action", "Plan", "Reason", "Summary", "Verdict", "plan"]

_NO_FINALS: Mapping[str, Reason] = {}
_NONE_GONE: Mapping[str, AbstractSet[str]] = {}


@attrs.frozen(eq=False)
class Plan:
    """The verdicts on all images, sorted by repository and digest, and what else a sweep has to do."""

    at: datetime
    suspended: tuple[Suspension, ...]
    stale_references: tuple[StaleReference, ...]
    remembered: Mapping[Memory, Remembered]
    """What the next inventory carries as `remembered`."""
    marks: tuple[Key, ...]
    """The images whose timer starts now."""
    clears: tuple[tuple[Key, Reason], ...]
    """The images that have a state and should have none, and why."""
    pruned: tuple[Key, ...]
    """States of images that are gone."""
    ready_images: int
    """Images that are ready and whole."""
    protected_images: int
    """Images here that are referenced, ready or not."""
    _parts: Mapping[str, RepositoryPlan]
    _circumstances: Circumstances
    _at_ns: int
    _going: tuple[Choice, ...]
    """Longest unused first."""
    _finals: Mapping[str, Mapping[str, Reason]]
    """What was decided beyond the repositories, by repository and digest."""
    _shifts: Mapping[Reason, int]
    """By how much that changes how many images there are for each reason."""
    _everywhere: tuple[Reason, ...]
    """What holds against every deletion at this hour."""
    braking: Braking | None
    """Set where more has expired at once than the brake lets go."""
    pressure: Pressure | None
    """Set where a limit of the disk is exceeded."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every image with its verdict; made anew at each call."""
        return tuple(self.iterate())

    def iterate(self) -> Iterator[Verdict]:
        """Make the verdicts one after the other: there may be very many."""
        for name in sorted(self._parts):
            yield from self._parts[name].verdicts(self._finals.get(name, _NO_FINALS), self._everywhere)

    @property
    def deletions(self) -> tuple[Verdict, ...]:
        """The images that go, longest unused first."""
        return tuple(verdict for choice in self._going if (verdict := self.verdict(*choice.key)))

    def timers(
        self, gone: Mapping[str, AbstractSet[str]] = _NONE_GONE
    ) -> Iterator[DueTimes | Iterator[tuple[Image, Reason, int | None]]]:
        """Tell, one repository after the other, when its images fall due: added up, or each with its reason.

        One image's time is in nanoseconds since the epoch; None: it has no timer, loses it, or stays for good. One
        whose timer starts now falls due after the whole window. Costs much less than `verdicts`. Images that are
        `gone`, by repository and digest, are left out.
        """
        for name, part in self._parts.items():
            finals, left = self._finals.get(name, _NO_FINALS), gone.get(name)
            due_times = None if finals or left else part.due_times
            if due_times is not None:
                yield due_times
            elif left is None:
                yield part.timers(self._at_ns, finals)
            else:
                yield (one for one in part.timers(self._at_ns, finals) if one[0].digest not in left)

    @property
    def summary(self) -> Summary:
        """The plan in numbers."""
        reasons = self.reasons
        counts = dict.fromkeys(Action, 0)
        for reason, count in reasons.items():
            counts[ACTIONS[reason]] += count
        return Summary(
            images=sum(reasons.values()),
            delete=counts[Action.DELETE],
            delete_bytes=Freed.by(choice.image for choice in self._going).total_bytes,
            mark=counts[Action.MARK],
            clear=counts[Action.CLEAR],
            keep=counts[Action.NONE],
            prune=len(self.pruned),
        )

    @property
    def reasons(self) -> Mapping[Reason, int]:
        """How many images there are for each reason."""
        counts = dict.fromkeys(Reason, 0)
        for part in self._parts.values():
            part.count(counts)
        for reason, count in self._shifts.items():
            counts[reason] += count
        return counts

    def verdict(self, repository: str, digest: str) -> Verdict | None:
        """Find the verdict on one image; None where it is not here."""
        part = self._parts.get(repository)
        if part is None:
            return None
        return part.verdict(digest, self._finals.get(repository, _NO_FINALS).get(digest), self._everywhere)

    @property
    def is_closed(self) -> bool:
        """Whether nothing goes at this hour, but for want of space where that is allowed."""
        return Reason.OUTSIDE_WINDOW in self._everywhere

    def newest(self, repository: str) -> tuple[Image, ...]:
        """List the images of a repository that stay for being among its newest."""
        part = self._parts.get(repository)
        return () if part is None else tuple(part.image(digest) for digest in sorted(part.judge.latest))

    def parts_for(
        self, inventory: Inventory, circumstances: Circumstances, now_ns: int
    ) -> Mapping[str, RepositoryPlan]:
        """Hand over the parts that may stand in a later plan as well, where nothing new is in them."""
        is_alike = circumstances == self._circumstances and inventory.remembered == self.remembered
        return self._parts if is_alike and now_ns >= self._at_ns else {}


def plan(
    inventory: Inventory,
    policy: Policy,
    now: datetime,
    previous: Plan | None = None,
    pause: Callable[[], None] = lambda: None,
) -> Plan:
    """Decide on every image of the inventory.

    The result does not depend on the order of anything in the inventory. An image whose `unused_since` plus window
    is exactly `now` is due. The caller looks again at whatever a deletion rests on, under the image's lock, before
    it acts.

    Args:
        inventory: all that there is.
        policy: what the operator wants.
        now: the time of the plan.
        previous: an earlier plan. What it says of a repository stands in this one where the inventory holds the very
            same objects about it and the time changes nothing; it makes the plan quicker, not another one.
        pause: called after each repository, for a thread that gives way to others.

    Raises:
        ValueError: `now` has no time zone.
    """
    now_ns = nanoseconds_of(now)
    circumstances = Circumstances.of(inventory, policy)
    known = {} if previous is None else previous.parts_for(inventory, circumstances, now_ns)
    leased, backing_off = _by_repository(inventory.leased), _by_repository(inventory.backing_off)
    parts: dict[str, RepositoryPlan] = {}
    apart = leased.keys() | backing_off.keys()
    for name in _names(inventory):
        part = known.get(name)
        is_due = part is None or part.until_ns <= now_ns
        if (
            part is None
            or is_due
            or inventory.unlisted
            or name in apart
            or not part.inputs.stand_in(inventory, name)
        ):
            inputs = inputs_of(inventory, name, leased.get(name), backing_off.get(name))
            if part is None or is_due or not part.inputs.are(inputs):
                part = plan_repository(inventory, name, inputs, circumstances, now_ns)
        parts[name] = part
        pause()
    return _gather(inventory, policy, now, parts, circumstances)


def _names(inventory: Inventory) -> Iterable[str]:
    """List every repository of which anything is known."""
    return {
        *inventory.repositories,
        *inventory.states.by_repository,
        *inventory.references.by_repository,
    }


def _by_repository(keys: Iterable[Key]) -> Mapping[str, AbstractSet[str]]:
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for name, digest in keys:
        digests[name].add(digest)
    return digests


def _gather(
    inventory: Inventory,
    policy: Policy,
    now: datetime,
    parts: Mapping[str, RepositoryPlan],
    circumstances: Circumstances,
) -> Plan:
    """Put the parts together, and choose what goes in one sweep."""
    busy = sorted((name, part) for name, part in parts.items() if not part.is_quiet)
    expired = sorted(
        Choice(since_ns, name, digest, part.image(digest))
        for name, part in busy
        for since_ns, digest in part.due
    )
    selection = Selection(
        now_ns=nanoseconds_of(now),
        going=list(expired),
        eligible=sum(part.eligible for part in parts.values()) if policy.brake else 0,
        cache_bytes=lambda: _cache_bytes(parts.values()),
        spare=lambda: (
            Choice(since_ns, name, image.digest, image)
            for name, part in parts.items()
            for since_ns, image in part.spare
        ),
    )
    for step in _steps(policy, inventory, now):
        step.apply(selection)
    finals = selection.final_reasons()
    return Plan(
        at=now,
        suspended=inventory.suspensions,
        stale_references=tuple(sorted(chain.from_iterable(part.protection.stale for _, part in busy))),
        remembered=_remembered(inventory, parts.values()),
        marks=tuple((name, digest) for name, part in busy for digest in part.marks),
        clears=tuple(((name, digest), reason) for name, part in busy for digest, reason in part.clears),
        pruned=tuple((name, digest) for name, part in busy for digest in part.pruned),
        ready_images=sum(part.ready_images for part in parts.values()),
        protected_images=sum(len(part.protection.sources) for part in parts.values()),
        parts=parts,
        circumstances=circumstances,
        at_ns=selection.now_ns,
        going=tuple(selection.going),
        finals=finals,
        shifts=_shifts(finals, {choice.key for choice in expired}),
        everywhere=(Reason.OUTSIDE_WINDOW,) if selection.is_closed else (),
        braking=selection.braking,
        pressure=selection.pressure,
    )


def _steps(policy: Policy, inventory: Inventory, now: datetime) -> Iterator[Step]:
    """List what decides, in this order, on what goes."""
    if policy.brake is not None:
        yield Braked(policy.brake, inventory.brake_released_images)
    yield AtHours(policy.window, now)
    if policy.disk is not None:
        usage = inventory.disk or DiskUsage(0, 0)
        yield Pressed(policy.disk, usage, bool(inventory.suspensions), policy.window.yields_to_pressure)
    if policy.max_deletes or policy.max_bytes:
        yield Limited(policy.max_deletes, policy.max_bytes)


def _shifts(finals: Mapping[str, Mapping[str, Reason]], expired: AbstractSet[Key]) -> Mapping[Reason, int]:
    """Count what the steps have made of what each repository had said."""
    shifts: Counter[Reason] = Counter()
    for name, reasons in finals.items():
        for digest, reason in reasons.items():
            shifts[reason] += 1
            shifts[Reason.EXPIRED if (name, digest) in expired else Reason.RETENTION_WINDOW] -= 1
    return shifts


def _cache_bytes(parts: Iterable[RepositoryPlan]) -> int:
    """Add up the blocks of all disks, those with several links once."""
    total = 0
    shared: dict[tuple[int, int], int] = {}
    for part in parts:
        own_bytes, linked = part.blocks
        total += own_bytes
        shared.update(linked)
    return total + sum(shared.values())


def _remembered(inventory: Inventory, parts: Iterable[RepositoryPlan]) -> Mapping[Memory, Remembered]:
    """Add up what tags have pointed to; of sources that could not be read, what was known stays known."""
    remembered = kept_in_mind(inventory)
    for part in parts:
        if part.protection.remembered:
            remembered.update(part.protection.remembered)
    # The same object where nothing is new: what rests on it then stands.
    return inventory.remembered if remembered == inventory.remembered else remembered
