"""The decision: what happens to each image, and why.

Everything here is a pure function of its arguments. A plan only names candidates: before it acts on one, the
caller must check each image again, under the image's lock.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set as AbstractSet
from datetime import datetime
from itertools import chain
from operator import is_

from hmret.model.clock.unwatched import Gaps
from hmret.model.deletion import Deletion, DueRow
from hmret.model.images import DiskUsage, Inventory
from hmret.model.plan.evaluate import PlanContext
from hmret.model.plan.fleet.judge import FleetJudge
from hmret.model.plan.fleet.step import FleetLimitStep, FleetStep, UnaskedStep
from hmret.model.plan.gathering import Gathered, shifts_of
from hmret.model.plan.plan import KnownProtection, Plan
from hmret.model.plan.pressure import PressureStep
from hmret.model.plan.repository_inputs import inputs_of
from hmret.model.plan.repository_plan import NO_FINALS, RepositoryPlan, plan_repository
from hmret.model.plan.selection import (
    BrakeStep,
    Choice,
    QuotaStep,
    Selection,
    SelectionStep,
    WindowStep,
)
from hmret.model.plan.units import evictable_units
from hmret.model.policy.compiled import Policy
from hmret.model.protection import (
    NO_PROTECTION,
    foreign_owners,
    names_above,
    protect_repository,
)
from hmret.model.references import Key
from hmret.model.times import nanoseconds_of
from hmret.model.verdicts import Reason


def plan(
    inventory: Inventory,
    policy: Policy,
    now: datetime,
    previous: Plan | None = None,
    pause: Callable[[], None] = lambda: None,
) -> Plan:
    """Decide on every image of the inventory.

    The result does not depend on the order of anything in the inventory. An image whose `unused_since` plus
    window is exactly `now` is due. Before acting on the plan, the caller checks again, under the image's
    lock, everything that a deletion rests on.

    Args:
        inventory: everything that is known of the cache.
        policy: the operator's policy.
        now: the time of the plan.
        previous: an earlier plan. Its decisions on a repository are reused where the inventory holds the very
            same objects about it and the passing of time changes nothing; that makes the plan faster, never
            different.
        pause: called after each repository, so that a thread can yield to others.

    Raises:
        ValueError: `now` has no time zone.
    """
    now_ns = nanoseconds_of(now)
    context = PlanContext.of(inventory, policy, now_ns)
    known: Mapping[str, RepositoryPlan] = {}
    known_protections: Mapping[str, KnownProtection] = {}
    if previous is not None:
        known, known_protections = previous.parts_for(inventory, context, now_ns)
        gathered = previous.stands(inventory, context, now_ns)
        if gathered is not None:
            return _choose(inventory, policy, now, known, known_protections, context, gathered)
    protections = _protections(inventory, known_protections, now_ns, pause)
    foreign = _foreign(inventory, protections)
    leased = _by_repository(chain(inventory.leased, _leased_by_others(inventory)))
    backing_off = _by_repository(inventory.backing_off)
    accessed: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (name, digest), read_ns in inventory.accessed.items():
        accessed[name][digest] = read_ns
    parts: dict[str, RepositoryPlan] = {}
    apart = leased.keys() | backing_off.keys() | foreign.keys() | accessed.keys()
    for name in _names(inventory):
        part = known.get(name)
        protection = protections[name].found if name in protections else NO_PROTECTION
        # guard(time-ends-a-verdict): Time alone can change what is decided on a repository; from that moment
        # on it is decided again.
        is_due = part is None or part.until_ns <= now_ns
        if (
            part is None
            or is_due
            or inventory.unlisted
            or name in apart
            or not part.inputs.match_inventory(inventory, name, protection)
        ):
            inputs = inputs_of(
                inventory,
                name,
                protection,
                foreign=foreign.get(name),
                leased=leased.get(name),
                backing_off=backing_off.get(name),
                accessed=accessed.get(name),
            )
            if part is None or is_due or not part.inputs.match(inputs):
                part = plan_repository(name, inputs, context, now_ns)
        parts[name] = part
        pause()
    gathered = Gathered.of(inventory, parts, {name: one.found for name, one in protections.items()})
    return _choose(inventory, policy, now, parts, protections, context, gathered)


def deletion_of(made: Plan, choice: Choice, reason: Reason | None = None) -> Deletion | None:
    """Return the deletion of an image that a plan chose; None: a row of it has no timer.

    `reason`: why it goes, where it goes in place of another image; None: as the plan says.
    """
    rows: list[DueRow] = []
    images = (choice.image, *(image for _, image in choice.others))
    for image, row in zip(images, made.rows(choice), strict=True):
        if row.unused_since_ns is None:
            return None
        rows.append(DueRow(row.repository, row.unused_since_ns, reason or row.reason, row.tags, image))
    return Deletion(choice.digest, tuple(rows), choice.image.is_content)


def _protections(
    inventory: Inventory, known: Mapping[str, KnownProtection], now_ns: int, pause: Callable[[], None]
) -> Mapping[str, KnownProtection]:
    """Resolve the references to each repository; results that rest on the very same objects are reused."""
    found: dict[str, KnownProtection] = {}
    repositories = inventory.repositories
    for name, references in inventory.references.by_repository.items():
        before = known.get(name)
        if (
            before is not None
            and before.found.is_lasting
            and before.references is references
            and before.repository is repositories.get(name)
            and all(map(is_, before.above, map(repositories.get, before.names_above)))
        ):
            found[name] = before
        else:
            protection = protect_repository(inventory, name, now_ns)
            above = names_above(name)
            of_above = tuple(map(repositories.get, above))
            found[name] = KnownProtection(references, repositories.get(name), above, of_above, protection)
        pause()
    return found


def _foreign(
    inventory: Inventory, protections: Mapping[str, KnownProtection]
) -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Return the sources that need content under a repository that does not own it, by owner and digest."""
    found: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    contents = inventory.contents
    for name, protected in protections.items():
        for digest in protected.found.elsewhere:
            if digest in contents:
                for owner in foreign_owners(inventory, name, digest):
                    found[owner][digest].update(protected.found.sources[digest])
    return {
        owner: {digest: frozenset(sources) for digest, sources in by_digest.items()}
        for owner, by_digest in found.items()
    }


