"""Content that several repositories share, where images are counted: the brake, a full disk, copies, the forecast."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from hmret.model.images import DiskUsage, Image, SharedDisk
from hmret.model.plan.decide import plan
from hmret.model.plan.forecast import summarize
from hmret.model.plan.plan import Plan
from hmret.model.policy.brake import Brake
from hmret.model.policy.compiled import NEVER
from hmret.model.policy.limits import DiskLimits
from hmret.model.references import Key
from hmret.model.verdicts import Holder, Reason
from model.inventories import (
    ALPINE,
    DUE_NS,
    NOW,
    NOW_NS,
    A,
    B,
    C,
    make_image,
    make_policy,
    make_rule,
)
from support.shared_content import (
    BASE,
    BOTH_DUE,
    HOUR,
    TOOL,
    WAITING,
    Rows,
    content,
    host,
    reasons,
    units,
    verdict,
)

# The brake.


def brake(expired: int, waiting: int) -> Plan:
    """Plan on so many images of two rows that are due, and so many of one that are not; a half may expire at once."""
    digests = [f"sha256:{number:064x}" for number in range(expired + waiting)]
    states: dict[Key, int | None] = {
        (name, one): DUE_NS for one in digests[:expired] for name in (ALPINE, BASE)
    }
    states |= {(TOOL, one): NOW_NS for one in digests[expired:]}
    return plan(host(states), make_policy(brake=Brake(0.5, 1)), NOW)


def test_the_brake_counts_images_and_not_their_rows() -> None:
    # By rows these would be four of six.
    found = brake(2, 2)
    assert (found.braking, len(found.units)) == (None, 2)
    found = brake(3, 2)
    assert found.braking is not None
    assert (found.braking.expired, found.braking.eligible) == (3, 5)
    assert found.reasons[Reason.BRAKE] == 6


def test_what_one_repository_keeps_is_not_eligible_for_the_brake() -> None:
    states = {(ALPINE, A): DUE_NS, (ALPINE, B): NOW_NS, (BASE, B): NOW_NS, (ALPINE, C): NOW_NS}
    policy = make_policy(brake=Brake(0.34, 1))
    assert plan(host(states), policy, NOW).braking is None
    found = plan(host(states), attrs.evolve(policy, pinned=make_policy(pinned=(BASE,)).pinned), NOW)
    assert found.braking is not None
    assert (found.braking.expired, found.braking.eligible) == (1, 2)


# A disk that is too full.


def pressed(
    states: Rows, images: Mapping[Key, Image] | None = None, *, used: int = 900, **policy: Any
) -> Plan:
    inventory = host(states, images, disk=DiskUsage(used, 1000 - used))
    return plan(inventory, make_policy(disk=DiskLimits(high_watermark=0.85), **policy), NOW)


BOTH_WAIT = {(ALPINE, A): WAITING, (BASE, A): WAITING + HOUR}


def test_a_disk_that_is_too_full_takes_content_that_only_windows_keep() -> None:
    found = pressed(BOTH_WAIT)
    assert reasons(found) == dict.fromkeys((ALPINE, BASE), Reason.DISK_PRESSURE)
    assert units(found) == [[(ALPINE, A), (BASE, A)]]
    assert found.pressure is not None
    assert found.pressure.projected_bytes == 4096


def test_also_where_it_is_due_in_some_repositories() -> None:
    found = pressed({(ALPINE, A): DUE_NS, (BASE, A): WAITING})
    assert reasons(found) == dict.fromkeys((ALPINE, BASE), Reason.DISK_PRESSURE)
    assert verdict(found, ALPINE).held_by == ()


@pytest.mark.parametrize(
    "policy",
    [
        {"pinned": (BASE,)},
        {"allowed": (ALPINE,)},
        {"rules": (make_rule(BASE, window_ns=NEVER),)},
        {"rules": (make_rule(BASE, keep_latest=1),)},
    ],
)
def test_it_does_not_take_what_something_else_keeps_in_one_repository(policy: dict[str, Any]) -> None:
    assert pressed(BOTH_WAIT, **policy).deletions == ()
    assert pressed({(ALPINE, A): DUE_NS, (BASE, A): WAITING}, **policy).deletions == ()


def test_it_does_not_take_what_one_repository_used_lately() -> None:
    assert pressed({(ALPINE, A): WAITING, (BASE, A): NOW_NS - HOUR + 1}).deletions == ()
    assert len(pressed({(ALPINE, A): WAITING, (BASE, A): NOW_NS - HOUR}).deletions) == 2


def test_it_does_not_take_what_failed_to_go_lately() -> None:
    states = {(ALPINE, A): DUE_NS, (BASE, A): WAITING}
    for backing_off in ({(ALPINE, A)}, {(BASE, A)}):
        inventory = host(states, disk=DiskUsage(900, 100), backing_off=backing_off)
        found = plan(inventory, make_policy(disk=DiskLimits(high_watermark=0.85)), NOW)
        assert found.deletions == ()


def test_the_last_use_in_any_repository_decides_when_it_has_its_turn() -> None:
    states = {(ALPINE, A): DUE_NS + 1, (BASE, A): WAITING, (TOOL, B): WAITING - 1}
    images = {key: content(key[1], disk_bytes=100) for key in states}
    found = pressed(states, images)
    assert units(found) == [[(TOOL, B)]]


def test_the_bytes_of_the_cache_count_it_once() -> None:
    inventory = host(BOTH_WAIT)
    assert plan(inventory, make_policy(disk=DiskLimits(max_used=4096)), NOW).pressure is None
    found = plan(inventory, make_policy(disk=DiskLimits(max_used=4095)), NOW)
    assert reasons(found) == dict.fromkeys((ALPINE, BASE), Reason.DISK_PRESSURE)


def test_what_does_not_fit_into_a_sweep_is_what_it_was_before_the_disk_was_too_full() -> None:
    states = {(ALPINE, A): DUE_NS, (BASE, A): WAITING, (TOOL, B): WAITING - 1}
    images = {key: content(key[1], disk_bytes=30) for key in states}
    found = pressed(states, images, max_deletes=1)
    assert units(found) == [[(TOOL, B)]]
    assert reasons(found) == {ALPINE: Reason.SHARED, BASE: Reason.RETENTION_WINDOW}
    assert verdict(found, ALPINE).held_by == (Holder(BASE, Reason.RETENTION_WINDOW),)


# Copies: the folder that an owner has beside the content.


def copy(*, links: int = 0, disk_bytes: int = 4096) -> Image:
    disk = SharedDisk(1, 7, links) if links else None
    return make_image(A, disk_bytes=disk_bytes, shared_disk=disk)


def with_copy(*, links: int = 0, of: str = ALPINE) -> Mapping[Key, Image]:
    """Make content of two repositories, of which one has a copy: the same disk where there are links, else another."""
    disk = SharedDisk(1, 7, links) if links else None
    return {
        (name, A): content(A, shared_disk=disk, copy=copy(links=links) if name == of else None)
        for name in (ALPINE, BASE)
    }


@pytest.mark.parametrize("of", [ALPINE, BASE])
@pytest.mark.parametrize(("links", "freed"), [(0, 8192), (2, 4096), (3, 0)])
def test_a_copy_goes_with_the_content_and_one_disk_counts_once(links: int, freed: int, of: str) -> None:
    found = plan(host(BOTH_DUE, with_copy(links=links, of=of)), make_policy(), NOW)
    assert (found.summary.delete, found.summary.delete_bytes) == (2, freed)


@pytest.mark.parametrize("of", [ALPINE, BASE])
@pytest.mark.parametrize(("links", "shown"), [(0, 8192), (2, 4096)])
def test_each_row_shows_what_the_disks_of_all_its_folders_occupy(links: int, shown: int, of: str) -> None:
    found = plan(host(BOTH_DUE, with_copy(links=links, of=of)), make_policy(), NOW)
    assert {one.disk_bytes for one in found.verdicts} == {shown}
    assert found.deletions[0].disk_bytes == shown


@pytest.mark.parametrize("of", [ALPINE, BASE])
def test_the_cap_of_the_cache_counts_every_disk_once(of: str) -> None:
    inventory = host(BOTH_WAIT, with_copy(links=2, of=of))
    assert plan(inventory, make_policy(disk=DiskLimits(max_used=4096)), NOW).pressure is None
    inventory = host(BOTH_WAIT, with_copy(of=of))
    assert plan(inventory, make_policy(disk=DiskLimits(max_used=8192)), NOW).pressure is None
    found = plan(inventory, make_policy(disk=DiskLimits(max_used=8191)), NOW)
    assert found.pressure is not None
    assert found.pressure.projected_bytes == 8192


def test_links_of_one_disk_in_content_and_in_a_folder_of_another_repository_go_together() -> None:
    disk = SharedDisk(1, 7, 2)
    images = {(ALPINE, A): content(A, shared_disk=disk), (BASE, A): content(A, shared_disk=disk)}
    images[TOOL, A] = make_image(A, shared_disk=disk)
    states = {(ALPINE, A): WAITING, (BASE, A): WAITING, (TOOL, A): WAITING + HOUR}
    found = pressed(states, images)
    assert sorted(units(found)) == [[(ALPINE, A), (BASE, A)], [(TOOL, A)]]
    assert found.pressure is not None
    assert found.pressure.projected_bytes == 4096
    assert pressed(states, images, pinned=(TOOL,)).deletions == ()


# Foreseen.


def test_a_forecast_has_its_bytes_on_the_day_when_its_last_row_falls_due() -> None:
    day = 24 * HOUR
    states = {(ALPINE, A): DUE_NS + day, (BASE, A): DUE_NS + 3 * day, (TOOL, B): DUE_NS + day}
    outlook = summarize(plan(host(states), make_policy(), NOW))
    assert [(due.images, due.disk_bytes) for due in outlook.days[1:4]] == [(2, 4096), (0, 0), (1, 4096)]
    assert outlook.within == {"24h": 4096, "7d": 8192, "30d": 8192}
    assert outlook.disk_bytes == 8192


def test_a_forecast_never_frees_what_one_repository_keeps_for_good() -> None:
    outlook = summarize(plan(host(BOTH_DUE), make_policy(pinned=(BASE,)), NOW))
    assert (outlook.overdue, outlook.within["30d"], outlook.disk_bytes) == (1, 0, 4096)
