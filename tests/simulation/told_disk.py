"""A disk that tells the truth what today's hypeman does on it: folders, metadata, disks and links, as they come and go."""

from hmret.disk.layout import IMAGES, METADATA, ROOTFS_NAMES, TAG_STAGE, digest_of
from simulation.cache import IMAGE_PATH
from simulation.landmarks import DATA, Pulled, Tag, short, status_in
from simulation.truth import Truth
from support.host_disk import MemoryDisk
from support.hypeman_lookup import hex_in_link
from support.memory_filesystem import MemoryFilesystem

__all__ = ["ToldDisk"]


class ToldDisk(MemoryDisk):
    """What a server of today works on."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth.filesystem)
        self._truth = truth

    def use(self, filesystem: MemoryFilesystem) -> None:
        """Go on with what a loss of power has left: nothing is open any more."""
        self.filesystem = filesystem
        self._opened.clear()

    # Folders.

    def make_folder(self, path: str) -> None:
        super().make_folder(path)
        self._note_folder(path)

    def make_folders(self, path: str) -> None:
        is_new = not self.exists(path)
        super().make_folders(path)
        if is_new:
            self._note_folder(path)

    def rmdir(self, path: str) -> None:
        image = self._image(path)
        super().rmdir(path)
        if image is not None:
            image.path = ""
            self._truth.deleted_at[image.key[1]] = self._truth.chronicle.now
            self._truth.chronicle.tell(f"hypeman has deleted {short(image.key)}")

    def _note_folder(self, path: str) -> None:
        self._truth.settle()
        match = IMAGE_PATH.fullmatch(f"{DATA}/{path}")
        if match is not None:
            self._truth.begin_pull((match[1], digest_of(match[2])))

    # Files and links.

    def write(self, path: str, content: bytes, *, size_bytes: int = 0) -> None:
        super().write(path, content, size_bytes=size_bytes)
        self._note_file(path)

    def hard_link(self, source: str, target: str) -> None:
        super().hard_link(source, target)
        self._note_file(target)

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        if f"/{TAG_STAGE}" in source:
            self._note_link(target)
        else:
            self._note_file(target)

    def symlink(self, target: str, path: str) -> None:
        super().symlink(target, path)
        if f"/{TAG_STAGE}" not in path:
            self._note_link(path)

    def unlink(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        image = self._image(folder)
        super().unlink(path)
        if image is None:
            self._truth.unlink(_tag_at(path))
            return
        image.files.discard(name)
        self._truth.deleted_at[image.key[1]] = self._truth.chronicle.now
        self._judge(image)

    def _note_file(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        image = self._image(folder)
        if image is None or name not in (METADATA, "manifest.json", *ROOTFS_NAMES):
            return
        image.files.add(name)
        if name == METADATA:
            # Where hmret has just hidden what there was, this is a pull that begins in its folder.
            image.is_hidden = False
            status = status_in(self.filesystem.read_file(f"{DATA}/{path}"))
            if image.is_ghost and status != "ready":
                image.unready_at = self._truth.chronicle.now  # a pull has begun in its folder
            image.status = status
        self._judge(image)
        if image.is_whole:
            self._truth.adopt_orphans(image)

    def _judge(self, image: Pulled) -> None:
        """See whether an image has become ready, or is no more."""
        is_ready = image.status == "ready" and image.is_whole
        if is_ready and image.ready_at is None:
            self._truth.end_pull(image)
            self._truth.chronicle.tell(f"hypeman has {short(image.key)} ready")
        elif not is_ready and image.ready_at is not None:
            image.ready_at, image.unready_at = None, self._truth.chronicle.now

    def _note_link(self, path: str) -> None:
        hexadecimal = hex_in_link(path, self.read_link(path))
        assert hexadecimal is not None, path
        self._truth.link(_tag_at(path), digest_of(hexadecimal))
        self._truth.chronicle.tell(f"hypeman links {path} to {hexadecimal[:4]}")

    def _image(self, folder: str) -> Pulled | None:
        self._truth.settle()
        return self._truth.image_at(f"{DATA}/{folder}")


def _tag_at(path: str) -> Tag:
    folder, _, name = path.removeprefix(f"{IMAGES}/").rpartition("/")
    return folder, name
