"""The client of the running engine, over its control socket."""

import json
import os
import pathlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from hmret.api.http.control_socket import SOCKET_NAME, connectable, control_socket_path, own_path
from hmret.cli.display.output import say
from hmret.disk.kernel.lock_holder import find_lock_owner
from hmret.disk.layout import LOCK, OWN
from hmret.model.errors import (
    ConfigError,
    EngineClosedError,
    HmretError,
    ImageExistsError,
    ImageNotFoundError,
    InvalidReferenceError,
)
from hmret.model.policy.config import RetentionConfig
from hmret.model.values import frozen

if TYPE_CHECKING:
    import httpx2

    from hmret.cli.parsing.options import Common

T = TypeVar("T")

_UNIT_SOCKET = f"/run/hmret/{SOCKET_NAME}"
TIMEOUT_SECONDS = 5.0
"""How long an engine may be silent by default."""

HEARTBEAT_SECONDS = 15.0
"""How often an event stream sends a keep-alive."""

_PROBLEM = "urn:hmret:problem:"
_ERRORS: Mapping[str, type[HmretError]] = {
    "image-not-found": ImageNotFoundError,
    "invalid-name": ConfigError,
    "invalid-setting": ConfigError,
    "image-exists": ImageExistsError,
    "invalid-reference": InvalidReferenceError,
    "engine-stopped": EngineClosedError,
}


@frozen
class Engine:
    """The engine that runs on a data directory."""

    path: pathlib.Path
    """The path of its control socket."""
    process: int
    seconds: float = TIMEOUT_SECONDS
    """How long it may show no sign of life. A request itself may take any time."""

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request; returns the document, None if the response has none.

        Waits for a busy engine, planning for very many images or sweeping, as long as it answers health
        checks.

        Raises:
            HmretError: the engine reported an error, did not respond, or its response is invalid.
        """

        def request() -> tuple[int, bytes]:
            with self._client(None) as client:
                response = client.request(method, path, json=body, params=parameters)
                return response.status_code, response.content

        return self._document(*self._while_it_lives(request))

    def _while_it_lives(self, request: Callable[[], T]) -> T:
        """Carry out a request; if it takes long, check periodically that the engine is alive."""
        future: Future[T] = Future()

        def carry_out() -> None:
            try:
                future.set_result(request())
            except BaseException as error:  # noqa: BLE001 - passed on to the waiting caller
                future.set_exception(error)

        # A request that never ends is abandoned; a daemon thread does not keep the process alive.
        threading.Thread(target=carry_out, name="hmret request", daemon=True).start()
        while not wait([future], self.seconds / 2).done:
            self._need_life(self.seconds / 2)
        return future.result()

    def _need_life(self, seconds: float) -> None:
        """Check that the engine responds within some seconds.

        Raises:
            HmretError: it does not.
        """
        with self._client(seconds) as client:
            client.get("/healthz")

    def events(self, *, follow: bool) -> Iterator[Any]:
        """Yield the engine's recent events and, with `follow`, new ones until it stops."""
        parameters = {"after": "0", "follow": "true" if follow else "false"}
        self._need_life(self.seconds)
        with (
            self._client(HEARTBEAT_SECONDS + self.seconds) as client,
            client.stream("GET", "/v1/events", params=parameters) as response,
        ):
            if response.status_code != _OK:
                self._document(response.status_code, response.read())
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield self.read(json.loads, line.removeprefix("data: "))

    def read(self, reading: Callable[[Any], T], document: Any) -> T:
        """Read a document with `reading`.

        Raises:
            HmretError: the document is invalid.
        """
        try:
            return reading(document)
        except (KeyError, TypeError, ValueError) as error:
            raise HmretError(
                f"{self.path}: the engine's answer cannot be decoded; is it a different version? "
                f"{type(error).__name__}: {error}"
            ) from None

    def read_as(self, kind: type[T], document: Any) -> T:
        """Decode a document to a type.

        Raises:
            HmretError: the document does not match it.
        """
        found: T = self.read(partial(msgspec.convert, type=kind), document)
        return found

    def _document(self, status: int, content: bytes) -> Any:
        document = self.read(json.loads, content) if content else None
        if status < _FAILED:
            return document
        kind, detail = self.read(lambda problem: (problem["type"], problem["detail"]), document)
        raise _ERRORS.get(kind.removeprefix(_PROBLEM), HmretError)(detail)

    @contextmanager
    def _client(self, seconds: float | None) -> "Iterator[httpx2.Client]":
        import httpx2  # noqa: PLC0415 - not needed if no engine runs

        timeout = httpx2.Timeout(self.seconds, read=seconds)
        try:
            with (
                connectable(self.path) as address,
                httpx2.Client(
                    base_url="http://hmret", transport=httpx2.HTTPTransport(uds=address), timeout=timeout
                ) as client,
            ):
                yield client
        except httpx2.TimeoutException:
            raise HmretError(f"{self.path}: the engine does not answer (process {self.process})") from None
        except httpx2.HTTPError as error:
            raise HmretError(f"{self.path}: the connection to the engine broke: {error}") from None


