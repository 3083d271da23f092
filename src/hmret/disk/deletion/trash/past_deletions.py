"""Recent deletions: completed intents, kept for a day so that leftovers of late calls can be recognised.

After a power loss they also show which tags were removed, should the file system have brought them back.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import itemgetter

from hmret.disk.deletion.trash.intent_files import SUFFIX, Recorded, intent_of, is_ours
from hmret.disk.deletion.trash.intents import Intent
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_data_folder, opened_own_folder, read_file
from hmret.disk.hypeman.documents import UnreadableError, read_document
from hmret.disk.layout import DELETED, TRASH

_KEPT = 1000
"""The most files that are kept."""


def deleted_lately(
    filesystem: Filesystem, data_fd: int, digests: Iterable[str], since_ns: int
) -> dict[str, int]:
    """Return when a deletion of each digest was last begun, for those with one since a moment.

    The times are those at which the intents were written. An image that stayed in the end is among them too.
    """
    chosen = set(digests)
    found: dict[str, int] = {}
    for _, moment_ns, records in _completed(filesystem, data_fd, since_ns):
        for digest in chosen.intersection(record.digest for record in records):
            found[digest] = max(moment_ns, found.get(digest, moment_ns))
    return found


def completed_intents(filesystem: Filesystem, data_fd: int) -> Iterator[tuple[str, list[Intent]]]:
    """Give the name and the intents of each recent batch; what cannot be read or is not hmret's is left out."""
    for batch_name, _, records in _completed(filesystem, data_fd):
        yield batch_name, [intent_of(record) for record in records if is_ours(record, batch_name)]


def _completed(
    filesystem: Filesystem, data_fd: int, since_ns: int = 0
) -> Iterator[tuple[str, int, list[Recorded]]]:
    """Give the name of each batch since a moment, when its intents were written, and those that can be read."""
    with suppress(OSError), opened_data_folder(filesystem, data_fd, DELETED) as fd:
        for name, moment_ns in _filed(filesystem, fd):
            if moment_ns >= since_ns:
                with suppress(OSError, UnreadableError):
                    records = read_document(read_file(filesystem, name, fd), list[Recorded])
                    yield name.removesuffix(SUFFIX), moment_ns, records


def reopen_intents(filesystem: Filesystem, data_fd: int, batch_name: str) -> None:
    """Return a file of completed intents to the trash, so that the next recovery goes through them again.

    Raises:
        OSError: it could not be moved.
    """
    name = batch_name + SUFFIX
    with (
        opened_data_folder(filesystem, data_fd, DELETED) as fd,
        opened_own_folder(filesystem, data_fd, TRASH) as trash_fd,
    ):
        filesystem.rename(name, name, src_dir_fd=fd, dst_dir_fd=trash_fd)


def forget_deleted(filesystem: Filesystem, data_fd: int, before_ns: int) -> None:
    """Remove the intents that were completed before a moment, and all but the newest thousand."""
    with suppress(OSError), opened_data_folder(filesystem, data_fd, DELETED) as fd:
        newest = sorted(_filed(filesystem, fd), key=itemgetter(1), reverse=True)
        for number, (name, moment_ns) in enumerate(newest):
            if number >= _KEPT or moment_ns < before_ns:
                with suppress(OSError):
                    filesystem.unlink(name, dir_fd=fd)


def _filed(filesystem: Filesystem, fd: int) -> list[tuple[str, int]]:
    """List the files of completed intents, each with the time when it was written."""
    with filesystem.scandir(fd) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(SUFFIX)]
    return [(name, filesystem.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime_ns) for name in names]
