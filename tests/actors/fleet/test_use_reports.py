"""Uses are told to the fleet later, a few times at most, and never keep anybody waiting."""

from datetime import timedelta

import anyio

from hmret.fleet.store import Txn
from hmret.fleet.stored_values import encode_use
from hmret.model.fleet import CopyRules, FleetState
from hmret.model.times import SECOND, datetime_of
from support.builders import START, START_NS, digest
from support.fleet_hosts import Fleet, Host, until
from support.fleet_keys import KEYS
from support.memory_client import Fate, Request

A, B = digest("a"), digest("b")
HOT = CopyRules(hot_for=timedelta(hours=1), last_copies_for=None)
COLD = CopyRules(last_copies_for=None)


def use(host: Host, *digests: str) -> None:
    """Have images used now."""
    host.keeper.tell_use(digests, datetime_of(host.fleet.now_ns()))


def tells(request: Request) -> bool:
    """Tell whether a request tells uses."""
    return isinstance(request, Txn) and any(isinstance(each, Txn) for each in request.success)


def told(host: Host) -> int:
    """Count the transactions that told uses."""
    return sum(tells(request) for request in host.client.requests)


async def test_a_use_is_told_within_a_tenth_of_the_time_that_it_counts_for(fleet: Fleet) -> None:
    async with fleet.host("a", HOT).running() as host:
        await host.join(A)
        await anyio.sleep(100)
        use(host, A, B)
        at = fleet.now_ns() // SECOND
        await anyio.sleep(361)
        assert fleet.value(KEYS.used(A)) == fleet.value(KEYS.used(B)) == encode_use(at)
        assert told(host) == 1


async def test_a_use_that_is_hardly_later_is_not_told_again(fleet: Fleet) -> None:
    async with fleet.host("a", HOT).running() as host:
        await host.join(A)
        use(host, A)
        await anyio.sleep(361)
        assert told(host) == 1
        host.keeper.tell_use([A], START + timedelta(seconds=300))
        await anyio.sleep(361)
        assert told(host) == 1
        host.keeper.tell_use([A], START + timedelta(seconds=400))
        await anyio.sleep(361)
        assert told(host) == 2


async def test_many_uses_are_told_sixty_at_a_time(fleet: Fleet) -> None:
    images = [digest(f"{number:04x}") for number in range(150)]
    async with fleet.host("a", HOT).running() as host:
        await host.join()
        use(host, *images)
        await anyio.sleep(361)
        assert told(host) == 3
        assert all(fleet.has(KEYS.used(image)) for image in images)


async def test_a_host_that_wants_no_uses_tells_none(fleet: Fleet) -> None:
    fleet.session_seconds = 6 * 3600
    async with fleet.host("a", COLD).running() as host:
        await host.join(A)
        use(host, A)
        await anyio.sleep(86_400)
        assert told(host) == 0
    assert not fleet.has(KEYS.used(A))


async def test_a_use_counts_for_last_copies_alone_too(fleet: Fleet) -> None:
    rules = CopyRules(last_copies_for=timedelta(days=90))
    async with fleet.host("a", rules).running() as host:
        await host.join(A)
        use(host, A)
        await anyio.sleep(6 * 3600 + 1)
        assert fleet.value(KEYS.used(A)) == encode_use(START_NS // SECOND)


async def test_a_use_that_a_wrong_clock_puts_ahead_is_told_as_one_now(fleet: Fleet) -> None:
    async with fleet.host("a", HOT).running() as host:
        await host.join(A)
        host.keeper.tell_use([A], START + timedelta(days=1000))
        await anyio.sleep(361)
        used = int(fleet.value(KEYS.used(A)))
        assert START_NS // SECOND < used <= fleet.now_ns() // SECOND
        await anyio.sleep(3600)
        assert told(host) == 1


async def test_uses_wait_while_the_store_is_away(fleet: Fleet) -> None:
    async with fleet.host("a", HOT).running() as host:
        await host.join(A)
        host.client.is_cut_off = True
        use(host, A)
        await host.until(FleetState.UNREACHABLE)
        await anyio.sleep(1000)
        host.client.is_cut_off = False
        await until(lambda: fleet.has(KEYS.used(A)))
        assert fleet.value(KEYS.used(A)) == encode_use(START_NS // SECOND)


async def test_uses_of_which_nothing_is_known_are_told_again(fleet: Fleet) -> None:
    async with fleet.host("a", HOT).running() as host:
        await host.join(A)
        left = [Fate.LOST]

        async def lose_one(request: Request) -> Fate:
            return left.pop() if left and tells(request) else Fate.DONE

        host.client.fate = lose_one
        use(host, A)
        await until(lambda: fleet.has(KEYS.used(A)))
        assert told(host) == 2


async def test_uses_that_wait_are_told_before_the_host_stops(fleet: Fleet) -> None:
    async with fleet.host("a", HOT).running() as host:
        await host.join(A)
        await anyio.sleep(1)
        use(host, A)
    assert fleet.has(KEYS.used(A))


async def test_a_use_here_keeps_copies_there(fleet: Fleet) -> None:
    rules = CopyRules(hot_for=timedelta(hours=1), hot_copies=2, last_copies_for=None)
    async with fleet.host("a", rules).running() as host, fleet.host("b", rules).running() as other:
        await host.join(A)
        await other.join(A)
        use(host, A)
        await anyio.sleep(361)
        (reason,) = await other.release(A)
        assert str(reason) == "used_in_fleet"
        await anyio.sleep(3600)
        assert await other.release(A) == [None]
