"""Where words go: results to standard output, complaints to standard error."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

__all__ = [
    "complain",
    "escape_unprintable",
    "is_terminal",
    "keep_streams_apart",
    "printable",
    "say",
    "write_json",
    "write_result",
]


def printable(text: object) -> str:
    """Make one line of a text: what cannot be printed, or would move the cursor, is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def keep_streams_apart() -> None:
    """See to it that what belongs to a stream that is closed lands nowhere, and not in a file or on another stream.

    A file that is opened gets the lowest number that is free: where standard error is closed, what is written to it would
    go there. And what is printed to no file at all goes to standard output.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the process lives


def escape_unprintable() -> None:
    """Let both streams write what their encoding does not have as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person looks at a stream; None: it was closed before we started."""
    return stream is not None and stream.isatty()


def write_result(text: str) -> bool:
    """Write a result, now, on lines of its own; a reader that has gone away misses it, which is its own business.

    Returns whether there was one.

    Raises:
        OSError: it could not be written.
    """
    if sys.stdout is None:
        return False
    try:
        sys.stdout.write(text if not text or text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return False
    except OSError as error:
        _discard_output()
        raise OSError(error.errno, error.strerror, "standard output") from None
    return True


def write_json(document: object) -> None:
    """Write a JSON document: spread over lines for people, on one line for programs.

    Raises:
        OSError: it could not be written.
    """
    import json  # noqa: PLC0415 - not everybody writes it

    import msgspec  # noqa: PLC0415 - the same

    write_result(
        json.dumps(document, default=msgspec.to_builtins, indent=2 if is_terminal(sys.stdout) else None)
    )


def say(message: object, prefix: str = "") -> None:
    """Say something in one line on standard error, after a prefix; where that is closed, or its reader has gone, nobody hears it."""
    if sys.stderr is None:
        return
    with suppress(OSError):
        print(f"{prefix}hmret: {printable(message)}", file=sys.stderr, flush=True)


def complain(message: object, *, as_json: bool = False, key: str | None = None) -> None:
    """Tell in one line what went wrong; as JSON for programs, with the key or option at fault."""
    import json  # noqa: PLC0415 - what goes well does not wait for it
    import logging  # noqa: PLC0415 - the same

    from hmret.cli.service.systemd import priority_prefix  # noqa: PLC0415 - the same

    if not as_json:
        say(f"error: {message}", priority_prefix(logging.ERROR, os.environ))
    elif sys.stderr is not None:
        with suppress(OSError):
            print(json.dumps({"error": str(message), "key": key}), file=sys.stderr, flush=True)


def _discard_output() -> None:
    """Send what is still buffered, and whatever follows, nowhere: the interpreter flushes once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
