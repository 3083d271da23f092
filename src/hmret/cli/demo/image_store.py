"""The images of the simulated host: pulled, tagged and deleted on disk in the same steps as by hypeman."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import attrs
import msgspec

from hmret.cli.demo.clock import DemoClock
from hmret.disk.hypeman.images import BLOCK
from hmret.disk.hypeman.links import link_target, pointed_to, tag_folder
from hmret.disk.layout import CONTENT, IMAGES, INSTALLING, METADATA, TAG_STAGE, Layout, digest_of, hex_of
from hmret.model.references import ImageReference, Key
from hmret.model.times import format_time
from hmret.model.values import frozen

DISK = "rootfs.erofs"

_APPARENT_BYTES = 8 * 1024 * 1024
_EXTENT_BYTES = 64 * 1024
_MANIFEST = "manifest.json"


@frozen
class StoredImage:
    """A digest in a repository."""

    repository: str
    tag: str
    digest: str
    folders: tuple[Path, ...]
    """The content, which other repositories may share, and the repository's own folder if it has one."""
    disk_bytes: int
    """The allocated size of its disk, which all folders share."""
    disk_hash: str
    """SHA-256 of its disk, in hex."""

    @property
    def key(self) -> Key:
        """The engine's key for it."""
        return self.repository, self.digest

    @property
    def reference(self) -> str:
        """The tag by which it was pulled, or that was set."""
        return f"{self.repository}:{self.tag}"

    @property
    def disk(self) -> Path:
        """The disk that an instance boots from."""
        return self.folders[0] / DISK


@frozen
class ImageStore:
    """Operates on `images/`; the times in its files are the demonstration's."""

    data_dir: Path
    clock: DemoClock

    def pull(self, named: ImageReference, disk_bytes: int) -> StoredImage:
        """Pull an image by tag into content, as current servers do.

        A new tag points to it from the start; an existing one moves once everything is in place.
        """
        digest = self._new_digest(named)
        folder = self.data_dir / IMAGES / CONTENT / hex_of(digest)
        repository, tag, metadata = self._begin(named, digest)
        metadata |= {"build_id": str(uuid.uuid4()), "requested_tag": tag, "tag_generation": 1}
        _install_metadata(folder, metadata, "pending")
        is_new = not os.path.lexists(self._link(Layout.CONTENT, repository, tag))
        if is_new:
            self._set_tag(Layout.CONTENT, repository, tag, digest)
        for status in ("pulling", "converting"):
            _install_metadata(folder, metadata, status)
        unfinished = folder / f"{DISK}.tmp-{metadata['build_id']}"
        disk_hash = _write_disk(unfinished, disk_bytes)
        unfinished.rename(folder / DISK)
        manifest = {"schema_version": 1, "digest": digest, "rootfs_type": "erofs", "layers": []}
        _install(folder, _MANIFEST, msgspec.json.encode(manifest))
        _install_metadata(folder, metadata | {"size_bytes": _APPARENT_BYTES}, "ready")
        if not is_new:
            self._set_tag(Layout.CONTENT, repository, tag, digest)
        return StoredImage(repository, tag, digest, (folder,), _blocks(folder), disk_hash)

    def pull_as_older_server(self, named: ImageReference, disk_bytes: int) -> StoredImage:
        """Pull an image by tag into a folder of its repository, as servers did before content existed."""
        digest = self._new_digest(named)
        repository, tag, metadata = self._begin(named, digest)
        folder = self._own_folder(repository, digest)
        folder.mkdir(parents=True)
        _replace_metadata(folder, metadata, "pulling")
        disk_hash = _write_disk(folder / DISK, disk_bytes)
        _replace_metadata(folder, metadata | {"size_bytes": _APPARENT_BYTES}, "ready")
        self._set_tag(Layout.LEGACY, repository, tag, digest)
        return StoredImage(repository, tag, digest, (folder,), _blocks(folder), disk_hash)

    def tag(self, image: StoredImage, named: ImageReference) -> tuple[StoredImage, StoredImage]:
        """Tag an image in another repository; returns the image now, and as the other repository has it.

        An image of the older layout is promoted first: its disk is hard-linked into content, and its tags point
        there.
        """
        content = self.data_dir / IMAGES / CONTENT / hex_of(image.digest)
        if content not in image.folders:
            self._promote(image, content)
            image = attrs.evolve(image, folders=(content, *image.folders))
        metadata = msgspec.json.decode((content / METADATA).read_bytes())
        tag = named.tag or "latest"
        self._set_tag(Layout.CONTENT, named.repository, tag, image.digest)
        _install_metadata(content, metadata, "ready")
        return image, attrs.evolve(image, repository=named.repository, tag=tag, folders=(content,))

    def delete(self, image: StoredImage) -> bool:
        """Delete a digest of a repository: its tags, its folder, and the content if no repository tags it.

        Returns whether the content is kept.
        """
        for link in self.links_to(image.repository, image.digest):
            link.unlink()
        own = self._own_folder(image.repository, image.digest)
        if own.exists():
            shutil.rmtree(own)
        content = self.data_dir / IMAGES / CONTENT / hex_of(image.digest)
        is_tagged = any(
            link.is_symlink() and link.readlink().name == content.name
            for link in (self.data_dir / tag_folder(Layout.CONTENT, "")).rglob("*")
        )
        if not is_tagged:
            shutil.rmtree(content)
        return is_tagged

    def links_to(self, repository: str, digest: str) -> list[Path]:
        """List the tags of a repository that point to a digest, or to its former place, in both layouts."""
        return [link for layout in Layout for link in self._links_in(layout, repository, digest)]

    def _links_in(self, layout: Layout, repository: str, digest: str) -> Iterator[Path]:
        folder = tag_folder(layout, repository)
        if not (self.data_dir / folder).is_dir():
            return
        for path in sorted((self.data_dir / folder).iterdir()):
            if path.is_symlink() and pointed_to(folder, str(path.readlink())) == hex_of(digest):
                yield path

    def _begin(self, named: ImageReference, digest: str) -> tuple[str, str, dict[str, object]]:
        """Return the repository and tag of a pull, and its initial metadata."""
        tag = named.tag or "latest"
        name = f"{named.repository}:{tag}"
        metadata: dict[str, object] = {
            "name": name,
            "digest": digest,
            "platform": "linux/amd64",
            "request": {"Name": name, "Tags": None, "Platform": ""},
            "size_bytes": 0,
            "created_at": format_time(self.clock.now_ns()),
        }
        return named.repository, tag, metadata

    def _new_digest(self, named: ImageReference) -> str:
        return digest_of(hashlib.sha256(f"{named} {self.clock.elapsed}".encode()).hexdigest())

    def _own_folder(self, repository: str, digest: str) -> Path:
        return self.data_dir / IMAGES / repository / hex_of(digest)

    def _link(self, layout: Layout, repository: str, tag: str) -> Path:
        return self.data_dir / tag_folder(layout, repository) / tag

    def _set_tag(self, layout: Layout, repository: str, tag: str, digest: str) -> None:
        """Point a tag to a digest: the link is made in a staging folder and renamed into place.

        A link of the same name in the other layout is removed. The link's timestamp is the demonstration's,
        not the real one.
        """
        link = self._link(layout, repository, tag)
        stage = link.parent / f"{TAG_STAGE}{os.urandom(4).hex()}"
        stage.mkdir(parents=True)
        staged = stage / tag
        staged.symlink_to(link_target(layout, repository, hex_of(digest)))
        now_ns = self.clock.now_ns()
        os.utime(staged, ns=(now_ns, now_ns), follow_symlinks=False)
        staged.rename(link)
        stage.rmdir()
        other = Layout.LEGACY if layout is Layout.CONTENT else Layout.CONTENT
        self._link(other, repository, tag).unlink(missing_ok=True)

    def _promote(self, image: StoredImage, content: Path) -> None:
        """Link an image of the older layout into content; its own folder is kept."""
        (own,) = image.folders
        metadata = msgspec.json.decode((own / METADATA).read_bytes())
        _install_metadata(content, metadata, "converting")
        (content / DISK).hardlink_to(own / DISK)
        _install_metadata(content, metadata, "ready")
        self._set_tag(Layout.CONTENT, image.repository, image.tag, image.digest)


