"""How a host proves to etcd who it is: certificates for the channel, user and password for the role."""

import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import anyio

from hmret.fleet.failures import Failure, malformed
from hmret.fleet.wire import encode, read_token
from hmret.model.errors import ConfigError
from hmret.model.policy.fleet import FleetConfig
from hmret.model.values import frozen

Send: TypeAlias = Callable[[str, str, bytes, str], Awaitable[bytes | Failure]]
"""Sends a request to an endpoint: its URL, the path, the content, the token."""

_PATH = "/v3/auth/authenticate"


@frozen
class TlsFiles:
    """The files for `https`; empty: the certificate authorities of the host, and no certificate of one's own."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            ConfigError: one cannot be read, or does not fit.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ValueError) as error:
            raise ConfigError(f"hmret.fleet.ca_file: {self.ca_file}: {_reason(error)}") from None
        if self.cert_file:
            for key, file in (("cert_file", self.cert_file), ("key_file", self.key_file)):
                _refuse_unreadable(key, file)
            try:
                # A key that asks for a passphrase would wait at the terminal: it has none.
                context.load_cert_chain(self.cert_file, self.key_file or None, password="")
            except (OSError, ValueError) as error:
                keys, files = "cert_file", self.cert_file
                if self.key_file:
                    keys, files = "cert_file and key_file", f"{self.cert_file}, {self.key_file}"
                raise ConfigError(f"hmret.fleet.{keys}: {files}: {_reason(error)}") from None
        return context


def needs_tls(endpoints: Iterable[str]) -> bool:
    """Return whether any of these URLs is asked over TLS."""
    return any(endpoint.startswith("https") for endpoint in endpoints)


def check_files(config: FleetConfig) -> Iterator[str]:
    """Read the files of a host's settings as its engine will at the start; yields warnings about the others.

    Raises:
        ConfigError: the engine would not start with them.
    """
    if needs_tls(config.endpoints):
        TlsFiles(config.ca_file, config.cert_file, config.key_file).context()
    if config.is_set and config.user:
        try:
            _refuse_unreadable("password_file", config.password_file)
        except ConfigError as error:
            yield f"{error}, so etcd lets this host do nothing until that file is there"


def _refuse_unreadable(key: str, file: str) -> None:
    """Name the one file that cannot be read; empty: there is none."""
    if not file:
        return
    try:
        Path(file).open("rb").close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"hmret.fleet.{key}: {file}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


class Credentials:
    """The token that requests are sent with, which a member gives for user and password."""

    def __init__(self, user: str, password_file: str) -> None:
        self._user = user
        self._password_file = password_file
        self._token: str | None = None if user else ""

    @property
    def has_user(self) -> bool:
        """Whether there is somebody to get a token for."""
        return bool(self._user)

    def forget(self, token: str) -> None:
        """Have another token asked for, if this is still the one that is used."""
        if self._token == token and self._user:
            self._token = None

    async def token(self, endpoint: str, send: Send) -> str | Failure:
        """Return the token, empty where none is needed; asks the endpoint if there is none yet.

        Requests that run at the same time may each ask: waiting for one another, they would wait for a member
        that does not answer one after the other.
        """
        if self._token is not None:
            return self._token
        try:
            password = await anyio.Path(self._password_file).read_text()
        except (OSError, ValueError) as error:
            what = f"hmret.fleet.password_file: {self._password_file}: {_reason(error)}"
            return Failure(endpoint, what, was_sent=False, is_denied=True)
        document = {"name": self._user, "password": password.rstrip("\r\n")}
        found = await send(endpoint, _PATH, encode(document), "")
        if isinstance(found, Failure):
            return self._judge(found)
        try:
            self._token = token = read_token(found)
        except ValueError as error:
            return malformed(endpoint, str(error)).before_sending()
        return token

    def _judge(self, failure: Failure) -> str | Failure:
        if "authentication is not enabled" in failure.what:
            # Nobody needs a token then; one is asked for as soon as a member wants it.
            self._token = ""
            return self._token
        if "authentication failed" in failure.what:
            what = (
                f"etcd does not accept user {self._user!r} with the password in {self._password_file}; correct "
                "hmret.fleet.user or hmret.fleet.password_file"
            )
            return Failure(failure.endpoint, what, was_sent=False, is_denied=True)
        return failure.before_sending()
