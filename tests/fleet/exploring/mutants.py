"""The program of the hosts, as it is and with something wrong in it: each mutant has to break a promise."""

from functools import cache
from typing import NamedTuple

from fleet.exploring.shipped import GENERATION, Terms
from fleet.exploring.worlds import Compare, Operation, Sent

__all__ = ["MUTANTS", "Program"]

MUTANTS = {
    "no_fence": "own writes compare neither the generation nor the session",
    "generation_not_compared": "own writes do not compare the generation",
    "session_goes_on": "a session goes on after a write whose outcome is not known",
    "no_witnesses": "a release compares no witness",
    "witness_holding_not_compared": "a release does not compare the copies of its witnesses",
    "witness_live_not_compared": "a release does not compare whether its witnesses are live",
    "drain_not_compared": "a release does not compare whether its witnesses are drained",
    "settings_not_compared": "a release does not compare the settings",
    "use_not_compared": "a release does not compare the last use",
    "token_not_compared": "a release does not compare its token",
    "token_taken_twice": "the taking of a token does not compare whether it is free",
    "rolled_back_not_compared": "a release does not compare whether the store was put back",
    "no_e": "nothing is put into `e/`, and nothing is judged by it",
    "mark_for_each_session": "registrations put no mark into `e/`",
    "join_does_not_compare_mark": "a join does not compare the mark that it has read",
    "any_mark_is_replaced": "what changes the copies does not compare the mark that it replaces",
    "releases_leave_no_mark": "releases put no mark into `e/`",
    "undone_releases_are_settled": "the mark of releases does not compare that none is undone",
    "join_keeps_live": "a join leaves what an earlier session has put into `l/`",
    "live_before_reconciling": "copies count before those that are gone were taken out",
    "former_goes_on": "a new cache id is taken before the session of the former holder has ended",
    "registers_before_the_record": "a copy is registered before it is on record",
    "releases_before_the_record": "a copy is released before that is on record",
    "registers_what_is_doomed": "a copy that was released is registered again while its deletion is under way",
    "counts_what_is_staged": "an image is registered before it is whole",
    "each_is_not_the_last": "of several units of a digest that go, none is taken for the last",
    "forgets_what_it_was_forgotten_with": "a host that was forgotten believes that nothing of it is registered",
    "outdated_mark_is_fine": "a mark older than the last one that is done is taken for a current one",
}
"""What is wrong, by name."""

_FENCED = frozenset(("live", "register", "out", "release", "settle", "token"))
_MARKED = frozenset(("register", "out", "settle"))
_LOST: dict[str, tuple[frozenset[str], frozenset[str], frozenset[str]]] = {
    # Kinds of transactions, relations, and kinds of keys.
    "no_fence": (_FENCED, frozenset(("VALUE",)), frozenset((GENERATION, "s"))),
    "generation_not_compared": (_FENCED | {"join"}, frozenset(("VALUE",)), frozenset((GENERATION,))),
    "no_witnesses": (
        frozenset(("release",)),
        frozenset(("FRESH", "EXISTS", "ABSENT")),
        frozenset(("d", "l", "drain")),
    ),
    "witness_holding_not_compared": (frozenset(("release",)), frozenset(("FRESH",)), frozenset("d")),
    "witness_live_not_compared": (frozenset(("release",)), frozenset(("EXISTS",)), frozenset("l")),
    "drain_not_compared": (frozenset(("release",)), frozenset(("ABSENT",)), frozenset(("drain",))),
    "settings_not_compared": (frozenset(("release",)), frozenset(("FRESH",)), frozenset(("settings",))),
    "use_not_compared": (frozenset(("release",)), frozenset(("ABSENT", "FRESH")), frozenset(("used",))),
    "token_not_compared": (frozenset(("release",)), frozenset(("VALUE",)), frozenset("t")),
    "token_taken_twice": (frozenset(("token",)), frozenset(("ABSENT",)), frozenset("t")),
    "rolled_back_not_compared": (
        frozenset(("release",)),
        frozenset(("ABSENT",)),
        frozenset(("rolled_back",)),
    ),
    **dict.fromkeys(
        ("no_e", "mark_for_each_session", "any_mark_is_replaced"),
        (_MARKED, frozenset(("VALUE",)), frozenset("e")),
    ),
    "undone_releases_are_settled": (frozenset(("settle",)), frozenset(("ABSENT",)), frozenset("d")),
    "join_does_not_compare_mark": (frozenset(("join",)), frozenset(("FRESH", "ABSENT")), frozenset("e")),
}
_NOT_DONE: dict[str, tuple[frozenset[str], str, str]] = {
    "no_e": (_MARKED | {"join"}, "PUT", "e"),
    "mark_for_each_session": (_MARKED, "PUT", "e"),
    "join_keeps_live": (frozenset(("join",)), "DELETE", "l"),
}


class Program(NamedTuple):
    """What all hosts do, and how."""

    terms: Terms = Terms()
    releasing: frozenset[int] = frozenset()
    """The places that release whatever they can."""
    allowance: int = 0
    """Releases that a token is good for; 0: each session has a token that is good for ever."""
    mutants: frozenset[str] = frozenset()
    """What is wrong."""

    def adapt(self, sent: Sent) -> Sent:
        """Take out of a transaction what the mutants leave out."""
        return _adapted(sent, self.mutants) if self.mutants else sent


@cache
def _adapted(sent: Sent, mutants: frozenset[str]) -> Sent:
    compares = [each for each in sent.compares if not any(_is_lost(sent, each, name) for name in mutants)]
    done = [each for each in sent.operations if not any(_is_not_done(sent, each, name) for name in mutants)]
    return sent._replace(compares=tuple(compares), operations=tuple(done))


def _is_lost(sent: Sent, compare: Compare, mutant: str) -> bool:
    kinds, relations, keys = _LOST.get(mutant, (frozenset(), frozenset(), frozenset()))
    return sent.kind in kinds and compare[0] in relations and _kind_of(compare[1]) in keys


def _is_not_done(sent: Sent, operation: Operation, mutant: str) -> bool:
    kinds, what, key = _NOT_DONE.get(mutant, (frozenset(), "", ""))
    return sent.kind in kinds and operation[0] == what and _kind_of(operation[1]) == key


def _kind_of(key: str) -> str:
    if "/" not in key:
        return key
    return "used" if key.endswith("/!used") else key.split("/")[1]
