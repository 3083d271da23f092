"""What a plan comes to as a whole, and what holds for every plan."""

import random
from collections import UserDict
from collections.abc import ItemsView, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TypeVar

import attrs
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from hmret.model.errors import InvalidReferenceError
from hmret.model.grouping import Timers
from hmret.model.images import Cause, Image, Inventory, Remembered, Repository, SharedDisk, Suspension
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.compiled import Policy
from hmret.model.protection import StaleReference
from hmret.model.references import Key, Reference
from hmret.model.times import SECOND, datetime_of
from hmret.model.verdicts import Action, Reason, Summary
from model.inventories import (
    ALPINE,
    DUE_NS,
    NOW,
    NOW_NS,
    WINDOW_NS,
    A,
    B,
    C,
    D,
    guest,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
)
from support.bounds import bound
from support.protecting import protect

OTHER = "quay.io/other/thing"
T = TypeVar("T")
V = TypeVar("V")


def digests(found: Plan) -> list[str]:
    return [verdict.digest for verdict in found.deletions]


# Deferral.


def test_the_longest_unused_go_first() -> None:
    states = {(ALPINE, A): DUE_NS - 1, (ALPINE, B): DUE_NS - 3, (ALPINE, C): DUE_NS - 2, (ALPINE, D): DUE_NS}
    repository = make_repository(*map(make_image, (A, B, C, D)))
    found = plan(make_inventory(repository, states=states), make_policy(max_deletes=2), NOW)
    assert digests(found) == [B, C]
    deferred = [verdict for verdict in found.verdicts if verdict.reason is Reason.DEFERRED]
    assert [(one.digest, one.action, one.blockers) for one in deferred] == [
        (A, Action.NONE, (Reason.DEFERRED,)),
        (D, Action.NONE, (Reason.DEFERRED,)),
    ]


def test_of_equally_old_images_the_first_by_repository_and_digest_go() -> None:
    inventory = make_inventory(
        make_repository(make_image(A), make_image(B), name=OTHER),
        make_repository(make_image(D), make_image(C)),
    )
    found = plan(inventory, make_policy(max_deletes=3), NOW)
    assert [(verdict.repository, verdict.digest) for verdict in found.deletions] == [
        (ALPINE, C),
        (ALPINE, D),
        (OTHER, A),
    ]


@pytest.mark.parametrize("limit", [0, 3, 4])
def test_a_limit_that_is_not_reached_defers_nothing(limit: int) -> None:
    inventory = make_inventory(make_repository(*map(make_image, (A, B, C))))
    assert len(plan(inventory, make_policy(max_deletes=limit), NOW).deletions) == 3


def test_an_image_whose_deletion_failed_lately_takes_no_ones_turn() -> None:
    states = {(ALPINE, A): DUE_NS - 1, (ALPINE, B): DUE_NS}
    repository = make_repository(make_image(A), make_image(B))
    inventory = make_inventory(repository, states=states, backing_off={(ALPINE, A)})
    found = plan(inventory, make_policy(max_deletes=1), NOW)
    assert digests(found) == [B]


# Pruning.


def test_the_state_of_an_image_that_is_gone_is_pruned() -> None:
    states: dict[Key, int | None] = {(ALPINE, A): DUE_NS, (ALPINE, B): DUE_NS, (OTHER, A): None}
    found = plan(make_inventory(make_repository(make_image(A)), states=states), make_policy(), NOW)
    assert found.pruned == ((ALPINE, B), (OTHER, A))


@pytest.mark.parametrize("unlisted", ["", "docker.io", "docker.io/library", ALPINE])
def test_states_below_what_could_not_be_listed_are_not_pruned(unlisted: str) -> None:
    inventory = make_inventory(states={(ALPINE, A): DUE_NS}, unlisted=("quay.io", unlisted))
    assert plan(inventory, make_policy(), NOW).pruned == ()


@pytest.mark.parametrize("unlisted", ["docker.io/library/alp", f"{ALPINE}/deeper", "docker", "library"])
def test_states_elsewhere_are_pruned(unlisted: str) -> None:
    inventory = make_inventory(states={(ALPINE, A): DUE_NS}, unlisted=(unlisted,))
    assert plan(inventory, make_policy(), NOW).pruned == ((ALPINE, A),)


def test_pruning_goes_on_while_deletion_is_suspended() -> None:
    suspension = Suspension(Cause.CLOCK_JUMP, "", "wrong")
    inventory = make_inventory(states={(ALPINE, A): DUE_NS}, suspensions=(suspension,))
    assert plan(inventory, make_policy(), NOW).pruned == ((ALPINE, A),)


