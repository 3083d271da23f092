"""Small caches on real disks, in either layout, on which work is cut off; and what must hold of them afterwards."""

import json
import shutil
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import attrs

from hmret.disk.layout import HIDDEN_METADATA, METADATA, hex_of
from hmret.model.references import Key
from hmret.model.times import timedelta_nanoseconds
from support.builders import START, START_NS, FakeClock, digest, make_guest, make_image, make_state
from support.content_trees import CONTENT, Host

__all__ = [
    "ALPINE",
    "EDGE",
    "OLD_NS",
    "ONE",
    "RECENT_NS",
    "THREE",
    "TWO",
    "Cache",
    "Layout",
    "build",
    "check_held",
    "contents_of",
    "dangling_tags",
    "is_here",
    "left_in_trash",
    "rebuild",
]

Layout = Literal["older", "today"]
"""Whether each repository has folders of its own, or all of them share `images/content/`."""

ALPINE = "docker.io/library/alpine"
EDGE = "docker.io/library/edge"
ONE = "ghcr.io/kernel/one"
TWO = "ghcr.io/kernel/two"
THREE = "ghcr.io/kernel/three"

OLD_NS = START_NS - timedelta_nanoseconds(timedelta(days=60))
RECENT_NS = START_NS - timedelta_nanoseconds(timedelta(days=3))

_CREATED = {"created_at": (START - timedelta(days=400)).isoformat()}
_BESIDE = ".hmret-"
"""What the name of a folder begins with that has been deleted, or is held, on another file system than the trash."""


@attrs.frozen
class Cache:
    """A cache in which a sweep has a bit of everything to do."""

    root: Path
    due: tuple[Key, ...]
    stays: tuple[Key, ...]
    contents: dict[Key, dict[str, bytes]]

    def check_cut_off(self, *, power_lost: bool = False) -> None:
        """Check what holds at every instant: hypeman reads this as it stands."""
        for key in self.due:
            if is_here(self.root, key):
                found = contents_of(self.root, key)
                whole = self.contents[key]
                # Of the folders of one image content goes last.
                assert found == {path: whole.get(path) for path in found}, f"half an image is left: {key}"
                assert _main_folder(found) == _main_folder(whole), f"half an image is left: {key}"
        for key in self.stays:
            assert contents_of(self.root, key) == self.contents[key], f"an image was damaged: {key}"
        # A timer that a sweep starts is not forced to the disk: without power it may be empty, or all zeros, and counts as none.
        for path in (self.root / ("system/hmret" if power_lost else "system")).rglob("*.json"):
            content = path.read_bytes()
            assert not content or _is_json(content), f"half a file is left: {path}: {content[:200]!r}"

    def check_recovered(self, *, pulled: Key | None = None) -> None:
        """Check what holds after a restart and a sweep."""
        for key in self.due:
            is_left = any(folder.exists() for folder in _folders(self.root, key))
            assert is_left == (key == pulled), f"was to go: {key}"
        for key in self.stays:
            assert contents_of(self.root, key) == self.contents[key], f"an image was damaged: {key}"
        assert dangling_tags(self.root) == [], dangling_tags(self.root)
        assert left_in_trash(self.root) == [], left_in_trash(self.root)
        for path in (self.root / "system/image-retention").rglob("*.json"):
            repository = str(path.parent.relative_to(self.root / "system/image-retention"))
            key = repository, f"sha256:{path.stem}"
            assert is_here(self.root, key), f"the state of an image that is gone: {path}"


def build(root: Path, layout: Layout = "older") -> Cache:
    """Make a cache with three images that are due, one in use, one without a timer and one within its window."""
    return _build_today(root) if layout == "today" else _build_older(root)


def _build_older(root: Path) -> Cache:
    linked = make_image(root, ALPINE, "a", tags=("latest", "3.20"))
    due = [linked, make_image(root, ALPINE, "b", tags=()), make_image(root, ONE, "d", tags=("v1",))]
    disk = root / "images" / ONE / hex_of(due[2][1]) / "rootfs.ext4"
    disk.unlink()
    disk.hardlink_to(root / "images" / ALPINE / hex_of(linked[1]) / "rootfs.ext4")
    referenced = make_image(root, EDGE, "c", tags=("edge",))
    make_guest(root, "vm", f"{EDGE}:edge")
    fresh = make_image(root, TWO, "e", tags=("v1",))
    young = make_image(root, TWO, "f", tags=("v2",))
    return _with_timers(root, tuple(due), referenced, fresh, young)


def _build_today(root: Path) -> Cache:
    host = Host(root, FakeClock())
    host.content("a", name=f"{ALPINE}:latest", metadata=_CREATED)
    # It was promoted: its repository has a folder of its own as well, with the same disk.
    host.legacy(ALPINE, "a", linked=True, metadata=_CREATED)
    for tag in ("latest", "3.20"):
        host.link(ALPINE, tag, "a")
    host.content("b", name=f"{ALPINE}:gone", metadata=_CREATED)
    host.content("d", name=f"{ONE}:v1", metadata=_CREATED)
    host.link(ONE, "v1", "d")
    host.link(THREE, "same", "d")
    host.content("c", name=f"{EDGE}:edge", metadata=_CREATED)
    host.link(EDGE, "edge", "c")
    host.guest(f"{EDGE}:edge", resolved=f"{EDGE}@{digest('c')}")
    for letters, tag in (("e", "v1"), ("f", "v2")):
        host.content(letters, name=f"{TWO}:{tag}", metadata=_CREATED)
        host.link(TWO, tag, letters)
    due = tuple((name, digest(one)) for name, one in ((ALPINE, "a"), (ALPINE, "b"), (ONE, "d"), (THREE, "d")))
    return _with_timers(root, due, (EDGE, digest("c")), (TWO, digest("e")), (TWO, digest("f")))


