"""What holds under any policy whatever."""

from collections.abc import Mapping
from datetime import timedelta

import attrs
from hypothesis import given, settings, strategies as st

from hmret.model.images import Cause, DiskUsage, Image, Inventory, Repository, SharedDisk, Suspension
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.brake import Brake
from hmret.model.policy.compiled import NEVER, CompiledRule, Policy
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.patterns import compile_patterns
from hmret.model.policy.window import DeletionWindow
from hmret.model.verdicts import ACTIONS, Action, Reason
from model.inventories import DUE_NS, NOW, NOW_NS, WINDOW_NS, guest
from support.bounds import bound
from support.builders import digest

HOUR = 3600 * 10**9
NAMES = ("docker.io/library/alpine", "ghcr.io/kernel/x", "localhost/dev")
DIGESTS = tuple(digest(letter) for letter in "abcdef")
TAGS = ("v1", "v2", "dev-1", "latest")
PATTERNS = st.lists(st.sampled_from(("*", "docker.io/*", "ghcr.io/*", "*/alpine")), max_size=2)

rules = st.builds(
    lambda match, tags, window_ns, keep_latest: CompiledRule(
        compile_patterns(match or ["*"]), compile_patterns(tags) if tags else None, window_ns, keep_latest
    ),
    PATTERNS,
    st.lists(st.sampled_from(("dev-*", "v?", "*")), max_size=2),
    st.sampled_from((None, HOUR, 9 * HOUR, 2 * WINDOW_NS, NEVER)),
    st.sampled_from((None, 0, 1, 2)),
)
limits = st.builds(
    DiskLimits,
    high_watermark=st.sampled_from((0.0, 0.5, 0.85)),
    max_used=st.sampled_from((0, 300, 900)),
    min_unused_for=st.sampled_from((timedelta(hours=1), timedelta(hours=12))),
)
policies = st.builds(
    Policy,
    unused_for_ns=st.sampled_from((WINDOW_NS, 9 * HOUR)),
    allowed=st.builds(compile_patterns, st.one_of(st.just(["*"]), PATTERNS)),
    pinned=st.builds(compile_patterns, PATTERNS.filter(lambda patterns: "*" not in patterns)),
    max_deletes=st.integers(0, 3),
    max_bytes=st.sampled_from((0, 100, 250)),
    rules=st.lists(rules, max_size=3).map(tuple),
    keep_latest=st.integers(0, 2),
    min_age_ns=st.sampled_from((0, 24 * HOUR)),
    disk=st.none() | limits,
    window=st.builds(
        DeletionWindow,
        hours=st.sampled_from(([], ["02:00-05:00"])),
        yields_to_pressure=st.booleans(),
    ),
    brake=st.none() | st.builds(Brake, st.sampled_from((0.2, 0.9)), st.integers(0, 3)),
    keeps_unpullable=st.booleans(),
)
images = st.builds(
    Image,
    digest=st.just(""),
    status=st.sampled_from(("ready",) * 6 + ("pulling", "failed")),
    created_ns=st.none()
    | st.sampled_from((NOW_NS - WINDOW_NS, NOW_NS - 2 * WINDOW_NS, NOW_NS - HOUR, NOW_NS + HOUR)),
    disk_bytes=st.sampled_from((0, 10, 100, 200)),
    broken=st.sampled_from((None,) * 6 + ("no rootfs",)),
    pullable=st.sampled_from((None,) * 4 + (True, False)),
)


