"""The calls of the control API for displays: the past, the disk, who needs what, repositories, and the policy."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from hmret.actors.threads import WorkerThreads
from hmret.api.export import export_stream
from hmret.api.http.requests import read_choice, read_count
from hmret.api.http.responses import Answer, large_response
from hmret.api.http.streams import write_event_id
from hmret.api.image_index import ImageIndex, ImageRows, decode_cursor, encode_cursor, read_query
from hmret.api.repository_table import REPOSITORY_SORTS, RepositoryRow
from hmret.api.user_table import UserRow
from hmret.api.wire import structs_overview as structs
from hmret.api.wire.convert import document_of, documents_of
from hmret.api.wire.convert_overview import history_document, policy_document, space_document
from hmret.api.wire.structs import Document
from hmret.api.wire.structs_overview import LARGEST_LIST, MOST_PAST_DAYS
from hmret.engine.overview.overview import Overview
from hmret.engine.retention import Retention
from hmret.model.plan.forecast import Outlook
from hmret.model.plan.plan import Plan
from hmret.model.times import format_time, nanoseconds_of
from hmret.model.values import define
from hmret.settings.in_force import SettingsInForce, settings_of_program

_DAYS = 30
_DEFAULT_LIST = 100


@define(eq=False)
class OverviewCalls:
    """The calls, one method each; none changes anything."""

    _retention: Retention
    _overview: Overview
    _catalog: ImageIndex
    _threads: WorkerThreads
    _outlook: Callable[[], Awaitable[Outlook]]
    """Returns what the cache holds."""
    _in_force: Callable[[], SettingsInForce] | None
    """Returns where the settings come from; None: from the program that has opened the engine."""

    def reads(self) -> Mapping[str, Mapping[str, Answer]]:
        """Return the calls, by path and method."""
        return {
            "/v1/history": {"GET": self.history},
            "/v1/space": {"GET": self.space},
            "/v1/repositories": {"GET": self.repositories},
            "/v1/users": {"GET": self.users},
            "/v1/policy": {"GET": self.policy},
            "/v1/export": {"GET": self.export},
        }

    async def history(self, request: Request) -> Response:
        days = read_count(request, "days", _DAYS, MOST_PAST_DAYS)
        retention = self._retention
        past = await self._overview.past(timedelta(days=days - 1))
        document = history_document(
            past,
            journal=retention.config.journal,
            last_event_id=write_event_id(retention.event_hub, past.last_event),
        )
        return await self._answer(document)

    async def space(self, _request: Request) -> Response:
        outlook = await self._outlook()
        retention = self._retention
        try:
            trash_bytes = await retention.trash_bytes()
        except OSError:
            trash_bytes = retention.counters.trash_bytes
        space = await self._overview.space(outlook.disk_bytes, trash_bytes)
        return await self._answer(space_document(space, retention.config, self._overview.now_ns()))

    async def repositories(self, request: Request) -> Response:
        limit = read_count(request, "limit", _DEFAULT_LIST, LARGEST_LIST)
        part = request.query_params.get("q", "")
        sort = read_choice(request, "sort", tuple(REPOSITORY_SORTS))
        descending = read_choice(request, "order", ("asc", "desc")) == "desc"
        cursor = request.query_params.get("after")
        after = None if cursor is None else decode_cursor(cursor, is_number=sort != "repository")[:2]

        def page(rows: ImageRows) -> structs.RepositoriesDocument:
            table = rows.repositories
            found = table.slice(part, sort, descending=descending, after=after, limit=limit)
            following = None
            if found.more:
                last = found.rows[-1]
                following = encode_cursor((REPOSITORY_SORTS[sort](last), last.name, ""))
            return structs.RepositoriesDocument(
                at=format_time(nanoseconds_of(rows.plan.at)),
                total=len(table),
                matched=found.matched,
                repositories=tuple(_repository(row, rows.plan) for row in found.rows),
                next=following,
            )

        return await self._answer(await self._catalog.ask(page))

    async def users(self, request: Request) -> Response:
        limit = read_count(request, "limit", _DEFAULT_LIST, LARGEST_LIST)
        part = request.query_params.get("q", "")
        after = request.query_params.get("after", "")

        def page(rows: ImageRows) -> structs.UsersDocument:
            table = rows.users()
            matching = table.matching(part)
            found = [user for user in matching if user > after][: limit + 1]
            return structs.UsersDocument(
                at=format_time(nanoseconds_of(rows.plan.at)),
                total=len(table),
                matched=len(matching),
                users=tuple(_user(table.row(user), rows.plan) for user in found[:limit]),
                next=found[limit - 1] if len(found) > limit else None,
            )

        return await self._answer(await self._catalog.ask(page))

    async def policy(self, _request: Request) -> Response:
        retention = self._retention
        config, since_ns = retention.config, retention.counters.settings_since_ns
        in_force = settings_of_program(config) if self._in_force is None else self._in_force()
        # The descriptions are read from the source at the first call.
        return await self._answer(await self._threads.run(policy_document, config, in_force, since_ns))

    async def export(self, request: Request) -> Response:
        form = read_choice(request, "format", ("json", "csv"))
        query = read_query(request)
        plan, verdicts = await self._catalog.ask(lambda rows: (rows.plan, rows.export(query)))
        return export_stream(form, plan, verdicts, self._catalog.threads)

    async def _answer(self, document: Document) -> Response:
        return await large_response(self._threads, document)


def _repository(row: RepositoryRow, plan: Plan) -> structs.RepositoryDocument:
    following = None if row.next is None else plan.verdict(row.name, row.next[1])
    expires_ns = None if following is None else following.expires_at_ns
    expires_at = None if expires_ns is None else format_time(expires_ns)
    return document_of(
        structs.RepositoryDocument,
        row,
        repository=row.name,
        bytes=row.disk_bytes,
        newest=None if row.newest_ns is None else format_time(row.newest_ns),
        rules=tuple(sorted(row.rules)),
        next=None
        if following is None
        else document_of(structs.NextDocument, following, expires_at=expires_at),
    )


def _user(row: UserRow, plan: Plan) -> structs.UserDocument:
    verdicts = filter(None, (plan.verdict(*key) for key in row.images))
    return document_of(structs.UserDocument, row, images=documents_of(structs.UsedImageDocument, verdicts))
