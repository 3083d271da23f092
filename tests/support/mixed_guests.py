"""Guests and snapshots that refer to images in all the ways that hypeman's servers of all ages have written."""

import json
import pathlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from support import naive
from support.mixed_files import Files, text_of

__all__ = ["add_guest", "add_snapshot", "add_unreadable"]

MINUTES = timedelta(minutes=10)
"""So far at least a guest's creation lies from that of the link of the tag that it names."""
KINDS = {
    "by tag": 8,
    "by tag, before the link": 4,
    "by tag and resolved": 6,
    "by digest": 4,
    "resolved": 2,
    "resolved by tag": 1,
    "of unknown age": 1,
    "in other cases": 1,
    "in two spellings": 1,
    "tag and digest": 1,
    "empty": 1,
    "never here": 1,
    "resolved is never here": 1,
    "no metadata": 1,
}
NEVER = "0e" * 32


def add_guest(
    files: Files,
    chance: random.Random,
    now: datetime,
    name: str,
    repositories: Sequence[str],
    tags: Sequence[str],
) -> None:
    """Make a guest."""
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "no metadata":
        (files.root / "guests" / name).mkdir(parents=True, exist_ok=True)
        return
    files.guest(name, **reference_fields(files, chance, now, kind, repositories, tags))
    beside = copy_of(chance)
    if beside.random() < 0.2:
        add_saved_state(files, beside, now, files.root / "guests" / name / "snapshots")


def add_snapshot(
    files: Files,
    chance: random.Random,
    now: datetime,
    name: str,
    repositories: Sequence[str],
    tags: Sequence[str],
) -> None:
    """Make a snapshot."""
    kind = chance.choice(("by tag", "by tag and resolved", "by digest", "null"))
    stored = None if kind == "null" else reference_fields(files, chance, now, kind, repositories, tags)
    files.snapshot(name, stored)
    beside = copy_of(chance)
    if beside.random() < 0.3:
        place = beside.choice(("guest/snapshots", "guest"))
        add_saved_state(files, beside, now, files.root / "snapshots" / name / place)


def copy_of(chance: random.Random) -> random.Random:
    """Return what draws beside another generator, so that what that one draws stays what it was."""
    beside = random.Random()
    beside.setstate(chance.getstate())
    return beside


def add_saved_state(files: Files, chance: random.Random, now: datetime, folder: pathlib.Path) -> None:
    """Save the state of a guest, whose configuration may name the disk that it opens, in one form or another."""
    folders = (path for path in files.images.rglob("*") if naive.is_hex(path.name) and path.is_dir())
    places = sorted(path.relative_to(files.root).as_posix() for path in folders if str(path).isascii())
    path = f"/data/{chance.choice(places)}/rootfs.erofs" if places and chance.random() < 0.7 else "none"
    forms = (
        path.encode(),
        json.dumps({"disks": [{"path": path}]}).replace("/", "\\/").encode(),
        path.encode("utf-16"),
        b"\x00\xfe" + path.encode() + b"\x00\x01",
    )
    folder.joinpath("snapshot-latest").mkdir(parents=True)
    folder.joinpath("snapshot-latest", "config").write_bytes(chance.choice(forms))
    if chance.random() < 0.3:
        folder.joinpath("snapshot-latest", "memory").write_bytes(path.encode().ljust((1 << 20) + 1))
    if chance.random() < 0.3:
        files.link(folder / "snapshot-base", "snapshot-latest", now)


def add_unreadable(
    files: Files, chance: random.Random, now: datetime, repositories: Sequence[str], tags: Sequence[str]
) -> None:
    """Make a guest whose metadata cannot be read."""
    fields = reference_fields(files, chance, now, "by tag", repositories, tags)
    odd = chance.choice(({"Image": 7}, {"Image": "Not A Name"}, {"ResolvedImage": ["alpine"]}))
    files.guest("unreadable", **(fields | odd))
    if chance.random() < 0.4:
        files.write(files.root / "guests/unreadable/metadata.json", '{"Id": "unreadable", "Ima')


