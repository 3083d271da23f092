"""How hypeman reads a cache: what it lists, and which image it boots for a reference.

Written from its rules alone and on nothing but paths and contents, so that it can tell whether hmret reads alike and
leaves what hypeman can read. Of each path below the data directory it is given `folder`, `file` or `link`, and the
content or target.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Listed", "Reader"]

_HEX = re.compile(r"[0-9a-f]{64}")
_IMAGES = "images"
_CONTENT = "images/content"
_LINKS = "images/repositories"
_DISK = "rootfs.erofs"


class Listed(NamedTuple):
    """One image as hypeman shows it."""

    name: str
    digest: str
    status: str


class Reader:
    """One look at a data directory."""

    def __init__(self, entries: Mapping[str, tuple[str, bytes | str | None]]) -> None:
        self._entries = {path: about for path, about in entries.items() if path.startswith(f"{_IMAGES}/")}

    # What there is.

    def _kind(self, path: str) -> str:
        return self._entries.get(path, ("nothing", None))[0]

    def _metadata(self, folder: str) -> dict[str, Any] | None:
        kind, content = self._entries.get(f"{folder}/metadata.json", ("nothing", None))
        if kind != "file" or content is None:
            return None
        try:
            found = json.loads(content)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _has_disk(self, folder: str) -> bool:
        return self._kind(f"{folder}/{_DISK}") == "file"

    def _is_image(self, folder: str) -> bool:
        """Return whether a folder is shown: what is ready has a disk, what is not may have none yet."""
        metadata = self._metadata(folder)
        return metadata is not None and (metadata["status"] != "ready" or self._has_disk(folder))

    # Tags.

    def _hex_of(self, link: str) -> str | None:
        """Return the folder name that a valid link names; None: it is no tag."""
        kind, target = self._entries.get(link, ("nothing", None))
        if kind != "link" or not isinstance(target, str) or target.startswith("/"):
            return None
        name = posixpath.basename(target)
        if not _HEX.fullmatch(name):
            return None
        led_to = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
        return name if target == name or led_to == f"{_CONTENT}/{name}" else None

    def _tags(self) -> dict[tuple[str, str], str]:
        """Return the folder name for each repository and tag; where both layouts have it, the older one is shown."""
        found: dict[tuple[str, str], str] = {}
        for is_legacy in (False, True):
            for path in self._entries:
                above = _IMAGES if is_legacy else _LINKS
                if not path.startswith(f"{above}/") or (is_legacy and path.startswith(f"{_LINKS}/")):
                    continue
                repository, _, tag = path.removeprefix(f"{above}/").rpartition("/")
                hexadecimal = self._hex_of(path)
                is_staged = any(part.startswith(".") for part in repository.split("/"))
                if hexadecimal is not None and repository and not is_staged:
                    found[repository, tag] = hexadecimal
        return found

    # From a reference to a folder.

    def _folder(self, repository: str, hexadecimal: str) -> str | None:
        """Choose the layout for one digest in one repository."""
        legacy, content = f"{_IMAGES}/{repository}/{hexadecimal}", f"{_CONTENT}/{hexadecimal}"
        shared = self._metadata(content)
        is_whole = self._metadata(legacy) is not None and self._has_disk(legacy)
        if is_whole and (shared is None or shared["status"] != "ready"):
            return legacy
        if shared is not None or self._has_disk(content):
            return content
        return legacy if self._metadata(legacy) is not None else None

    def find(self, image: str) -> Listed | None:
        """Look an image up as the caller types it; None: not found."""
        repository, tag, digest = _parse(image)
        name = f"{repository}@{digest}" if digest else f"{repository}:{tag}"
        if digest:
            hexadecimal: str | None = digest.removeprefix("sha256:")
        else:
            today, older = f"{_LINKS}/{repository}/{tag}", f"{_IMAGES}/{repository}/{tag}"
            # Whatever has the tag's name in today's layout counts, be it a link that leads nowhere.
            hexadecimal = self._hex_of(older if self._kind(today) == "nothing" else today)
        folder = None if hexadecimal is None else self._folder(repository, hexadecimal)
        return self._show(folder, name) if folder is not None else None

    def _show(self, folder: str, name: str | None = None) -> Listed | None:
        metadata = self._metadata(folder)
        if metadata is None or not self._is_image(folder):
            return None
        return Listed(name or metadata["name"], metadata["digest"], metadata["status"])

    # The list.

    def rows(self) -> list[Listed]:
        """List the images: each tag, each folder of the older layout without one, each content that none led to."""
        tags = self._tags()
        tagged = {(repository, hexadecimal) for (repository, _), hexadecimal in tags.items()}
        chosen: list[tuple[str | None, str | None]] = [
            (self._folder(repository, hexadecimal), f"{repository}:{tag}")
            for (repository, tag), hexadecimal in tags.items()
        ]
        chosen += [(folder, None) for folder in self._untagged(tagged)]
        led_to = {folder for folder, _ in chosen}
        chosen += [(folder, None) for folder in self._folders(_CONTENT) if folder not in led_to]
        rows = [self._show(folder, name) for folder, name in chosen if folder is not None]
        return sorted(row for row in rows if row is not None)

    def _untagged(self, tagged: set[tuple[str, str]]) -> Iterator[str]:
        """List folders of the older layout without a tag; whatever holds metadata and a disk passes for one."""
        for folder in self._folders(_IMAGES):
            repository, _, name = folder.removeprefix(f"{_IMAGES}/").rpartition("/")
            if posixpath.dirname(folder) == _CONTENT or (repository, name) in tagged:
                continue
            if _HEX.fullmatch(name) and self._metadata(folder) is not None:
                yield self._folder(repository, name) or folder
            elif self._metadata(folder) is not None and self._has_disk(folder):
                yield folder

    def _folders(self, above: str) -> Iterator[str]:
        for path, (kind, _) in self._entries.items():
            if kind == "folder" and path.startswith(f"{above}/"):
                yield path

    def keys(self) -> set[tuple[str, str]]:
        """List the keys of hypeman's timers: the repository of each row's name, and its digest."""
        return {(_parse(row.name)[0], row.digest) for row in self.rows()}


def _parse(image: str) -> tuple[str, str, str]:
    """Take a reference apart: the repository in full, the tag, and the digest, which counts where there is one."""
    name, _, digest = image.partition("@")
    head, _, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    repository = f"{head}/{last}" if head else f"library/{last}"
    host = repository.partition("/")[0]
    if "." not in host and ":" not in host and host != "localhost":
        repository = f"docker.io/{repository}"
    return repository, tag or "latest", digest
