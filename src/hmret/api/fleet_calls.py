"""The calls of the control API on the fleet; where the host is in none, each is answered with `no-fleet`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import anyio
import attrs
from starlette.requests import Request
from starlette.responses import Response

from hmret.actors.threads import WorkerThreads
from hmret.api.http.requests import read_body
from hmret.api.http.responses import Answer, json_response, large_response
from hmret.api.problems import Problem
from hmret.api.wire import structs_fleet as structs
from hmret.engine.retention import Retention
from hmret.model.errors import ConfigError, FleetError, HostNotFoundError, ImageNotFoundError
from hmret.model.references import digest_in
from hmret.model.values import define

if TYPE_CHECKING:
    from hmret.engine.fleet.host_fleet import HostFleet
    from hmret.fleet.overview import FleetStatus
    from hmret.model.fleet import FleetSettings, FleetState

T = TypeVar("T")

FRESH_SECONDS = 1.0
"""How old the hosts of a fleet may be in an answer: pages of many hosts ask for them again and again."""


@define(eq=False)
class FleetCalls:
    """The calls, one method each."""

    _retention: Retention
    _place_to_plan: Callable[[], AbstractAsyncContextManager[None]]
    """Limits how many ask what takes long at once: plans, and all of etcd beside the hosts."""
    _threads: WorkerThreads
    _asking: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)
    _asked_at: float = attrs.field(default=float("-inf"), init=False)
    _asked_in: "FleetState | None" = attrs.field(default=None, init=False)
    """How this host stood to the fleet when the hosts were asked for."""
    _known: "FleetStatus | None" = attrs.field(default=None, init=False)
    _problem: str | None = attrs.field(default=None, init=False)

    def reads(self) -> Mapping[str, Mapping[str, Answer]]:
        """Return the calls that change nothing, by path and method."""
        return {
            "/v1/fleet": {"GET": self.status},
            "/v1/fleet/holdings": {"GET": self.holdings},
        }

    def writes(self) -> Mapping[str, Mapping[str, Answer]]:
        """Return those for which a client must be trusted."""
        return {
            "/v1/fleet/plan": {"GET": self.plan},
            "/v1/fleet/init": {"POST": self.init},
            "/v1/fleet/reset": {"POST": self.reset},
            "/v1/fleet/set": {"POST": self.set},
            "/v1/fleet/pause": {"POST": self.pause},
            "/v1/fleet/resume": {"POST": self.resume},
            "/v1/fleet/drain": {"POST": self.drain},
            "/v1/fleet/undrain": {"POST": self.undrain},
            "/v1/fleet/forget": {"POST": self.forget},
        }

    async def status(self, _request: Request) -> Response:
        fleet = self._fleet()
        from hmret.api.wire.convert_fleet import fleet_document  # noqa: PLC0415 - only where there is a fleet

        local = fleet.local_status()
        status, problem = await self._hosts(fleet, local.state)
        if problem is not None and local.detail is None:
            local = attrs.evolve(local, detail=problem)
        return json_response(fleet_document(local, status))

    async def holdings(self, request: Request) -> Response:
        fleet = self._fleet()
        from hmret.api.wire.convert_fleet import holdings_document  # noqa: PLC0415 - the same

        image = request.query_params.get("image", "")
        if not image:
            detail = "image: expected a reference or a digest, got nothing"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-parameter", detail)
        async with self._place_to_plan(), _asking_etcd():
            digest = await self._digest_of(image)
            found = await fleet.operator.holdings(digest, self._min_copies)
        return json_response(holdings_document(found, fleet.local_status().holder))

    async def plan(self, _request: Request) -> Response:
        fleet = self._fleet()
        from hmret.api.wire.convert_fleet import fleet_plan_document  # noqa: PLC0415 - the same

        async with _asking_etcd():
            status = await fleet.operator.status()
        async with self._place_to_plan():
            plan = await self._retention.plan()
        convert = partial(fleet_plan_document, plan, status, holder=fleet.local_status().holder)
        # There may be very many images.
        return await large_response(self._threads, await self._threads.run(convert))

    async def init(self, _request: Request) -> Response:
        operator = self._fleet().operator
        return await self._begin(operator.fleet, operator.init())

    async def reset(self, _request: Request) -> Response:
        operator = self._fleet().operator
        return await self._begin(operator.fleet, operator.reset())

    async def set(self, request: Request) -> Response:
        operator = self._fleet().operator
        body = await read_body(request, structs.SetBody)
        return await self._change(operator.change(body.key, body.value))

    async def pause(self, request: Request) -> Response:
        operator = self._fleet().operator
        body = await read_body(request, structs.PauseBody)
        return await self._change(operator.pause(body.by, datetime.now(UTC), body.reason))

    async def resume(self, _request: Request) -> Response:
        return await self._change(self._fleet().operator.resume())

    async def drain(self, request: Request) -> Response:
        operator = self._fleet().operator
        body = await read_body(request, structs.DrainBody)
        from hmret.api.wire.convert_fleet import drain_document  # noqa: PLC0415 - the same

        holders = await self._changed(operator.drain(body.host, body.by, datetime.now(UTC), body.reason))
        async with _asking_etcd():
            last = await operator.last_copies(holders, self._min_copies)
        return json_response(drain_document(holders, last))

    async def undrain(self, request: Request) -> Response:
        operator = self._fleet().operator
        body = await read_body(request, structs.HostBody)
        return await self._about_host(operator.undrain(body.host))

    async def forget(self, request: Request) -> Response:
        operator = self._fleet().operator
        body = await read_body(request, structs.HostBody)
        return await self._about_host(operator.forget(body.host))

    # Parts of these.

    @property
    def _min_copies(self) -> int:
        config = self._retention.config
        return config.fleet.min_copies

    def _fleet(self) -> "HostFleet":
        """Return the fleet of this host.

        Raises:
            Problem: it is in none.
        """
        fleet = self._retention.fleet
        if fleet is None:
            detail = "this engine is in no fleet: hmret.fleet.endpoints was not set when it was started"
            raise Problem(HTTPStatus.NOT_FOUND, "no-fleet", detail)
        return fleet

    async def _hosts(
        self, fleet: "HostFleet", state: "FleetState"
    ) -> "tuple[FleetStatus | None, str | None]":
        """Return the hosts as they were a moment ago, or what is wrong; etcd is asked once for all clients.

        They are never older than the state of this host: one that has joined is shown as live.
        """
        async with self._asking:
            is_fresh = anyio.current_time() - self._asked_at <= FRESH_SECONDS
            if not is_fresh or self._asked_in is not state:
                try:
                    async with _asking_etcd():
                        self._known, self._problem = await fleet.operator.status(), None
                except Problem as problem:
                    self._known, self._problem = None, problem.detail
                self._asked_at, self._asked_in = anyio.current_time(), state
            return self._known, self._problem

    async def _changed(self, change: Awaitable[T]) -> T:
        """Change something in the fleet; the next look at the hosts shows it."""
        async with _asking_etcd():
            changed = await change
            self._asked_at = float("-inf")
        return changed

    async def _begin(self, fleet: str, change: Awaitable[str]) -> Response:
        return json_response(structs.FleetGenerationDocument(fleet, await self._changed(change)))

    async def _change(self, change: "Awaitable[FleetSettings]") -> Response:
        from hmret.api.wire.convert_fleet import settings_document  # noqa: PLC0415 - only where there is a fleet

        settings = settings_document(await self._changed(change))
        return json_response(structs.FleetSettingsChangedDocument(settings))

    async def _about_host(self, change: Awaitable[tuple[str, ...]]) -> Response:
        return json_response(structs.FleetHoldersDocument(await self._changed(change)))

    async def _digest_of(self, image: str) -> str:
        """Return the digest that a text names, or that an image here has.

        Raises:
            ImageNotFoundError, InvalidReferenceError: it names none, and no image that is here.
        """
        digest = digest_in(image)
        if digest is not None:
            return digest
        try:
            verdict, _, _ = await self._retention.explain_with_names(image)
        except ImageNotFoundError as error:
            raise ImageNotFoundError(f"{error}; elsewhere it is found by its digest") from None
        return verdict.digest


@asynccontextmanager
async def _asking_etcd() -> AsyncIterator[None]:
    """Turn what goes wrong with etcd, or with the fleet there, into problems."""
    from hmret.fleet.store import StoreError  # noqa: PLC0415 - only where there is a fleet

    try:
        yield
    except StoreError as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "fleet-unreachable", str(error)) from None
    except HostNotFoundError as error:
        raise Problem(HTTPStatus.NOT_FOUND, "host-not-found", str(error)) from None
    except FleetError as error:
        raise Problem(HTTPStatus.CONFLICT, "fleet-conflict", str(error)) from None
    except ConfigError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-setting", str(error)) from None