_OK = 200
_FAILED = 400


def find_engine(config: RetentionConfig, seconds: float = TIMEOUT_SECONDS) -> Engine | None:
    """Find the engine of a data directory; `seconds`: how long it may be silent; None: there is none.

    Raises:
        HmretError: its socket may not be opened, or nothing accepts connections on it.
    """
    places = [control_socket_path(config, os.environ), own_path(config)]
    refused: pathlib.Path | None = None
    for place in dict.fromkeys(pathlib.Path(place).absolute() for place in places):
        try:
            return Engine(place, _probe(place, seconds), seconds)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            # It never existed, or was left by a dead engine.
            continue
        except PermissionError:
            refused = refused or place
            continue
        except TimeoutError:
            raise HmretError(f"{place}: the engine does not answer") from None
        except OSError as error:
            raise HmretError(f"{place}: {error.strerror or error}") from None
    if refused is not None:
        engine = _engine_of_unit(config, seconds)
        if engine is not None:
            return engine
        raise HmretError(
            f"{refused}: no permission to open the control socket; run this as root, as the engine's user, or as a "
            "member of the group that hmret.control_socket_group names"
        )
    return None


def _engine_of_unit(config: RetentionConfig, seconds: float) -> Engine | None:
    """Find the engine that systemd runs: members of the socket's group may not read the data directory."""
    place = pathlib.Path(_UNIT_SOCKET)
    try:
        engine = Engine(place, _probe(place, seconds), seconds)
    except OSError:
        return None
    document = engine.ask("GET", "/v1/status")
    return engine if engine.read(lambda status: status["data_dir"], document) == config.data_dir else None


def need_engine(common: "Common") -> Engine:
    """Find the engine of the data directory that the options name.

    Raises:
        ConfigError: the data directory does not exist.
        HmretError: there is none, or it cannot be reached; a process that holds the data directory is named.
    """
    config = common.settings().config
    engine = find_engine(config, common.timeout_seconds)
    if engine is not None:
        return engine
    try:
        process = find_lock_owner(pathlib.Path(config.data_dir, OWN, LOCK))
    except OSError:
        process = None
    if process is None:
        _need_data_dir(config)
        raise HmretError(f"no engine is running on {config.data_dir}; start one with hmret run")
    raise HmretError(
        f"process {process} holds the data directory {config.data_dir}, but its control socket is gone: "
        "hmret run binds it again within seconds; an engine embedded in another server has none"
    )


def _need_data_dir(config: RetentionConfig) -> None:
    """Check that the data directory exists; whether it may be read does not matter.

    Raises:
        ConfigError: it does not exist, or is not a folder.
    """
    if pathlib.Path(config.data_dir).is_dir():
        return
    from hmret.disk.filesystem import POSIX  # noqa: PLC0415 - only needed for the error
    from hmret.engine.opening_inspection import opened_data_dir  # noqa: PLC0415 - the same

    with opened_data_dir(POSIX, config):
        pass


def say_who_answers(engine: Engine, common: "Common") -> None:
    """Print to standard error that the running engine answers; with `--json`, only errors go there."""
    if not common.json:
        say(f"the running engine answers (process {engine.process}, {engine.path})")


def _probe(path: pathlib.Path, seconds: float) -> int:
    """Connect once; returns the pid of the listening process."""
    with connectable(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(seconds)
        probe.connect(address)
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process: int = struct.unpack("3i", credentials)[0]
    return process
