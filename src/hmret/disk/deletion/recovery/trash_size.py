"""How many bytes in the trash wait to be freed."""

import os
from collections.abc import Callable, Container
from contextlib import suppress

from hmret.disk.deletion.recovery.quarantine_records import RECORD
from hmret.disk.deletion.trash.intents import intent_name
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened, opened_folder
from hmret.disk.hypeman.scan import BLOCK
from hmret.disk.layout import TRASH


def trash_bytes(filesystem: Filesystem, data_dir: str, held: Container[str] = ()) -> int:
    """Add up the blocks in the trash that wait to be erased; folders that disappear concurrently may or may not count.

    `held`: the names of intents in quarantine, whose folders do not count, nor do their records.

    Raises:
        OSError: the trash exists but cannot be read.
    """
    with opened(filesystem, filesystem.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)) as data_fd:
        try:
            trash_fd = open_data_folder(filesystem, data_fd, TRASH)
        except FileNotFoundError:
            return 0
        with opened(filesystem, trash_fd):
            return _size(
                filesystem, trash_fd, lambda name: intent_name(name) in held or name.endswith(RECORD)
            )


def _size(
    filesystem: Filesystem, folder_fd: int, is_held: Callable[[str], bool] = lambda _name: False
) -> int:
    with filesystem.scandir(folder_fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    total = 0
    for name, is_folder in found:
        if is_held(name):
            continue
        with suppress(FileNotFoundError):
            if is_folder:
                with opened_folder(filesystem, name, folder_fd) as fd:
                    total += _size(filesystem, fd)
            else:
                total += filesystem.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_blocks * BLOCK
    return total
