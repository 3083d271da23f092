"""What a host does for its fleet now and then."""

from datetime import timedelta

import anyio
import pytest

from hmret.fleet.store import Range, Txn
from hmret.fleet.stored_values import read_summary
from hmret.model.fleet import FleetState, FleetSummary, Paused
from hmret.model.times import datetime_of
from support.builders import START, digest
from support.fleet_hosts import TTL, Fleet, Host, until
from support.fleet_keys import KEYS

A, B = digest("a"), digest("b")
HOUR = 3600


async def tell(host: Host, due: int) -> None:
    """Tell how many images are due, as a sweep does."""
    await host.keeper.tell_summary(
        FleetSummary(
            copies=len(host.images),
            disk_bytes=4096,
            due=due,
            due_24h=due + 1,
            policy="00ff",
            last_sweep=datetime_of(host.fleet.now_ns()),
        )
    )


async def test_a_host_tells_of_itself_when_it_joins(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        host.images[A] = 4096
        await host.see()
        await host.until(FleetState.JOINED)
        told = read_summary(host.holder, fleet.value(KEYS.summary(host.holder)), live=True, drained=None)
        assert (told.copies, told.disk_bytes, told.version, told.last_sweep) == (1, 4096, "0.2.0", None)


async def test_what_has_changed_is_told_every_five_minutes_at_most(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        before = len([change for change in fleet.store.history if change.key == KEYS.summary(host.holder)])
        for minute in range(60):
            await tell(host, minute)
            await anyio.sleep(60)
        changes = [change for change in fleet.store.history if change.key == KEYS.summary(host.holder)]
        assert 11 <= len(changes) - before <= 13
        told = read_summary(host.holder, fleet.value(KEYS.summary(host.holder)), live=True, drained=None)
        assert told.due is not None
        assert told.due >= 54
        assert told.due_24h == told.due + 1
        assert told.policy == "00ff"


async def test_what_has_not_changed_is_not_told_again(fleet: Fleet) -> None:
    fleet.session_seconds = 6 * HOUR
    async with fleet.host("a").running() as host:
        await host.join(A)
        await anyio.sleep(400)
        revision = fleet.store.revision
        await anyio.sleep(5 * HOUR)
        assert fleet.store.revision == revision, "a host that has nothing to tell writes nothing"


async def test_a_host_that_has_nothing_to_do_reads_no_other_host(fleet: Fleet) -> None:
    fleet.set_settings(forget_after=timedelta(0))
    async with fleet.host("a").running() as host:
        await host.join(A)
        host.client.requests.clear()
        await anyio.sleep(50 * 60)
        read = {
            each.key
            for request in host.client.requests
            if isinstance(request, Txn)
            for each in request.success
            if isinstance(each, Range)
        }
        assert KEYS.lives not in read
        assert KEYS.settings in read


async def test_a_survey_that_finds_nothing_new_costs_nothing(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A, B)
        host.client.requests.clear()
        await host.sweep()
        assert [request for request in host.client.requests if isinstance(request, Txn)] == []


async def test_a_pause_is_known_within_a_minute(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        paused = Paused("operator", START, "wait")
        fleet.set_settings(paused=paused)
        await anyio.sleep(TTL + 1)
        settings = host.keeper.view().settings
        assert settings is not None
        assert settings.paused == paused


async def test_settings_that_cannot_be_read_are_told(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host:
        await host.join(A)
        fleet.put(KEYS.settings, "not JSON")
        await anyio.sleep(TTL + 1)
        view = host.keeper.view()
        assert view.settings is None
        assert view.detail == "the settings of the fleet in etcd cannot be read"


async def test_what_somebody_deleted_in_the_store_is_registered_again_within_a_day(fleet: Fleet) -> None:
    images = [digest(f"{number:04x}") for number in range(130)]
    fleet.session_seconds = 6 * HOUR
    async with fleet.host("a").running() as host:
        await host.join(*images)
        for image in images[:3]:
            fleet.delete(KEYS.holding(image, host.holder))
        await anyio.sleep(2 * 24 * HOUR)
        assert all(fleet.counted(image) for image in images)
        assert host.states == [(FleetState.JOINED, None)]


async def test_the_daily_check_leaves_alone_what_is_there(fleet: Fleet) -> None:
    fleet.session_seconds = 6 * HOUR
    async with fleet.host("a").running() as host:
        await host.join(A, B)
        await anyio.sleep(400)
        revision = fleet.store.revision
        await anyio.sleep(3 * 24 * HOUR)
        assert fleet.store.revision == revision


async def test_what_was_seen_of_the_store_is_on_record_within_two_hours(fleet: Fleet) -> None:
    async with fleet.host("a").running(stops=False) as host:
        await host.join(A)
        for number in range(100):
            fleet.put("/other", str(number))
        revision = fleet.store.revision
        await anyio.sleep(2 * HOUR)
    with host.record() as record:
        assert record.seen is not None
        assert record.seen.revision >= revision


# Hosts that are gone for good.


@pytest.fixture
async def forgetful(fleet: Fleet) -> Fleet:
    fleet.set_settings(forget_after=timedelta(days=2))
    fleet.session_seconds = 6 * HOUR
    return fleet


async def left_behind(fleet: Fleet) -> Host:
    """Have a host that was live, and is not any more."""
    host = fleet.host("gone")
    async with host.running():
        await host.join(A, B)
        await host.use_policy()
        await anyio.sleep(301)
    return host


async def test_a_host_that_has_been_away_for_long_is_forgotten(forgetful: Fleet) -> None:
    gone = await left_behind(forgetful)
    async with forgetful.host("a").running() as host:
        await host.join(A)
        forgetful.put(KEYS.used(A), "1780000000")
        forgetful.put(KEYS.used(B), "1780000000")
        await anyio.sleep(2 * 24 * HOUR - 2 * HOUR)
        assert forgetful.holders(B) == {gone.holder}
        await anyio.sleep(4 * HOUR)
        assert host.forgotten == [gone.holder]
        assert [key for key in forgetful.store.items() if gone.holder in key] == [
            key for key in forgetful.store.items(f"{KEYS.root}p/") if key.endswith("00ff00ff00ff00ff")
        ]
        assert forgetful.holders(A) == {host.holder}
        assert forgetful.has(KEYS.used(A))
        assert not forgetful.has(KEYS.used(B)), "nobody holds it any more"


async def test_a_host_that_is_live_is_not_forgotten_however_old_its_summary(forgetful: Fleet) -> None:
    async with forgetful.host("b").running() as other, forgetful.host("a").running() as host:
        await other.join(A)
        await anyio.sleep(301)
        await host.join(A)
        await anyio.sleep(4 * 24 * HOUR)
        assert forgetful.counted(A) == {host.holder, other.holder}
        assert host.forgotten == other.forgotten == []


async def test_with_zero_nobody_is_ever_forgotten(fleet: Fleet) -> None:
    fleet.set_settings(forget_after=timedelta(0))
    fleet.session_seconds = 24 * HOUR
    gone = await left_behind(fleet)
    async with fleet.host("a").running() as host:
        await host.join(A)
        await anyio.sleep(20 * 24 * HOUR)
        assert fleet.holders(B) == {gone.holder}


async def test_a_host_that_was_forgotten_comes_back_with_all_its_copies(forgetful: Fleet) -> None:
    gone = await left_behind(forgetful)
    async with forgetful.host("a").running() as host:
        await host.join(A)
        await anyio.sleep(3 * 24 * HOUR)
        assert forgetful.holders(B) == set()
        holder = gone.holder
        async with gone.running():
            await gone.join()
            await until(lambda: forgetful.counted(B) == {holder})
