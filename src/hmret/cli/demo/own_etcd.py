"""A member of etcd for the demonstration of a fleet: a process of its own, with its data in a temporary folder."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from hmret.model.errors import HmretError

_PROGRAM = "etcd"
_STOP_SECONDS = 5
_LOG_BYTES = 400


def find_etcd() -> str:
    """Return the program's path.

    Raises:
        HmretError: it is not installed.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise HmretError(
            "demo --fleet starts etcd, which is not installed: apt-get install --no-install-recommends etcd-server"
        )
    return program


@asynccontextmanager
async def running_etcd(program: str, folder: Path) -> AsyncIterator[str]:
    """Run a member while the block lasts; yields the URL at which it answers, or will within seconds.

    Raises:
        HmretError: it ended; the message has its last words.
    """
    client, peer = (f"http://127.0.0.1:{port}" for port in _free_ports(2))
    log = folder / "etcd.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program,
            *("--data-dir", str(folder / "etcd"), "--name", "demo"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"demo={peer}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # an interrupt is for the demonstration, which then stops it
        )
    try:
        yield client
        if process.returncode is not None:
            words = log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
            raise HmretError(f"etcd has ended with code {process.returncode}: {' '.join(words.split())}")
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
