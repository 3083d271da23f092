"""The plain implementation for both layouts is itself held against hypeman's own reading, and its trees are looked at."""

import json
import pathlib
import random
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support import naive, trees
from support.archives import unpack
from support.bounds import bound
from support.mixed_naive import decide
from support.mixed_reading import look_up, read_tree
from support.mixed_references import follow
from support.mixed_rows import make_rows
from support.mixed_trees import build_mixed_tree, change_tree
from support.mixed_values import Outcome, Rule, Settings
from support.naive import Key

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
NOW = datetime(2031, 5, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


# Against hypeman.


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FIXTURES / "hypeman-today.json").read_text())
    return content


@pytest.fixture(scope="module")
def hypeman(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("hypeman")
    unpack(FIXTURES / "hypeman-today.tar.gz", root)
    return root


def foretold(hypeman: pathlib.Path, recorded: dict[str, Any], side: str) -> Outcome:
    settings = Settings(unused_for=timedelta(hours=720), allowed=tuple(recorded["allowed"]))
    return decide(hypeman / side, settings, datetime.fromisoformat(recorded["now"]))


@pytest.mark.parametrize("side", ["before", "after"])
def test_there_is_a_row_for_whatever_hypeman_lists(
    hypeman: pathlib.Path, recorded: dict[str, Any], side: str
) -> None:
    rows = foretold(hypeman, recorded, side).verdicts
    listed = {}
    for image in recorded[side]["list_images"]:
        parsed = naive.parse(image["name"])
        assert parsed is not None
        listed[parsed[0], image["digest"]] = image["status"]
    assert {key: rows[key].status for key in listed} == listed
    # The one untagged folder of the older layout beside content: hypeman lists it under the content's name.
    debian = (
        "docker.io/library/debian",
        "sha256:c224528befae92c97fa6f6871593c7555fce70d4ecb97cec354590a2297eee6e",
    )
    assert rows.keys() - listed.keys() == {debian}


@pytest.mark.parametrize("side", ["before", "after"])
def test_references_lead_where_hypeman_finds_them(
    hypeman: pathlib.Path, recorded: dict[str, Any], side: str
) -> None:
    tree = read_tree(hypeman / side, naive.nanoseconds_since_epoch(NOW))
    rows = make_rows(tree)
    for text, answer in recorded[side]["get_image"].items():
        reference = naive.Reference("instance/one", [text], ["docker.io/library/x@sha256:" + "0" * 64], None)
        keys = {key for key in follow(tree, rows, reference, text, {}) if rows.is_here(key)}
        assert {key[1] for key in keys} == ({answer["digest"]} if "digest" in answer else set())


def test_of_hypemans_states_only_that_of_what_is_gone_is_pruned(
    hypeman: pathlib.Path, recorded: dict[str, Any]
) -> None:
    pruned = foretold(hypeman, recorded, "before").pruned
    assert {key[0] for key in pruned} == {"docker.io/library/gone"}


def test_what_hypeman_deletes_is_deleted_but_for_what_is_in_use(
    hypeman: pathlib.Path, recorded: dict[str, Any]
) -> None:
    outcome = foretold(hypeman, recorded, "before")
    by_hypeman = {line.rpartition(" ")[2] for line in recorded["log"]}
    by_hmret = {"@".join(key) for key in outcome.deleted}
    kept = {key.partition("@")[0] for key in by_hypeman - by_hmret}
    # alpine's and tool's digests are other repositories' too, and an instance runs from the nginx that was untagged.
    assert kept == {"docker.io/library/alpine", "ghcr.io/kernel/tool", "docker.io/library/nginx"}
    assert {key.partition("@")[0] for key in by_hmret - by_hypeman} == {"docker.io/library/debian"}


def test_on_a_directory_of_the_older_layout_it_agrees_with_the_older_naive_implementation(
    tmp_path: pathlib.Path,
) -> None:
    for seed, (name, shape) in enumerate(trees.SHAPES.items()):
        root = tmp_path / str(seed)
        plain = trees.Shape(**(vars(shape) | {"oddities": False}))
        trees.build_tree(root, plain, seed, NOW)
        older = naive.decide(root, now=NOW, unused_for=shape.unused_for, allowed=["*"], max_deletes=3)
        settings = Settings(unused_for=shape.unused_for, max_deletes=3, delete_unpullable=True)
        outcome = decide(root, settings, NOW)
        assert {key: (one.action, one.reason, list(one.tags)) for key, one in outcome.verdicts.items()} == {
            key: (one.action, one.reason, one.tags) for key, one in older.verdicts.items()
        }, name
        # What a tag has led to protects for all who name it, so more may be named than before.
        for key, one in older.verdicts.items():
            assert {*one.referenced_by} <= {*outcome.verdicts[key].referenced_by}
        assert (outcome.states, outcome.pruned) == (older.states, older.pruned)
        assert outcome.verdicts.keys() - outcome.deleted == older.images


# The random trees.


def describe(root: pathlib.Path) -> dict[str, object]:
    return {
        path.relative_to(root).as_posix(): (
            str(path.readlink()).removeprefix(str(root))
            if path.is_symlink()
            else path.is_dir() or path.read_bytes(),
            path.lstat().st_mtime_ns if path.is_symlink() else 0,
        )
        for path in root.rglob("*")
    }


def test_a_seed_gives_the_same_tree_and_the_same_changes_each_time(tmp_path: pathlib.Path) -> None:
    for seed in range(2):
        roots = [tmp_path / f"{name}-{seed}" for name in ("one", "other")]
        for root in roots:
            build_mixed_tree(root, seed, NOW, is_readable=False)
            change_tree(root, random.Random(seed), NOW, 12)
        one, other = map(describe, roots)
        assert one == other


def test_the_random_trees_hold_all_that_can_be_said_of_a_row(tmp_path: pathlib.Path) -> None:
    reasons: set[str] = set()
    holders: set[str] = set()
    statuses: set[str] = set()
    spared: set[Key] = set()
    for seed in range(40):
        root = tmp_path / str(seed)
        build_mixed_tree(root, seed, NOW, is_readable=seed % 4 != 0)
        rules = (Rule(match=("*",), tags=("v*",), unused_for="never"),)
        settings = Settings(
            keep_latest=seed % 2,
            min_age=DAY * (seed % 3) * 20,
            max_deletes=seed % 4,
            pinned=("*/web",),
            allowed=("*o*",),
            rules=rules if seed % 5 == 0 else (),
        )
        outcome = decide(root, settings, NOW)
        reasons |= {one.reason for one in outcome.verdicts.values()}
        statuses |= {one.status for one in outcome.verdicts.values()}
        holders |= {reason for one in outcome.verdicts.values() for _, reason in one.held_by}
        spared |= outcome.deleted & outcome.states.keys()
    assert reasons == {
        *("not_ready", "broken", "referenced", "pinned", "not_allowed", "not_pullable", "newly_unused"),
        *("kept_by_rule", "retention_window", "latest", "too_young"),
        *("shared", "suspended", "deferred", "expired"),
    }
    assert {"referenced", "pinned", "not_allowed", "not_pullable", "retention_window"} <= holders
    assert {"pending", "pulling", "converting", "failed", "ready", "unknown"} <= statuses
    assert spared  # a copy that went, and left its repository an owner of the content beside it


def test_changes_leave_the_inside_of_ready_images_alone(tmp_path: pathlib.Path) -> None:
    for seed in range(bound(8, 300)):
        build_mixed_tree(tmp_path / str(seed), seed, NOW)
        before = read_tree(tmp_path / str(seed), naive.nanoseconds_since_epoch(NOW))
        inside = {
            entry: entry.lstat().st_ino
            for folder in before.folders
            if folder.is_ready
            for entry in folder.path.iterdir()
        }
        change_tree(tmp_path / str(seed), random.Random(seed), NOW + HOUR, 1)
        for folder in before.folders:
            if folder.is_ready and folder.path.exists():
                entries = {entry: entry.lstat().st_ino for entry in folder.path.iterdir()}
                assert entries == {
                    path: inode for path, inode in inside.items() if path.parent == folder.path
                }


# What a sweep must never take away.


def boots(images: pathlib.Path, repository: str, digits: str) -> pathlib.Path | None:
    """Find the folder from which hypeman would boot a digest under a repository; None: it would not."""
    content, legacy = images / "content" / digits, images / repository / digits
    status = (naive.read_fields(content / "metadata.json") or {}).get("status")
    if is_complete(legacy) and status != "ready":
        return legacy
    if (content / "metadata.json").exists() or has_disk(content):
        return content if is_complete(content) and status == "ready" else None
    return None


def has_disk(folder: pathlib.Path) -> bool:
    return any((folder / name).is_file() for name in ("rootfs.erofs", "rootfs.ext4"))


def is_complete(folder: pathlib.Path) -> bool:
    return (folder / "metadata.json").exists() and has_disk(folder)


def bootable(root: pathlib.Path) -> dict[tuple[str, str], Key]:
    """Tell what boots by each tag: repository and digest."""
    tree = read_tree(root, naive.nanoseconds_since_epoch(NOW))
    found = {}
    for link in tree.links:
        digest_now, _ = look_up(root / "images", link.repository, link.tag)
        if naive.is_digest(digest_now) and boots(root / "images", link.repository, digest_now[7:]):
            found[link.repository, link.tag] = link.repository, digest_now
    return found


def carry_out(root: pathlib.Path, outcome: Outcome) -> None:
    for path in sorted(outcome.removed, reverse=True):
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)


def test_what_boots_before_a_sweep_boots_after_it_unless_it_was_deleted_itself(
    tmp_path: pathlib.Path,
) -> None:
    deleted = 0
    for seed in range(bound(10, 400)):
        root = tmp_path / str(seed)
        build_mixed_tree(root, seed, NOW)
        outcome = decide(root, Settings(max_deletes=seed % 3), NOW)
        before = bootable(root)
        needed = {key for key, one in outcome.verdicts.items() if one.referenced_by}
        carry_out(root, outcome)
        after = bootable(root)
        assert {tag: key for tag, key in before.items() if key not in outcome.deleted} == {
            tag: key for tag, key in after.items() if key not in outcome.deleted
        }
        assert not needed & outcome.deleted
        gone = {digits for _, digits in outcome.deleted} - {
            digits for _, digits in make_rows(read_tree(root, naive.nanoseconds_since_epoch(NOW))).by_key
        }
        assert not {tag for tag, key in after.items() if key[1] in gone}
        deleted += len(outcome.deleted)
    assert deleted > 15
