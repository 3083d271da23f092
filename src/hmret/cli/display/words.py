"""The words for actions, for people; JSON documents say `clear` and `mark` instead."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from hmret.api.wire.structs import SummaryDocument
from hmret.cli.display.tables import format_size
from hmret.model.plan.differences import PATTERN_KEYS
from hmret.model.verdicts import Action, Reason, Verdict

DELETE, STOP, START, KEEP = "delete", "stop timer", "start timer", "keep"

ENABLE = "set hmret.enabled, or pass --enable"
"""The remedy if retention is disabled. It never names images.auto_delete.enabled: next to a hypeman server, that
would start hypeman's own controller as well."""

ACTION_STYLES: Mapping[str, str] = {DELETE: "red", STOP: "magenta", START: "yellow"}


def action_of(verdict: Verdict) -> str:
    """Name what a sweep does with an image: delete it, start or stop its timer, or keep it."""
    match verdict.action:
        case Action.DELETE:
            return DELETE
        case Action.MARK:
            return START
        case Action.CLEAR if verdict.unused_since_ns is not None:
            return STOP
    return KEEP


def stopped_by(verdicts: Iterable[Verdict]) -> Mapping[Reason, int]:
    """Count the timers that a sweep stops, by reason."""
    return count_reasons(verdict for verdict in verdicts if action_of(verdict) == STOP)


def count_reasons(verdicts: Iterable[Verdict]) -> Mapping[Reason, int]:
    """Count images by reason, the most frequent first."""
    return dict(Counter(verdict.reason for verdict in verdicts).most_common())


def put_count(count: int, what: str, several: str | None = None) -> str:
    """Format a count with its noun: `1 timer`, `2 timers`; `several`: the plural if it does not just take an s."""
    return f"{count} {what if count == 1 else several or f'{what}s'}"


def tell_stopped(by_reason: Mapping[Reason, int]) -> Iterator[str]:
    """Describe which timers a sweep would stop, and why."""
    count = sum(by_reason.values())
    if count:
        parts = (
            f"{number} {reason.value}{f' ({PATTERN_KEYS[reason]})' if reason in PATTERN_KEYS else ''}"
            for reason, number in by_reason.items()
        )
        yield f"{put_count(count, 'timer')} would be stopped: {', '.join(parts)}"


def tell_summary(summary: SummaryDocument, stopped: Mapping[Reason, int]) -> Iterator[str]:
    """Summarise a sweep: first deletions, then stopped timers with their reasons, then the rest."""
    going = put_count(summary.delete, "image") if summary.delete else "no image"
    yield f"{going} of {summary.images} would be deleted ({format_size(summary.delete_bytes)})"
    yield from tell_stopped(stopped)
    if summary.mark:
        yield f"{put_count(summary.mark, 'timer')} would be started"
    if summary.prune:
        yield f"{put_count(summary.prune, 'record')} of absent images would be pruned"


def name_source(source: str, names: Mapping[str, str]) -> str:
    """Add a VM's name to the id of a user of an image: `instance/ID (web-1)`."""
    name = names.get(source, "")
    return f"{source} ({name})" if name else source
