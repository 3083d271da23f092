"""Gateways to servers that answer as a test says, and such answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from hmret.fleet.gateway import Gateway
from hmret.fleet.store import Put, Txn
from support.scripted_server import Asked, ScriptedServer, answer

__all__ = ["NOWHERE", "PASSWORDS", "PUT", "Reply", "always", "done", "gateway_to", "header"]

Reply = Callable[[Asked], bytes]

PUT = Txn((), (Put("a", "1"),))
# Of the users of a secured etcd.
PASSWORDS = {"root": "r00t-secret", "hmret": "h0st-secret"}
NOWHERE = "http://127.0.0.1:1"


def header(revision: int = 5, cluster: str = "77") -> dict[str, object]:
    return {"cluster_id": cluster, "member_id": "8", "revision": str(revision)}


def done(revision: int = 5, cluster: str = "77") -> bytes:
    """Answer a read, or the transaction `PUT`."""
    responses = [{"response_put": {"header": {"revision": str(revision)}}}]
    return answer({"header": header(revision, cluster), "succeeded": True, "responses": responses})


def always(reply: bytes) -> Reply:
    return lambda _: reply


@asynccontextmanager
async def gateway_to(
    *servers: ScriptedServer | str, timeout: float = 5, **options: object
) -> AsyncIterator[Gateway]:
    endpoints = [each if isinstance(each, str) else each.endpoint for each in servers]
    gateway = Gateway(endpoints, first=0, timeout=timeout, **options)  # type: ignore[arg-type]  # the test's own
    try:
        yield gateway
    finally:
        await gateway.aclose()
