"""A simulated hypervisor host: pulls and tags images, creates and deletes VMs, as hypeman does on disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiofiles
import aiofiles.os
import attrs
import msgspec

from hmret.cli.demo.chronicle import Chronicle, day_of
from hmret.cli.demo.clock import DemoClock
from hmret.cli.demo.image_store import ImageStore, StoredImage
from hmret.cli.display.tables import format_size
from hmret.disk.filesystem import POSIX
from hmret.disk.layout import METADATA
from hmret.engine.retention import Retention
from hmret.model.references import Key, parse_reference
from hmret.model.times import format_time
from hmret.model.values import define


@define(eq=False)
class Host:
    """The host; it uses the engine like any embedder: only `lease` and `mark_used`."""

    data_dir: Path
    clock: DemoClock
    retention: Retention
    chronicle: Chronicle
    store: ImageStore = attrs.field(init=False)
    images: dict[Key, StoredImage] = attrs.field(factory=dict, init=False)
    """Every image that the host has had, except those that it deleted itself; one entry per repository."""
    tags: dict[str, Key] = attrs.field(factory=dict, init=False)
    """What each tag reference last pointed to."""
    _vms: dict[str, dict[str, object]] = attrs.field(factory=dict, init=False)

    @store.default
    def _store_of_images(self) -> ImageStore:
        return ImageStore(self.data_dir, self.clock)

    async def pull(
        self, reference: str, *, disk_kib: int = 256, is_older_server: bool = False
    ) -> StoredImage:
        """Pull an image that was not present before; its tag moves to it when it is ready.

        With `is_older_server` it is stored in a folder of its repository, as before content existed.
        """
        write = self.store.pull_as_older_server if is_older_server else self.store.pull
        image = await asyncio.to_thread(write, parse_reference(reference), disk_kib * 1024)
        how = " by an older server" if is_older_server else ""
        self._note_tag(
            image,
            "image_pulled",
            f"pulled {image.reference}{how}, {format_size(image.disk_bytes)} on the disk",
        )
        return image

    async def tag(self, reference: str, target: str) -> StoredImage:
        """Tag an image in another repository, which shares its bytes from then on."""
        before = self.images[self.tags[reference]]
        image, other = await asyncio.to_thread(self.store.tag, before, parse_reference(target))
        self.images[image.key] = image
        how = ", which moves it out of the older layout" if image != before else ""
        self._note_tag(other, "image_tagged", f"{reference} is tagged {target} too{how}: one disk for both")
        return other

    async def delete_image(self, reference: str) -> None:
        """Delete an image of one repository, as an operator does; content that another one tags is kept."""
        image = self.images.pop(self.tags.pop(reference))
        stays = await asyncio.to_thread(self.store.delete, image)
        rest = ", the disk stays: another repository has it too" if stays else ""
        self._tell("image_untied", f"{reference} is deleted by hand{rest}")

    async def start_vm(self, vm: str, reference: str, *, resolves: bool = True) -> None:
        """Create a VM and start it; a lease covers the image until the metadata that names it is written.

        Without `resolves`, its metadata is that of an older release, which did not record the tag's digest.
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
        """Write half of a VM's metadata, as a host does that is killed while writing it."""
        content = msgspec.json.encode(self._vms[vm])
        await _write_in_place(self.data_dir / "guests" / vm / METADATA, content[: len(content) // 2])
        self._tell("metadata_torn", f"the host dies while it writes the metadata of {vm}: the file is torn")

    async def repair_metadata(self, vm: str) -> None:
        """Write a VM's metadata correctly again."""
        await self._write_vm(vm)
        self._tell("metadata_repaired", f"the metadata of {vm} is repaired")

    async def mark_used(self, reference: str) -> None:
        """Announce that an image is about to be used, without creating a VM."""
        used = await self.retention.mark_used(reference)
        self.chronicle.marked_used[used.repository, used.digest] = self.clock.elapsed
        self._tell("image_marked_used", f"{reference} is marked used")

    @asynccontextmanager
    async def exporting(self, reference: str) -> AsyncIterator[None]:
        """Export an image to another host, under a lease, inside this block."""
        async with self.retention.lease(reference, reason="export"):
            self._tell("image_leased", f"an export of {reference} begins, under a lease")
            yield

    @asynccontextmanager
    async def backing_up(self, image: StoredImage) -> AsyncIterator[None]:
        """Keep an image's disk open inside this block, like a backup program that does not know of retention."""
        async with aiofiles.open(image.disk, "rb"):
            self._tell("disk_opened", f"a backup opens the disk of {image.reference}")
            yield

    async def _write_vm(self, vm: str) -> None:
        await _write_in_place(self.data_dir / "guests" / vm / METADATA, msgspec.json.encode(self._vms[vm]))

    def _note_tag(self, image: StoredImage, event: str, text: str) -> None:
        """Record the image that a tag now points to, and what this means for the one it pointed to before."""
        before = self.tags.get(image.reference)
        self.images[image.key] = image
        self.tags[image.reference] = image.key
        self.chronicle.names[image.key] = image.reference
        self._tell(event, text)
        if before is not None:
            known = self.chronicle.names[before]
            self.chronicle.names[before] = f"{known} (before day {day_of(self.clock.elapsed)})"
            users = sorted(vm for vm, metadata in self._vms.items() if metadata["Image"] == image.reference)
            rest = f"; {' and '.join(users)} still runs from what it was" if users else ""
            self._tell("tag_moved", f"{image.reference} now points to what was pulled just now{rest}")

    def _tell(self, name: str, text: str) -> None:
        self.chronicle.tell("host", name, text)


def offers_leases(folder: Path) -> bool:
    """Test whether file leases on this file system reveal that a file is open."""
    path = folder / "lease-probe"
    path.touch()
    try:
        with path.open("rb") as probe:
            with path.open("rb"), suppress(BlockingIOError):
                POSIX.take_lease(probe.fileno())
                return False
            POSIX.take_lease(probe.fileno())
    except OSError:
        return False
    finally:
        path.unlink()
    return True


async def _write_in_place(path: Path, content: bytes) -> None:
    """Write a file as hypeman writes guest metadata: in place, so that a concurrent reader may see it torn."""
    async with aiofiles.open(path, "wb") as file:
        await file.write(content)
