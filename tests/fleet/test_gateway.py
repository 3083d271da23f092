"""What the gateway makes of each answer, and of none: definite or unknown, another member, and what it says."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hmret.fleet import gateway as module
from hmret.fleet.credentials import TlsFiles
from hmret.fleet.gateway import Gateway
from hmret.fleet.store import (
    OutcomeUnknownError,
    Put,
    RevisionWentBackError,
    Seen,
    StoreError,
    StoreRefusedError,
    StoreUnreachableError,
    Txn,
    WrongCredentialsError,
)
from hmret.model.errors import ConfigError
from support.scripted_server import CLOSE, CUT_OFF, SILENCE, Asked, ScriptedServer, answer, serve

Reply = Callable[[Asked], bytes]

_PUT = Txn((), (Put("a", "1"),))
_NOWHERE = "http://127.0.0.1:1"


def _header(revision: int = 5, cluster: str = "77") -> dict[str, object]:
    return {"cluster_id": cluster, "member_id": "8", "revision": str(revision)}


def _done(revision: int = 5, cluster: str = "77") -> bytes:
    """Answer a read, or the transaction `_PUT`."""
    responses = [{"response_put": {"header": {"revision": str(revision)}}}]
    return answer({"header": _header(revision, cluster), "succeeded": True, "responses": responses})


def _always(reply: bytes) -> Reply:
    return lambda _: reply


@asynccontextmanager
async def _gateway(
    *servers: ScriptedServer | str, timeout: float = 5, **options: object
) -> AsyncIterator[Gateway]:
    endpoints = [each if isinstance(each, str) else each.endpoint for each in servers]
    gateway = Gateway(endpoints, timeout=timeout, **options)  # type: ignore[arg-type]  # the test's own
    try:
        yield gateway
    finally:
        await gateway.aclose()


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
        {"header": _header(), "succeeded": True, "responses": [{"response_range": {}}]}
    ),
    "fewer results": answer({"header": _header(), "succeeded": True}),
    "no such path": answer("Not Found", 404),
    "no lease of that number": answer({"message": "etcdserver: requested lease not found", "code": 5}, 404),
    "half an answer": CUT_OFF,
}


@pytest.mark.parametrize("reply", _NOT_DEFINITE.values(), ids=_NOT_DEFINITE)
async def test_a_write_is_sent_once_and_its_outcome_is_unknown_but_for_200_and_400(reply: bytes) -> None:
    async with (
        serve(_always(reply)) as first,
        serve(_always(_done())) as second,
        _gateway(first, second) as gateway,
    ):
        with pytest.raises(OutcomeUnknownError, match=f"^{first.endpoint}: ") as caught:
            await gateway.transact(_PUT)
        assert "\n" not in str(caught.value)
        assert len(first.asked) == 1
        assert second.asked == []
        # The next request goes to another member, and stays there.
        await gateway.transact(_PUT)
        await gateway.transact(_PUT)
        assert len(first.asked) == 1


@pytest.mark.parametrize("reply", [*_NOT_DEFINITE.values()][:7], ids=[*_NOT_DEFINITE][:7])
async def test_a_read_that_fails_is_sent_to_another_member(reply: bytes) -> None:
    async with (
        serve(_always(reply)) as first,
        serve(_always(_done())) as second,
        _gateway(first, second) as gateway,
    ):
        assert (await gateway.range("a")).revision == 5
        assert len(first.asked) == len(second.asked) == 1


async def test_a_member_that_says_nothing_is_given_up_after_the_timeout() -> None:
    async with serve(_always(SILENCE)) as silent, _gateway(silent, timeout=0.2) as gateway:
        with pytest.raises(OutcomeUnknownError, match=r"did not answer \(time-out\).* majority"):
            await gateway.transact(_PUT)


async def test_a_write_that_no_connection_took_was_not_sent_and_goes_to_another_member() -> None:
    async with serve(_always(_done())) as server, _gateway(_NOWHERE, server) as gateway:
        assert (await gateway.transact(_PUT)).succeeded
        assert len(server.asked) == 1


async def test_where_nobody_takes_a_connection_a_write_is_unreachable_and_all_are_named() -> None:
    async with _gateway(_NOWHERE, "http://127.0.0.1:2") as gateway:
        with pytest.raises(
            StoreUnreachableError, match=r"127\.0\.0\.1:2: cannot connect \(Connection refused\); .*:1 either"
        ):
            await gateway.transact(_PUT)


async def test_a_definite_no_is_told_and_the_member_is_not_changed() -> None:
    refusal = answer({"message": "etcdserver: too many operations in txn request", "code": 3}, 400)
    async with (
        serve(_always(refusal)) as first,
        serve(_always(_done())) as second,
        _gateway(first, second) as gateway,
    ):
        for _ in range(2):
            with pytest.raises(StoreRefusedError, match="too many operations"):
                await gateway.transact(_PUT)
        with pytest.raises(StoreRefusedError):
            await gateway.range("a")
        assert second.asked == []


async def test_a_role_that_does_not_suffice_is_told_as_that() -> None:
    denial = answer({"message": "etcdserver: permission denied", "code": 7}, 403)
    async with serve(_always(denial)) as server, _gateway(server) as gateway:
        with pytest.raises(WrongCredentialsError, match="grant the role"):
            await gateway.transact(_PUT)


async def test_full_is_told_with_the_remedy() -> None:
    async with serve(_always(_NOT_DEFINITE["full"])) as server, _gateway(server) as gateway:
        with pytest.raises(OutcomeUnknownError, match=r"etcd is full .* alarm disarm"):
            await gateway.transact(_PUT)


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_ANSWER", 1000)
    async with serve(_always(answer("x" * 1001))) as server, _gateway(server) as gateway:
        with pytest.raises(StoreUnreachableError, match="larger than"):
            await gateway.range("a")


async def test_an_answer_that_is_older_than_one_before_it_is_not_believed() -> None:
    revisions = iter((9, 8, 7))
    async with serve(lambda _: _done(next(revisions))) as server, _gateway(server) as gateway:
        await gateway.transact(_PUT)
        for call in (gateway.transact(_PUT), gateway.range("a")):
            with pytest.raises(RevisionWentBackError, match="restored from a backup; run hmret fleet reset"):
                await call
        assert gateway.seen == Seen(9, "77")


async def test_what_was_seen_before_a_restart_counts() -> None:
    async with serve(_always(_done(8))) as server, _gateway(server, seen=Seen(9, "77")) as gateway:
        with pytest.raises(RevisionWentBackError):
            await gateway.range("a")
        gateway.forget_seen()
        assert (await gateway.range("a")).revision == 8
        assert gateway.seen == Seen(8, "77")


async def test_another_cluster_is_not_believed() -> None:
    async with serve(_always(_done(900, "78"))) as server, _gateway(server, seen=Seen(9, "77")) as gateway:
        with pytest.raises(RevisionWentBackError, match="cluster 78, and it was 77"):
            await gateway.range("a")
        assert gateway.seen == Seen(9, "77")


async def test_an_answer_may_be_overtaken_by_one_that_was_asked_for_later() -> None:
    """The first request is answered with revision 5 after the second, sent meanwhile, was answered with 9."""
    asked, told = anyio.Event(), anyio.Event()

    async with (
        serve(lambda asked: _done(5)) as slow,
        serve(_always(_done(9))) as server,
        _gateway(slow, server) as gateway,
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
        assert gateway.seen == Seen(9, "77")


async def test_answers_about_leases_may_be_older_as_their_member_only_passes_them_on() -> None:
    def reply(asked: Asked) -> bytes:
        if asked.path == "/v3/lease/keepalive":
            return answer({"result": {"header": _header(2), "ID": "3", "TTL": "60"}})
        return _done(9)

    async with serve(reply) as server, _gateway(server) as gateway:
        await gateway.range("a")
        assert await gateway.keep_alive(3) == 60


async def test_a_lease_that_is_over_has_no_seconds_left() -> None:
    async with (
        serve(_always(answer({"result": {"header": _header(), "ID": "3"}}))) as server,
        _gateway(server) as gateway,
    ):
        assert await gateway.keep_alive(3) == 0


async def test_a_keepalive_that_fails_is_no_lease_that_is_over() -> None:
    async with (
        serve(_always(answer({"error": {"message": "no leader"}}))) as server,
        _gateway(server) as gateway,
    ):
        with pytest.raises(StoreUnreachableError):
            await gateway.keep_alive(3)


async def test_each_request_is_counted_by_kind_and_outcome() -> None:
    counted: list[tuple[str, str]] = []
    replies = iter((_done(), _NOT_DEFINITE["full"], answer({"message": "no"}, 400), CLOSE, CLOSE))
    async with (
        serve(lambda _: next(replies)) as server,
        _gateway(server, count=lambda kind, outcome: counted.append((kind, outcome))) as gateway,
    ):
        await gateway.range("a")
        for call in (gateway.transact(_PUT), gateway.transact(_PUT), gateway.range("a")):
            with pytest.raises(StoreError):
                await call
    assert counted == [("range", "ok"), ("txn", "unknown"), ("txn", "refused"), ("range", "unreachable")]


class _Guard:
    """A member that wants tokens: each is good for two requests."""

    def __init__(self) -> None:
        self.tokens = 0
        self.left = 0
        self.is_known = True

    def __call__(self, asked: Asked) -> bytes:
        if asked.path == "/v3/auth/authenticate":
            if not self.is_known or asked.document != {"name": "hmret", "password": "s3cret"}:
                text = "etcdserver: authentication failed, invalid user ID or password"
                return answer({"message": text, "code": 3}, 400)
            self.tokens, self.left = self.tokens + 1, 2
            return answer({"header": _header(), "token": f"t0ken.{self.tokens}"})
        if asked.token != f"t0ken.{self.tokens}" or self.left == 0:
            return answer({"message": "etcdserver: invalid auth token", "code": 16}, 401)
        self.left -= 1
        return _done()


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    return str(file)


async def test_a_token_that_is_over_is_renewed_and_the_write_done_once(password_file: str) -> None:
    guard = _Guard()
    async with serve(guard) as server, _gateway(server, user="hmret", password_file=password_file) as gateway:
        for _ in range(5):
            assert (await gateway.transact(_PUT)).succeeded
    assert guard.tokens == 3


async def test_a_wrong_password_is_told_with_the_remedy_and_a_corrected_file_is_read(
    password_file: str,
) -> None:
    await anyio.Path(password_file).write_text("wr0ng")
    async with (
        serve(_Guard()) as server,
        _gateway(server, user="hmret", password_file=password_file) as gateway,
    ):
        for call in (gateway.transact(_PUT), gateway.range("a")):
            with pytest.raises(
                WrongCredentialsError, match=r"user 'hmret' .* correct hmret.fleet.user or hmret"
            ):
                await call
        await anyio.Path(password_file).write_text("s3cret")
        assert (await gateway.transact(_PUT)).succeeded


async def test_a_password_file_that_is_not_there_is_named() -> None:
    async with serve(_Guard()) as server, _gateway(server, user="hmret", password_file="/no/file") as gateway:
        with pytest.raises(WrongCredentialsError, match=r"hmret.fleet.password_file: /no/file: No such file"):
            await gateway.range("a")


async def test_where_etcd_wants_no_users_none_is_told_until_it_does(password_file: str) -> None:
    guard = _Guard()
    wants_users = False

    def reply(asked: Asked) -> bytes:
        if wants_users:
            return guard(asked)
        if asked.path == "/v3/auth/authenticate":
            return answer({"message": "etcdserver: authentication is not enabled", "code": 9}, 412)
        return _done()

    async with serve(reply) as server, _gateway(server, user="hmret", password_file=password_file) as gateway:
        await gateway.range("a")
        wants_users = True
        await gateway.range("a")
        assert guard.tokens == 1


async def test_a_member_that_wants_users_says_so_to_who_has_none() -> None:
    refusal = answer({"message": "etcdserver: user name is empty", "code": 3}, 400)
    async with serve(_always(refusal)) as server, _gateway(server) as gateway:
        with pytest.raises(
            WrongCredentialsError, match=r"set hmret.fleet.user and hmret.fleet.password_file"
        ):
            await gateway.transact(_PUT)


async def test_neither_password_nor_token_is_in_a_message_or_a_log(
    password_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    guard = _Guard()
    replies = iter((_NOT_DEFINITE["full"], _NOT_DEFINITE["no JSON"], CLOSE))
    messages = []

    def reply(asked: Asked) -> bytes:
        return guard(asked) if asked.path == "/v3/auth/authenticate" else next(replies)

    async with serve(reply) as server:
        endpoint = server.endpoint.replace("http://", "http://somebody:h1dden@")
        async with _gateway(endpoint, user="hmret", password_file=password_file) as gateway:
            for _ in range(3):
                with pytest.raises(OutcomeUnknownError) as caught:
                    await gateway.transact(_PUT)
                messages.append(str(caught.value))
            guard.is_known = False
            gateway._credentials.forget("t0ken.1")
            with pytest.raises(WrongCredentialsError) as refused:
                await gateway.transact(_PUT)
            messages.append(str(refused.value))
    told = caplog.text + "".join(messages)
    assert all(message.startswith("http://127.0.0.1:") for message in messages)
    assert [secret for secret in ("s3cret", "t0ken", "h1dden") if secret in told] == []


async def test_proxies_of_the_environment_are_not_for_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", _NOWHERE)
    monkeypatch.setenv("ALL_PROXY", _NOWHERE)
    async with serve(_always(_done())) as server, _gateway(server) as gateway:
        assert (await gateway.range("a")).revision == 5


def test_files_for_tls_that_cannot_be_read_are_errors_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^hmret.fleet.ca_file: /no/file: No such file or directory$"):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(ca_file="/no/file"))
    with pytest.raises(
        ConfigError, match=r"^hmret.fleet.cert_file and key_file: /no/cert, /no/key: No such file"
    ):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(cert_file="/no/cert", key_file="/no/key"))
    (tmp_path / "ca").write_text("nothing")
    with pytest.raises(ConfigError, match=r"^hmret.fleet.ca_file: "):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(ca_file=str(tmp_path / "ca")))
