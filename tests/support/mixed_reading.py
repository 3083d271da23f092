"""What lies in a data directory of both layouts, read straight from the disk, one thing at a time.

Nothing is remembered and nothing is clever: each question is answered by looking. Times are whole nanoseconds.
"""

import os
import pathlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from support import naive
from support.naive import Key

__all__ = [
    "ABSENT",
    "ODD",
    "UNFINISHED",
    "Build",
    "Folder",
    "Link",
    "Tree",
    "hex_of",
    "is_locked",
    "lies_behind_a_link",
    "look_up",
    "read_folder",
    "read_tree",
    "staged_links",
    "target_of",
]

HOUR = 3600 * 10**9
MINUTE = 60 * 10**9
NEVER = 2**63
ROOTFS = ("rootfs.ext4", "rootfs.erofs")
UNFINISHED = ("pending", "pulling", "converting")
"""What hypeman, or an older hypeman, is still at work on."""
ABSENT: Literal["absent"] = "absent"
ODD: Literal["odd"] = "odd"


@dataclass(frozen=True)
class Folder:
    """A digest's folder, in either layout."""

    path: pathlib.Path
    digest: str
    status: str
    """What the metadata states; `unknown` where none can be read, `pending` where content has only just begun."""
    fields: dict[str, Any]
    """The metadata; empty where there is none, or it cannot be read."""
    disks: list[pathlib.Path]
    holds_more: bool
    """There is something in it that is no plain file; `.install-*` folders aside."""
    is_busy: bool
    """hypeman began to install something in it within the hour."""
    is_unreadable: bool
    """There is something of its metadata's name that is no file, or that nobody may read."""

    @property
    def disk(self) -> pathlib.Path | None:
        """The disk that counts, where there are two."""
        return self.disks[0] if self.disks else None

    @property
    def repository(self) -> str | None:
        """The repository of the name that the metadata states."""
        name = self.fields.get("name")
        parsed = naive.parse(name) if isinstance(name, str) else None
        return None if parsed is None else parsed[0]

    @property
    def created(self) -> int | None:
        return naive.instant(self.fields.get("created_at"))

    @property
    def size_bytes(self) -> int:
        size = self.fields.get("size_bytes")
        return size if isinstance(size, int) else 0

    @property
    def is_named(self) -> bool:
        """The metadata names this digest."""
        return self.fields.get("digest") == self.digest

    @property
    def is_ready(self) -> bool:
        """Ready, and with a disk."""
        return self.status == "ready" and self.disk is not None

    @property
    def is_unfinished(self) -> bool:
        """hypeman is at work on it, in one way or another, or was when it was cut off."""
        return self.status not in ("ready", "failed", "unknown")

    @property
    def hides_all(self) -> bool:
        """It is content that lookups end at, and that does not boot, or nobody knows whether it does."""
        return self.is_unreadable or (self.status == "ready" and (self.disk is None or not self.is_named))


@dataclass(frozen=True)
class Link:
    """A symbolic link where a tag can be."""

    path: pathlib.Path
    repository: str
    tag: str
    digest: str | None
    """None: a link of another form, which is no tag."""
    is_legacy: bool
    is_shadowed: bool
    """Something of that name lies in the repository's folder below `repositories/`."""


@dataclass(frozen=True)
class Build:
    """The record of a build: what it names as its result."""

    digest: str | None
    texts: list[str]


@dataclass(frozen=True)
class Tree:
    """All that a decision rests on, but for who refers to what."""

    root: pathlib.Path
    contents: dict[str, Folder] = field(default_factory=dict)
    """By digest."""
    legacy: dict[Key, Folder] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    builds: list[Build] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    """Folders, relative to the data directory, that could not be listed."""
    unmounted: list[str] = field(default_factory=list)
    """Links where a host's or a repository's folder could be, and that lead nowhere: what was there may come back."""

    @property
    def folders(self) -> list[Folder]:
        return [*self.contents.values(), *self.legacy.values()]

    def may_hide(self, repository: str) -> bool:
        """Tell whether something of a repository may lie in what could not be listed."""
        paths = [*self.hidden, *self.unmounted]
        parts = [path.removeprefix("images").removeprefix("/repositories") for path in paths]
        return any(part in ("", "/content") or f"/{repository}/".startswith(f"{part}/") for part in parts)


