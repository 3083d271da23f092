"""Named pipes between a test and its programs, opened with patience: a program that has ended must not be waited for for ever."""

import errno
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.patience import PATIENCE, wait_until

__all__ = ["wait_for_end", "writing"]


@contextmanager
def writing(pipe: Path) -> Iterator[None]:
    """Have a pipe open for writing while the block lasts, which begins once somebody reads it."""
    opened: list[int] = []

    def has_reader() -> bool:
        try:
            opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        return bool(opened)

    wait_until(has_reader, f"somebody reads {pipe}")
    try:
        yield
    finally:
        os.close(opened[0])


def wait_for_end(pipe: Path) -> None:
    """Wait until somebody has opened a pipe for writing, and closed it."""
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(reader, 0)  # its hang-up is told in any case
        assert poll.poll(PATIENCE * 1000), f"nobody has written to {pipe}"
    finally:
        os.close(reader)
