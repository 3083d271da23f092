"""A folder of tags or of states, scanned with and without having been read ahead: the same is found."""

from collections.abc import Callable
from typing import TypeVar

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders_ahead import read_ahead
from hmret.disk.hypeman.images import FolderScan
from hmret.disk.hypeman.retention_states.scanning import StateFolder

__all__ = ["fields_of", "scanned_both_ways"]

F = TypeVar("F", FolderScan, StateFolder)


def fields_of(folder: FolderScan | StateFolder) -> dict[str, object]:
    """Return all that is known of a folder, with what a change of it shows; errors by their text."""
    fields = {name: getattr(folder, name) for name in folder.__struct_fields__}
    if isinstance(folder, StateFolder):
        # Marks are in the order of the timers, which is none.
        numbers = memoryview(folder.marks).cast("q").tolist()
        marks = zip(numbers[::2], numbers[1::2], strict=True)
        fields["marks"] = dict(zip(folder.timers, marks, strict=True))
    else:
        fields["error"] = repr(folder.error)
    return fields


def scanned_both_ways(
    scan: Callable[..., F], filesystem: Filesystem, folder_fd: int, path: str, suffix: str = ""
) -> F:
    """Scan a folder twice; fails where the two differ in anything."""
    by_itself = scan()
    ahead = read_ahead(filesystem, folder_fd, [path or "."], suffix).get(path or ".")
    assert fields_of(scan(ahead=ahead)) == fields_of(by_itself)
    return by_itself
