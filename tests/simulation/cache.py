"""The images and tags of the simulated host, as hypeman has made them and hmret has moved them, in both layouts."""

import re
from collections.abc import Iterator

from hmret.disk.layout import IMAGES, METADATA, REPOSITORIES, TRASH, hex_of
from hmret.model.references import Key
from simulation.chronicle import Chronicle
from simulation.clocks import VirtualClock
from simulation.landmarks import (
    DATA,
    Pulled,
    Tag,
    content_of,
    is_in_content,
    name_in,
    path_of,
    repository_of,
    short,
)
from support.memory_filesystem import MemoryFilesystem

__all__ = ["ASIDE_PREFIX", "IMAGE_PATH", "Cache", "is_aside_of"]

IMAGE_PATH = re.compile(rf"{DATA}/{IMAGES}/(.+)/([0-9a-f]{{64}})")
"""Where an image is, or a folder that may become one."""
ASIDE_PREFIX = ".hmret-tag-"
"""Begins the name of a tag that was set aside beside itself."""


def is_aside_of(aside: str, path: str) -> bool:
    """Return whether a path is where a tag is set aside beside itself, with some digits of a digest."""
    folder, _, tag = path.rpartition("/")
    digits = aside.removeprefix(f"{folder}/{ASIDE_PREFIX}").removesuffix(f"-{tag}")
    return (
        aside == f"{folder}/{ASIDE_PREFIX}{digits}-{tag}" and re.fullmatch("[0-9a-f]{12}", digits) is not None
    )


def _older(tag: Tag) -> Tag:
    """Name the tag of the older layout that one of today's shadows."""
    return repository_of(tag), tag[1]


