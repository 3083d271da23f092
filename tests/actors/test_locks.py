"""No asker that is cancelled or crashes keeps a lock, and no sweep takes what is used."""

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs
import pytest

from hmret.actors.locks import Claimed, Locks
from hmret.actors.mailbox import Mailbox, Reply
from hmret.model.errors import EngineClosedError
from hmret.model.records.leases import Lease
from support.builders import Asker, Ending, digest, end_while_queued, running, settle
from support.patience import patiently

A = digest("a")
B = digest("b")
C = digest("c")

Scope = AbstractAsyncContextManager[object]
Hold = Callable[[Locks], Scope]
"""Asks for a lock on A that lasts as long as the scope."""


def lease_of(digest: str, name: str = "lease-1") -> Lease:
    return Lease(id=name, repository="docker.io/library/a", digest=digest, owner="test", reason="a test")


def use(locks: Locks) -> Scope:
    return locks.using(A)


def lease(locks: Locks) -> Scope:
    return locks.leasing(lease_of(A))


@asynccontextmanager
async def claim(locks: Locks) -> AsyncIterator[Claimed]:
    """Claim A, and begin to work on it."""
    async with locks.claiming([A]) as claimed:
        assert claimed.begin(A)
        yield claimed


every_lock = pytest.mark.parametrize("hold", [use, lease, claim])
every_use = pytest.mark.parametrize("hold", [use, lease])


def ignore_expiry(lease: Lease) -> None:
    pass


def make_locks(on_expiry: Callable[[Lease], None] = ignore_expiry) -> Locks:
    return Locks(on_expiry)


@attrs.define(eq=False)
class Expiries:
    """Is told of leases that expire."""

    leases: list[Lease] = attrs.field(factory=list)
    told: anyio.Event = attrs.field(factory=anyio.Event)

    def tell(self, lease: Lease) -> None:
        self.leases.append(lease)
        self.told.set()


@attrs.define(eq=False)
class Holder:
    """Holds a lock in a task of its own until it is told to let go."""

    has_it: bool = False
    granted: anyio.Event = attrs.field(factory=anyio.Event)
    let_go: anyio.Event = attrs.field(factory=anyio.Event)

    async def hold(self, scope: Scope) -> None:
        async with scope:
            self.has_it = True
            self.granted.set()
            await self.let_go.wait()


@asynccontextmanager
async def held(locks: Locks, hold: Hold) -> AsyncIterator[Holder]:
    """Hold a lock in another task while the block lasts."""
    holder = Holder()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(holder.hold, hold(locks))
        await settle()
        yield holder
        holder.let_go.set()


async def given(locks: Locks, *keys: str) -> frozenset[str]:
    """Tell which of these a sweep is given that is under way."""
    async with locks.claiming(keys) as claimed:
        return claimed.digests


async def is_free(locks: Locks) -> bool:
    """Tell whether a new sweep gets A, and a user after it."""
    await settle()
    await locks.begin_sweep()
    if A not in await given(locks, A):
        return False
    async with locks.using(A):
        return not await locks.leases() and locks._users == Counter({A: 1}) and not locks._claims


# What a lock is.


async def test_a_claim_is_given_what_nobody_uses() -> None:
    async with running(make_locks()) as locks:
        assert await given(locks, A, B) == {A, B}


@every_use
async def test_a_claim_is_not_given_what_is_used_and_does_not_wait(hold: Hold) -> None:
    async with running(make_locks()) as locks, hold(locks):
        with patiently():
            assert await given(locks, A, B) == {B}


@every_use
async def test_a_claim_is_not_given_what_was_used_since_the_sweep_began(hold: Hold) -> None:
    async with running(make_locks()) as locks:
        await locks.begin_sweep()
        async with hold(locks):
            pass
        await settle()
        assert await given(locks, A, B) == {B}


@every_use
async def test_a_claim_is_not_given_what_was_in_use_when_the_sweep_began(hold: Hold) -> None:
    async with running(make_locks()) as locks:
        async with hold(locks):
            await locks.begin_sweep()
        await settle()
        assert await given(locks, A, B) == {B}


@every_use
async def test_the_next_sweep_is_given_what_was_used_before_it(hold: Hold) -> None:
    async with running(make_locks()) as locks:
        async with hold(locks):
            pass
        await settle()
        await locks.begin_sweep()
        assert await given(locks, A) == {A}


async def test_a_claim_is_not_given_what_another_claim_has() -> None:
    async with running(make_locks()) as locks, locks.claiming([A]):
        assert await given(locks, A, B) == {B}


