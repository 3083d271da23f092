"""What is known of a cache at one moment: images, tags, states and references."""

import enum
from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from datetime import datetime

import attrs
import msgspec

from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.grouping import ReferenceIndex, Timers
from hmret.model.obstacles import Obstacle
from hmret.model.origins import Builds
from hmret.model.values import frozen

__all__ = [
    "Cause",
    "ContentOwners",
    "DiskUsage",
    "Image",
    "Inventory",
    "Key",
    "Reference",
    "Remembered",
    "Repository",
    "SharedDisk",
    "Suspension",
    "Thing",
]

Key = tuple[str, str]
"""One image: its normalised repository and its digest (`sha256:` and 64 hex digits)."""


class SharedDisk(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The identity of a disk that has more than one hard link."""

    device: int
    inode: int
    links: int

    @property
    def identity(self) -> tuple[int, int]:
        """What all its links have in common, however many there are."""
        return self.device, self.inode


class Image(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One digest folder of the cache.

    No attrs class: there are hundreds of thousands, and these stay out of the garbage collector's rounds.
    """

    digest: str
    """`sha256:` and the 64 hex digits that the folder is named with."""
    status: str
    """`pending`, `pulling`, `converting`, `ready` or `failed`; `unknown` where no metadata could be read."""
    created_ns: int | None = None
    """`created_at` of the metadata; None where it is absent or unreadable."""
    size_bytes: int = 0
    """The size that the metadata states; 0 where it states none."""
    disk_bytes: int = 0
    """Blocks that the disk occupies, whoever shares them."""
    shared_disk: SharedDisk | None = None
    """Set where the disk has other hard links: its blocks come free only with the last of them."""
    broken: str | None = None
    """Why this folder is no whole image; None where it is one, or is not ready yet."""
    pullable: bool | None = None
    """Whether its metadata says that it can be pulled again; None: it does not, so its registry decides."""
    content_name: str | None = None
    """None: a folder of its repository alone. Else content, which any repository can tag: the repository of the name in its
    metadata, of whoever pulled it first; empty where that is no reference."""
    copy: "Image | None" = None
    """The folder that the repository has of this digest beside the content."""
    foreign: str | None = None
    """What lies in its folder that is no regular file, so that it is not deleted, though it boots; None: nothing."""
    making: str | None = None
    """What hypeman is making in its folder; None: nothing."""

    @property
    def is_content(self) -> bool:
        """Whether other repositories can have the same folder for theirs."""
        return self.content_name is not None

    @property
    def is_plain(self) -> bool:
        """Whether it is ready and whole, with nothing else in its folder."""
        return self.status == "ready" and self.broken is None and self.foreign is None and self.making is None

    def kept_for(self, *, foreign: str | None = None, making: str | None = None) -> "Image":
        """Return the same image with something in its folder that keeps it."""
        return msgspec.structs.replace(self, foreign=foreign, making=making)

    @property
    def folders(self) -> "tuple[Image, ...]":
        """The folders that go with it."""
        return (self,) if self.copy is None else (self, self.copy)

    @property
    def total_bytes(self) -> int:
        """The blocks of its disks, those of one disk with two names once."""
        copy = self.copy
        if copy is None or (
            self.shared_disk is not None
            and copy.shared_disk is not None
            and self.shared_disk.identity == copy.shared_disk.identity
        ):
            return self.disk_bytes
        return self.disk_bytes + copy.disk_bytes


_NO_SHARES: Mapping[str, tuple[str, ...]] = {}
_NO_NOTES: Mapping[str, str] = {}
_NO_IMAGES: Mapping[str, Image] = {}


class Repository(msgspec.Struct, frozen=True, gc=False):
    """One repository, with a row for each digest that it has, in whatever layout.

    No attrs class: there may be very many, and the garbage collector need not go through them.
    """

    name: str
    images: Mapping[str, Image]
    """By digest."""
    tags: Mapping[str, str]
    """Tag to digest, as lookups go; the digest need not be there."""
    shared: Mapping[str, tuple[str, ...]] = _NO_SHARES
    """Of those whose content other repositories own too: all its owners, sorted."""
    unready: Mapping[str, str] = _NO_NOTES
    """Digests that are not ready for the sake of another folder of theirs, and why."""
    named: Mapping[str, Image] = _NO_IMAGES
    """Content whose metadata names this repository, though it is no row of it; by digest."""
    odd_tags: AbstractSet[str] = frozenset()
    """Names of tags at which a link or a file is that is no valid tag: nobody knows what they point to."""
    folder_tags: AbstractSet[str] = frozenset()
    """The same where a folder is."""


class ContentOwners(Mapping[str, tuple[str, ...]]):
    """The owners of each content folder, by digest: the repositories with a row for it. Some have none."""

    __slots__ = ("_owners",)

    def __init__(self, owners: Mapping[str, str | tuple[str, ...]]) -> None:
        """Take owners; of nearly all there is one, which then stands there alone."""
        self._owners = owners

    def __getitem__(self, digest: str) -> tuple[str, ...]:
        owners = self._owners[digest]
        return (owners,) if isinstance(owners, str) else owners

    def __contains__(self, digest: object) -> bool:
        return digest in self._owners

    def __iter__(self) -> Iterator[str]:
        return iter(self._owners)

    def __len__(self) -> int:
        return len(self._owners)

    def are_only(self, digest: str, repository: str) -> bool:
        """Return whether a repository owns a content folder alone."""
        return self._owners.get(digest) == repository


class Reference(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One thing on the host that needs an image.

    An embedder returns these from its own source; for the metadata files hmret makes them itself.
    """

    source: str
    """Who needs it: `instance/ID`, `snapshot/ID` or an embedder's own name; shown to people."""
    image: str = ""
    """The reference as the user typed it, by tag or digest; empty: none."""
    resolved_image: str = ""
    """The digest-pinned reference that really boots; empty: not known, then past targets of the tag count too."""
    created_at: datetime | None = None
    """When the thing was made; None: not known."""
    saved_state: tuple[str, ...] | None = None
    """The images whose disks its saved state opens, as references by digest; they are in use, too. Empty: the saved state
    names none. None: there is no saved state. With one, the thing may have been forked from an older one, and
    `created_at` proves nothing about what its tag pointed to when it was started."""
    name: str = ""
    """What people call it; shown beside `source`, and nothing depends on it. Empty: not known."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All image references of it."""
        named = (self.image, self.resolved_image, *(self.saved_state or ()))
        return tuple(text for text in named if text)


Thing = tuple[str, datetime | None]
"""Who makes a reference, and when that was made: a name may be given again."""


@frozen
class Remembered:
    """The digests that one tag has pointed to since something that runs from it was first seen."""

    digests: frozenset[str]
    seen: AbstractSet[Thing] = frozenset()
    """Things of which it is settled that they run from one of these. What else names the tag is seen for the first time:
    it may run from something that the tag pointed to between two looks, or before the first."""


class Cause(enum.StrEnum):
    """Why no deletion happens in a sweep."""

    UNREADABLE_REFERENCE = "unreadable_reference"
    CLOCK_JUMP = "clock_jump"
    UNREADABLE_CACHE = "unreadable_cache"
    LOST_REFERENCES = "lost_references"
    """The volume of guests or snapshots is not mounted, by all that is known; so for images: `LOST_IMAGES`."""
    LOST_IMAGES = "lost_images"
    LEASES_BROKEN = "leases_broken"
    """A rename breaks the kernel's leases here, so that nobody can tell who has a disk open."""


@frozen
class DiskUsage:
    """How full the file system of `images/` is, as `df` shows it, and what came of earlier pressure."""

    used_bytes: int
    available_bytes: int
    """To those who are not root."""
    quarantined_bytes: int = 0
    """Blocks that come free when the quarantine is emptied."""
    is_pressed: bool = False
    """Whether the high mark was exceeded and the low one has not been reached since."""
    is_backing_off: bool = False
    """Whether the low mark was out of reach lately, so that it is not tried again yet unless it is in reach."""
    is_futile: bool = False
    """Whether what went lately has not come free on the disk, so that no more goes for that yet."""

    @property
    def total_bytes(self) -> int:
        """What the marks are shares of."""
        return self.used_bytes + self.available_bytes


@frozen
class Suspension:
    """One cause for which a sweep deletes nothing."""

    cause: Cause
    path: str
    """The file or folder at fault; empty where there is none."""
    detail: str
    """What is wrong and what remedies it, in one line."""


def _timers(timers: Mapping[Key, int | None]) -> Timers:
    return Timers.of(timers)


def _index(references: Iterable[Reference]) -> ReferenceIndex:
    return ReferenceIndex.of(references)


@frozen
class Inventory:
    """Everything that `plan` decides on, as it was found on the disk and among the leases.

    Whoever makes one never changes afterwards what it holds.

    Raises:
        InvalidReferenceError: a reference does not parse.
    """

    repositories: Mapping[str, Repository]
    states: Timers = attrs.field(factory=lambda: Timers({}), converter=_timers)
    """`unused_since` of each state file, in nanoseconds; None: unset or unreadable."""
    references: ReferenceIndex = attrs.field(factory=lambda: ReferenceIndex((), {}), converter=_index)
    remembered: Mapping[tuple[str, str], Remembered] = attrs.field(factory=dict)
    """By repository and tag: what the last plan returned as `remembered`."""
    link_times: Mapping[tuple[str, str], int] = attrs.field(factory=dict)
    """By repository and tag: when the link was made, in nanoseconds; needed where `unseen_tags` asks for it."""
    leased: AbstractSet[Key] = frozenset()
    suspensions: tuple[Suspension, ...] = ()
    unlisted: tuple[str, ...] = ()
    """Folders below `images/` that could not be listed (`""`: all of it): states below them are not pruned."""
    unread_sources: AbstractSet[str] = frozenset()
    """Sources that exist but could not be read: what is remembered of them is kept."""
    backing_off: AbstractSet[Key] = frozenset()
    """Images whose deletion failed lately, or would."""
    obstacles: Mapping[Key, Obstacle] = attrs.field(factory=dict)
    """What would be refused, of images that are otherwise due."""
    disk: DiskUsage | None = None
    """None: not known, and then no watermark counts."""
    contents: ContentOwners = attrs.field(factory=lambda: ContentOwners({}))
    """The owners of each content folder."""
    details: Mapping[str, str] = attrs.field(factory=dict)
    """What else is to be said of some images, by digest."""
    builds: Builds = attrs.field(factory=Builds)
    """What the records of this host's builds name."""
    gaps: Gaps = NO_GAPS
    """Time up to now that nobody watched: no window counts it."""
    accessed: Mapping[Key, int] = attrs.field(factory=dict)
    """When disks of images that have timers were last read, where that was a use that nobody saw, in nanoseconds."""
    brake_released_images: int = 0
    """Up to how many expired images the brake lets go: so many were announced for long enough, or somebody lets them go."""

    def holds(self, key: Key) -> bool:
        """Tell whether an image is here."""
        repository = self.repositories.get(key[0])
        return repository is not None and key[1] in repository.images
