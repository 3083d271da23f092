"""A process that reads for another: where very much is to be read, two of them are quicker than threads.

It is asked on its standard input and answers on its standard output, one frame each way: a length of four bytes, and
that many bytes. It reads only, and ends when its input does. What it cannot answer it answers with an empty frame.
"""

import os
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from typing import IO

import msgspec

from hmret.disk.filesystem import POSIX
from hmret.disk.reading import answer

__all__ = ["ReaderProcess", "main"]

_NICENESS = 10
_LENGTH = struct.Struct("!I")
_FAULTS = (OSError, msgspec.MsgspecError, ValueError, RecursionError)


class ReaderProcess:
    """One such process, from the side of the one who asks; not for two threads at a time.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, data_fd: int) -> None:
        # The very modules that run here, from wherever they come; nothing else of the surroundings is taken over.
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from hmret.disk.reader_process import main; main({data_fd})"
        )
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(data_fd,),
        )

    def ask(self, question: bytes) -> bytes:
        """Ask, and wait for the answer.

        Raises:
            OSError: it has ended, or does not know.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _send(self._process.stdin, question)
        answered = _receive(self._process.stdout)
        if not answered:
            raise OSError("a reader process gave no answer")
        return answered

    def close(self) -> None:
        """Have it end, and wait until it has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.stdout.close()
        # What was on its way to it is lost.
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


def main(data_fd: int) -> None:
    """Answer questions about the data directory until there are no more."""
    # An interrupt from the keyboard reaches the whole group; the one who asks decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An embedding server comes first: it feels nothing of what is read beside it.
    os.nice(_NICENESS)
    asked, answered = sys.stdin.buffer, sys.stdout.buffer
    while question := _receive(asked):
        try:
            content = answer(POSIX, data_fd, question)
        except _FAULTS:
            content = b""
        _send(answered, content)


def _send(stream: IO[bytes], content: bytes) -> None:
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """Read one frame; empty where the stream has ended."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return b""
    length: int = _LENGTH.unpack(head)[0]
    content = stream.read(length)
    return content if len(content) == length else b""
