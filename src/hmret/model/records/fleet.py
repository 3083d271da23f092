"""The record of what was told to the fleet, as lines of text: what they say, and the fewest that say it.

    generation G     everything before it is of another generation, and forgotten
    seen C R         the highest revision R seen of the cluster C
    mark M           16 random hexadecimal digits, on record before the request that puts them into `e/`
    done M           that request has committed
    ? <hex>          a digest that is about to be registered or released: it may be registered
    + <hex>          it is registered
    - <hex>          it is not

The last line about a digest counts. What stands on record as `+` or as `?` is a superset of what is registered.
"""

import re
from collections.abc import Sequence
from enum import Enum

import attrs

from hmret.model.values import define, frozen

KEPT_MARKS = 100
"""Marks that survive a rewrite of the record; the last one that is done always does."""

_HEX = re.compile(r"[0-9a-f]{64}")
_MARK = re.compile(r"[0-9a-f]{16}")
_WORD = re.compile(r"[!-~]{1,128}")
_REVISION = re.compile(r"[0-9]{1,19}")


class Standing(Enum):
    """What is on record of a digest."""

    REGISTERED = "+"
    ASKED = "?"
    """It may be registered: a request about it was about to be sent, and its outcome is not on record."""


class MarkAge(Enum):
    """How a mark that stands in the store relates to those on record."""

    UNKNOWN = "unknown"
    """It is not on record: this directory was copied, or put back from a backup."""
    OUTDATED = "outdated"
    """It is older than the last one that is done: the store was put back."""
    CURRENT = "current"


@frozen(kw_only=True)
class Seen:
    """The highest revision that an answer of a cluster has shown."""

    cluster_id: str
    revision: int

    def is_contradicted_by(self, cluster_id: str, revision: int) -> bool:
        """Return whether a later answer shows that the store was put back, or is another one."""
        return cluster_id != self.cluster_id or revision < self.revision

    def render(self) -> str:
        """Return the line that says this."""
        return f"seen {self.cluster_id} {self.revision}"


@define
class FleetRecordContents:
    """What the lines of a record say."""

    generation: str = ""
    """Empty: no line has been read."""
    seen: Seen | None = None
    marks: dict[str, bool] = attrs.field(factory=dict)
    """In the order in which they were made; whether each is done."""
    digests: dict[str, Standing] = attrs.field(factory=dict)
    """By their hexadecimal digits."""

    def read_line(self, line: str) -> None:
        """Take in one line.

        Raises:
            ValueError: it is not a line of a record, or comes before the generation.
        """
        word, _, rest = line.partition(" ")
        match word:
            case "generation" if _WORD.fullmatch(rest):
                self.generation, self.seen, self.marks, self.digests = rest, None, {}, {}
            case _ if not self.generation:
                raise ValueError("no generation comes before it")
            case "+" | "?" if _HEX.fullmatch(rest):
                self.digests[rest] = Standing(word)
            case "-" if _HEX.fullmatch(rest):
                self.digests.pop(rest, None)
            case "mark" if _MARK.fullmatch(rest):
                self.marks.pop(rest, None)
                self.marks[rest] = False
            case "done" if _MARK.fullmatch(rest):
                if rest in self.marks:
                    self.marks[rest] = True
            case "seen":
                cluster_id, _, revision = rest.partition(" ")
                if not _WORD.fullmatch(cluster_id) or not _REVISION.fullmatch(revision):
                    raise ValueError("not what was seen")
                self.seen = Seen(cluster_id=cluster_id, revision=int(revision))
            case _:
                raise ValueError("not a line of a record")

    def render(self) -> list[str]:
        """Return the fewest lines that say the same, with the last marks only."""
        if not self.generation:
            return []
        lines = [f"generation {self.generation}"]
        if self.seen is not None:
            lines.append(self.seen.render())
        for mark, is_done in self._kept_marks().items():
            lines.append(f"mark {mark}")
            if is_done:
                lines.append(f"done {mark}")
        lines.extend(f"{standing.value} {name}" for name, standing in self.digests.items())
        return lines

    def drop_old_marks(self) -> None:
        """Forget the marks that a rewrite would not keep."""
        self.marks = self._kept_marks()

    def last_done(self) -> str | None:
        """Return the last mark that is done; None: none is."""
        return _last_done(list(self.marks.items()))

    def age_of(self, mark: str) -> MarkAge:
        """Return how a mark that stands in the store relates to those on record."""
        # Copied in one go: a thread may be writing.
        known = list(self.marks.items())
        marks = [each for each, _ in known]
        # guard(unknown-mark-is-another-record): The store may count copies that this record does not know.
        if mark not in marks:
            return MarkAge.UNKNOWN
        last_done = _last_done(known)
        # guard(old-mark-is-an-old-store): A store that was put back counts copies that have been released
        # since.
        if last_done is not None and marks.index(mark) < marks.index(last_done):
            return MarkAge.OUTDATED
        return MarkAge.CURRENT

    def is_older(self, mark: str, than: str) -> bool:
        """Return whether a mark was made before another one; both are on record."""
        # Copied in one go: a thread may be writing.
        marks = list(self.marks)
        return mark in marks and than in marks and marks.index(mark) < marks.index(than)

    def _kept_marks(self) -> dict[str, bool]:
        kept = list(self.marks)[-KEPT_MARKS:]
        last_done = self.last_done()
        # guard(last-done-mark-stays): By it a `forget` is told from a first join, and an old store from a new one.
        if last_done is not None and last_done not in kept:
            kept.insert(0, last_done)
        return {mark: self.marks[mark] for mark in kept}


def _last_done(known: Sequence[tuple[str, bool]]) -> str | None:
    return next((mark for mark, is_done in reversed(known) if is_done), None)
