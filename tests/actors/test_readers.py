"""Reader processes beside the actors: they find what the actors find, and nothing rests on them."""

import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import attrs
import pytest

import hmret
from builders import make_config, make_guest, make_image, make_state, running
from hmret.actors import reference_collector, walking
from hmret.actors.readers import Readers, usual_readers
from hmret.actors.reference_collector import Collected, ReferenceCollector
from hmret.actors.scanner import Scanner, ScanResult
from hmret.actors.state_keeper import StateKeeper, StatesLoaded
from hmret.actors.threads import Pace, WorkerThreads
from hmret.disk.filesystem import POSIX
from hmret.disk.reader_process import ReaderProcess
from hmret.disk.reading import Kind, understand_images
from hmret.engine.opening import open_engine, open_inspection
from hmret.engine.surroundings import Surroundings

pytestmark = pytest.mark.timeout(120)

IMAGES, REPOSITORIES, GUESTS = 4, 30, 12


@pytest.fixture(autouse=True)
def _little_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes asked for little, so that a test need not make much."""
    monkeypatch.setattr(walking, "_MUCH", 1)
    monkeypatch.setattr(walking, "_FOLDERS", 3)
    monkeypatch.setattr(walking, "_ASKED", 2)
    monkeypatch.setattr(reference_collector, "_MANY", 1)
    monkeypatch.setattr(reference_collector, "_ASKED", 5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    for number in range(REPOSITORIES):
        for letter in "abcdef"[:IMAGES]:
            name = f"registry-{number % 4}.local/team/repository-{number}"
            key = make_image(root, name, letter, tags=("latest",) if letter == "a" else ())
            make_state(root, key, 10**18 + number)
    make_image(root, "registry-0.local/team", "e", status="pulling", has_disk=False)
    for number in range(GUESTS):
        make_guest(root, f"vm-{number}", f"registry-0.local/team/repository-{number}")
    (root / "guests" / "torn").mkdir()
    (root / "guests" / "torn" / "metadata.json").write_text("{")
    return root


@pytest.fixture
def root(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "data", symlinks=True))


@attrs.frozen(eq=False)
class Crew:
    """The actors that read, and those who read for them."""

    readers: Readers
    scanner: Scanner
    states: StateKeeper
    references: ReferenceCollector

    async def read(self) -> tuple[ScanResult, StatesLoaded, Collected]:
        """Read everything at once, as a sweep does."""
        scans: list[ScanResult] = []
        loads: list[StatesLoaded] = []
        async with anyio.create_task_group() as tasks:

            async def scan() -> None:
                scans.append(await self.scanner.scan())

            async def load() -> None:
                loads.append(await self.states.load())

            tasks.start_soon(scan)
            tasks.start_soon(load)
            collected = await self.references.collect()
        return scans[0], loads[0], collected


@asynccontextmanager
async def crew(root: Path, count: int) -> AsyncIterator[Crew]:
    data_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    threads = WorkerThreads()
    readers = Readers(threads, data_fd, count)
    found = Crew(
        readers,
        Scanner(POSIX, data_fd, threads, readers),
        StateKeeper(POSIX, data_fd, threads, readers),
        ReferenceCollector(POSIX, data_fd, threads, readers, (), read_files=True, boot_id="boot"),
    )
    try:
        async with running(found.scanner), running(found.states), running(found.references):
            yield found
    finally:
        await readers.dismiss()
        os.close(data_fd)


def facts(found: tuple[ScanResult, StatesLoaded, Collected]) -> dict[str, object]:
    scan, states, collected = found
    return {
        "repositories": {name: (dict(one.images), dict(one.tags)) for name, one in scan.repositories.items()},
        "images": scan.images,
        "unlisted": scan.unlisted,
        "states": dict(states.states),
        "corrupt": states.corrupt,
        "references": sorted(map(str, collected.references)),
        "unreadable": collected.unreadable,
    }


async def first_hand(root: Path) -> dict[str, object]:
    async with crew(root, 0) as alone:
        return facts(await alone.read())


def children() -> set[str]:
    """List the processes that this one has started and not waited for."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        # A thread may end meanwhile; its children are then another's.
        with suppress(FileNotFoundError, ProcessLookupError):
            found |= set((task / "children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def others() -> Iterator[set[str]]:
    """The children that another test of this process has left, such as a helper of the interpreter's."""
    before = children()
    yield before
    assert children() <= before


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ReaderProcess]:
    """List the processes that are started."""
    processes: list[ReaderProcess] = []
    begin = ReaderProcess.__init__

    def note(self: ReaderProcess, data_fd: int) -> None:
        begin(self, data_fd)
        processes.append(self)

    monkeypatch.setattr(ReaderProcess, "__init__", note)
    return processes


@pytest.mark.parametrize("count", [1, 2])
async def test_processes_find_what_the_actors_find(
    root: Path, count: int, started: list[ReaderProcess]
) -> None:
    expected = await first_hand(root)
    assert expected["images"] == REPOSITORIES * IMAGES + 1
    assert started == []
    async with crew(root, count) as many:
        assert facts(await many.read()) == expected
        assert 1 <= len(started) <= count
        await many.readers.dismiss()
        assert facts(await many.read()) == expected


async def test_what_processes_have_found_is_known_from_then_on(
    root: Path, started: list[ReaderProcess]
) -> None:
    # What has changed within two seconds is read again in any case.
    await anyio.sleep(2.1)
    async with crew(root, 2) as many:
        before, states_before, _ = await many.read()
        count = len(started)
        make_image(root, "registry-1.local/team/repository-1", "f", tags=())
        after, states_after, _ = await many.read()
    assert len(started) == count > 0
    assert states_after is states_before
    changed = {name for name, one in after.repositories.items() if one is not before.repositories.get(name)}
    assert changed == {"registry-1.local/team/repository-1"}


Fault = Callable[[pytest.MonkeyPatch], None]


def die_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = ReaderProcess.__init__

    def start(self: ReaderProcess, data_fd: int) -> None:
        begin(self, data_fd)
        self._process.kill()

    monkeypatch.setattr(ReaderProcess, "__init__", start)


def die_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ReaderProcess.ask
    questions = 0

    def ask_until(self: ReaderProcess, question: bytes) -> bytes:
        nonlocal questions
        questions += 1
        if questions == 4:
            self._process.kill()
        return asked(self, question)

    monkeypatch.setattr(ReaderProcess, "ask", ask_until)


def cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")


def ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("true"))


