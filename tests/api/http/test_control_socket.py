"""The control socket at its place: bound again where it is lost, and never taken from another engine."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hmret.api.http.control_socket import ControlSocket, bound_socket
from hmret.model.errors import ConfigError
from support.builders import make_config
from support.patience import PATIENCE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "system/hmret").mkdir(parents=True)
    return root


def own(root: Path) -> Path:
    return root / "system/hmret/hmret.sock"


@pytest.fixture(params=["below the data directory", "elsewhere"])
def control(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ControlSocket]:
    """A control socket that is bound, at either of its places."""
    elsewhere = {} if request.param != "elsewhere" else {"RUNTIME_DIRECTORY": str(tmp_path / "run")}
    with bound_socket(make_config(root), elsewhere) as (control, _):
        yield control
    assert not os.path.lexists(control.path)


def serve_at(path: Path) -> socket.socket:
    """Have another engine serve at a path."""
    path.unlink(missing_ok=True)
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    other.bind(str(path))
    other.listen()
    return other


def is_answered(path: Path, listening: socket.socket) -> bool:
    """Return whether a client that connects to a path comes to this listener."""
    listening.settimeout(PATIENCE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        accepted, _ = listening.accept()
        accepted.close()
    return True


def test_what_is_as_it_was_is_left_as_it_is(control: ControlSocket, root: Path) -> None:
    def found() -> tuple[int, ...]:
        # Whoever follows a link reads it, which is all that may change.
        status = own(root).lstat()
        return (
            status.st_ino,
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )

    before = found()
    assert control.bind_again() is None
    assert found() == before


def test_a_socket_that_is_gone_is_bound_again(control: ControlSocket, root: Path) -> None:
    control.path.unlink()
    listening = control.bind_again()
    assert listening is not None
    with closing(listening):
        assert is_answered(own(root), listening)
        assert control.bind_again() is None


def test_a_socket_whose_mode_was_changed_is_not_lost(control: ControlSocket) -> None:
    control.path.chmod(0o660)
    assert control.bind_again() is None
    assert control.path.lstat().st_mode & 0o777 == 0o660


def test_a_link_that_is_gone_or_leads_elsewhere_is_made_again(root: Path, tmp_path: Path) -> None:
    with bound_socket(make_config(root), {"RUNTIME_DIRECTORY": str(tmp_path / "run")}) as (control, bound):
        own(root).unlink()
        assert control.bind_again() is None
        assert is_answered(own(root), bound)
        own(root).unlink()
        own(root).symlink_to("/no/such/socket")
        assert control.bind_again() is None
        assert is_answered(own(root), bound)


def test_the_place_of_another_engine_is_not_taken(control: ControlSocket) -> None:
    with closing(serve_at(control.path)) as other:
        with pytest.raises(ConfigError, match="address already in use"):
            control.bind_again()
        assert is_answered(control.path, other)
    # That engine has died: its socket is replaced.
    listening = control.bind_again()
    assert listening is not None
    listening.close()


def test_another_engine_below_the_data_directory_keeps_its_place(root: Path, tmp_path: Path) -> None:
    environment = {"RUNTIME_DIRECTORY": str(tmp_path / "run")}
    with (
        bound_socket(make_config(root), environment) as (control, _),
        closing(serve_at(own(root))) as other,
    ):
        with pytest.raises(ConfigError, match="address already in use"):
            control.bind_again()
        assert is_answered(own(root), other)


def test_a_data_directory_that_was_replaced_gets_no_socket_of_this_engine(
    control: ControlSocket, root: Path
) -> None:
    root.rename(root.with_name("aside"))
    (root / "system/hmret").mkdir(parents=True)
    control.path.unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="the data directory has been replaced"):
        control.bind_again()
    assert list((root / "system/hmret").iterdir()) == []
    shutil.rmtree(root)
    with pytest.raises(ConfigError, match="no such file or directory"):
        control.bind_again()


def test_a_socket_that_cannot_be_linked_to_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    own(root).write_text("precious")
    with pytest.raises(ConfigError, match="file exists"):
        ControlSocket(make_config(root), {"RUNTIME_DIRECTORY": str(tmp_path / "run")}).bind()
    assert list((tmp_path / "run").iterdir()) == []
    assert own(root).read_text() == "precious"
