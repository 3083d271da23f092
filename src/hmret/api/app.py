"""The control API: the engine's queries and commands over HTTP."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Set as AbstractSet
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from operator import attrgetter
from typing import TypeVar

import anyio
import attrs
import sniffio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hmret.actors.threads import WorkerThreads
from hmret.api.fleet_calls import FleetCalls
from hmret.api.http.guards import HostGuard, LoopGuard
from hmret.api.http.page import load_page
from hmret.api.http.requests import (
    read_body,
    read_choice,
    read_count,
    read_moment,
    refuse_unknown_parameters,
)
from hmret.api.http.responses import Answer, json_response, large_response
from hmret.api.http.streams import EventStream, plan_stream, read_event_id
from hmret.api.image_index import ImageIndex, Page, Query, read_query
from hmret.api.lease_calls import LeaseCalls
from hmret.api.metrics import render_metrics
from hmret.api.openapi import known_parameters, openapi_document
from hmret.api.overview_calls import OverviewCalls
from hmret.api.problems import Problem, problem_of, problem_response
from hmret.api.wire import structs_outcomes as structs, structs_requests as bodies
from hmret.api.wire.convert import document_of, explain_document, image_document
from hmret.api.wire.convert_outcomes import (
    forecast_document,
    quarantine_document,
    status_document,
    sweep_document,
)
from hmret.api.wire.structs_outcomes import LARGEST_PAGE, MOST_DAYS
from hmret.engine.platform import running_version
from hmret.engine.retention import Retention
from hmret.model.errors import ConfigError, ImageNotFoundError, InvalidReferenceError
from hmret.model.plan.forecast import DAYS, Outlook, summarize
from hmret.model.plan.search import is_searchable
from hmret.settings.in_force import SettingsInForce
from hmret.settings.policy_document import config_from_policy

HEARTBEAT_SECONDS = 15.0
"""How often an event stream sends a keep-alive: below the idle timeouts of proxies."""

# Concurrent plans: each scans the whole cache and holds all of it in memory.
_PLANS = 2
_PLANS_WAITING = 16

_DEFAULT_PAGE = 100
_ANSWER_SECONDS = 5.0

T = TypeVar("T")


def make_app(
    retention: Retention,
    *,
    read_only: bool = False,
    host_names: AbstractSet[str] | None = None,
    in_force: Callable[[], SettingsInForce] | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Starlette:
    """Make the control API of an open engine as an ASGI application, to be served or mounted.

    It must run on the event loop of the engine: on any other loop, each request raises RuntimeError and the
    client gets status 500. There is no authentication: everyone who can reach it may use it.

    Args:
        retention: the engine.
        read_only: omit every call that changes or promises something.
        host_names: accept only requests to one of these names or to a numeric address; None: accept all.
        in_force: returns where the settings come from; None: from the program that has opened the engine.
        heartbeat_seconds: how often an event stream sends a keep-alive.
    """
    calls = _Calls(retention, heartbeat_seconds, in_force)
    reads: dict[str, Mapping[str, Answer]] = {
        "/": {"GET": calls.page},
        "/healthz": {"GET": calls.healthz},
        "/readyz": {"GET": calls.healthz},
        "/metrics": {"GET": calls.metrics},
        "/openapi.json": {"GET": calls.openapi},
        "/v1/status": {"GET": calls.status},
        "/v1/plan": {"GET": calls.plan},
        "/v1/forecast": {"GET": calls.forecast},
        "/v1/images": {"GET": calls.images},
        "/v1/images/{image:path}": {"GET": calls.explain},
        "/v1/quarantine": {"GET": calls.quarantine},
        "/v1/leases": {"GET": calls.leases.list},
        "/v1/events": {"GET": calls.events},
        **calls.fleet.reads(),
        **calls.overview.reads(),
    }
    writes: dict[str, Mapping[str, Answer]] = {
        "/v1/plan": {"GET": calls.plan, "POST": calls.candidate},
        "/v1/mark-used": {"POST": calls.mark_used},
        "/v1/restore": {"POST": calls.restore},
        "/v1/confirm": {"POST": calls.confirm},
        "/v1/sweeps": {"POST": calls.sweep},
        "/v1/leases": {"GET": calls.leases.list, "POST": calls.leases.grant},
        "/v1/leases/{id}": {"GET": calls.leases.lease, "PUT": calls.leases.renew, "DELETE": calls.leases.end},
        **calls.fleet.writes(),
    }
    routes = reads if read_only else {**reads, **writes}
    guards = [Middleware(LoopGuard, retention=retention)]
    if host_names is not None:
        guards.append(Middleware(HostGuard, names=host_names))
    known = known_parameters()
    return Starlette(
        routes=[_route(path, answers, known) for path, answers in routes.items()],
        middleware=guards,
        exception_handlers={HTTPException: _answer_problem},
    )


def _route(
    path: str, answers: Mapping[str, Answer], known: Mapping[tuple[str, str], Collection[str]]
) -> Route:
    described = path.replace(":path}", "}")

    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        called = answers[method]
        try:
            if (method, described) in known:
                refuse_unknown_parameters(request, known[method, described])
            response = await called(request)
        except Exception as error:  # noqa: BLE001 - the boundary: a failure concerns only its own request
            response = problem_response(problem_of(error, request))
        response.headers.setdefault("cache-control", "no-store")
        response.headers["x-content-type-options"] = "nosniff"
        return response

    return Route(path, answer, methods=list(answers), name=path)


async def _answer_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = problem_response(error)
    if "allow" in response.headers:
        response.headers["allow"] = ", ".join(sorted(response.headers["allow"].split(", ")))
    return response


class _Calls:
    """The API calls, one method each."""

    def __init__(
        self,
        retention: Retention,
        heartbeat_seconds: float,
        in_force: Callable[[], SettingsInForce] | None,
    ) -> None:
        self._retention = retention
        self._heartbeat_seconds = heartbeat_seconds
        self._threads = threads = WorkerThreads(2)
        self._catalog = catalog = ImageIndex(retention, WorkerThreads(1))
        self._planning = anyio.Semaphore(_PLANS)
        self._planners = 0
        self.fleet = FleetCalls(retention, self._place_to_plan, threads)
        self.overview = OverviewCalls(
            retention, retention.overview, catalog, threads, self._current_outlook, in_force
        )
        self.leases = LeaseCalls(retention, self._named)

    # Reads.

    async def page(self, _request: Request) -> Response:
        content, headers = load_page()
        return Response(content, headers=headers)

    async def healthz(self, _request: Request) -> Response:
        try:
            with anyio.fail_after(_ANSWER_SECONDS):
                await self._retention.wait_answer()
        except TimeoutError:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "no-answer", "the engine is not responding"
            ) from None
        return json_response(structs.HealthDocument())

    async def metrics(self, _request: Request) -> Response:
        body, content_type = await self._threads.run(render_metrics, self._retention)
        return Response(body, headers={"content-type": content_type})

    async def openapi(self, _request: Request) -> Response:
        return json_response(openapi_document(running_version()))

    async def status(self, _request: Request) -> Response:
        retention = self._retention
        try:
            trash_bytes = await retention.trash_bytes()
        except OSError:
            trash_bytes = None
        document = status_document(
            retention,
            version=running_version(),
            process=os.getpid(),
            backend=sniffio.current_async_library(),
            trash_bytes=trash_bytes,
        )
        return await large_response(self._threads, document)

    async def plan(self, request: Request) -> Response:
        at = read_moment(request, "at")
        async with self._place_to_plan():
            plan = await self._retention.plan(at)
        return plan_stream(plan, self._retention.config, self._threads)

    async def forecast(self, request: Request) -> Response:
        days = read_count(request, "days", DAYS, MOST_DAYS)
        outlook = await self._current_outlook(days)
        return json_response(forecast_document(attrs.evolve(outlook, days=outlook.days[:days])))

    async def _current_outlook(self, days: int = DAYS) -> Outlook:
        outlook: Outlook | None = None
        retention = self._retention
        if days <= DAYS and retention.config.active:
            outlook = await self._threads.run(attrgetter("outlook"), retention.counters)
        if outlook is None:
            # No sweep has got that far, or sweeps are off: use the plan whose images are listed.
            page = await self._catalog.page(Query(), 1, None)
            outlook = await self._threads.run(partial(summarize, page.plan, self._threads.pause, days=days))
        assert outlook is not None
        return outlook

    async def images(self, request: Request) -> Response:
        limit = read_count(request, "limit", _DEFAULT_PAGE, LARGEST_PAGE)
        query = read_query(request)
        page = await self._catalog.page(query, limit, request.query_params.get("after"))
        images = tuple(map(image_document, page.verdicts))
        document = document_of(
            structs.ImagesDocument, page, at=page.plan.at, images=images, vm_names=_names_on(page)
        )
        return await large_response(self._threads, document)

    async def explain(self, request: Request) -> Response:
        image = request.path_params["image"]
        async with self._place_to_plan():
            found = await self._retention.overview.explain(image)
        return json_response(
            explain_document(
                found.verdict, found.suspended, found.vm_names, paths=found.folders, leases=found.leases
            )
        )

    async def quarantine(self, _request: Request) -> Response:
        retention = self._retention

        def list_images() -> structs.QuarantineDocument:
            return quarantine_document(retention.quarantined(), retention.config.data_dir)

        return await large_response(self._threads, await self._threads.run(list_images))

    async def events(self, request: Request) -> Response:
        hub = self._retention.event_hub
        last = request.headers.get("last-event-id") or request.query_params.get("after")
        follow = read_choice(request, "follow", ("true", "false")) == "true"
        after = read_event_id(hub, last)
        return EventStream(hub, after, heartbeat_seconds=self._heartbeat_seconds, follow=follow)

    async def candidate(self, request: Request) -> Response:
        at = read_moment(request, "at")
        body = await read_body(request, bodies.CandidateBody)
        retention = self._retention
        try:
            config = config_from_policy(retention.config, body.settings)
        except ConfigError as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-setting", str(error)) from None
        async with self._place_to_plan():
            if config == retention.config:
                return plan_stream(await retention.plan(at), config, self._threads)
            in_force, candidate = await retention.compare(config, at)
        return plan_stream(candidate, config, self._threads, in_force)

    # Writes.

    async def mark_used(self, request: Request) -> Response:
        body = await read_body(request, bodies.MarkUsedBody)
        mark_used = self._retention.mark_used
        return json_response(
            document_of(structs.MarkedUsedDocument, await self._named(body.image, body.digest, mark_used))
        )

    async def confirm(self, request: Request) -> Response:
        body = await read_body(request, bodies.ConfirmBody)
        try:
            confirmed = await self._retention.confirm(*body.what)
        except ValueError as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-name", f"confirm: {error}") from None
        return json_response(structs.ConfirmedDocument(confirmed))

    async def restore(self, request: Request) -> Response:
        body = await read_body(request, bodies.RestoreBody)
        try:
            restored = await self._retention.restore(body.image, body.digest)
        except (ImageNotFoundError, InvalidReferenceError):
            found = None if body.digest is not None else self._retention.search_quarantine(body.image)
            if found is None:
                raise
            restored = await self._retention.restore(found)
        return json_response(document_of(structs.RestoredDocument, restored))

    async def sweep(self, request: Request) -> Response:
        releases = read_choice(request, "release_brake", ("false", "true")) == "true"
        report = await self._retention.sweep(release_brake=releases)
        return await large_response(self._threads, sweep_document(report))

    async def _named(
        self, image: str, digest: str | None, call: Callable[[str, str | None], Awaitable[T]]
    ) -> T:
        """Call with an image reference; if it is unknown, retry with what a digest prefix or VM name resolves to."""
        try:
            return await call(image, digest)
        except (ImageNotFoundError, InvalidReferenceError):
            if digest is not None or not is_searchable(image):
                raise
            async with self._place_to_plan():
                found = await self._retention.search(image)
            if found is None:
                raise
        return await call(found, None)

    @asynccontextmanager
    async def _place_to_plan(self) -> AsyncIterator[None]:
        """Limit how many plans are made at once; a few more requests may wait."""
        if self._planners >= _PLANS + _PLANS_WAITING:
            detail = "too many concurrent requests for plans"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, {"retry-after": "5"})
        self._planners += 1
        try:
            async with self._planning:
                yield
        finally:
            self._planners -= 1


def _names_on(page: Page) -> dict[str, str]:
    names = page.plan.vm_names
    sources = (source for verdict in page.verdicts for source in verdict.referenced_by)
    return {source: names[source] for source in sources if source in names}
