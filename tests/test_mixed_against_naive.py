"""The engine against the second, naive implementation, on random directories in which both layouts are mixed."""

import pathlib
import random
from collections.abc import Mapping, Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

import pytest

import hmret
from hmret.engine.opening import open_engine
from hmret.engine.retention import Retention
from support import naive
from support.bounds import bound
from support.mixed_engine import NOW, WINDOW, clock_at, config_of, settings_for, surroundings_of
from support.mixed_naive import decide, rows_in_use
from support.mixed_reading import lies_behind_a_link
from support.mixed_trees import build_mixed_tree, change_tree
from support.mixed_values import Outcome, Settings
from support.mixed_watch import Watch

pytestmark = pytest.mark.anyio

TREES, PER_GROUP = bound(40, 3000), 10
HISTORIES, HISTORIES_PER_GROUP, STEPS = bound(8, 400), 4, 6
BACKENDS = ("asyncio", "trio")

# What is compared.


def assert_alike(what: str, found: Mapping[Any, object], expected: Mapping[Any, object]) -> None:
    """Compare entry by entry, so that a failure shows those that differ and no others."""
    keys = sorted(found.keys() | expected.keys(), key=str)
    differing = {
        key: (found.get(key), expected.get(key)) for key in keys if found.get(key) != expected.get(key)
    }
    assert not differing, f"{what}: " + "\n".join(
        f"{key}\n  hmret: {one}\n  naive: {other}" for key, (one, other) in differing.items()
    )


def sources_of(names: tuple[str, ...]) -> list[str]:
    """Name who needs an image; an image that needs another is one whatever it is called."""
    return sorted({"image" if name.startswith("image/") else name for name in names})


def assert_planned(plan: hmret.Plan, expected: Outcome) -> None:
    found = {
        (one.repository, one.digest): {
            "action": str(one.action),
            "reason": str(one.reason),
            "status": one.status,
            "tags": one.tags,
            "size_bytes": one.size_bytes,
            "disk_bytes": one.disk_bytes,
            "referenced_by": sources_of(one.referenced_by),
            "shared_with": one.shared_with,
            "held_by": tuple((holder.repository, str(holder.reason)) for holder in one.held_by),
            "unused_since": one.unused_since_ns,
        }
        for one in plan.verdicts
    }
    told = {
        key: vars(one) | {"referenced_by": sources_of(one.referenced_by)}
        for key, one in expected.verdicts.items()
    }
    assert_alike("verdicts", found, told)
    actions = [one.action for one in expected.verdicts.values()]
    assert {str(one.cause) for one in plan.suspended} == expected.suspended
    unread = {one.path for one in plan.suspended if one.cause == "unreadable_reference"}
    told_unread = expected.unreadable if "unreadable_reference" in expected.suspended else []
    assert all(any(path.endswith(f"/{one}") for one in told_unread) for path in unread)
    assert len(unread) == len({*told_unread})
    if "unreadable_cache" not in expected.suspended:  # nobody can tell what is behind it
        stale = {(one.source, one.image) for one in plan.stale_references}
        assert {one for one in stale if not one[0].startswith("image/")} == expected.stale
    numbers = {
        "images": len(expected.verdicts),
        "delete": actions.count("delete"),
        "delete_bytes": expected.delete_bytes,
        "mark": actions.count("mark"),
        "clear": actions.count("clear"),
        "keep": actions.count("none"),
        "prune": len(expected.pruned),
    }
    assert_alike("summary", vars_of(plan.summary), numbers)


def vars_of(summary: hmret.Summary) -> dict[str, int]:
    names = ("images", "delete", "delete_bytes", "mark", "clear", "keep", "prune")
    return {name: getattr(summary, name) for name in names}


