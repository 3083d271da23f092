"""A pretend hypervisor host: it pulls images, moves tags, and creates and deletes VMs, as hypeman does on the disk."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiofiles
import aiofiles.os
import attrs
import msgspec

from hmret.cli.demo.chronicle import Chronicle, bytes_text, day_of
from hmret.cli.demo.clock import DemoClock
from hmret.disk.filesystem import POSIX
from hmret.disk.image_scan import BLOCK
from hmret.disk.layout import IMAGES, METADATA, digest_of, hex_of
from hmret.engine.retention import Retention
from hmret.model.images import Key
from hmret.model.references import parse_reference
from hmret.model.times import format_time

__all__ = ["Host", "PulledImage", "hash_disk", "offers_leases"]

_APPARENT_BYTES = 8 * 1024 * 1024
_EXTENT_BYTES = 64 * 1024
_ROOTFS = "rootfs.ext4"


@attrs.frozen
class PulledImage:
    """An image as the host pulled it."""

    repository: str
    tag: str
    digest: str
    folder: Path
    disk_bytes: int
    """The blocks of its disk."""
    content_hash: str
    """SHA-256 of its disk, in hex."""

    @property
    def key(self) -> Key:
        """The engine's name for it."""
        return self.repository, self.digest

    @property
    def reference(self) -> str:
        """What it was pulled as."""
        return f"{self.repository}:{self.tag}"

    @property
    def disk(self) -> Path:
        """Its disk."""
        return self.folder / _ROOTFS


