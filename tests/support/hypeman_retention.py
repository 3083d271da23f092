"""hypeman's own retention controller, which must be switched off beside hmret, and is for a sweep left on."""

import errno
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from support.hypeman_lookup import METADATA, read_document
from support.hypeman_steps import Call, Outcome
from support.hypeman_today import Hypeman

__all__ = ["sweep_as_hypeman"]

_STATES = "system/image-retention"
_Key = tuple[str, str]


def sweep_as_hypeman(
    hypeman: Hypeman, now: datetime, unused_for: timedelta, is_allowed: Callable[[str], bool]
) -> Call:
    """Sweep once: what a guest's `Image` resolves to is protected, and nothing else.

    Args:
        hypeman: the server.
        now: the time.
        unused_for: the window.
        is_allowed: whether the images of a repository may go.
    """
    return hypeman.attempt(_sweep(hypeman, now, unused_for, is_allowed))


def _sweep(hypeman: Hypeman, now: datetime, unused_for: timedelta, is_allowed: Callable[[str], bool]) -> Call:
    reading = hypeman.reading()
    keys = {(_repository(row.name), row.hexadecimal) for row in reading.rows() if row.status == "ready"}
    protected = _protected(hypeman)
    yield "act on rows, references and timers"
    for repository, hexadecimal in sorted(keys):
        path = f"{_STATES}/{repository}/{hexadecimal}.json"
        since = _since(hypeman, path)
        if (repository, hexadecimal) in protected or not is_allowed(repository):
            if since is not None:
                yield f"unlink {path}"
                hypeman.remove(path)
        elif since is None:
            state = {
                "repository": repository,
                "digest": f"sha256:{hexadecimal}",
                "unused_since": now.isoformat(),
            }
            hypeman.disk.make_folders(path.rpartition("/")[0])
            yield f"write {path}.tmp"
            hypeman.disk.write(f"{path}.tmp", json.dumps(state).encode())
            yield f"rename {path}.tmp"
            hypeman.disk.rename(f"{path}.tmp", path)
        elif since + unused_for <= now:
            yield from hypeman.delete(repository, hexadecimal)
            if hypeman.disk.exists(path):
                yield f"unlink {path}"
                hypeman.remove(path)
    for path in hypeman.disk.tree(_STATES):
        repository, _, name = path.removeprefix(f"{_STATES}/").rpartition("/")
        is_state = name.endswith(".json") and hypeman.disk.exists(path)
        if is_state and (repository, name.removesuffix(".json")) not in keys:
            yield f"unlink {path}"
            hypeman.remove(path)
    return Outcome("done")


def _protected(hypeman: Hypeman) -> set[_Key]:
    found: set[_Key] = set()
    reading = hypeman.reading()
    for path, (kind, content) in hypeman.disk.tree("guests").items():
        guest = read_document(content) if kind == "file" and path.endswith(f"/{METADATA}") else None
        if guest is None or "Image" not in guest:
            continue
        repository, at, digest = str(guest["Image"]).partition("@")
        reference = digest
        if not at:
            repository, _, reference = repository.rpartition(":")
        image = reading.resolve(repository, reference)
        if image is not None:
            found.add((repository, image.hexadecimal))
    return found


def _since(hypeman: Hypeman, path: str) -> datetime | None:
    """Read a timer; one that does not parse fails the sweep."""
    kind, content = hypeman.disk.tree(_STATES).get(path, ("", None))
    if kind != "file":
        return None
    try:
        return datetime.fromisoformat((read_document(content) or {})["unused_since"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError) as error:
        raise OSError(errno.EINVAL, "a timer that does not parse", path) from error


def _repository(name: str) -> str:
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
