"""Reading requests: bodies bounded in size and time, and validated parameters."""

from collections.abc import Collection, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TypeVar

import anyio
import msgspec
from starlette.requests import Request

from hmret.api.problems import Problem
from hmret.api.wire.structs_requests import has_required_fields
from hmret.model.durations import parse_span
from hmret.model.times import SECOND, datetime_of, parse_time
from hmret.settings.source_location import name_unknown

LARGEST_BODY = 64 * 1024
"""In bytes; the longest references have a few hundred."""

BODY_SECONDS = 10.0
"""How long a client may take to send a body."""

# Bytes of a body that is too large that are read and discarded, so that the client gets to read the response.
_DRAINED = 1024 * 1024

_LONGEST_NS = (1 << 63) - 1

T = TypeVar("T", bound=msgspec.Struct)


async def read_body(request: Request, kind: type[T]) -> T:
    """Read a request's body as JSON; where every field is optional, no body at all stands for `{}`.

    Raises:
        Problem: it is too large (413), too slow (408), not declared as JSON (415), not valid JSON (400), or
        does not match the schema (422).
    """
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    may_be_absent = not has_required_fields(kind)
    if declared != "application/json" and (declared or not may_be_absent):
        raise _not_json(declared)
    content = await _read(request)
    if not content and may_be_absent:
        return kind()
    if not declared:
        raise _not_json(declared)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", str(error)) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid-json", " ".join(str(error).split())) from None


def _not_json(declared: str) -> Problem:
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "not-json",
        f"expected content-type application/json, got {declared or 'none'}",
    )


async def _read(request: Request) -> bytes:
    content = bytearray()
    size_bytes = 0
    try:
        with anyio.fail_after(BODY_SECONDS):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    size_bytes += len(chunk)
                    if size_bytes <= LARGEST_BODY:
                        content += chunk
                    elif size_bytes > _DRAINED:
                        break
    except TimeoutError:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            "slow-body",
            f"the body did not arrive within {BODY_SECONDS:.0f}s",
            {"connection": "close"},
        ) from None
    if size_bytes > LARGEST_BODY:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body-too-large",
            f"expected at most {LARGEST_BODY} bytes",
            {"connection": "close"},
        )
    return bytes(content)


def refuse_unknown_parameters(request: Request, known: Collection[str]) -> None:
    """Make sure that a request has no parameters but these.

    Raises:
        Problem: it has one that would have no effect.
    """
    for name in request.query_params:
        # guard(unknown-parameter-is-refused): A misspelt limit, filter or time would have another answer taken for
        # the one that was asked for.
        if name not in known:
            detail = name_unknown(name[:100], known) if known else "unknown, this call takes no parameters"
            raise _invalid(name[:100], detail)


def read_ttl(ttl: float | str) -> timedelta:
    """Parse the duration of a lease: seconds as a number, or a duration as text, such as `10m` or `7d`.

    Raises:
        Problem: it is neither, is not positive, or is longer than about 292 years.
    """
    try:
        if isinstance(ttl, str):
            nanoseconds = parse_span(ttl)
        else:
            # Without this check a huge value could overflow to infinity.
            nanoseconds = round(ttl * SECOND) if 0 < ttl < _LONGEST_NS else -1
    except ValueError as error:
        raise _invalid("ttl", str(error)) from None
    if not 0 < nanoseconds <= _LONGEST_NS:
        raise _invalid(
            "ttl",
            f"expected seconds or a duration such as 10m or 7d, more than zero and at most 2562047h, got {ttl!r}",
        )
    # Rounded up to a microsecond, so that it is never zero.
    return timedelta(microseconds=-(-nanoseconds // 1000))


def read_moment(request: Request, name: str) -> datetime | None:
    """Parse a parameter that is an RFC 3339 time; None: not given.

    Raises:
        Problem: it is not a valid time.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        # An unescaped plus sign arrives as a space.
        return datetime_of(parse_time(text.replace(" ", "+")))
    except ValueError as error:
        raise _invalid(name, str(error)) from None


def read_count(request: Request, name: str, default: int, largest: int) -> int:
    """Parse a parameter that is a positive integer.

    Raises:
        Problem: it is not one, or is too large.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < len(str(_LONGEST_NS))):
        raise _invalid(name, f"expected a number from 1 to {largest}, got {text[:100]!r}")
    if not 1 <= int(text) <= largest:
        raise _invalid(name, f"expected a number from 1 to {largest}, got {text}")
    return int(text)


def read_choice(request: Request, name: str, choices: Sequence[str]) -> str:
    """Parse a parameter that is one of several words; default: the first.

    Raises:
        Problem: it is none of them.
    """
    text = request.query_params.get(name, choices[0])
    if text not in choices:
        raise _invalid(name, f"expected one of {', '.join(filter(None, choices))}, got {text[:100]!r}")
    return text


def _invalid(name: str, detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-parameter", f"{name}: {detail}")
