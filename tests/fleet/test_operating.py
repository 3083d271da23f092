"""What an operator asks of a fleet, at a store in memory."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.operating import FleetOperator
from hmret.fleet.settings import decode_settings
from hmret.fleet.store import (
    Delete,
    Health,
    OutcomeUnknownError,
    Put,
    StoreError,
    StoreUnreachableError,
    Txn,
)
from hmret.model.errors import FleetError, HostNotFoundError
from hmret.model.fleet import FleetSettings, Paused
from support.memory_client import Client, Fate, Request
from support.memory_store import MemoryStore

AT = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
A, B, C = "a.0000000a", "b.0000000b", "c.0000000c"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: 0.0)


@pytest.fixture
def client(store: MemoryStore) -> Client:
    return Client(store)


@pytest.fixture
def operator(client: Client) -> FleetOperator:
    return FleetOperator(client, "prod")


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def put(store: MemoryStore, **values: str) -> None:
    """Write keys, by what they are called in `FleetKeys`."""
    store.carry_out(Txn((), tuple(Put(key, value) for key, value in values.items())))


class Fleet:
    """A fleet as its hosts would have filled it."""

    def __init__(self, store: MemoryStore, generation: str) -> None:
        self.store = store
        self.keys = FleetKeys("prod", generation)

    def host(self, holder: str, *digests: str, live: bool = True, summary: str = "") -> None:
        keys = self.keys
        put(self.store, **{keys.mark(holder): "m", keys.summary(holder): summary or "{}"})
        if live:
            put(self.store, **{keys.session(holder): "m", keys.live(holder): "1"})
        for each in digests:
            put(self.store, **{keys.holding(each, holder): '{"b":4096,"t":"2026-11-01T00:00:00Z"}'})

    def used(self, each: str, seconds: int) -> None:
        put(self.store, **{self.keys.used(each): f"{seconds:010}"})

    def settings(self) -> FleetSettings:
        return decode_settings(self.store.items()[self.keys.settings])


@pytest.fixture
async def fleet(store: MemoryStore, operator: FleetOperator, anyio_backend: str) -> Fleet:
    return Fleet(store, await operator.init())


async def test_init_makes_a_fleet_with_the_default_settings(
    store: MemoryStore, operator: FleetOperator
) -> None:
    generation = await operator.init()
    keys = FleetKeys("prod", generation)
    assert store.items() == {
        generation_key("prod"): generation,
        keys.settings: '{"min_copies":1,"budget":"5%","tokens":20,"canary":"1h","forget_after":"720h","paused":null}',
    }


async def test_init_fails_where_there_is_a_fleet_and_leaves_it(
    store: MemoryStore, operator: FleetOperator, fleet: Fleet
) -> None:
    before = store.items()
    with pytest.raises(FleetError, match="'prod' exists already"):
        await operator.init()
    assert store.items() == before


async def test_whatever_needs_a_fleet_says_how_to_make_one(
    operator: FleetOperator, anyio_backend: str
) -> None:
    for call in (
        operator.reset(),
        operator.status(),
        operator.settings(),
        operator.holdings(digest("a")),
        operator.change("tokens", "3"),
        operator.pause("me", AT, ""),
        operator.resume(),
        operator.drain("a", "me", AT, ""),
        operator.undrain("a"),
        operator.forget("a"),
        operator.last_copies([A]),
    ):
        with pytest.raises(FleetError, match="etcd has no fleet 'prod'; to create it: hmret fleet init"):
            await call


async def test_a_reset_takes_settings_pause_and_drains_over_and_forgets_all_else(
    store: MemoryStore, operator: FleetOperator, fleet: Fleet
) -> None:
    fleet.host(A, digest("a"))
    await operator.change("tokens", "3")
    await operator.pause("me", AT, "why")
    await operator.drain("a", "me", AT, "disk")
    put(store, **{fleet.keys.rolled_back: "{}"})
    before = fleet.settings()
    generation = await operator.reset()
    assert generation != fleet.keys.generation
    assert await operator.settings() == before
    keys = FleetKeys("prod", generation)
    assert set(store.items()) == {generation_key("prod"), keys.settings, keys.drain(A)}


async def test_a_drain_during_a_reset_is_taken_over_too(
    store: MemoryStore, client: Client, operator: FleetOperator, fleet: Fleet
) -> None:
    fleet.host(A)

    async def drain_first(request: Request) -> Fate:
        # Right before the transaction that changes the generation.
        if isinstance(request, Txn) and any(
            isinstance(one, Put) and one.key == generation_key("prod") for one in request.success
        ):
            put(store, **{fleet.keys.drain(A): "{}"})
        return Fate.DONE

    client.fate = drain_first
    keys = FleetKeys("prod", await operator.reset())
    assert keys.drain(A) in store.items()


async def test_settings_that_change_during_a_reset_are_taken_over(
    store: MemoryStore, client: Client, operator: FleetOperator, fleet: Fleet
) -> None:
    other = FleetOperator(Client(store), "prod")
    changes = iter([other.pause("you", AT, "now")])

    async def pause_first(request: Request) -> Fate:
        if isinstance(request, Txn) and any(
            isinstance(one, Put) and one.key == generation_key("prod") for one in request.success
        ):
            for change in changes:
                await change
        return Fate.DONE

    client.fate = pause_first
    await operator.reset()
    assert (await operator.settings()).paused == Paused("you", AT, "now")


async def test_a_reset_that_was_cut_off_is_finished_by_the_next_one(
    store: MemoryStore, operator: FleetOperator, fleet: Fleet
) -> None:
    for number in range(30):
        put(store, **{FleetKeys("prod", f"{number:02}left").holding(digest("a"), A): "{}"})
    keys = FleetKeys("prod", await operator.reset())
    assert set(store.items()) == {generation_key("prod"), keys.settings}


async def test_other_fleets_are_left_alone_by_a_reset(
    store: MemoryStore, operator: FleetOperator, fleet: Fleet
) -> None:
    others = {f"/hmret/1/{name}/x/settings": name for name in ("proc", "prod-eu", "prod2", "prod.b", "pro")}
    put(store, **others)
    await operator.reset()
    assert others.items() <= store.items().items()


async def test_the_status_has_every_host_that_has_told_anything(
    operator: FleetOperator, fleet: Fleet
) -> None:
    fleet.host(
        A,
        summary='{"copies":3,"bytes":12,"due":1,"due_24h":2,"policy":"0123456789abcdef","version":"0.2.0",'
        '"last_sweep":"2026-11-29T09:59:00Z"}',
    )
    fleet.host(B, live=False, summary="not JSON")
    put(fleet.store, **{fleet.keys.session(C): "m", fleet.keys.token(7): f"{A} m"})
    await operator.drain("b", "me", AT, "disk")
    status = await operator.status()
    first, second, third = status.hosts
    assert (first.host, first.holder, first.live, first.drained) == ("a", A, True, None)
    assert (first.copies, first.disk_bytes, first.due, first.due_24h) == (3, 12, 1, 2)
    assert (first.policy, first.version) == ("0123456789abcdef", "0.2.0")
    assert first.last_seen == first.last_sweep == AT - timedelta(minutes=1)
    assert (second.holder, second.live, second.copies, second.last_seen) == (B, False, None, None)
    assert second.drained is not None
    assert (second.drained.by, second.drained.at, second.drained.reason) == ("me", AT, "disk")
    assert (third.holder, third.live) == (C, False)
    assert [(one.token, one.holder) for one in status.tokens_taken] == [("07", A)]
    assert (status.fleet, status.generation, status.settings) == (
        "prod",
        fleet.keys.generation,
        FleetSettings(),
    )
    assert (status.etcd.version, status.etcd.alarms, status.etcd.warnings) == ("3.5.21", (), ())
    assert not status.rolled_back
    assert status.copies == 3


@pytest.mark.parametrize(
    ("health", "warning"),
    [
        (Health("3.4.21", 0, None, ()), "etcd 3.4.21 can lose data"),
        (Health("3.5.5", 0, None, ()), "etcd 3.5.5 can lose data"),
        (Health("3.3.27", 0, None, ()), "etcd 3.3.27 can lose data"),
        (Health("3.6.0", 5, None, ("NOSPACE",)), "etcd is full and refuses writes"),
        (Health("3.6.0", 81, 100, ()), "etcd has used 81% of its quota"),
        (Health("3.6.0", 5, None, ("CORRUPT",)), "a member of etcd is corrupt"),
        (Health("3.4.22", 0, None, ()), ""),
        (Health("3.5.6", 80, 100, ()), ""),
        (Health("3.6.0-rc.1", 0, None, ()), ""),
        (Health("main", 0, None, ()), ""),
        (Health("4.0.0", 0, None, ()), ""),
    ],
)
async def test_what_is_wrong_with_etcd_is_a_warning(
    health: Health,
    warning: str,
    client: Client,
    operator: FleetOperator,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet.store, "health", lambda: health)
    warnings = (await operator.status()).etcd.warnings
    assert [one.startswith(warning) for one in warnings] == ([True] if warning else [])


async def test_a_fleet_whose_member_does_not_tell_its_health_is_shown_all_the_same(
    client: Client, operator: FleetOperator, fleet: Fleet
) -> None:
    fleet.host(A)

    async def no_health(request: Request) -> Fate:
        return Fate.UNREACHABLE if request == "health" else Fate.DONE

    client.fate = no_health
    status = await operator.status()
    assert [host.holder for host in status.hosts] == [A]
    assert status.etcd.version is None
    assert len(status.etcd.warnings) == 1


async def test_holdings_tell_which_copies_count_and_why_others_do_not(
    operator: FleetOperator, fleet: Fleet
) -> None:
    each = digest("a")
    fleet.host(A, each)
    fleet.host(B, each, live=False)
    fleet.host(C, each, digest("b"))
    fleet.used(each, 1_790_000_000)
    await operator.drain("c", "me", AT, "")
    held = await operator.holdings(each)
    assert [(copy.host, copy.holder, copy.counted, copy.not_counted) for copy in held.holders] == [
        ("a", A, True, None),
        ("b", B, False, "dead"),
        ("c", C, False, "drained"),
    ]
    assert {(copy.since, copy.disk_bytes) for copy in held.holders} == {
        (datetime(2026, 11, 1, tzinfo=UTC), 4096)
    }
    assert held.last_used == datetime.fromtimestamp(1_790_000_000, UTC)
    assert (held.counted, held.min_copies, held.spare) == (1, 1, 0)


@pytest.mark.parametrize(
    ("own", "in_etcd", "wanted", "spare"), [(0, "0", 0, 2), (2, "1", 2, 0), (1, "2", 2, 0), (9, "1", 9, 0)]
)
async def test_spare_copies_are_those_above_the_larger_setting(
    own: int, in_etcd: str, wanted: int, spare: int, operator: FleetOperator, fleet: Fleet
) -> None:
    for holder in (A, B):
        fleet.host(holder, digest("a"))
    await operator.change("min_copies", in_etcd)
    held = await operator.holdings(digest("a"), own)
    assert (held.min_copies, held.spare) == (wanted, spare)


async def test_nobody_holds_what_nobody_has(operator: FleetOperator, fleet: Fleet) -> None:
    fleet.host(A, digest("ab"))
    held = await operator.holdings(digest("a"))
    assert (held.holders, held.counted, held.spare, held.last_used) == ((), 0, 0, None)


async def test_a_setting_is_changed_and_the_others_stay(operator: FleetOperator, fleet: Fleet) -> None:
    await operator.pause("me", AT, "why")
    changed = await operator.change("budget", "40")
    assert changed == fleet.settings()
    assert (changed.budget, changed.tokens, changed.paused) == ("40", 20, Paused("me", AT, "why"))


async def test_two_operators_lose_nothing_of_each_others_settings(
    store: MemoryStore, client: Client, operator: FleetOperator, fleet: Fleet
) -> None:
    other = FleetOperator(Client(store), "prod")
    overtaking = iter([other.change("min_copies", "2")])

    async def overtake(request: Request) -> Fate:
        if isinstance(request, Txn):
            for change in overtaking:
                await change
        return Fate.DONE

    client.fate = overtake
    await operator.change("tokens", "7")
    assert (fleet.settings().tokens, fleet.settings().min_copies) == (7, 2)


async def test_once_pause_returns_a_release_that_had_read_the_settings_before_is_refused(
    store: MemoryStore, operator: FleetOperator, fleet: Fleet
) -> None:
    key = fleet.keys.settings
    before = store.keys_at(store.revision)[key].mod_revision
    await operator.pause("me", AT, "why")
    assert store.keys_at(store.revision)[key].mod_revision > before


async def test_a_pause_that_is_on_stays_as_it_is(operator: FleetOperator, fleet: Fleet) -> None:
    await operator.pause("me", AT, "first")
    settings = await operator.pause("you", AT + timedelta(hours=1), "second")
    assert settings.paused == fleet.settings().paused == Paused("me", AT, "first")


async def test_a_pause_ends_and_may_end_twice(operator: FleetOperator, fleet: Fleet) -> None:
    await operator.pause("me", AT, "")
    assert (await operator.resume()).paused is None
    assert (await operator.resume()).paused is None
    assert fleet.settings().paused is None


async def test_a_pause_whose_answer_is_lost_is_looked_up(
    client: Client, operator: FleetOperator, fleet: Fleet
) -> None:
    async def unanswered(request: Request) -> Fate:
        return Fate.UNANSWERED if isinstance(request, Txn) else Fate.DONE

    client.fate = unanswered
    assert (await operator.pause("me", AT, "why")).paused == Paused("me", AT, "why")


async def test_a_pause_that_never_arrived_is_an_error(
    client: Client, operator: FleetOperator, fleet: Fleet
) -> None:
    async def lost(request: Request) -> Fate:
        return Fate.LOST if isinstance(request, Txn) else Fate.DONE

    client.fate = lost
    with pytest.raises(OutcomeUnknownError):
        await operator.pause("me", AT, "why")
    assert fleet.settings().paused is None


async def test_settings_that_are_not_readable_are_told_with_their_key(
    operator: FleetOperator, fleet: Fleet
) -> None:
    put(fleet.store, **{fleet.keys.settings: '{"tokens":0}'})
    with pytest.raises(FleetError, match=rf"{fleet.keys.settings}, are not readable: tokens: .*etcdctl del"):
        await operator.pause("me", AT, "")


async def test_settings_that_are_gone_are_the_defaults_and_can_be_set(
    operator: FleetOperator, fleet: Fleet
) -> None:
    fleet.store.carry_out(Txn((), (Delete(fleet.keys.settings),)))
    assert await operator.settings() == FleetSettings()
    await operator.resume()
    assert fleet.settings() == FleetSettings()


async def test_a_host_is_drained_by_its_name_or_one_holder(operator: FleetOperator, fleet: Fleet) -> None:
    again = "a.000000aa"
    for holder in (A, again, B):
        fleet.host(holder)
    assert await operator.drain(again, "me", AT, "") == (again,)
    assert await operator.drain("a", "you", AT, "") == (A, again)
    drained = {host.holder: host.drained and host.drained.by for host in (await operator.status()).hosts}
    assert drained == {A: "you", again: "me", B: None}
    assert await operator.undrain("a") == (A, again)
    assert await operator.undrain("a") == (A, again)
    assert not [host for host in (await operator.status()).hosts if host.drained]


async def test_a_host_that_never_was_is_not_found(operator: FleetOperator, fleet: Fleet) -> None:
    fleet.host(A)
    for name in ("b", "a.", "a.0000000", "0000000a", ""):
        for call in (operator.drain(name, "me", AT, ""), operator.undrain(name), operator.forget(name)):
            with pytest.raises(HostNotFoundError, match="no such host; hmret fleet status lists them"):
                await call


async def test_last_copies_are_those_without_which_too_few_would_count(
    operator: FleetOperator, fleet: Fleet
) -> None:
    alone, shared, dead, drained = map(digest, "abcd")
    fleet.host(A, alone, shared, dead, drained)
    fleet.host(B, shared)
    fleet.host(C, dead, drained, live=False)
    fleet.host("d.0000000d", drained)
    await operator.drain("a", "me", AT, "")
    await operator.drain("d", "me", AT, "")
    found = await operator.last_copies([A])
    assert [(copy.holder, copy.digest, copy.disk_bytes) for copy in found] == [
        (A, each, 4096) for each in (alone, dead, drained)
    ]
    assert {copy.digest for copy in await operator.last_copies([A], 2)} == {alone, shared, dead, drained}
    assert [copy.digest for copy in await operator.last_copies([B])] == [shared]
    await operator.undrain("a")
    assert await operator.last_copies([B]) == ()


async def test_a_copy_on_two_drained_holders_of_one_host_is_a_last_copy_of_both(
    operator: FleetOperator, fleet: Fleet
) -> None:
    again = "a.000000aa"
    for holder in (A, again):
        fleet.host(holder, digest("a"))
    holders = await operator.drain("a", "me", AT, "")
    assert [copy.holder for copy in await operator.last_copies(holders)] == [A, again]


async def test_forgetting_a_host_leaves_nothing_of_it_and_all_of_the_others(
    operator: FleetOperator, fleet: Fleet
) -> None:
    both, own = digest("a"), digest("b")
    fleet.host(A, both, own, live=False)
    fleet.host(B, both)
    fleet.used(both, 1)
    fleet.used(own, 1)
    await operator.drain("a", "me", AT, "")
    assert await operator.forget("a") == (A,)
    left = fleet.store.items(fleet.keys.root)
    assert not [key for key in left if A in key]
    assert fleet.keys.used(own) not in left
    assert {
        fleet.keys.used(both),
        fleet.keys.holding(both, B),
        fleet.keys.live(B),
        fleet.keys.summary(B),
    } <= set(left)


async def test_forgetting_goes_through_any_number_of_copies(operator: FleetOperator, fleet: Fleet) -> None:
    fleet.host(A, *(f"sha256:{number:064x}" for number in range(203)))
    fleet.host(B, *(f"sha256:{number:064x}" for number in range(100)))
    await operator.forget("a")
    assert sum(B in key for key in fleet.store.items(fleet.keys.holdings)) == 100
    assert not [key for key in fleet.store.items() if A in key]


async def test_what_a_host_registers_again_while_it_is_forgotten_stays(
    store: MemoryStore, client: Client, operator: FleetOperator, fleet: Fleet
) -> None:
    fleet.host(A, digest("a"), digest("b"))
    asked: Iterator[int] = count()

    async def come_back(request: Request) -> None:
        # Right after its session was ended.
        if isinstance(request, Txn) and fleet.keys.live(A) not in store.items() and next(asked) == 0:
            fleet.host(A, digest("b"))

    client.on_answer = come_back
    await operator.forget("a")
    assert {*store.items(fleet.keys.holdings)} == {fleet.keys.holding(digest("b"), A)}
    assert fleet.keys.live(A) in store.items()


async def test_etcd_that_does_not_answer_is_an_error_of_the_store(
    client: Client, operator: FleetOperator, fleet: Fleet
) -> None:
    client.is_cut_off = True
    for call in (operator.status(), operator.pause("me", AT, ""), operator.holdings(digest("a"))):
        with pytest.raises(StoreUnreachableError):
            await call
    assert issubclass(StoreUnreachableError, StoreError)