def reference_fields(
    files: Files,
    chance: random.Random,
    now: datetime,
    kind: str,
    repositories: Sequence[str],
    tags: Sequence[str],
) -> dict[str, object]:
    repository, tag = chance.choice([(name, tag) for name in repositories for tag in tags])
    here = tags_in(files, repositories, tags)
    if here and chance.random() < 0.8:
        repository, tag = chance.choice(here)
    digests = digests_in(files.images)
    digest, other = (f"sha256:{chance.choice(digests)}" for _ in range(2))
    by_tag, by_digest = f"{repository}:{tag}", f"{repository}@{digest}"
    resolved = f"{chance.choice(repositories)}@{other}"
    texts: dict[str, dict[str, object]] = {
        "by digest": {"Image": by_digest},
        "by tag and resolved": {"Image": by_tag, "ResolvedImage": chance.choice((by_digest, resolved))},
        "resolved": {"ResolvedImage": resolved},
        "resolved by tag": {"Image": by_tag, "ResolvedImage": by_tag},
        "in other cases": {"image": by_tag, "RESOLVEDIMAGE": resolved},
        "in two spellings": {"Image": by_digest, "image": resolved},
        "tag and digest": {"Image": f"{by_tag}@{digest}"},
        "empty": {"Image": "", "ResolvedImage": None},
        "never here": {
            "Image": chance.choice((f"{repository}@sha256:{NEVER}", f"docker.io/library/never:{tag}"))
        },
        "resolved is never here": {"Image": by_tag, "ResolvedImage": f"{repository}@sha256:{NEVER}"},
    }
    fields = texts.get(kind, {"Image": by_tag})
    if kind != "of unknown age":
        moment = created(files, chance, now, (repository, tag), kind)
        fields["CreatedAt"] = text_of(doubtful(files, copy_of(chance), now, (repository, tag)) or moment)
    elif chance.random() < 0.5:
        fields["CreatedAt"] = chance.choice((None, 7, "long ago"))
    return fields


def created(
    files: Files, chance: random.Random, now: datetime, named: tuple[str, str], kind: str
) -> datetime:
    """Choose when a guest was made: clearly before or after the links of the tag that it names."""
    places = [files.tag(*named, is_legacy=is_legacy) for is_legacy in (False, True)]
    made = [place.lstat().st_mtime_ns for place in places if naive.kind(place) == "link"]
    moments = [datetime.fromtimestamp(one / 10**9, UTC) for one in made]
    if kind == "by tag, before the link":
        return min(moments, default=now) - MINUTES - timedelta(hours=chance.randrange(1, 1500))
    begin = max(moments, default=now - timedelta(days=90)) + MINUTES
    return max(begin + (now - begin) * chance.random() * 0.9, begin)


def doubtful(files: Files, chance: random.Random, now: datetime, named: tuple[str, str]) -> datetime | None:
    """Choose, once in a while, a time that proves little: about that of a link, in the future, or before everything."""
    place = files.tag(*named, is_legacy=chance.random() < 0.5)
    ahead = timedelta(seconds=chance.choice((1, 200, 299, 301, 86_400, 40_000_000)))
    about = timedelta(seconds=chance.randrange(-400, 400))
    match chance.randrange(10):
        case 0:
            return now + ahead
        case 1:
            return now - timedelta(days=5000)
        case 2 if naive.kind(place) == "link":
            return datetime.fromtimestamp(place.lstat().st_mtime_ns / 10**9, UTC) + about
    return None


def tags_in(files: Files, repositories: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str]]:
    """List the repositories and tags under which something lies, be it a link or not."""
    return [
        (repository, tag)
        for repository in repositories
        for tag in tags
        for is_legacy in (False, True)
        if naive.kind(files.tag(repository, tag, is_legacy=is_legacy)) != "nothing"
    ]


def digests_in(images: pathlib.Path) -> list[str]:
    """List the hex digits of all digests that have a folder, in either layout."""
    folders = (path.name for path in images.rglob("*") if naive.is_hex(path.name) and path.is_dir())
    return sorted(set(folders)) or [NEVER]