# Bytes.


def shared(digest: str, links: int, *, inode: int = 7, device: int = 1) -> Image:
    """Make an image whose disk has other hard links."""
    return make_image(digest, shared_disk=SharedDisk(device, inode, links))


def test_disks_of_their_own_free_their_blocks() -> None:
    inventory = make_inventory(make_repository(make_image(A), make_image(B)))
    assert plan(inventory, make_policy(), NOW).summary.delete_bytes == 8192


def test_a_disk_with_a_link_that_stays_frees_nothing() -> None:
    inventory = make_inventory(
        make_repository(shared(A, 2)), make_repository(shared(A, 2), name=OTHER), leased={(OTHER, A)}
    )
    assert plan(inventory, make_policy(), NOW).summary.delete_bytes == 0


def test_a_disk_whose_last_link_goes_frees_its_blocks_once() -> None:
    inventory = make_inventory(make_repository(shared(A, 2)), make_repository(shared(A, 2), name=OTHER))
    assert plan(inventory, make_policy(), NOW).summary.delete_bytes == 4096


def test_disks_of_two_devices_are_not_one() -> None:
    inventory = make_inventory(make_repository(shared(A, 2), shared(B, 2, device=2), shared(C, 2, inode=8)))
    assert plan(inventory, make_policy(), NOW).summary.delete_bytes == 0


# The whole.


def test_the_summary_adds_up() -> None:
    inventory = make_inventory(
        make_repository(
            make_image(A), make_image(B), make_image(C, status="pulling"), make_image(D, broken="no rootfs")
        ),
        make_repository(make_image(A), name=OTHER),
        states={(ALPINE, A): DUE_NS, (OTHER, A): NOW_NS, (OTHER, B): NOW_NS},
        references=(guest(f"alpine@{C}"), guest("nothing/here", name="other")),
    )
    found = plan(inventory, make_policy(), NOW)
    assert found.summary == Summary(images=5, delete=1, delete_bytes=4096, mark=1, clear=2, keep=1, prune=1)
    assert (found.ready_images, found.protected_images) == (3, 1)
    assert found.stale_references == (StaleReference("instance/other", "nothing/here"),)
    assert found.at == NOW


def test_only_images_that_have_a_state_are_cleared() -> None:
    inventory = make_inventory(
        make_repository(make_image(A), make_image(B)),
        states={(ALPINE, B): None},
        leased={(ALPINE, A), (ALPINE, B)},
    )
    assert plan(inventory, make_policy(), NOW).clears == (((ALPINE, B), Reason.LEASED),)


def test_a_verdict_tells_all_about_its_image() -> None:
    image = Image(A, "ready", size_bytes=9000, disk_bytes=8192, broken="no rootfs")
    inventory = make_inventory(
        make_repository(image, tags={"b": A, "a": A, "c": B}),
        states={(ALPINE, A): DUE_NS + 1001},
        references=(
            guest("alpine:a"),
            guest(f"alpine@{A}", name="another"),
            Reference("snapshot/s", "alpine:b"),
        ),
        leased={(ALPINE, A)},
    )
    verdict = plan(inventory, make_policy(allowed=(), pinned=("*",)), NOW).verdict(ALPINE, A)
    assert verdict is not None
    assert attrs.asdict(verdict) == {
        "repository": ALPINE,
        "digest": A,
        "tags": ("a", "b"),
        "status": "ready",
        "size_bytes": 9000,
        "disk_bytes": 8192,
        "action": Action.CLEAR,
        "reason": Reason.BROKEN,
        "blockers": (
            Reason.BROKEN,
            Reason.REFERENCED,
            Reason.LEASED,
            Reason.PINNED,
            Reason.NOT_ALLOWED,
            Reason.RETENTION_WINDOW,
        ),
        "referenced_by": ("instance/another", "instance/vm", "snapshot/s"),
        "unused_since_ns": DUE_NS + 1001,
        "expires_at_ns": NOW_NS + 1001,
        "broken": "no rootfs",
        "rule": None,
        "created_ns": None,
        "pullable": None,
        "shared_with": (),
        "held_by": (),
        "detail": None,
        "copies_elsewhere": None,
    }
    assert verdict.unused_since == datetime_of(DUE_NS + 1000)
    assert verdict.expires_at == datetime_of(NOW_NS + 1000)


