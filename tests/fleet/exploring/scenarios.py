"""What is explored: where it begins, what may happen, and which of its mutants each of them catches."""

from collections.abc import Mapping

import attrs

from fleet.exploring.mutants import Program
from fleet.exploring.search import Setup
from fleet.exploring.shipped import Terms

__all__ = ["DEATHS", "LARGE", "SMALL", "mutated"]

_FIRST, _BOTH, _THREE = frozenset((0,)), frozenset((0, 1)), frozenset((0, 1, 2))
_ONE_EACH = ((1,), (1,))
_RACE = Program(releasing=_BOTH)
_ONE_RELEASES = Program(releasing=_FIRST)


def _joined(limits: Mapping[str, int], program: Program = _RACE, *, is_complete: bool = True) -> Setup:
    """Two hosts of a fleet, each with a copy, neither of which must be the last to go."""
    return Setup(_ONE_EACH, limits, program, least=1, joined=_BOTH, is_complete=is_complete)


SMALL: Mapping[str, Setup] = {
    "two hosts join and release": Setup(_ONE_EACH, {}, _RACE, least=1),
    "a kill": _joined({"kills": 1}),
    "a host stands still beyond its lease": _joined({"expiries": 1}),
    "a write that is late or lost": _joined({"unanswered": 1}),
    "a new host is killed as it pulls": Setup(
        ((1,), (0,)), {"pulls": 1, "kills": 1}, _RACE, least=1, stages=True, joined=_BOTH
    ),
    "somebody else deletes": Setup(_ONE_EACH, {"losses": 1, "kills": 1}, _ONE_RELEASES, joined=_BOTH),
    "somebody else deletes while a host joins": Setup(((1,),), {"losses": 1, "kills": 1}, _ONE_RELEASES),
    "somebody else deletes while a host joins, and a write is late": Setup(
        ((1,),), {"losses": 1, "unanswered": 1}, _ONE_RELEASES, is_complete=False
    ),
    "a directory is copied": Setup(
        ((0,),),
        {"copies": 1, "kills": 1, "pulls": 1},
        _ONE_RELEASES,
        empty_places=1,
        joined=_FIRST,
        is_complete=False,
    ),
    "a directory is copied to a host of another name": Setup(
        _ONE_EACH,
        {"copies": 1},
        _ONE_RELEASES,
        empty_places=1,
        copied_to="C",
        least=1,
        joined=_BOTH,
    ),
    "a directory is put back from a backup": Setup(
        ((0,),), {"backups": 1, "kills": 1, "pulls": 1}, _ONE_RELEASES, joined=_FIRST, is_complete=False
    ),
    "a record becomes unreadable": _joined({"lost_records": 1, "kills": 1}, _ONE_RELEASES),
    "units of a digest go one after another": Setup(((2,), (1,)), {}, _RACE, least=1, joined=_BOTH),
    "a pause": _joined({"pauses": 2}, _ONE_RELEASES),
    "a drain": _joined({"drains": 1}),
    "a use elsewhere": _joined({"uses": 1}, Program(Terms(1, 2), _FIRST)),
    "a host is forgotten": _joined({"forgets": 1}, is_complete=False),
    "a host is forgotten in part, and somebody else deletes": Setup(
        ((1,),), {"forgets": 1, "losses": 1}, _ONE_RELEASES, joined=_FIRST, is_complete=False
    ),
    "a cache id is lost after its session": _joined({"lost_ids": 1, "kills": 1}, _ONE_RELEASES),
    "tokens of two hosts": Setup(
        ((1, 1), (1, 1), (1, 1)),
        {"token_ends": 1},
        Program(releasing=_BOTH, allowance=1),
        least=1,
        joined=_THREE,
    ),
    "etcd is put back and reset": _joined({"resets": 1}, _ONE_RELEASES),
    "etcd is put back and not reset": attrs.evolve(
        _joined({"rollbacks": 1, "kills": 1}, _ONE_RELEASES, is_complete=False), is_backed_up=True
    ),
    "etcd is put back below a session that registers": Setup(
        ((0, 0),),
        {"rollbacks": 1, "pulls": 2},
        _ONE_RELEASES,
        joined=_FIRST,
        is_complete=False,
        is_backed_up=True,
    ),
}
"""Explored whole by the tests, in seconds."""