@st.composite
def repositories(draw: st.DrawFn) -> Mapping[str, Repository]:
    """Make some repositories; some disks have links in several of them."""
    found: dict[str, Repository] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1)):
        chosen = draw(st.lists(st.sampled_from(DIGESTS), unique=True, max_size=5))
        here = {}
        for text in chosen:
            fields = draw(images)
            shared = draw(st.sampled_from((None, None, None, 2, 3)))
            here[text] = Image(
                text,
                fields.status,
                fields.created_ns,
                0,
                100 if shared else fields.disk_bytes,
                SharedDisk(1, DIGESTS.index(text) if shared == 2 else 99, shared) if shared else None,
                fields.broken,
                fields.pullable,
            )
        tags = draw(st.dictionaries(st.sampled_from(TAGS), st.sampled_from(DIGESTS)))
        found[name] = Repository(name, here, tags)
    return found


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    """Make a cache with timers, references, leases and a disk."""
    here = draw(repositories())
    keys = [(name, text) for name, repository in here.items() for text in repository.images]
    some = st.sets(st.sampled_from(keys), max_size=2) if keys else st.just(set())
    since = st.sampled_from((DUE_NS, DUE_NS - 1, NOW_NS - 9 * HOUR, NOW_NS - 2 * HOUR, NOW_NS, None))
    used = draw(st.integers(0, 1500))
    return Inventory(
        repositories=here,
        states={key: draw(since) for key in keys if draw(st.integers(0, 9))},
        references=[
            guest(f"{name}@{text}", name=f"vm-{number}")
            for number, (name, text) in enumerate(sorted(draw(some)))
        ],
        leased=frozenset(draw(some)),
        backing_off=frozenset(draw(some)),
        suspensions=draw(
            st.sampled_from(((), (), (), (Suspension(Cause.UNREADABLE_REFERENCE, "guests/x", "torn"),)))
        ),
        disk=draw(
            st.none()
            | st.builds(
                DiskUsage,
                st.just(used),
                st.just(1500 - used),
                quarantined_bytes=st.sampled_from((0, 50)),
                is_pressed=st.booleans(),
                is_backing_off=st.booleans(),
                is_futile=st.booleans(),
            )
        ),
        brake_released_images=draw(st.sampled_from((0, 2, 99))),
    )


def gone(found: Plan) -> set[tuple[str, str]]:
    return {(verdict.repository, verdict.digest) for verdict in found.deletions}


def image_of(inventory: Inventory, key: tuple[str, str]) -> Image:
    return inventory.repositories[key[0]].images[key[1]]


@settings(max_examples=bound(66, 400))
@given(inventories(), policies)
def test_nothing_goes_that_is_in_use_or_that_the_operator_keeps(inventory: Inventory, policy: Policy) -> None:
    found = plan(inventory, policy, NOW)
    referenced = {key for key in gone(found) if found.verdict(*key).referenced_by}  # type: ignore[union-attr]
    assert not referenced
    assert not gone(found) & inventory.leased
    assert not gone(found) & inventory.backing_off
    assert not (gone(found) and inventory.suspensions)
    for key in gone(found):
        image = image_of(inventory, key)
        assert image.status == "ready"
        assert image.broken is None
        assert policy.allowed.matches(key[0])
        assert not policy.pinned.matches(key[0])
        since_ns = inventory.states.by_repository[key[0]][key[1]]
        assert since_ns is not None
        shortest = [policy.unused_for_ns, *(rule.window_ns for rule in policy.rules if rule.window_ns)]
        if policy.disk is not None:
            shortest.append(int(policy.disk.min_unused_for.total_seconds()) * 10**9)
        assert since_ns + min(shortest) <= NOW_NS


@settings(max_examples=bound(50, 300))
@given(inventories(), policies)
def test_the_numbers_of_a_plan_are_those_of_its_verdicts(inventory: Inventory, policy: Policy) -> None:
    found = plan(inventory, policy, NOW)
    verdicts = found.verdicts
    listed = [verdict.reason for verdict in verdicts]
    assert {reason: count for reason, count in found.reasons.items() if count} == {
        reason: listed.count(reason) for reason in set(listed)
    }
    assert gone(found) == {
        (verdict.repository, verdict.digest) for verdict in verdicts if verdict.action is Action.DELETE
    }
    for verdict in verdicts:
        assert verdict.action is ACTIONS[verdict.reason]
        assert bool(verdict.blockers) == (verdict.action is not Action.DELETE)
        assert found.verdict(verdict.repository, verdict.digest) == verdict


