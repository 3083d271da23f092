"""How the gateway proves who its host is, and that nobody else learns how."""

import logging
from pathlib import Path

import anyio
import pytest

from fleet.gateways import PUT, always, done, gateway_to, header
from hmret.fleet.credentials import TlsFiles
from hmret.fleet.gateway import Gateway
from hmret.fleet.store import OutcomeUnknownError, RevisionWentBackError, WrongCredentialsError
from hmret.model.errors import ConfigError
from hmret.model.policy.fleet import FleetConfig
from hmret.model.records.fleet import Seen
from support.scripted_server import CLOSE, Asked, answer, serve


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
            return answer({"header": header(), "token": f"t0ken.{self.tokens}"})
        if asked.token != f"t0ken.{self.tokens}" or self.left == 0:
            return answer({"message": "etcdserver: invalid auth token", "code": 16}, 401)
        self.left -= 1
        return done()


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    return str(file)


async def test_a_token_that_is_over_is_renewed_and_the_write_done_once(password_file: str) -> None:
    guard = _Guard()
    async with (
        serve(guard) as server,
        gateway_to(server, user="hmret", password_file=password_file) as gateway,
    ):
        for _ in range(5):
            assert (await gateway.transact(PUT)).succeeded
    assert guard.tokens == 3


async def test_a_token_to_which_nothing_is_answered_is_not_used_again(password_file: str) -> None:
    # As a member does that was put back from a backup: the token is of a time that it has not come to yet.
    tokens: list[str] = []

    def member(asked: Asked) -> bytes:
        if asked.path == "/v3/auth/authenticate":
            tokens.append(f"t0ken.{len(tokens)}")
            return answer({"header": header(), "token": tokens[-1]})
        return CLOSE if asked.token == "t0ken.0" else answer({"header": header(), "kvs": [], "count": "0"})

    async with (
        serve(member) as server,
        gateway_to(server, user="hmret", password_file=password_file) as gateway,
    ):
        assert (await gateway.range("a")).key_values == ()
    assert tokens == ["t0ken.0", "t0ken.1"]


async def test_a_wrong_password_is_told_with_the_remedy_and_a_corrected_file_is_read(
    password_file: str,
) -> None:
    await anyio.Path(password_file).write_text("wr0ng")
    async with (
        serve(_Guard()) as server,
        gateway_to(server, user="hmret", password_file=password_file) as gateway,
    ):
        for call in (gateway.transact(PUT), gateway.range("a")):
            with pytest.raises(
                WrongCredentialsError, match=r"user 'hmret' .* correct hmret.fleet.user or hmret"
            ):
                await call
        await anyio.Path(password_file).write_text("s3cret")
        assert (await gateway.transact(PUT)).succeeded


async def test_a_password_file_that_is_not_there_is_named() -> None:
    async with (
        serve(_Guard()) as server,
        gateway_to(server, user="hmret", password_file="/no/file") as gateway,
    ):
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
        return done()

    async with (
        serve(reply) as server,
        gateway_to(server, user="hmret", password_file=password_file) as gateway,
    ):
        await gateway.range("a")
        wants_users = True
        await gateway.range("a")
        assert guard.tokens == 1


async def test_a_member_that_wants_users_says_so_to_who_has_none() -> None:
    refusal = answer({"message": "etcdserver: user name is empty", "code": 3}, 400)
    async with serve(always(refusal)) as server, gateway_to(server) as gateway:
        with pytest.raises(
            WrongCredentialsError, match=r"set hmret.fleet.user and hmret.fleet.password_file"
        ):
            await gateway.transact(PUT)


async def test_neither_password_nor_token_is_in_a_message_or_a_log(
    password_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    guard = _Guard()
    replies = iter((answer("oops", 500), answer("<html>"), CLOSE))
    messages = []

    def reply(asked: Asked) -> bytes:
        return guard(asked) if asked.path == "/v3/auth/authenticate" else next(replies)

    async with serve(reply) as server:
        endpoint = server.endpoint.replace("http://", "http://somebody:h1dden@")
        async with gateway_to(endpoint, user="hmret", password_file=password_file) as gateway:
            for _ in range(3):
                with pytest.raises(OutcomeUnknownError) as caught:
                    await gateway.transact(PUT)
                messages.append(str(caught.value))
            guard.is_known = False
            gateway._credentials.forget("t0ken.1")
            with pytest.raises(WrongCredentialsError) as refused:
                await gateway.transact(PUT)
            messages.append(str(refused.value))
    told = caplog.text + "".join(messages)
    assert all(message.startswith("http://127.0.0.1:") for message in messages)
    assert [secret for secret in ("s3cret", "t0ken", "h1dden") if secret in told] == []


async def test_a_gateway_is_made_of_the_settings_of_a_host(password_file: str) -> None:
    guard = _Guard()
    async with serve(guard) as server:
        config = FleetConfig(endpoints=(server.endpoint,), user="hmret", password_file=password_file)
        gateway = Gateway.of(config, seen=Seen(cluster_id="77", revision=9))
        with pytest.raises(RevisionWentBackError):
            await gateway.range("a")
        await gateway.aclose()
    assert guard.tokens == 1


def test_files_for_tls_that_cannot_be_read_are_errors_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^hmret.fleet.ca_file: /no/file: No such file or directory$"):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(ca_file="/no/file"))
    with pytest.raises(ConfigError, match=r"^hmret.fleet.cert_file: /no/cert: No such file or directory$"):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(cert_file="/no/cert", key_file="/no/key"))
    here = tmp_path / "here"
    here.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"^hmret.fleet.key_file: /no/key: No such file or directory$"):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(cert_file=str(here), key_file="/no/key"))
    with pytest.raises(ConfigError, match=rf"^hmret.fleet.cert_file and key_file: {here}, {here}: "):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(cert_file=str(here), key_file=str(here)))
    with pytest.raises(ConfigError, match=rf"^hmret.fleet.cert_file: {here}: "):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(cert_file=str(here)))
    (tmp_path / "ca").write_text("nothing")
    with pytest.raises(ConfigError, match=r"^hmret.fleet.ca_file: "):
        Gateway(["https://127.0.0.1:1"], tls=TlsFiles(ca_file=str(tmp_path / "ca")))
