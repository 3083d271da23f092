"""Errors as `application/problem+json`.

Source of the format: RFC 9457.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hmret.api.wire.structs import encode_document
from hmret.api.wire.structs_outcomes import ProblemDocument
from hmret.model.errors import (
    EngineClosedError,
    ImageExistsError,
    ImageNotFoundError,
    InvalidReferenceError,
)

PROBLEM_TYPE = "urn:hmret:problem:"
"""Prefix of the `type` of all our own problems; all others are `about:blank`."""

_logger = logging.getLogger("hmret.api")


class Problem(HTTPException):
    """A request that cannot be answered; `kind` is an identifier for programs, `detail` one line for people."""

    def __init__(
        self, status: HTTPStatus, kind: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status.value, detail, headers)
        self.kind = kind


def problem_response(error: HTTPException) -> Response:
    """Make the response for a problem."""
    kind = error.kind if isinstance(error, Problem) else ""
    document = ProblemDocument(
        type=f"{PROBLEM_TYPE}{kind}" if kind else "about:blank",
        title=HTTPStatus(error.status_code).phrase,
        status=error.status_code,
        detail=error.detail,
    )
    headers = dict(error.headers or {})
    return Response(
        encode_document(document), error.status_code, headers, media_type="application/problem+json"
    )


_KINDS: tuple[tuple[type[Exception], HTTPStatus, str], ...] = (
    (InvalidReferenceError, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-reference"),
    (ImageNotFoundError, HTTPStatus.NOT_FOUND, "image-not-found"),
    (ImageExistsError, HTTPStatus.CONFLICT, "image-exists"),
    (EngineClosedError, HTTPStatus.SERVICE_UNAVAILABLE, "engine-stopped"),
    (ClientDisconnect, HTTPStatus.BAD_REQUEST, "disconnected"),
)


def problem_of(error: Exception, request: Request) -> HTTPException:
    """Convert an exception raised by a call to a problem; unexpected ones are logged with their traceback."""
    if isinstance(error, HTTPException):
        return error
    for kind, status, word in _KINDS:
        if isinstance(error, kind):
            return Problem(status, word, str(error))
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        detail = f"{where}{error.strerror or str(error)}"
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "disk", detail)
    _logger.error("request_failed %s %s", request.method, request.url.path, exc_info=error)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", f"{type(error).__name__}: see the log")
