"""A copy goes only where enough others count at that very moment; whatever is not certain keeps it."""

import errno
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest

from hmret.fleet.keys import generation_key
from hmret.fleet.store import Delete, Range, StoreUnreachableError, Txn, prefix_end
from hmret.fleet.stored_values import encode_drain, encode_use
from hmret.model.errors import EngineClosedError
from hmret.model.fleet import CopyRules, FleetState, Paused
from hmret.model.records.fleet import Standing
from hmret.model.times import SECOND
from hmret.model.verdicts import Reason
from support.builders import START, START_NS, digest
from support.fleet_hosts import TTL, Fleet, Host, until
from support.fleet_keys import KEYS
from support.memory_client import Fate, Request
from support.memory_filesystem import Call

A, B, C = digest("a"), digest("b"), digest("c")
RELEASED = None


def releases(request: Request) -> bool:
    """Tell whether a request releases a copy."""
    return (
        isinstance(request, Txn)
        and len(request.compares) > 2
        and any(isinstance(each, Delete) and KEYS.holding_of(each.key) for each in request.success)
    )


def at_first_release(
    act: Callable[[], object], fate: Fate = Fate.DONE
) -> Callable[[Request], Awaitable[Fate]]:
    """Do something between what the first release was judged by and its transaction, which then meets a fate."""
    left = [fate]

    async def decide(request: Request) -> Fate:
        if left and releases(request):
            act()
            return left.pop()
        return Fate.DONE

    return decide


async def test_with_a_witness_a_copy_goes(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A, B)
        await other.join(A)
        assert await host.release(A, B) == [RELEASED, Reason.LAST_COPY]
        assert fleet.holders(A) == {other.holder}
        assert fleet.holders(B) == {host.holder}
        with host.record() as record:
            assert record.digests == {B: Standing.REGISTERED}