def hex_of(digest: str) -> str:
    return digest.removeprefix("sha256:")


def is_locked(path: pathlib.Path) -> bool:
    """Tell whether something is there that nobody may read, or lies in a folder that nobody may enter."""
    return any(
        naive.kind(one) in ("file", "folder") and not one.lstat().st_mode & 0o777
        for one in (path, *path.parents)
    )


# Folders.


def read_tree(root: pathlib.Path, now: int) -> Tree:
    """Read `images/` and `builds/`."""
    images = root / "images"
    tree = Tree(root)
    for name in ("content", "repositories"):
        if naive.kind(images / name) not in ("folder", "nothing"):
            tree.hidden.append(f"images/{name}")
    if is_locked(images / "content"):
        tree.hidden.append("images/content")
    elif naive.kind(images / "content") == "folder":
        for folder in naive.entries(images / "content"):
            if naive.is_hex(folder.name) and naive.kind(folder) == "folder":
                content = read_folder(folder, now, is_content=True)
                tree.contents[content.digest] = content
    for is_legacy, top in ((True, images), (False, images / "repositories")):
        for level, repository in levels(top):
            if is_locked(level):
                tree.hidden.append(level.relative_to(root).as_posix())
                continue
            for entry in naive.entries(level):
                if (level != top or naive.is_registry(entry.name)) and naive.hides_images(entry):
                    tree.hidden.append(entry.relative_to(root).as_posix())
                if (level != top or naive.is_registry(entry.name)) and leads_nowhere(entry):
                    tree.unmounted.append(entry.relative_to(root).as_posix())
            if naive.is_repository(repository):
                tree.links.extend(links_in(images, level, repository, is_legacy=is_legacy))
                for entry in naive.entries(level) if is_legacy else []:
                    if naive.kind(entry) == "folder" and naive.is_image(entry):
                        found = read_folder(entry, now, is_content=False)
                        tree.legacy[repository, found.digest] = found
    tree.builds.extend(read_builds(root / "builds"))
    return tree


def leads_nowhere(entry: pathlib.Path) -> bool:
    """Tell whether a link that is no tag, and has no name of an image's folder, leads to nothing."""
    if naive.kind(entry) != "link" or entry.name[0] in "._-" or naive.is_hex(entry.name):
        return False
    return not naive.is_hex(read_link(entry).rstrip("/").rpartition("/")[2]) and not entry.exists()


