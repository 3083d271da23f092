"""The engine against the second, naive implementation, on generated trees and on hypeman's own."""

import json
import pathlib
from datetime import UTC, datetime, timedelta

import pytest

from hmret import AutoDelete, RetentionConfig, SweepReport
from hmret.disk.layout import RETENTION, hex_of
from hmret.engine.opening import open_engine
from hmret.engine.opening_inspection import open_inspection
from hmret.engine.platform import Platform
from hmret.model.clock.clock_guard import ClockReading
from hmret.model.times import nanoseconds_of, parse_time
from support import naive, trees
from support.archives import unpack
from support.bounds import bound

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
COUNTERS = (
    "ready_images",
    "protected_images",
    "marked_unused",
    "cleared_states",
    "deleted_images",
    "pruned_states",
    "stale_references",
)

pytestmark = pytest.mark.anyio


class FixedClock:
    """A clock that stands still."""

    def __init__(self, now: datetime) -> None:
        self.wall_ns = nanoseconds_of(now)

    def now_ns(self) -> int:
        return self.wall_ns

    def read(self) -> ClockReading:
        return ClockReading("boot", 10**12, self.wall_ns)


def images_in(root: pathlib.Path) -> set[tuple[str, str]]:
    folders = (path.parent for path in (root / "images").rglob("metadata.json"))
    return {(str(folder.parent.relative_to(root / "images")), f"sha256:{folder.name}") for folder in folders}


def folder_of(root: pathlib.Path, key: tuple[str, str]) -> pathlib.Path:
    return root / "images" / key[0] / hex_of(key[1])


def tags_in(root: pathlib.Path) -> dict[tuple[str, str], str]:
    links = (path for path in (root / "images").rglob("*") if path.is_symlink())
    return {
        (str(link.parent.relative_to(root / "images")), link.name): f"sha256:{link.readlink()}"
        for link in links
        if naive.is_hex(str(link.readlink()))
    }


def states_in(root: pathlib.Path) -> dict[tuple[str, str], object]:
    states = {}
    for path in (root / RETENTION).rglob("*.json"):
        repository = str(path.parent.relative_to(root / RETENTION))
        states[repository, f"sha256:{path.stem}"] = json.loads(path.read_bytes())["unused_since"]
    return states


def folders_in(root: pathlib.Path) -> set[str]:
    images = root / "images"
    return {
        str(path.relative_to(images)) for path in images.rglob("*") if path.is_dir() and not path.is_symlink()
    }


async def sweep(root: pathlib.Path, now: datetime, config: RetentionConfig) -> SweepReport:
    async with open_engine(config, Platform(clock=FixedClock(now)), scheduled=False) as retention:
        return await retention.sweep()


async def verdicts(
    root: pathlib.Path, now: datetime, config: RetentionConfig
) -> dict[naive.Key, tuple[object, ...]]:
    async with open_inspection(config, Platform(clock=FixedClock(now))) as inspection:
        plan = await inspection.plan()
    return {
        (one.repository, one.digest): (one.action, one.reason, list(one.referenced_by), list(one.tags))
        for one in plan.verdicts
    }


