"""Writing and removing retention states."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import make_data_folders, opened, opened_data_folder, remove_empty_folders, write_file
from hmret.disk.hypeman.documents import encode_state
from hmret.disk.image_claim import UNCONTESTED, Claim
from hmret.disk.layout import RETENTION, hex_of
from hmret.model.references import Key


def write_states(
    filesystem: Filesystem,
    data_fd: int,
    keys: Iterable[Key],
    unused_since_ns: int,
    *,
    earlier: Mapping[Key, int] = MappingProxyType({}),
    claim: Claim = UNCONTESTED,
    pause: Callable[[], None] = lambda: None,
    durable: bool = False,
) -> list[tuple[Key, OSError]]:
    """Start the timers of the images that the claim grants; returns those that could not be written, with the reason.

    Not synced to the disk by default: a power loss can then lose a timer, which starts again later. Timers that
    begin `earlier`, each at a time of its own, are synced: they replace timers that would otherwise come
    back.
    """
    failed: list[tuple[Key, OSError]] = []
    by_digest: dict[str, list[Key]] = {}
    for key in keys:
        by_digest.setdefault(key[1], []).append(key)
    for digest, same in by_digest.items():
        # guard(no-timer-for-taken-back): An image that came into use while its batch waited gets no timer: it
        # is not unused.
        if not claim.begin(digest):
            continue
        try:
            for key in same:
                try:
                    since_ns = earlier.get(key, unused_since_ns)
                    _write_again(filesystem, data_fd, key, since_ns, durable or key in earlier)
                except OSError as error:
                    failed.append((key, error))
        finally:
            claim.end(digest)
        pause()
    return failed


def _write_again(filesystem: Filesystem, data_fd: int, key: Key, unused_since_ns: int, durable: bool) -> None:
    try:
        _write_state(filesystem, data_fd, key, unused_since_ns, durable)
    except FileNotFoundError:
        # The folder was empty for a moment, and another thread that cleared a state has removed it.
        _write_state(filesystem, data_fd, key, unused_since_ns, durable)


def _write_state(filesystem: Filesystem, data_fd: int, key: Key, unused_since_ns: int, durable: bool) -> None:
    repository, digest = key
    with opened(filesystem, make_data_folders(filesystem, data_fd, f"{RETENTION}/{repository}")) as fd:
        content = encode_state(repository, digest, unused_since_ns)
        write_file(filesystem, f"{hex_of(digest)}.json", content, fd, durable=durable)


def clear_state(filesystem: Filesystem, data_fd: int, key: Key, *, durable: bool = False) -> bool:
    """Remove the state of one image, and the folders that this leaves empty; returns whether there was one.

    With `durable` no power loss brings it back, nor one that was removed before this call.

    Raises:
        OSError: it exists and could not be removed, or the removal could not be made durable.
    """
    repository, digest = key
    was_there = False
    try:
        with opened_data_folder(filesystem, data_fd, f"{RETENTION}/{repository}") as fd:
            with suppress(FileNotFoundError):
                filesystem.unlink(f"{hex_of(digest)}.json", dir_fd=fd)
                was_there = True
            if durable:
                filesystem.fsync(fd)
    except (FileNotFoundError, NotADirectoryError):
        if durable:
            _sync_above(filesystem, data_fd, f"{RETENTION}/{repository}")
        return False
    if was_there:
        with opened_data_folder(filesystem, data_fd, RETENTION) as fd:
            remove_empty_folders(filesystem, fd, repository)
    return was_there


def _sync_above(filesystem: Filesystem, data_fd: int, path: str) -> None:
    """Make durable that a folder no longer exists, by syncing the nearest folder above it that does."""
    while path:
        path = path.rpartition("/")[0]
        with suppress(FileNotFoundError), opened_data_folder(filesystem, data_fd, path) as fd:
            filesystem.fsync(fd)
            return
