"""The record of what last needed each image, `system/hmret/last-users.json`, reported at its deletion."""

from collections.abc import Iterable

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import make_folders, opened, read_file, write_file
from hmret.disk.layout import OWN
from hmret.model.records.users import UsersRecord

__all__ = ["LAST_USERS", "load_last_users", "save_last_users"]

LAST_USERS = "last-users.json"
_FAULTS = (OSError, msgspec.MsgspecError, ValueError, RecursionError)


class _Users(msgspec.Struct, gc=False):
    repository: str
    digest: str
    referenced_by: list[str]
    vm_names: dict[str, str] = {}


def load_last_users(filesystem: Filesystem, data_fd: int) -> tuple[UsersRecord, ...]:
    """Read what needed images last; empty where the record cannot be read: nothing depends on it."""
    try:
        found = msgspec.json.decode(read_file(filesystem, f"{OWN}/{LAST_USERS}", data_fd), type=list[_Users])
    except _FAULTS:
        return ()
    return tuple(
        UsersRecord(
            repository=one.repository,
            digest=one.digest,
            referenced_by=tuple(one.referenced_by),
            vm_names=one.vm_names,
        )
        for one in found
    )


def save_last_users(filesystem: Filesystem, data_fd: int, users: Iterable[UsersRecord]) -> None:
    """Write what needed images last, except sources whose names are no UTF-8.

    Raises:
        OSError: it could not be written.
    """
    document: list[_Users] = []
    for one in users:
        named = list(filter(_is_text, one.referenced_by))
        vm_names = {source: one.vm_names[source] for source in named if source in one.vm_names}
        if named:
            document.append(_Users(one.repository, one.digest, named, vm_names))
    with opened(filesystem, make_folders(filesystem, data_fd, OWN, 0o700)) as fd:
        write_file(filesystem, LAST_USERS, msgspec.json.encode(document), fd, durable=True)


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
