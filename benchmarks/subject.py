"""The engine in a process of its own, as the benchmarks drive it: one JSON line in, one JSON line out.

`python benchmarks/subject.py DATA_DIR [--backend trio] [--unused-for SECONDS]` opens the engine, says how long that
took, and then does what each line on stdin asks for, until stdin ends:

    {"do": "sweep"}                                   one sweep, timed here
    {"do": "wait", "until": EPOCH_SECONDS}            nothing, until then
    {"do": "watch"}                                   one sweep; how late a task that sleeps 1 ms wakes up meanwhile
    {"do": "idle", "seconds": 2}                      the same without a sweep
    {"do": "marks", "seconds": 5, "images": [...]}    `mark_used` of one image after another while sweeps run;
                                                      "sweeps": false: while none does
    {"do": "join"}                                    nothing, until this host is a member of its fleet

With `--endpoints` and `--fleet` it is a host of a fleet on etcd.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.fleet import FleetState
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.model.report import SweepReport

_TICK_SECONDS = 0.001
_BETWEEN_MARKS_SECONDS = 0.001


def _counters(report: SweepReport, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "status": report.status,
        "own_seconds": report.duration_seconds,
        "ready": report.ready_images,
        "protected": report.protected_images,
        "marked": report.marked_unused,
        "cleared": report.cleared_states,
        "pruned": report.pruned_states,
        "deleted": report.deleted_images,
        "deleted_bytes": report.deleted_bytes,
        "errors": [error.error for error in report.errors[:3]],
    }


async def _sweep(retention: Retention) -> dict[str, Any]:
    begin, cpu_begin = time.perf_counter(), time.process_time()
    report = await retention.sweep()
    return _counters(report, time.perf_counter() - begin, time.process_time() - cpu_begin)


async def _tick(lateness: list[float]) -> None:
    while True:
        begin = time.perf_counter()
        await anyio.sleep(_TICK_SECONDS)
        lateness.append(time.perf_counter() - begin - _TICK_SECONDS)


async def _watch(retention: Retention) -> dict[str, Any]:
    lateness: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tick, lateness)
        swept = await _sweep(retention)
        tasks.cancel_scope.cancel()
    return swept | _latencies(lateness)


async def _idle(seconds: float) -> dict[str, Any]:
    lateness: list[float] = []
    with anyio.move_on_after(seconds):
        await _tick(lateness)
    return _latencies(lateness)


async def _marks(
    retention: Retention, seconds: float, images: Sequence[str], *, has_sweeps: bool
) -> dict[str, Any]:
    """Mark images used, one after the other, while sweeps run back to back, or none."""
    taken: list[float] = []
    sweeps = 0

    async def sweep_on() -> None:
        nonlocal sweeps
        while True:
            await retention.sweep()
            sweeps += 1

    async with anyio.create_task_group() as tasks:
        if has_sweeps:
            tasks.start_soon(sweep_on)
        end = time.perf_counter() + seconds
        for image in itertools.cycle(images):
            begin = time.perf_counter()
            if begin > end:
                break
            await retention.mark_used(image)
            taken.append(time.perf_counter() - begin)
            await anyio.sleep(_BETWEEN_MARKS_SECONDS)
        tasks.cancel_scope.cancel()
    return _latencies(taken) | {"sweeps": sweeps, "values": taken}


async def _join(retention: Retention) -> None:
    fleet = retention.fleet
    assert fleet is not None, "this host is in no fleet"
    while fleet.state is not FleetState.JOINED:  # noqa: ASYNC110 - an engine has no event for it
        await anyio.sleep(0.02)


def _latencies(values: list[float]) -> dict[str, Any]:
    values.sort()
    return {
        "count": len(values),
        "median_seconds": values[len(values) // 2],
        "p99_seconds": values[len(values) * 99 // 100],
        "max_seconds": values[-1],
    }


async def _answer(retention: Retention, asked: Mapping[str, Any]) -> dict[str, Any]:
    match asked["do"]:
        case "sweep":
            return await _sweep(retention)
        case "watch":
            return await _watch(retention)
        case "idle":
            return await _idle(asked["seconds"])
        case "marks":
            has_sweeps = asked.get("sweeps", True)
            return await _marks(retention, asked["seconds"], asked["images"], has_sweeps=has_sweeps)
        case "join":
            await _join(retention)
            return {}
        case "wait":
            await anyio.sleep(max(asked["until"] - time.time(), 0))
            return {}
    raise SystemExit(f"not known: {asked['do']}")


async def _sweep_once(config: RetentionConfig) -> None:
    async with open_engine(config, Platform(), scheduled=False) as retention:
        _say(await _sweep(retention))


async def _serve(config: RetentionConfig) -> None:
    begin, cpu_begin = time.perf_counter(), time.process_time()
    async with open_engine(config, Platform(), scheduled=False) as retention:
        _say(
            {
                "opened_seconds": time.perf_counter() - begin,
                "cpu_seconds": time.process_time() - cpu_begin,
            }
        )
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            _say(await _answer(retention, json.loads(line)))


def _say(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description="Drive the engine by JSON lines.")
    parser.add_argument("data_dir")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--unused-for", type=float, default=720 * 3600, help="seconds")
    parser.add_argument("--endpoints", nargs="*", default=[], help="of etcd's members")
    parser.add_argument("--fleet", default="default", help="its name")
    parser.add_argument("--once", action="store_true", help="one sweep, and out")
    options = parser.parse_args()
    config = RetentionConfig(
        data_dir=options.data_dir,
        auto_delete=AutoDelete(
            enabled=True, unused_for=timedelta(seconds=options.unused_for), allowed=("*",)
        ),
        fleet=FleetConfig(
            endpoints=options.endpoints, name=options.fleet, host="subject", session_ttl=timedelta(seconds=5)
        ),
    )
    anyio.run(_sweep_once if options.once else _serve, config, backend=options.backend)


if __name__ == "__main__":
    main()
