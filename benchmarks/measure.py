"""What the benchmarks share: figures and their table, processes and their memory, folders that go away again."""

import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Self

from benchmarks.trees import Layout

__all__ = [
    "HERE",
    "Floor",
    "Peak",
    "Row",
    "Subject",
    "choose_folder",
    "describe_machine",
    "measure_peak",
    "remove_tree",
    "temporary_folder",
    "time_command",
]

HERE = Path(__file__).resolve().parent

# An image takes three pages and some five inodes of a tmpfs, with a manifest and tags of several repositories four and
# seven; an inode holds about a kilobyte of memory.
_BYTES_PER_IMAGE = {"legacy": 20_000, "content": 24_000}
_INODES_PER_IMAGE = {"legacy": 6.0, "content": 8.0}
_BLOCK_BYTES = 4096
_SAMPLE_SECONDS = 0.01
_SOURCES = ("yardsticks", "units", "looks", "safe_deletion")
Core = Literal["native", "pure"]
CORES: tuple[Core, ...] = ("native", "pure")

_PACKAGES = ("hmret", "anyio", "trio", "attrs", "msgspec", "aiofiles")


class Took(float):
    """Seconds by the clock, and the processor time that went into them."""

    cpu: float

    def __new__(cls, seconds: float, cpu: float) -> Self:
        """Make one of both, in seconds."""
        took = super().__new__(cls, seconds)
        took.cpu = cpu
        return took

    def plus(self, other: "Took") -> "Took":
        """Add two stretches of work."""
        return Took(self + other, self.cpu + other.cpu)

    def less(self, other: "Took") -> "Took":
        """Take one stretch of work away from another."""
        return Took(self - other, self.cpu - other.cpu)


@dataclass
class Row:
    """One figure: ours, what it is held against, and its goal."""

    figure: str
    ours: list[float]
    goal: float | None = None
    """None: shown, not judged."""
    floor: list[float] = field(default_factory=list)
    """Measured beside ours, run by run; empty: the figure is absolute."""
    unit: str = "s"
    scale: float = 1.0
    """What ours and floor are multiplied with to be shown in `unit`."""
    worst: bool = False
    """Whether the highest of the runs is judged instead of the median."""
    note: str = ""
    layout: Layout = "legacy"
    core: Core = "native"
    failed: bool = False
    """Whether the work was not done as it should have been: then no time counts."""

    @property
    def value(self) -> float:
        """What is held against the goal."""
        ours = max(self.ours) if self.worst else statistics.median(self.ours)
        return ours / statistics.median(self.floor) if self.floor else ours * self.scale

    @property
    def processor(self) -> float | None:
        """Processor time, ours over that of the floor, as medians; None: not measured on both sides."""
        ours, floor = (
            [took.cpu for took in side if isinstance(took, Took)] for side in (self.ours, self.floor)
        )
        if not ours or not floor or not statistics.median(floor):
            return None
        return statistics.median(ours) / statistics.median(floor)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest value among the runs, each against the floor beside it."""
        if self.floor:
            ratios = [ours / floor for ours, floor in zip(self.ours, self.floor, strict=True)]
            return min(ratios), max(ratios)
        return min(self.ours) * self.scale, max(self.ours) * self.scale

    @property
    def verdict(self) -> str:
        """Say whether the goal is met."""
        if self.failed:
            return "FAILED"
        if self.goal is None:
            return "-"
        return "met" if self.value <= self.goal else "missed"

    def cells(self) -> list[str]:
        """Show it as one row of the table."""
        low, high = self.spread
        unit = "" if self.floor else f" {self.unit}"
        return [
            self.figure,
            self._three(self.ours),
            self._three(self.floor) if self.floor else "-",
            f"{self.value:.2f}{unit}",
            f"{low:.2f} to {high:.2f}",
            "-" if self.processor is None else f"{self.processor:.2f}",
            "-" if self.goal is None else f"{self.goal:g}{unit}",
            self.verdict,
        ]

    def document(self) -> dict[str, Any]:
        """Show it as JSON, with every run."""
        return {
            "figure": self.figure,
            "layout": self.layout,
            "core": self.core,
            "unit": self.unit,
            "ours": [value * self.scale for value in self.ours],
            "floor": [value * self.scale for value in self.floor],
            "value": self.value,
            "spread": self.spread,
            "processor": self.processor,
            "goal": self.goal,
            "verdict": self.verdict,
            "note": self.note,
        }

    def _three(self, values: Sequence[float]) -> str:
        shown = (min(values), statistics.median(values), max(values))
        return " / ".join(f"{value * self.scale:.3g}" for value in shown) + f" {self.unit}"


class Floor:
    """The C program, compiled once."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "yardsticks"
        sources = [HERE / f"{name}.c" for name in _SOURCES]
        subprocess.run(["cc", "-O2", "-o", self._program, *sources], check=True)

    def time(self, mode: str, data_dir: Path, *rest: Path) -> Took:
        """Run it; returns the seconds of the work alone, and the processor time of the whole process."""
        before = _children_seconds()
        seconds = self.run(mode, data_dir, *rest)["seconds"]
        return Took(seconds, _children_seconds() - before)

    def run(self, mode: str, data_dir: Path, *rest: Path) -> dict[str, float]:
        """Run it; returns what it says."""
        done = subprocess.run(
            [self._program, mode, data_dir, *rest], check=True, stdout=subprocess.PIPE, text=True
        )
        return dict[str, float](json.loads(done.stdout))


