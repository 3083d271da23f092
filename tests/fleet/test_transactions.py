"""What a host's transactions change, and what each of their comparisons refuses."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from hmret.fleet.keys import generation_key
from hmret.fleet.reading import judge_release, parse_reading
from hmret.fleet.store import MOST_OPERATIONS, Compare, Txn, TxnResult
from hmret.fleet.stored_values import encode_use, read_holding
from hmret.fleet.transactions import (
    MOST_HOLDINGS,
    MOST_USES,
    NewMark,
    Session,
    check_registered,
    end_former_session,
    go_live,
    introduce_policy,
    is_dead,
    join,
    note_rolled_back,
    register,
    release,
    settle_releases,
    take_out,
    take_token,
    tell_summary,
    tell_uses,
)
from hmret.model.fleet import CopyRules, FleetSettings, Paused, ReleaseOutcome
from hmret.model.times import SECOND
from support.builders import START, START_NS, digest
from support.fleet_keys import ELSEWHERE, KEYS, ME, WrittenFleet

A, B = digest("a"), digest("b")
NOW = START_NS // SECOND
RULES = CopyRules(min_copies=1, last_copies_for=None)
POLICY = "00ff00ff00ff00ff"


@pytest.fixture
def fleet() -> WrittenFleet:
    return WrittenFleet()


@pytest.fixture
def session(fleet: WrittenFleet) -> Session:
    return fleet.begin()


def carry_out(fleet: WrittenFleet, txn: Txn) -> bool:
    return fleet.store.carry_out(txn).succeeded


# Every own write.


OWN_WRITES: dict[str, Callable[[Session], Txn]] = {
    "go live": lambda session: go_live(session, "{}"),
    "register": lambda session: register(session, {A: 1}, NewMark("a1", session.id), START_NS),
    "take out": lambda session: take_out(session, [A], NewMark("a1", session.id)),
    "settle releases": lambda session: settle_releases(session, [A], NewMark("a1", session.id)),
    "tell uses": lambda session: tell_uses(session, {A: NOW}, 60),
    "take a token": lambda session: take_token(session, 0, 0, POLICY),
    "introduce a policy": lambda session: introduce_policy(session, POLICY, 0),
    "tell a summary": lambda session: tell_summary(session, "{}"),
}


@pytest.mark.parametrize("write", OWN_WRITES.values(), ids=OWN_WRITES)
def test_an_own_write_is_carried_out_in_its_session(
    fleet: WrittenFleet, session: Session, write: Callable[[Session], Txn]
) -> None:
    assert carry_out(fleet, write(session))


@pytest.mark.parametrize("write", OWN_WRITES.values(), ids=OWN_WRITES)
def test_an_own_write_of_an_earlier_session_is_refused(
    fleet: WrittenFleet, session: Session, write: Callable[[Session], Txn]
) -> None:
    fleet.put(KEYS.session(ME), "another")
    assert not carry_out(fleet, write(session))


@pytest.mark.parametrize("write", OWN_WRITES.values(), ids=OWN_WRITES)
def test_an_own_write_of_an_earlier_generation_is_refused(
    fleet: WrittenFleet, session: Session, write: Callable[[Session], Txn]
) -> None:
    fleet.put(generation_key(KEYS.fleet), "g2")
    assert not carry_out(fleet, write(session))


# Joining.


def test_a_join_begins_a_session_and_ends_what_was_live(fleet: WrittenFleet, session: Session) -> None:
    lease = fleet.store.grant(60)
    assert carry_out(fleet, join(Session(KEYS, ME, "another", lease), fleet.found()))
    items = fleet.store.items()
    assert (items[KEYS.session(ME)], items[KEYS.mark(ME)]) == ("another", "another")
    assert not fleet.has(KEYS.live(ME))
    fleet.store.end_lease(lease)
    assert not fleet.has(KEYS.session(ME))
    assert fleet.has(KEYS.mark(ME))


@pytest.mark.parametrize("key", [KEYS.session(ME), KEYS.mark(ME), generation_key(KEYS.fleet)])
@pytest.mark.parametrize("was_there", [False, True])
def test_a_join_is_refused_if_what_it_was_judged_by_has_changed(
    fleet: WrittenFleet, key: str, was_there: bool
) -> None:
    if was_there:
        fleet.begin()
    found = fleet.found()
    fleet.put(key, "5e55104" if key != generation_key(KEYS.fleet) else "g2")
    assert not carry_out(fleet, join(Session(KEYS, ME, "another"), found))


def test_a_former_session_ends_with_all_that_counts(fleet: WrittenFleet, session: Session) -> None:
    assert carry_out(fleet, end_former_session(KEYS, ME, fleet.found()))
    assert not fleet.has(KEYS.session(ME))
    assert not fleet.has(KEYS.live(ME))


def test_a_former_session_that_began_again_does_not_end(fleet: WrittenFleet, session: Session) -> None:
    found = fleet.found()
    fleet.begin(session="another")
    assert not carry_out(fleet, end_former_session(KEYS, ME, found))
    assert fleet.has(KEYS.live(ME))


def test_what_is_live_goes_with_the_lease(fleet: WrittenFleet, session: Session) -> None:
    fleet.delete(KEYS.live(ME))
    assert carry_out(fleet, go_live(session, "{}"))
    assert fleet.has(KEYS.live(ME))
    fleet.store.end_lease(session.lease)
    assert not fleet.has(KEYS.live(ME))
    assert fleet.has(KEYS.summary(ME))


# Registering.


def test_copies_are_registered_with_their_bytes_and_the_mark(fleet: WrittenFleet, session: Session) -> None:
    assert carry_out(fleet, register(session, {A: 4096, B: 512}, NewMark("a1", session.id), START_NS + 5))
    items = fleet.store.items()
    assert read_holding(items[KEYS.holding(A, ME)]) == (4096, START)
    assert read_holding(items[KEYS.holding(B, ME)]) == (512, START)
    assert items[KEYS.mark(ME)] == "a1"


MARKED_CHANGES: dict[str, Callable[[Session, NewMark], Txn]] = {
    "register": lambda session, marks: register(session, {A: 1}, marks, START_NS),
    "take out": lambda session, marks: take_out(session, [A], marks),
    "settle releases": lambda session, marks: settle_releases(session, [A], marks),
}
"""What changes the copies that are registered, each with a mark."""


@pytest.mark.parametrize("change", MARKED_CHANGES.values(), ids=MARKED_CHANGES)
def test_a_change_leaves_its_mark_in_place_of_the_last_one_and_of_no_other(
    fleet: WrittenFleet, session: Session, change: Callable[[Session, NewMark], Txn]
) -> None:
    assert carry_out(fleet, change(session, NewMark("a1", session.id)))
    assert fleet.store.items()[KEYS.mark(ME)] == "a1"
    assert not carry_out(fleet, change(session, NewMark("a2", session.id)))
    fleet.delete(KEYS.mark(ME))
    assert not carry_out(fleet, change(session, NewMark("a2", "a1")))


def test_a_release_that_is_undone_is_not_settled(fleet: WrittenFleet, session: Session) -> None:
    fleet.hold(B, ME)
    assert not carry_out(fleet, settle_releases(session, [A, B], NewMark("a1", session.id)))
    assert carry_out(fleet, settle_releases(session, [A], NewMark("a1", session.id)))


def test_a_registered_copy_outlives_the_session(fleet: WrittenFleet, session: Session) -> None:
    carry_out(fleet, register(session, {A: 4096}, NewMark("a1", session.id), START_NS))
    fleet.store.end_lease(session.lease)
    assert fleet.holders(A) == {ME}


def test_copies_are_taken_out_of_the_count(fleet: WrittenFleet, session: Session) -> None:
    fleet.hold(A, ME, ELSEWHERE[0])
    assert carry_out(fleet, take_out(session, [A], NewMark("a1", session.id)))
    assert fleet.holders(A) == {ELSEWHERE[0]}


def test_the_largest_batches_fit_into_one_transaction(fleet: WrittenFleet, session: Session) -> None:
    digests = [digest(f"{number:04x}") for number in range(MOST_HOLDINGS)]
    assert carry_out(fleet, register(session, dict.fromkeys(digests, 1), NewMark("a1", session.id), START_NS))
    assert carry_out(fleet, take_out(session, digests, NewMark("a2", "a1")))
    assert carry_out(fleet, settle_releases(session, digests, NewMark("a3", "a2")))
    assert carry_out(fleet, check_registered(session, digests))
    assert carry_out(fleet, tell_uses(session, dict.fromkeys(digests[:MOST_USES], NOW), 60))


# Releasing.


def make_release(
    fleet: WrittenFleet, session: Session, rules: CopyRules = RULES, token: int = 0
) -> Txn | ReleaseOutcome:
    """Make the release of A as a session would now."""
    read, copy = fleet.read(session, A, token=token)
    witnesses = judge_release(copy, read, rules, session.holder, START)
    if isinstance(witnesses, ReleaseOutcome):
        return witnesses
    return release(session, copy, read, witnesses, token)


@pytest.fixture
def held(fleet: WrittenFleet, session: Session) -> Txn:
    """The release of A, which one other host holds, before anything has changed."""
    fleet.begin(ELSEWHERE[0])
    fleet.hold(A, ME, ELSEWHERE[0])
    fleet.take_token(session)
    fleet.put(KEYS.used(A), encode_use(NOW - 1000))
    txn = make_release(fleet, session)
    assert isinstance(txn, Txn)
    return txn


def test_a_release_takes_the_copy_out_of_the_count_and_nothing_else(
    fleet: WrittenFleet, session: Session, held: Txn
) -> None:
    before = fleet.store.items()
    assert carry_out(fleet, held)
    assert {*before.items()} - {*fleet.store.items().items()} == {
        (KEYS.holding(A, ME), before[KEYS.holding(A, ME)])
    }


CHANGES: dict[str, Callable[[WrittenFleet], None]] = {
    "another session of its own": lambda fleet: fleet.put(KEYS.session(ME), "another"),
    "another generation": lambda fleet: fleet.put(generation_key(KEYS.fleet), "g2"),
    "the witness released its copy": lambda fleet: fleet.delete(KEYS.holding(A, ELSEWHERE[0])),
    "the witness registered again": lambda fleet: fleet.hold(A, ELSEWHERE[0]),
    "the witness died": lambda fleet: fleet.delete(KEYS.live(ELSEWHERE[0])),
    "the witness is drained": lambda fleet: fleet.drain(ELSEWHERE[0]),
    "the fleet was paused": lambda fleet: fleet.set_settings(
        FleetSettings(paused=Paused("operator", START, "wait"))
    ),
    "a setting was written": lambda fleet: fleet.set_settings(FleetSettings()),
    "used anywhere": lambda fleet: fleet.put(KEYS.used(A), encode_use(NOW)),
    "its last use was forgotten": lambda fleet: fleet.delete(KEYS.used(A)),
    "revisions went back": lambda fleet: fleet.put(KEYS.rolled_back, "{}"),
    "the token is over": lambda fleet: fleet.delete(KEYS.token(0)),
    "the token is another's": lambda fleet: fleet.put(KEYS.token(0), f"{ELSEWHERE[0]} 5e55104"),
    "the token is of an earlier session": lambda fleet: fleet.put(KEYS.token(0), f"{ME} earlier"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_release_is_refused_if_anything_changed_since_it_was_judged(
    fleet: WrittenFleet, session: Session, held: Txn, change: Callable[[WrittenFleet], None]
) -> None:
    change(fleet)
    before = fleet.store.items()
    assert not carry_out(fleet, held)
    assert fleet.store.items() == before


def test_a_first_use_after_the_read_refuses_a_release(fleet: WrittenFleet, session: Session) -> None:
    fleet.begin(ELSEWHERE[0])
    fleet.hold(A, ME, ELSEWHERE[0])
    fleet.take_token(session)
    txn = make_release(fleet, session)
    assert isinstance(txn, Txn)
    fleet.put(KEYS.used(A), encode_use(NOW))
    assert not carry_out(fleet, txn)


def test_a_refused_release_answers_with_what_is_so_now(
    fleet: WrittenFleet, session: Session, held: Txn
) -> None:
    fleet.begin(ELSEWHERE[1])
    fleet.hold(A, ELSEWHERE[1])
    fleet.delete(KEYS.live(ELSEWHERE[0]))
    refused = fleet.store.carry_out(held)
    read, copies = parse_reading(KEYS, session.id, [A], refused.results, holder=ME)
    again = judge_release(copies[A], read, RULES, ME, START)
    assert again == (ELSEWHERE[1],)
    assert read.token == session.token_value
    assert carry_out(fleet, release(session, copies[A], read, again, 0))


def test_of_two_hosts_that_release_at_the_same_time_one_succeeds(fleet: WrittenFleet) -> None:
    sessions = [fleet.begin(ME), fleet.begin(ELSEWHERE[0])]
    fleet.hold(A, ME, ELSEWHERE[0])
    for number, session in enumerate(sessions):
        fleet.take_token(session, number)
    txns = [make_release(fleet, session, token=number) for number, session in enumerate(sessions)]
    results: list[TxnResult] = [fleet.store.carry_out(txn) for txn in txns if isinstance(txn, Txn)]
    assert [result.succeeded for result in results] == [True, False]
    assert fleet.holders(A) == {ELSEWHERE[0]}


def test_a_release_compares_three_things_of_each_witness(fleet: WrittenFleet, session: Session) -> None:
    hosts = [f"h{number}.{number:08x}" for number in range(40)]
    for host in hosts:
        fleet.begin(host)
    fleet.hold(A, ME, *hosts)
    fleet.take_token(session)
    txn = make_release(fleet, session, CopyRules(min_copies=3, last_copies_for=None))
    assert isinstance(txn, Txn)
    assert len(txn.compares) == 15
    txn = make_release(fleet, session, CopyRules(min_copies=40, last_copies_for=None))
    assert isinstance(txn, Txn)
    assert len(txn.compares) == 126 <= MOST_OPERATIONS
    assert carry_out(fleet, txn)


def test_the_last_copy_anywhere_takes_its_last_use_along(fleet: WrittenFleet, session: Session) -> None:
    fleet.hold(A, ME)
    fleet.put(KEYS.used(A), encode_use(NOW - 10**6))
    fleet.take_token(session)
    txn = make_release(fleet, session, CopyRules(last_copies_for=timedelta(days=1)))
    assert isinstance(txn, Txn)
    assert carry_out(fleet, txn)
    assert fleet.store.items(KEYS.copies(A)) == {}


def test_a_dead_hosts_copy_keeps_the_last_use(fleet: WrittenFleet, session: Session) -> None:
    fleet.hold(A, ME, ELSEWHERE[0])
    fleet.put(KEYS.used(A), encode_use(NOW - 10**6))
    fleet.take_token(session)
    txn = make_release(fleet, session, CopyRules(last_copies_for=timedelta(days=1)))
    assert isinstance(txn, Txn)
    assert carry_out(fleet, txn)
    assert fleet.has(KEYS.used(A))


# Uses.


def test_a_use_is_noted_where_none_was(fleet: WrittenFleet, session: Session) -> None:
    carry_out(fleet, tell_uses(session, {A: NOW}, 60))
    assert fleet.store.items()[KEYS.used(A)] == f"{NOW:010}"


@pytest.mark.parametrize(
    ("told", "noted"),
    [(NOW + 61, NOW + 61), (NOW + 60, NOW), (NOW + 1, NOW), (NOW, NOW), (NOW - 1000, NOW)],
    ids=["much later", "at the resolution", "a little later", "the same", "earlier"],
)
def test_a_use_is_noted_only_where_it_is_later_by_the_resolution(
    fleet: WrittenFleet, session: Session, told: int, noted: int
) -> None:
    fleet.put(KEYS.used(A), encode_use(NOW))
    carry_out(fleet, tell_uses(session, {A: told}, 60))
    assert fleet.store.items()[KEYS.used(A)] == encode_use(noted)


def test_uses_in_one_transaction_are_judged_each_for_itself(fleet: WrittenFleet, session: Session) -> None:
    fleet.put(KEYS.used(A), encode_use(NOW))
    carry_out(fleet, tell_uses(session, {A: NOW, B: NOW}, 60))
    assert fleet.has(KEYS.used(B))


# Tokens and policies.


def test_a_token_that_is_taken_is_not_taken_again(fleet: WrittenFleet, session: Session) -> None:
    other = fleet.begin(ELSEWHERE[0])
    assert carry_out(fleet, take_token(session, 0, 0, POLICY))
    assert not carry_out(fleet, take_token(other, 0, 0, POLICY))
    assert fleet.store.items()[KEYS.token(0)] == f"{ME} 5e55104"


def test_a_token_goes_with_its_own_lease(fleet: WrittenFleet, session: Session) -> None:
    lease = fleet.store.grant(3600)
    carry_out(fleet, take_token(session, 0, lease, POLICY))
    fleet.store.end_lease(session.lease)
    assert fleet.has(KEYS.token(0))
    fleet.store.end_lease(lease)
    assert not fleet.has(KEYS.token(0))


def test_a_policy_that_is_young_takes_token_zero_only(fleet: WrittenFleet, session: Session) -> None:
    lease = fleet.store.grant(3600)
    assert carry_out(fleet, introduce_policy(session, POLICY, lease))
    assert not carry_out(fleet, take_token(session, 1, 0, POLICY))
    assert carry_out(fleet, take_token(session, 0, 0, POLICY))
    fleet.store.end_lease(lease)
    assert carry_out(fleet, take_token(session, 1, 0, POLICY))


def test_a_policy_that_nobody_has_told_of_takes_token_zero_only(
    fleet: WrittenFleet, session: Session
) -> None:
    assert not carry_out(fleet, take_token(session, 1, 0, POLICY))
    assert carry_out(fleet, take_token(session, 0, 0, POLICY))


def test_a_policy_is_new_once(fleet: WrittenFleet, session: Session) -> None:
    lease = fleet.store.grant(3600)
    assert carry_out(fleet, introduce_policy(session, POLICY, lease))
    fleet.store.end_lease(lease)
    assert not carry_out(fleet, introduce_policy(session, POLICY, 0))
    assert not fleet.has(KEYS.young(POLICY))
    assert fleet.store.items()[KEYS.policy(POLICY)] == ME


def test_without_a_canary_no_policy_is_young(fleet: WrittenFleet, session: Session) -> None:
    assert carry_out(fleet, introduce_policy(session, POLICY, 0))
    assert not fleet.has(KEYS.young(POLICY))
    assert carry_out(fleet, take_token(session, 1, 0, POLICY))


# Others.


def test_that_revisions_went_back_is_noted_once(fleet: WrittenFleet) -> None:
    assert carry_out(fleet, note_rolled_back(KEYS, "a", START_NS))
    assert not carry_out(fleet, note_rolled_back(KEYS, "b", START_NS))
    assert '"by":"a"' in fleet.store.items()[KEYS.rolled_back]


def test_that_revisions_went_back_is_not_noted_in_a_new_generation(fleet: WrittenFleet) -> None:
    fleet.put(generation_key(KEYS.fleet), "g2")
    assert not carry_out(fleet, note_rolled_back(KEYS, "a", START_NS))


def holds(fleet: WrittenFleet, conditions: tuple[Compare, ...]) -> bool:
    return carry_out(fleet, Txn(conditions))


def test_a_host_is_dead_while_it_neither_comes_back_nor_tells_anything(
    fleet: WrittenFleet, session: Session
) -> None:
    dead = ELSEWHERE[0]
    fleet.put(KEYS.summary(dead), "{}")
    conditions = is_dead(session, dead, fleet.store.revision)
    assert holds(fleet, conditions)
    fleet.put(KEYS.session(dead), "another")
    assert not holds(fleet, conditions)
    fleet.delete(KEYS.session(dead))
    fleet.put(KEYS.live(dead), "1")
    assert not holds(fleet, conditions)
    fleet.delete(KEYS.live(dead))
    assert holds(fleet, conditions)
    fleet.put(KEYS.summary(dead), "{}")
    assert not holds(fleet, conditions)
