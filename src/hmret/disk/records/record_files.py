"""Reading and writing a record of hmret's own: one JSON document in a file of `system/hmret/`."""

from typing import TypeVar

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_own_folder, read_file, write_file
from hmret.disk.hypeman.documents import UnreadableError, read_document
from hmret.disk.layout import OWN

T = TypeVar("T")


def read_record(filesystem: Filesystem, data_fd: int, name: str, kind: type[T]) -> T | None:
    """Read a record; None where there is none, or it cannot be read."""
    try:
        return read_document(read_file(filesystem, f"{OWN}/{name}", data_fd), kind)
    except (OSError, UnreadableError):
        return None


def write_record(filesystem: Filesystem, data_fd: int, name: str, value: object) -> None:
    """Write a record as a whole, durably.

    Raises:
        OSError: it could not be written; the previous record then stays.
    """
    content = msgspec.json.encode(value)
    with opened_own_folder(filesystem, data_fd) as fd:
        write_file(filesystem, name, content, fd, durable=True)


def is_text(name: str) -> bool:
    """Return whether a record can hold a name; one that is not UTF-8 it cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