def answers_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReaderProcess, "ask", lambda _self, _question: b"\xc1nonsense")


@pytest.mark.parametrize(
    "fault", [die_at_once, die_in_the_middle, cannot_be_started, ends_by_itself, answers_nonsense]
)
async def test_where_a_process_fails_the_actors_find_the_same_for_themselves(
    root: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    expected = await first_hand(root)
    fault(monkeypatch)
    async with crew(root, 2) as many:
        assert facts(await many.read()) == expected
        assert not many.readers.are_offered
        assert facts(await many.read()) == expected


async def test_where_nobody_is_offered_nothing_is_read(root: Path) -> None:
    async with crew(root, 0) as alone:
        assert await alone.readers.read(Kind.IMAGES, [""], understand_images) is None


async def test_dismissed_processes_are_started_again_when_they_are_asked_again(
    root: Path, started: list[ReaderProcess]
) -> None:
    async with crew(root, 1) as one:
        for _ in range(2):
            assert await one.readers.read(Kind.IMAGES, [""], understand_images) is not None
        assert len(started) == 1
        await one.readers.dismiss()
        assert await one.readers.read(Kind.IMAGES, [""], understand_images) is not None
        assert len(started) == 2


async def test_an_asker_who_is_cancelled_leaves_the_process_for_the_next(
    root: Path, started: list[ReaderProcess]
) -> None:
    async with crew(root, 1) as one:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.readers.read(Kind.IMAGES, [""], understand_images)
        with anyio.move_on_after(0.05):
            while True:
                await one.readers.read(Kind.IMAGES, ["registry-0.local/team"], understand_images)
        answered = await one.readers.read(Kind.IMAGES, [""], understand_images)
        assert answered is not None
        assert [folder.path for folder in answered[0]] == [""]
        assert len(started) == 1


# The engine with processes.


async def test_an_engine_finds_the_same_and_leaves_no_process(
    root: Path, started: list[ReaderProcess], others: set[str]
) -> None:
    config = make_config(root)
    async with open_inspection(config, Surroundings(readers=0)) as inspection:
        expected = (await inspection.plan()).summary
    assert started == []
    async with open_engine(config, Surroundings(readers=2), scheduled=False) as retention:
        assert (await retention.plan()).summary == expected
        assert started
        # They are not kept between two surveys.
        assert children() <= others
    async with open_inspection(config, Surroundings(readers=2)) as inspection:
        assert (await inspection.plan()).summary == expected


async def test_an_engine_that_is_closed_while_they_read_leaves_no_process(
    root: Path, started: list[ReaderProcess], others: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ReaderProcess.ask
    arrived = anyio.Event()

    def ask_slowly(self: ReaderProcess, question: bytes) -> bytes:
        anyio.from_thread.run_sync(arrived.set)
        # For the engine to be closed meanwhile; where it is not, nothing else is different.
        time.sleep(0.05)
        return asked(self, question)

    monkeypatch.setattr(ReaderProcess, "ask", ask_slowly)
    async with open_engine(make_config(root), Surroundings(readers=2), scheduled=True):
        await arrived.wait()
    assert started
    assert children() <= others


async def test_an_engine_whose_embedder_is_cancelled_while_they_read_leaves_no_process(
    root: Path, others: set[str]
) -> None:
    async with open_engine(make_config(root), Surroundings(readers=2), scheduled=True) as retention:
        with anyio.move_on_after(0.02):
            await retention.plan()
    assert children() <= others


# How many there are, and how work gives way.


@pytest.mark.parametrize(("processors", "count"), [(1, 0), (2, 2), (64, 2)])
def test_there_are_as_many_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, processors: int, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    assert usual_readers() == count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("executable", ""),
        ("executable", None),
        ("executable", "/no/such/program"),
        ("executable", "/bin/sh"),  # the program that embeds the interpreter
        ("frozen", True),
        ("orig_argv", []),  # an interpreter that is embedded was not started with words
        ("orig_argv", ["host", "--serve"]),
    ],
)
def test_there_are_none_where_it_is_not_sure_that_an_interpreter_would_be_started(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(sys, name, value, raising=False)
    assert usual_readers() == 0


async def test_an_engine_that_is_embedded_starts_no_program(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    def fail(*arguments: object, **_options: object) -> None:
        raise AssertionError(f"started: {arguments}")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr("subprocess.Popen", fail)
    assert usual_readers() == 2  # here they would work
    async with hmret.open_retention(make_config(root)) as retention:
        report = await retention.sweep()
    assert report.errors == ()
    assert report.ready_images == IMAGES * REPOSITORIES


def test_work_rests_after_a_while_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    rests: list[float] = []
    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr("time.sleep", rests.append)
    pace = Pace()
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
