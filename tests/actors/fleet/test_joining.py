"""A host joins its fleet: whose record it has, what it registers first, and what becomes of its session."""

import errno
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest

from hmret.fleet.keys import FleetKeys, generation_key, make_holder
from hmret.fleet.settings import encode_settings
from hmret.fleet.store import Delete, Put, Txn
from hmret.fleet.stored_values import read_holding
from hmret.model.fleet import FleetSettings, FleetState
from hmret.model.records.fleet import Standing
from support.builders import DATA, START, digest
from support.fleet_hosts import TTL, Fleet, Host, until
from support.fleet_keys import KEYS
from support.memory_client import Fate, Request
from support.memory_filesystem import Call

A, B, C = digest("a"), digest("b"), digest("c")


def registers(request: Request) -> bool:
    """Tell whether a request registers a copy."""
    return isinstance(request, Txn) and any(
        isinstance(each, Put) and KEYS.holding_of(each.key) for each in request.success
    )


def once(matches: Callable[[Request], bool], fate: Fate) -> Callable[[Request], Awaitable[Fate]]:
    """Have the first request of a kind meet a fate."""
    left = [fate]

    async def decide(request: Request) -> Fate:
        return left.pop() if left and matches(request) else Fate.DONE

    return decide


def ever_counted_without_being_there(fleet: Fleet, holder: str, *gone: str) -> bool:
    """Tell whether a copy ever counted since the holder was live for the last time, though it was gone."""
    revisions = sorted({change.revision for change in fleet.store.history})
    lives = [
        revision
        for revision in revisions
        if KEYS.live(holder) in (keys := fleet.store.keys_at(revision))
        and any(KEYS.holding(digest, holder) in keys for digest in gone)
    ]
    return bool(lives)


# A first join.


async def test_a_host_joins_and_what_is_here_counts(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A, B)
        assert fleet.counted(A) == fleet.counted(B) == {host.holder}
        assert read_holding(fleet.value(KEYS.holding(A, host.holder))) == (4096, START)
        assert host.states == [(FleetState.JOINED, None)]
        assert host.keeper.view().settings == FleetSettings(canary=timedelta(0), budget="2000")
    assert host.failures == []