def test_an_image_without_a_timer_has_no_times() -> None:
    inventory = make_inventory(make_repository(make_image(A)), states={}, leased={(ALPINE, A)})
    verdict = plan(inventory, make_policy(), NOW).verdict(ALPINE, A)
    assert verdict is not None
    assert (verdict.tags, verdict.unused_since, verdict.expires_at) == ((), None, None)


def test_there_is_no_verdict_on_what_is_not_here() -> None:
    found = plan(make_inventory(make_repository(make_image(A))), make_policy(), NOW)
    assert found.verdict(ALPINE, B) is None
    assert found.verdict(OTHER, A) is None


def test_an_empty_cache_has_nothing_to_do() -> None:
    found = plan(make_inventory(), make_policy(), NOW)
    assert (found.verdicts, found.deletions, found.pruned) == ((), (), ())
    assert found.summary == Summary(images=0, delete=0, delete_bytes=0, mark=0, clear=0, keep=0, prune=0)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="a time needs a time zone"):
        plan(make_inventory(), make_policy(), datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_a_reference_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidReferenceError):
        plan(make_inventory(references=(guest("NOT A REFERENCE"),)), make_policy(), NOW)


# What holds for every plan.

NAMES = (ALPINE, "docker.io/library/busybox", "ghcr.io/kernel/x")
DIGESTS = (A, B, C, D)
TAGS = ("latest", "v1")
MOMENTS = st.sampled_from((NOW_NS - 2 * WINDOW_NS, NOW_NS - WINDOW_NS, NOW_NS - SECOND, NOW_NS))
KEYS = st.tuples(st.sampled_from(NAMES), st.sampled_from(DIGESTS))
TEXTS = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(NAMES), st.sampled_from(TAGS)),
    st.builds("{}@{}".format, st.sampled_from(NAMES), st.sampled_from(DIGESTS)),
)
CREATED = st.none() | MOMENTS.map(datetime_of)
STATES = st.sampled_from(
    (
        None,
        *(DUE_NS + offset for offset in (-10 * SECOND, -9 * SECOND, -1, 0, 1)),
        *(NOW_NS + offset for offset in (0, 300 * SECOND, 300 * SECOND + 1)),
    )
)
REFERENCES = st.builds(
    Reference,
    st.sampled_from(("instance/a", "instance/b", "snapshot/a")),
    st.just("") | TEXTS,
    st.just("") | TEXTS,
    CREATED,
)


@st.composite
def images(draw: st.DrawFn, digest: str) -> Image:
    # Mostly ready and whole, else hardly anything would be deleted.
    status = draw(st.sampled_from(("ready",) * 8 + ("pulling", "unknown")))
    broken = draw(st.sampled_from((None,) * 8 + ("no rootfs",)))
    disk = draw(st.none() | st.builds(SharedDisk, st.just(1), st.sampled_from((1, 2)), st.integers(2, 3)))
    return Image(digest, status, draw(st.none() | MOMENTS), 100, 4096, disk, broken)


@st.composite
def repositories(draw: st.DrawFn, name: str) -> Repository:
    found = draw(st.lists(st.sampled_from(DIGESTS), unique=True))
    tags = draw(st.dictionaries(st.sampled_from(TAGS), st.sampled_from(DIGESTS)))
    return Repository(name, {digest: draw(images(digest)) for digest in found}, tags)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    suspensions = draw(st.sampled_from(((),) * 4 + tuple((Suspension(cause, "", ""),) for cause in Cause)))
    memories = st.builds(Remembered, st.frozensets(st.sampled_from(DIGESTS)), CREATED)
    return Inventory(
        repositories={name: draw(repositories(name)) for name in names},
        states=draw(st.dictionaries(KEYS, STATES, max_size=10)),
        references=draw(st.lists(REFERENCES, max_size=3)),
        remembered=draw(
            st.dictionaries(
                st.tuples(st.sampled_from(("instance/a", "instance/b")), TEXTS), memories, max_size=2
            )
        ),
        link_times=draw(
            st.dictionaries(st.tuples(st.sampled_from(NAMES), st.sampled_from(TAGS)), MOMENTS, max_size=3)
        ),
        leased=draw(st.frozensets(KEYS, max_size=2)),
        suspensions=suspensions,
        unlisted=draw(st.sampled_from(((), (), ("docker.io",)))),
        unread_sources=draw(st.sampled_from((frozenset(), frozenset({"instance/b"})))),
        backing_off=draw(st.frozensets(KEYS, max_size=2)),
    )