def _with_timers(root: Path, due: tuple[Key, ...], referenced: Key, fresh: Key, young: Key) -> Cache:
    for key in (*due, referenced, (TWO, digest("9"))):
        make_state(root, key, OLD_NS)
    make_state(root, young, RECENT_NS)
    stays = (referenced, fresh, young)
    return Cache(root, due, stays, {key: contents_of(root, key) for key in (*due, *stays)})


def rebuild(folder: Path, layout: Layout = "older") -> Cache:
    """Make it in a folder of which nothing is left."""
    if folder.exists():
        shutil.rmtree(folder)
    return build(folder, layout)


def is_here(root: Path, key: Key) -> bool:
    """Tell whether an image is in its place; one that had to stay there when it was deleted has no metadata for hypeman."""
    return _is_in_sight(_folders(root, key)[-1])


def _is_in_sight(folder: Path) -> bool:
    return folder.exists() and ((folder / METADATA).exists() or not (folder / HIDDEN_METADATA).exists())


def contents_of(root: Path, key: Key) -> dict[str, bytes]:
    """Read all files of an image, by path; content last."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in _folders(root, key)
        if _is_in_sight(folder)
        for path in sorted(folder.iterdir())
    }


def _folders(root: Path, key: Key) -> list[Path]:
    """List the places of an image's folders, that by which hypeman finds it last."""
    own = root / "images" / key[0] / hex_of(key[1])
    content = root / CONTENT / hex_of(key[1])
    return [own, content] if content.parent.exists() else [own]


def _main_folder(contents: dict[str, bytes]) -> dict[str, bytes]:
    main = list(contents)[-1].rpartition("/")[0]
    return {path: content for path, content in contents.items() if path.rpartition("/")[0] == main}


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def dangling_tags(root: Path) -> list[str]:
    """List the tags that lead nowhere."""
    return [str(path) for path in (root / "images").rglob("*") if path.is_symlink() and not path.exists()]


def left_in_trash(root: Path) -> list[str]:
    """List what lies in the trash, wherever that is."""
    trash = root / "system/hmret/trash"
    own = [path.name for path in trash.iterdir()] if trash.exists() else []
    return sorted(own + [path.name for path in (root / "images").rglob(f"{_BESIDE}*")])


# With quarantine on.


def check_held(cache: Cache, *, here: Collection[Key] = (), gone: bool = False) -> None:
    """Check that each image is here whole, in quarantine whole, or, where that may be, gone; and nothing else is."""
    records, folders = list(_records(cache.root)), _held_folders(cache.root)
    left = set(folders)
    for key in cache.due:
        held = [record for record in records if key in _keys(record) and set(_names(record)) & set(folders)]
        if is_here(cache.root, key):
            assert not held, f"here and held: {key}"
            assert contents_of(cache.root, key) == cache.contents[key], f"half an image is left: {key}"
            continue
        assert key not in here, f"was to be here: {key}"
        assert held or gone, f"lost: {key}"
        for record in held:
            found = [content for name in _names(record) for content in _read_held(folders, name)]
            assert found == list(cache.contents[key].values()), f"held by half: {key}"
            left -= set(_names(record))
    assert not left, f"left in the trash: {left}"
    intents = list((cache.root / "system/hmret/trash").glob("*.json"))
    assert not intents, f"left to be finished: {[path.read_text() for path in intents]}"
    assert dangling_tags(cache.root) == [], dangling_tags(cache.root)
    for key in cache.stays:
        assert contents_of(cache.root, key) == cache.contents[key], f"an image was damaged: {key}"


def _records(root: Path) -> Iterator[dict[str, Any]]:
    for path in (root / "system/hmret/trash").glob("*.held"):
        yield from json.loads(path.read_bytes())


def _keys(record: dict[str, Any]) -> set[Key]:
    rows = [record, *record.get("others", ())]
    return {(row["repository"], record["digest"]) for row in rows}


def _names(record: dict[str, Any]) -> list[str]:
    return [copy["name"] for copy in record.get("copies", ())] or [record["name"]]


def _held_folders(root: Path) -> dict[str, Path]:
    trash = root / "system/hmret/trash"
    found = {path.name: path for path in trash.iterdir() if path.is_dir()} if trash.exists() else {}
    beside = (root / "images").rglob(f"{_BESIDE}*")
    return found | {path.name.removeprefix(_BESIDE): path for path in beside if path.is_dir()}


def _read_held(folders: dict[str, Path], name: str) -> list[bytes]:
    if name not in folders:
        return []
    files = {path.name: path.read_bytes() for path in folders[name].iterdir()}
    if HIDDEN_METADATA in files:
        files[METADATA] = files.pop(HIDDEN_METADATA)
    return [files[file] for file in sorted(files)]
