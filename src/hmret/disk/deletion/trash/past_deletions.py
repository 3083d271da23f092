"""What was deleted lately: the intents that are carried out, kept for a day for those who find what has come since."""

from collections.abc import Iterable
from contextlib import suppress
from operator import itemgetter

import msgspec

from hmret.disk.deletion.trash.intents import Intent
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened, read_file
from hmret.disk.layout import DELETED, OWN

__all__ = ["deleted_lately", "forget_deleted"]

_FOLDER = f"{OWN}/{DELETED}"
_SUFFIX = ".json"
_KEPT = 1000
"""Files that are kept at most."""


def deleted_lately(
    filesystem: Filesystem, data_fd: int, digests: Iterable[str], since_ns: int
) -> dict[str, int]:
    """Look when some digests were last to be deleted, since a moment; those that were not are left out.

    What was written down right before the deletion tells that. An image that stayed in the end is among them too.
    """
    chosen = set(digests)
    found: dict[str, int] = {}
    with suppress(OSError), opened(filesystem, open_data_folder(filesystem, data_fd, _FOLDER)) as fd:
        for name, moment_ns in _filed(filesystem, fd):
            if moment_ns < since_ns:
                continue
            try:
                intents = msgspec.json.decode(read_file(filesystem, name, fd), type=list[Intent])
            except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
                continue
            for digest in chosen.intersection(intent.digest for intent in intents):
                found[digest] = max(moment_ns, found.get(digest, moment_ns))
    return found


def forget_deleted(filesystem: Filesystem, data_fd: int, before_ns: int) -> None:
    """Remove the intents that were carried out before a moment, and all but the newest thousand."""
    with suppress(OSError), opened(filesystem, open_data_folder(filesystem, data_fd, _FOLDER)) as fd:
        newest = sorted(_filed(filesystem, fd), key=itemgetter(1), reverse=True)
        for number, (name, moment_ns) in enumerate(newest):
            if number >= _KEPT or moment_ns < before_ns:
                with suppress(OSError):
                    filesystem.unlink(name, dir_fd=fd)


def _filed(filesystem: Filesystem, fd: int) -> list[tuple[str, int]]:
    """List the files of intents that are carried out, each with when it was written."""
    with filesystem.scandir(fd) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(_SUFFIX)]
    return [(name, filesystem.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime_ns) for name in names]
