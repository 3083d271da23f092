"""Several threads read at a time, and what one of them finds more work is done by all."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import hmret
from hmret.actors.disk_waits import DiskWaits
from hmret.actors.lanes import Lanes
from hmret.actors.threads import Throttle, WorkerThreads
from hmret.disk.filesystem import NATIVE
from support.builders import GatedThreads, make_config, make_guest, make_image
from support.patience import PATIENCE, patiently


class Heap:
    """Things that wait to be read, of which some hold more of them."""

    def __init__(self, *waiting: int) -> None:
        self.waiting = list(waiting)
        self.found: list[int] = []
        self.shares: list[int] = []

    def take(self, lanes: int) -> list[int]:
        self.shares.append(lanes)
        taken = self.waiting[:2]
        del self.waiting[:2]
        return taken

    def put(self, found: list[int]) -> int:
        self.found += found
        # An even one holds another that is half as large.
        self.waiting += [number // 2 for number in found if number > 1 and number % 2 == 0]
        return len(found)


async def test_all_that_waits_is_read_and_what_comes_of_it_too() -> None:
    heap = Heap(*range(1, 11))
    await Lanes(WorkerThreads(), heap.take, lambda taken: taken, heap.put).run()
    expected = [1, 2, 1, 3, 4, 2, 1, 5, 6, 3, 7, 8, 4, 2, 1, 9, 10, 5]
    assert sorted(heap.found) == sorted(expected)


async def test_two_read_at_the_same_time() -> None:
    heap = Heap(1, 1, 1, 1)
    meeting = threading.Barrier(2)

    def look(taken: list[int]) -> list[int]:
        meeting.wait(PATIENCE)  # broken, and so an error, where nobody else comes
        return taken

    await Lanes(WorkerThreads(lanes=2), heap.take, look, heap.put).run()
    assert heap.found == [1, 1, 1, 1]


def test_without_the_native_core_one_thread_reads() -> None:
    assert WorkerThreads().lanes == (2 if NATIVE else 1)


async def test_where_the_disk_has_to_be_waited_for_more_read_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DiskWaits, "count", lambda _: 1000)
    heap = Heap()
    threads = WorkerThreads()
    meeting = threading.Barrier(threads.lanes_of_a_cold_disk)
    looks = 0

    def look(taken: list[int]) -> list[int]:
        nonlocal looks
        looks += 1
        if looks > threads.lanes:
            meeting.wait(PATIENCE)
        return taken

    # As many as meet, and those that were read before there were so many.
    heap.waiting = [1] * 2 * (threads.lanes + 3 * threads.lanes_of_a_cold_disk)
    await Lanes(threads, heap.take, look, heap.put).run()
    assert set(heap.found) == {1}
    assert not heap.waiting


async def test_a_look_that_fails_is_raised_as_it_is_and_nobody_waits_for_ever() -> None:
    heap = Heap(1, 2, 3, 4)

    def look(taken: list[int]) -> list[int]:
        raise OSError(5, f"cannot read {taken}")

    with pytest.raises(OSError, match="cannot read"):
        await Lanes(WorkerThreads(lanes=2), heap.take, look, heap.put).run()


async def test_one_that_is_cancelled_waits_for_what_is_being_read() -> None:
    heap = Heap(1, 2)
    threads = GatedThreads()
    gate = threads.hold("_look")
    with patiently():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Lanes(threads, heap.take, lambda taken: taken, heap.put).run)
            await gate.arrived.wait()
            tasks.cancel_scope.cancel()
            gate.opened.set()
    assert heap.found in ([], [1, 2])
    assert not heap.waiting


async def test_an_engine_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    for letter in "abc":
        make_image(tmp_path, f"docker.io/library/{letter}", letter)
        make_guest(tmp_path, letter, letter)

    def fail(*arguments: object, **_options: object) -> None:
        raise AssertionError(f"started: {arguments}")

    for module, name in ((subprocess, "Popen"), (os, "fork"), (os, "posix_spawn"), (os, "execve")):
        monkeypatch.setattr(module, name, fail)
    async with hmret.open_retention(make_config(tmp_path)) as retention:
        report = await retention.sweep()
    assert report.errors == ()
    assert report.ready_images == 3


def test_work_rests_after_a_while_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    rests: list[float] = []
    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr("time.sleep", rests.append)
    pace: Callable[[], None] = Throttle()
    pace()
    assert len(rests) == 1  # nobody knows for how long this thread has worked
    for _ in range(10):
        now += 0.0009
        pace()
    assert len(rests) == 1
    now += 0.002
    pace()
    assert len(rests) == 2
    assert all(0 < rest < 0.001 for rest in rests)


async def test_threads_that_read_give_the_interpreter_away_sooner_and_sooner_still_while_somebody_hurries(
    anyio_backend_name: str,
) -> None:
    threads = WorkerThreads()
    before = sys.getswitchinterval()
    assert await threads.run(sys.getswitchinterval) == before
    briskly = await threads.read(sys.getswitchinterval)
    with threads.urgent():
        hurried = sys.getswitchinterval()
        with threads.urgent():
            assert await threads.read(sys.getswitchinterval) == hurried
        assert await threads.read(sys.getswitchinterval) == hurried
    assert 0 < hurried < briskly < before
    assert sys.getswitchinterval() == before


async def test_an_interpreter_that_switches_sooner_by_itself_is_left_alone(anyio_backend_name: str) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    own = sys.getswitchinterval()
    try:
        threads = WorkerThreads()
        with threads.urgent():
            assert await threads.read(sys.getswitchinterval) == own
        assert sys.getswitchinterval() == own
    finally:
        sys.setswitchinterval(before)
