"""What references protect where content is found by its digest, and tags are of two layouts."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest

from hmret.model.images import ContentOwners, Image, Inventory, Remembered, Repository
from hmret.model.protection import StaleReference
from hmret.model.references import Key, Reference
from model.inventories import ALPINE, NOW, NOW_NS, A, B, C, D, guest, make_image, make_inventory
from support.protecting import Protection, protect as protect_at
from support.shared_content import BASE, TOOL, content

MADE = NOW - timedelta(days=2)
MADE_NS = NOW_NS - 2 * 24 * 3600 * 10**9
FIVE_MINUTES_NS = 300 * 10**9
OLD_LINK_NS = MADE_NS - FIVE_MINUTES_NS
"""When a link was made that is clearly older than what was made at `MADE`."""
GUEST = ("instance/vm",)
SEEN = frozenset({("instance/vm", MADE)})
LATEST = (ALPINE, "latest")


def protect(inventory: Inventory) -> Protection:
    return protect_at(inventory, NOW_NS)


def repository(name: str, *images: Image, **fields: Any) -> Repository:
    return Repository(name, {image.digest: image for image in images}, **{"tags": {}, **fields})


def cache(
    *repositories: Repository,
    owners: Mapping[str, tuple[str, ...]],
    references: tuple[Reference, ...] = (),
    **fields: Any,
) -> Inventory:
    return make_inventory(*repositories, contents=ContentOwners(owners), references=references, **fields)


def shared(*references: Reference) -> Inventory:
    """Two repositories own content, and a third has the same digest in a folder of its own."""
    return cache(
        repository(ALPINE, content(A)),
        repository(BASE, content(A)),
        repository(TOOL, make_image(A)),
        owners={A: (ALPINE, BASE)},
        references=references,
    )


def sources(found: Protection) -> set[Key]:
    assert set(found.sources.values()) <= {GUEST}
    return set(found.sources)


# By digest.


@pytest.mark.parametrize("name", [ALPINE, BASE])
def test_an_owner_of_content_is_protected_alone_where_it_is_named(name: str) -> None:
    found = protect(shared(guest(f"{name}@{A}")))
    assert (sources(found), found.stale) == ({(name, A)}, ())


@pytest.mark.parametrize("name", ["x.y/z", "localhost/z"])
def test_content_that_is_named_by_another_repository_is_protected_for_every_owner(name: str) -> None:
    found = protect(shared(guest(f"{name}@{A}")))
    assert (sources(found), found.stale) == ({(ALPINE, A), (BASE, A)}, ())


def test_a_folder_beside_content_is_protected_with_it_where_its_repository_is_named() -> None:
    found = protect(shared(guest(f"{TOOL}@{A}")))
    assert sources(found) == {(TOOL, A), (ALPINE, A), (BASE, A)}


def test_a_folder_of_a_repository_is_found_by_no_other_name() -> None:
    inventory = cache(repository(TOOL, make_image(A)), owners={}, references=(guest(f"{ALPINE}@{A}"),))
    found = protect(inventory)
    assert (found.sources, found.stale) == ({}, (StaleReference("instance/vm", f"{ALPINE}@{A}"),))


def test_a_reference_to_content_that_nobody_owns_is_not_stale() -> None:
    found = protect(cache(owners={A: ()}, references=(guest(f"{ALPINE}@{A}"),)))
    assert (found.sources, found.stale) == ({}, ())


# By tag.


def test_a_tag_protects_what_it_leads_to_for_every_owner_where_its_repository_is_none() -> None:
    # The tag leads to content of another repository only by what the scan saw of its owners.
    inventory = cache(
        repository(ALPINE, tags={"latest": A}),
        repository(BASE, content(A)),
        owners={A: (BASE,)},
        references=(guest("alpine", created_at=MADE),),
        link_times={LATEST: OLD_LINK_NS},
    )
    assert sources(protect(inventory)) == {(BASE, A)}


def test_what_a_moved_tag_led_to_is_protected_whoever_owns_it_now() -> None:
    inventory = cache(
        repository(ALPINE, content(B), tags={"latest": B}),
        repository(BASE, content(A)),
        owners={A: (BASE,), B: (ALPINE,)},
        references=(guest("alpine", created_at=MADE),),
        remembered={LATEST: Remembered(frozenset({A}), SEEN)},
    )
    found = protect(inventory)
    assert sources(found) == {(ALPINE, B), (BASE, A)}
    assert found.remembered == {LATEST: Remembered(frozenset({A, B}), SEEN)}


def test_at_first_sight_content_that_was_pulled_by_that_name_counts_whoever_owns_it() -> None:
    older, younger = content(A, created_ns=MADE_NS - 1), content(C, created_ns=MADE_NS + FIVE_MINUTES_NS)
    inventory = cache(
        repository(ALPINE, content(B, created_ns=MADE_NS), tags={"latest": B}, named={A: older, C: younger}),
        repository(BASE, older, younger),
        owners={A: (BASE,), B: (ALPINE,), C: (BASE,)},
        references=(guest("alpine", created_at=MADE),),
        link_times={LATEST: MADE_NS + 1},
    )
    assert sources(protect(inventory)) == {(ALPINE, B), (BASE, A)}


@pytest.mark.parametrize(
    ("copy_ns", "counts"), [(MADE_NS - 1, True), (MADE_NS + FIVE_MINUTES_NS, False), (None, True)]
)
def test_at_first_sight_an_image_is_as_old_as_the_older_of_its_folders(
    copy_ns: int | None, counts: bool
) -> None:
    image = content(A, created_ns=NOW_NS, copy=make_image(A, created_ns=copy_ns))
    inventory = cache(
        repository(ALPINE, image, content(B, created_ns=0), tags={"latest": B}),
        owners={A: (ALPINE,), B: (ALPINE,)},
        references=(guest("alpine", created_at=MADE),),
        link_times={LATEST: MADE_NS + 1},
    )
    assert sources(protect(inventory)) == ({(ALPINE, A), (ALPINE, B)} if counts else {(ALPINE, B)})


# What is there in the place of a tag, and is none.


def odd(*references: Reference, **fields: Any) -> Inventory:
    """Make a repository of two images, with content that was pulled by its name, and another that owns that."""
    return cache(
        repository(ALPINE, content(A), make_image(B), **{"named": {C: content(C)}, **fields}),
        repository(BASE, content(C), content(D)),
        owners={A: (ALPINE,), C: (BASE,), D: (BASE,)},
        references=references,
        link_times={LATEST: 0},
    )


ODD: dict[str, dict[str, Any]] = {
    "a link of another form": {"odd_tags": frozenset({"latest"})},
    "a folder": {"folder_tags": frozenset({"latest"})},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
@pytest.mark.parametrize("resolved", ["", f"{ALPINE}@{A}"])
def test_where_nobody_knows_what_a_tag_leads_to_every_digest_of_the_repository_is_protected(
    fields: Mapping[str, Any], resolved: str
) -> None:
    found = protect(odd(guest("alpine", resolved=resolved, created_at=NOW), **fields))
    assert (sources(found), found.stale) == ({(ALPINE, A), (ALPINE, B), (BASE, C)}, ())


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
def test_another_tag_beside_that_is_what_it_is(fields: Mapping[str, Any]) -> None:
    inventory = odd(guest("alpine:v1", created_at=NOW), tags={"v1": A}, **fields)
    inventory = attrs.evolve(inventory, link_times={(ALPINE, "v1"): 0})
    assert sources(protect(inventory)) == {(ALPINE, A)}


def test_a_tag_that_is_named_as_a_digest_is_that_digests_folder_where_there_is_no_link() -> None:
    name = B.removeprefix("sha256:")
    found = protect(odd(guest(f"alpine:{name}", created_at=NOW)))
    assert sources(found) == {(ALPINE, A), (ALPINE, B), (BASE, C)}
    tagged = odd(guest(f"alpine:{name}", created_at=NOW), tags={name: A})
    assert sources(protect(attrs.evolve(tagged, link_times={(ALPINE, name): 0}))) == {(ALPINE, A)}


def test_what_a_tag_led_to_before_it_became_odd_stays_known() -> None:
    memory = {LATEST: Remembered(frozenset({D}), SEEN)}
    inventory = odd(guest("alpine", created_at=MADE), odd_tags=frozenset({"latest"}))
    found = protect(attrs.evolve(inventory, remembered=memory))
    assert sources(found) == {(ALPINE, A), (ALPINE, B), (BASE, C), (BASE, D)}
    assert found.remembered == memory


@pytest.mark.parametrize("fields", [{"tags": {"deeper": A}}, {"odd_tags": frozenset({"deeper"})}])
def test_behind_a_tag_nobody_knows_what_a_tag_leads_to(fields: Mapping[str, Any]) -> None:
    deeper = f"{ALPINE}/deeper"
    inventory = cache(
        repository(ALPINE, content(A), **fields),
        repository(deeper, make_image(B), make_image(C), tags={"latest": B}),
        owners={A: (ALPINE,)},
        references=(guest(deeper, resolved=f"{deeper}@{B}", created_at=NOW),),
        link_times={(deeper, "latest"): 0},
    )
    assert sources(protect(inventory)) == {(deeper, B), (deeper, C)}
    beside = attrs.evolve(
        inventory, repositories={**inventory.repositories, ALPINE: repository(ALPINE, content(A))}
    )
    assert sources(protect(beside)) == {(deeper, B)}


# What one image needs of another.


def test_what_an_image_needs_is_protected_and_never_stale() -> None:
    needs = Reference(f"image/{B}", resolved_image=f"{TOOL}@{A}")
    inventory = cache(repository(ALPINE, content(A)), owners={A: (ALPINE,)}, references=(needs,))
    found = protect(inventory)
    assert (dict(found.sources), found.stale) == ({(ALPINE, A): (f"image/{B}",)}, ())
    found = protect(cache(owners={}, references=(needs,)))
    assert (found.sources, found.stale) == ({}, ())