async def test_a_claim_of_nothing_is_given_nothing() -> None:
    async with running(make_locks()) as locks:
        assert await given(locks) == frozenset()


@every_use
async def test_a_user_waits_while_the_image_is_worked_on(hold: Hold) -> None:
    async with running(make_locks()) as locks:
        holder = Holder()
        async with anyio.create_task_group() as tasks:
            async with claim(locks):
                tasks.start_soon(holder.hold, hold(locks))
                await settle()
                assert not holder.has_it
            await settle()
            assert holder.has_it
            holder.let_go.set()


async def test_a_user_waits_through_one_claim_after_another() -> None:
    async with running(make_locks()) as locks:
        holder = Holder()
        async with anyio.create_task_group() as tasks:
            async with claim(locks):
                tasks.start_soon(holder.hold, locks.using(A))
                await settle()
                _, over = locks._claims[A]
                # The next claim comes before the waiting user has its turn.
                again = Claimed([A])
                assert again.begin(A)
                locks._claims[A] = again, anyio.Event()
                next_over = locks._claims[A][1]
                over.set()
                await settle()
                assert not holder.has_it
                del locks._claims[A]
                next_over.set()
            with patiently():
                await holder.granted.wait()
            assert holder.has_it
            holder.let_go.set()


# What is claimed can be withdrawn until its turn comes.


@every_use
async def test_a_user_of_an_image_whose_turn_has_not_come_takes_it_out_of_the_claim(hold: Hold) -> None:
    async with running(make_locks()) as locks, locks.claiming([A, B]) as claimed:
        assert claimed.begin(B)
        with patiently():
            async with hold(locks):
                assert not claimed.begin(A)
        await settle()
        assert not claimed.begin(A)
        claimed.end(B)
        assert not claimed.waiting
        assert claimed.done == {B}


@every_use
async def test_a_user_waits_for_its_image_alone_and_not_for_the_rest_of_the_claim(hold: Hold) -> None:
    async with running(make_locks()) as locks, locks.claiming([A, B]) as claimed:
        assert claimed.begin(A)
        holder = Holder()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(holder.hold, hold(locks))
            await settle()
            assert not holder.has_it
            claimed.end(A)
            assert claimed.begin(B)
            with patiently():
                await holder.granted.wait()
            holder.let_go.set()
        assert claimed.done == {A}


@every_use
async def test_a_user_of_an_image_that_is_done_with_does_not_wait_for_the_claim(hold: Hold) -> None:
    async with running(make_locks()) as locks, locks.claiming([A, B]) as claimed:
        assert claimed.begin(A)
        claimed.end(A)
        with patiently():
            async with hold(locks):
                assert not claimed.begin(A)


async def test_what_was_withdrawn_is_not_released_by_the_end_of_the_claim_that_had_it() -> None:
    async with running(make_locks()) as locks:
        async with locks.claiming([A]):
            async with locks.using(A):
                pass
            await settle()
            await locks.begin_sweep()
            again = locks.claiming([A])
            claimed = await again.__aenter__()
            assert claimed.digests == {A}
            assert claimed.begin(A)
        await settle()
        assert await given(locks, A) == frozenset()
        await again.__aexit__(None, None, None)
        await settle()
        assert await given(locks, A) == {A}


async def test_everything_that_was_given_is_begun_or_nothing() -> None:
    async with running(make_locks()) as locks:
        async with locks.claiming([A, B]) as claimed:
            assert claimed.begin_all()
            holder = Holder()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(holder.hold, locks.using(A))
                await settle()
                assert not holder.has_it
                tasks.cancel_scope.cancel()
        await settle()
        await locks.begin_sweep()
        async with locks.claiming([A, B]) as claimed:
            async with locks.using(A):
                assert not claimed.begin_all()
            assert claimed.waiting == {B}


@pytest.mark.parametrize("steps", range(14))
async def test_a_user_cancelled_at_any_step_withdraws_or_does_not_and_keeps_no_lock(steps: int) -> None:
    async with running(make_locks()) as locks:
        async with locks.claiming([A]) as claimed:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(cancel_after, scope, steps)
                    async with locks.using(A):
                        assert not claimed.begin(A)
                        await anyio.sleep_forever()
            await settle()
            if claimed.begin(A):
                claimed.end(A)
        assert await is_free(locks)


@every_use
async def test_a_user_who_was_cancelled_before_its_turn_withdraws_nothing(hold: Hold) -> None:
    locks = make_locks()
    async with running(locks), locks.claiming([A]) as claimed:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with hold(locks):
                pytest.fail("a cancelled caller got in")
        await settle()
        assert claimed.begin(A)


