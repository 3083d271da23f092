"""The journal: one line of JSON for each action on an image, for people who investigate later.

Nothing depends on it: a line that cannot be written is lost, and a line that a crash has truncated stays as
it is.
"""

import os
from collections.abc import Iterable, Mapping

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened, opened_own_folder, read_file, write_all
from hmret.disk.layout import OWN
from hmret.model.times import parse_time

JOURNAL = "journal.jsonl"
LARGEST_JOURNAL = 10 * 1024 * 1024
"""In bytes; after that a new file is begun."""
KEPT_FILES = 5
"""Files that are kept, the current one included: `journal.jsonl`, `journal.jsonl.1` (the latest before it) to `.4`."""


def append_to_journal(
    filesystem: Filesystem,
    data_fd: int,
    entries: Iterable[Mapping[str, object]],
    *,
    largest_bytes: int = LARGEST_JOURNAL,
    kept_files: int = KEPT_FILES,
) -> None:
    """Append entries, one line each, and begin a new file where this one has become too large.

    Raises:
        OSError: some or all of them could not be written.
    """
    lines = b"".join(map(_line, entries))
    with opened_own_folder(filesystem, data_fd) as own_fd:
        fd = _open(filesystem, own_fd)
        try:
            size_bytes = filesystem.fstat(fd).st_size
            if size_bytes and size_bytes + len(lines) > largest_bytes:
                filesystem.close(fd)
                fd = -1
                _rotate(filesystem, own_fd, kept_files)
                fd = _open(filesystem, own_fd)
                size_bytes = 0
            if size_bytes and not _ends_with_line(filesystem, own_fd, size_bytes):
                lines = b"\n" + lines
            write_all(filesystem, fd, lines)
        finally:
            if fd >= 0:
                filesystem.close(fd)


class _Entry(msgspec.Struct, gc=False):
    time: str = ""
    event: str = ""
    image: str = ""
    reason: str = ""


def deletions_on_record(
    filesystem: Filesystem, data_fd: int, digests: Iterable[str], since_ns: int
) -> dict[str, int]:
    """Return when each of some digests was last deleted since a moment, by the journal; others are left out.

    A part of the journal that cannot be read is skipped.
    """
    chosen = set(digests)
    found: dict[str, int] = {}
    for name in (JOURNAL, f"{JOURNAL}.1"):
        try:
            content = read_file(filesystem, f"{OWN}/{name}", data_fd)
        except OSError:
            continue
        for line in content.splitlines():
            if not any(digest.encode() in line for digest in chosen):
                continue
            try:
                entry = msgspec.json.decode(line, type=_Entry)
                moment_ns = parse_time(entry.time)
            except (msgspec.MsgspecError, ValueError):
                continue
            digest = entry.image.rpartition("@")[2]
            if digest not in chosen or moment_ns < since_ns:
                continue
            if entry.event == "delete":
                found[digest] = max(moment_ns, found.get(digest, moment_ns))
            elif entry.event == "recover" and entry.reason == "finished":
                # A crash had cut the deletion off at some time before this entry was written.
                found.setdefault(digest, since_ns)
    return found


def _line(entry: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(entry) + b"\n"
    except UnicodeEncodeError:  # a name on the disk that is not UTF-8
        return msgspec.json.encode(_printable(entry)) + b"\n"


def _printable(value: object) -> object:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case Mapping():
            return {_printable(key): _printable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_printable(inner) for inner in value]
    return value


def _open(filesystem: Filesystem, own_fd: int) -> int:
    # guard(no-links-for-the-log): A link in the place of the journal must not make us write into a file
    # elsewhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    return filesystem.open(JOURNAL, flags, 0o600, dir_fd=own_fd)


def _ends_with_line(filesystem: Filesystem, own_fd: int, size_bytes: int) -> bool:
    """Return whether the last line is complete: a crash or a full disk may have truncated it."""
    with opened(filesystem, filesystem.open(JOURNAL, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=own_fd)) as fd:
        return filesystem.pread(fd, 1, size_bytes - 1) == b"\n"


def _rotate(filesystem: Filesystem, own_fd: int, kept_files: int) -> None:
    names = [JOURNAL, *(f"{JOURNAL}.{number}" for number in range(1, kept_files))]
    for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
        try:
            filesystem.rename(newer, older, src_dir_fd=own_fd, dst_dir_fd=own_fd)
        except FileNotFoundError:
            continue