class Cache:
    """What lies below `images/`, and what is promised of it."""

    def __init__(self, clock: VirtualClock, chronicle: Chronicle) -> None:
        self.clock = clock
        self.chronicle = chronicle
        self.filesystem = MemoryFilesystem(clock.now_ns)
        self.images: dict[Key, Pulled] = {}
        """By repository, or `content`, and digest."""
        self.retired: dict[str, Pulled] = {}
        """By where they lie, until the engine has erased some of them."""
        self.replaced: list[Pulled] = []
        """Images that had gone when the same digest was pulled again: a loss of power may bring them back."""
        self.tags: dict[Tag, tuple[str, int]] = {}
        """What hypeman has linked: the digest, and the event. A shadowed tag is not among them."""
        self._orphans: dict[Tag, tuple[Pulled, str, int]] = {}
        """Tags of images that have been retired: the image, the digest, the event of the link."""
        self.deleted_at: dict[str, int] = {}
        """The last event with which hypeman has taken something of a digest away, by digest."""
        self.unsure: set[str] = set()
        """Digests whose deletion was disturbed."""

    # What there is.

    def find(self, repository: str, digest: str) -> Pulled | None:
        """Find the folder that hypeman goes by for a digest of a repository."""
        own, shared = self._here((repository, digest)), self._here(content_of(digest))
        hides_own = shared is not None and METADATA in shared.files and shared.status == "ready"
        if own is not None and own.is_whole and not hides_own:
            return own
        if shared is not None and (METADATA in shared.files or shared.disk):
            return shared
        return own

    def present(self, repository: str, digest: str) -> Pulled | None:
        """Find an image that is in its place and ready, as hypeman does."""
        self.settle()
        image = self.find(repository, digest)
        return image if image is not None and image.ready_at is not None else None

    def names_itself(self, image: Pulled) -> bool:
        """Tell whether the metadata in the folder of a repository names that repository."""
        if image.key == content_of(image.key[1]) or METADATA not in image.files:
            return True
        return name_in(self.filesystem.read_file(f"{image.path}/{METADATA}")) == image.key[0]

    def resolve(self, repository: str, name: str) -> tuple[str, int] | None:
        """Follow a tag: the link below `repositories/` counts before the other."""
        return self.tags.get((f"{REPOSITORIES}/{repository}", name)) or self.tags.get((repository, name))

    def led_to(self, tag: Tag) -> Pulled | None:
        """Find what a tag leads to."""
        return self.find(repository_of(tag), self.tags[tag][0]) if tag in self.tags else None

    def folders_of(self, digest: str) -> list[Pulled]:
        """List all folders of a digest that are in their places."""
        return [image for image in self.images.values() if image.key[1] == digest and image.is_present]

    def owners_of(self, digest: str) -> set[str]:
        """List the repositories that have a row of a digest: by tag, by a folder, or else by the metadata's name."""
        folders = self.folders_of(digest)
        owners = {repository_of(tag) for tag, (found, _) in self.tags.items() if found == digest}
        owners |= {image.key[0] for image in folders if image.key != content_of(digest)}
        if owners:
            return owners
        return {
            name_in(self.filesystem.read_file(f"{image.path}/{METADATA}"))
            for image in folders
            if image.is_whole
        }

    def _here(self, key: Key) -> Pulled | None:
        image = self.images.get(key)
        return image if image is not None and image.is_present else None

    def image_at(self, path: str) -> Pulled | None:
        """Find the image that stands or lies at a path."""
        match = IMAGE_PATH.fullmatch(path)
        if match is None:
            return self.retired.get(path)
        image = self.images.get((match[1], f"sha256:{match[2]}"))
        return image if image is not None and image.path == path else None

    def settle(self) -> None:
        """See what has become of the last rename."""

    # What hypeman tells.

    def begin_pull(self, key: Key) -> Pulled:
        """Note that the folder of an image was made."""
        path = path_of(key)
        inode = self.filesystem.inode(path)
        assert inode is not None
        before = self.images.get(key)
        image = Pulled(key, inode, path, unready_at=self.chronicle.now)
        image.follows_retired = before is not None and not before.is_present and before.follows_retired
        if before is not None and not before.path:
            self.replaced.append(before)
        self.images[key] = image
        return image

    def link(self, tag: Tag, digest: str) -> None:
        """Note that hypeman has made a tag; where its image has just gone, nobody is promised anything."""
        self.settle()
        if self.tags.get(tag, ("", 0))[0] != digest:
            self.unlink(tag)
        self._orphans.pop(tag, None)
        if is_in_content(tag):
            # What is shadowed by it goes along with it one day.
            self.unlink((repository_of(tag), tag[1]))
        elif self.filesystem.exists(f"{DATA}/{IMAGES}/{REPOSITORIES}/{tag[0]}/{tag[1]}"):
            self.unlink(tag)
            return
        image = self.find(repository_of(tag), digest)
        if image is not None and image.is_present:
            self.tags[tag] = digest, self.chronicle.now
            self.note_tag(tag)
            return
        self.unlink(tag)
        away = next((one for one in self.retired.values() if one.key[1] == digest and one.path), None)
        if away is not None:
            # It leads to that, should it come back.
            self._orphans[tag] = away, digest, self.chronicle.now

    def unlink(self, tag: Tag) -> None:
        """Note that hypeman has removed a tag."""
        self._orphans.pop(tag, None)
        self.tags.pop(tag, None)

    def note_tag(self, tag: Tag) -> None:
        """Note that a tag is there."""

    # What hmret moves.

    def leave_orphans(self, image: Pulled) -> None:
        """Note which tags led to an image that has just been retired, and lead nowhere now."""
        for tag, (digest, since) in list(self.tags.items()):
            if digest == image.key[1] and self.find(repository_of(tag), digest) is None:
                self._orphans[tag] = image, digest, since
                del self.tags[tag]

    def adopt_orphans(self, image: Pulled, *, batch: int | None = None) -> None:
        """Note which tags lead to an image again that is back from a batch.

        Without a batch it is a fresh one, to which those lead that nobody has removed yet. A tag that had gone is not made
        again where hypeman has used its name in the older layout since: that leads where hypeman says.
        """
        for tag, (retired, digest, since) in list(self._orphans.items()):
            is_link = self.filesystem.exists(f"{DATA}/{IMAGES}/{tag[0]}/{tag[1]}")
            if not (is_link if batch is None else retired.batch == batch):
                continue
            if self.find(repository_of(tag), digest) is not image:
                continue
            del self._orphans[tag]
            if self._is_retaken(tag, since) and not is_link and not self.is_set_aside(tag, digest):
                continue
            self.tags.setdefault(tag, (digest, since))
            if is_in_content(tag) and _older(tag) in self.tags:
                self.unlink(_older(tag))  # it is shadowed again

    def is_set_aside(self, tag: Tag, digest: str) -> bool:
        """Tell whether a tag may be set aside by hmret, which then puts it back or removes it."""
        trash = f"{DATA}/{TRASH}"
        folder = f"{DATA}/{IMAGES}/{tag[0]}"
        if any(is_aside_of(path, f"{folder}/{tag[1]}") for path in self.filesystem.tree(folder)):
            return True
        return self.filesystem.exists(trash) and any(
            kind == "link" and str(about).endswith(hex_of(digest))
            for kind, about in self.filesystem.tree(trash).values()
        )

    def _is_retaken(self, tag: Tag, since: int) -> bool:
        """Tell whether hypeman has used the name of a tag of today's layout in the older one since the tag was made."""
        return is_in_content(tag) and self.tags.get(_older(tag), ("", -1))[1] > since

    def orphans(self) -> Iterator[tuple[Tag, Pulled, int]]:
        """List the tags that led to what has been retired and is not back: the tag, the image, the event of the link."""
        for tag, (image, digest, since) in self._orphans.items():
            if self.find(repository_of(tag), digest) is None:
                yield tag, image, since

    def tell(self, event: str, image: Pulled) -> None:
        """Put something that hmret has done with an image among the events."""
        self.chronicle.tell(f"hmret has {event} {short(image.key)}")
