"""The record of what last needed each image, `system/hmret/last-users.json`, reported at its deletion."""

from collections.abc import Iterable, Sequence

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.records.record_files import is_text, read_record, write_record
from hmret.model.records.users import UsersRecord

_LAST_USERS = "last-users.json"


def load_last_users(filesystem: Filesystem, data_fd: int) -> Sequence[UsersRecord]:
    """Read what needed images last; empty where the record cannot be read: nothing depends on it."""
    return read_record(filesystem, data_fd, _LAST_USERS, list[UsersRecord]) or ()


def save_last_users(filesystem: Filesystem, data_fd: int, users: Iterable[UsersRecord]) -> None:
    """Write what needed images last, except sources whose names are no UTF-8.

    Raises:
        OSError: it could not be written.
    """
    document: list[UsersRecord] = []
    for one in users:
        named = tuple(filter(is_text, one.referenced_by))
        vm_names = {source: one.vm_names[source] for source in named if source in one.vm_names}
        if named:
            document.append(msgspec.structs.replace(one, referenced_by=named, vm_names=vm_names))
    write_record(filesystem, data_fd, _LAST_USERS, document)
