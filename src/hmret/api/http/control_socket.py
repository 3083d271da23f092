"""The control socket: its path, how it is bound with access for its owner only, and how to connect to it."""

import errno
import grp
import os
import pathlib
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from hmret.disk.layout import OWN, path_below
from hmret.model.errors import ConfigError
from hmret.model.policy.config import RetentionConfig
from hmret.model.unavailable import UnavailableError

SOCKET_NAME = "hmret.sock"

_KEY = "hmret.control_socket"
_GROUP_KEY = "hmret.control_socket_group"
_CLOSED = 0o700
_ENTERED = 0o710  # the group may enter the folder, but not list it
_LONGEST = 107  # bytes of sun_path, without its NUL
_BACKLOG = 512
_PASSING = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


def control_socket_path(config: RetentionConfig, environment: Mapping[str, str]) -> str:
    """Return the path of an engine's control socket.

    The configured path, else one in the runtime directory that systemd made for the service, else one below
    the data directory. Below the data directory there is always at least a link to it.
    """
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if config.control_socket:
        return config.control_socket
    return f"{runtime}/{SOCKET_NAME}" if runtime else own_path(config)


def group_of(config: RetentionConfig) -> int | None:
    """Return the gid of the group that may read through the socket; None: no group may.

    Raises:
        ConfigError: this host has no such group.
    """
    name = config.control_socket_group
    if not name or (name.isascii() and name.isdigit()):
        return int(name) if name else None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"{_GROUP_KEY}: expected a group of this host, got {name!r}") from None


def check_control_socket(config: RetentionConfig, environment: Mapping[str, str]) -> None:
    """Look for what would keep the control socket from being bound; nothing is created or removed.

    Raises:
        ConfigError: there is no such group, or something else is at the path of the socket.
    """
    group_of(config)
    path = pathlib.Path(control_socket_path(config, environment)).absolute()
    try:
        _look_at_left(path)
    except OSError as error:
        # The engine may run as another user, and what is wrong with the data directory is not the socket's.
        if isinstance(error, PermissionError) or not (
            config.control_socket or isinstance(error, FileExistsError)
        ):
            return
        raise _refusal(path, error) from None


def own_path(config: RetentionConfig) -> str:
    """Return the path of the control socket, or of the link to it, below the data directory."""
    return path_below(config.data_dir, f"{OWN}/{SOCKET_NAME}")


