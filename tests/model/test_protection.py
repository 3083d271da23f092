"""What references protect: what they name now, and what a moved tag may have named."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import attrs
import pytest

from hmret.model.images import Image, Inventory, Remembered, Repository
from hmret.model.protection import StaleReference
from hmret.model.references import Reference
from hmret.model.tag_history import named_tags, unseen_tags
from hmret.model.times import datetime_of, nanoseconds_of
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
from support.builders import digest
from support.protecting import Protection, protect as protect_at

HOUR_NS = 3600 * 10**9
DOUBT = timedelta(minutes=5)
DOUBT_NS = 300 * 10**9
MADE = NOW - timedelta(days=2)
MADE_NS = NOW_NS - 2 * 24 * HOUR_NS
OLD_LINK_NS = MADE_NS - DOUBT_NS
"""When a link was made that is clearly older than what was made at `MADE`."""
TAG = (ALPINE, "latest")
Memory = Mapping[tuple[str, str], Remembered]


def protect(inventory: Inventory) -> Protection:
    return protect_at(inventory, NOW_NS)


def memory_of(digests: Iterable[str], *seen: Reference) -> Remembered:
    return Remembered(
        frozenset(digests), frozenset((reference.source, reference.created_at) for reference in seen)
    )


def cache(*references: Reference, latest: str | None = B, link_ns: int | None = None) -> Inventory:
    """Three images, made an hour before the guests, an hour after them, and nobody knows when; and a tag."""
    images = (
        Image(A, "ready", created_ns=MADE_NS - HOUR_NS),
        Image(B, "ready", created_ns=MADE_NS + HOUR_NS),
        Image(C, "ready"),
    )
    tags = {} if latest is None else {"latest": latest}
    links = {} if link_ns is None else {(ALPINE, "latest"): link_ns}
    return make_inventory(make_repository(*images, tags=tags), references=references, link_times=links)


def protected(found: Protection) -> set[str]:
    assert {name for name, _ in found.sources} <= {ALPINE}
    return {digest for _, digest in found.sources}


def again(
    inventory: Inventory,
    found: Protection,
    *references: Reference,
    latest: str | None,
    link_ns: int | None = None,
) -> Protection:
    """Look at the same cache once more, its tag moved, with a link of that age (None: not known)."""
    moved = Repository(
        ALPINE, inventory.repositories[ALPINE].images, {} if latest is None else {"latest": latest}
    )
    return protect(
        attrs.evolve(
            inventory,
            repositories={ALPINE: moved},
            references=references or inventory.references,
            remembered=found.remembered,
            link_times={} if link_ns is None else {TAG: link_ns},
        )
    )


# What is named now.


def test_a_digest_protects_itself_and_nothing_else() -> None:
    found = protect(cache(guest(f"alpine@{A}"), link_ns=OLD_LINK_NS))
    assert found == Protection({(ALPINE, A): ("instance/vm",)}, (), {})


def test_a_tag_protects_what_it_points_to() -> None:
    found = protect(cache(guest("alpine", created_at=MADE), link_ns=OLD_LINK_NS))
    assert protected(found) == {B}


def test_the_resolved_image_protects_its_digest_and_the_tag_the_one_it_points_to() -> None:
    found = protect(cache(guest("alpine", resolved=f"{ALPINE}@{A}")))
    assert protected(found) == {A, B}


def test_a_resolved_image_by_tag_protects_what_it_points_to() -> None:
    reference = guest(resolved="alpine", created_at=MADE)
    found = protect(cache(reference, link_ns=OLD_LINK_NS))
    assert protected(found) == {B}
    assert found.remembered == {TAG: memory_of({B}, reference)}


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


# A saved state.


def sleeping(
    text: str = "", *opens: str, created_at: datetime | None = MADE, resolved: str = ""
) -> Reference:
    """Make a guest that has a saved state."""
    return Reference("instance/vm", text, resolved, created_at, opens)


def test_what_a_saved_state_opens_is_protected() -> None:
    assert protected(protect(cache(sleeping(f"alpine@{A}", f"{ALPINE}@{C}")))) == {A, C}


def test_what_a_saved_state_opens_is_protected_by_a_guest_that_names_nothing() -> None:
    assert protected(protect(cache(sleeping("", f"{ALPINE}@{A}")))) == {A}


def test_the_saved_state_of_a_guest_in_another_repository_protects_all_the_same() -> None:
    found = protect(cache(sleeping("quay.io/x/y:1", f"{ALPINE}@{A}")))
    assert protected(found) == {A}
    assert found.stale == ()


def test_a_guest_whose_saved_state_opens_what_is_not_here_is_stale_with_its_own_text_alone() -> None:
    found = protect(cache(sleeping("alpine:gone", f"quay.io/x/y@{D}"), latest=None))
    # Nobody knows what it was started from, so nothing of its repository goes, and it is not stale.
    assert (protected(found), found.stale) == ({A, B, C}, ())
    elsewhere = protect(cache(sleeping("quay.io/gone/too:1", f"quay.io/x/y@{D}")))
    assert elsewhere.stale == (StaleReference("instance/vm", "quay.io/gone/too:1"),)


def test_at_first_sight_the_age_of_a_guest_with_a_saved_state_proves_nothing() -> None:
    found = protect(cache(sleeping("alpine", created_at=NOW), link_ns=OLD_LINK_NS))
    assert protected(found) == {A, B, C}


def test_with_a_saved_state_every_digest_is_protected_though_the_tag_has_gone() -> None:
    inventory = cache(sleeping("alpine"), latest=None)
    first = protect(inventory)
    assert protected(first) == {A, B, C}
    # Once that is known, whatever comes later is none of its.
    later = attrs.evolve(
        inventory,
        repositories={ALPINE: make_repository(*(Image(one, "ready") for one in (A, B, C, D)))},
        remembered=first.remembered,
    )
    assert protected(protect(later)) == {A, B, C}


def test_a_guest_that_was_seen_before_it_was_put_to_sleep_protects_no_more_for_that() -> None:
    awake = guest("alpine", created_at=MADE)
    inventory = cache(awake, latest=A, link_ns=OLD_LINK_NS)
    found = again(inventory, protect(inventory), sleeping("alpine", f"{ALPINE}@{A}"), latest=A)
    assert protected(found) == {A}


def test_a_fork_is_a_first_sight_though_its_source_was_seen() -> None:
    source = guest("alpine", name="source", created_at=MADE)
    inventory = cache(source, latest=A, link_ns=OLD_LINK_NS)
    fork = sleeping("alpine", created_at=NOW)
    found = again(inventory, protect(inventory), source, fork, latest=B, link_ns=NOW_NS - HOUR_NS)
    assert protected(found) == {A, B, C}
    assert found.remembered == {TAG: memory_of({A, B, C}, source, fork)}


def test_a_saved_state_beside_a_resolved_image_says_what_it_opens_and_no_more() -> None:
    found = protect(cache(sleeping("alpine", f"{ALPINE}@{C}", resolved=f"{ALPINE}@{A}"), latest=A))
    assert protected(found) == {A, C}


# The first sight of a guest.


@pytest.mark.parametrize("link_ns", [OLD_LINK_NS - 1, OLD_LINK_NS])
def test_a_link_that_is_older_than_the_guest_by_five_minutes_protects_only_its_digest(link_ns: int) -> None:
    assert protected(protect(cache(guest("alpine", created_at=MADE), link_ns=link_ns))) == {B}


@pytest.mark.parametrize("link_ns", [OLD_LINK_NS + 1, MADE_NS, MADE_NS + 1, NOW_NS, None])
@pytest.mark.parametrize("latest", [A, B, D])
def test_any_other_link_protects_what_was_there_before_the_guest(latest: str, link_ns: int | None) -> None:
    found = protect(cache(guest("alpine", created_at=MADE), latest=latest, link_ns=link_ns))
    assert protected(found) == ({A, C} | {latest}) - {D}
    assert found.stale == ()


def aged(created_ns: int, reference: Reference) -> Inventory:
    """Make a cache of an image made long before the guest, its tag, and another one."""
    old, other = Image(B, "ready", created_ns=0), Image(A, "ready", created_ns=created_ns)
    repository = make_repository(old, other, tags={"latest": B})
    return make_inventory(repository, references=(reference,), link_times={TAG: NOW_NS})


@pytest.mark.parametrize(
    ("created_ns", "counts"), [(MADE_NS + DOUBT_NS - 1, True), (MADE_NS + DOUBT_NS, False)]
)
def test_an_image_made_within_five_minutes_after_the_guest_may_have_been_made_before_it(
    created_ns: int, counts: bool
) -> None:
    found = protect(aged(created_ns, guest("alpine", created_at=MADE)))
    assert protected(found) == ({A, B} if counts else {B})


@pytest.mark.parametrize("ahead", [DOUBT + timedelta(microseconds=1), timedelta(days=400)])
def test_a_guest_from_the_future_protects_the_whole_repository_and_not_what_comes_later(
    ahead: timedelta,
) -> None:
    inventory = cache(guest("alpine", created_at=NOW + ahead), latest=A, link_ns=0)
    first = protect(inventory)
    assert protected(first) == {A, B, C}
    images = (Image(one, "ready", created_ns=NOW_NS) for one in (A, B, C, D))
    later = attrs.evolve(
        inventory,
        repositories={ALPINE: make_repository(*images, tags={"latest": A})},
        remembered=first.remembered,
    )
    assert protected(protect(later)) == {A, B, C}


@pytest.mark.parametrize("ahead", [timedelta(microseconds=1), DOUBT])
def test_a_guest_made_while_it_was_looked_for_is_judged_by_the_next_look(ahead: timedelta) -> None:
    inventory = cache(guest("alpine", created_at=NOW + ahead), latest=A, link_ns=0)
    first = protect(inventory)
    assert protected(first) == {A, B, C}
    assert first.remembered == {TAG: Remembered(frozenset({A}))}
    now_ns = nanoseconds_of(NOW + ahead)
    assert protected(protect_at(attrs.evolve(inventory, remembered=first.remembered), now_ns)) == {A}


def test_a_guest_that_is_older_than_every_image_whose_age_is_known_protects_the_whole_repository() -> None:
    reference = guest("alpine", created_at=datetime_of(0))
    assert protected(protect(cache(reference, latest=B, link_ns=-DOUBT_NS))) == {A, B, C}


def test_a_guest_that_is_as_old_as_the_oldest_image_is_not_older_than_every_image() -> None:
    reference = guest("alpine", created_at=MADE - timedelta(hours=1))
    assert protected(protect(cache(reference, latest=B, link_ns=0))) == {B}


def test_a_guest_is_not_older_than_images_whose_age_nobody_knows() -> None:
    repository = make_repository(Image(A, "ready"), Image(B, "ready"), tags={"latest": A})
    references = (guest("alpine", created_at=MADE),)
    inventory = make_inventory(repository, references=references, link_times={TAG: OLD_LINK_NS})
    assert protected(protect(inventory)) == {A}


def test_the_age_of_an_image_counts_in_each_of_its_folders() -> None:
    copied = Image(
        A,
        "ready",
        created_ns=NOW_NS,
        content_name=ALPINE,
        copy=Image(A, "ready", created_ns=MADE_NS - HOUR_NS),
    )
    repository = make_repository(copied, Image(B, "ready", created_ns=NOW_NS), tags={"latest": A})
    references = (guest("alpine", created_at=MADE),)
    inventory = make_inventory(repository, references=references, link_times={TAG: OLD_LINK_NS})
    assert protected(protect(inventory)) == {A}


def test_a_guest_of_unknown_age_protects_the_whole_repository() -> None:
    assert protected(protect(cache(guest("alpine"), latest=A, link_ns=0))) == {A, B, C}


def test_where_the_time_is_not_known_no_age_proves_anything() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    assert protected(protect_at(inventory, None)) == {A, B, C}


def test_a_tag_that_is_absent_is_not_seen_yet() -> None:
    inventory = cache(guest("alpine"), latest=None)
    first = protect(inventory)
    assert (first.sources, first.remembered) == ({}, {})
    assert protected(again(inventory, first, latest=A)) == {A, B, C}


@pytest.mark.parametrize("reference", [guest("alpine"), sleeping("alpine")])
def test_a_tag_in_a_repository_that_is_not_here_is_not_seen_yet(reference: Reference) -> None:
    found = protect(make_inventory(references=(reference,)))
    assert (found.remembered, len(found.stale)) == ({}, 1)


def test_nothing_is_remembered_of_digests() -> None:
    assert protect(cache(guest(f"alpine@{A}"))).remembered == {}


# The memory of a tag.


def test_what_a_tag_pointed_to_stays_protected_after_it_has_moved() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    first = protect(inventory)
    second = again(inventory, first, latest=B)
    third = again(inventory, second, latest=C)
    assert [protected(one) for one in (first, second, third)] == [{A}, {A, B}, {A, B, C}]


def test_a_guest_made_between_two_looks_may_run_from_what_no_look_has_seen() -> None:
    older = guest("alpine", name="older", created_at=MADE)
    inventory = cache(older, latest=A, link_ns=OLD_LINK_NS)
    new = guest("alpine", created_at=MADE + timedelta(hours=2))
    # B came, the guest was started from it, and now the tag points to C.
    link_ns = MADE_NS + 3 * HOUR_NS
    found = again(inventory, protect(inventory), older, new, latest=C, link_ns=link_ns)
    assert found.sources[ALPINE, B] == ("instance/older", "instance/vm")
    assert found.remembered == {TAG: memory_of({A, B, C}, older, new)}


def test_a_guest_made_clearly_after_its_tag_was_moved_runs_from_what_it_points_to() -> None:
    older = guest("alpine", name="older", created_at=MADE)
    inventory = cache(older, latest=A, link_ns=OLD_LINK_NS)
    new = guest("alpine", created_at=MADE + timedelta(hours=2))
    link_ns = MADE_NS + 2 * HOUR_NS - DOUBT_NS
    found = again(inventory, protect(inventory), older, new, latest=C, link_ns=link_ns)
    assert protected(found) == {A, C}


def test_what_a_tag_pointed_to_stays_protected_after_it_has_gone() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    second = again(inventory, protect(inventory), latest=None)
    assert (protected(second), second.stale) == ({A}, ())


def test_what_is_remembered_and_not_here_is_stale_and_not_forgotten() -> None:
    reference = guest("alpine", created_at=MADE)
    memory = {TAG: memory_of({D}, reference)}
    found = protect(attrs.evolve(cache(reference, latest=None), remembered=memory))
    assert (found.sources, len(found.stale), found.remembered) == ({}, 1, memory)


@pytest.mark.parametrize("text", ["alpine:latest", f"{ALPINE}", f"{ALPINE}:latest"])
def test_all_texts_that_name_one_tag_share_its_memory(text: str) -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    reference = guest(text, created_at=MADE)
    found = again(inventory, protect(inventory), reference, latest=B)
    assert protected(found) == {A, B}
    assert found.remembered == {TAG: memory_of({A, B}, reference)}


def test_another_tag_has_a_memory_of_its_own() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    found = again(inventory, protect(inventory), guest("alpine:3.20", created_at=MADE), latest=B)
    assert (found.sources, found.remembered) == ({}, {})


def test_a_guest_shares_what_the_tag_has_pointed_to_since_another_one_was_seen() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    later = guest("alpine", name="other", created_at=NOW)
    second = again(inventory, protect(inventory), later, latest=B, link_ns=NOW_NS - DOUBT_NS)
    assert protected(second) == {A, B}
    assert second.remembered == {TAG: memory_of({A, B}, later)}


def test_a_guest_of_the_name_of_another_that_was_seen_is_a_first_sight() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    other = guest("alpine", created_at=MADE - timedelta(microseconds=1))
    second = again(inventory, protect(inventory), other, latest=B)
    # C is of unknown age, so may have been there before this guest.
    assert protected(second) == {A, B, C}
    assert second.remembered == {TAG: memory_of({A, B, C}, other)}


def test_what_guests_ran_from_is_one_memory_whatever_their_order() -> None:
    one, other = guest("alpine", created_at=NOW), guest("alpine", name="other", created_at=MADE)
    for references in ((one, other), (other, one)):
        found = protect(cache(*references, latest=A, link_ns=MADE_NS + HOUR_NS))
        assert found.remembered == {TAG: memory_of({A, C}, one, other)}


def test_the_same_time_in_another_zone_is_the_same_guest() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    local = guest("alpine", created_at=MADE.astimezone())
    assert protected(again(inventory, protect(inventory), local, latest=B)) == {A, B}


def test_a_guest_that_does_not_tell_its_age_is_a_first_sight_once() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    ageless = guest("alpine")
    second = again(inventory, protect(inventory), ageless, latest=B)
    assert protected(second) == {A, B, C}
    later = attrs.evolve(
        inventory,
        repositories={ALPINE: make_repository(*(Image(one, "ready") for one in (A, B, C, D)))},
        references=(ageless,),
        remembered=second.remembered,
    )
    assert protected(protect(later)) == {A, B, C}


def test_two_things_of_an_embedder_that_have_one_name_and_different_ages_are_both_seen() -> None:
    one, other = (Reference("job", "alpine", created_at=moment) for moment in (MADE, NOW))
    inventory = cache(one, latest=A, link_ns=OLD_LINK_NS)
    found = again(inventory, protect(inventory), one, other, latest=C, link_ns=NOW_NS)
    assert found.remembered == {TAG: memory_of({A, B, C}, one, other)}


def test_a_resolved_image_ends_the_memory() -> None:
    inventory = cache(guest("alpine", created_at=MADE), latest=A, link_ns=OLD_LINK_NS)
    resolved = guest("alpine", resolved=f"{ALPINE}@{A}", created_at=MADE)
    second = again(inventory, protect(inventory), resolved, latest=B)
    assert (protected(second), second.remembered) == ({A, B}, {})


def test_one_guest_of_several_ends_the_memory_for_none_of_the_others() -> None:
    other = guest("alpine", name="other", created_at=MADE)
    inventory = cache(guest("alpine", created_at=MADE), other, latest=A, link_ns=OLD_LINK_NS)
    resolved = guest("alpine", resolved=f"{ALPINE}@{A}", created_at=MADE)
    second = again(inventory, protect(inventory), resolved, other, latest=B)
    assert second.sources == {
        (ALPINE, A): ("instance/other", "instance/vm"),
        (ALPINE, B): ("instance/other", "instance/vm"),
    }
    assert second.remembered == {TAG: memory_of({A, B}, other)}


def test_the_memory_of_a_tag_goes_on_while_any_guest_names_it() -> None:
    inventory = cache(guest("alpine"), latest=A)
    found = again(inventory, protect(inventory), guest("alpine", name="other"), latest=A)
    assert set(found.remembered) == {TAG}


def test_a_tag_that_no_guest_names_any_more_is_forgotten() -> None:
    inventory = cache(guest("alpine"), latest=A)
    assert again(inventory, protect(inventory), guest(f"alpine@{A}"), latest=A).remembered == {}


def test_while_any_source_cannot_be_read_no_tag_is_forgotten_and_no_guest_that_was_seen() -> None:
    gone = guest("alpine", name="gone", created_at=NOW)
    memory: Memory = {
        TAG: memory_of({A}, gone),
        ("quay.io/x/y", "latest"): Remembered(frozenset({B})),
    }
    inventory = attrs.evolve(cache(), remembered=memory, unread_sources={"instance/vm"})
    found = protect(inventory)
    assert found.remembered == memory
    assert found.sources == {}
    here = guest("alpine", created_at=MADE)
    named = attrs.evolve(inventory, references=(here,), link_times={TAG: OLD_LINK_NS})
    assert protect(named).remembered[TAG] == memory_of({A, B}, gone, here)


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


def test_the_tags_whose_links_age_matters_are_listed() -> None:
    seen = guest("alpine", created_at=MADE)
    memory: Memory = {TAG: memory_of({A}, seen), (ALPINE, "old"): memory_of({A}, seen)}
    references = (
        seen,
        guest("alpine:old", created_at=MADE + timedelta(microseconds=1)),
        guest("alpine:ageless"),
        guest("alpine:new", created_at=NOW),
        guest("alpine:v1", resolved=f"alpine@{A}"),
        guest(f"alpine@{A}"),
    )
    assert list(unseen_tags(references, memory)) == [(ALPINE, "old"), (ALPINE, "ageless"), (ALPINE, "new")]
