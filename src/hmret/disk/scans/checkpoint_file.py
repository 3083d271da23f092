"""Checkpoints of scan results, for a faster start: a file of frames, each with its length and its checksum.

Nothing rests on them. A checkpoint only says where to look, and counts only as far as the time stamps on the
disk are still the same; one that is missing, truncated, or of another release is treated as absent.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from zlib import crc32

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import READ, let_go, make_data_folders, opened
from hmret.disk.layout import OWN

_FRAME = struct.Struct("!II")
_CHUNK = 1 << 20
# No frame comes close to this length; a longer one is damage.
_LARGEST_FRAME = 64 << 20
_MODE = 0o700
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW


def save_snapshot(
    filesystem: Filesystem, data_fd: int, name: str, head: bytes, frames: Iterable[bytes]
) -> None:
    """Replace a checkpoint; `head` identifies its kind and format.

    Raises:
        OSError: it could not be written; the previous one then stays.
    """
    beside = f"{name}.tmp"
    with opened(filesystem, make_data_folders(filesystem, data_fd, OWN, _MODE)) as own_fd:
        try:
            fd = filesystem.open(beside, _WRITE, 0o600, dir_fd=own_fd)
            try:
                _write(filesystem, fd, head)
                for frame in frames:
                    _write(filesystem, fd, frame)
            finally:
                filesystem.close(fd)
            filesystem.rename(beside, name, src_dir_fd=own_fd, dst_dir_fd=own_fd)
        except OSError:
            with suppress(OSError):
                filesystem.unlink(beside, dir_fd=own_fd)
            raise


def load_snapshot(filesystem: Filesystem, data_fd: int, name: str, head: bytes) -> Iterator[bytes]:
    """Read the frames of a checkpoint, as far as they are intact; none where it has another head."""
    with suppress(OSError):
        fd = filesystem.open(f"{OWN}/{name}", READ, dir_fd=data_fd)
        try:
            frames = _frames(filesystem, fd)
            if next(frames, None) == head:
                yield from frames
        finally:
            let_go(filesystem, fd)


def _write(filesystem: Filesystem, fd: int, content: bytes) -> None:
    rest = memoryview(_FRAME.pack(len(content), crc32(content)) + content)
    while rest:
        rest = rest[filesystem.write(fd, bytes(rest)) :]


def _frames(filesystem: Filesystem, fd: int) -> Iterator[bytes]:
    waiting = _Waiting(filesystem, fd)
    while True:
        head = waiting.take(_FRAME.size)
        if len(head) < _FRAME.size:
            return
        length, checksum = _FRAME.unpack(head)
        if length > _LARGEST_FRAME:
            return
        content = waiting.take(length)
        # guard(damaged-record-is-ignored): What is saved for a quicker start is only a hint; a damaged part
        # is dropped, and what it spoke of is read from the disk.
        if len(content) < length or crc32(content) != checksum:
            return
        yield content


class _Waiting:
    """What has been read of a file and not been taken yet."""

    def __init__(self, filesystem: Filesystem, fd: int) -> None:
        self._filesystem = filesystem
        self._fd = fd
        self._content = b""
        self._taken = 0

    def take(self, length: int) -> bytes:
        """Take this many bytes, or fewer at the end of the file."""
        if len(self._content) - self._taken < length:
            self._read(length)
        begin, self._taken = self._taken, min(self._taken + length, len(self._content))
        return self._content[begin : self._taken]

    def _read(self, length: int) -> None:
        parts = [self._content[self._taken :]]
        missing = length - len(parts[0])
        while missing > 0 and (more := self._filesystem.read(self._fd, _CHUNK)):
            parts.append(more)
            missing -= len(more)
        self._content, self._taken = b"".join(parts), 0