@pytest.mark.parametrize("seed", range(4))
async def test_no_thread_works_on_an_image_while_somebody_uses_it(seed: int) -> None:
    rng = random.Random(seed)
    keys = [digest(f"{number:02}") for number in range(50)]
    users: Counter[str] = Counter()
    in_hand: set[str] = set()
    faults: list[str] = []
    used = 0

    def work(claimed: Claimed) -> None:
        for key in sorted(claimed.digests):
            if claimed.begin(key):
                in_hand.add(key)
                faults.extend([key] if users[key] else [])
                time.sleep(0.0001)
                faults.extend([key] if users[key] else [])
                in_hand.remove(key)
                claimed.end(key)

    async def use_some(locks: Locks) -> None:
        nonlocal used
        for _ in range(30):
            key = rng.choice(keys)
            with anyio.move_on_after(rng.choice((0, 0.0005, 1))):
                async with locks.using(key):
                    users[key] += 1
                    used += 1
                    faults.extend([key] if key in in_hand else [])
                    try:
                        await anyio.sleep(rng.choice((0, 0.0005)))
                    finally:
                        faults.extend([key] if key in in_hand else [])
                        users[key] -= 1

    done = 0
    with patiently():
        async with running(make_locks()) as locks, anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(use_some, locks)
            for _ in range(20):
                await locks.begin_sweep()
                async with locks.claiming(keys) as claimed:
                    await anyio.to_thread.run_sync(work, claimed)
                done += len(claimed.done)
    assert faults == []
    assert used > 50
    assert done > 50


@every_use
async def test_a_user_of_another_digest_never_waits(hold: Hold) -> None:
    async with running(make_locks()) as locks, locks.claiming([B, C]):
        with patiently():
            async with hold(locks):
                pass


async def test_users_share_an_image() -> None:
    async with running(make_locks()) as locks:
        async with locks.using(A):
            with patiently():
                async with locks.using(A), locks.leasing(lease_of(A)):
                    pass
            await settle()
            await locks.begin_sweep()
            assert await given(locks, A) == frozenset()
        assert await is_free(locks)


async def test_a_user_that_has_waited_for_a_claim_counts_as_a_use_since_the_sweep_began() -> None:
    async with running(make_locks()) as locks:
        await locks.begin_sweep()
        async with anyio.create_task_group() as tasks:
            holder = Holder()
            holder.let_go.set()
            async with claim(locks):
                tasks.start_soon(holder.hold, locks.using(A))
                await settle()
        assert await given(locks, A) == frozenset()


# Who is cancelled or crashes keeps no lock.


@every_lock
async def test_a_scope_that_ends_releases(hold: Hold) -> None:
    async with running(make_locks()) as locks:
        async with hold(locks):
            pass
        assert await is_free(locks)


@every_lock
async def test_a_caller_that_crashes_releases(hold: Hold) -> None:
    async with running(make_locks()) as locks:
        with pytest.raises(ValueError, match="crash"):
            async with hold(locks):
                raise ValueError("crash")
        assert await is_free(locks)


@every_lock
async def test_a_caller_cancelled_before_it_sends_keeps_no_lock(hold: Hold) -> None:
    async with running(make_locks()) as locks:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with hold(locks):
                pytest.fail("a cancelled caller got in")
        assert await is_free(locks)


@every_lock
async def test_a_caller_cancelled_while_the_mailbox_is_full_keeps_no_lock(hold: Hold) -> None:
    locks = make_locks()
    locks._mailbox.abandon()
    locks._mailbox = Mailbox(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(locks.leases)
        await settle()
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel_when_settled, scope)
            async with hold(locks):
                pytest.fail("nobody serves")
        assert locks.waiting == 1
        async with running(locks):
            assert await is_free(locks)


@every_lock
async def test_a_caller_cancelled_after_delivery_and_before_its_turn_keeps_no_lock(hold: Hold) -> None:
    locks = make_locks()
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel_when_settled, scope)
            async with hold(locks):
                pytest.fail("nobody serves")
        assert locks.waiting == 1
        async with running(locks):
            assert await is_free(locks)


@every_use
async def test_a_caller_cancelled_while_it_waits_for_a_claim_keeps_no_lock(hold: Hold) -> None:
    async with running(make_locks()) as locks, anyio.create_task_group() as tasks:
        async with claim(locks):
            with anyio.CancelScope() as scope:
                tasks.start_soon(cancel_when_settled, scope)
                async with hold(locks):
                    pytest.fail("the image is claimed")
        await settle()
        assert await given(locks, A) == {A}  # it never was a use
        assert await is_free(locks)


