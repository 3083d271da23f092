"""What became of each image, why, and whether the disk agrees."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from hmret.cli.demo.chronicle import Chronicle, day_of, days_of, held_text
from hmret.cli.demo.host import Host
from hmret.cli.demo.image_store import DISK, StoredImage, hash_disk
from hmret.cli.display.tables import format_size
from hmret.disk.layout import METADATA, RETENTION, TRASH, hex_of
from hmret.model.plan.plan import Plan
from hmret.model.references import Key
from hmret.model.values import frozen
from hmret.model.verdicts import Reason, Verdict

_WHY = {
    Reason.LEASED: "a lease covers it",
    Reason.PINNED: "its repository is pinned",
    Reason.NOT_ALLOWED: "its repository is not among those allowed",
}

_KEPT = {
    Reason.REFERENCED: "in use",
    Reason.RETENTION_WINDOW: "not due yet",
    Reason.LEASED: "leased",
    Reason.OPEN: "open",
    Reason.PINNED: "pinned",
    Reason.NOT_ALLOWED: "not allowed",
}
"""Short phrases that follow a number."""


@frozen
class Outcome:
    """What became of one image."""

    name: str
    image: StoredImage
    is_deleted: bool
    reason: Reason
    why: str
    """A phrase that follows "because"."""
    unused_since: timedelta | None
    """On the demonstration's clock; None: it is in use."""
    freed_bytes: int
    """Bytes shared by several repositories count in full for one of them."""


def outcomes(host: Host, chronicle: Chronicle, plan: Plan) -> list[Outcome]:
    """Combine what the engine reported on each image that the host has had; sorted by name."""
    found = [_outcome(image, chronicle, plan) for image in host.images.values()]
    return sorted(found, key=lambda outcome: outcome.name)


def find_faults(host: Host, found: Sequence[Outcome], fates: Mapping[Key, Reason]) -> list[str]:
    """List, one line each, every outcome that contradicts the story or the actual directory."""
    faults = [
        f"{outcome.name}: {outcome.reason}, but the story says {fates[outcome.image.key]}"
        for outcome in found
        if outcome.reason is not fates[outcome.image.key]
    ]
    freed_bytes: Counter[str] = Counter()
    for outcome in found:
        freed_bytes[outcome.image.digest] += outcome.freed_bytes
    for outcome in found:
        faults.extend(
            f"{outcome.name}: {fault}"
            for fault in _disk_faults(host, outcome, freed_bytes[outcome.image.digest])
        )
    trash = host.data_dir / TRASH
    if trash.exists() and any(trash.iterdir()):
        faults.append("the trash is not empty")
    return faults


def to_document(chronicle: Chronicle, found: Sequence[Outcome], faults: Sequence[str]) -> dict[str, object]:
    """Make the JSON document; times are in days since the start."""
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
                "outcome": "deleted" if outcome.is_deleted else "kept",
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


def sum_up(found: Sequence[Outcome]) -> list[str]:
    """Summarise in two lines what became of all images."""
    kept = Counter(_KEPT.get(outcome.reason, "kept") for outcome in found if not outcome.is_deleted)
    freed = format_size(sum(outcome.freed_bytes for outcome in found))
    gone = sum(outcome.is_deleted for outcome in found)
    why = ", ".join(f"{number} {words}" for words, number in sorted(kept.items(), key=lambda item: -item[1]))
    return [f"{len(found)} images: {gone} deleted ({freed}), {len(found) - gone} kept", why]


def _outcome(image: StoredImage, chronicle: Chronicle, plan: Plan) -> Outcome:
    name = chronicle.names[image.key]
    deletion = chronicle.deleted.get(image.key)
    if deletion is not None:
        why = f"nothing has used it since day {day_of(deletion.unused_since)}"
        return Outcome(name, image, True, deletion.reason, why, deletion.unused_since, deletion.freed_bytes)
    verdict = plan.verdict(*image.key)
    if verdict is None:
        return Outcome(name, image, False, Reason.BROKEN, "the engine does not know of it", None, 0)
    since_ns = verdict.unused_since_ns
    since = None if since_ns is None else chronicle.clock.moment_of(since_ns)
    reason, why = _reason(verdict, chronicle)
    return Outcome(name, image, False, reason, why, since, 0)


def _reason(verdict: Verdict, chronicle: Chronicle) -> tuple[Reason, str]:
    """Return why an image was kept, also in words; one that was found open has a new window since then."""
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
        case Reason.SHARED:
            return verdict.reason, held_text(verdict)
        case _:
            return verdict.reason, _WHY.get(verdict.reason, verdict.reason.replace("_", " "))


def _disk_faults(host: Host, outcome: Outcome, freed_bytes: int) -> Iterator[str]:
    """Compare the engine's report on an image with the disk.

    `freed_bytes` is the total of all repositories that had it.
    """
    image = outcome.image
    tags = [link.name for link in host.store.links_to(*image.key)]
    if outcome.is_deleted:
        if any(folder.exists() for folder in image.folders):
            yield "said to be deleted, but its folder is there"
        if tags:
            yield f"deleted, but {', '.join(tags)} still points to it"
        if (host.data_dir / RETENTION / image.repository / f"{hex_of(image.digest)}.json").exists():
            yield "deleted, but its state is there"
        if freed_bytes != image.disk_bytes:
            yield f"said to have freed {freed_bytes} bytes, but occupied {image.disk_bytes}"
        return
    if not all(_is_whole(folder, image) for folder in image.folders):
        yield "said to be kept, but it is not here whole"
    if host.tags[image.reference] == image.key and image.tag not in tags:
        yield "kept, but its tag is gone"


def _is_whole(folder: Path, image: StoredImage) -> bool:
    try:
        is_ready = msgspec.json.decode((folder / METADATA).read_bytes())["status"] == "ready"
        return is_ready and hash_disk(folder / DISK) == image.disk_hash
    except FileNotFoundError:
        return False
