"""Folders of tags and of states that were read ahead: whatever lies there, the same is found as without that."""

import errno
import random
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest

from disk.hosts import Host
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened
from hmret.disk.folders_ahead import read_ahead
from hmret.disk.hypeman.documents import encode_state
from hmret.disk.hypeman.images import FolderScan
from hmret.disk.hypeman.repositories import scan_tag_folder
from hmret.disk.hypeman.retention_states.scanning import STATE_SUFFIX, StateFolder, scan_states
from hmret.disk.layout import RETENTION
from hmret.model.times import SECOND
from support.builders import START_NS, FakeClock, digest, make_state
from support.folders_ahead import fields_of, scanned_both_ways
from support.memory_filesystem import Call

F = TypeVar("F", FolderScan, StateFolder)

APP = "registry.local:5000/ci/app"
TAGS = f"repositories/{APP}"
WAY = "../../../../content/"
A, B = "a" * 64, "b" * 64


class NoDisk:
    """A disk on which every call fails."""


NO_DISK: Filesystem = NoDisk()  # type: ignore[assignment]  # that is the point


def by_what_was_read_ahead(host: Host, top: str, path: str, suffix: str, scan: Callable[..., F]) -> F:
    """Scan a folder by nothing but what was read ahead of it, and compare with what is found at first hand."""
    with opened(host.filesystem, host.open(top)) as fd:
        ahead = read_ahead(host.filesystem, fd, [path], suffix)[path]
        found = scan(NO_DISK, -1, path, ahead=ahead)
        assert fields_of(found) == fields_of(scan(host.filesystem, fd, path))
    return found


@pytest.mark.parametrize("seconds", [0, 10])
def test_usual_tags_are_not_read_again(memory: Host, clock: FakeClock, seconds: int) -> None:
    for name, target in (("v1", WAY + A), ("v2", WAY + B), ("latest", WAY + A), ("x_1-2.y", B)):
        memory.link(f"images/{TAGS}/{name}", target)
    memory.folder(f"images/{TAGS}/deeper")
    clock.wall_ns += seconds * SECOND
    found = by_what_was_read_ahead(memory, "images", TAGS, "", scan_tag_folder)
    assert found.tags == {"v1": digest("a"), "v2": digest("b"), "latest": digest("a"), "x_1-2.y": digest("b")}
    assert found.subfolders == (f"{TAGS}/deeper",)
    assert (found.fingerprint is not None) == (seconds > 0)


def test_what_changes_while_it_is_read_ahead_is_read_again_at_the_next_look(
    memory: Host, clock: FakeClock
) -> None:
    memory.link(f"images/{TAGS}/v1", WAY + A)
    clock.wall_ns += SECOND

    def take_long(_call: object) -> None:
        clock.wall_ns += 10 * SECOND

    with opened(memory.filesystem, memory.open("images")) as fd:
        memory.memory.before = take_long
        ahead = read_ahead(memory.filesystem, fd, [TAGS])[TAGS]
        memory.memory.before = None
    assert scan_tag_folder(NO_DISK, -1, TAGS, ahead=ahead).fingerprint is None


def test_a_tag_and_a_state_that_could_not_be_read_with_the_others_are_read_by_themselves(
    memory: Host,
) -> None:
    memory.link(f"images/{TAGS}/v1", WAY + A)
    make_state(memory.place, (APP, digest("a")), START_NS)

    def fail(call: Call) -> None:
        if call.name in ("readlink", "read"):
            raise OSError(errno.EIO, "once")

    for top, path, suffix in (("images", TAGS, ""), (RETENTION, APP, STATE_SUFFIX)):
        with opened(memory.filesystem, memory.open(top)) as fd:
            memory.memory.before = fail
            ahead = read_ahead(memory.filesystem, fd, [path], suffix)[path]
            memory.memory.before = None
            if suffix:
                assert scan_states(memory.filesystem, fd, path, ahead=ahead).timers == {digest("a"): START_NS}
            else:
                assert scan_tag_folder(memory.filesystem, fd, path, ahead=ahead).tags == {"v1": digest("a")}


@pytest.mark.parametrize("path", [TAGS, "repositories/registry.local:5000"])
def test_a_level_of_repositories_is_not_read_again(host: Host, path: str) -> None:
    host.folder(f"images/{TAGS}/deeper")
    found = by_what_was_read_ahead(host, "images", path, "", scan_tag_folder)
    assert (len(found.subfolders), found.repository, found.is_empty) == (1, None, False)


def test_an_empty_folder_of_tags_is_not_read_again(host: Host) -> None:
    host.folder(f"images/{TAGS}")
    assert by_what_was_read_ahead(host, "images", TAGS, "", scan_tag_folder).is_empty


