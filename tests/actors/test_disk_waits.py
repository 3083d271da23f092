"""A thread that waited for a disk is told from one that waited for the interpreter, or rested."""

import resource
import threading
import time
from types import SimpleNamespace

import pytest

from hmret.actors.disk_waits import DiskWaits, rest
from hmret.actors.threads import Throttle


class Machine:
    """What a thread and its process have used, as the kernel would tell it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.switches = self.blocks = 0
        self.seconds = self.processor_seconds = 0.0
        monkeypatch.setattr(
            resource, "getrusage", lambda _: SimpleNamespace(ru_nvcsw=self.switches, ru_inblock=self.blocks)
        )
        monkeypatch.setattr(time, "perf_counter", lambda: self.seconds)
        monkeypatch.setattr(time, "process_time", lambda: self.processor_seconds)

    def go_on(self, *, switches: int, blocks: int, busy: float) -> None:
        self.switches += switches
        self.blocks += blocks
        self.seconds += 10
        self.processor_seconds += 10 * busy


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(monkeypatch)
    machine.go_on(switches=7, blocks=5, busy=1.5)
    return machine


@pytest.mark.parametrize(
    ("blocks", "busy", "waits"),
    [
        pytest.param(8, 1.9, 100, id="a disk, and others run meanwhile"),
        pytest.param(8, 0.1, 100, id="a disk, and nobody runs"),
        pytest.param(0, 0.1, 100, id="a file system over a network"),
        pytest.param(0, 1.0, 0, id="the interpreter, which another thread has"),
    ],
)
def test_what_was_waited_for_is_told(machine: Machine, blocks: int, busy: float, waits: int) -> None:
    begun = DiskWaits.begin()
    machine.go_on(switches=100, blocks=blocks, busy=busy)
    assert begun.count() == waits


def test_rests_are_no_waits(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: machine.go_on(switches=1, blocks=0, busy=0))
    begun = DiskWaits.begin()
    for _ in range(3):
        rest(0.001)
    assert begun.count() == 0
    # Nor are those of bulk work that lets a client go first.
    throttle = Throttle()
    with throttle.urgent():
        machine.go_on(switches=0, blocks=0, busy=0)
        throttle()
    assert begun.count() == 0
    machine.go_on(switches=2, blocks=0, busy=0)
    assert begun.count() == 2


def test_the_rests_of_another_thread_are_its_own(machine: Machine) -> None:
    begun = DiskWaits.begin()
    other = threading.Thread(target=rest, args=(0,))
    other.start()
    other.join()
    machine.go_on(switches=4, blocks=0, busy=0)
    assert begun.count() == 4


def test_the_kernel_counts_a_wait_as_one_that_was_given_up_for() -> None:
    begun = DiskWaits.begin()
    ended = threading.Event()
    threading.Timer(0.01, ended.set).start()
    # Nothing of this process runs meanwhile.
    assert ended.wait(300)
    assert begun.count() > 0
