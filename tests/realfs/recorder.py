"""Offers one file over FUSE that stands for a disk, and records what is written to it: a program.

It takes a mount point, the file that holds the bytes, and the file to record in, prints a line when it is mounted, and
ends when it is unmounted. A loop device over the file, with direct I/O, passes on every write and every flush of the
file system on it, in order. What is recorded stands in the log before the write is answered.

SIGUSR1 has every read fail from then on, SIGUSR2 every write and flush, and the next such signal ends that.

The protocol is that of linux/fuse.h, version 7.31.
"""

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["DISK", "ENTRY", "FAIL_READS", "FAIL_WRITES", "FLUSH", "WRITE", "ZERO", "main"]

DISK = "disk"
"""The name of the file."""

ENTRY = struct.Struct("<BQQ")
"""One entry of the log: kind, offset, length; the bytes of a write follow."""
WRITE, ZERO, FLUSH = range(1, 4)

FAIL_READS, FAIL_WRITES = signal.SIGUSR1, signal.SIGUSR2

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_VALID = 1 << 31
_MAX_WRITE = 1 << 20

_ROOT, _FILE = 1, 2
_FORGET, _BATCH_FORGET, _INIT = 2, 42, 26
_ASYNC_READ, _BIG_WRITES, _ASYNC_DIRECT, _MAX_PAGES = 1 << 0, 1 << 5, 1 << 15, 1 << 22
_DIRECT_IO = 1
_PUNCH_HOLE, _ZERO_RANGE = 0x02, 0x10


class _Refused(Exception):  # noqa: N818 - the answer to a request
    """A request that is answered by an error number."""


class Recorder:
    """The file system, with one file in it."""

    def __init__(self, disk_fd: int, log_fd: int) -> None:
        self._disk_fd = disk_fd
        self._log_fd = log_fd
        self._size = os.fstat(disk_fd).st_size
        self._failing: set[int] = set()
        for number in (FAIL_READS, FAIL_WRITES):
            signal.signal(number, lambda number, _: self._failing.symmetric_difference_update({number}))
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._look_up,
            3: self._attributes,
            4: self._attributes,
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._space,
            18: self._nothing,  # release
            20: self._flush,
            25: self._nothing,  # a descriptor is closed: no promise of durability
            _INIT: self._begin,
            27: self._open,
            28: self._nothing,  # no folder is ever listed
            29: self._nothing,
            34: self._nothing,  # access
            43: self._allocate,
        }

    def serve(self, fuse_fd: int) -> None:
        """Answer until it is unmounted."""
        while True:
            try:
                request = os.read(fuse_fd, _MAX_WRITE + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                raise
            _, code, unique, node, *_ = _IN.unpack_from(request)
            if code in (_FORGET, _BATCH_FORGET):
                continue
            answer, failed = b"", 0
            try:
                answer = self._answers.get(code, self._unknown)(node, request[_IN.size :])
            except _Refused as refused:
                failed = refused.args[0]
            os.write(fuse_fd, _OUT.pack(_OUT.size + len(answer), -failed, unique) + answer)

    @staticmethod
    def _unknown(_node: int, _body: bytes) -> bytes:
        raise _Refused(errno.ENOSYS)

    @staticmethod
    def _nothing(_node: int, _body: bytes) -> bytes:
        return b""

    @staticmethod
    def _begin(_node: int, body: bytes) -> bytes:
        _, _, ahead, offered = struct.unpack_from("<4I", body)
        wanted = offered & (_ASYNC_READ | _BIG_WRITES | _ASYNC_DIRECT | _MAX_PAGES)
        return struct.pack(
            "<4IHHIIHHII24x", 7, 31, ahead, wanted, 64, 48, _MAX_WRITE, 1, _MAX_WRITE // 4096, 0, 0, 0
        )

    def _attribute(self, node: int) -> bytes:
        is_root = node == _ROOT
        mode = stat.S_IFDIR | 0o755 if is_root else stat.S_IFREG | 0o600
        size = 0 if is_root else self._size
        return _ATTR.pack(node, size, size // 512, *(0,) * 3, *(0,) * 3, mode, 1, 0, 0, 0, 4096, 0)

    def _look_up(self, _node: int, body: bytes) -> bytes:
        if body.rstrip(b"\0") != DISK.encode():
            raise _Refused(errno.ENOENT)
        return struct.pack("<4QII", _FILE, 0, _VALID, _VALID, 0, 0) + self._attribute(_FILE)

    def _attributes(self, node: int, _body: bytes) -> bytes:
        return struct.pack("<QII", _VALID, 0, 0) + self._attribute(node)

    @staticmethod
    def _open(_node: int, _body: bytes) -> bytes:
        return struct.pack("<QII", 0, _DIRECT_IO, 0)

    def _read(self, _node: int, body: bytes) -> bytes:
        self._require(FAIL_READS)
        _, offset, size = struct.unpack_from("<QQI", body)
        return os.pread(self._disk_fd, size, offset)

    def _write(self, _node: int, body: bytes) -> bytes:
        self._require(FAIL_WRITES)
        _, offset, size = struct.unpack_from("<QQI", body)
        content = body[40 : 40 + size]
        self._record(WRITE, offset, size, content)
        os.pwrite(self._disk_fd, content, offset)
        return struct.pack("<II", size, 0)

    def _flush(self, _node: int, _body: bytes) -> bytes:
        self._require(FAIL_WRITES)
        self._record(FLUSH, 0, 0, b"")
        return b""

    def _allocate(self, _node: int, body: bytes) -> bytes:
        _, offset, length, mode = struct.unpack_from("<QQQI", body)
        if not mode & (_PUNCH_HOLE | _ZERO_RANGE):
            raise _Refused(errno.EOPNOTSUPP)
        self._record(ZERO, offset, length, b"")
        left, at = length, offset
        while left:
            part = min(left, _MAX_WRITE)
            os.pwrite(self._disk_fd, bytes(part), at)
            left, at = left - part, at + part
        return b""

    @staticmethod
    def _space(_node: int, _body: bytes) -> bytes:
        return struct.pack("<5Q4I24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)

    def _require(self, number: int) -> None:
        if number in self._failing:
            raise _Refused(errno.EIO)

    def _record(self, kind: int, offset: int, length: int, content: bytes) -> None:
        os.write(self._log_fd, ENTRY.pack(kind, offset, length) + content)


def main() -> None:
    """Mount it, and serve."""
    place, disk, log = map(Path, sys.argv[1:])
    fuse_fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fuse_fd},rootmode=40000,user_id=0,group_id=0,max_read={_MAX_WRITE}"
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"recorder", bytes(place), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "cannot mount", str(place))
    disk_fd = os.open(disk, os.O_RDWR)
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(1, b"mounted\n")
    Recorder(disk_fd, log_fd).serve(fuse_fd)


if __name__ == "__main__":
    main()