async def test_a_holder_is_the_host_with_the_cache_id_of_its_data_directory(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join()
        with host.record() as record:
            assert host.holder == make_holder("a", record.cache_id)
            assert record.generation == KEYS.generation


async def test_nothing_counts_before_a_survey_has_said_what_is_here(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await until(lambda: host.keeper.holder is not None)
        await anyio.sleep(10 * TTL)
        assert host.keeper.state is FleetState.JOINING
        assert host.keeper.detail == "waits for a sweep, which says what is here"
        assert fleet.has(KEYS.session(host.holder))
        assert not fleet.has(KEYS.live(host.holder))
        await host.join(A)
        assert fleet.counted(A) == {host.holder}


async def test_a_host_waits_for_a_fleet_that_is_not_there(fleet: Fleet) -> None:
    fleet.delete(generation_key(KEYS.fleet))
    async with fleet.host("a").running() as host:
        await host.see()
        await host.until(FleetState.NOT_INITIALISED)
        assert "hmret fleet init" in (host.keeper.detail or "")
        fleet.put(generation_key(KEYS.fleet), KEYS.generation)
        await host.until(FleetState.JOINED)


async def test_many_copies_are_registered_in_a_few_transactions_each_with_a_mark(fleet: Fleet) -> None:
    images = [digest(f"{number:04x}") for number in range(250)]
    async with fleet.host("a").running() as host:
        await host.join(*images)
        sent = [request for request in host.client.requests if registers(request)]
        marks = [
            each.value
            for request in sent
            if isinstance(request, Txn)
            for each in request.success
            if isinstance(each, Put) and each.key == KEYS.mark(host.holder)
        ]
        assert len(sent) == len(set(marks)) == 3
        assert fleet.value(KEYS.mark(host.holder)) == marks[-1]
        assert all(fleet.counted(image) for image in images)
        with host.record() as record:
            assert record.digests == dict.fromkeys(images, Standing.REGISTERED)


async def test_a_copy_that_somebody_deleted_counts_until_the_next_survey(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A, B)
        del host.images[A]
        await anyio.sleep(10 * TTL)
        assert fleet.counted(A) == {host.holder}
        await host.sweep()
        assert fleet.holders(A) == set()
        assert fleet.counted(B) == {host.holder}
        with host.record() as record:
            assert record.digests == {B: Standing.REGISTERED}


async def test_what_is_surely_not_registered_is_registered_later_in_the_same_session(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        session = fleet.value(KEYS.session(host.holder))
        host.client.fate = once(registers, Fate.UNREACHABLE)
        host.images[B] = 4096
        await host.see()
        await until(lambda: bool(fleet.counted(B)))
        assert fleet.value(KEYS.session(host.holder)) == session
        assert host.states == [(FleetState.JOINED, None)]


# The end of a session.


async def test_a_host_that_stops_counts_no_longer_at_once(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
    holder = host.holder
    assert not fleet.has(KEYS.session(holder))
    assert fleet.counted(A) == set()
    assert fleet.holders(A) == {holder}
    assert fleet.has(KEYS.mark(holder))
    assert host.keeper.state is FleetState.STOPPED
    assert host.client.is_closed


async def test_a_host_that_is_killed_counts_until_its_lease_is_over(fleet: Fleet) -> None:
    async with fleet.host("a").running(stops=False) as host:
        await host.join(A)
    assert fleet.counted(A) == {host.holder}
    await anyio.sleep(TTL + 1)
    assert fleet.counted(A) == set()


async def test_a_host_whose_lease_is_over_joins_again_by_itself(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        (lease,) = fleet.store.leases()
        session = fleet.value(KEYS.session(host.holder))
        fleet.store.end_lease(lease)
        assert fleet.counted(A) == set()
        await anyio.sleep(TTL / 3 + 3)
        assert fleet.counted(A) == {host.holder}
        assert fleet.value(KEYS.session(host.holder)) != session
        assert host.keeper.state is FleetState.JOINED


async def test_a_session_lasts_as_long_as_it_is_kept_alive(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        session = fleet.value(KEYS.session(host.holder))
        await anyio.sleep(100 * TTL)
        assert fleet.value(KEYS.session(host.holder)) == session
        assert fleet.counted(A) == {host.holder}


async def test_a_store_that_is_away_for_less_than_the_lease_ends_no_session(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        session = fleet.value(KEYS.session(host.holder))
        host.client.is_cut_off = True
        await anyio.sleep(TTL * 0.6)
        assert host.keeper.state is FleetState.JOINED
        host.client.is_cut_off = False
        await anyio.sleep(TTL)
        assert fleet.value(KEYS.session(host.holder)) == session
        assert host.states == [(FleetState.JOINED, None)]


async def test_a_store_that_is_away_for_longer_is_told_and_the_host_comes_back_by_itself(
    fleet: Fleet,
) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        host.client.is_cut_off = True
        await anyio.sleep(TTL + TTL / 3 + 3)
        assert host.keeper.state is FleetState.UNREACHABLE
        assert host.keeper.detail == "memory: cannot be reached"
        await anyio.sleep(10 * TTL)
        assert [state for state, _ in host.states] == [FleetState.JOINED, FleetState.UNREACHABLE]
        host.client.is_cut_off = False
        came_back = anyio.current_time()
        await host.until(FleetState.JOINED)
        assert anyio.current_time() - came_back <= 31
        assert fleet.counted(A) == {host.holder}


async def test_a_host_without_a_store_asks_less_and_less_often(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        host.client.is_cut_off = True
        await anyio.sleep(3600)
        asked = len(host.client.requests)
        assert 100 <= asked <= 400, "once in 15 s on the average, after the first minute"


async def test_wrong_credentials_are_told(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:

        async def refuse(request: Request) -> Fate:
            return Fate.REFUSED

        host.client.fate = refuse
        await host.until(FleetState.UNREACHABLE)
        assert host.keeper.detail == "memory: refused"


# Restarts.


async def test_a_host_that_comes_back_sets_right_what_counts_before_it_counts(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running():
        await host.join(A, B)
    fleet.store.history.clear()
    del host.images[A]
    async with host.running():
        await host.join(C)
        assert (fleet.counted(A), fleet.counted(B), fleet.counted(C)) == (set(), {host.holder}, {host.holder})
        assert not ever_counted_without_being_there(fleet, host.holder, A)
        with host.record() as record:
            assert record.digests == dict.fromkeys([B, C], Standing.REGISTERED)


async def test_a_host_that_comes_back_before_its_lease_is_over_counts_nothing_that_is_gone(
    fleet: Fleet,
) -> None:
    host = fleet.host("a")
    async with host.running(stops=False):
        await host.join(A, B)
    assert fleet.counted(A)
    begin = fleet.store.revision
    del host.images[A]
    async with host.running():
        await host.join()
        joined = next(
            change.revision
            for change in fleet.store.history
            if change.revision > begin and change.key == KEYS.session(host.holder)
        )
        fleet.store.history = [change for change in fleet.store.history if change.revision >= joined]
        assert not ever_counted_without_being_there(fleet, host.holder, A)


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED, Fate.LATE])
async def test_a_registration_of_which_nothing_is_known_ends_the_session(fleet: Fleet, fate: Fate) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        session = fleet.value(KEYS.session(host.holder))
        host.client.fate = once(registers, fate)
        host.images[B] = 4096
        await host.sweep()
        await until(lambda: bool(fleet.counted(B)))
        assert fleet.value(KEYS.session(host.holder)) != session
        with host.record() as record:
            assert record.digests == dict.fromkeys([A, B], Standing.REGISTERED)


async def test_a_registration_that_arrives_in_a_later_session_is_refused(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        host.client.fate = once(registers, Fate.LATE)
        host.images[B] = 4096
        await host.see()
        await host.until(FleetState.UNREACHABLE)
        del host.images[B]
        await host.see()
        await host.until(FleetState.JOINED)
        (outcome,) = fleet.store.deliver_late()
        assert not getattr(outcome, "succeeded", True)
        assert fleet.holders(B) == set()


async def test_a_host_that_was_killed_while_it_registered_sets_it_right(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running(stops=False):
        await host.join(A)
        host.client.fate = once(registers, Fate.UNANSWERED)
        host.images[B] = 4096
        await host.see()
        await host.until(FleetState.UNREACHABLE)
        host.client.is_cut_off = True
    with host.record() as record:
        assert record.digests == {A: Standing.REGISTERED, B: Standing.ASKED}
    del host.images[B]
    async with host.running():
        await host.join()
        assert fleet.holders(B) == set()
        with host.record() as record:
            assert record.digests == {A: Standing.REGISTERED}


async def test_what_is_registered_is_on_record_before_it_is_sent(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        seen: list[Standing | None] = []

        async def look(request: Request) -> Fate:
            if registers(request):
                with host.record() as record:
                    seen.append(record.standing(A))
                    assert isinstance(request, Txn)
                    assert isinstance(request.success[-1], Put)
                    assert record.age_of(request.success[-1].value).value == "current"
            return Fate.DONE

        host.client.fate = look
        await host.join(A)
        assert seen == [Standing.ASKED]


# Copied data directories, and records that were put back.


async def test_of_a_data_directory_and_its_running_copy_one_has_the_session(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        copy = host.copied()
        async with copy.running():
            await copy.see()
            await until(lambda: copy.keeper.state is not FleetState.JOINING)
            await until(lambda: FleetState.DUPLICATE_HOST in {host.keeper.state, copy.keeper.state})
            await anyio.sleep(10 * TTL)
            states = {each.keeper.state: each for each in (host, copy)}
            assert states.keys() == {FleetState.JOINED, FleetState.DUPLICATE_HOST}
            joined, duplicate = states[FleetState.JOINED], states[FleetState.DUPLICATE_HOST]
            assert fleet.counted(A) == {joined.holder}
            assert joined.holder in (duplicate.keeper.detail or "")


async def test_a_duplicate_becomes_another_holder_once_the_other_is_gone(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        former = host.holder
        copy = host.copied()
        async with copy.running():
            await copy.join()
            await host.until(FleetState.DUPLICATE_HOST)
            assert fleet.counted(A) == {former}
        await host.until(FleetState.JOINED)
        assert host.holder != former
        assert fleet.counted(A) == {host.holder}


async def test_a_copy_is_not_counted_with_what_the_first_has_registered_since(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running():
        await host.join(A)
        copy = host.copied()
        host.images[B] = 4096
        await host.sweep()
    async with copy.running():
        await copy.join()
        assert copy.holder != host.holder
        assert (fleet.counted(A), fleet.counted(B)) == ({copy.holder}, set())


async def test_a_data_directory_that_was_put_back_becomes_another_holder(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running(stops=False):
        await host.join(A)
        saved = host.saved()
        host.images[B] = 4096
        await host.sweep()
    former = host.holder
    host.put_back(saved)
    host.images = {A: 4096}
    begin = fleet.store.revision
    async with host.running():
        await host.join()
        assert host.holder != former
        assert (fleet.counted(A), fleet.counted(B)) == ({host.holder}, set())
        both = [
            revision
            for revision in range(begin, fleet.store.revision + 1)
            if {KEYS.live(former), KEYS.live(host.holder)} <= fleet.store.keys_at(revision).keys()
        ]
        assert both == [], "one data directory never counts twice"


async def test_a_record_that_cannot_be_read_makes_another_holder(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running(stops=False):
        await host.join(A)
    former = host.holder
    host.filesystem.write_file(f"{DATA}/system/hmret/fleet", b"what is this\n")
    async with host.running():
        await host.join()
        assert host.holder != former
        assert fleet.counted(A) == {host.holder}
        assert not fleet.has(KEYS.session(former))


async def test_two_hosts_of_one_name_are_two_holders(fleet: Fleet) -> None:
    async with fleet.host("a").running() as one, fleet.host("a").running() as other:
        await one.join(A)
        await other.join(A)
        assert fleet.counted(A) == {one.holder, other.holder}
        assert len(fleet.counted(A)) == 2


async def test_a_host_that_was_forgotten_registers_everything_again(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running():
        await host.join(A, B)
    holder = host.holder
    for key in fleet.store.items():
        if holder in key:
            fleet.delete(key)
    async with host.running():
        await host.join()
        assert host.holder == holder
        assert fleet.counted(A) == fleet.counted(B) == {holder}


async def test_what_is_gone_is_taken_out_though_the_host_was_forgotten_in_part(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running():
        await host.join(A, B)
    holder = host.holder
    for key in (KEYS.mark(holder), KEYS.holding(A, holder)):
        fleet.delete(key)
    del host.images[B]
    async with host.running():
        await host.join()
        assert fleet.counted(A) == {holder}
        assert fleet.holders(B) == set()


async def test_a_host_that_is_forgotten_while_it_runs_joins_again(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        for key in fleet.store.items():
            if host.holder in key:
                fleet.delete(key)
        await until(lambda: fleet.counted(A) == {host.holder})


async def test_a_new_generation_is_joined_with_an_empty_record(fleet: Fleet) -> None:
    new = FleetKeys(KEYS.fleet, "g2")
    async with fleet.host("a").running() as host:
        await host.join(A)
        fleet.put(new.settings, encode_settings(FleetSettings(min_copies=2)))
        fleet.put(generation_key(KEYS.fleet), "g2")
        await until(lambda: fleet.has(new.live(host.holder)))
        assert fleet.has(new.holding(A, host.holder))
        view = host.keeper.view()
        assert view.settings == FleetSettings(min_copies=2)
        with host.record() as record:
            assert record.generation == "g2"


# A store that was restored from a backup.


async def restored(fleet: Fleet, host: Host, cluster_id: str | None = None) -> None:
    """Put the store back to before the host registered B."""
    await host.join(A)
    snapshot = fleet.store.snapshot()
    host.images[B] = 4096
    await host.sweep()
    fleet.store.restore(snapshot, cluster_id=cluster_id)


@pytest.mark.parametrize("cluster_id", [None, "c2"], ids=["same cluster id", "another cluster id"])
async def test_a_restore_is_noticed_told_to_all_and_held_until_a_reset(
    fleet: Fleet, cluster_id: str | None
) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await other.join(A)
        await restored(fleet, host, cluster_id)
        await host.until(FleetState.ROLLED_BACK)
        await other.until(FleetState.ROLLED_BACK)
        assert fleet.has(KEYS.rolled_back)
        assert "hmret fleet reset" in (host.keeper.detail or "")
        await anyio.sleep(10 * TTL)
        assert host.keeper.state is other.keeper.state is FleetState.ROLLED_BACK
        fleet.put(generation_key(KEYS.fleet), "g2")
        await host.until(FleetState.JOINED)
        await other.until(FleetState.JOINED)


async def test_a_restore_is_noticed_over_a_restart(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running():
        await restored(fleet, host)
        host.client.is_cut_off = True
    async with host.running():
        await host.see()
        await host.until(FleetState.ROLLED_BACK)
        assert fleet.has(KEYS.rolled_back)


async def test_a_restore_is_noticed_by_revisions_alone(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        snapshot = fleet.store.snapshot()
        for number in range(100):
            fleet.put("/other", str(number))
        await anyio.sleep(TTL + 1)
        fleet.store.restore(snapshot)
        await host.until(FleetState.ROLLED_BACK)


async def test_a_restore_is_noticed_over_a_restart_by_revisions_alone(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running():
        await host.join(A)
        snapshot = fleet.store.snapshot()
        for number in range(100):
            fleet.put("/other", str(number))
        await anyio.sleep(TTL + 1)
    fleet.store.restore(snapshot)
    async with host.running():
        await host.see()
        await host.until(FleetState.ROLLED_BACK)
        assert fleet.has(KEYS.rolled_back)


async def test_a_restore_is_noticed_by_an_old_mark_where_revisions_have_gone_on(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with host.running():
        await restored(fleet, host)
        host.client.is_cut_off = True
    for number in range(100):
        fleet.put("/other", str(number))
    async with host.running():
        await host.see()
        await host.until(FleetState.ROLLED_BACK)
        assert fleet.has(KEYS.rolled_back)


@pytest.mark.parametrize("others", [0, 100], ids=["at once", "after others have written"])
async def test_a_restore_that_an_answer_has_shown_is_told_whatever_came_after_it(
    fleet: Fleet, others: int
) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        snapshot = fleet.store.snapshot()
        for number in range(50):
            fleet.put("/other", str(number))
        # An answer whose revision is on no record.
        await host.client.range("/other")
        fleet.store.restore(snapshot)

        async def push_on(request: Request) -> None:
            if isinstance(request, Txn):
                for number in range(others):
                    fleet.put("/other", str(number))

        # This host's own write puts a new mark in place of the one that would have shown the restore.
        host.client.on_answer = push_on
        host.images[B] = 4096
        await host.sweep()
        await host.until(FleetState.ROLLED_BACK)
        assert fleet.has(KEYS.rolled_back)
        fleet.put(generation_key(KEYS.fleet), "g2")
        await host.until(FleetState.JOINED)


async def test_a_restore_below_a_session_is_not_hidden_by_what_that_registers(fleet: Fleet) -> None:
    """The backup has the session, whose lease goes on, and revisions are past all that this host has seen."""
    async with fleet.host("a").running() as host:
        await restored(fleet, host)
        for number in range(100):
            fleet.put("/other", str(number))
        assert fleet.has(KEYS.session(host.holder))
        host.images[C] = 4096
        await host.sweep()
        await host.until(FleetState.ROLLED_BACK)
        assert fleet.has(KEYS.rolled_back)
        assert not fleet.holders(C)


@pytest.mark.parametrize("undone", ["registered", "taken out", "released"])
async def test_a_restore_below_a_session_is_noticed_within_a_minute_by_its_mark(
    fleet: Fleet, undone: str
) -> None:
    """Revisions are past all that was seen, as `--bump-revision` makes them, and nothing more is registered."""
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await other.join(A)
        await host.join(A, B)
        snapshot = fleet.store.snapshot()
        if undone == "registered":
            host.images[C] = 4096
            await host.sweep()
        elif undone == "taken out":
            del host.images[B]
            await host.sweep()
        else:
            assert (await host.keeper.release([A]))[A].is_released
            del host.images[A]
        await anyio.sleep(1)
        fleet.store.restore(snapshot)
        for number in range(200):
            fleet.put("/other", str(number))
        with anyio.fail_after(2 * TTL):
            await host.until(FleetState.ROLLED_BACK)
        assert fleet.has(KEYS.rolled_back)
        assert not (await other.keeper.release([A]))[A].is_released


async def test_a_release_that_a_restore_undoes_at_once_is_taken_out_by_the_next_session(fleet: Fleet) -> None:
    """The store is put back before the mark of the release is there, so that no mark tells it; the record does."""
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await other.join(A)
        await host.join(A, B)
        snapshot = fleet.store.snapshot()

        released: list[Txn] = []

        async def put_back(request: Request) -> None:
            if (
                not released
                and isinstance(request, Txn)
                and any(
                    isinstance(each, Delete) and each.key.startswith(KEYS.holdings)
                    for each in request.success
                )
            ):
                released.append(request)
                fleet.store.restore(snapshot)
                for number in range(200):
                    fleet.put("/other", str(number))

        host.client.on_answer = put_back
        assert (await host.keeper.release([A]))[A].is_released
        with host.record() as record:
            assert record.standing(A) is Standing.ASKED
        del host.images[A]
        await host.sweep()
        await host.until(FleetState.JOINED)
        await anyio.sleep(1)
        assert fleet.counted(A) == {other.holder}
        with host.record() as record:
            assert record.standing(A) is None


# A disk that does not take the record.


async def test_without_a_record_a_host_does_not_join(fleet: Fleet) -> None:
    host = fleet.host("a")

    def is_full(call: Call) -> None:
        if call.name == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    host.filesystem.before = is_full
    async with host.running():
        await host.see()
        await host.until(FleetState.UNREACHABLE)
        assert host.keeper.detail == "the record of this host cannot be written: No space left on device"
        assert fleet.store.items(KEYS.sessions) == {}
        host.filesystem.before = lambda _: None
        await host.until(FleetState.JOINED)
    assert host.failures == []


async def test_without_a_record_nothing_is_registered(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)

        def is_full(call: Call) -> None:
            if call.name == "write":
                raise OSError(errno.ENOSPC, "No space left on device")

        before, host.filesystem.before = host.filesystem.before, is_full
        host.images[B] = 4096
        await host.see()
        await host.until(FleetState.UNREACHABLE)
        assert fleet.holders(B) == set()
        host.filesystem.before = before
        await host.until(FleetState.JOINED)
        assert fleet.counted(B) == {host.holder}