async def test_of_two_hosts_that_want_to_go_without_a_copy_one_keeps_it(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        reasons: list[Reason | None] = []

        async def release(each: Host) -> None:
            reasons.extend(await each.release(A))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(release, host)
            tasks.start_soon(release, other)
        assert sorted(reasons, key=str) == [RELEASED, Reason.LAST_COPY]
        assert len(fleet.counted(A)) == 1


async def test_as_many_copies_stay_as_the_fleet_wants_however_many_hosts_release(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=2)
    hosts = [fleet.host(f"h{number}") for number in range(8)]
    async with anyio.create_task_group() as running:

        async def run(host: Host) -> None:
            async with host.running():
                await anyio.sleep_forever()

        for host in hosts:
            running.start_soon(run, host)
        await anyio.sleep(1)
        for host in hosts:
            await host.join(A)
        begin = fleet.store.revision
        # Who has lost too many races tries again with the next sweep.
        for _ in range(4):
            async with anyio.create_task_group() as tasks:
                for host in hosts:
                    if A in host.images:
                        tasks.start_soon(host.release, A)
        counted = [
            sum(KEYS.holding(A, host.holder) in fleet.store.keys_at(revision) for host in hosts)
            for revision in range(begin, fleet.store.revision + 1)
        ]
        assert min(counted) == counted[-1] == 2
        assert {host.name for host in hosts if A in host.images} == {
            holder.partition(".")[0] for holder in fleet.counted(A)
        }
        running.cancel_scope.cancel()


async def test_sixty_digests_are_read_in_one_request(fleet: Fleet) -> None:
    images = [digest(f"{number:04x}") for number in range(60)]
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(*images)
        await other.join(*images)
        host.client.requests.clear()
        assert await host.release(*images) == [RELEASED] * 60
        reads = [
            request
            for request in host.client.requests
            if isinstance(request, Txn)
            and any(
                isinstance(each, Range) and each.key.startswith(KEYS.holdings) for each in request.success
            )
        ]
        assert len(reads) == 1


async def test_the_hosts_are_not_read_for_each_batch(fleet: Fleet) -> None:
    images = [digest(f"{number:04x}") for number in range(24)]
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(*images)
        await other.join(*images)
        await host.keeper.ask(images)
        host.client.requests.clear()
        for start in range(0, 24, 8):
            assert await host.release(*images[start : start + 8]) == [RELEASED] * 8
        hosts = Range(KEYS.lives, prefix_end(KEYS.lives), keys_only=True)
        read = [each for each in host.client.requests if isinstance(each, Txn) and hosts in each.success]
        assert read == []


async def test_a_host_that_has_died_since_the_hosts_were_read_is_no_witness(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        await host.keeper.ask([A])
        fleet.delete(KEYS.live(other.holder))
        assert await host.release(A) == [Reason.LAST_COPY]
        assert fleet.holders(A) == {host.holder, other.holder}


async def test_a_copy_that_goes_was_on_record_before_it_was_asked_for(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        seen: list[Standing | None] = []

        def look() -> None:
            with host.record() as record:
                seen.append(record.standing(A))

        host.client.fate = at_first_release(look)
        assert await host.release(A) == [RELEASED]
        assert seen == [Standing.ASKED]


# What happens between a host's read and its transaction.


async def between(fleet: Fleet, host: Host, act: Callable[[], object]) -> Reason | None:
    """Have something happen right before a release arrives."""
    host.client.fate = at_first_release(act)
    (reason,) = await host.release(A)
    return reason


async def test_a_witness_that_releases_in_between_is_none(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        key = KEYS.holding(A, other.holder)
        assert await between(fleet, host, lambda: fleet.delete(key)) is Reason.LAST_COPY
        assert fleet.holders(A) == {host.holder}
        with host.record() as record:
            assert record.digests == {A: Standing.REGISTERED}


async def test_a_witness_that_goes_in_between_is_followed_by_another(fleet: Fleet) -> None:
    async with (
        fleet.host("a").running() as host,
        fleet.host("b").running() as other,
        fleet.host("c").running() as third,
    ):
        for each in (host, other, third):
            await each.join(A)
        view = host.keeper
        await view.ask([A])

        def drop_a_witness() -> None:
            (txn,) = [request for request in host.client.requests if releases(request)]
            assert isinstance(txn, Txn)
            (witness,) = [
                holding[1]
                for compare in txn.compares
                if (holding := KEYS.holding_of(compare.key)) is not None
            ]
            fleet.delete(KEYS.holding(A, witness))

        assert await between(fleet, host, drop_a_witness) is RELEASED
        assert len(fleet.holders(A)) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda fleet, other: fleet.delete(KEYS.live(other)), Reason.LAST_COPY),
        (
            lambda fleet, other: fleet.put(KEYS.drain(other), encode_drain("operator", START, "")),
            Reason.LAST_COPY,
        ),
        (
            lambda fleet, _: fleet.set_settings(paused=Paused("operator", START, "wait")),
            Reason.FLEET_PAUSED,
        ),
        (lambda fleet, _: fleet.set_settings(min_copies=2), Reason.LAST_COPY),
        (lambda fleet, _: fleet.put(KEYS.settings, "not JSON"), Reason.FLEET_UNREACHABLE),
        (lambda fleet, _: fleet.put(KEYS.rolled_back, "{}"), Reason.FLEET_UNREACHABLE),
        (lambda fleet, _: fleet.put(generation_key(KEYS.fleet), "g2"), Reason.FLEET_UNREACHABLE),
        (lambda fleet, _: [fleet.delete(KEYS.token(number)) for number in range(20)], Reason.FLEET_BRAKE),
    ],
    ids=["dies", "drained", "paused", "more copies", "unreadable", "rolled back", "reset", "token over"],
)
async def test_what_changes_in_between_keeps_the_copy(
    fleet: Fleet, change: Callable[[Fleet, str], object], reason: Reason
) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        assert await between(fleet, host, lambda: change(fleet, other.holder)) is reason
        assert host.holder in fleet.holders(A)
        assert A in host.images


async def test_a_use_elsewhere_in_between_keeps_the_copy(fleet: Fleet) -> None:
    rules = CopyRules(hot_for=timedelta(hours=1), hot_copies=2, last_copies_for=None)
    async with fleet.host("a", rules).running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)

        def use() -> None:
            fleet.put(KEYS.used(A), encode_use(fleet.now_ns() // SECOND))

        assert await between(fleet, host, use) is Reason.USED_IN_FLEET


async def test_a_use_that_matters_nothing_costs_one_more_try(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)

        def use() -> None:
            fleet.put(KEYS.used(A), encode_use(START_NS // SECOND))

        assert await between(fleet, host, use) is RELEASED
        assert sum(releases(request) for request in host.client.requests) == 2


async def test_what_changes_at_each_try_keeps_the_copy(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)

        async def use(request: Request) -> Fate:
            if releases(request):
                fleet.put(KEYS.used(A), encode_use(START_NS // SECOND))
            return Fate.DONE

        host.client.fate = use
        assert await host.release(A) == [Reason.LAST_COPY]
        assert sum(releases(request) for request in host.client.requests) == 4
        with host.record() as record:
            assert record.digests == {A: Standing.REGISTERED}


async def test_a_pause_that_has_returned_is_heeded_at_once(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A, B)
        await other.join(A, B)
        fleet.set_settings(paused=Paused("operator", START, "wait"))
        outcomes = await host.outcomes(A, B)
        assert {outcome.reason for outcome in outcomes.values()} == {Reason.FLEET_PAUSED}
        assert outcomes[A].detail == "paused by operator: wait"
        fleet.set_settings()
        assert await host.release(A, B) == [RELEASED, RELEASED]


async def test_a_release_that_took_as_long_as_it_liked_is_judged_when_it_commits(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)

        async def stand_still(request: Request) -> Fate:
            if releases(request):
                await anyio.sleep(10 * TTL)
                fleet.delete(KEYS.holding(A, other.holder))
            return Fate.DONE

        host.client.fate = stand_still
        assert await host.release(A) == [Reason.LAST_COPY]


# Outcomes that are not known.


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED, Fate.LATE])
async def test_a_release_whose_outcome_is_not_known_keeps_the_image_and_ends_the_session(
    fleet: Fleet, fate: Fate
) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        session = fleet.value(KEYS.session(host.holder))
        host.client.fate = at_first_release(lambda: None, fate)
        outcomes = await host.outcomes(A)
        assert outcomes[A].reason is Reason.FLEET_UNREACHABLE
        assert outcomes[A].detail == "memory: no answer"
        with host.record() as record:
            assert record.digests == {A: Standing.ASKED}
        await until(lambda: fleet.has(KEYS.live(host.holder)) and host.keeper.state is FleetState.JOINED)
        assert fleet.value(KEYS.session(host.holder)) != session
        for outcome in fleet.store.deliver_late():
            assert not getattr(outcome, "succeeded", True)
        assert fleet.counted(A) == {host.holder, other.holder}
        with host.record() as record:
            assert record.digests == {A: Standing.REGISTERED}


async def test_a_host_that_is_killed_between_release_and_rename_registers_again(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with fleet.host("b").running() as other:
        await other.join(A)
        async with host.running(stops=False):
            await host.join(A)
            assert (await host.keeper.release([A]))[A].is_released
        assert fleet.holders(A) == {other.holder}
        async with host.running():
            await host.join()
            assert fleet.counted(A) == {host.holder, other.holder}


async def test_a_host_that_is_killed_after_the_rename_is_not_counted(fleet: Fleet) -> None:
    host = fleet.host("a")
    async with fleet.host("b").running() as other:
        await other.join(A)
        async with host.running(stops=False):
            await host.join(A)
            host.client.fate = at_first_release(lambda: None, Fate.UNANSWERED)
            await host.release(A)
            host.client.is_cut_off = True
        del host.images[A]
        async with host.running():
            await host.join()
            assert fleet.holders(A) == {other.holder}
            with host.record() as record:
                assert record.digests == {}


@pytest.mark.parametrize("fate", [Fate.UNREACHABLE, Fate.REFUSED])
async def test_a_release_that_surely_was_none_leaves_everything_as_it_was(fleet: Fleet, fate: Fate) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        host.client.fate = at_first_release(lambda: None, fate)
        assert await host.release(A) == [Reason.FLEET_UNREACHABLE]
        assert host.keeper.state is FleetState.JOINED
        with host.record() as record:
            assert record.digests == {A: Standing.REGISTERED}
        assert await host.release(A) == [RELEASED]


async def test_without_an_answer_nothing_is_released(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        host.client.is_cut_off = True
        outcomes = await host.outcomes(A)
        assert outcomes[A].reason is Reason.FLEET_UNREACHABLE
        assert outcomes[A].detail == "memory: cannot be reached"


async def test_without_a_record_nothing_is_released(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)

        def is_full(call: Call) -> None:
            if call.name == "write":
                raise OSError(errno.ENOSPC, "No space left on device")

        host.filesystem.before = is_full
        outcomes = await host.outcomes(A)
        assert outcomes[A].reason is Reason.FLEET_UNREACHABLE
        assert "No space left on device" in (outcomes[A].detail or "")
        assert fleet.holders(A) == {host.holder, other.holder}
        host.filesystem.before = None
        assert await host.release(A) == [RELEASED]


async def test_a_release_that_cannot_be_noted_on_record_stands(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)

        def fill_the_disk() -> None:
            def is_full(call: Call) -> None:
                if call.name == "write":
                    raise OSError(errno.ENOSPC, "No space left on device")

            host.filesystem.before = is_full

        host.client.fate = at_first_release(fill_the_disk)
        assert await host.release(A) == [RELEASED]
        host.filesystem.before = None
        with host.record() as record:
            assert record.digests == {A: Standing.ASKED}
        host.images[B] = 4096
        await host.sweep()
        assert fleet.holders(A) == {other.holder}


async def test_a_full_store_takes_releases_and_nothing_else(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A, B)
        await other.join(A, B)
        assert await host.keeper.take_token(1)
        fleet.store.is_full = True
        assert await host.release(A) == [RELEASED]
        host.images[C] = 4096
        await host.see()
        await host.until(FleetState.UNREACHABLE)
        assert "NOSPACE" in (host.keeper.detail or "")
        assert await host.release(B) == [Reason.FLEET_UNREACHABLE]
        fleet.store.is_full = False
        await host.until(FleetState.JOINED)
        assert fleet.counted(C) == {host.holder}


# Who may not release.


async def test_a_host_that_does_not_count_yet_releases_nothing(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await other.join(A)
        await until(lambda: host.keeper.holder is not None)
        host.images[A] = 4096
        assert await host.release(A) == [Reason.FLEET_UNREACHABLE]
        assert not any(releases(request) for request in host.client.requests)


async def test_a_duplicate_releases_nothing(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        copy = host.copied()
        async with copy.running():
            await copy.join()
            assert await host.release(A) == [Reason.FLEET_UNREACHABLE]
            await host.until(FleetState.DUPLICATE_HOST)
            assert await host.release(A) == [Reason.DUPLICATE_HOST]
            assert copy.holder in fleet.holders(A)


async def test_a_drained_hosts_own_copies_go_where_others_count(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        fleet.put(KEYS.drain(host.holder), encode_drain("operator", START, ""))
        assert await other.release(A) == [Reason.LAST_COPY]
        assert await host.release(A) == [RELEASED]


async def test_what_the_disk_needs_goes_without_a_witness_where_that_is_set(fleet: Fleet) -> None:
    rules = CopyRules(last_copies_for=None, yields_to_pressure=True)
    async with fleet.host("a", rules).running() as host:
        await host.join(A, B)
        assert await host.release(A) == [Reason.LAST_COPY]
        assert await host.release(A, for_space=True) == [RELEASED]


# What stays after all.


async def test_a_copy_that_is_given_back_counts_again(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        assert (await host.keeper.release([A]))[A].is_released
        assert fleet.holders(A) == {other.holder}
        await host.keeper.give_back([A])
        await until(lambda: fleet.counted(A) == {host.holder, other.holder})


async def test_a_copy_that_was_released_is_not_registered_by_an_earlier_survey(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        assert await host.release(A) == [RELEASED]
        (lease,) = {
            found.lease
            for key, found in fleet.store.keys_at(fleet.store.revision).items()
            if key == KEYS.session(host.holder)
        }
        fleet.store.end_lease(lease)
        session = fleet.store.revision
        await until(lambda: fleet.has(KEYS.live(host.holder)))
        assert fleet.store.revision > session
        assert fleet.holders(A) == {other.holder}


async def test_a_copy_that_is_released_before_its_turn_is_not_registered(fleet: Fleet) -> None:
    images = sorted(digest(f"{number:04x}") for number in range(250))
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join()
        await other.join(images[-1])
        host.images = dict.fromkeys(images, 4096)
        await host.see()
        assert await host.release(images[-1]) == [RELEASED]
        await until(lambda: bool(fleet.counted(images[-2])))
        await anyio.sleep(1)
        assert fleet.holders(images[-1]) == {other.holder}


async def test_a_copy_that_comes_again_is_registered_again(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        assert await host.release(A) == [RELEASED]
        host.images[A] = 4096
        await host.sweep()
        assert fleet.counted(A) == {host.holder, other.holder}


# A keeper that ends, or fails.


async def test_a_keeper_that_ends_answers_those_who_wait(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        began = anyio.Event()

        async def stand_still(request: Request) -> Fate:
            if releases(request):
                began.set()
                await anyio.sleep_forever()
            return Fate.DONE

        host.client.fate = stand_still
        errors: list[Exception] = []

        async def release() -> None:
            try:
                await host.release(A)
            except EngineClosedError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(release)
            await began.wait()
            tasks.start_soon(release)
            await anyio.sleep(1)
            host.keeper.close()
        assert len(errors) == 2
        with pytest.raises(EngineClosedError):
            await host.release(A)


async def test_a_caller_that_gives_up_does_not_stop_a_release(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)

        async def slowly(request: Request) -> Fate:
            await anyio.sleep(1)
            return Fate.DONE

        host.client.fate = slowly
        with anyio.move_on_after(0.5):
            await host.release(A)
        await until(lambda: fleet.holders(A) == {other.holder})
        with host.record() as record:
            assert record.digests in ({}, {A: Standing.ASKED})


async def test_an_error_that_nobody_expected_keeps_images_and_ends_the_session_at_most(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)

        async def fail(request: Request) -> Fate:
            if releases(request):
                raise ZeroDivisionError("a bug")
            return Fate.DONE

        host.client.fate = fail
        assert await host.release(A) == [Reason.FLEET_UNREACHABLE]
        assert len(host.failures) == 1
        await host.until(FleetState.JOINED)
        assert fleet.counted(A) == {host.holder, other.holder}


async def test_nobody_waits_for_the_store_to_tell_a_use(fleet: Fleet) -> None:
    async with fleet.host("a", CopyRules(hot_for=timedelta(hours=1))).running() as host:
        await host.join(A)

        async def stand_still(request: Request) -> Fate:
            await anyio.sleep_forever()
            raise StoreUnreachableError

        host.client.fate = stand_still
        asked = len(host.client.requests)
        for _ in range(1000):
            host.keeper.tell_use([A, B], START)
        assert host.keeper.view().state is FleetState.JOINED
        assert len(host.client.requests) == asked