def levels(top: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    """Give each folder that is a repository's or leads to one, with its name; image folders and dotted ones are not entered."""
    waiting = [top] if naive.kind(top) == "folder" else []
    while waiting:
        level = waiting.pop()
        yield level, level.relative_to(top).as_posix()
        for entry in [] if is_locked(level) else naive.entries(level):
            is_hosts = level == top and naive.is_registry(entry.name)
            is_image = top.name != "repositories" and naive.is_image(entry)
            if naive.kind(entry) != "folder" or is_image or entry.name[0] == ".":
                continue
            if is_hosts or (level != top and entry.name.isascii()):
                waiting.append(entry)


def read_folder(path: pathlib.Path, now: int, *, is_content: bool = True) -> Folder:
    metadata = path / "metadata.json"
    is_unreadable = is_locked(metadata) or naive.kind(metadata) not in ("file", "nothing")
    fields = {} if is_unreadable else naive.read_fields(metadata) or {}
    status = fields.get("status")
    if not isinstance(status, str) or not status:
        status = "unknown"
    begun = (
        is_content
        and not is_unreadable
        and naive.kind(metadata) == "nothing"
        and path.lstat().st_mtime_ns > now - HOUR
    )
    installing = [
        entry
        for entry in naive.entries(path)
        if naive.kind(entry) == "folder" and entry.name.startswith(".install-")
    ]
    disks = [path / name for name in ROOTFS if naive.kind(path / name) == "file" and not is_locked(path)]
    return Folder(
        path=path,
        digest=f"sha256:{path.name}",
        status="pending" if begun else status,
        fields=fields,
        disks=disks,
        holds_more=any(
            naive.kind(entry) != "file" and entry not in installing for entry in naive.entries(path)
        ),
        is_busy=any(entry.lstat().st_mtime_ns > now - HOUR for entry in installing),
        is_unreadable=is_unreadable,
    )


# Tags.


def target_of(images: pathlib.Path, place: pathlib.Path, target: str) -> str | None:
    """Tell the digest that a link at a place leads to; None where it is a link of another form."""
    digits = target.rpartition("/")[2]
    if target.startswith("/") or not naive.is_hex(digits):
        return None
    cleaned = posixpath.normpath(posixpath.join(place.parent.as_posix(), target))
    if target == digits or cleaned == (images / "content" / digits).as_posix():
        return f"sha256:{digits}"
    return None


def read_link(place: pathlib.Path) -> str:
    return os.readlink(place)  # noqa: PTH115 - a path would tidy the target up


def links_in(
    images: pathlib.Path, level: pathlib.Path, repository: str, *, is_legacy: bool
) -> Iterator[Link]:
    tops = images / "repositories"
    # What lies behind a link is not looked for.
    can_shadow = is_legacy and naive.kind(tops) == "folder" and not lies_behind_a_link(tops, repository)
    for entry in naive.entries(level):
        if naive.kind(entry) == "link" and naive.is_tag(entry.name):
            above = tops / repository / entry.name
            yield Link(
                path=entry,
                repository=repository,
                tag=entry.name,
                digest=target_of(images, entry, read_link(entry)),
                is_legacy=is_legacy,
                is_shadowed=can_shadow and naive.kind(above) != "nothing" and not is_locked(above.parent),
            )


def lies_behind_a_link(top: pathlib.Path, repository: str) -> bool:
    """Tell whether a link is on the way to a repository, as far as that can be read."""
    place = top
    for component in repository.split("/"):
        if is_locked(place):
            return False
        place /= component
        if naive.kind(place) == "link":
            return True
    return False


def look_up(images: pathlib.Path, repository: str, tag: str) -> tuple[str, int]:
    """Look a tag up as hypeman does: the digest and when its link was made, or `absent`, or `odd`."""
    tops = [images / "repositories", images]
    if naive.kind(tops[0]) == "link":
        tops = tops[1:]  # it is not followed, and nothing is deleted
    if any(lies_behind_a_link(top, repository) for top in tops):
        return ODD, 0
    for top in tops:
        place = top / repository / tag
        if naive.kind(place) == "nothing" or is_locked(place.parent):
            continue
        digest = target_of(images, place, read_link(place)) if naive.kind(place) == "link" else None
        return (ODD, 0) if digest is None else (digest, made_at(images, repository, tag))
    return ABSENT, 0


def made_at(images: pathlib.Path, repository: str, tag: str) -> int:
    """Tell when the link of a tag was made, looked for by its path alone; a time to come where that cannot be told."""
    above = images / "repositories" / repository
    if naive.kind(images / "repositories") not in ("folder", "link", "nothing") or is_locked(above):
        return NEVER
    place = above / tag if naive.kind(above / tag) != "nothing" else images / repository / tag
    return place.lstat().st_mtime_ns


def staged_links(root: pathlib.Path, now: int) -> Iterator[tuple[str, str, str, bool]]:
    """Give the tags that hypeman has staged within the minute: repository, tag, digest, and whether in the older layout."""
    images = root / "images"
    for top in (images / "repositories", images):
        for level, repository in levels(top):
            if not naive.is_repository(repository):
                continue
            for stage in naive.entries(level):
                if naive.kind(stage) != "folder" or not stage.name.startswith(".tag-stage-"):
                    continue
                for link in naive.entries(stage):
                    if naive.kind(link) == "link" and link.lstat().st_mtime_ns > now - MINUTE:
                        digest = target_of(images, level / link.name, read_link(link))
                        if digest is not None:
                            yield repository, link.name, digest, top == images


# Builds.


def read_builds(folder: pathlib.Path) -> Iterator[Build]:
    for record in naive.entries(folder):
        fields = naive.read_fields(record / "metadata.json")
        if fields is None or is_locked(record / "metadata.json"):
            continue
        request = dict(fields["request"]) if isinstance(fields.get("request"), naive.Pairs) else {}
        digest = fields.get("image_digest")
        texts = [fields.get("image_ref"), request.get("image_name")]
        yield Build(
            digest=digest if isinstance(digest, str) else None,
            texts=[text for text in texts if isinstance(text, str) and text],
        )
