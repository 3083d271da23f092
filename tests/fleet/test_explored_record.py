"""The explorer's record, which keeps only what makes a difference, judges marks as the product's does."""

from collections.abc import Sequence

from hypothesis import given, strategies as st

from fleet.exploring.moves import mark_age, with_done, with_mark, with_standing
from fleet.exploring.shipped import digest
from fleet.exploring.worlds import Place, Record
from hmret.model.records.fleet import FleetRecordContents, Standing

_STEPS = st.lists(st.tuples(st.sampled_from(["mark", "done", "+", "?", "-"]), st.integers(0, 3)), max_size=25)


@given(_STEPS)
def test_marks_and_digests_stand_as_on_the_product_s_record(steps: Sequence[tuple[str, int]]) -> None:
    place = Place("A", (0,) * 4, (False,) * 4, (False,) * 4, 1, Record("g1", False, (), ("",) * 4), None)
    contents = FleetRecordContents()
    contents.read_line("generation g1")
    made = 0
    for what, number in steps:
        mark = max(made - number, 1)
        if what == "mark":
            made += 1
            place = with_mark(place, made)
            contents.read_line(f"mark {made:016x}")
        elif what == "done" and made:
            place = with_done(place, mark)
            contents.read_line(f"done {mark:016x}")
        elif what in "+?-":
            place = with_standing(place, (number,), what.strip("-"))
            contents.read_line(f"{what} {digest(number).removeprefix('sha256:')}")
        record = place.record
        assert record is not None
        for each in range(1, made + 2):
            age = mark_age(record, each)
            assert age == contents.age_of(f"{each:016x}").value
        assert record.has_done == (contents.last_done() is not None)
        on_record = {number: Standing(standing) for number, standing in enumerate(record.digests) if standing}
        assert on_record == {int(name, 16): standing for name, standing in contents.digests.items()}
