"""The calls of the control API on leases."""

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from hmret.api.http.requests import read_body, read_ttl
from hmret.api.http.responses import json_response
from hmret.api.problems import Problem
from hmret.api.wire import structs_outcomes as structs, structs_requests as bodies
from hmret.api.wire.convert import document_of, documents_of
from hmret.engine.retention import Retention
from hmret.model.report import Leased
from hmret.model.values import define

_Grant = Callable[[str, str | None], Awaitable[Leased]]


@define(eq=False)
class LeaseCalls:
    """The calls, one method each."""

    _retention: Retention
    _named: Callable[[str, str | None, _Grant], Awaitable[Leased]]
    """Makes a call on an image that a client names, by a reference, a digest or a VM."""

    async def list(self, _request: Request) -> Response:
        return json_response(
            structs.LeasesDocument(documents_of(structs.LeaseDocument, self._retention.granted_leases()))
        )

    async def grant(self, request: Request) -> Response:
        body = await read_body(request, bodies.GrantLeaseBody)
        grant = partial(
            self._retention.grant_lease, owner=body.owner, reason=body.reason, ttl=read_ttl(body.ttl)
        )
        leased = await self._named(body.image, body.digest, grant)
        location = f"{request.scope.get('root_path', '')}/v1/leases/{leased.id}"
        return json_response(
            document_of(structs.LeaseDocument, leased), HTTPStatus.CREATED, location=location
        )

    async def lease(self, request: Request) -> Response:
        for leased in self._retention.granted_leases():
            if leased.id == request.path_params["id"]:
                return json_response(document_of(structs.LeaseDocument, leased))
        raise _no_lease(request)

    async def renew(self, request: Request) -> Response:
        body = await read_body(request, bodies.RenewLeaseBody)
        try:
            leased = await self._retention.renew_lease(request.path_params["id"], read_ttl(body.ttl))
        except KeyError:
            raise _no_lease(request) from None
        return json_response(document_of(structs.LeaseDocument, leased))

    async def end(self, request: Request) -> Response:
        try:
            await self._retention.end_lease(request.path_params["id"])
        except KeyError:
            raise _no_lease(request) from None
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _no_lease(request: Request) -> Problem:
    detail = f"{request.path_params['id'][:100]}: no such lease, or it has expired"
    return Problem(HTTPStatus.NOT_FOUND, "lease-not-found", detail)
