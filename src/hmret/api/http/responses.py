"""Responses that are one JSON document."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from hmret.actors.threads import Threads
from hmret.api.wire.structs import Document, encode_document

Answer = Callable[[Request], Awaitable[Response]]
"""A call of the API."""


def json_response(
    document: Document | Mapping[str, object], status: HTTPStatus = HTTPStatus.OK, **headers: str
) -> Response:
    """Make the response for a document."""
    return Response(encode_document(document), status.value, headers, media_type="application/json")


async def large_response(threads: Threads, document: Document) -> Response:
    """Make the response for a document that takes long to encode, in a thread."""
    return Response(await threads.run(encode_document, document), media_type="application/json")