@pytest.mark.parametrize("seconds", [0, 10])
def test_usual_states_are_not_read_again(memory: Host, clock: FakeClock, seconds: int) -> None:
    make_state(memory.place, (APP, digest("a")), START_NS)
    memory.write(f"{RETENTION}/{APP}/{B}.json", encode_state(APP, digest("b"), 0).replace(b" ", b""))
    memory.folder(f"{RETENTION}/{APP}/deeper")
    memory.folder(f"{RETENTION}/{APP}/.hidden")
    clock.wall_ns += seconds * SECOND
    found = by_what_was_read_ahead(memory, RETENTION, APP, STATE_SUFFIX, scan_states)
    assert found.timers == {digest("a"): START_NS, digest("b"): 0}
    assert found.subfolders == (f"{APP}/deeper",)
    assert (found.fingerprint is not None) == (seconds > 0)
    inode, changed_ns = memoryview(found.marks).cast("q").tolist()[:2]
    assert (inode >= 0, changed_ns > 0) == (seconds > 0, seconds > 0)


TAG_NAMES = (
    "v1",
    "latest",
    "_x",
    ".hidden",
    "-x",
    "x y",
    "é",
    "t" * 128,
    "t" * 129,
    A,
    B,
    "[x",
    ".tag-stage-1",
)
TARGETS = (WAY + A, WAY + B, A, B, "../" + WAY + A, WAY + A.upper(), WAY + "a" * 63, WAY + "a" * 63 + "_")
MORE_TARGETS = ("gone", ".", "..", f"/{A}", f"./{A}", "x/" + WAY + A, WAY + f" {'a' * 63}", "/data/images")


def put_anything(host: Host, path: str, rng: random.Random) -> None:
    kind = rng.choice(("link", "link", "link", "link", "link", "odd link", "folder", "file"))
    match kind:
        case "link":
            host.link(path, rng.choice(TARGETS[:4] if rng.random() < 0.9 else TARGETS))
        case "odd link":
            host.link(path, rng.choice(TARGETS + MORE_TARGETS))
        case "folder":
            host.folder(path)
        case _:
            host.write(path)


@pytest.mark.parametrize(
    "path", [TAGS, "repositories/registry.local:5000", "repositories", "repositories/Up/case"]
)
def test_whatever_lies_in_a_folder_of_tags_is_found_read_ahead_or_not(
    memory: Host, clock: FakeClock, path: str
) -> None:
    rng = random.Random(path)
    memory.folder("images")
    with opened(memory.filesystem, memory.open("images")) as fd:
        for number in range(300):
            clock.wall_ns += rng.choice((1, 100)) * SECOND
            # Each in a folder of its own, as nothing is removed.
            folder = f"{path}{number}" if path != "repositories" else path
            names = rng.sample(TAG_NAMES if rng.random() < 0.5 else TAG_NAMES[:3], rng.randint(0, 3))
            memory.folder(f"images/{folder}")
            for name in names:
                if not memory.exists(f"images/{folder}/{name}"):
                    put_anything(memory, f"images/{folder}/{name}", rng)
            clock.wall_ns += rng.choice((0, 1, 100)) * SECOND
            scanned_both_ways(
                partial(scan_tag_folder, memory.filesystem, fd, folder), memory.filesystem, fd, folder
            )


STATE_NAMES = (f"{A}.json", f"{B}.json", f"{'c' * 64}.json")
ODD_NAMES = (
    f"{A}.json.tmp",
    f"{A.upper()}.json",
    f"{'a' * 63}.json",
    A,
    "deeper",
    ".tag-stage-1",
    "x.json",
    ".json",
)


def put_any_state(host: Host, repository: str, name: str, rng: random.Random) -> None:
    path = f"{RETENTION}/{repository}/{name}"
    content = encode_state(repository, f"sha256:{name[:64]}", rng.choice((0, START_NS)))
    match rng.choice(("state", "state", "state", "state", "other", "link", "folder")):
        case "state":
            host.write(path, content)
        case "other":
            unset = content.replace(b"unused_since", b"x")
            other = encode_state(repository, digest("d"), 1)
            host.write(path, rng.choice((b"", b"{", unset, other, content[:-1] + b" " * 20_000 + b"}")))
        case "link":
            host.link(path, "elsewhere")
        case _:
            host.folder(path)


def test_whatever_lies_in_a_folder_of_states_is_found_read_ahead_or_not(
    memory: Host, clock: FakeClock
) -> None:
    rng = random.Random(1)
    memory.folder(RETENTION)
    with opened(memory.filesystem, memory.open(RETENTION)) as fd:
        for number in range(600):
            folder = f"x{number}/{APP}"
            memory.folder(f"{RETENTION}/{folder}")
            names = rng.sample(STATE_NAMES, rng.randint(0, 3))
            names += rng.sample(ODD_NAMES, 1) if rng.random() < 0.3 else []
            for name in names:
                put_any_state(memory, folder, name, rng)
                clock.wall_ns += rng.choice((0, 0, 3)) * SECOND
            clock.wall_ns += rng.choice((0, 1, 100)) * SECOND
            scan = partial(scan_states, memory.filesystem, fd, folder)
            scanned_both_ways(scan, memory.filesystem, fd, folder, STATE_SUFFIX)
