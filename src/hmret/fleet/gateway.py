"""The store of a fleet, on etcd: through its JSON gateway, from any of several members.

After any failure the next request goes to another member; none is preferred. A read that fails is sent to the
others too. A write that may have been sent is never sent again: etcd may carry it out long after its client has
given up.
"""

import os
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import anyio
import attrs
import httpx2

from hmret.fleet import wire
from hmret.fleet.credentials import Credentials, TlsFiles, needs_tls
from hmret.fleet.failures import Failure, judge_status, malformed, no_answer, not_connected, too_large
from hmret.fleet.newest import Newest
from hmret.fleet.store import (
    Health,
    OutcomeUnknownError,
    Range,
    RangeResult,
    StoreRefusedError,
    StoreUnreachableError,
    Txn,
    TxnResult,
    WrongCredentialsError,
)
from hmret.model.policy.fleet import FleetConfig
from hmret.model.records.fleet import Seen

T = TypeVar("T")

_LARGEST_ANSWER = 32 << 20
"""Bytes. The summaries of 1,000 hosts are some 400 kB."""

_MOST_CONNECTIONS = 32
"""A sweep releases 8 images at a time; besides these there are keepalives, reads and commands."""

# Other errors that a broken connection raises; OSError covers time-outs and TLS errors.
_BROKEN = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)

_REVOKE = "/v3/lease/revoke"


