"""The record of failed deletions, `system/hmret/backoff.json`, by which single sweeps back off too."""

from collections.abc import Sequence

import attrs

from hmret.disk.filesystem import Filesystem
from hmret.disk.records.record_files import read_record, write_record
from hmret.model.records.backoff import FailureRecord

_BACKOFF = "backoff.json"


def load_backoff(filesystem: Filesystem, data_fd: int) -> Sequence[FailureRecord]:
    """Read which deletions failed; empty where the record cannot be read: then each is tried again."""
    return read_record(filesystem, data_fd, _BACKOFF, list[FailureRecord]) or ()


def save_backoff(filesystem: Filesystem, data_fd: int, failures: Sequence[FailureRecord]) -> None:
    """Write which deletions failed.

    Raises:
        OSError: it could not be written.
    """
    write_record(filesystem, data_fd, _BACKOFF, list(map(attrs.asdict, failures)))
