"""The config files: which ones are read, and how, so that none blocks its reader for long.

hypeman's own file is looked for where hypeman looks for it. `/etc/hmret/config.yaml` is read in addition, if it exists
and no option or variable names a single file.
"""

import os
import select
import stat
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from hmret.model.unavailable import UnavailableError
from hmret.model.values import frozen
from hmret.settings.source_location import SourceLocation

HYPEMAN_FILES = ("/etc/hypeman/config.yaml", "~/.config/hypeman/config.yaml")
"""Where hypeman's own file may be; the first that exists counts, unless a variable or an option names one."""
OWN_FILE = "/etc/hmret/config.yaml"
"""A file with nothing but hmret's keys."""

_MAX_FILE_BYTES = 1 << 20
_PIPE_SECONDS = 10.0
"""How long a read of a pipe or a device may block."""
_KINDS: Sequence[tuple[Callable[[int], bool], str]] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@frozen
class ConfigFile:
    """A config file as it was read."""

    path: str
    content: bytes
    writable_by_all: bool
    is_own: bool = False
    """Whether only hmret's keys are allowed in it."""

    def text(self) -> str:
        """Return its text; raises ConfigError where it is not UTF-8."""
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            byte = error.object[error.start]
            raise SourceLocation(f"{self.path}:{line}").error(
                f"expected UTF-8, got the byte 0x{byte:02x}"
            ) from None


def find_config_files(
    named: str | None,
    environment: Mapping[str, str],
    *,
    hypeman_files: Sequence[str],
    own_file: str | None,
    regular_only: bool,
    pipe_seconds: float = _PIPE_SECONDS,
) -> list[ConfigFile]:
    """Read the config files that are named, or exist.

    The first is `named`, else the one that HMRET_CONFIG names, else the one that CONFIG_PATH names, as for hypeman, else
    the first of `hypeman_files` that exists. Unless `named` or HMRET_CONFIG is given, `own_file` is read in addition, if
    it exists. An empty variable names no file.

    Args:
        named: the file that the command line names; None: none.
        environment: the environment variables.
        hypeman_files: where hypeman's own file may be.
        own_file: where hmret's own file may be; None: nowhere.
        regular_only: whether to refuse anything but a regular file, since reading it may block.
        pipe_seconds: how long a read of a pipe or a device may block.

    Raises:
        UnavailableError: a file that is named does not exist.
        ConfigError: a file cannot be read; the message is one line.
    """

    def read(path: str) -> ConfigFile:
        return _read(in_home(path, environment), regular_only=regular_only, pipe_seconds=pipe_seconds)

    sole = named if named is not None else environment.get("HMRET_CONFIG") or None
    if sole is not None:
        return [read(sole)]
    shared = environment.get("CONFIG_PATH") or None
    # A user without a home has no file there.
    places = [path for path in hypeman_files if not path.startswith("~/") or _home(environment)]
    files = [read(shared)] if shared is not None else _first_there(places, read)
    own = [] if own_file is None else _first_there([own_file], read)
    return [*files, *(attrs.evolve(file, is_own=True) for file in own)]


def in_home(path: str, environment: Mapping[str, str]) -> str:
    """Replace a leading `~/` by the user's home; raises ConfigError where the user has none."""
    if path != "~" and not path.startswith("~/"):
        return path
    home = _home(environment)
    if home is None:
        raise SourceLocation(path).error("~/ needs the variable HOME, which is not set")
    return home.rstrip("/") + path[1:] or "/"


def reason_of(error: Exception) -> str:
    """Return the reason of an error in a few words."""
    return str((isinstance(error, OSError) and error.strerror) or error).lower()


def _home(environment: Mapping[str, str]) -> str | None:
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - a Path would lose what it cannot expand
    return None if home.startswith("~") else home


def _first_there(paths: Sequence[str], read: Callable[[str], ConfigFile]) -> list[ConfigFile]:
    for path in paths:
        try:
            return [read(path)]
        except UnavailableError:
            continue
    return []


def _read(path: str, *, regular_only: bool, pipe_seconds: float) -> ConfigFile:
    place = SourceLocation(path or "the config file")
    try:
        # Opening a pipe without a writer does not block, and a terminal does not become our controlling one.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            is_regular = stat.S_ISREG(mode)
            if not is_regular and (regular_only or stat.S_ISDIR(mode)):
                kind = next((word for is_kind, word in _KINDS if is_kind(mode)), "something else")
                raise place.error(f"expected a {'regular' if regular_only else 'readable'} file, got {kind}")
            content = _read_all(fd, place, None if is_regular else time.monotonic() + pipe_seconds)
        finally:
            os.close(fd)
    except (
        OSError,
        ValueError,
    ) as error:  # ValueError: a NUL in the path; its wording differs between Pythons
        reason = reason_of(error) if isinstance(error, OSError) else "embedded null byte"
        problem = place.error(f"expected a readable file, got {reason}")
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UnavailableError(str(problem)) from None
        raise problem from None
    return ConfigFile(path, content, is_regular and bool(mode & stat.S_IWOTH))


def _read_all(fd: int, place: SourceLocation, end: float | None) -> bytes:
    """Read a file to its end; `end`: the deadline on the monotonic clock of one that may block its reader."""
    content = bytearray()
    while len(content) <= _MAX_FILE_BYTES:
        if end is not None:
            _wait_input(fd, place, end)
        try:
            chunk = os.read(fd, _MAX_FILE_BYTES + 1 - len(content))
        except BlockingIOError:
            continue
        if not chunk:
            return bytes(content)
        content += chunk
    raise place.error(f"expected at most {_MAX_FILE_BYTES} bytes, got more")


def _wait_input(fd: int, place: SourceLocation, end: float) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(max(end - time.monotonic(), 0) * 1000):
        raise UnavailableError(str(place.error("timed out waiting for input")))