PATTERNS = st.sampled_from(("*", "docker.io/*", "ghcr.io/kernel/?", ALPINE))
POLICIES = st.builds(
    make_policy,
    allowed=st.lists(PATTERNS, min_size=1, max_size=2).map(tuple),
    pinned=st.lists(PATTERNS.filter(lambda text: text != "*"), max_size=1).map(tuple),
    max_deletes=st.integers(0, 3),
)
every_plan = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def shuffled(mapping: Mapping[T, V], rng: random.Random) -> dict[T, V]:
    items = list(mapping.items())
    rng.shuffle(items)
    return dict(items)


def shuffled_sequence(sequence: Sequence[T], rng: random.Random) -> tuple[T, ...]:
    return tuple(rng.sample(sequence, len(sequence)))


@every_plan
@given(inventories(), POLICIES, st.randoms(use_true_random=False))
def test_the_order_of_the_inventory_does_not_matter(
    inventory: Inventory, policy: Policy, rng: random.Random
) -> None:
    permuted = attrs.evolve(
        inventory,
        repositories={
            name: Repository(name, shuffled(one.images, rng), shuffled(one.tags, rng))
            for name, one in shuffled(inventory.repositories, rng).items()
        },
        states=shuffled(inventory.states, rng),
        references=shuffled_sequence(inventory.references, rng),
        remembered=shuffled(inventory.remembered, rng),
        link_times=shuffled(inventory.link_times, rng),
        unlisted=shuffled_sequence(inventory.unlisted, rng),
    )
    one, other = plan(inventory, policy, NOW), plan(permuted, policy, NOW)
    for name in (
        "verdicts",
        "deletions",
        "marks",
        "clears",
        "pruned",
        "stale_references",
        "remembered",
        "summary",
        "ready_images",
        "protected_images",
    ):
        assert getattr(one, name) == getattr(other, name), name


def is_needed(inventory: Inventory, key: Key) -> bool:
    """Tell whether a reference names an image outright, by digest or by a tag that points to it now."""
    name, digest = key
    tags = inventory.repositories[name].tags
    texts = {f"{name}@{digest}"} | {f"{name}:{tag}" for tag, target in tags.items() if target == digest}
    return any({reference.image, reference.resolved_image} & texts for reference in inventory.references)


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@every_plan
@given(inventories(), POLICIES)
def test_nothing_that_is_held_is_ever_deleted(inventory: Inventory, policy: Policy) -> None:
    for verdict in plan(inventory, policy, NOW).deletions:
        key = verdict.repository, verdict.digest
        image = inventory.repositories[verdict.repository].images[verdict.digest]
        since_ns = inventory.states[key]
        assert (image.status, image.broken) == ("ready", None)
        assert not is_needed(inventory, key)
        assert key not in inventory.leased
        assert key not in inventory.backing_off
        assert not inventory.suspensions
        assert matches(key[0], policy.allowed.texts)
        assert not matches(key[0], policy.pinned.texts)
        assert since_ns is not None
        assert since_ns + WINDOW_NS <= NOW_NS


@every_plan
@given(inventories(), POLICIES)
def test_every_image_has_exactly_one_verdict(inventory: Inventory, policy: Policy) -> None:
    found = plan(inventory, policy, NOW)
    judged = [(verdict.repository, verdict.digest) for verdict in found.verdicts]
    present = [(name, digest) for name, one in inventory.repositories.items() for digest in one.images]
    assert judged == sorted(present)
    summary = found.summary
    assert summary.images == len(judged) == summary.delete + summary.mark + summary.clear + summary.keep
    assert (summary.delete, summary.mark) == (len(found.deletions), len(found.marks))
    assert (summary.prune, summary.clear >= len(found.clears)) == (len(found.pruned), True)
    assert not set(found.pruned) & set(judged)


@every_plan
@given(inventories(), POLICIES)
def test_a_verdict_names_its_reason_first_and_deletes_only_without_one(
    inventory: Inventory, policy: Policy
) -> None:
    for verdict in plan(inventory, policy, NOW).verdicts:
        assert (verdict.blockers or (Reason.EXPIRED,))[0] is verdict.reason
        assert (verdict.action is Action.DELETE) == (not verdict.blockers)
        assert (Reason.REFERENCED in verdict.blockers) == bool(verdict.referenced_by)


@every_plan
@given(inventories(), POLICIES)
def test_a_limit_takes_the_longest_unused_of_what_is_due(inventory: Inventory, policy: Policy) -> None:
    limited = plan(inventory, policy, NOW).deletions
    unlimited = plan(inventory, attrs.evolve(policy, max_deletes=0), NOW).deletions
    assert limited == unlimited[: policy.max_deletes or None]


