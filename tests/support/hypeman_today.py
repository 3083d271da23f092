"""Today's hypeman, step by step: what each of its calls does to the disk, and in what order.

It keeps calls for one image apart by locks in its memory; here, whoever has it make two calls at once sees to that.
`hypeman_steps` says how a call is written down.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import attrs

from support.host_disk import HostDisk, OpenedFile
from support.hypeman_lookup import CONTENT, DISK, IMAGES, IN_PROGRESS, METADATA, Found, link_of
from support.hypeman_pulls import DISK_BYTES, Puller
from support.hypeman_steps import Call, Outcome, Parts, finish, is_waiting

__all__ = ["DISK_BYTES", "Call", "Hypeman", "Outcome", "Running", "finish", "is_waiting"]

_MANIFEST = "manifest.json"


@attrs.frozen(eq=False)
class Running:
    """An instance that runs, and the disk that it has open."""

    found: Found
    disk: OpenedFile
    inode: int | None


class Hypeman(Puller):
    """All that one server can be asked for, but for its own retention."""

    def __init__(
        self, disk: HostDisk, now: Callable[[], datetime], number: Callable[[], int] | None = None
    ) -> None:
        super().__init__(disk, now, number)
        self.running: dict[str, Running] = {}
        """By identity."""

    # Tags.

    def tag(self, repository: str, reference: str, target: str, tag: str) -> Call:
        """Give an image another tag, in its own repository or in another one.

        Args:
            repository: the image's.
            reference: one of its tags, or its digest.
            target: the repository of the new tag.
            tag: the new tag.
        """
        return self.attempt(self._tag(repository, reference, target, tag))

    def _tag(self, repository: str, reference: str, target: str, tag: str) -> Call:
        here = yield from self._get(repository, reference)
        if here is None:
            return Outcome("not found")
        found, metadata = here
        yield "walk all images"
        yield from self._walk()
        previous = self.reading().hex_of_tag(target, tag)
        in_content = found.is_content
        if target != repository:
            yield f"act on what is in {found.folder}"
            if in_content and not self._has_disk(found.folder):
                return Outcome("failed", "no such file")
            if not in_content:
                yield from self._promote(repository, found.hexadecimal)
                in_content = True
        yield from self._set_tag(target, tag, found.hexadecimal, in_content=in_content)
        yield from self._write_back(repository, found, metadata)
        if previous is not None and previous != found.hexadecimal:
            yield from self._drop_previous(target, previous)
        return Outcome("done")

    def _walk(self) -> Parts:
        """Read the metadata of every image."""
        folders = {path.rpartition("/")[0] for path in self.disk.tree() if path.endswith(f"/{METADATA}")}
        for folder in sorted(folders):
            yield from self._read(f"{folder}/{METADATA}")

    def _drop_previous(self, repository: str, hexadecimal: str) -> Parts:
        """Delete what a tag has moved away from: the repository's own folder, and content that no tag leads to.

        Content that was pulled by digest stays.
        """
        reading = self.reading()
        if not any(one == repository for one, _ in reading.tags_to(hexadecimal)):
            yield from self._remove_folder(f"{IMAGES}/{repository}/{hexadecimal}")
        content = reading.metadata(f"{CONTENT}/{hexadecimal}") or {}
        if "@" not in str(content.get("name")):
            yield from self._remove_content(hexadecimal)

    # Promotions.

    def promote(self, repository: str, hexadecimal: str, *, is_august: bool = False) -> Call:
        """Give an image of the older layout its place in content.

        Args:
            repository: the repository that has it.
            hexadecimal: its digest.
            is_august: whether a server of August 2026 does it, which leaves the older links where they are.
        """
        return self.attempt(self._promote_and_end(repository, hexadecimal, is_august=is_august))

    def _promote_and_end(self, repository: str, hexadecimal: str, *, is_august: bool) -> Call:
        yield from self._promote(repository, hexadecimal, is_august=is_august)
        return Outcome("done")

    def _promote(self, repository: str, hexadecimal: str, *, is_august: bool = False) -> Parts:
        own, content = f"{IMAGES}/{repository}/{hexadecimal}", f"{CONTENT}/{hexadecimal}"
        yield from self._read(f"{own}/{METADATA}")
        reading = self.reading()
        metadata = reading.metadata(own)
        shared = (reading.metadata(content) or {}).get("status")
        if metadata is None or shared in IN_PROGRESS:
            raise FileNotFoundError(own)
        yield f"promote {own}"
        if shared != "ready":
            yield from self._fill_content(own, content, metadata)
        for one, tag in reading.tags_to(hexadecimal):
            if one != repository:
                continue
            if is_august:
                yield from self._link_beside(repository, tag, hexadecimal)
            else:
                yield from self._set_tag(repository, tag, hexadecimal, in_content=True)

    def _fill_content(self, own: str, content: str, metadata: dict[str, Any]) -> Parts:
        yield f"make {content}"
        self.disk.make_folders(content)
        yield from self._install_metadata(content, metadata, "converting")
        yield f"link {content}/{DISK}"
        self.disk.hard_link(f"{own}/{DISK}", f"{content}/{DISK}")
        if self.disk.exists(f"{own}/{_MANIFEST}"):
            yield f"link {content}/{_MANIFEST}"
            self.disk.hard_link(f"{own}/{_MANIFEST}", f"{content}/{_MANIFEST}")
        yield from self._install_metadata(content, metadata, "ready")

    def _link_beside(self, repository: str, tag: str, hexadecimal: str) -> Parts:
        link = link_of(repository, tag, in_content=True)
        folder = link.rpartition("/")[0]
        yield f"make {folder}"
        self.disk.make_folders(folder)
        if not self.disk.exists(link):
            yield f"link {link}"
            self.disk.symlink(self._target(repository, hexadecimal, in_content=True), link)

    def ready_older_images(self) -> list[tuple[str, str]]:
        """List repository and digest of each image that a server of August 2026 promotes when it starts."""
        reading = self.reading()
        found = []
        for folder in reading.folders_of_images():
            repository, _, hexadecimal = folder.removeprefix(f"{IMAGES}/").rpartition("/")
            is_ready = (reading.metadata(folder) or {}).get("status") == "ready"
            if is_ready and not folder.startswith(f"{CONTENT}/"):
                found.append((repository, hexadecimal))
        return found

    # Deletions.

    def delete(self, repository: str, hexadecimal: str) -> Call:
        """Delete a digest of a repository: its tags, its own folder, and content that no tag leads to any more."""
        return self.attempt(self._delete(repository, hexadecimal))

    def _delete(self, repository: str, hexadecimal: str) -> Call:
        here = yield from self._look(repository, hexadecimal)
        if here is None:
            return Outcome("not found")
        yield f"act on what is in {here[0].folder}"
        for one, tag in self.reading().tags_to(hexadecimal):
            if one == repository:
                yield from self._remove_tag(repository, tag)
        yield from self._remove_folder(f"{IMAGES}/{repository}/{hexadecimal}")
        yield from self._remove_content(hexadecimal)
        return Outcome("done")

    def _remove_tag(self, repository: str, tag: str) -> Parts:
        """Remove a tag from both layouts, whatever the shadowed link points to."""
        for in_content in (True, False):
            link = link_of(repository, tag, in_content=in_content)
            if self.disk.exists(link):
                yield f"unlink {link}"
                self.remove(link)

    # Instances.

    def create(self, identity: str, repository: str, reference: str, *, has_resolved: bool = True) -> Call:
        """Create an instance: find the image, open its disk, and write the guest's metadata in place.

        Args:
            identity: the instance's.
            repository: the image's.
            reference: a tag, or a digest.
            has_resolved: whether the server notes the digest that really boots, as those of today do.
        """
        return self.attempt(self._create(identity, repository, reference, has_resolved=has_resolved))

    def _create(self, identity: str, repository: str, reference: str, *, has_resolved: bool) -> Call:
        here = yield from self._get(repository, reference)
        if here is None or here[0].status != "ready":
            return Outcome("not found")
        found, folder = here[0], f"guests/{identity}"
        path = f"{found.folder}/{DISK}"
        yield f"open {path}"
        inode = self.disk.inode(path)
        disk = yield from self._open(path)
        self.running[identity] = Running(found, disk, inode)
        colon = "@" if reference.startswith("sha256:") else ":"
        guest = {"Id": identity, "Image": f"{repository}{colon}{reference}", "CreatedAt": self._stamp()}
        if has_resolved:
            guest["ResolvedImage"] = f"{repository}@sha256:{found.hexadecimal}"
        content = json.dumps(guest).encode()
        yield f"make {folder}"
        self.disk.make_folders(folder)
        for end in (len(content) // 2, len(content)):
            yield f"write {end} bytes of {folder}/{METADATA}"
            self.disk.write(f"{folder}/{METADATA}", content[:end])
        return Outcome("done")

    def destroy(self, identity: str) -> Call:
        """Delete an instance."""
        return self.attempt(self._destroy(identity))

    def _destroy(self, identity: str) -> Call:
        running = self.running.pop(identity, None)
        if running is not None:
            running.disk.close()
        yield from self._remove_folder(f"guests/{identity}")
        return Outcome("done")