def _leased_by_others(inventory: Inventory) -> Iterator[Key]:
    """List the rows of content that a lease covers under the name of a repository that does not own it."""
    for name, digest in inventory.leased:
        for owner in foreign_owners(inventory, name, digest):
            repository = inventory.repositories.get(owner)
            image = None if repository is None else repository.images.get(digest)
            if image is not None and image.is_content:
                yield owner, digest


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


def _choose(  # noqa: PLR0917 - all that a plan is made of
    inventory: Inventory,
    policy: Policy,
    now: datetime,
    parts: Mapping[str, RepositoryPlan],
    protections: Mapping[str, KnownProtection],
    context: PlanContext,
    gathered: Gathered,
) -> Plan:
    """Choose the images that go in one sweep."""
    due_shared = gathered.due_shared
    selection = Selection(
        now_ns=nanoseconds_of(now),
        going=list(gathered.expired),
        eligible=_eligible(inventory, parts.values()) if policy.brake else 0,
        cache_bytes=lambda: _cache_bytes(part.blocks for part in parts.values()),
        cache_sizes=lambda: _cache_bytes(part.sizes for part in parts.values()),
        evictable=lambda: evictable_units(parts, inventory.contents, due_shared),
    )
    fleet = None if inventory.fleet is None else FleetJudge(inventory.fleet, now, inventory.repositories)
    for step in _steps(policy, inventory, now, context.gaps, fleet):
        step.apply(selection)
    chosen = selection.final_reasons()
    finals, shifts = due_shared.finals, due_shared.shifts
    if chosen:
        finals = {
            name: {**due_shared.finals.get(name, NO_FINALS), **chosen.get(name, NO_FINALS)}
            for name in {**due_shared.finals, **chosen}
        }
        shifts = shifts_of(finals, parts)
    return Plan(
        at=now,
        suspended=inventory.suspensions,
        stale_references=gathered.stale_references,
        remembered=gathered.remembered,
        marks=gathered.marks,
        mark_times=gathered.mark_times,
        held_back=gathered.held_back,
        expired=len(gathered.expired),
        clears=gathered.clears,
        pruned=gathered.pruned,
        ready_images=gathered.ready_images,
        protected_images=gathered.protected_images,
        parts=parts,
        context=context,
        at_ns=selection.now_ns,
        going=tuple(selection.going),
        finals=finals,
        shifts=shifts,
        protections=protections,
        inventory=inventory,
        gathered=gathered,
        everywhere=(Reason.OUTSIDE_WINDOW,) if selection.is_closed else (),
        braking=selection.braking,
        pressure=selection.pressure,
        substitutes=tuple(selection.substitutes),
        obstacles=inventory.obstacles,
        fleet=fleet,
        unasked=selection.unasked,
        to_ask=selection.to_ask,
        to_release=selection.to_release,
    )


def _steps(
    policy: Policy, inventory: Inventory, now: datetime, gaps: Gaps, fleet: FleetJudge | None
) -> Iterator[SelectionStep]:
    """List the steps that choose what goes, in order."""
    if policy.brake is not None:
        yield BrakeStep(policy.brake, inventory.brake_released_images)
    yield WindowStep(policy.window, now)
    if fleet is not None:
        yield FleetStep(fleet)
    if policy.disk is not None:
        usage = inventory.disk or DiskUsage(0, 0)
        yields = policy.window.yields_to_pressure
        yield PressureStep(policy.disk, usage, bool(inventory.suspensions), yields, gaps)
        if fleet is not None:
            yield FleetLimitStep(fleet)
    if policy.max_deletes or policy.max_bytes:
        yield QuotaStep(policy.max_deletes, policy.max_bytes)
    if fleet is not None:
        yield UnaskedStep(fleet)


def _eligible(inventory: Inventory, parts: Iterable[RepositoryPlan]) -> int:
    """Count the images that may be deleted at all; a shared one counts once, if all its owners allow it."""
    alone = 0
    shared: Counter[str] = Counter()
    for part in parts:
        alone += part.eligible
        shared.update(part.eligible_shared)
    return alone + sum(count == len(inventory.contents.get(digest, ())) for digest, count in shared.items())


def _cache_bytes(parts: Iterable[tuple[int, Mapping[object, int]]]) -> int:
    """Add up the bytes of all disks; a disk with several links counts once."""
    total = 0
    shared: dict[object, int] = {}
    for own_bytes, linked in parts:
        total += own_bytes
        shared.update(linked)
    return total + sum(shared.values())
