"""What references protect: what they name now, and what a moved tag may have named."""

from collections.abc import Mapping
from datetime import timedelta

import attrs
import pytest

from builders import digest
from hmret.model.images import Image, Inventory, Reference, Remembered, Repository
from hmret.model.protection import Protection, StaleReference, named_tags, protect, unseen_tags
from hmret.model.times import datetime_of
from model.inventories import (
    ALPINE,
    NOW,
    NOW_NS,
    A,
    B,
    C,
    D,
    guest,
    make_image,
    make_inventory,
    make_repository,
)

MADE = NOW - timedelta(days=2)
MADE_NS = NOW_NS - 2 * 24 * 3600 * 10**9
TAG = (ALPINE, "latest")
Memory = Mapping[tuple[str, str], Remembered]


def cache(*references: Reference, latest: str | None = B, link_ns: int | None = None) -> Inventory:
    """Three images, made a day before the guests, with them, and never; and a tag."""
    images = (
        Image(A, "ready", created_ns=MADE_NS - 1),
        Image(B, "ready", created_ns=MADE_NS),
        Image(C, "ready"),
    )
    tags = {} if latest is None else {"latest": latest}
    links = {} if link_ns is None else {(ALPINE, "latest"): link_ns}
    return make_inventory(make_repository(*images, tags=tags), references=references, link_times=links)


def protected(found: Protection) -> set[str]:
    assert {name for name, _ in found.sources} <= {ALPINE}
    return {digest for _, digest in found.sources}


def again(inventory: Inventory, found: Protection, *references: Reference, latest: str | None) -> Protection:
    """Look at the same cache once more, its tag moved."""
    moved = Repository(
        ALPINE, inventory.repositories[ALPINE].images, {} if latest is None else {"latest": latest}
    )
    return protect(
        attrs.evolve(
            inventory,
            repositories={ALPINE: moved},
            references=references or inventory.references,
            remembered=found.remembered,
        )
    )


# What is named now.


def test_a_digest_protects_itself_and_nothing_else() -> None:
    found = protect(cache(guest(f"alpine@{A}"), link_ns=MADE_NS))
    assert found == Protection({(ALPINE, A): ("instance/vm",)}, (), {})


def test_a_tag_protects_what_it_points_to() -> None:
    found = protect(cache(guest("alpine", created_at=MADE), link_ns=MADE_NS - 1))
    assert protected(found) == {B}


def test_the_resolved_image_protects_its_digest_and_the_tag_the_one_it_points_to() -> None:
    found = protect(cache(guest("alpine", resolved=f"{ALPINE}@{A}")))
    assert protected(found) == {A, B}


def test_a_resolved_image_by_tag_protects_what_it_points_to() -> None:
    found = protect(cache(guest(resolved="alpine", created_at=MADE), link_ns=MADE_NS - 1))
    assert protected(found) == {B}
    assert found.remembered == {TAG: Remembered(frozenset({B}), MADE)}


def test_nothing_is_protected_in_another_repository() -> None:
    inventory = make_inventory(
        make_repository(make_image(A), name="quay.io/x/alpine"), references=(guest(f"alpine@{A}"),)
    )
    assert protect(inventory).sources == {}


def test_all_who_need_an_image_are_named_once_and_sorted() -> None:
    references = (
        guest(f"alpine@{A}", name="b"),
        Reference("snapshot/s", f"alpine@{A}"),
        guest(f"alpine@{A}", name="a"),
        guest(f"docker.io/library/alpine@{A}", name="a"),
    )
    found = protect(cache(*references))
    assert found.sources == {(ALPINE, A): ("instance/a", "instance/b", "snapshot/s")}


def test_a_reference_to_nothing_protects_nothing() -> None:
    assert protect(cache(guest())) == Protection({}, (), {})


# Stale references.


@pytest.mark.parametrize("text", [f"alpine@{D}", "alpine:gone", "quay.io/gone/too", f"quay.io/gone/too@{A}"])
def test_a_reference_to_what_is_not_here_is_stale(text: str) -> None:
    assert protect(cache(guest(text))).stale == (StaleReference("instance/vm", text),)


def test_a_tag_that_points_to_nothing_is_stale() -> None:
    assert protect(cache(guest("alpine", created_at=NOW), latest=D, link_ns=0)).stale == (
        StaleReference("instance/vm", "alpine"),
    )


def test_a_stale_reference_counts_once_for_each_who_makes_it() -> None:
    references = (guest("alpine:x", name="b"), guest("alpine:x", name="a"), guest("alpine:x", name="a"))
    assert protect(cache(*references)).stale == (
        StaleReference("instance/a", "alpine:x"),
        StaleReference("instance/b", "alpine:x"),
    )


@pytest.mark.parametrize(
    ("image", "resolved"), [("alpine:gone", f"alpine@{A}"), (f"alpine@{A}", f"quay.io/gone/too@{D}")]
)
def test_a_guest_of_which_one_text_leads_to_an_image_is_not_stale(image: str, resolved: str) -> None:
    found = protect(cache(guest(image, resolved=resolved)))
    assert (protected(found), found.stale) == ({A}, ())


