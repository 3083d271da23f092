"""Whoever only reads knows what the fleet says, joins nothing and writes nothing."""

import pytest

from hmret.engine.fleet.reader import FleetReader
from hmret.fleet.keys import generation_key
from hmret.model.fleet import CopyRules, FleetSettings, FleetState, FleetSummary, Paused, WholeCopy
from hmret.model.verdicts import Reason
from support.builders import START, digest
from support.fleet_keys import ELSEWHERE, KEYS, ME, WrittenFleet
from support.memory_client import Client, Fate, Request

A, B = digest("a"), digest("b")


@pytest.fixture
def fleet() -> WrittenFleet:
    fleet = WrittenFleet()
    fleet.begin(ELSEWHERE[0])
    fleet.hold(A, ME, ELSEWHERE[0])
    fleet.hold(B, ME, ELSEWHERE[1])
    return fleet


@pytest.fixture
def client(fleet: WrittenFleet) -> Client:
    return Client(fleet.store)


@pytest.fixture
def reader(client: Client) -> FleetReader:
    return FleetReader(client, KEYS.fleet, "a", "00000001", CopyRules())


async def test_a_reader_knows_nothing_before_it_has_asked(reader: FleetReader) -> None:
    view = reader.view()
    assert (reader.state, view.state) == (FleetState.JOINING, FleetState.JOINING)
    assert (view.settings, view.facts, view.token_free) == (None, {}, None)


async def test_a_reader_knows_what_others_have(fleet: WrittenFleet, reader: FleetReader) -> None:
    before = fleet.store.items()
    await reader.ask([A, B])
    view = reader.view()
    assert (view.state, view.detail, view.token_free) == (FleetState.STOPPED, None, True)
    assert view.settings == FleetSettings()
    assert view.facts[A].holders == (ELSEWHERE[0],)
    assert view.facts[B].uncounted == (ELSEWHERE[1],)
    assert fleet.store.items() == before


async def test_many_digests_are_asked_about_sixty_at_a_time(client: Client, reader: FleetReader) -> None:
    images = [digest(f"{number:04x}") for number in range(130)]
    await reader.ask(images)
    assert reader.view().facts.keys() == {*images}
    assert len(client.requests) == 4


async def test_a_reader_without_a_cache_id_counts_every_holder(client: Client) -> None:
    reader = FleetReader(client, KEYS.fleet, "a", "", CopyRules())
    await reader.ask([A])
    assert reader.view().facts[A].uncounted == (ME,)


async def test_without_digests_the_settings_are_read(fleet: WrittenFleet, reader: FleetReader) -> None:
    fleet.set_settings(FleetSettings(paused=Paused("operator", START, "wait")))
    await reader.ask(())
    settings = reader.view().settings
    assert settings is not None
    assert settings.paused is not None


async def test_a_fleet_that_is_not_there_is_told(fleet: WrittenFleet, reader: FleetReader) -> None:
    fleet.delete(generation_key(KEYS.fleet))
    await reader.ask([A])
    assert reader.state is FleetState.NOT_INITIALISED
    assert "hmret fleet init" in (reader.view().detail or "")


async def test_a_restore_is_told(fleet: WrittenFleet, reader: FleetReader) -> None:
    fleet.put(KEYS.rolled_back, "{}")
    await reader.ask([A])
    assert reader.state is FleetState.ROLLED_BACK


async def test_a_store_that_does_not_answer_is_told(client: Client, reader: FleetReader) -> None:
    client.is_cut_off = True
    await reader.ask([A])
    view = reader.view()
    assert (view.state, view.detail, view.facts) == (FleetState.UNREACHABLE, "memory: cannot be reached", {})


async def test_an_answer_that_is_lost_is_asked_for_again(client: Client, reader: FleetReader) -> None:
    left = [Fate.LOST]

    async def lose_one(request: Request) -> Fate:
        return (
            left.pop() if left and not isinstance(request, str) and hasattr(request, "success") else Fate.DONE
        )

    client.fate = lose_one
    await reader.ask([A])
    assert reader.view().facts.keys() == {A}


async def test_the_view_says_whether_a_token_is_free(fleet: WrittenFleet, reader: FleetReader) -> None:
    fleet.set_settings(FleetSettings(tokens=2))
    fleet.put(KEYS.token(0), "someone")
    await reader.ask([A])
    assert await reader.take_token(1)
    fleet.put(KEYS.token(1), "someone")
    await reader.ask([A])
    assert not await reader.take_token(1)
    assert reader.view().token_free is False


async def test_a_reader_releases_and_tells_nothing(fleet: WrittenFleet, reader: FleetReader) -> None:
    await reader.ask([A])
    before = fleet.store.items()
    outcomes = await reader.release([A], for_space=[A])
    assert outcomes[A].reason is Reason.FLEET_UNREACHABLE
    await reader.saw([WholeCopy(A, 1)])
    await reader.give_back([A])
    reader.use_policy("00ff")
    reader.tell_use([A], START)
    await reader.tell_summary(
        FleetSummary(copies=1, disk_bytes=1, due=0, due_24h=0, policy="00ff", last_sweep=START)
    )
    assert fleet.store.items() == before