LARGE: Mapping[str, Setup] = {
    "a kill and a late write": _joined({"kills": 1, "unanswered": 1}),
    "two late writes": _joined({"unanswered": 2}),
    "a kill and an expiry": _joined({"kills": 1, "expiries": 1}),
    "three hosts and a kill": Setup(
        ((1,),) * 3, {"kills": 1}, Program(releasing=_THREE), least=1, joined=_THREE
    ),
    "three hosts and an expiry": Setup(
        ((1,),) * 3, {"expiries": 1}, Program(releasing=_THREE), least=1, joined=_THREE
    ),
    "three hosts that keep two copies, and a kill": Setup(
        ((1,),) * 3, {"kills": 1}, Program(Terms(2), _BOTH), least=2, joined=_THREE
    ),
    "a copied directory beside another host": Setup(
        _ONE_EACH,
        {"copies": 1, "kills": 1},
        _RACE,
        empty_places=1,
        least=1,
        joined=_BOTH,
        is_complete=False,
    ),
    "a copied directory, a pull, and a late write": Setup(
        ((0,),),
        {"copies": 1, "pulls": 1, "unanswered": 1},
        _ONE_RELEASES,
        empty_places=1,
        joined=_FIRST,
        is_complete=False,
    ),
    "a backup beside another host": Setup(
        _ONE_EACH, {"backups": 1, "kills": 1}, _RACE, joined=_BOTH, is_complete=False
    ),
    "an unreadable record and a late write": _joined({"lost_records": 1, "kills": 1, "unanswered": 1}),
    "a backup of etcd at any time, not reset": _joined(
        {"rollbacks": 1, "kills": 1}, _ONE_RELEASES, is_complete=False
    ),
    "a reset and a late write": _joined({"resets": 1, "unanswered": 1}),
    "a drain and a kill": _joined({"drains": 1, "kills": 1}),
    "a host is forgotten and killed": _joined({"forgets": 1, "kills": 1}, is_complete=False),
    "units of a digest and a kill": Setup(((2,), (1,)), {"kills": 1}, _RACE, least=1, joined=_BOTH),
    "tokens and a late write": Setup(
        ((1, 1), (1, 1)),
        {"token_ends": 1, "unanswered": 1},
        Program(releasing=_BOTH, allowance=1),
        least=1,
        joined=_BOTH,
    ),
}
"""Explored by `make explore`, up to a number of steps."""

DEATHS: Mapping[str, tuple[str, str, int]] = {
    "no_fence": ("somebody else deletes while a host joins, and a write is late", "F2", 17),
    "generation_not_compared": ("etcd is put back and reset", "F5", 5),
    "session_goes_on": ("a write that is late or lost", "F2", 13),
    "no_witnesses": ("a kill", "F3", 5),
    "witness_holding_not_compared": ("a kill", "F3", 6),
    "witness_live_not_compared": ("a host stands still beyond its lease", "F3", 4),
    "drain_not_compared": ("a drain", "F3", 4),
    "settings_not_compared": ("a pause", "F6", 4),
    "use_not_compared": ("a use elsewhere", "F3", 4),
    "token_not_compared": ("tokens of two hosts", "F7", 6),
    "token_taken_twice": ("tokens of two hosts", "F7", 10),
    "rolled_back_not_compared": ("etcd is put back and not reset", "an older store", 12),
    "outdated_mark_is_fine": ("etcd is put back and not reset", "an older store", 10),
    "forgets_what_it_was_forgotten_with": (
        "a host is forgotten in part, and somebody else deletes",
        "F2",
        11,
    ),
    "no_e": ("a directory is copied", "F2", 12),
    "mark_for_each_session": ("a directory is put back from a backup", "F2", 14),
    "join_does_not_compare_mark": ("a directory is copied", "F2", 12),
    "releases_leave_no_mark": ("etcd is put back and not reset", "an older store", 5),
    "undone_releases_are_settled": ("etcd is put back and not reset", "an older store", 6),
    "any_mark_is_replaced": ("etcd is put back below a session that registers", "an older store", 9),
    "join_keeps_live": ("somebody else deletes", "F2", 6),
    "live_before_reconciling": ("somebody else deletes", "F2", 9),
    "former_goes_on": ("a record becomes unreadable", "F2", 14),
    "registers_before_the_record": ("somebody else deletes while a host joins", "record", 18),
    "releases_before_the_record": ("a write that is late or lost", "record", 10),
    "registers_what_is_doomed": ("a kill", "F2", 8),
    "counts_what_is_staged": ("a new host is killed as it pulls", "F2", 4),
    "each_is_not_the_last": ("units of a digest go one after another", "F2", 4),
}
"""Of each mutant, the scenario in which it breaks which promise, and after how many steps."""


def mutated(mutant: str) -> Setup:
    """Return the scenario in which a mutant breaks its promise."""
    name, promise, _ = DEATHS[mutant]
    setup = SMALL[name]
    return attrs.evolve(
        setup,
        program=setup.program._replace(mutants=frozenset((mutant,))),
        # Others are to be broken before that one is looked at.
        is_complete=promise == "record",
    )