def _children_seconds() -> float:
    """Return the processor time of all processes that were run and have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def environment_for(core: Core) -> dict[str, str]:
    """Return the environment in which hmret has this core."""
    return {**os.environ, "HMRET_NATIVE": "0" if core == "pure" else "1"}


class Subject:
    """The engine in a process of its own; see subject.py."""

    def __init__(
        self,
        data_dir: Path,
        *,
        backend: str = "asyncio",
        unused_for: float = 720 * 3600,
        core: Core = "native",
        options: Sequence[str] = (),
    ) -> None:
        command: list[str | Path] = [
            sys.executable,
            HERE / "subject.py",
            data_dir,
            "--backend",
            backend,
            *options,
        ]
        self._process = subprocess.Popen(
            [*command, "--unused-for", str(unused_for)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment_for(core),
        )
        opened = self._read()
        self.opened = Took(opened["opened_seconds"], opened["cpu_seconds"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=60)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()

    def do(self, what: str, **options: Any) -> dict[str, Any]:
        """Ask for one thing and wait until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **options}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        if answer.get("errors"):
            raise SystemExit(f"a sweep failed in part: {answer['errors']}")
        return answer

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the engine's process ended with {self._process.wait()}")
        return dict[str, Any](json.loads(line))


@dataclass(frozen=True)
class Peak:
    """The most memory that a process and its children held together."""

    bytes: int
    samples: int


def measure_peak(command: Sequence[str | Path], core: Core = "native") -> Peak:
    """Run a command to its end, and add up the PSS of it and all its descendants every 10 ms."""
    peak = 0
    samples = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment_for(core)) as process:
        while process.poll() is None:
            peak = max(peak, sum(_pss_bytes(pid) for pid in _family(process.pid)))
            samples += 1
            time.sleep(_SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Peak(peak, samples)


def _family(pid: int) -> list[int]:
    """List a process and its descendants."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in path.read_text().split()]
            except OSError:
                continue
    return found


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def time_command(command: Sequence[str | Path], core: Core = "native") -> float:
    """Run a command to its end; returns the seconds of the whole process. It may cache its byte code, as one installed has."""
    environment = environment_for(core)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - begin


def choose_folder(images: int, layout: Layout, *, blocks: bool = True) -> tuple[Path, str]:
    """Choose where trees of so many images in all go: /dev/shm where it has room, else the temporary folder."""
    shm = Path("/dev/shm")
    each = _BYTES_PER_IMAGE[layout] - (0 if blocks else _BLOCK_BYTES)
    needed, inodes = images * each, images * _INODES_PER_IMAGE[layout]
    if not shm.is_dir():
        return Path(tempfile.gettempdir()), "no /dev/shm: trees in the temporary folder"
    found = os.statvfs(shm)
    if found.f_bavail * found.f_frsize < needed or _available_bytes() < needed:
        reason = f"/dev/shm or memory has no room for {images} images: trees in the temporary folder"
    elif found.f_files and found.f_favail < inodes:  # no files at all: it counts none
        reason = f"/dev/shm has no inodes for {images} images: trees in the temporary folder"
    else:
        return shm, "trees on tmpfs (/dev/shm), page cache warm"
    return Path(tempfile.gettempdir()), reason


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Make a folder that is removed at the end, also on Ctrl-C and SIGTERM."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    folder = Path(tempfile.mkdtemp(prefix="hmret-bench-", dir=parent))
    try:
        yield folder
    finally:
        remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it; a second Ctrl-C does not leave half of it behind."""
    subprocess.run(["rm", "-rf", "--", folder], check=True, start_new_session=True)


def describe_machine() -> dict[str, str | int]:
    """Say what this runs on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    compiler = shutil.which("cc")
    version = subprocess.run(["cc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiler": version.splitlines()[0] if compiler else "none",
        "load_1m": f"{os.getloadavg()[0]:.2f}",
        **{name: metadata.version(name) for name in _PACKAGES},
    }
