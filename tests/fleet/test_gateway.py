"""What the gateway makes of each answer, and of none: definite or unknown, another member, and what it says."""

import errno
import ssl
from typing import NoReturn

import anyio
import pytest

from fleet.gateways import NOWHERE, PUT, always, done, gateway_to, header
from hmret.fleet import gateway as module
from hmret.fleet.store import (
    OutcomeUnknownError,
    RevisionWentBackError,
    StoreRefusedError,
    StoreUnreachableError,
    WrongCredentialsError,
)
from hmret.model.records.fleet import Seen
from support.scripted_server import CLOSE, CUT_OFF, SILENCE, Asked, answer, serve

_NOT_DEFINITE = {
    "no answer": CLOSE,
    "no leader": answer({"message": "etcdserver: no leader", "code": 14}, 503),
    "a time-out of its own": answer({"message": "etcdserver: request timed out", "code": 14}, 503),
    "full": answer({"message": "etcdserver: mvcc: database space exceeded", "code": 8}, 429),
    "an error": answer("oops", 500),
    "a redirection": b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "no JSON": answer("<html>"),
    "another document": answer({"hello": "world"}),
    "results of other operations": answer(
        {"header": header(), "succeeded": True, "responses": [{"response_range": {}}]}
    ),
    "fewer results": answer({"header": header(), "succeeded": True}),
    "no such path": answer("Not Found", 404),
    "no lease of that number": answer({"message": "etcdserver: requested lease not found", "code": 5}, 404),
    "half an answer": CUT_OFF,
}


@pytest.mark.parametrize("reply", _NOT_DEFINITE.values(), ids=_NOT_DEFINITE)
async def test_a_write_is_sent_once_and_its_outcome_is_unknown_but_for_200_and_400(reply: bytes) -> None:
    async with (
        serve(always(reply)) as first,
        serve(always(done())) as second,
        gateway_to(first, second) as gateway,
    ):
        with pytest.raises(OutcomeUnknownError, match=f"^{first.endpoint}: ") as caught:
            await gateway.transact(PUT)
        assert "\n" not in str(caught.value)
        assert len(first.asked) == 1
        assert second.asked == []
        # The next request goes to another member, and stays there.
        await gateway.transact(PUT)
        await gateway.transact(PUT)
        assert len(first.asked) == 1


_BREAKS = (
    ssl.SSLError(1, "sslv3 alert bad certificate"),
    OSError(errno.EPIPE, "Broken pipe"),
    TimeoutError(),
    anyio.BrokenResourceError(),
    anyio.ClosedResourceError(),
    anyio.EndOfStream(),
)


