"""Running the demonstration: the temporary folder, the engine, and how it ends."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import attrs
import msgspec

from hmret.cli.demo.chronicle import Chronicle, bytes_text, day_of
from hmret.cli.demo.clock import DAY, DemoClock
from hmret.cli.demo.host import Host, offers_leases
from hmret.cli.demo.outcome import Outcome, find_faults, outcomes, print_outcomes, to_document
from hmret.cli.demo.story import ALLOWED, PINNED, Story, StoryError
from hmret.engine.opening import open_engine
from hmret.engine.surroundings import Surroundings
from hmret.model.config import AutoDelete, RetentionConfig

__all__ = ["run"]

_UNUSED_FOR = 30 * DAY
_SWEEPS_PER_DAY = 1.6


@attrs.frozen
class _Ending:
    """How the story ended."""

    outcomes: list[Outcome]
    faults: list[str]


def run(*, as_json: bool, day_seconds: float) -> int:
    """Run the demonstration; returns the exit code: 0, 1 when it did not go as told, 143 at SIGTERM.

    Raises:
        KeyboardInterrupt: SIGINT came; everything is cleaned up.
    """
    try:
        with _temporary_folder() as folder:
            return asyncio.run(_run(folder, as_json=as_json, day_seconds=day_seconds))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        # What is left in the buffer must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed after this block, however impatient whoever stops us."""
    folder = Path(tempfile.mkdtemp(prefix="hmret-demo-"))
    try:
        yield folder
    finally:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        shutil.rmtree(folder)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _run(folder: Path, *, as_json: bool, day_seconds: float) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    chronicle = Chronicle(DemoClock(day_seconds), is_silent=as_json)
    if not as_json:
        print(
            f"A cache in {folder}: images unused for {_UNUSED_FOR.days} days go; a day takes {day_seconds:g} s."
        )
        print(f"allowed: {', '.join(ALLOWED)}; pinned: {', '.join(PINNED)}", flush=True)
    with chronicle.listening():
        ending = await _tell_story(folder, chronicle, day_seconds)
    if as_json:
        document = to_document(chronicle, ending.outcomes, ending.faults)
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        _print_ending(chronicle, ending)
    return 1 if ending.faults else 0


async def _tell_story(folder: Path, chronicle: Chronicle, day_seconds: float) -> _Ending:
    has_leases = await asyncio.to_thread(offers_leases, folder)
    if not has_leases:
        chronicle.tell(
            "host", "no_file_leases", "this file system does not tell that a disk is open: left out"
        )
    data_dir = folder / "data"
    for name in ("images", "guests", "snapshots"):
        (data_dir / name).mkdir(parents=True)
    config = RetentionConfig(
        data_dir=data_dir,
        auto_delete=AutoDelete(enabled=True, unused_for=_UNUSED_FOR, allowed=ALLOWED),
        pinned=PINNED,
        sweep_interval=timedelta(seconds=day_seconds / _SWEEPS_PER_DAY),
    )
    async with open_engine(config, Surroundings(clock=chronicle.clock), scheduled=True) as retention:
        host = Host(data_dir, chronicle.clock, retention, chronicle)
        story = Story(host, chronicle.clock, retention, chronicle, has_leases)
        try:
            plan = await story.tell()
        except StoryError as error:
            return _Ending([], [str(error)])
        statistics = retention.statistics()
    found = outcomes(host, chronicle, plan)
    faults = await asyncio.to_thread(find_faults, host, found, story.fates)
    freed_bytes = sum(outcome.freed_bytes for outcome in found)
    if statistics.deleted_bytes != freed_bytes:
        faults.append(f"the engine counts {statistics.deleted_bytes} bytes freed, its events {freed_bytes}")
    return _Ending(found, faults)


def _print_ending(chronicle: Chronicle, ending: _Ending) -> None:
    found = ending.outcomes
    if found:
        print_outcomes(found, on_terminal=sys.stdout.isatty())
    print()
    deleted = [outcome for outcome in found if outcome.is_deleted]
    freed = bytes_text(sum(outcome.freed_bytes for outcome in deleted))
    days = day_of(chronicle.clock.elapsed)
    for fault in ending.faults:
        print(f"not as told: {fault}")
    if not ending.faults:
        print(
            f"{days} days, {len(found)} images: {len(deleted)} deleted, {len(found) - len(deleted)} kept, "
            f"{freed} freed; the directory agrees",
            flush=True,
        )