class Gateway:
    """A client of one etcd cluster; satisfies `hmret.fleet.store.Store`, on asyncio and trio.

    Args:
        endpoints: URLs of members, such as `http://10.0.0.1:2379`; at least one.
        timeout: seconds that a member has to accept a connection, and to answer.
        tls: files for `https` endpoints.
        user: a user of etcd; empty: none.
        password_file: the file with its password; read again whenever a token is asked for.
        first: which endpoint is asked first; None: any, so that hosts spread over the members.
        seen: the newest answer before a restart.

    Raises:
        ConfigError: the files for TLS cannot be used.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout: float = 2.0,
        tls: TlsFiles | None = None,
        user: str = "",
        password_file: str = "",
        first: int | None = None,
        seen: Seen | None = None,
    ) -> None:
        self._endpoints = tuple(_plain(endpoint) for endpoint in endpoints)
        self._next = secrets.randbelow(len(self._endpoints)) if first is None else first
        self._timeout = timeout
        self._newest = Newest(seen)
        self._credentials = Credentials(user, password_file)
        self._client = httpx2.AsyncClient(
            verify=(tls or TlsFiles()).context()
            if needs_tls(self._endpoints)
            else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            timeout=timeout,
            limits=httpx2.Limits(
                max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS
            ),
            headers={"Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
        )

    @classmethod
    def of(cls, config: FleetConfig, *, seen: Seen | None = None) -> "Gateway":
        """Make the client that the settings of a host describe.

        Raises:
            ConfigError: the files for TLS cannot be used.
        """
        return cls(
            config.endpoints,
            timeout=config.timeout.total_seconds(),
            tls=TlsFiles(config.ca_file, config.cert_file, config.key_file),
            user=config.user,
            password_file=config.password_file,
            seen=seen,
        )

    @property
    def seen(self) -> Seen | None:
        """The newest of the answers; None: none yet."""
        return self._newest.seen

    def forget_seen(self) -> None:
        """Believe whatever comes next."""
        self._newest.seen = None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def range(
        self, key: str, range_end: str = "", *, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        """Read a key or a range as of now, as `Store.range` says."""
        document = wire.range_document(Range(key, range_end, limit, keys_only))
        before = self.seen
        endpoint, result = await self._read("/v3/kv/range", document, wire.read_range)
        self._newest.believe(result, before, endpoint)
        return result

    async def transact(self, txn: Txn) -> TxnResult:
        """Carry out a transaction, as `Store.transact` says."""
        content = wire.encode(wire.txn_document(txn))
        before = self.seen
        endpoint, result = await self._write("/v3/kv/txn", content, lambda found: wire.read_txn(found, txn))
        self._newest.believe(result, before, endpoint)
        return result

    # The revision in answers about leases is that of the member that passed the request on, and may be older.

    async def grant(self, seconds: int) -> int:
        """Make a lease, as `Store.grant` says."""
        document = {"TTL": str(seconds)}
        _, lease = await self._read("/v3/lease/grant", document, wire.read_grant)
        return lease

    async def keep_alive(self, lease: int) -> int:
        """Start the time of a lease again, as `Store.keep_alive` says."""
        document = {"ID": str(lease)}
        _, left = await self._read("/v3/lease/keepalive", document, wire.read_keep_alive)
        return left

    async def revoke(self, lease: int) -> None:
        """End a lease, as `Store.revoke` says."""
        document = {"ID": str(lease)}
        with suppress(_LeaseOverError):
            await self._read(_REVOKE, document, lambda _: None)

    async def health(self) -> Health:
        """Read how the member that answers is, as `Store.health` says."""
        endpoint, health = await self._read("/v3/maintenance/status", {}, wire.read_status)
        _, alarms = await self._read("/v3/maintenance/alarm", {"action": "GET"}, wire.read_alarms)
        quota = health.quota_bytes
        if quota is None:
            found = await self._send(endpoint, "/metrics", None, "")
            quota = None if isinstance(found, Failure) else wire.read_quota(found)
        return attrs.evolve(health, quota_bytes=quota, alarms=alarms)

    async def _read(
        self, path: str, document: Mapping[str, object], read: Callable[[bytes], T]
    ) -> tuple[str, T]:
        """Ask one member after the other until one gives a result; returns who did.

        For what may be done twice: leases too, as one that nobody knows ends by itself.
        """
        content = wire.encode(document)
        failures: list[Failure] = []
        # A single member is asked twice: that it has closed a connection may show only when it is used.
        for _ in range(max(2, len(self._endpoints))):
            outcome = await self._ask(path, content, read)
            if not isinstance(outcome, Failure):
                return outcome
            _raise_if_refused(path, outcome)
            failures.append(outcome)
        raise StoreUnreachableError(_summary(failures))

    async def _write(self, path: str, content: bytes, read: Callable[[bytes], T]) -> tuple[str, T]:
        """Send a request once, to the first member that accepts a connection."""
        failures: list[Failure] = []
        for _ in self._endpoints:
            outcome = await self._ask(path, content, read)
            if not isinstance(outcome, Failure):
                return outcome
            _raise_if_refused(path, outcome)
            # guard(write-is-sent-once): etcd may carry out an unanswered request at any later time: a registration
            # after a later release, for example.
            if outcome.was_sent:
                raise OutcomeUnknownError(f"{outcome}; whether the change was made is not known")
            failures.append(outcome)
        raise StoreUnreachableError(_summary(failures))

    async def _ask(self, path: str, content: bytes, read: Callable[[bytes], T]) -> tuple[str, T] | Failure:
        """Send a request to the member whose turn it is."""
        turn = self._next
        endpoint = self._endpoints[turn]
        found = await self._send_with_token(endpoint, path, content)
        outcome: tuple[str, T] | Failure
        if isinstance(found, Failure):
            outcome = found
        else:
            try:
                outcome = endpoint, read(found)
            except ValueError as error:
                outcome = malformed(endpoint, str(error))
        if isinstance(outcome, Failure) and not outcome.is_definite and self._next == turn:
            self._next = (turn + 1) % len(self._endpoints)
        return outcome

    async def _send_with_token(self, endpoint: str, path: str, content: bytes) -> bytes | Failure:
        token = await self._credentials.token(endpoint, self._send)
        if isinstance(token, Failure):
            return token
        found = await self._send(endpoint, path, content, token)
        if isinstance(found, Failure) and found.was_sent and not found.wants_token:
            # A member restored from a backup stalls a request that carries a token from before the restore, until
            # it has caught up with that token's revision.
            self._credentials.forget(token)
        if not isinstance(found, Failure) or not found.wants_token or not self._credentials.has_user:
            return found
        # The token is over, as it is after some minutes or when the member was restarted; etcd looks at it before
        # anything else, so the request was not carried out, and sending it once more is sending it once.
        self._credentials.forget(token)
        token = await self._credentials.token(endpoint, self._send)
        return token if isinstance(token, Failure) else await self._send(endpoint, path, content, token)

    async def _send(self, endpoint: str, path: str, content: bytes | None, token: str) -> bytes | Failure:
        """Send a request; returns the content of the answer."""
        try:
            # Each step has `timeout`; an answer that drips in has twice that for all of it.
            with anyio.fail_after(2 * self._timeout):
                status, found = await self._exchange(endpoint + path, content, token)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return not_connected(endpoint, _reason(error))
        except (httpx2.HTTPError, httpx2.InvalidURL, *_BROKEN) as error:
            # What a connection breaks with is not always an error of the library: TLS that ends while an answer
            # is awaited raises its own. The request may have been carried out.
            return no_answer(endpoint, _reason(error), is_time_out=_is_time_out(error))
        if found is None:
            return too_large(endpoint, _LARGEST_ANSWER)
        failure = judge_status(endpoint, status, wire.read_error(found))
        return found if failure is None else failure

    async def _exchange(self, url: str, content: bytes | None, token: str) -> tuple[int, bytes | None]:
        headers = {"Authorization": token} if token else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        method = "GET" if content is None else "POST"
        async with self._client.stream(method, url, content=content, headers=headers) as response:
            found = bytearray()
            size = 0
            # What is too large is read to its end, or until the time is over, and not kept: trio complains of a
            # stream that is left half read.
            async for part in response.aiter_raw():
                size += len(part)
                if size <= _LARGEST_ANSWER:
                    found += part
            return response.status_code, bytes(found) if size <= _LARGEST_ANSWER else None


class _LeaseOverError(StoreRefusedError):
    """The lease is not there."""


def _raise_if_refused(path: str, failure: Failure) -> None:
    if failure.is_lease_over and path == _REVOKE:
        raise _LeaseOverError(str(failure))
    if failure.is_denied:
        raise WrongCredentialsError(str(failure))
    if failure.is_definite:
        raise StoreRefusedError(str(failure))


def _summary(failures: Sequence[Failure]) -> str:
    """Name the last failure, and who else was asked."""
    last = failures[-1]
    others = dict.fromkeys(failure.endpoint for failure in failures if failure.endpoint != last.endpoint)
    return f"{last}" + (f"; no answer from {', '.join(others)} either" if others else "")


def _plain(endpoint: str) -> str:
    """Return an endpoint without user and password, which would be in each line that a log has of a request."""
    scheme, _, rest = endpoint.rstrip("/").partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _is_time_out(error: Exception) -> bool:
    return isinstance(error, httpx2.TimeoutException | TimeoutError)


def _reason(error: Exception) -> str:
    """Return what is wrong with a connection, in one line: what TLS or the system says, where one does."""
    if _is_time_out(error):
        return "time-out"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {getattr(cause, 'reason', None) or cause} {getattr(cause, 'verify_message', '')}".rstrip()
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()) or type(error).__name__