def assert_swept(report: hmret.SweepReport, expected: Outcome) -> None:
    found = {
        "ready_images": report.ready_images,
        "protected_images": report.protected_images,
        "marked_unused": report.marked_unused,
        "cleared_states": report.cleared_states,
        "deleted_images": report.deleted_images,
        "deleted_bytes": report.deleted_bytes,
        "deleted": {(one.repository, one.digest) for one in report.deleted},
        "pruned_states": report.pruned_states,
        "open_images": report.open_images,
        "failed_deletes": report.failed_deletes,
        "suspended": bool(report.suspended),
    }
    told = {
        "ready_images": expected.ready_images,
        "protected_images": expected.protected_images,
        "marked_unused": len(expected.marked),
        "cleared_states": len(expected.cleared),
        "deleted_images": len(expected.deleted),
        "deleted_bytes": expected.deleted_bytes,
        "deleted": expected.deleted,
        "pruned_states": len(expected.pruned),
        "open_images": 0,
        "failed_deletes": expected.failed,
        "suspended": bool(expected.suspended),
    }
    assert_alike("report", found, told)
    if "unreadable_cache" not in expected.suspended:
        assert report.stale_references == len({image for _, image in expected.stale})


def survey(root: pathlib.Path) -> dict[pathlib.Path, object]:
    """Say what there is below a data directory, but for timers and what is hmret's own."""
    apart = (root / "system/hmret", root / "system/image-retention")
    found: dict[pathlib.Path, object] = {}
    for path in root.rglob("*"):
        if any(path.is_relative_to(folder) for folder in apart):
            continue
        stat = path.lstat()
        if path.is_symlink():
            found[path] = "link", str(path.readlink()), stat.st_mtime_ns
        elif path.is_dir():
            found[path] = "folder", stat.st_ino
        else:
            found[path] = "file", stat.st_ino, stat.st_size, stat.st_mtime_ns
    return found


def is_folder(found: object) -> bool:
    return isinstance(found, tuple) and found[0] == "folder"


def without_ages(found: dict[pathlib.Path, object], expected: Outcome) -> dict[pathlib.Path, object]:
    """Leave out what tells a link from the one before it, and the folder in which it lies, where it was made again."""
    again = {folder for path in expected.remade for folder in path.parents}
    return {
        path: one[:2] if path in expected.remade and isinstance(one, tuple) else path in again or one
        for path, one in found.items()
    }


def holds_any(folder: pathlib.Path, paths: set[pathlib.Path]) -> bool:
    return any(path.is_relative_to(folder) for path in paths)


def assert_left(
    root: pathlib.Path, before: dict[pathlib.Path, object], expected: Outcome, now: datetime
) -> None:
    """Check that what was to go has gone, and that nothing else was touched.

    Folders below `repositories/` that were empty already may go; those that this sweep has emptied stay. A repository
    of which something has gone may lose a folder in the older layout that was empty already.
    """
    after = survey(root)
    images = root / "images"
    left = {
        path: found
        for path, found in before.items()
        if not any(path.is_relative_to(removed) for removed in expected.removed)
    }
    filled = {path.parent for path in before if not is_folder(before[path])}
    still_filled = {path.parent for path in left if not is_folder(left[path])}
    older = {images / repository for repository, _ in expected.deleted}
    may_go = {
        path
        for path in left
        if (path.is_relative_to(images / "repositories") and not holds_any(path, filled))
        or (any(folder.is_relative_to(path) for folder in older) and not holds_any(path, still_filled))
    }
    left = {path: found for path, found in left.items() if path in after or path not in may_go}
    assert_alike("tree", without_ages(after, expected), without_ages(left, expected))
    states = naive.read_states(root / "system/image-retention")
    marked = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert_alike(
        "states",
        {key: state.text for key, state in states.items()},
        {key: marked if text == "now" else text for key, text in expected.states.items()},
    )
    assert not list((root / "system/hmret/trash").glob("*"))


async def check(
    retention: Retention,
    root: pathlib.Path,
    settings: Settings,
    now: datetime,
    memory: dict[Any, Any],
    watch: Watch | None = None,
) -> Outcome:
    """Plan and sweep once, and compare with what the naive implementation says."""
    expected = decide(root, settings, now, memory, watch)
    before = survey(root)
    assert_planned(await retention.plan(), expected)
    assert survey(root) == before
    assert_swept(await retention.sweep(), expected)
    assert_left(root, before, expected, now)
    return expected