def test_a_guest_of_which_no_text_leads_to_an_image_is_stale_with_both() -> None:
    found = protect(cache(guest("alpine:gone", resolved=f"quay.io/gone/too@{D}")))
    assert found.stale == (
        StaleReference("instance/vm", "alpine:gone"),
        StaleReference("instance/vm", f"quay.io/gone/too@{D}"),
    )


def test_two_files_of_one_guest_are_one_guest() -> None:
    found = protect(cache(guest("alpine:gone"), guest(f"alpine@{A}")))
    assert found.stale == ()


def test_two_things_of_an_embedder_that_have_one_name_are_two() -> None:
    found = protect(cache(Reference("job", "alpine:gone"), Reference("job", f"alpine@{A}")))
    assert found.stale == (StaleReference("job", "alpine:gone"),)


# The first sight of a tag.


@pytest.mark.parametrize("link_ns", [MADE_NS - 1, MADE_NS])
def test_a_link_that_is_not_younger_than_the_guest_protects_only_its_digest(link_ns: int) -> None:
    assert protected(protect(cache(guest("alpine", created_at=MADE), link_ns=link_ns))) == {B}


def test_a_younger_link_protects_what_was_there_before_the_guest() -> None:
    found = protect(cache(guest("alpine", created_at=MADE), latest=B, link_ns=MADE_NS + 1))
    assert protected(found) == {A, B, C}


def test_a_younger_link_does_not_protect_what_came_after_the_guest() -> None:
    found = protect(cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS + 1))
    assert protected(found) == {A, C}


def test_a_link_of_unknown_age_counts_as_younger() -> None:
    assert protected(protect(cache(guest("alpine", created_at=MADE)))) == {A, B, C}


def test_a_guest_of_unknown_age_protects_the_whole_repository() -> None:
    assert protected(protect(cache(guest("alpine"), latest=A, link_ns=0))) == {A, B, C}


def test_a_younger_link_that_points_to_nothing_protects_what_was_there_before_the_guest() -> None:
    found = protect(cache(guest("alpine", created_at=MADE), latest=D, link_ns=MADE_NS + 1))
    assert protected(found) == {A, C}
    assert found.stale == ()


def test_a_tag_that_is_absent_is_not_seen_yet() -> None:
    inventory = cache(guest("alpine"), latest=None)
    first = protect(inventory)
    assert (first.sources, first.remembered) == ({}, {})
    assert protected(again(inventory, first, latest=A)) == {A, B, C}


def test_a_tag_in_a_repository_that_is_not_here_is_not_seen_yet() -> None:
    found = protect(make_inventory(references=(guest("alpine"),)))
    assert (found.remembered, len(found.stale)) == ({}, 1)


def test_nothing_is_remembered_of_digests() -> None:
    assert protect(cache(guest(f"alpine@{A}"))).remembered == {}


# The memory of a tag.


def test_what_a_tag_pointed_to_stays_protected_after_it_has_moved() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    first = protect(inventory)
    second = again(inventory, first, latest=B)
    third = again(inventory, second, latest=C)
    assert [protected(one) for one in (first, second, third)] == [{A}, {A, B}, {A, B, C}]


def test_what_a_tag_pointed_to_stays_protected_after_it_has_gone() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    second = again(inventory, protect(inventory), latest=None)
    assert (protected(second), second.stale) == ({A}, ())


def test_what_is_remembered_and_not_here_is_stale_and_not_forgotten() -> None:
    memory = {TAG: Remembered(frozenset({D}), MADE)}
    inventory = attrs.evolve(cache(guest("alpine", created_at=MADE), latest=None), remembered=memory)
    found = protect(inventory)
    assert (found.sources, len(found.stale), found.remembered) == ({}, 1, memory)


@pytest.mark.parametrize("text", ["alpine:latest", f"{ALPINE}", f"{ALPINE}:latest"])
def test_all_texts_that_name_one_tag_share_its_memory(text: str) -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    found = again(inventory, protect(inventory), guest(text, created_at=MADE), latest=B)
    assert protected(found) == {A, B}
    assert found.remembered == {TAG: Remembered(frozenset({A, B}), MADE)}


def test_another_tag_has_a_memory_of_its_own() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    found = again(inventory, protect(inventory), guest("alpine:3.20", created_at=MADE), latest=B)
    assert (found.sources, found.remembered) == ({}, {})


def test_a_younger_guest_shares_what_the_tag_has_pointed_to_since_an_older_one() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    later = guest("alpine", name="other", created_at=MADE + timedelta(microseconds=1))
    second = again(inventory, protect(inventory), later, latest=B)
    assert protected(second) == {A, B}
    assert second.remembered[TAG].created_at == MADE


def test_a_guest_that_is_older_than_the_memory_is_a_first_sight_again() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    older = guest("alpine", name="other", created_at=MADE - timedelta(microseconds=1))
    second = again(inventory, protect(inventory), older, latest=B)
    # C is of unknown age, so may have been there before this guest; A was not.
    assert protected(second) == {A, B, C}
    assert second.remembered == {TAG: Remembered(frozenset({A, B, C}), older.created_at)}


