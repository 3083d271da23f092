"""What a host makes of what it read: whether it may join, which copies count, and whether one may go."""

from datetime import timedelta

import pytest

from hmret.fleet.reading import HolderRead, JoinStep, judge_join, judge_release
from hmret.fleet.stored_values import encode_use
from hmret.fleet.transactions import Session
from hmret.model.fleet import CopyFacts, CopyRules, FleetSettings, Paused, ReleaseOutcome
from hmret.model.records.fleet import MarkAge
from hmret.model.times import SECOND
from hmret.model.verdicts import Reason
from support.builders import START, START_NS, digest
from support.fleet_keys import ELSEWHERE, KEYS, ME, WrittenFleet

A, B = digest("a"), digest("b")
NOW = START_NS // SECOND
AGES = {"old": MarkAge.OUTDATED, "done": MarkAge.CURRENT, "newer": MarkAge.CURRENT}


def age_of(mark: str) -> MarkAge:
    return AGES.get(mark, MarkAge.UNKNOWN)


@pytest.mark.parametrize(
    ("session", "mark", "has_done_mark", "step"),
    [
        pytest.param(None, None, False, JoinStep.JOIN, id="a first join"),
        pytest.param(None, "done", True, JoinStep.JOIN, id="a restart"),
        pytest.param("done", "done", True, JoinStep.JOIN, id="a restart while the lease runs"),
        pytest.param("done", "newer", True, JoinStep.JOIN, id="killed while it registered"),
        pytest.param("other", "other", True, JoinStep.DUPLICATE, id="a copy of it runs"),
        pytest.param("other", "done", True, JoinStep.DUPLICATE, id="a copy of it has just begun"),
        pytest.param("other", None, False, JoinStep.DUPLICATE, id="a copy of it runs, and was forgotten"),
        pytest.param(None, "other", True, JoinStep.NEW_HOLDER, id="a copy of it ran"),
        pytest.param("done", "other", True, JoinStep.NEW_HOLDER, id="put back from a backup at once"),
        pytest.param(None, "other", False, JoinStep.NEW_HOLDER, id="its record was lost"),
        pytest.param(None, "old", True, JoinStep.ROLLED_BACK, id="the store was put back"),
        pytest.param("old", "old", True, JoinStep.ROLLED_BACK, id="the store was put back, lease and all"),
        pytest.param(None, None, True, JoinStep.REGISTER_ALL, id="forgotten"),
    ],
)
def test_whose_record_a_data_directory_has(
    session: str | None, mark: str | None, has_done_mark: bool, step: JoinStep
) -> None:
    found = HolderRead(session, 1, mark, 1, False, FleetSettings())
    assert judge_join(found, age_of=age_of, has_done_mark=has_done_mark) is step


# Facts.


@pytest.fixture
def fleet() -> WrittenFleet:
    return WrittenFleet()


@pytest.fixture
def session(fleet: WrittenFleet) -> Session:
    return fleet.begin()


def facts(fleet: WrittenFleet, session: Session) -> CopyFacts:
    read, copy = fleet.read(session, A)
    return copy.facts(read, ME)


def test_only_copies_on_other_live_hosts_that_are_not_drained_count(
    fleet: WrittenFleet, session: Session
) -> None:
    live, drained, dead = ELSEWHERE
    fleet.begin(live)
    fleet.begin(drained)
    fleet.drain(drained)
    fleet.hold(A, ME, live, drained, dead)
    fleet.hold(B, dead)
    assert facts(fleet, session) == CopyFacts(
        counted_elsewhere=1, holders=(live,), uncounted=(drained, dead), newest_registered=START
    )


def test_facts_have_the_last_use_and_the_newest_registration(fleet: WrittenFleet, session: Session) -> None:
    fleet.hold(A, ME)
    fleet.hold(A, ELSEWHERE[0], since=START + timedelta(hours=1))
    fleet.put(KEYS.used(A), encode_use(NOW - 60))
    found = facts(fleet, session)
    assert found.last_used == START - timedelta(minutes=1)
    assert found.newest_registered == START + timedelta(hours=1)


def test_a_digest_that_nobody_holds_is_known_to_be_held_by_nobody(
    fleet: WrittenFleet, session: Session
) -> None:
    assert facts(fleet, session) == CopyFacts(counted_elsewhere=0)


def test_values_that_cannot_be_read_are_not_known(fleet: WrittenFleet, session: Session) -> None:
    fleet.begin(ELSEWHERE[0])
    fleet.put(KEYS.holding(A, ELSEWHERE[0]), "not JSON")
    fleet.put(KEYS.used(A), "soon")
    assert facts(fleet, session) == CopyFacts(counted_elsewhere=1, holders=(ELSEWHERE[0],))


def test_everybody_names_the_same_witnesses_and_of_other_digests_others(
    fleet: WrittenFleet, session: Session
) -> None:
    hosts = [f"h{number}.{number:08x}" for number in range(10)]
    for host in hosts:
        fleet.begin(host)
    named = []
    for each in (A, B):
        fleet.hold(each, ME, *hosts)
        read, copy = fleet.read(session, each)
        named.append(copy.witnesses(read, ME))
        by_another = copy.witnesses(read, hosts[0])
        assert [host for host in by_another if host != ME] == [host for host in named[-1] if host != hosts[0]]
    assert named[0] != named[1]
    assert sorted(named[0]) == sorted(named[1]) == sorted(hosts)


