"""The demonstration of a fleet: three hosts with one image each agree through a real etcd that one copy stays."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import msgspec

from hmret.api.wire.convert_fleet import holdings_document
from hmret.api.wire.structs_fleet import FleetHoldingsDocument
from hmret.cli.commands.fleet.display import tell_holdings
from hmret.cli.demo.clock import DemoClock
from hmret.cli.demo.image_store import ImageStore, StoredImage
from hmret.cli.demo.own_etcd import find_etcd, running_etcd
from hmret.cli.demo.running import temporary_folder
from hmret.cli.engines import collect_from_now_on
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.fleet.gateway import Gateway
from hmret.fleet.operating import FleetOperator
from hmret.fleet.store import StoreUnreachableError
from hmret.model.errors import ImageNotFoundError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.model.references import parse_reference
from hmret.model.values import define
from hmret.model.verdicts import Reason

_HOSTS = ("a", "b", "c")
_FLEET = "demo"
_IMAGE = "ghcr.io/kernel/agent:1"
_DISK_BYTES = 256 * 1024
_BLOCK_BYTES = 4096
_WINDOW = timedelta(seconds=2)
_INTERVAL = timedelta(milliseconds=250)
_SESSION = timedelta(seconds=5)
_PATIENCE = 60.0
"""Seconds after which something that should have happened has not."""
_LOOK_SECONDS = 0.05
_STILL_SECONDS = 1.0
"""How long it is watched that nothing goes: some sweeps of each host."""


def run_fleet(*, as_json: bool = False) -> int:
    """Show three hosts delete an image that has expired on all of them, all but one.

    Prints each step, with the holdings before and after; with `as_json` only one document at the end. Returns
    the exit code: 0 if everything went as expected, else 1; 130 at SIGINT and 143 at SIGTERM.

    Raises:
        HmretError: etcd is not installed, or does not run.
    """
    program = find_etcd()
    collect_from_now_on()
    try:
        with temporary_folder() as folder:
            return asyncio.run(_run(program, folder, is_silent=as_json))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


class _NotAsToldError(Exception):
    """Something that should have happened has not."""


async def _run(program: str, folder: Path, *, is_silent: bool) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with running_etcd(program, folder) as endpoint, AsyncExitStack() as stack:
        store = Gateway([endpoint])
        stack.push_async_callback(store.aclose)
        story = _Story(folder, FleetOperator(store, _FLEET), endpoint, stack, is_silent)
        try:
            await story.tell()
        except _NotAsToldError as error:
            story.faults.append(str(error))
        story.print_ending()
    return 1 if story.faults else 0


@define(eq=False)
class _Story:
    """What happens, step by step."""

    folder: Path
    operator: FleetOperator
    endpoint: str
    stack: AsyncExitStack
    is_silent: bool
    faults: list[str] = attrs.field(factory=list, init=False)
    events: list[tuple[float, str, str]] = attrs.field(factory=list, init=False)
    held: list[FleetHoldingsDocument] = attrs.field(factory=list, init=False)
    _begun: float = attrs.field(factory=time.monotonic, init=False)
    _engines: dict[str, Retention] = attrs.field(factory=dict, init=False)
    _image: StoredImage = attrs.field(init=False)

    async def tell(self) -> None:
        """Carry it out.

        Raises:
            _NotAsToldError: something did not happen.
        """
        await self._make_fleet()
        await asyncio.to_thread(self._make_caches)
        self._say("hosts", f"each holds {_IMAGE}, which expires {_WINDOW.seconds} s after its last use")
        await self._pause_before_anything_goes()
        await self._resume_and_see_one_stay()

    async def _make_fleet(self) -> None:
        async def init() -> bool:
            try:
                await self.operator.init()
            except StoreUnreachableError:
                return False
            return True

        await self._until(init, "etcd answers")
        self._say("operator", "hmret fleet init")
        await self.operator.change("canary", "0s")
        self._say("operator", "hmret fleet set canary 0s: all hosts may delete from the start")

    def _make_caches(self) -> None:
        first, *others = (self.folder / host for host in _HOSTS)
        for name in ("images", "guests", "snapshots"):
            (first / name).mkdir(parents=True)
        start_ns = time.time_ns() - round(_SESSION.total_seconds()) * 1_000_000_000
        store = ImageStore(first, DemoClock(1.0, start_ns=start_ns))
        self._image = store.pull(parse_reference(_IMAGE), _DISK_BYTES)
        for other in others:
            shutil.copytree(first, other, symlinks=True, copy_function=_copy_sparse)

    async def _pause_before_anything_goes(self) -> None:
        await self.operator.pause("operator@demo", datetime.now(UTC), "a look first")
        self._say("operator", "hmret fleet pause --reason 'a look first'")
        for host in _HOSTS:
            config = RetentionConfig(
                data_dir=self.folder / host,
                auto_delete=AutoDelete(enabled=True, unused_for=_WINDOW, allowed=("*",)),
                sweep_interval=_INTERVAL,
                fleet=FleetConfig(endpoints=(self.endpoint,), name=_FLEET, host=host, session_ttl=_SESSION),
            )
            engine = open_engine(config, Platform(), scheduled=True)
            self._engines[host] = await self.stack.enter_async_context(engine)
        await self._until(self._counts(len(_HOSTS)), f"{len(_HOSTS)} copies count")
        self._say("fleet", f"{len(_HOSTS)} hosts have joined and registered what they hold")
        await self._show_holdings()
        for host in _HOSTS:
            await self._until(
                self._is_kept(host, Reason.FLEET_PAUSED), f"{host} keeps it while the fleet is paused"
            )
        self._say("hosts", "it has expired on all three, and stays: fleet_paused")
        await asyncio.sleep(_STILL_SECONDS)
        if len(self._holders()) != len(_HOSTS):
            raise _NotAsToldError("a copy went while the fleet was paused")

    async def _resume_and_see_one_stay(self) -> None:
        await self.operator.resume()
        self._say(
            "operator", "hmret fleet resume; then hmret sweep on each host, which else asks within a minute"
        )
        for host in _HOSTS:
            await self._engines[host].sweep()
        gone: list[str] = []

        async def all_but_one_have_gone() -> bool:
            for host in sorted({*_HOSTS} - {*self._holders()} - {*gone}):
                gone.append(host)
                self._say(host, "deleted its copy")
            return len(gone) >= len(_HOSTS) - 1

        await self._until(all_but_one_have_gone, "all copies but one go")
        left = [host for host in _HOSTS if host not in gone]
        if not left:
            raise _NotAsToldError("the last copy went")
        await self._until(self._is_kept(left[0], Reason.LAST_COPY), f"{left[0]} keeps the last copy")
        self._say(left[0], "keeps its copy: last_copy")
        await asyncio.sleep(_STILL_SECONDS)
        if self._holders() != left:
            raise _NotAsToldError("the last copy went")
        await self._show_holdings()

    async def _show_holdings(self) -> None:
        self._say("operator", f"hmret fleet holdings {_IMAGE}")
        found = holdings_document(await self.operator.holdings(self._image.digest), None)
        self.held.append(found)
        if not self.is_silent:
            lines = "\n".join(tell_holdings(found)).splitlines()
            print("\n".join(f"          {line}" for line in lines), flush=True)

    def _counts(self, copies: int) -> Callable[[], Awaitable[bool]]:
        async def counts() -> bool:
            return (await self.operator.holdings(self._image.digest)).counted == copies

        return counts

    def _is_kept(self, host: str, reason: Reason) -> Callable[[], Awaitable[bool]]:
        async def is_kept() -> bool:
            try:
                return (await self._engines[host].explain(_IMAGE)).reason is reason
            except ImageNotFoundError:
                raise _NotAsToldError(f"{host} has deleted its copy") from None

        return is_kept

    def _holders(self) -> list[str]:
        place = self._image.folders[0].relative_to(self.folder / _HOSTS[0])
        return [host for host in _HOSTS if (self.folder / host / place).exists()]

    async def _until(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        ends = time.monotonic() + _PATIENCE
        while not await is_so():
            if time.monotonic() > ends:
                raise _NotAsToldError(f"this did not happen within {_PATIENCE:.0f} s: {what}")
            await asyncio.sleep(_LOOK_SECONDS)

    def _say(self, teller: str, text: str) -> None:
        seconds = time.monotonic() - self._begun
        self.events.append((round(seconds, 3), teller, text))
        if not self.is_silent:
            print(f"{seconds:6.1f} s  {teller:<9} {text}", flush=True)

    def print_ending(self) -> None:
        """Print how it ended."""
        if self.is_silent:
            document = {
                "image": _IMAGE,
                "events": [
                    dict(zip(("seconds", "teller", "text"), each, strict=True)) for each in self.events
                ],
                "holdings": self.held,
                "left": self._holders(),
                "faults": self.faults,
            }
            print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
            return
        for fault in self.faults:
            print(f"not as told: {fault}")
        if not self.faults:
            left = self._holders()
            went = f"{len(_HOSTS) - len(left)} of {len(_HOSTS)} copies went"
            print(f"{went}; that on {left[0]} stays as long as no other host has one.")
            print("docs/FLEET.md sets this up by hand, on one machine and on many.")


def _copy_sparse(source: str, target: str) -> None:
    """Copy a file without the blocks that hold nothing."""
    with Path(source).open("rb") as reader, Path(target).open("wb") as writer:
        while chunk := reader.read(_BLOCK_BYTES):
            if any(chunk):
                writer.write(chunk)
            else:
                writer.seek(len(chunk), os.SEEK_CUR)
        writer.truncate(reader.tell())
