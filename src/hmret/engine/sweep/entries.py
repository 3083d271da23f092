"""What happened, as one entry: the journal's line, the event for listeners and the log's line all follow from it.

An entry has a name and facts, and the table of kinds says for each name what follows. What is not in the table,
mostly conditions that last, is logged as a warning under its own name.

Two names are alike: `release`, of an image that leaves the quarantine and is erased, and `released`, of a copy that
leaves the count of its fleet before its image goes.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from hmret.engine.log import log_event
from hmret.model.references import Key
from hmret.model.times import format_time
from hmret.model.values import frozen

Facts = Mapping[str, Any]
_NO_FACTS: Facts = {}


@frozen
class Entry:
    """One thing that happened."""

    event: str
    """Its name in the journal and for listeners."""
    key: Key | None = None
    """The image that it is about; None: it is about none."""
    facts: Facts = _NO_FACTS
    level: int | None = None
    """The level at which it is logged; None: that of its kind."""

    def line(self, now_ns: int) -> Facts:
        """Return it as the journal and listeners get it."""
        image = {} if self.key is None else {"image": "@".join(self.key)}
        return {"time": format_time(now_ns), "event": self.event, **image, **self.facts}


@frozen
class _Kind:
    """What follows from entries of one name."""

    logged_as: str | None = ""
    """Their name in the log; empty: the same as in the journal; None: they are not logged."""
    level: int = logging.INFO
    logged: Callable[[Facts], Facts] = dict
    """Returns the facts that are logged, in the order in which they are."""
    is_journalled: bool = True
    """Whether the journal and listeners get them."""


_KINDS: Mapping[str, _Kind] = {
    "clear": _Kind(None),
    "confirm": _Kind("confirmed", logging.WARNING),
    "delete": _Kind(
        "image_deleted",
        logged=lambda facts: {"reason": facts["reason"], "unused_since": facts["unused_since"], **facts},
    ),
    "deletion_stopped": _Kind(
        level=logging.WARNING,
        logged=lambda facts: {"detail": f"by settings changed in the midst of it: {facts['reason']}"},
    ),
    "failure": _Kind(
        level=logging.ERROR,
        logged=lambda facts: {name: fact for name, fact in facts.items() if name != "reason"},
    ),
    "ghost": _Kind("ghost_removed", logging.WARNING),
    "kept": _Kind("image_kept", is_journalled=False),
    "mark": _Kind(None),
    "no_longer": _Kind(),
    "record_not_written": _Kind(level=logging.ERROR, is_journalled=False),
    "recover": _Kind("deletion_recovered", logged=lambda facts: {"reason": facts["reason"]}),
    "release": _Kind("image_released"),
    "released": _Kind("copy_released", logging.DEBUG),
    "restore": _Kind("image_restored"),
    "sweep": _Kind("sweep_ended"),
}
_CONDITION = _Kind(level=logging.WARNING)


def write_entries(now_ns: int, *entries: Entry) -> list[Facts]:
    """Log entries; returns the lines of those that the journal and listeners get."""
    lines: list[Facts] = []
    for entry in entries:
        kind = _KINDS.get(entry.event, _CONDITION)
        if kind.logged_as is not None:
            # A failure is logged as what has failed.
            event = str(entry.facts["reason"]) if entry.event == "failure" else kind.logged_as or entry.event
            image = {} if entry.key is None else {"repository": entry.key[0], "digest": entry.key[1]}
            log_event(entry.level or kind.level, event, **image, **kind.logged(entry.facts))
        if kind.is_journalled:
            lines.append(entry.line(now_ns))
    return lines
