"""What is known of copies elsewhere, and how often it is asked for."""

from itertools import pairwise

import anyio
import pytest

from hmret.fleet.keys import FleetKeys
from hmret.fleet.store import Range, Txn
from hmret.fleet.stored_values import encode_drain
from hmret.model.errors import EngineClosedError
from hmret.model.fleet import CopyFacts, FleetState
from support.builders import START, digest
from support.fleet_hosts import Fleet, Host
from support.fleet_keys import KEYS
from support.memory_client import Request

A, B = digest("a"), digest("b")


def asks(request: Request, keys: FleetKeys = KEYS) -> bool:
    """Tell whether a request asks about copies."""
    return (
        isinstance(request, Txn)
        and not request.compares
        and any(
            isinstance(each, Range) and each.key.startswith(keys.holdings) and each.range_end
            for each in request.success
        )
    )


def asked(host: Host) -> int:
    return sum(asks(request) for request in host.client.requests)


async def test_the_view_has_what_was_asked_for(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A, B)
        await other.join(A)
        assert host.keeper.view().facts == {}
        await host.keeper.ask([A, B])
        facts = host.keeper.view().facts
        assert facts.keys() == {A, B}
        assert (facts[A].counted_elsewhere, facts[A].holders) == (1, (other.holder,))
        assert facts[B].counted_elsewhere == 0
        fleet.put(KEYS.drain(other.holder), encode_drain("operator", START, ""))
        await host.keeper.ask([A])
        facts = host.keeper.view().facts
        assert (facts[A].counted_elsewhere, facts[A].uncounted) == (0, (other.holder,))


async def test_many_digests_are_asked_about_sixty_at_a_time(fleet: Fleet) -> None:
    images = [digest(f"{number:04x}") for number in range(150)]
    async with fleet.host("a").running() as host:
        await host.join(*images)
        await host.keeper.ask(images)
        assert asked(host) == 3
        hosts = [
            request
            for request in host.client.requests
            if asks(request)
            and isinstance(request, Txn)
            and any(isinstance(each, Range) and each.key == KEYS.lives for each in request.success)
        ]
        assert len(hosts) == 1, "the hosts are read once"
        assert host.keeper.view().facts.keys() == {*images}


async def test_what_is_held_back_is_asked_about_less_and_less_often_up_to_an_hour(fleet: Fleet) -> None:
    fleet.session_seconds = 6 * 3600
    async with fleet.host("a").running() as host:
        await host.join(A)
        times = []
        for minute in range(300):
            host.client.requests.clear()
            await host.keeper.ask([A])
            if asked(host):
                times.append(minute)
            await anyio.sleep(60)
        assert times[:6] == [0, 1, 3, 7, 15, 31]
        assert {later - earlier for earlier, later in pairwise(times[7:])} == {60}


async def test_a_sweep_that_somebody_asked_for_asks_about_all(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        for _ in range(5):
            await host.keeper.ask([A], asks_all=True)
        assert asked(host) == 5


async def test_what_may_go_is_asked_about_each_time(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        for _ in range(5):
            await host.keeper.ask([A])
            await anyio.sleep(60)
        assert asked(host) == 5


async def test_what_has_changed_is_asked_about_soon_again(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join()
        fleet.set_settings(min_copies=2)
        for _ in range(32):
            await host.keeper.ask([A])
            await anyio.sleep(60)
        other.images[A] = 4096
        await other.sweep()
        await host.keeper.ask([A], asks_all=True)
        before = asked(host)
        await anyio.sleep(60)
        await host.keeper.ask([A])
        assert asked(host) == before + 1


async def test_the_first_question_waits_until_the_host_has_joined(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        host.images[A] = 4096
        await host.see()
        await host.keeper.ask([A])
        assert host.keeper.state is FleetState.JOINED
        assert host.keeper.view().facts == {A: CopyFacts(counted_elsewhere=0, newest_registered=START)}


async def test_a_question_about_nothing_reads_the_settings(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        fleet.set_settings(min_copies=7)
        await host.keeper.ask([])
        settings = host.keeper.view().settings
        assert settings is not None
        assert settings.min_copies == 7


async def test_a_question_does_not_wait_for_ever(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        begin = anyio.current_time()
        await host.keeper.ask([A])
        assert anyio.current_time() - begin == pytest.approx(10, abs=1)
        assert host.keeper.view().facts == {}


async def test_without_an_answer_nothing_new_is_known(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A, B)
        await host.keeper.ask([A])
        host.client.is_cut_off = True
        await host.keeper.ask([A, B], asks_all=True)
        assert host.keeper.view().facts.keys() == {A}
        await host.until(FleetState.UNREACHABLE)
        requests = len(host.client.requests)
        await host.keeper.ask([B])
        assert not any(asks(request) for request in host.client.requests[requests:])


async def test_what_is_not_here_any_more_is_forgotten(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A, B)
        await host.keeper.ask([A, B])
        del host.images[A]
        await host.sweep()
        assert host.keeper.view().facts.keys() == {B}


async def test_a_keeper_that_has_ended_answers_no_question(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
    with pytest.raises(EngineClosedError):
        await host.keeper.ask([A])
    assert host.keeper.view().state is FleetState.STOPPED
