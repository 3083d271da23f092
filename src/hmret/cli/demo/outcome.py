"""What became of each image, why, and whether the disk agrees."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import attrs
import msgspec

from hmret.cli.demo.chronicle import Chronicle, bytes_text, day_of, days_of
from hmret.cli.demo.host import Host, PulledImage, hash_disk
from hmret.disk.layout import METADATA, OWN, RETENTION, TRASH, hex_of
from hmret.model.images import Key
from hmret.model.planning import Plan, Reason, Verdict

__all__ = ["Outcome", "find_faults", "outcomes", "print_outcomes", "to_document"]

_WHY = {
    Reason.LEASED: "a lease covers it",
    Reason.PINNED: "its repository is pinned",
    Reason.NOT_ALLOWED: "its repository is not among those allowed",
}


@attrs.frozen
class Outcome:
    """What became of one image."""

    name: str
    image: PulledImage
    is_deleted: bool
    reason: Reason
    why: str
    """In words, to follow "because"."""
    unused_since: timedelta | None
    """On the demonstration's clock; None: it is in use."""
    freed_bytes: int


def outcomes(host: Host, chronicle: Chronicle, plan: Plan) -> list[Outcome]:
    """Put together what the engine said of each image that was ever pulled; sorted by name."""
    found = [_outcome(image, chronicle, plan) for image in host.pulled.values()]
    return sorted(found, key=lambda outcome: outcome.name)


def find_faults(host: Host, found: Sequence[Outcome], fates: Mapping[Key, Reason]) -> list[str]:
    """Say, a line each, what is not as it was told: by the story, or by the real directory."""
    faults = [
        f"{outcome.name}: {outcome.reason}, but the story says {fates[outcome.image.key]}"
        for outcome in found
        if outcome.reason is not fates[outcome.image.key]
    ]
    for outcome in found:
        faults.extend(f"{outcome.name}: {fault}" for fault in _disk_faults(host, outcome))
    trash = host.data_dir / OWN / TRASH
    if trash.exists() and any(trash.iterdir()):
        faults.append("the trash is not empty")
    return faults


def to_document(chronicle: Chronicle, found: Sequence[Outcome], faults: Sequence[str]) -> dict[str, object]:
    """Make the one JSON document; times are in days since the beginning."""
    return {
        "days": days_of(chronicle.clock.elapsed),
        "events": [
            {"day": days_of(event.at), "from": event.teller, "event": event.name, "text": event.text}
            for event in chronicle.events
        ],
        "images": [
            {
                "name": outcome.name,
                "repository": outcome.image.repository,
                "digest": outcome.image.digest,
                "outcome": _word(outcome),
                "reason": outcome.reason,
                "why": outcome.why,
                "unused_since_day": None if outcome.unused_since is None else days_of(outcome.unused_since),
                "freed_bytes": outcome.freed_bytes,
            }
            for outcome in found
        ],
        "deleted_images": sum(outcome.is_deleted for outcome in found),
        "kept_images": sum(not outcome.is_deleted for outcome in found),
        "freed_bytes": sum(outcome.freed_bytes for outcome in found),
        "faults": list(faults),
    }


def print_outcomes(found: Sequence[Outcome], *, on_terminal: bool) -> None:
    """Print the table, and a line for each image."""
    head = ("image", "outcome", "why", "freed")
    rows = [
        (
            outcome.name,
            _word(outcome),
            outcome.why,
            bytes_text(outcome.freed_bytes) if outcome.is_deleted else "",
        )
        for outcome in found
    ]
    print()
    if on_terminal:
        _print_table(head, rows)
    else:
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    for outcome in sorted(found, key=lambda outcome: not outcome.is_deleted):
        print(_line(outcome))


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - a pipe needs none of it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table()
    for title in head:
        table.add_column(title, justify="right" if title == "freed" else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row), style="dim" if row[1] == "deleted" else "")
    Console().print(table)