@every_lock
@pytest.mark.parametrize("order", ["cancelled, then granted", "granted, then cancelled"])
async def test_a_caller_cancelled_at_the_moment_of_the_grant_keeps_no_lock(
    hold: Hold, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give = Reply.give
    scope = anyio.CancelScope()
    is_first = True

    def give_and_cancel(reply: Reply[object], value: object) -> None:
        nonlocal is_first
        if order == "cancelled, then granted" and is_first:
            scope.cancel()
        give(reply, value)
        if is_first:
            scope.cancel()
        is_first = False

    async with running(make_locks()) as locks:
        monkeypatch.setattr(Reply, "give", give_and_cancel)
        with scope:
            async with hold(locks):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert await is_free(locks)


@every_lock
async def test_a_caller_cancelled_after_the_grant_keeps_no_lock(hold: Hold) -> None:
    async with running(make_locks()) as locks, anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with hold(locks):
                tasks.start_soon(cancel_when_settled, scope)
                await anyio.sleep_forever()
        assert await is_free(locks)


@every_lock
@pytest.mark.parametrize("steps", range(14))
async def test_a_caller_cancelled_at_any_step_keeps_no_lock(hold: Hold, steps: int) -> None:
    async with running(make_locks()) as locks, anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel_after, scope, steps)
            async with hold(locks):
                await anyio.sleep_forever()
        assert await is_free(locks)


async def cancel_when_settled(scope: anyio.CancelScope) -> None:
    await settle()
    scope.cancel()