@pytest.mark.parametrize("error", _BREAKS, ids=[type(error).__name__ for error in _BREAKS])
async def test_whatever_a_connection_breaks_with_a_write_may_have_been_carried_out_and_a_read_has_not(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> NoReturn:
        raise error

    async with serve(always(done())) as server, gateway_to(server) as gateway:
        monkeypatch.setattr(gateway, "_exchange", broken)
        with pytest.raises(OutcomeUnknownError):
            await gateway.transact(PUT)
        with pytest.raises(StoreUnreachableError):
            await gateway.range("a")


@pytest.mark.parametrize("reply", [*_NOT_DEFINITE.values()][:7], ids=[*_NOT_DEFINITE][:7])
async def test_a_read_that_fails_is_sent_to_another_member(reply: bytes) -> None:
    async with (
        serve(always(reply)) as first,
        serve(always(done())) as second,
        gateway_to(first, second) as gateway,
    ):
        assert (await gateway.range("a")).revision == 5
        assert len(first.asked) == len(second.asked) == 1


async def test_a_member_that_says_nothing_is_given_up_after_the_timeout() -> None:
    async with serve(always(SILENCE)) as silent, gateway_to(silent, timeout=0.2) as gateway:
        with pytest.raises(OutcomeUnknownError, match=r"did not answer \(time-out\).* majority"):
            await gateway.transact(PUT)


async def test_a_write_that_no_connection_took_was_not_sent_and_goes_to_another_member() -> None:
    async with serve(always(done())) as server, gateway_to(NOWHERE, server) as gateway:
        assert (await gateway.transact(PUT)).succeeded
        assert len(server.asked) == 1


async def test_where_nobody_takes_a_connection_a_write_is_unreachable_and_all_are_named() -> None:
    async with gateway_to(NOWHERE, "http://127.0.0.1:2") as gateway:
        with pytest.raises(
            StoreUnreachableError, match=r"127\.0\.0\.1:2: cannot connect \(Connection refused\); .*:1 either"
        ):
            await gateway.transact(PUT)


async def test_a_definite_no_is_told_and_the_member_is_not_changed() -> None:
    refusal = answer({"message": "etcdserver: too many operations in txn request", "code": 3}, 400)
    async with (
        serve(always(refusal)) as first,
        serve(always(done())) as second,
        gateway_to(first, second) as gateway,
    ):
        for _ in range(2):
            with pytest.raises(StoreRefusedError, match="too many operations"):
                await gateway.transact(PUT)
        with pytest.raises(StoreRefusedError):
            await gateway.range("a")
        assert second.asked == []


async def test_a_role_that_does_not_suffice_is_told_as_that() -> None:
    denial = answer({"message": "etcdserver: permission denied", "code": 7}, 403)
    async with serve(always(denial)) as server, gateway_to(server) as gateway:
        with pytest.raises(WrongCredentialsError, match="grant the role"):
            await gateway.transact(PUT)


async def test_full_is_told_with_the_remedy() -> None:
    async with serve(always(_NOT_DEFINITE["full"])) as server, gateway_to(server) as gateway:
        with pytest.raises(OutcomeUnknownError, match=r"etcd is full .* alarm disarm"):
            await gateway.transact(PUT)


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_ANSWER", 1000)
    async with serve(always(answer("x" * 1001))) as server, gateway_to(server) as gateway:
        with pytest.raises(StoreUnreachableError, match="larger than"):
            await gateway.range("a")


async def test_an_answer_that_is_older_than_one_before_it_is_not_believed() -> None:
    revisions = iter((9, 8, 7))
    async with serve(lambda _: done(next(revisions))) as server, gateway_to(server) as gateway:
        await gateway.transact(PUT)
        for call in (gateway.transact(PUT), gateway.range("a")):
            with pytest.raises(RevisionWentBackError, match="restored from a backup; run hmret fleet reset"):
                await call
        assert gateway.seen == Seen(cluster_id="77", revision=9)


async def test_what_was_seen_before_a_restart_counts() -> None:
    async with (
        serve(always(done(8))) as server,
        gateway_to(server, seen=Seen(cluster_id="77", revision=9)) as gateway,
    ):
        with pytest.raises(RevisionWentBackError):
            await gateway.range("a")
        gateway.forget_seen()
        assert (await gateway.range("a")).revision == 8
        assert gateway.seen == Seen(cluster_id="77", revision=8)


async def test_another_cluster_is_not_believed() -> None:
    async with (
        serve(always(done(900, "78"))) as server,
        gateway_to(server, seen=Seen(cluster_id="77", revision=9)) as gateway,
    ):
        with pytest.raises(RevisionWentBackError, match="cluster 78, and it was 77"):
            await gateway.range("a")
        assert gateway.seen == Seen(cluster_id="77", revision=9)


async def test_an_answer_may_be_overtaken_by_one_that_was_asked_for_later() -> None:
    """The first request is answered with revision 5 after the second, sent meanwhile, was answered with 9."""
    asked, told = anyio.Event(), anyio.Event()

    async with (
        serve(lambda asked: done(5)) as slow,
        serve(always(done(9))) as server,
        gateway_to(slow, server) as gateway,
    ):
        real = gateway._exchange

        async def wait(url: str, content: bytes | None, token: str) -> tuple[int, bytes | None]:
            found = await real(url, content, token)
            if url.startswith(slow.endpoint):
                asked.set()
                await told.wait()
            return found

        gateway._exchange = wait  # type: ignore[method-assign]  # holds an answer back
        revisions = []

        async def read() -> None:
            revisions.append((await gateway.range("a")).revision)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await asked.wait()
            gateway._next = 1
            await read()
            told.set()
        assert revisions == [9, 5]
        assert gateway.seen == Seen(cluster_id="77", revision=9)


async def test_answers_about_leases_may_be_older_as_their_member_only_passes_them_on() -> None:
    def reply(asked: Asked) -> bytes:
        if asked.path == "/v3/lease/keepalive":
            return answer({"result": {"header": header(2), "ID": "3", "TTL": "60"}})
        return done(9)

    async with serve(reply) as server, gateway_to(server) as gateway:
        await gateway.range("a")
        assert await gateway.keep_alive(3) == 60


async def test_a_lease_that_is_over_has_no_seconds_left() -> None:
    async with (
        serve(always(answer({"result": {"header": header(), "ID": "3"}}))) as server,
        gateway_to(server) as gateway,
    ):
        assert await gateway.keep_alive(3) == 0


async def test_a_keepalive_that_fails_is_no_lease_that_is_over() -> None:
    async with (
        serve(always(answer({"error": {"message": "no leader"}}))) as server,
        gateway_to(server) as gateway,
    ):
        with pytest.raises(StoreUnreachableError):
            await gateway.keep_alive(3)


async def test_proxies_of_the_environment_are_not_for_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", NOWHERE)
    monkeypatch.setenv("ALL_PROXY", NOWHERE)
    async with serve(always(done())) as server, gateway_to(server) as gateway:
        assert (await gateway.range("a")).revision == 5