@every_plan
@given(inventories(), POLICIES, REFERENCES, KEYS)
def test_one_more_need_never_adds_a_deletion(
    inventory: Inventory, policy: Policy, reference: Reference, key: Key
) -> None:
    policy = attrs.evolve(policy, max_deletes=0)
    before = set(plan(inventory, policy, NOW).deletions)
    pinned = make_policy(allowed=policy.allowed.texts, pinned=(*policy.pinned.texts, key[0]))
    with_reference = attrs.evolve(inventory, references=[*inventory.references, reference])
    with_lease = attrs.evolve(inventory, leased={*inventory.leased, key})
    assert set(plan(with_reference, policy, NOW).deletions) <= before
    assert set(plan(with_lease, policy, NOW).deletions) <= before
    assert set(plan(inventory, pinned, NOW).deletions) <= before


@every_plan
@given(inventories())
def test_what_was_remembered_stays_protected_by_the_next_plan(inventory: Inventory) -> None:
    first = protect(inventory, NOW_NS)
    second = protect(attrs.evolve(inventory, remembered=first.remembered), NOW_NS)
    assert second.sources.keys() >= first.sources.keys()
    assert second.remembered == first.remembered


# Plans made with the help of an earlier one.

LATER = st.sampled_from(
    (0, 1, 9 * SECOND, 10 * SECOND, 300 * SECOND, WINDOW_NS, WINDOW_NS + 300 * SECOND + 1, -1, -600 * SECOND)
)
SAME = st.sampled_from((True, True, True, False))
# Few names, so that there are things of one name, and tags that lead to what is here.
CROWDED = st.builds(
    Reference, st.just("instance/a"), st.sampled_from((f"{ALPINE}:v1", "alpine")), st.just(""), CREATED
)


@st.composite
def successors(draw: st.DrawFn, before: Inventory, found: Plan) -> Inventory:
    """Draw what the next sweep may find: much of it the very same objects."""
    fresh = draw(inventories())
    renewed = draw(st.sets(st.sampled_from(NAMES), max_size=2))
    timers = {name: group for name, group in before.states.by_repository.items() if name not in renewed}
    timers |= {name: group for name, group in fresh.states.by_repository.items() if name in renewed}
    gone = [one for one in before.references if not draw(SAME)]
    come = draw(st.lists(REFERENCES | CROWDED, max_size=2))
    remembered = found.remembered
    if not draw(SAME):
        other = {
            key: Remembered(draw(st.frozensets(st.sampled_from(DIGESTS))), memory.seen)
            for key, memory in found.remembered.items()
        }
        remembered = draw(st.sampled_from((other, before.remembered, fresh.remembered, {**found.remembered})))
    repositories = {name: one for name, one in before.repositories.items() if name not in renewed}
    repositories |= {name: one for name, one in fresh.repositories.items() if name in renewed}
    # A link that is made anew changes its repository.
    link_times = {tag: made for tag, made in before.link_times.items() if tag[0] not in renewed}
    link_times |= {tag: made for tag, made in fresh.link_times.items() if tag[0] in renewed}
    return Inventory(
        repositories=repositories,
        states=Timers(timers),
        references=before.references if draw(SAME) else before.references.changed(gone, come),
        remembered=remembered,
        link_times=link_times,
        leased=(before if draw(SAME) else fresh).leased,
        suspensions=(before if draw(SAME) else fresh).suspensions,
        unlisted=(before if draw(SAME) else fresh).unlisted,
        unread_sources=(before if draw(SAME) else fresh).unread_sources,
        backing_off=(before if draw(SAME) else fresh).backing_off,
    )


def told(found: Plan) -> dict[str, object]:
    """List everything that a plan tells."""
    names = [field.name for field in attrs.fields(Plan) if not field.name.startswith("_")]
    each = {
        f"{name} {digest}": found.verdict(name, digest)
        for name in (*NAMES, OTHER)
        for digest in (*DIGESTS, "sha256:none")
    }
    return {
        **{name: getattr(found, name) for name in (*names, "verdicts", "deletions", "summary", "reasons")},
        **each,
    }