@pytest.mark.parametrize("seed", range(bound(2, 40)))
@pytest.mark.parametrize("shape", trees.SHAPES.values(), ids=trees.SHAPES.keys())
@pytest.mark.parametrize(
    "choice",
    [
        (["*"], [], 0),
        (["docker.io/*", "ghcr.io/*", "*:*"], ["docker.io/team/*"], 0),
        (["*/a?p*", "*a*"], ["*1"], 3),
    ],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_sweep_does_what_the_naive_implementation_says(
    tmp_path: pathlib.Path, seed: int, shape: trees.Shape, choice: tuple[list[str], list[str], int]
) -> None:
    allowed, pinned, max_deletes = choice
    root = tmp_path / "data"
    trees.build_tree(root, shape, seed, NOW)
    expected = naive.decide(
        root,
        now=NOW,
        unused_for=shape.unused_for,
        allowed=allowed,
        pinned=pinned,
        max_deletes=max_deletes,
        unreadable="ignore" if seed == 1 else "suspend",
    )
    config = RetentionConfig(
        data_dir=root,
        auto_delete=AutoDelete(enabled=True, unused_for=shape.unused_for, allowed=allowed),
        pinned=pinned,
        max_deletes_per_sweep=max_deletes,
        delete_unpullable=True,  # the naive implementation knows the contract's table only
        unreadable_references="ignore" if seed == 1 else "suspend",
    )
    folders = folders_in(root)
    assert await verdicts(root, NOW, config) == {
        key: (one.action, one.reason, one.referenced_by, one.tags) for key, one in expected.verdicts.items()
    }
    report = await sweep(root, NOW, config)
    assert {name: getattr(report, name) for name in COUNTERS} == {
        name: getattr(expected, name) for name in COUNTERS
    }
    assert bool(report.suspended) == (expected.is_hidden or (bool(expected.unreadable) and seed != 1))
    assert {key for key in expected.verdicts if folder_of(root, key).exists()} == expected.images
    assert {key: target for key, target in tags_in(root).items() if key in expected.tags} == expected.tags
    now_text = "2026-06-01T00:00:00Z"
    assert states_in(root) == {
        key: now_text if text == "now" else json.loads(text) if text.startswith('"') else text
        for key, text in expected.states.items()
    }
    gone = {f"{name}/{hex_of(digest)}" for name, digest in expected.verdicts.keys() - expected.images}
    assert folders - folders_in(root) == expected.removed_folders | gone


@pytest.fixture
def hypeman(tmp_path: pathlib.Path) -> pathlib.Path:
    unpack(FIXTURES / "hypeman-data.tar.gz", tmp_path)
    return tmp_path


def noted() -> dict[str, object]:
    noted: dict[str, object] = json.loads((FIXTURES / "hypeman-data.json").read_bytes())
    return noted


def hypeman_config(root: pathlib.Path) -> RetentionConfig:
    allowed = noted()["allowed"]
    assert isinstance(allowed, list)
    return RetentionConfig(
        data_dir=root, auto_delete=AutoDelete(enabled=True, unused_for=timedelta(hours=720), allowed=allowed)
    )


def left(root: pathlib.Path) -> dict[str, object]:
    return {
        "images": sorted("@".join(key) for key in images_in(root)),
        "tags": sorted(":".join(key) for key in tags_in(root)),
        "states": {"@".join(key): parse_time(str(text)) for key, text in states_in(root).items()},
    }


def expected_left() -> dict[str, object]:
    states = noted()["states"]
    assert isinstance(states, dict)
    return {
        "images": noted()["images"],
        "tags": noted()["tags"],
        "states": {key: parse_time(text) for key, text in states.items()},
    }


def sweeps() -> list[tuple[datetime, dict[str, int]]]:
    sweeps = noted()["sweeps"]
    assert isinstance(sweeps, list)
    return [(datetime.fromisoformat(one["now"]), one["stats"]) for one in sweeps]


async def test_a_sweep_leaves_what_hypeman_left(hypeman: pathlib.Path) -> None:
    now, counters = sweeps()[0]
    root = hypeman / "before"
    report = await sweep(root, now, hypeman_config(root))
    assert {name: getattr(report, name) for name in COUNTERS} == counters
    assert left(root) == expected_left()
    assert states_in(root) == states_in(hypeman / "after")
    assert folders_in(root) == folders_in(hypeman / "after")


async def test_what_hypeman_left_is_swept_again_without_a_change(hypeman: pathlib.Path) -> None:
    now, counters = sweeps()[1]
    root = hypeman / "after"
    report = await sweep(root, now, hypeman_config(root))
    assert {name: getattr(report, name) for name in COUNTERS} == counters
    assert left(root) == expected_left()


async def test_states_are_written_byte_for_byte_as_hypeman_writes_them(hypeman: pathlib.Path) -> None:
    now, _ = sweeps()[0]
    root = hypeman / "before"
    await sweep(root, now, hypeman_config(root))
    after = hypeman / "after" / RETENTION
    written = {path.relative_to(after): path.read_bytes() for path in after.rglob("*.json")}
    assert {path: (root / RETENTION / path).read_bytes() for path in written} == written
