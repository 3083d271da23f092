"""The record of failed deletions, `system/hmret/backoff.json`, by which single sweeps back off too."""

from collections.abc import Sequence

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import make_folders, opened, read_file, write_file
from hmret.disk.layout import OWN
from hmret.model.records.backoff import FailureRecord

__all__ = ["BACKOFF", "load_backoff", "save_backoff"]

BACKOFF = "backoff.json"
_FAULTS = (OSError, msgspec.MsgspecError, ValueError, RecursionError)


class _Failure(msgspec.Struct, gc=False):
    repository: str
    digest: str
    failures: int
    boot_id: str
    again_boot_ns: int


def load_backoff(filesystem: Filesystem, data_fd: int) -> tuple[FailureRecord, ...]:
    """Read which deletions failed; empty where the record cannot be read: then each is tried again."""
    try:
        found = msgspec.json.decode(read_file(filesystem, f"{OWN}/{BACKOFF}", data_fd), type=list[_Failure])
    except _FAULTS:
        return ()
    return tuple(FailureRecord(**msgspec.structs.asdict(one)) for one in found)


def save_backoff(filesystem: Filesystem, data_fd: int, failures: Sequence[FailureRecord]) -> None:
    """Write which deletions failed.

    Raises:
        OSError: it could not be written.
    """
    document = [_Failure(**attrs.asdict(one)) for one in failures]
    with opened(filesystem, make_folders(filesystem, data_fd, OWN, 0o700)) as fd:
        write_file(filesystem, BACKOFF, msgspec.json.encode(document), fd, durable=True)
