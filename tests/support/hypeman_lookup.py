"""How today's hypeman reads a tree: what a tag and a reference lead to, and the rows of its listing.

Written down from its behaviour, without anything of hmret's own reading. A name that is a tag here and a repository
there is not covered.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any

import attrs

from support.host_disk import Tree

__all__ = [
    "CONTENT",
    "DISK",
    "IMAGES",
    "IN_PROGRESS",
    "METADATA",
    "REPOSITORIES",
    "Found",
    "Reading",
    "Row",
    "hex_in_link",
    "link_of",
    "read_document",
]

IMAGES = "images"
CONTENT = f"{IMAGES}/content"
REPOSITORIES = f"{IMAGES}/repositories"
DISK = "rootfs.erofs"
METADATA = "metadata.json"
IN_PROGRESS = frozenset({"pending", "pulling", "converting"})

_HEX = re.compile(r"[0-9a-f]{64}")
_NO_REPOSITORIES = frozenset({"content", "repositories", "layers", "bases"})


@attrs.frozen
class Found:
    """What a reference leads to."""

    hexadecimal: str
    folder: str
    status: str

    @property
    def is_content(self) -> bool:
        """Whether it is the folder that all repositories share."""
        return self.folder.startswith(f"{CONTENT}/")


@attrs.frozen(order=True)
class Row:
    """One row of the listing."""

    name: str
    """Repository and tag, or what the metadata says."""
    hexadecimal: str
    status: str
    folder: str


def link_of(repository: str, tag: str, *, in_content: bool) -> str:
    """Say where a tag's link is in one of the layouts."""
    return f"{REPOSITORIES if in_content else IMAGES}/{repository}/{tag}"


def hex_in_link(path: str, target: str) -> str | None:
    """Read the digest out of a link; None where it is of a form that is no tag."""
    above, _, last = target.rpartition("/")
    if target.startswith("/") or not _HEX.fullmatch(last):
        return None
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return last if not above or joined == f"{CONTENT}/{last}" else None


