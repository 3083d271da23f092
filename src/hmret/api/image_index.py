"""The images of a plan in pages: filtered, sorted, and continued from a cursor.

A cache may hold 100,000 images, so the work runs in threads, in steps short enough for the event loop to run
in between: no single call into C sorts or encodes all of them.
"""

import base64
import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import TypeVar

import anyio
import attrs
import msgspec
from starlette.requests import Request

from hmret.actors.batches import batches
from hmret.actors.threads import Threads
from hmret.api.http.requests import read_choice
from hmret.api.problems import Problem
from hmret.api.repository_table import STAYS, RepositoryTable
from hmret.api.user_table import UserTable
from hmret.engine.retention import Retention
from hmret.model.plan.plan import Plan
from hmret.model.references import Key
from hmret.model.report import SweepReport
from hmret.model.values import define, frozen
from hmret.model.verdicts import Action, Reason, Verdict

# Maximum age in seconds of a plan that was not made by a sweep; an older one is replaced on request.
_FRESH_SECONDS = 60.0

# Images sorted in one call: one or two milliseconds.
_RUN = 1024

# How many filter results are cached: enough for a few people paging at the same time.
_FILTERS = 8

T = TypeVar("T")
_LAST = (1 << 63) - 1
_NUMBERS = ("size_bytes", "disk_bytes", "unused_since", "expires_at", "goes_at")


def _goes_at(verdict: Verdict) -> int:
    if verdict.expires_at_ns is None or verdict.reason in STAYS:
        return _LAST
    return verdict.expires_at_ns


_SortKey = tuple[str | int, str, str]

SORTS: Mapping[str, Callable[[Verdict], str | int]] = {
    "repository": lambda verdict: verdict.repository,
    "status": lambda verdict: verdict.status,
    "size_bytes": lambda verdict: verdict.size_bytes,
    "disk_bytes": lambda verdict: verdict.disk_bytes,
    "action": lambda verdict: verdict.action.value,
    "reason": lambda verdict: verdict.reason.value,
    "unused_since": lambda verdict: _LAST if verdict.unused_since_ns is None else verdict.unused_since_ns,
    "expires_at": lambda verdict: _LAST if verdict.expires_at_ns is None else verdict.expires_at_ns,
    "goes_at": _goes_at,
}
"""The sort keys of images; a time that is not set sorts last; by `goes_at` what stays as it is wanted does too. Ties are broken by repository and digest."""


@frozen
class Query:
    """Filter and sort order of a request."""

    q: str = ""
    """Substring of the repository, the digest, a tag, or a user's id or name; case-insensitive; empty: all."""
    action: str = ""
    reason: str = ""
    status: str = ""
    sort: str = "repository"
    descending: bool = False


def read_query(request: Request) -> Query:
    """Parse the filter and the order of a request for images.

    Raises:
        Problem: a parameter is none of the words that it may be.
    """
    return Query(
        q=request.query_params.get("q", ""),
        action=read_choice(request, "action", ("", *Action)),
        reason=read_choice(request, "reason", ("", *Reason)),
        status=request.query_params.get("status", ""),
        sort=read_choice(request, "sort", tuple(SORTS)),
        descending=read_choice(request, "order", ("asc", "desc")) == "desc",
    )


@frozen
class Page:
    """One page of images."""

    plan: Plan
    verdicts: tuple[Verdict, ...]
    total: int
    """The number of all images."""
    matched: int
    """The number of images that match the query, on all pages."""
    next: str | None
    """The value of `after` for the next page; None: this is the last page."""


class _Columns:
    """What the images of a plan are filtered and sorted by: strings and numbers only.

    A `Verdict` per image would mean 100,000 objects, all of which the garbage collector would traverse while
    the process stands still.
    """

    def __init__(self, verdicts: Iterable[Verdict], names: Mapping[str, str]) -> None:
        self.sorts: dict[str, list[str | int]] = {name: [] for name in SORTS}
        self.digests: list[str] = []
        self.searched: list[str] = []
        """Tags and users (ids and names), in lower case."""
        self.repositories = RepositoryTable()
        columns = [(column, SORTS[name]) for name, column in self.sorts.items()]
        for verdict in verdicts:
            for column, value_of in columns:
                column.append(value_of(verdict))
            self.digests.append(verdict.digest)
            self.repositories.add(verdict)
            called = (names[source] for source in verdict.referenced_by if source in names)
            self.searched.append("\n".join((*verdict.tags, *verdict.referenced_by, *called)).lower())

    def __len__(self) -> int:
        return len(self.digests)

    def key(self, sort: str, place: int) -> _SortKey:
        """Return the sort key of an image."""
        return self.sorts[sort][place], self.repository(place), self.digests[place]

    def repository(self, place: int) -> str:
        return str(self.sorts["repository"][place])

    def matches(self, query: Query, place: int) -> bool:
        """Return whether an image matches the query."""
        for name, wanted in (("action", query.action), ("reason", query.reason), ("status", query.status)):
            if wanted and self.sorts[name][place] != wanted:
                return False
        part = query.q.lower()
        return (
            not part
            or part in self.repository(place)
            or part in self.digests[place]
            or part in self.searched[place]
        )


