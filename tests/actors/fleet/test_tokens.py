"""Tokens: brake, stagger and canary in one."""

from collections import Counter
from datetime import timedelta

import anyio
import pytest

from hmret.fleet.store import Range, Txn
from hmret.fleet.stored_values import encode_summary
from hmret.model.fleet import CopyRules, FleetState, FleetSummary, Paused
from hmret.model.verdicts import Reason
from support.builders import START, digest
from support.fleet_hosts import POLICY, Fleet, Host
from support.fleet_keys import KEYS

A = digest("a")
HOUR = 3600
IMAGES = [digest(f"{number:04x}") for number in range(40)]
FREELY = CopyRules(min_copies=0, last_copies_for=None)


def tell_copies(fleet: Fleet, copies: int) -> None:
    """Have some host tell how many copies it has."""
    summary = FleetSummary(copies=copies, disk_bytes=0, due=0, due_24h=0, policy="", last_sweep=START)
    fleet.put(KEYS.summary("z.0000000f"), encode_summary(summary, "0.2.0"))


def taken(fleet: Fleet) -> list[str]:
    """List the tokens that are taken."""
    return [key.removeprefix(KEYS.tokens) for key in fleet.store.items(KEYS.tokens)]


async def released(host: Host, *digests: str) -> int:
    """Count how many copies go."""
    reasons = await host.release(*digests)
    assert {*reasons} <= {None, Reason.FLEET_BRAKE}
    return reasons.count(None)


async def test_a_token_is_good_for_its_share_of_the_budget(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="10", tokens=3)
    async with fleet.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        assert await released(host, *IMAGES) == 9, "three for each of three tokens"
        assert len(taken(fleet)) == 3
        assert await released(host, *host.images) == 0
        assert host.keeper.view().token_free is False


async def test_the_budget_can_be_a_share_of_all_copies(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="5%", tokens=1)
    tell_copies(fleet, 200)
    async with fleet.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        assert await released(host, *IMAGES) == 12, "5 % of 200 and of its own 40"


async def test_a_share_that_no_float_has_exactly_is_not_cut_off(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="29%", tokens=1)
    tell_copies(fleet, 60)
    async with fleet.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        assert await released(host, *IMAGES) == 29, (
            "29 % of 60 and of its own 40; `GET /v1/fleet/plan` says the same"
        )


async def test_a_token_is_good_for_one_release_at_least(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="5%", tokens=4)
    async with fleet.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        assert await released(host, *IMAGES) == 4


async def test_a_token_is_free_again_after_an_hour(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="3", tokens=1)
    async with fleet.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        assert await released(host, *IMAGES[:10]) == 3
        await anyio.sleep(HOUR - 10)
        assert await released(host, *IMAGES[10:20]) == 0
        await anyio.sleep(20)
        assert await released(host, *IMAGES[20:30]) == 3


async def test_a_token_of_another_host_is_not_used(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="100", tokens=1)
    async with fleet.host("a", FREELY).running() as host, fleet.host("b", FREELY).running() as other:
        await host.join(*IMAGES)
        await other.join(*IMAGES)
        assert await released(host, IMAGES[0]) == 1
        assert await released(other, IMAGES[1]) == 0
        assert await released(host, IMAGES[2]) == 1


async def test_no_more_than_the_budget_goes_in_any_hour_whatever_hosts_do(fleet: Fleet) -> None:
    budget = 6
    fleet.set_settings(min_copies=0, budget=str(budget), tokens=3)
    fleet.session_seconds = HOUR
    hosts = [fleet.host(f"h{number}", FREELY) for number in range(3)]
    times: list[float] = []

    async def run(host: Host) -> None:
        for _ in range(2):
            async with host.running():
                await host.join(*IMAGES[:12])
                for _ in range(10):
                    await anyio.sleep(300)
                    times.extend([anyio.current_time()] * await released(host, *IMAGES[:12]))
                    host.images.update(dict.fromkeys(IMAGES[:12], 4096))
                    await host.sweep()

    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(run, host)
    in_an_hour = max(sum(begin <= time < begin + HOUR for time in times) for begin in times)
    assert in_an_hour == budget
    assert len(times) >= 2 * budget