async def use(
    retention: Retention,
    root: pathlib.Path,
    settings: Settings,
    chance: random.Random,
    now: datetime,
    owners: AbstractSet[naive.Key],
) -> None:
    """Mark some image used by a text that a guest has, and compare whose timers end.

    `owners`: the rows of content that the last sweep saw. Where others own it by now, some timers end with the next sweep.
    """
    references, _ = naive.read_references(root)
    texts = [text for reference in references for text in reference.images + reference.resolved]
    if not texts:
        return
    text = chance.choice(sorted(texts))
    expected = rows_in_use(root, settings, text, now)
    before = naive.read_states(root / "system/image-retention")
    named = (naive.parse(text) or ("",))[0]
    if any(lies_behind_a_link(root / top, named) for top in ("images", "images/repositories")):
        return  # hypeman follows it
    foreign = {key for key in expected or () if key[0] != named}
    if before.keys() & (foreign - owners) or {(named, digest) for _, digest in foreign} & owners:
        return
    try:
        await retention.mark_used(text)
        is_used = True
    except hmret.ImageNotFoundError:
        is_used = False
    assert is_used == (expected is not None), text
    after = naive.read_states(root / "system/image-retention")
    ended = before.keys() - after.keys()
    digests = {digest for _, digest in expected or ()}
    if expected is not None:
        # Content without owners may have come to be anybody's who has a timer of its digest.
        digests.add(text.rpartition("@")[2])
    also = {key for key in before if key[1] in digests}
    assert before.keys() & (expected or set()) <= ended <= also, f"{text}: {ended} ended, used is {expected}"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read what is torn, or absent, again at once: it stays so."""
    monkeypatch.setattr("hmret.actors.reference_collector._TORN_PAUSE", 0)


# The comparison.


@pytest.mark.parametrize(
    ("first", "anyio_backend"),
    [(first, BACKENDS[first // PER_GROUP % 2]) for first in range(0, TREES, PER_GROUP)],
)
async def test_a_sweep_over_a_mixed_tree_does_what_the_naive_implementation_says(
    tmp_path: pathlib.Path, first: int
) -> None:
    for seed in range(first, first + PER_GROUP):
        root = tmp_path / f"seed-{seed}"
        settings = settings_for(seed)
        build_mixed_tree(root, seed, NOW, unused_for=WINDOW, is_readable=seed % 5 != 0)
        platform = surroundings_of(clock_at(NOW), has_locks=seed % 5 == 0)
        async with open_engine(config_of(root, settings), platform, scheduled=False) as retention:
            await check(retention, root, settings, NOW, {})


@pytest.mark.parametrize(
    ("first", "anyio_backend"),
    [
        (first, BACKENDS[first // HISTORIES_PER_GROUP % 2])
        for first in range(0, HISTORIES, HISTORIES_PER_GROUP)
    ],
)
async def test_sweep_after_sweep_agrees_while_hypeman_changes_the_tree(
    tmp_path: pathlib.Path, first: int
) -> None:
    for seed in range(first, first + HISTORIES_PER_GROUP):
        root = tmp_path / f"seed-{seed}"
        settings = settings_for(seed)
        chance = random.Random(f"history {seed}")
        clock = clock_at(NOW)
        memory: dict[Any, Any] = {}
        watch = Watch()
        build_mixed_tree(root, seed, NOW, unused_for=WINDOW)
        for _ in range(2):  # what one engine has learnt, the next one finds on record
            async with open_engine(
                config_of(root, settings), surroundings_of(clock), scheduled=False
            ) as retention:
                watch.begin(root, clock.now_ns())
                for _ in range(STEPS // 2):
                    expected = await check(retention, root, settings, clock.now(), memory, watch)
                    memory = expected.memory
                    clock.advance(timedelta(hours=chance.choice((2, 30, 200, 400))))
                    change_tree(root, chance, clock.now())
                    await use(retention, root, settings, chance, clock.now(), expected.owners)