@define(eq=False)
class ImageRows:
    """The images of one plan that still exist, with the cached results of queries on them."""

    plan: Plan
    report: SweepReport | None
    made: float
    _columns: _Columns
    _pause: Callable[[], None]
    _orders: dict[str, Sequence[int]] = attrs.field(factory=dict)
    _masks: dict[tuple[str, str, str, str], bytearray] = attrs.field(factory=dict)
    _users: UserTable | None = None

    @property
    def repositories(self) -> RepositoryTable:
        """Its repositories, added up."""
        return self._columns.repositories

    def users(self) -> UserTable:
        """Who needs its images; collected at the first call."""
        if self._users is None:
            self._users = UserTable.of(self.plan, self._pause)
        return self._users

    def export(self, query: Query) -> Iterator[Verdict]:
        """Yield all images that match the query, in its order."""
        mask = self._mask(query)
        return paced(map(self._verdict, self._walk(self._order(query.sort), mask, query, None)), self._pause)

    def page(self, query: Query, limit: int, after: _SortKey | None) -> Page:
        order = self._order(query.sort)
        mask = self._mask(query)
        found = list(islice(paced(self._walk(order, mask, query, after), self._pause), limit + 1))
        more = len(found) > limit
        return Page(
            plan=self.plan,
            verdicts=tuple(paced(map(self._verdict, found[:limit]), self._pause)),
            total=len(self._columns),
            matched=len(self._columns) if mask is None else sum(mask),
            next=encode_cursor(self._columns.key(query.sort, found[limit - 1])) if more else None,
        )

    def _verdict(self, place: int) -> Verdict:
        verdict = self.plan.verdict(self._columns.repository(place), self._columns.digests[place])
        assert verdict is not None  # every row comes from this plan
        return verdict

    def _walk(
        self, order: Sequence[int], mask: bytearray | None, query: Query, after: _SortKey | None
    ) -> Iterator[int]:
        key = partial(self._columns.key, query.sort)
        if query.descending:
            end = len(order) if after is None else bisect_left(order, after, key=key)
            places = range(end - 1, -1, -1)
        else:
            places = range(0 if after is None else bisect_right(order, after, key=key), len(order))
        for position in places:
            if mask is None or mask[order[position]]:
                yield order[position]

    def _order(self, sort: str) -> Sequence[int]:
        known = self._orders.get(sort)
        if known is None:
            # The plan is already sorted.
            known = range(len(self._columns)) if sort == "repository" else self._sorted(sort)
            self._orders[sort] = known
        return known

    def _sorted(self, sort: str) -> Sequence[int]:
        key = partial(self._columns.key, sort)
        runs = []
        for run in batches(range(len(self._columns)), _RUN):
            runs.append(sorted(run, key=key))
            self._pause()
        return list(paced(heapq.merge(*runs, key=key), self._pause))

    def _mask(self, query: Query) -> bytearray | None:
        """Return which images match the query, 1 or 0 for each; None: it filters nothing."""
        name = query.q, query.action, query.reason, query.status
        if not any(name):
            return None
        known = self._masks.pop(name, None)
        if known is None:
            places = paced(range(len(self._columns)), self._pause)
            known = bytearray(self._columns.matches(query, place) for place in places)
        self._masks[name] = known
        while len(self._masks) > _FILTERS:
            del self._masks[next(iter(self._masks))]
        return known


@define(eq=False)
class ImageIndex:
    """The images as the last sweep left them; if there was none, as a plan made now lists them."""

    _retention: Retention
    threads: Threads
    """One thread: pages share the cached results on a plan."""
    _rows: ImageRows | None = None
    _lock: anyio.Lock = attrs.field(factory=anyio.Lock)

    async def page(self, query: Query, limit: int, after: str | None) -> Page:
        """Return the page of images that match the query, starting after the cursor.

        Raises:
            Problem: the cursor is invalid.
        """
        cursor = None if after is None else decode_cursor(after, is_number=query.sort in _NUMBERS)
        return await self.ask(lambda rows: rows.page(query, limit, cursor))

    async def ask(self, question: Callable[[ImageRows], T]) -> T:
        """Ask the images as they are now, in a thread; one question at a time."""
        rows = await self._current()
        return await self.threads.run(question, rows)

    async def _current(self) -> ImageRows:
        async with self._lock:
            retention = self._retention
            made = retention.last_plan if retention.config.active else None
            report = retention.statistics().last_report
            if report is not None and (made is None or report.started_at != made.at):
                report = None
            rows = self._rows
            now = anyio.current_time()
            if rows is not None and made is None and now - rows.made < _FRESH_SECONDS:
                return rows
            if rows is None or made is None or rows.plan is not made or rows.report is not report:
                plan = await retention.plan() if made is None else made
                pause = self.threads.pause
                columns = await self.threads.run(_still_there, plan, report, pause)
                rows = self._rows = ImageRows(plan, report, now, columns, pause)
            return rows


def _still_there(plan: Plan, report: SweepReport | None, pause: Callable[[], None]) -> _Columns:
    """List the images of a plan, without those deleted since."""
    deleted = () if report is None else report.deleted
    gone: set[Key] = {(image.repository, image.digest) for image in deleted}
    verdicts = paced(plan.iterate(), pause)
    return _Columns(
        (verdict for verdict in verdicts if (verdict.repository, verdict.digest) not in gone), plan.vm_names
    )


def paced(items: Iterable[T], pause: Callable[[], None]) -> Iterator[T]:
    """Let other threads run between two steps."""
    for item in items:
        pause()
        yield item


def encode_cursor(key: _SortKey) -> str:
    """Write the place of the last item of a page in an order."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(text: str, *, is_number: bool) -> _SortKey:
    """Read what `encode_cursor` has written; `is_number`: whether the order is one of numbers.

    Raises:
        Problem: it is something else.
    """
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        value, repository, digest = msgspec.json.decode(content, type=tuple[str | int, str, str])
    except (ValueError, msgspec.MsgspecError):
        raise _not_a_cursor(text) from None
    if isinstance(value, int) is not is_number:
        raise _not_a_cursor(text)
    return value, repository, digest


def _not_a_cursor(text: str) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-parameter",
        f"after: expected what `next` of a page with the same sort was, got {text[:100]!r}",
    )