class ControlSocket:
    """A bound control socket, and a link to it below the data directory if it is elsewhere.

    Either may disappear while the engine runs: programs that clean up /run do not know that it is in use.
    """

    def __init__(self, config: RetentionConfig, environment: Mapping[str, str]) -> None:
        self.path = pathlib.Path(control_socket_path(config, environment)).absolute()
        self._place = self.path.parent
        self._own = pathlib.Path(own_path(config)).absolute()
        self._group_name = config.control_socket_group
        self._group = group_of(config)
        runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        self._folders = {self._own.parent, *([pathlib.Path(runtime).absolute()] if runtime else [])}
        """The folders that belong to hmret, which it may open to the group."""
        self._bound: _Identity | None = None
        self._folder: tuple[int, int] | None = None
        """Identity of the folder below the data directory when the socket was bound."""

    def bind(self) -> socket.socket:
        """Bind the socket, accessible only to its owner and the configured group, and listen on it.

        Raises:
            ConfigError: it cannot be created, or another engine listens on its path.
        """
        try:
            if self.path != self._own:
                _refuse_if_served(self.path)
            return self._bind()
        except OSError as error:
            raise _refusal(self.path, error) from None

    def bind_again(self) -> socket.socket | None:
        """Restore what was removed, replaced or closed; returns the new socket to listen on, None: the old one serves.

        Raises:
            ConfigError: it cannot be created, or another engine listens on its path.
        """
        try:
            if not self._is_lost() and self._is_linked():
                if self._group is not None:
                    # systemd closes the runtime directory whenever it runs a command of the unit, as for a reload.
                    self._open_to_group()
                return None
            self._refuse_if_taken()
            if self._is_lost():
                return self._bind()
            self._link()
        except OSError as error:
            raise _refusal(self.path, error) from None
        return None

    def _refuse_if_taken(self) -> None:
        """Make sure that neither path belongs to another engine by now.

        This engine's lock is on the directory that it opened; by now a different directory may be at that
        path, with an engine of its own.
        """
        if _folder_of(self._own) != self._folder:
            raise OSError(errno.ESTALE, "the data directory has been replaced")
        if self._is_lost():
            _refuse_if_served(self.path)
        if self.path != self._own:
            _refuse_if_served(self._own)

    def remove(self) -> None:
        """Remove what this engine created, but nothing that has replaced it."""
        with suppress(OSError):
            if not self._is_lost():
                self.path.unlink()
        with suppress(OSError):
            if self.path != self._own and self._own.readlink() == self.path:
                self._own.unlink()

    def _is_lost(self) -> bool:
        try:
            return _identity(self.path) != self._bound
        except OSError:
            return True

    def _is_linked(self) -> bool:
        """Return whether the path below the data directory leads to the socket."""
        try:
            return self.path == self._own or self._own.readlink() == self.path
        except OSError:
            return False

    def _bind(self) -> socket.socket:
        if not self._place.exists():
            self._place.mkdir(mode=_CLOSED, parents=True, exist_ok=True)
            self._folders.add(self._place)
        _remove(self.path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with connectable(self.path) as address:
                # Before the socket has a name: there is no moment at which others could connect.
                os.fchmod(bound.fileno(), 0o600)
                bound.bind(address)
            self._open_to_group()
            self._bound = _identity(self.path)
            bound.listen(_BACKLOG)
            self._link()
        except (OSError, ConfigError):
            bound.close()
            self.remove()
            raise
        return bound

    def _open_to_group(self) -> None:
        """Let the configured group connect and enter hmret's folders; without a group, no one else can."""
        for folder in self._folders & {self._place, self._own.parent}:
            mode = stat.S_IMODE(folder.stat().st_mode)
            if self._group is not None and mode in (_CLOSED, _ENTERED):
                self._give(folder, _ENTERED)
            elif self._group is None and mode == _ENTERED:
                folder.chmod(_CLOSED)
        if self._group is not None:
            self._give(self.path, 0o660)

    def _give(self, path: pathlib.Path, mode: int) -> None:
        """Give a file or folder of ours to the group.

        Raises:
            ConfigError: the process lacks the permission.
        """
        assert self._group is not None
        try:
            found = path.lstat()
            if found.st_gid != self._group:
                os.chown(path, -1, self._group, follow_symlinks=False)
            if stat.S_IMODE(found.st_mode) != mode:
                path.chmod(mode)
        except PermissionError as error:
            raise ConfigError(
                f"{_GROUP_KEY}: cannot give {path} to the group {self._group_name}: {(error.strerror or '').lower()}; "
                f"the service must be a member of it (systemd: SupplementaryGroups={self._group_name})"
            ) from None

    def _link(self) -> None:
        if not self._is_linked():
            _remove(self._own)
            self._own.symlink_to(self.path)
        self._folder = _folder_of(self._own)


@contextmanager
def bound_socket(
    config: RetentionConfig, environment: Mapping[str, str]
) -> Iterator[tuple[ControlSocket, socket.socket]]:
    """Bind the control socket and remove it at the end; yields it and the socket to listen on.

    The caller holds the lock on the data directory, so whatever is at the path below it was left by a dead
    engine.

    Raises:
        ConfigError: it cannot be bound, or an engine of another data directory listens there.
    """
    control = ControlSocket(config, environment)
    with control.bind() as listening:
        try:
            yield control, listening
        finally:
            control.remove()


@contextmanager
def connectable(path: pathlib.Path) -> Iterator[str]:
    """Yield a name for a socket's path that is short enough for the kernel; valid inside the block.

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
        UnavailableError: the address is in use, or this host does not have it yet.
        ConfigError: it cannot listen there.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise _kind_of(error)(f"hmret.metrics_listen: cannot listen on {listen}: {reason.lower()}") from None


def _kind_of(error: OSError) -> type[ConfigError]:
    """Return the error class: `UnavailableError` if the address may become available later, else `ConfigError`."""
    return (
        UnavailableError
        if not isinstance(error, socket.gaierror) and error.errno in _PASSING
        else ConfigError
    )


def _refuse_if_served(path: pathlib.Path) -> None:
    """Make sure that no engine of another data directory listens on the same path."""
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


def _refusal(path: pathlib.Path, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    return _kind_of(error)(f"{_KEY}: cannot be created at {path}: {reason.lower()}")


def _remove(path: pathlib.Path) -> None:
    """Remove what a dead engine left at a path; anything but a socket or a link is not ours.

    Raises:
        FileExistsError: it is something else.
    """
    if _look_at_left(path):
        path.unlink()


def _look_at_left(path: pathlib.Path) -> bool:
    """Return whether something is at a path that a dead engine may have left there.

    Raises:
        FileExistsError: it is something else than a socket or a link.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not (stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    return True


_Identity = tuple[int, int, int]
"""Device, inode and time of binding: an inode number may be reused immediately."""


def _identity(path: pathlib.Path) -> _Identity:
    status = path.lstat()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _folder_of(path: pathlib.Path) -> tuple[int, int]:
    status = path.parent.stat()
    return status.st_dev, status.st_ino
