"""Timers and references by repository, and what stays the very same object."""

import pytest

from hmret.model.errors import InvalidReferenceError
from hmret.model.grouping import ReferenceIndex, Timers
from hmret.model.references import Reference
from model.inventories import ALPINE, A, B, guest

OTHER = "ghcr.io/kernel/x"


def test_timers_are_a_mapping_by_image() -> None:
    timers = Timers.of({(ALPINE, A): 1, (ALPINE, B): None, (OTHER, A): 2})
    assert dict(timers) == {(ALPINE, A): 1, (ALPINE, B): None, (OTHER, A): 2}
    assert len(timers) == 3
    assert timers.by_repository == {ALPINE: {A: 1, B: None}, OTHER: {A: 2}}


@pytest.mark.parametrize("key", [(ALPINE, B), (OTHER, A)])
def test_an_image_without_a_timer_is_not_among_them(key: tuple[str, str]) -> None:
    timers = Timers.of({(ALPINE, A): 1})
    assert key not in timers
    assert timers.get(key) is None


def test_timers_that_are_grouped_already_stay_what_they_are() -> None:
    timers = Timers.of({(ALPINE, A): 1})
    assert Timers.of(timers) is timers


def test_a_reference_stands_under_each_repository_that_it_names() -> None:
    both = guest("alpine", resolved=f"{OTHER}@{A}")
    index = ReferenceIndex.of([both])
    assert index.by_repository == {ALPINE: (both,), OTHER: (both,)}
    assert list(index) == [both]


def test_a_reference_that_names_one_repository_twice_stands_there_once() -> None:
    one = guest("alpine:3.20", resolved=f"alpine@{A}")
    assert ReferenceIndex.of([one]).by_repository == {ALPINE: (one,)}


def test_a_reference_that_names_nothing_stands_nowhere() -> None:
    index = ReferenceIndex.of([guest()])
    assert (len(index), index.by_repository) == (1, {})


def test_names_stand_in_the_order_of_those_who_refer() -> None:
    index = ReferenceIndex.of(Reference(f"instance/{name}", "alpine", name=name.upper()) for name in "cab")
    assert list(index.names.items()) == [(f"instance/{name}", name.upper()) for name in "abc"]


def test_an_index_is_a_sequence() -> None:
    references = [guest("alpine", name=name) for name in "abc"]
    index = ReferenceIndex.of(references)
    assert index[0] is references[0]
    assert list(index[1:]) == references[1:]
    assert ReferenceIndex.of(index) is index


def test_a_change_leaves_groups_without_it_the_very_same_objects() -> None:
    alpine, other = guest("alpine"), guest(OTHER, name="other")
    before = ReferenceIndex.of([alpine, other])
    after = before.changed([alpine], [guest("alpine:3.20")])
    assert after.by_repository[OTHER] is before.by_repository[OTHER]
    assert after.by_repository[ALPINE] == (guest("alpine:3.20"),)
    assert before.by_repository[ALPINE] == (alpine,)


def test_a_change_of_nothing_leaves_all_groups_the_very_same_objects() -> None:
    before = ReferenceIndex.of([guest("alpine")])
    after = before.changed((), ())
    assert after.by_repository[ALPINE] is before.by_repository[ALPINE]


def test_a_group_without_references_is_gone() -> None:
    one = guest("alpine")
    after = ReferenceIndex.of([one]).changed([one], ())
    assert (len(after), after.by_repository) == (0, {})


def test_of_two_equal_references_one_can_go_and_the_other_protects_on() -> None:
    one, other = (Reference("instance/vm", "alpine") for _ in range(2))
    index = ReferenceIndex.of([one, other]).changed([one], ())
    assert index.by_repository[ALPINE][0] is other
    assert len(index) == 1


def test_a_reference_that_goes_and_an_equal_one_that_comes_leave_one() -> None:
    one, other = (Reference("instance/vm", "alpine") for _ in range(2))
    index = ReferenceIndex.of([one]).changed([one], [other])
    assert index.by_repository[ALPINE] == (other,)
    assert index.by_repository[ALPINE][0] is other


def test_the_same_reference_given_twice_counts_twice() -> None:
    one = guest("alpine")
    index = ReferenceIndex.of([one]).changed((), [one])
    assert index.by_repository[ALPINE] == (one, one)


def test_what_does_not_parse_is_told() -> None:
    with pytest.raises(InvalidReferenceError):
        ReferenceIndex.of([guest("Alpine")])
