"""Output: results to standard output, messages to standard error."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO


def printable(text: object) -> str:
    """Make a text printable on one line: unprintable characters and control sequences are escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def keep_streams_apart() -> None:
    """Make sure that output to a closed stream is discarded, and does not end up in a file or another stream.

    An opened file gets the lowest free descriptor: if standard error is closed, a file would receive what is
    written to it. And `print` to a stream that is None goes to standard output.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open for the life of the process


def escape_unprintable() -> None:
    """Make both streams escape characters that their encoding cannot represent."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal; None: it was closed before we started."""
    return stream is not None and stream.isatty()


def write_result(text: str) -> bool:
    """Write a result as whole lines and flush it; if the reader is gone, the output is dropped silently.

    Returns whether there was a reader.

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
    """Write a JSON document: indented on a terminal, on one line otherwise.

    Raises:
        OSError: it could not be written.
    """
    import json  # noqa: PLC0415 - few commands write JSON

    import msgspec  # noqa: PLC0415 - the same

    write_result(
        json.dumps(document, default=msgspec.to_builtins, indent=2 if is_terminal(sys.stdout) else None)
    )


def say(message: object, prefix: str = "") -> None:
    """Write a one-line message to standard error, after a prefix; dropped if that is closed or broken."""
    if sys.stderr is None:
        return
    with suppress(OSError):
        print(f"{prefix}hmret: {printable(message)}", file=sys.stderr, flush=True)


def complain(message: object, *, as_json: bool = False, key: str | None = None) -> None:
    """Report an error in one line; as JSON for programs, with the key or option at fault."""
    import json  # noqa: PLC0415 - only needed for errors
    import logging  # noqa: PLC0415 - the same

    from hmret.cli.service.systemd import priority_prefix  # noqa: PLC0415 - the same

    if not as_json:
        say(f"error: {message}", priority_prefix(logging.ERROR, os.environ))
    elif sys.stderr is not None:
        with suppress(OSError):
            print(json.dumps({"error": str(message), "key": key}), file=sys.stderr, flush=True)


def _discard_output() -> None:
    """Redirect buffered and later output to /dev/null: the interpreter flushes again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