def hash_disk(path: Path) -> str:
    """Hash a disk; returns its SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _install_metadata(folder: Path, metadata: dict[str, object], status: str) -> None:
    _install(folder, METADATA, msgspec.json.encode(metadata | {"status": status}))


def _install(folder: Path, name: str, content: bytes) -> None:
    """Write a file in a staging folder next to its destination, and rename it into place."""
    stage = folder / f"{INSTALLING}{os.urandom(4).hex()}"
    stage.mkdir(parents=True)
    (stage / name).write_bytes(content)
    (stage / name).rename(folder / name)
    stage.rmdir()


def _replace_metadata(folder: Path, metadata: dict[str, object], status: str) -> None:
    """Write metadata as older servers did: to a temporary file next to its destination, then renamed."""
    temporary = folder / f"{METADATA}.tmp"
    temporary.write_bytes(msgspec.json.encode(metadata | {"status": status}))
    temporary.rename(folder / METADATA)


def _write_disk(path: Path, disk_bytes: int) -> str:
    """Write a sparse disk with this many allocated bytes, spread over it; returns its SHA-256 in hex."""
    with path.open("wb") as file:
        for start in range(0, _APPARENT_BYTES, _APPARENT_BYTES * _EXTENT_BYTES // disk_bytes):
            file.seek(start)
            file.write(os.urandom(_EXTENT_BYTES))
        file.truncate(_APPARENT_BYTES)
        file.flush()
        # The block count is only reliable once the data is written.
        os.fsync(file.fileno())
    return hash_disk(path)


def _blocks(folder: Path) -> int:
    return (folder / DISK).stat().st_blocks * BLOCK
