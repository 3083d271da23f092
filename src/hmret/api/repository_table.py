"""The repositories of a plan, added up image by image, and in pages."""

from collections.abc import Callable, Mapping, Sequence

import attrs

from hmret.model.values import define, frozen
from hmret.model.verdicts import ACTIONS, Action, Reason, Verdict

STAYS = frozenset(
    (
        *(reason for reason, action in ACTIONS.items() if action is Action.CLEAR),
        Reason.KEPT_BY_RULE,
        Reason.LATEST,
    )
)
"""The reasons of images that stay as it is wanted; all others go at some time, or would but for something that passes."""
_NEVER = (1 << 63) - 1


@define(eq=False)
class RepositoryRow:
    """One repository; sizes are blocks."""

    name: str
    images: int = 0
    disk_bytes: int = 0
    """Shared content counts for each repository that has it."""
    shared_bytes: int = 0
    newest_ns: int | None = None
    rules: set[int] = attrs.field(factory=set)
    unruled_images: int = 0
    """Images to which no rule applies."""
    next: tuple[int, str] | None = None
    """When its next image goes, and the digest of that; None: none does, by what is known now."""

    def add(self, verdict: Verdict) -> None:
        """Add an image."""
        self.images += 1
        self.disk_bytes += verdict.disk_bytes
        self.shared_bytes += verdict.disk_bytes if verdict.shared_with else 0
        if verdict.rule is None:
            self.unruled_images += 1
        else:
            self.rules.add(verdict.rule)
        created_ns = verdict.created_ns
        if created_ns is not None:
            self.newest_ns = created_ns if self.newest_ns is None else max(self.newest_ns, created_ns)
        if verdict.reason in STAYS or verdict.expires_at_ns is None:
            return
        # What a sweep deletes to free space goes before all that has to wait.
        at_ns = 0 if verdict.reason is Reason.DISK_PRESSURE else verdict.expires_at_ns
        if self.next is None or (at_ns, verdict.digest) < self.next:
            self.next = at_ns, verdict.digest


REPOSITORY_SORTS: Mapping[str, Callable[[RepositoryRow], str | int]] = {
    "repository": lambda row: row.name,
    "images": lambda row: row.images,
    "bytes": lambda row: row.disk_bytes,
    "newest": lambda row: -1 if row.newest_ns is None else row.newest_ns,
    "next": lambda row: _NEVER if row.next is None else row.next[0],
}
"""The sort keys of repositories; one of which nothing goes sorts last by `next`, one of unknown age first by `newest`."""


@frozen
class Slice:
    """Some repositories, in order."""

    rows: Sequence[RepositoryRow]
    matched: int
    more: bool
    """Whether others follow them."""


@define(eq=False)
class RepositoryTable:
    """All repositories of a plan."""

    _rows: dict[str, RepositoryRow] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, verdict: Verdict) -> None:
        """Add an image to its repository."""
        row = self._rows.get(verdict.repository)
        if row is None:
            row = self._rows[verdict.repository] = RepositoryRow(verdict.repository)
        row.add(verdict)

    def slice(
        self, part: str, sort: str, *, descending: bool, after: tuple[str | int, str] | None, limit: int
    ) -> Slice:
        """List the repositories that have a part in their name, behind a place in the order."""
        key_of = REPOSITORY_SORTS[sort]
        rows = [row for name, row in self._rows.items() if part.lower() in name]
        matched = len(rows)
        rows.sort(key=lambda row: (key_of(row), row.name), reverse=descending)
        if after is not None:
            rows = [
                row
                for row in rows
                if ((key_of(row), row.name) < after if descending else (key_of(row), row.name) > after)
            ]
        return Slice(rows[:limit], matched, len(rows) > limit)