def test_of_very_many_holders_the_first_are_read(fleet: WrittenFleet, session: Session) -> None:
    fleet.hold(A, *(f"h{number:03}.{number:08x}" for number in range(100)))
    _, copy = fleet.read(session, A)
    assert copy.has_more
    assert len(copy.holdings) == 64
    assert not copy.is_last("h000.00000000")


# Releases.


def judge(
    fleet: WrittenFleet, session: Session, rules: CopyRules, *, is_for_space: bool = False
) -> Reason | int:
    """Judge a release of A: why it is refused, or how many witnesses it has."""
    read, copy = fleet.read(session, A)
    judged = judge_release(copy, read, rules, ME, START, is_for_space=is_for_space)
    if isinstance(judged, ReleaseOutcome):
        assert judged.reason is not None
        return judged.reason
    return len(judged)


@pytest.mark.parametrize(
    ("min_copies", "fleet_min_copies", "elsewhere", "judged"),
    [
        (1, 1, 0, Reason.LAST_COPY),
        (1, 1, 1, 1),
        (2, 1, 1, Reason.LAST_COPY),
        (1, 2, 1, Reason.LAST_COPY),
        (1, 2, 3, 2),
        (0, 0, 0, 0),
    ],
)
def test_as_many_copies_stay_elsewhere_as_the_larger_setting_says(
    fleet: WrittenFleet,
    session: Session,
    min_copies: int,
    fleet_min_copies: int,
    elsewhere: int,
    judged: Reason | int,
) -> None:
    fleet.set_settings(FleetSettings(min_copies=fleet_min_copies))
    for other in ELSEWHERE[:elsewhere]:
        fleet.begin(other)
    fleet.hold(A, ME, *ELSEWHERE)
    assert judge(fleet, session, CopyRules(min_copies=min_copies, last_copies_for=None)) == judged


@pytest.mark.parametrize(
    ("hot_copies", "elsewhere", "used_ago", "judged"),
    [
        (2, 1, 10, Reason.USED_IN_FLEET),
        (2, 2, 10, 2),
        (2, 1, 61, 1),
        (None, 3, 10, Reason.USED_IN_FLEET),
        (None, 1, 61, 1),
        (2, 0, 10, Reason.LAST_COPY),
        (2, 1, -299, Reason.USED_IN_FLEET),
        (2, 1, -(10**8), Reason.USED_IN_FLEET),
    ],
)
def test_of_what_was_used_lately_more_copies_stay(
    fleet: WrittenFleet,
    session: Session,
    hot_copies: int | None,
    elsewhere: int,
    used_ago: int,
    judged: Reason | int,
) -> None:
    for other in ELSEWHERE[:elsewhere]:
        fleet.begin(other)
    fleet.hold(A, ME, *ELSEWHERE)
    fleet.put(KEYS.used(A), encode_use(NOW - used_ago))
    rules = CopyRules(hot_for=timedelta(minutes=1), hot_copies=hot_copies, last_copies_for=None)
    assert judge(fleet, session, rules) == judged


def test_a_last_copy_goes_once_nobody_used_it_for_so_long(fleet: WrittenFleet, session: Session) -> None:
    fleet.hold(A, ME, since=START - timedelta(days=9))
    assert judge(fleet, session, CopyRules(last_copies_for=timedelta(days=8))) == 0
    assert judge(fleet, session, CopyRules(last_copies_for=timedelta(days=10))) is Reason.LAST_COPY
    fleet.put(KEYS.used(A), encode_use(NOW - 86_400))
    assert judge(fleet, session, CopyRules(last_copies_for=timedelta(days=8))) is Reason.LAST_COPY


def test_what_the_disk_needs_goes_without_witnesses_only_where_that_is_set(
    fleet: WrittenFleet, session: Session
) -> None:
    fleet.hold(A, ME)
    yields = CopyRules(yields_to_pressure=True)
    assert judge(fleet, session, CopyRules(), is_for_space=True) is Reason.LAST_COPY
    assert judge(fleet, session, yields, is_for_space=True) == 0
    assert judge(fleet, session, yields) is Reason.LAST_COPY
    fleet.set_settings(FleetSettings(paused=Paused("operator", START, "wait")))
    assert judge(fleet, session, yields, is_for_space=True) is Reason.FLEET_PAUSED


def test_a_paused_fleet_releases_nothing(fleet: WrittenFleet, session: Session) -> None:
    fleet.begin(ELSEWHERE[0])
    fleet.hold(A, ME, ELSEWHERE[0])
    fleet.set_settings(FleetSettings(paused=Paused("operator", START, "wait")))
    assert judge(fleet, session, CopyRules()) is Reason.FLEET_PAUSED


@pytest.mark.parametrize("key", [KEYS.settings, KEYS.rolled_back])
def test_unreadable_settings_and_a_restore_release_nothing(
    fleet: WrittenFleet, session: Session, key: str
) -> None:
    fleet.begin(ELSEWHERE[0])
    fleet.hold(A, ME, ELSEWHERE[0])
    assert judge(fleet, session, CopyRules()) == 1
    fleet.put(key, "not JSON")
    assert judge(fleet, session, CopyRules()) is Reason.FLEET_UNREACHABLE


def test_a_reader_notices_that_its_session_is_over(fleet: WrittenFleet, session: Session) -> None:
    assert fleet.read(session, A)[0].is_in_session
    fleet.put(KEYS.session(ME), "another")
    assert not fleet.read(session, A)[0].is_in_session
