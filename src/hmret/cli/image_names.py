"""The names of images for a shell's completion, from the running engine, at once or not at all.

A person waits for this at each press of a key, so it loads nothing of the engine, and ends without a word where the engine
is not there, may not be asked, or takes too long.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

COMPLETED = ("explain", "mark-used", "lease", "restore", "holdings")
"""The commands whose argument is an image."""
TIME_SECONDS = 0.3
"""How long a shell waits for names, with the start of the interpreter."""

_MOST = 500
"""Names; of more a shell would show only some, and take their common beginning for that of all."""
_UNIT_SOCKET = "/run/hmret/hmret.sock"
_BELOW = "system/hmret/hmret.sock"
_DEFAULT = "/var/lib/hypeman"
_SHORTER = ("docker.io/library/", "docker.io/")


def print_names(command: str, begun: str, words: Sequence[str]) -> None:
    """Print each name that begins with `begun`, one a line; `words`: those of the command line so far."""
    # Whatever takes too long ends the process before it has said anything.
    signal.setitimer(signal.ITIMER_REAL, TIME_SECONDS)
    try:
        found = sorted(set(_names(command, begun, words)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return
    if 0 < len(found) <= _MOST:
        os.write(1, "".join(f"{name}\n" for name in found).encode())


def _names(command: str, begun: str, words: Sequence[str]) -> Iterator[str]:
    repository = begun.partition("@")[0].rpartition(":")[0] or begun.partition("@")[0]
    query = (
        "/v1/quarantine"
        if command == "restore"
        else f"/v1/images?limit={_MOST}&q={quote(repository, safe='')}"
    )
    document = _ask(query, words)
    if document.get("next") is not None:
        return
    for image in document["images"]:
        names = [f"{image['repository']}:{tag}" for tag in image["tags"]]
        for name in names or [f"{image['repository']}@{image['digest']}"]:
            for shorter in ("", *_SHORTER):
                short = name.removeprefix(shorter)
                # A short form is offered only if one has been started.
                if short.startswith(begun) and (begun or not shorter) and (not shorter or short != name):
                    yield short
                    break


def _ask(query: str, words: Sequence[str]) -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        for place in _places(words):
            try:
                connection.connect(place)
                break
            except OSError:
                continue
        else:
            return {"images": []}
        request = (
            f"GET {query} HTTP/1.1\r\nHost: hmret\r\nConnection: close\r\nAccept: application/json\r\n\r\n"
        )
        connection.sendall(request.encode())
        # The response states its length, or ends with the connection.
        with connection.makefile("rb") as answer:
            status = answer.readline().split()
            length = -1
            while line := answer.readline().strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            content = answer.read(length)
    if status[1:2] != [b"200"]:
        return {"images": []}
    return json.loads(content)


def _places(words: Sequence[str]) -> Iterator[str]:
    """Return where the engine's socket may be, without reading the settings."""
    for before, word in zip(("", *words), words, strict=False):
        if before == "--data-dir":
            yield f"{os.path.expanduser(word)}/{_BELOW}"  # noqa: PTH111 - loads pathlib for nothing
            return
        if word.startswith("--data-dir="):
            yield f"{word.partition('=')[2]}/{_BELOW}"
            return
    data_dir = os.environ.get("DATA_DIR")
    if data_dir:
        yield f"{data_dir}/{_BELOW}"
        return
    yield _UNIT_SOCKET
    yield f"{_DEFAULT}/{_BELOW}"