@settings(every_plan, max_examples=bound(50, 150))
@given(st.data(), inventories(), POLICIES)
def test_a_plan_made_with_an_earlier_one_is_the_plan_made_without(
    data: st.DataObject, inventory: Inventory, policy: Policy
) -> None:
    now_ns = NOW_NS
    found = plan(inventory, policy, NOW)
    for _ in range(3):
        inventory = data.draw(successors(inventory, found))
        now_ns += data.draw(LATER)
        if not data.draw(SAME):
            policy = data.draw(POLICIES)
        now = datetime_of(now_ns)
        alone = plan(inventory, policy, now)
        helped = plan(inventory, policy, now, found)
        assert told(helped) == told(alone)
        found = helped


def test_what_is_remembered_otherwise_is_judged_again() -> None:
    repository = make_repository(make_image(A), make_image(B), tags={"latest": A})
    inventory = make_inventory(
        repository, references=[guest("alpine", created_at=NOW)], link_times={(ALPINE, "latest"): 0}
    )
    first = plan(inventory, make_policy(), NOW)
    assert digests(first) == [B]
    memory = {(ALPINE, "latest"): Remembered(frozenset({B}), first.remembered[ALPINE, "latest"].seen)}
    assert digests(plan(attrs.evolve(inventory, remembered=memory), make_policy(), NOW, first)) == []


def test_a_reference_that_comes_or_goes_is_told_by_a_plan_that_builds_upon_another() -> None:
    inventory = make_inventory(make_repository(make_image(A), make_image(B)))
    # By its digest, so that nothing is remembered of it.
    needed = attrs.evolve(inventory, references=[guest(f"alpine@{A}")])
    first = plan(inventory, make_policy(), NOW)
    second = plan(needed, make_policy(), NOW, first)
    third = plan(inventory, make_policy(), NOW, second)
    assert [digests(one) for one in (first, second, third)] == [[A, B], [B], [A, B]]


def test_which_guests_were_seen_is_forgotten_once_all_can_be_read_though_nothing_else_is_new() -> None:
    here, gone = (guest("alpine", name=name, created_at=NOW) for name in ("here", "gone"))
    repository = make_repository(make_image(A), tags={"latest": A})
    inventory = make_inventory(repository, references=[here, gone], link_times={(ALPINE, "latest"): 0})
    first = plan(inventory, make_policy(), NOW)
    inventory = attrs.evolve(inventory, references=[here], unread_sources={"instance/gone"})
    second = plan(attrs.evolve(inventory, remembered=first.remembered), make_policy(), NOW, first)
    assert second.remembered == first.remembered
    readable = attrs.evolve(inventory, remembered=second.remembered, unread_sources=frozenset())
    third = plan(readable, make_policy(), NOW, second)
    seen = frozenset({("instance/here", NOW)})
    assert third.remembered == {(ALPINE, "latest"): Remembered(frozenset({A}), seen)}


def test_of_a_repository_in_which_nothing_is_new_nothing_is_judged_again() -> None:
    inventory = make_inventory(make_repository(make_image(A)), make_repository(make_image(B), name=OTHER))
    judged: list[str] = []

    class Seen(UserDict[str, Image]):
        def items(self) -> ItemsView[str, Image]:
            judged.append("")
            return super().items()

    repository = Repository(ALPINE, Seen({A: make_image(A)}), {})
    first = plan(attrs.evolve(inventory, repositories={ALPINE: repository}), make_policy(), NOW)
    assert len(judged) == 1
    changed = attrs.evolve(inventory, repositories={ALPINE: repository, OTHER: make_repository(name=OTHER)})
    plan(changed, make_policy(), NOW, first)
    assert len(judged) == 1


@pytest.mark.parametrize("created", [(NOW, NOW - timedelta(days=9)), (None, NOW), (NOW, NOW)])
def test_two_things_of_one_name_keep_what_their_tag_has_pointed_to_for_both(
    created: tuple[datetime | None, datetime | None],
) -> None:
    pool = [Reference("pool", "alpine:v1", created_at=moment) for moment in created]
    link_times = {(ALPINE, "v1"): 0}
    old = make_inventory(
        make_repository(make_image(A), make_image(B), tags={"v1": A}), references=pool, link_times=link_times
    )
    new = make_inventory(
        make_repository(make_image(A), make_image(B), tags={"v1": B}),
        references=pool[::-1],
        link_times=link_times,
    )
    found = plan(old, make_policy(), NOW)
    assert found.remembered == plan(attrs.evolve(old, references=pool[::-1]), make_policy(), NOW).remembered
    moved = plan(attrs.evolve(new, remembered=found.remembered), make_policy(), NOW)
    assert moved.deletions == ()
    assert plan(attrs.evolve(new, remembered=moved.remembered), make_policy(), NOW).deletions == ()