@settings(max_examples=bound(50, 300))
@given(inventories(), policies, st.sampled_from((0, 1, HOUR, WINDOW_NS)))
def test_a_plan_that_goes_on_from_another_is_the_same_plan(
    inventory: Inventory, policy: Policy, ahead_ns: int
) -> None:
    earlier = plan(inventory, policy, NOW)
    later = NOW + timedelta(microseconds=ahead_ns // 1000)
    inventory = attrs.evolve(inventory, remembered=earlier.remembered)
    anew, onwards = plan(inventory, policy, later), plan(inventory, policy, later, earlier)
    assert onwards.verdicts == anew.verdicts
    assert (onwards.pressure, onwards.braking) == (anew.pressure, anew.braking)
    assert [verdict.digest for verdict in onwards.deletions] == [verdict.digest for verdict in anew.deletions]


@settings(max_examples=bound(50, 300))
@given(inventories(), policies, rules.filter(lambda rule: rule.keep_latest is None))
def test_a_rule_that_keeps_never_deletes_more(
    inventory: Inventory, policy: Policy, rule: CompiledRule
) -> None:
    # Where the disk wants so many bytes, or the brake a share, one that stays makes room for others: not here.
    policy = attrs.evolve(policy, disk=None, brake=None)
    keeping = attrs.evolve(rule, window_ns=NEVER)
    without = plan(inventory, policy, NOW)
    within = plan(inventory, attrs.evolve(policy, rules=(keeping, *policy.rules)), NOW)
    unlimited = attrs.evolve(policy, max_deletes=0, max_bytes=0)
    assert gone(within) <= gone(plan(inventory, unlimited, NOW))
    if not policy.max_bytes:
        assert len(gone(within)) <= len(gone(without))


@settings(max_examples=bound(50, 300))
@given(inventories(), policies, st.integers(1, 3))
def test_a_greater_number_to_keep_never_deletes_more(inventory: Inventory, policy: Policy, more: int) -> None:
    policy = attrs.evolve(policy, disk=None, brake=None, max_deletes=0, max_bytes=0)
    keeping = attrs.evolve(policy, keep_latest=policy.keep_latest + more)
    assert gone(plan(inventory, keeping, NOW)) <= gone(plan(inventory, policy, NOW))


@settings(max_examples=bound(83, 500))
@given(inventories(), policies)
def test_under_pressure_nothing_goes_while_a_longer_unused_one_stays(
    inventory: Inventory, policy: Policy
) -> None:
    policy = attrs.evolve(policy, max_deletes=0, max_bytes=0)
    found = plan(inventory, policy, NOW)
    alone = [
        verdict
        for verdict in found.iterate()
        if image_of(inventory, (verdict.repository, verdict.digest)).shared_disk is None
    ]
    pressed = [verdict for verdict in alone if verdict.reason is Reason.DISK_PRESSURE]
    stayed = [
        verdict for verdict in alone if verdict.blockers in ((Reason.RETENTION_WINDOW,), (Reason.BRAKE,))
    ]
    for went in pressed:
        for one in stayed:
            assert one.unused_since_ns is not None
            assert went.unused_since_ns is not None
            assert one.unused_since_ns >= went.unused_since_ns


@settings(max_examples=bound(50, 300))
@given(inventories(), policies)
def test_what_is_projected_is_what_comes_free(inventory: Inventory, policy: Policy) -> None:
    found = plan(inventory, policy, NOW)
    links: dict[tuple[int, int], set[tuple[str, str]]] = {}
    freed = 0
    for key in gone(found):
        image = image_of(inventory, key)
        if image.shared_disk is None:
            freed += image.disk_bytes
            continue
        there = links.setdefault(image.shared_disk.identity, set())
        there.add(key)
        freed += image.disk_bytes if len(there) == image.shared_disk.links else 0
    assert found.summary.delete_bytes == freed
    if found.pressure is not None:
        assert found.pressure.projected_bytes == freed


@settings(max_examples=bound(50, 300))
@given(inventories(), policies)
def test_the_limits_of_a_sweep_are_kept(inventory: Inventory, policy: Policy) -> None:
    found = plan(inventory, policy, NOW)
    if policy.max_deletes:
        assert len(found.deletions) <= policy.max_deletes
    if policy.max_bytes and len(found.deletions) > 1:
        assert found.summary.delete_bytes <= policy.max_bytes
    if not policy.window.is_open(NOW):
        assert {verdict.reason for verdict in found.deletions} <= {Reason.DISK_PRESSURE}
        assert policy.window.yields_to_pressure or not found.deletions