async def test_last_copies_alone_take_no_token(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        assert await host.release(A) == [Reason.LAST_COPY]
        assert taken(fleet) == []


async def test_a_paused_fleet_takes_no_token(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, paused=Paused("operator", START, "wait"))
    async with fleet.host("a", FREELY).running() as host:
        await host.join(A)
        assert await host.release(A) == [Reason.FLEET_PAUSED]
        assert taken(fleet) == []


async def test_releases_that_were_refused_use_nothing_up(fleet: Fleet) -> None:
    fleet.set_settings(budget="1", tokens=1)
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        assert await host.keeper.take_token(1)
        fleet.delete(KEYS.holding(A, other.holder))
        assert await host.release(A) == [Reason.LAST_COPY]
        await other.sweep()
        fleet.put(KEYS.holding(A, other.holder), "{}")
        assert await host.release(A) == [None]


async def test_a_budget_that_is_lowered_counts_for_tokens_that_are_taken(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="20", tokens=1)
    async with fleet.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        assert await released(host, *IMAGES[:5]) == 5
        fleet.set_settings(min_copies=0, budget="7", tokens=1)
        assert await released(host, *IMAGES[5:30]) == 2


async def test_a_token_that_is_no_more_is_not_used(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="100", tokens=5)
    async with fleet.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        for number in range(4):
            fleet.put(KEYS.token(number), "z.0000000f another")
        assert await released(host, IMAGES[0]) == 1
        fleet.set_settings(min_copies=0, budget="100", tokens=4)
        assert await released(host, IMAGES[1]) == 0


async def test_a_host_that_joins_again_needs_another_token(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="100", tokens=1)
    host = fleet.host("a", FREELY)
    async with host.running():
        await host.join(*IMAGES)
        assert await released(host, IMAGES[0]) == 1
    async with host.running():
        await host.join()
        assert await released(host, IMAGES[1]) == 0
        await anyio.sleep(HOUR)
        assert await released(host, IMAGES[1]) == 1


# The canary.


@pytest.fixture
async def young(fleet: Fleet) -> Fleet:
    fleet.set_settings(min_copies=0, budget="100", tokens=5, canary=timedelta(hours=1))
    return fleet


async def test_a_policy_that_is_new_may_only_take_token_zero(young: Fleet) -> None:
    async with young.host("a", FREELY).running() as host, young.host("b", FREELY).running() as other:
        await host.join(*IMAGES)
        await other.join(*IMAGES)
        assert await released(host, IMAGES[0]) == 1
        assert taken(young) == ["00"]
        assert young.has(KEYS.young(POLICY))
        assert await released(other, IMAGES[1]) == 0
        assert other.keeper.view().token_free is False


async def test_a_policy_is_young_for_as_long_as_the_canary_says(young: Fleet) -> None:
    async with young.host("a", FREELY).running() as host, young.host("b", FREELY).running() as other:
        await host.join(*IMAGES)
        await other.join(*IMAGES)
        await released(host, IMAGES[0])
        await anyio.sleep(HOUR + 10)
        assert await released(other, IMAGES[1]) == 1
        assert await released(host, IMAGES[2]) == 1
        assert len(taken(young)) == 2
        assert young.has(KEYS.policy(POLICY))


async def test_another_policy_may_not_use_the_token_of_the_one_before(young: Fleet) -> None:
    async with young.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        await released(host, IMAGES[0])
        await anyio.sleep(HOUR + 10)
        assert await released(host, IMAGES[1]) == 1
        young.put(KEYS.token(0), "z.0000000f another")
        await host.use_policy("another")
        assert await released(host, IMAGES[2]) == 0
        young.delete(KEYS.token(0))
        assert await released(host, IMAGES[2]) == 1
        assert young.value(KEYS.token(0)).startswith(host.holder)


async def test_without_a_canary_a_new_policy_may_take_any_token(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="100", tokens=3)
    fleet.put(KEYS.token(0), "z.0000000f another")
    async with fleet.host("a", FREELY).running() as host:
        await host.join(*IMAGES)
        assert await released(host, IMAGES[0]) == 1
        assert fleet.has(KEYS.policy(POLICY))
        assert not fleet.has(KEYS.young(POLICY))


async def test_a_policy_that_is_not_known_may_only_take_token_zero(fleet: Fleet) -> None:
    fleet.set_settings(min_copies=0, budget="100", tokens=3)
    fleet.put(KEYS.token(0), "z.0000000f another")
    async with fleet.host("a", FREELY).running() as host:
        host.images.update(dict.fromkeys(IMAGES, 4096))
        await host.see()
        await host.until(FleetState.JOINED)
        assert await released(host, IMAGES[0]) == 0
        fleet.delete(KEYS.token(0))
        assert await released(host, IMAGES[0]) == 1


# What the plan is told.


async def test_the_view_says_whether_a_token_could_be_taken(fleet: Fleet) -> None:
    fleet.set_settings(tokens=1, budget="100")
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        await host.join(A)
        await other.join(A)
        assert host.keeper.view().token_free is None
        await host.keeper.ask([A])
        assert host.keeper.view().token_free is True
        assert taken(fleet) == []
        assert await other.keeper.take_token(1)
        await host.keeper.ask([A], asks_all=True)
        assert host.keeper.view().token_free is False
        assert not await host.keeper.take_token(1)
        assert other.keeper.view().token_free is True


async def test_a_host_that_gets_no_token_does_not_read_what_all_hosts_tell(fleet: Fleet) -> None:
    fleet.set_settings(tokens=1, budget="100")
    fleet.put(KEYS.token(0), "z.0000000f another")
    async with fleet.host("a").running() as host:
        await host.join(A)
        host.client.requests.clear()
        for _ in range(3):
            assert not await host.keeper.take_token(1)
        asked = [
            each for request in host.client.requests if isinstance(request, Txn) for each in request.success
        ]
        assert [each for each in asked if isinstance(each, Range) and each.key == KEYS.summaries] == []


async def test_tokens_are_taken_in_no_order_so_that_few_hosts_want_the_same(fleet: Fleet) -> None:
    fleet.set_settings(tokens=100, budget="1000")
    hosts = [fleet.host(f"h{number}") for number in range(10)]
    numbers: Counter[str] = Counter()
    for host in hosts:
        async with host.running():
            await host.join(A)
            assert await host.keeper.take_token(1)
            numbers.update(taken(fleet))
    assert sorted(numbers) != [f"{number:02}" for number in range(10)]