@attrs.define(eq=False)
class Host:
    """The host; of retention it knows what any embedder does: `lease` and `mark_used`."""

    data_dir: Path
    clock: DemoClock
    retention: Retention
    chronicle: Chronicle
    pulled: dict[Key, PulledImage] = attrs.field(factory=dict, init=False)
    """Every image that was ever pulled."""
    tags: dict[str, Key] = attrs.field(factory=dict, init=False)
    """What each reference by tag has last been pointed to."""
    _vms: dict[str, dict[str, object]] = attrs.field(factory=dict, init=False)

    async def pull(self, reference: str, *, disk_kib: int = 256) -> PulledImage:
        """Pull an image that was not here before; its tag moves to it when it is ready."""
        named = parse_reference(reference)
        tag = named.tag or "latest"
        hexadecimal = hashlib.sha256(f"{named} {self.clock.elapsed}".encode()).hexdigest()
        folder = self.data_dir / IMAGES / named.repository / hexadecimal
        image = await asyncio.to_thread(
            self._write_image,
            PulledImage(named.repository, tag, digest_of(hexadecimal), folder, 0, ""),
            disk_kib,
        )
        self.pulled[image.key] = image
        self.chronicle.names[image.key] = image.reference
        self._tell("image_pulled", f"pulled {image.reference}, {bytes_text(image.disk_bytes)} on the disk")
        await self._move_tag(image)
        return image

    async def start_vm(self, vm: str, reference: str, *, resolves: bool = True) -> None:
        """Create a VM and start it; a lease covers the image until the metadata that names it is written.

        Without `resolves` its metadata is that of an older release, which did not say what a tag stood for.
        """
        async with self.retention.lease(reference, reason=f"create {vm}") as leased:
            await aiofiles.os.makedirs(self.data_dir / "guests" / vm)
            metadata: dict[str, object] = {
                "Id": vm,
                "Name": vm,
                "Image": reference,
                "CreatedAt": format_time(self.clock.now_ns()),
                "Vcpus": 2,
                "Size": 1 << 30,
                "NetworkEnabled": True,
                "HypervisorPID": None,
            }
            if resolves:
                metadata["ResolvedImage"] = f"{leased.repository}@{leased.digest}"
            self._vms[vm] = metadata
            await self._write_vm(vm)
        how = "" if resolves else ", its metadata in the form of an older release"
        self._tell("vm_started", f"{vm} starts from {reference}{how}")

    async def delete_vm(self, vm: str) -> None:
        """Stop a VM and delete it."""
        metadata = self._vms.pop(vm)
        await aiofiles.os.remove(self.data_dir / "guests" / vm / METADATA)
        await aiofiles.os.rmdir(self.data_dir / "guests" / vm)
        self._tell("vm_deleted", f"{vm} is deleted, it ran from {metadata['Image']}")

    async def save_snapshot(self, snapshot: str, vm: str) -> None:
        """Save a snapshot of a VM."""
        folder = self.data_dir / "snapshots" / snapshot
        await aiofiles.os.makedirs(folder)
        about = {
            "id": snapshot,
            "source_instance_id": vm,
            "created_at": format_time(self.clock.now_ns()),
        }
        content = msgspec.json.encode({"snapshot": about, "stored_metadata": self._vms[vm]})
        await _write_in_place(folder / "snapshot.json", content)
        self._tell("snapshot_saved", f"{snapshot} of {vm} is saved")

    async def tear_metadata(self, vm: str) -> None:
        """Write half of a VM's metadata, as a host does that is killed at it."""
        content = msgspec.json.encode(self._vms[vm])
        await _write_in_place(self.data_dir / "guests" / vm / METADATA, content[: len(content) // 2])
        self._tell("metadata_torn", f"the host dies while it writes the metadata of {vm}: the file is torn")

    async def repair_metadata(self, vm: str) -> None:
        """Write a VM's metadata as it should be."""
        await self._write_vm(vm)
        self._tell("metadata_repaired", f"the metadata of {vm} is repaired")

    async def mark_used(self, reference: str) -> None:
        """Say that an image is about to be used, without creating a VM."""
        used = await self.retention.mark_used(reference)
        self.chronicle.marked_used[used.repository, used.digest] = self.clock.elapsed
        self._tell("image_marked_used", f"{reference} is marked used")

    @asynccontextmanager
    async def exporting(self, reference: str) -> AsyncIterator[None]:
        """Export an image to another host, under a lease, while this block lasts."""
        async with self.retention.lease(reference, reason="export"):
            self._tell("image_leased", f"an export of {reference} begins, under a lease")
            yield

    @asynccontextmanager
    async def backing_up(self, image: PulledImage) -> AsyncIterator[None]:
        """Have the disk of an image open, as a backup that knows nothing of retention has."""
        async with aiofiles.open(image.disk, "rb"):
            self._tell("disk_opened", f"a backup opens the disk of {image.reference}")
            yield

    async def _write_vm(self, vm: str) -> None:
        await _write_in_place(self.data_dir / "guests" / vm / METADATA, msgspec.json.encode(self._vms[vm]))

    async def _move_tag(self, image: PulledImage) -> None:
        before = self.tags.get(image.reference)
        await asyncio.to_thread(_link, image, self.clock.now_ns())
        self.tags[image.reference] = image.key
        if before is not None:
            known = self.chronicle.names[before]
            self.chronicle.names[before] = f"{known} (before day {day_of(self.clock.elapsed)})"
            users = sorted(vm for vm, metadata in self._vms.items() if metadata["Image"] == image.reference)
            rest = f"; {' and '.join(users)} still runs from what it was" if users else ""
            self._tell("tag_moved", f"{image.reference} now points to what was pulled just now{rest}")

    def _write_image(self, image: PulledImage, disk_kib: int) -> PulledImage:
        image.folder.mkdir(parents=True)
        self._write_metadata(image, "pulling")
        content_hash = _write_disk(image.disk, disk_kib * 1024)
        self._write_metadata(image, "ready")
        return attrs.evolve(image, disk_bytes=image.disk.stat().st_blocks * BLOCK, content_hash=content_hash)

    def _write_metadata(self, image: PulledImage, status: str) -> None:
        """Write an image's metadata, by a temporary file and a rename."""
        metadata = {
            "name": image.reference,
            "digest": image.digest,
            "status": status,
            "size_bytes": _APPARENT_BYTES,
            "created_at": format_time(self.clock.now_ns()),
        }
        temporary = image.folder / f"{METADATA}.tmp"
        temporary.write_bytes(msgspec.json.encode(metadata))
        temporary.rename(image.folder / METADATA)

    def _tell(self, name: str, text: str) -> None:
        self.chronicle.tell("host", name, text)


def hash_disk(path: Path) -> str:
    """Read a disk; returns its SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def offers_leases(folder: Path) -> bool:
    """Try whether the kernel tells by a lease, on this file system, that a file is open."""
    path = folder / "lease-probe"
    path.touch()
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            with path.open("rb"), suppress(BlockingIOError):
                POSIX.take_lease(fd)
                return False
            POSIX.take_lease(fd)
        except OSError:
            return False
        finally:
            os.close(fd)
    finally:
        path.unlink()
    return True


async def _write_in_place(path: Path, content: bytes) -> None:
    """Write a file as hypeman writes its guests' metadata: whoever reads it meanwhile can meet it torn."""
    async with aiofiles.open(path, "wb") as file:
        await file.write(content)


def _write_disk(path: Path, real_bytes: int) -> str:
    """Write a sparse disk with so many real bytes, spread over it; returns its SHA-256 in hex."""
    with path.open("wb") as file:
        for start in range(0, _APPARENT_BYTES, _APPARENT_BYTES * _EXTENT_BYTES // real_bytes):
            file.seek(start)
            file.write(os.urandom(_EXTENT_BYTES))
        file.truncate(_APPARENT_BYTES)
        file.flush()
        # Blocks are counted for certain only once they are written.
        os.fsync(file.fileno())
    return hash_disk(path)


def _link(image: PulledImage, now_ns: int) -> None:
    """Point a tag to an image: remove the link and make it anew, at the host's time and not the real one."""
    link = image.folder.parent / image.tag
    link.unlink(missing_ok=True)
    link.symlink_to(hex_of(image.digest))
    os.utime(link, ns=(now_ns, now_ns), follow_symlinks=False)
