"""An engine that sweeps without a pause, with quarantine on, beside a writer at full speed."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.errors import ImageExistsError, ImageNotFoundError
from realfs import speedy_writer
from realfs.checking import Check
from realfs.mounts import make
from realfs.speedy_writer import LETTERS, is_whole, repository_of
from support.builders import FakeClock, digest, make_config
from support.cut_caches import Layout

__all__ = ["full_speed"]

_SECONDS = float(os.environ.get("SOAK", "60"))
_WINDOW = timedelta(hours=1)
_STEP = timedelta(minutes=31)
_QUARANTINE = timedelta(minutes=45)


def full_speed() -> Iterator[Check]:
    """List the checks of this part."""
    settings = (
        ("ext4", "asyncio", "older"),
        ("ext4", "trio", "today"),
        ("xfs", "asyncio", "today"),
        ("xfs", "trio", "older"),
    )
    for kind, backend, layout in settings:
        sentence = (
            f"beside a writer at full speed for {_SECONDS:.0f} s every disk that is opened is whole,"
            f" and descriptors stay flat ({kind}, {backend}, {layout} layout)"
        )
        yield Check("full speed", sentence, partial(_soak, kind, backend, layout))  # type: ignore[arg-type]


@attrs.define(eq=False)
class _Soak:
    root: Path
    layout: Layout
    clock: FakeClock
    rng: random.Random
    is_over: bool = False
    seen: Counter[str] = attrs.field(factory=Counter)
    faults: list[str] = attrs.field(factory=list)
    descriptors: list[int] = attrs.field(factory=list)

    async def sweep(self, retention: Retention) -> None:
        while not self.is_over:
            report = await retention.sweep()
            self.seen["sweeps"] += 1
            self.seen["deleted"] += report.deleted_images
            self.seen["released"] += report.released_images
            self.seen["open"] += report.open_images
            if report.status != "success":
                self.faults.append(str(report))
            self.descriptors.append(len([*Path("/proc/self/fd").iterdir()]))
            self.clock.advance(_STEP)

    async def restore(self, retention: Retention) -> None:
        """Bring something back now and then."""
        while not self.is_over:
            held = retention.quarantined()
            if held:
                one = self.rng.choice(held)
                with suppress(ImageNotFoundError, ImageExistsError):
                    await retention.restore(one.repository, one.digest)
                    self.seen["restored"] += 1
            await anyio.sleep(0.05)

    async def use(self, retention: Retention) -> None:
        """Say that images are used, and open them."""
        while not self.is_over:
            letters = self.rng.choice(LETTERS)
            try:
                async with retention.lease(repository_of(letters), digest(letters), reason="full speed"):
                    for _ in range(2):
                        if not await anyio.to_thread.run_sync(is_whole, self.root, self.layout, letters):
                            self.faults.append(f"leased, and not whole: {letters}")
                    self.seen["leased"] += 1
            except ImageNotFoundError:
                self.seen["told that it is gone"] += 1
            await anyio.sleep(0.002)

    def check(self) -> None:
        assert not self.faults, self.faults[:5]
        half = len(self.descriptors) // 2
        first, then = max(self.descriptors[:half]), max(self.descriptors[half:])
        assert then <= first + 4, f"descriptors: {first} in the first half, {then} in the second"
        for name in ("sweeps", "deleted", "released", "restored", "leased"):
            assert self.seen[name], f"nothing was {name}: {self.seen}"
        self.seen["descriptors"] = then


def _soak(kind: str, backend: str, layout: Layout, folder: Path) -> str:
    with make(folder, kind) as place:
        root = place / "data"
        root.mkdir()
        soak = _Soak(root, layout, FakeClock(), random.Random(1))
        command = [sys.executable, speedy_writer.__file__, str(root), layout, "1"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "begun\n"
                anyio.run(_run, soak, backend=backend)
                answer, _ = writer.communicate(timeout=60)
            finally:
                writer.kill()
        written = Counter(json.loads(answer))
    soak.check()
    assert writer.returncode == 0
    assert not written["bad"], written
    assert min(written[name] for name in ("pulls", "tags", "opens")) > 0, written
    return ", ".join(f"{count} {name}" for name, count in (*written.items(), *soak.seen.items()))


async def _run(soak: _Soak) -> None:
    config = make_config(soak.root, unused_for=_WINDOW, quarantine=_QUARANTINE)
    async with (
        open_engine(config, Platform(clock=soak.clock), scheduled=False) as retention,
        anyio.create_task_group() as tasks,
    ):
        for work in (soak.sweep, soak.restore, soak.use):
            tasks.start_soon(work, retention)
        await anyio.sleep(_SECONDS)
        soak.is_over = True
