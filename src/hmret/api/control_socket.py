"""The control socket: where it is, how it comes to be there for its owner only, and how it is reached."""

import errno
import os
import pathlib
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from hmret.disk.layout import OWN
from hmret.model.config import RetentionConfig
from hmret.model.errors import ConfigError

__all__ = [
    "SOCKET_NAME",
    "bound_socket",
    "connectable",
    "control_socket_path",
    "listening_socket",
    "own_path",
]

SOCKET_NAME = "hmret.sock"

_KEY = "hmret.control_socket"
_LONGEST = 107  # bytes of sun_path, without its NUL
_BACKLOG = 512


def control_socket_path(config: RetentionConfig, environment: Mapping[str, str]) -> str:
    """Tell where the control socket of an engine is.

    As configured, else in the folder that systemd made for the service, else below the data directory; there, in
    any case, is a link to it.
    """
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if config.control_socket:
        return config.control_socket
    return f"{runtime}/{SOCKET_NAME}" if runtime else own_path(config)


def own_path(config: RetentionConfig) -> str:
    """Tell where below the data directory the control socket is, or the link to it."""
    return f"{config.data_dir.rstrip('/')}/{OWN}/{SOCKET_NAME}"


@contextmanager
def bound_socket(config: RetentionConfig, environment: Mapping[str, str]) -> Iterator[socket.socket]:
    """Bind the control socket, which only its owner may open, and remove it at the end.

    The caller has the lock on the data directory: whatever lies at the place below it is of an engine that has died.

    Raises:
        ConfigError: it cannot be bound, or somebody serves another data directory there.
    """
    path = pathlib.Path(control_socket_path(config, environment)).absolute()
    own = pathlib.Path(own_path(config)).absolute()
    try:
        if path != own:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_if_served(path)
        _remove(path)
        with connectable(path) as address:
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            # Before it has a name: there is no moment at which others could open it.
            os.fchmod(bound.fileno(), 0o600)
            bound.bind(address)
        bound.listen(_BACKLOG)
        identity = _identity(path)
        if path != own:
            _remove(own)
            own.symlink_to(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{_KEY}: cannot be made at {path}: {reason.lower()}") from None
    with bound:
        try:
            yield bound
        finally:
            with suppress(OSError):
                if _identity(path) == identity:
                    path.unlink()
            with suppress(OSError):
                if path != own and own.readlink() == path:
                    own.unlink()


@contextmanager
def connectable(path: pathlib.Path) -> Iterator[str]:
    """Give a name of a socket's path that is short enough for the kernel, for as long as the block lasts.

    Raises:
        OSError: the folder of the socket cannot be opened, or its name alone is too long.
    """
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        short = f"/proc/self/fd/{fd}/{path.name}"
        if len(os.fsencode(short)) > _LONGEST:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        yield short
    finally:
        os.close(fd)


def listening_socket(listen: str) -> socket.socket:
    """Listen on `host:port`.

    Raises:
        ConfigError: that is not possible.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigError(f"hmret.metrics_listen: cannot listen on {listen}: {reason.lower()}") from None


def _refuse_if_served(path: pathlib.Path) -> None:
    """Make sure that nobody serves at a path that another data directory's engine may have been given, too."""
    try:
        with connectable(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except OSError as error:
        if error.errno in (errno.EPROTOTYPE, errno.ENOTSOCK):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _remove(path: pathlib.Path) -> None:
    """Remove what an engine that has died left at a path; anything else than a socket or a link is not ours.

    Raises:
        FileExistsError: it is something else.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    path.unlink()


def _identity(path: pathlib.Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