def read_document(content: bytes | str | None) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none."""
    try:
        document = json.loads(content or b"")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


class Reading:
    """One look at a tree, which holds still for it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def hex_of_tag(self, repository: str, tag: str) -> str | None:
        """Follow a tag: what lies below `repositories/` counts, whatever it is, and then the older link."""
        for path in (link_of(repository, tag, in_content=True), link_of(repository, tag, in_content=False)):
            if path in self._tree:
                return self._hex_at(path)
        return None

    def find(self, repository: str, hexadecimal: str) -> Found | None:
        """Find the folder that a digest of a repository leads to."""
        content = f"{CONTENT}/{hexadecimal}"
        legacy = f"{IMAGES}/{repository}/{hexadecimal}"
        shared, own = self._metadata(content), self._metadata(legacy)
        if own is not None and self._has_disk(legacy) and (shared is None or shared.get("status") != "ready"):
            return _found(hexadecimal, legacy, own)
        if self._has(content, METADATA) or self._has_disk(content):
            return None if shared is None else _found(hexadecimal, content, shared)
        return None if own is None else _found(hexadecimal, legacy, own)

    def resolve(self, repository: str, tag_or_digest: str) -> Found | None:
        """Find what a reference leads to; None where hypeman says that there is no such image."""
        if tag_or_digest.startswith("sha256:"):
            hexadecimal: str | None = tag_or_digest.removeprefix("sha256:")
        else:
            hexadecimal = self.hex_of_tag(repository, tag_or_digest)
        found = None if hexadecimal is None else self.find(repository, hexadecimal)
        return None if found is None or self._is_broken(found) else found

    def boots(self, repository: str, tag_or_digest: str) -> bool:
        """Return whether an instance could be created from it now."""
        found = self.resolve(repository, tag_or_digest)
        return found is not None and found.status == "ready" and self._has_disk(found.folder)

    def tags_to(self, hexadecimal: str) -> list[tuple[str, str]]:
        """List (repository, tag) of every tag that a lookup leads to a digest, be it here or not."""
        return sorted(
            {(one, tag) for _, one, tag in self._links() if self.hex_of_tag(one, tag) == hexadecimal}
        )

    def links_to(self, hexadecimal: str, *, in_content: bool) -> list[str]:
        """List the valid links of one layout to a digest, the shadowed and the staged ones too."""
        return [
            path
            for path, _, _ in self._links()
            if path.startswith(f"{REPOSITORIES}/") == in_content and self._hex_at(path) == hexadecimal
        ]

    def rows(self) -> list[Row]:
        """List the rows as hypeman does."""
        rows: list[Row] = []
        shown: set[str] = set()
        keys: set[tuple[str, str]] = set()
        tags: dict[tuple[str, str], str] = {}
        for path, repository, tag in self._links():
            hexadecimal = self._hex_at(path)
            # Where both layouts have the tag, the older link is the one that is shown.
            if hexadecimal and ((repository, tag) not in tags or not path.startswith(f"{REPOSITORIES}/")):
                tags[repository, tag] = hexadecimal
        for (repository, tag), hexadecimal in tags.items():
            found = self.find(repository, hexadecimal)
            if found is None or self._is_broken(found):
                continue
            rows.append(Row(f"{repository}:{tag}", hexadecimal, found.status, found.folder))
            shown.add(found.folder)
            keys.add((repository, hexadecimal))
        for folder in self._untagged(keys):
            repository, hexadecimal = _key_of(folder)
            found = self.find(repository, hexadecimal) or Found(hexadecimal, folder, "")
            metadata = self._metadata(found.folder) or {}
            rows.append(
                Row(str(metadata.get("name")), hexadecimal, str(metadata.get("status")), found.folder)
            )
            shown.add(found.folder)
        for folder in self._contents():
            content = self._metadata(folder)
            if folder not in shown and content is not None:
                found = _found(folder.rpartition("/")[2], folder, content)
                if not self._is_broken(found):
                    rows.append(Row(str(content.get("name")), found.hexadecimal, found.status, folder))
        return sorted(rows)

    def folders_of_images(self) -> list[str]:
        """List every folder below `images/`, whatever its name, that hypeman takes for an image."""
        return sorted(
            path
            for path, (kind, _) in self._tree.items()
            if kind == "folder" and self._has(path, METADATA) and self._has_disk(path)
        )

    def _untagged(self, tagged: set[tuple[str, str]]) -> list[str]:
        """List what passes for a folder of the older layout and has no tag: whatever holds metadata and a disk does."""
        whole = set(self.folders_of_images())
        pulled = {path.rpartition("/")[0] for path in self._tree if path.endswith(f"/{METADATA}")}
        pulled = {folder for folder in pulled if _HEX.fullmatch(folder.rpartition("/")[2])}
        return [
            folder
            for folder in sorted(whole | pulled)
            if not folder.startswith(f"{CONTENT}/")
            and _key_of(folder) not in tagged
            and (folder in whole or self.find(*_key_of(folder)) is not None)
        ]

    def ghosts(self) -> list[str]:
        """List the digests whose content says that it is ready, and has no disk."""
        return [
            folder.rpartition("/")[2]
            for folder in self._contents()
            if (self._metadata(folder) or {}).get("status") == "ready" and not self._has_disk(folder)
        ]

    def metadata(self, folder: str) -> dict[str, Any] | None:
        """Read the metadata in a folder; None where there is none, or none that parses."""
        return self._metadata(folder)

    def _contents(self) -> Iterator[str]:
        for path, (kind, _) in self._tree.items():
            above, _, name = path.rpartition("/")
            if above == CONTENT and kind == "folder" and _HEX.fullmatch(name):
                yield path

    def _links(self) -> Iterator[tuple[str, str, str]]:
        """List every link that can be a tag: its path, its repository and its name."""
        for path, (kind, _) in self._tree.items():
            if kind != "link" or path.startswith(f"{CONTENT}/"):
                continue
            above, _, tag = path.rpartition("/")
            top = REPOSITORIES if path.startswith(f"{REPOSITORIES}/") else IMAGES
            repository = above.removeprefix(f"{top}/")
            if repository.partition("/")[0] not in _NO_REPOSITORIES:
                yield path, repository, tag

    def _hex_at(self, path: str) -> str | None:
        kind, target = self._tree[path]
        return hex_in_link(path, str(target)) if kind == "link" else None

    def _is_broken(self, found: Found) -> bool:
        return found.status == "ready" and not self._has_disk(found.folder)

    def _has(self, folder: str, name: str) -> bool:
        return self._tree.get(f"{folder}/{name}", ("",))[0] == "file"

    def _has_disk(self, folder: str) -> bool:
        return self._has(folder, DISK)

    def _metadata(self, folder: str) -> dict[str, Any] | None:
        kind, content = self._tree.get(f"{folder}/{METADATA}", ("", None))
        return read_document(content) if kind == "file" else None


def _key_of(folder: str) -> tuple[str, str]:
    repository, _, hexadecimal = folder.removeprefix(f"{IMAGES}/").rpartition("/")
    return repository, hexadecimal


def _found(hexadecimal: str, folder: str, metadata: dict[str, Any]) -> Found:
    return Found(hexadecimal, folder, str(metadata.get("status")))