async def cancel_after(scope: anyio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


# Leases.


async def test_leases_are_listed_while_they_last() -> None:
    async with running(make_locks()) as locks:
        async with locks.leasing(lease_of(A, "one")), locks.leasing(lease_of(B, "two")):
            assert await locks.leases() == (lease_of(A, "one"), lease_of(B, "two"))
        await settle()
        assert await locks.leases() == ()


async def test_a_lease_names_the_image_that_it_covers() -> None:
    assert lease_of(A).digest == A
    assert lease_of(A).key == (lease_of(A).repository, A)


async def test_a_lease_whose_time_is_up_releases_and_tells() -> None:
    expiries = Expiries()
    async with running(make_locks(expiries.tell)) as locks, locks.leasing(lease_of(A), 0.001):
        await expiries.told.wait()
        assert expiries.leases == [lease_of(A)]
        assert await is_free(locks)


async def test_a_lease_that_ends_in_time_is_not_told() -> None:
    expiries = Expiries()
    async with running(make_locks(expiries.tell)) as locks:
        async with locks.leasing(lease_of(A), 3600):
            pass
        await settle()
        assert expiries.leases == []


async def test_a_lease_that_expired_ends_without_harm() -> None:
    expiries = Expiries()
    async with running(make_locks(expiries.tell)) as locks:
        async with locks.leasing(lease_of(A), 0.001):
            await expiries.told.wait()
        assert await is_free(locks)
        assert expiries.leases == [lease_of(A)]


# The end of the actor.


@every_lock
async def test_a_request_that_waits_when_the_actor_is_cancelled_is_refused(hold: Hold) -> None:
    locks = make_locks()

    async def ask() -> None:
        async with hold(locks):
            pass

    asker = await end_while_queued(locks, ask, "cancelled")
    assert asker.is_refused


@every_lock
async def test_a_request_that_waits_when_the_actor_is_closed_is_answered_or_refused(hold: Hold) -> None:
    locks = make_locks()

    async def ask() -> None:
        async with hold(locks):
            pass

    asker = await end_while_queued(locks, ask, "closed")
    assert asker.is_answered


@every_use
@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_a_user_that_waits_for_a_claim_when_the_actor_ends_is_refused(
    hold: Hold, ending: Ending
) -> None:
    locks, asker, holder = make_locks(), Asker(), Holder()

    async def ask() -> None:
        async with hold(locks):
            pytest.fail("the image is claimed")

    with patiently():
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as actor:
            actor.start_soon(locks.run)
            tasks.start_soon(holder.hold, claim(locks))
            await settle()
            tasks.start_soon(asker.ask, ask)
            await settle()
            if ending == "closed":
                locks.close()
            else:
                actor.cancel_scope.cancel()
            holder.let_go.set()
    assert asker.is_refused


@every_lock
async def test_closing_while_a_lock_is_held_does_not_hang(hold: Hold) -> None:
    locks = make_locks()
    with patiently():
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as actor:
            holder = Holder()
            actor.start_soon(locks.run)
            tasks.start_soon(holder.hold, hold(locks))
            await settle()
            assert holder.has_it
            locks.close()
            await settle()
            holder.let_go.set()


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
@pytest.mark.parametrize("steps", range(6))
async def test_what_a_sweep_has_claimed_is_given_to_nobody_who_comes_as_the_actor_ends(
    ending: Ending, steps: int
) -> None:
    locks, holder = make_locks(), Holder()
    askers = [Asker() for _ in range(8)]

    async def ask() -> None:
        async with locks.using(A):
            pytest.fail("the image is claimed")

    with patiently():
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as actor:
                actor.start_soon(locks.run)
                tasks.start_soon(holder.hold, claim(locks))
                await settle()
                for asker in askers:
                    tasks.start_soon(asker.ask, ask)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                if ending == "closed":
                    locks.close()
                else:
                    actor.cancel_scope.cancel()
            await settle()
            holder.let_go.set()
    assert all(asker.is_refused for asker in askers)


async def test_a_lease_that_outlives_the_actor_is_not_told_as_expired() -> None:
    expiries = Expiries()
    async with running(make_locks(expiries.tell)) as locks:
        async with held(locks, lambda locks: locks.leasing(lease_of(A), 3600)):
            locks.close()
            await settle()
        assert expiries.leases == []


async def test_calls_after_the_end_are_refused() -> None:
    async with running(make_locks()) as locks:
        pass
    for call in (locks.begin_sweep, locks.leases):
        with pytest.raises(EngineClosedError):
            await call()
    for hold in (use, lease, claim):
        with pytest.raises(EngineClosedError):
            async with hold(locks):
                pytest.fail("the actor has ended")


# All at once.


@attrs.define(eq=False)
class Crowd:
    """Hundreds of tasks that use, lease, claim, crash and are cancelled, and what must hold meanwhile."""

    locks: Locks
    rng: random.Random
    users: Counter[str] = attrs.field(factory=Counter)
    claimed: set[str] = attrs.field(factory=set)
    refused: int = 0

    async def come(self, number: int) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                if self.rng.random() < 0.6:
                    tasks.start_soon(cancel_after, scope, self.rng.randrange(40))
                try:
                    await self.visit(number)
                except ValueError:
                    pass
                except EngineClosedError:
                    self.refused += 1
                scope.cancel()

    async def visit(self, number: int) -> None:
        await self.linger(30)
        key = self.rng.choice([A, B, C])
        kind = self.rng.choice(["use", "lease", "claim", "claim", "sweep"])
        match kind:
            case "claim":
                async with self.locks.claiming(self.rng.sample([A, B, C], 2)) as claimed:
                    await self.linger(10)
                    for key in claimed.digests:
                        if claimed.begin(key):
                            await self.work_on(key)
                            claimed.end(key)
                        await self.linger(5)
            case "sweep":
                await self.locks.begin_sweep()
            case _:
                scope = (
                    self.locks.using(key)
                    if kind == "use"
                    else self.locks.leasing(lease_of(key, f"lease-{number}"), 3600)
                )
                async with scope:
                    assert key not in self.claimed
                    self.users[key] += 1
                    try:
                        await self.linger(10)
                        assert key not in self.claimed
                    finally:
                        self.users[key] -= 1

    async def work_on(self, key: str) -> None:
        assert key not in self.claimed
        self.claimed.add(key)
        try:
            for _ in range(3):
                assert not self.users[key]
                await self.linger(5)
            assert not self.users[key]
        finally:
            self.claimed.remove(key)

    async def linger(self, steps: int) -> None:
        for _ in range(self.rng.randrange(steps)):
            await anyio.lowlevel.checkpoint()
        if self.rng.random() < 0.05:
            raise ValueError("crash")


@pytest.mark.parametrize("seed", range(6))
async def test_a_crowd_that_is_cancelled_at_random_leaves_no_lock_behind(seed: int) -> None:
    with patiently():
        async with running(make_locks()) as locks:
            crowd = Crowd(locks, random.Random(seed))
            async with anyio.create_task_group() as tasks:
                for number in range(400):
                    tasks.start_soon(crowd.come, number)
            for _ in range(2):
                assert await is_free(locks)
            assert crowd.refused == 0


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
@pytest.mark.parametrize("seed", range(6))
async def test_a_crowd_does_not_hang_when_the_actor_ends(seed: int, ending: Ending) -> None:
    locks = make_locks()
    crowd = Crowd(locks, random.Random(seed))
    with patiently():
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as actor:
            actor.start_soon(locks.run)
            for number in range(200):
                tasks.start_soon(crowd.come, number)
            for _ in range(crowd.rng.randrange(60)):
                await anyio.lowlevel.checkpoint()
            if ending == "closed":
                locks.close()
            else:
                actor.cancel_scope.cancel()