def test_the_oldest_guest_tells_how_far_the_memory_goes_back_whatever_their_order() -> None:
    one, other = guest("alpine", created_at=NOW), guest("alpine", name="other", created_at=MADE)
    for references in ((one, other), (other, one)):
        found = protect(cache(*references, latest=A, link_ns=NOW_NS + 1))
        assert found.remembered == {TAG: Remembered(frozenset({A, B, C}), MADE)}


def test_the_same_time_in_another_zone_is_the_same_guest() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    local = guest("alpine", created_at=MADE.astimezone())
    assert protected(again(inventory, protect(inventory), local, latest=B)) == {A, B}


def test_a_guest_that_does_not_tell_its_age_is_a_first_sight_again() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    second = again(inventory, protect(inventory), guest("alpine"), latest=B)
    assert protected(second) == {A, B, C}
    assert second.remembered[TAG].created_at is None


def test_a_memory_that_goes_back_to_a_guest_of_unknown_age_is_good_for_every_other() -> None:
    memory = {TAG: Remembered(frozenset({A}))}
    inventory = attrs.evolve(cache(guest("alpine")), remembered=memory)
    found = again(inventory, protect(inventory), guest("alpine", created_at=MADE), latest=C)
    assert protected(found) == {A, B, C}
    assert found.remembered[TAG].created_at is None


def test_a_resolved_image_ends_the_memory() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    resolved = guest("alpine", resolved=f"{ALPINE}@{A}", created_at=MADE)
    second = again(inventory, protect(inventory), resolved, latest=B)
    assert (protected(second), second.remembered) == ({A, B}, {})


def test_one_guest_of_several_ends_the_memory_for_none_of_the_others() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=MADE_NS)
    resolved = guest("alpine", resolved=f"{ALPINE}@{A}", created_at=MADE)
    other = guest("alpine", name="other", created_at=MADE)
    second = again(inventory, protect(inventory), resolved, other, latest=B)
    assert second.sources == {
        (ALPINE, A): ("instance/other", "instance/vm"),
        (ALPINE, B): ("instance/other", "instance/vm"),
    }
    assert second.remembered == {TAG: Remembered(frozenset({A, B}), MADE)}


def test_the_memory_of_a_tag_goes_on_while_any_guest_names_it() -> None:
    inventory = cache(guest("alpine"), latest=A)
    found = again(inventory, protect(inventory), guest("alpine", name="other"), latest=A)
    assert set(found.remembered) == {TAG}


def test_a_tag_that_no_guest_names_any_more_is_forgotten() -> None:
    inventory = cache(guest("alpine"), latest=A)
    assert again(inventory, protect(inventory), guest(f"alpine@{A}"), latest=A).remembered == {}


def test_while_any_source_cannot_be_read_no_tag_is_forgotten() -> None:
    memory: Memory = {
        TAG: Remembered(frozenset({A})),
        ("quay.io/x/y", "latest"): Remembered(frozenset({B})),
    }
    inventory = attrs.evolve(cache(), remembered=memory, unread_sources={"instance/vm"})
    found = protect(inventory)
    assert found.remembered == memory
    assert found.sources == {}


# Which tags are asked about.


def test_the_tags_that_are_named_are_listed() -> None:
    references = (
        guest("alpine"),
        guest("alpine:v1", resolved=f"alpine@{digest('a')}"),
        guest(resolved="quay.io/a/b:c"),
        guest(f"alpine@{A}"),
    )
    assert list(named_tags(references)) == [(ALPINE, "latest"), (ALPINE, "v1"), ("quay.io/a/b", "c")]


def test_the_tags_whose_past_counts_are_listed() -> None:
    references = (
        guest("alpine"),
        guest("alpine:v1", resolved=f"alpine@{A}"),
        guest(resolved="quay.io/a/b:c"),
    )
    assert list(named_tags(references, open_ended=True)) == [(ALPINE, "latest"), ("quay.io/a/b", "c")]


def test_a_guest_made_before_the_calendar_of_the_images_protects_only_what_its_tag_points_to_and_the_ageless() -> (
    None
):
    reference = guest("alpine", created_at=datetime_of(0))
    assert protected(protect(cache(reference, latest=B, link_ns=1))) == {B, C}


def test_the_tags_whose_links_age_matters_are_listed() -> None:
    memory: Memory = {
        TAG: Remembered(frozenset({A}), MADE),
        (ALPINE, "old"): Remembered(frozenset({A}), MADE),
        (ALPINE, "any"): Remembered(frozenset({A})),
    }
    references = (
        guest("alpine", created_at=MADE),
        guest("alpine:old", created_at=MADE - timedelta(microseconds=1)),
        guest("alpine:ageless"),
        guest("alpine:any"),
        guest("alpine:new", created_at=NOW),
        guest("alpine:v1", resolved=f"alpine@{A}"),
        guest(f"alpine@{A}"),
    )
    assert list(unseen_tags(references, memory)) == [(ALPINE, "old"), (ALPINE, "ageless"), (ALPINE, "new")]