def _line(outcome: Outcome) -> str:
    if outcome.is_deleted and outcome.unused_since is not None:
        since = day_of(outcome.unused_since)
        return f"deleted {outcome.name}, unused since day {since}, freed {bytes_text(outcome.freed_bytes)}"
    return f"kept {outcome.name} because {outcome.why}"


def _outcome(image: PulledImage, chronicle: Chronicle, plan: Plan) -> Outcome:
    name = chronicle.names[image.key]
    deletion = chronicle.deleted.get(image.key)
    if deletion is not None:
        why = f"nothing has used it since day {day_of(deletion.unused_since)}"
        return Outcome(name, image, True, Reason.EXPIRED, why, deletion.unused_since, deletion.freed_bytes)
    verdict = plan.verdict(*image.key)
    if verdict is None:
        return Outcome(name, image, False, Reason.BROKEN, "the engine does not know of it", None, 0)
    since_ns = verdict.unused_since_ns
    since = None if since_ns is None else chronicle.clock.moment_of(since_ns)
    reason, why = _reason(verdict, chronicle)
    return Outcome(name, image, False, reason, why, since, 0)


def _reason(verdict: Verdict, chronicle: Chronicle) -> tuple[Reason, str]:
    """Say why an image was kept, and in words; one that was found open is in a new window since."""
    key = verdict.repository, verdict.digest
    match verdict.reason:
        case Reason.REFERENCED:
            verb = "refers" if len(verdict.referenced_by) == 1 else "refer"
            return verdict.reason, f"{' and '.join(verdict.referenced_by)} {verb} to it"
        case Reason.RETENTION_WINDOW if (
            verdict.expires_at_ns is not None and verdict.unused_since_ns is not None
        ):
            since = day_of(chronicle.clock.moment_of(verdict.unused_since_ns))
            ends = f"its window ends on day {day_of(chronicle.clock.moment_of(verdict.expires_at_ns))}"
            if key in chronicle.found_open:
                day = day_of(chronicle.found_open[key])
                return Reason.OPEN, f"a process had its disk open when it was to go, on day {day}; {ends}"
            if key in chronicle.marked_used:
                day = day_of(chronicle.marked_used[key])
                return verdict.reason, f"it was marked used on day {day}; {ends}"
            return verdict.reason, f"it is unused only since day {since}; {ends}"
        case _:
            return verdict.reason, _WHY.get(verdict.reason, verdict.reason.replace("_", " "))


def _word(outcome: Outcome) -> str:
    return "deleted" if outcome.is_deleted else "kept"


def _disk_faults(host: Host, outcome: Outcome) -> Iterator[str]:
    """Compare what the engine said of an image with what lies on the disk."""
    image = outcome.image
    links = _links_to(image)
    if outcome.is_deleted:
        if image.folder.exists():
            yield "said to be deleted, but its folder is there"
        if links:
            yield f"deleted, but {', '.join(links)} still points to it"
        if (host.data_dir / RETENTION / image.repository / f"{hex_of(image.digest)}.json").exists():
            yield "deleted, but its state is there"
        if outcome.freed_bytes != image.disk_bytes:
            yield f"said to have freed {outcome.freed_bytes} bytes, but occupied {image.disk_bytes}"
        return
    try:
        is_ready = msgspec.json.decode((image.folder / METADATA).read_bytes())["status"] == "ready"
        is_whole = is_ready and hash_disk(image.disk) == image.content_hash
    except FileNotFoundError:
        is_whole = False
    if not is_whole:
        yield "said to be kept, but it is not here whole"
    if host.tags[image.reference] == image.key and image.tag not in links:
        yield "kept, but its tag is gone"


def _links_to(image: PulledImage) -> list[str]:
    """List the tags that point to an image, or to where it was."""
    repository = image.folder.parent
    if not repository.is_dir():
        return []
    target = Path(hex_of(image.digest))
    return sorted(
        path.name for path in repository.iterdir() if path.is_symlink() and path.readlink() == target
    )
