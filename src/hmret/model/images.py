"""What is known of a cache at one moment: its images, tags, states and references."""

import enum
from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from datetime import datetime

import attrs
import msgspec

from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.fleet import FleetView
from hmret.model.grouping import ReferenceIndex, Timers
from hmret.model.origins import Builds
from hmret.model.references import Key, Reference
from hmret.model.values import frozen


class SharedDisk(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The identity of a disk that has more than one hard link."""

    device: int
    """The device of the file, as the kernel numbers it."""
    inode: int
    """Its inode on that device."""
    links: int
    """How many names the file has."""

    @property
    def identity(self) -> tuple[int, int]:
        """What all links of the disk have in common, however many there are."""
        return self.device, self.inode


class Image(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row: one digest of one repository; or one folder of it, as it was read.

    A row stands for one folder, and may have a second one in `copy`; `folders` are both, each as an `Image`. A scan of
    content (`FolderScan.images`) has folders that belong to no repository yet.

    This is not an attrs class: there may be hundreds of thousands of instances, and a struct without `gc` keeps
    them out of the garbage collector's rounds.
    """

    digest: str
    """`sha256:` and the 64 hex digits that are the folder's name."""
    status: str
    """`pending`, `pulling`, `converting`, `ready` or `failed`; `unknown` where no metadata could be read."""
    created_ns: int | None = None
    """`created_at` of the metadata; None where it is absent or unreadable."""
    size_bytes: int = 0
    """The size that the metadata states; 0 where it states none."""
    disk_bytes: int = 0
    """Blocks that the disk occupies, whether or not other links share them."""
    shared_disk: SharedDisk | None = None
    """Set where the disk has other hard links: its blocks come free only with the last of them."""
    broken: str | None = None
    """Why this folder is not a complete image; None where it is one, or is not ready yet."""
    pullable: bool | None = None
    """Whether its metadata says that it can be pulled again; None: it does not, so its registry decides."""
    content_name: str | None = None
    """None: the folder belongs to its repository alone. Else it is content, which any repository can tag, and
    this is the repository named in its metadata, the one that first pulled it; empty where that name is no
    reference.
    """
    copy: "Image | None" = None
    """The folder of its own that the repository has for this digest beside the content; None: there is none."""
    foreign: str | None = None
    """What in its folder is not a regular file, so that it is not deleted although it boots; None: nothing."""
    making: str | None = None
    """What hypeman is writing in its folder at the moment; None: nothing."""

    @property
    def is_content(self) -> bool:
        """Whether the folder is content, which other repositories can own too."""
        return self.content_name is not None

    @property
    def is_plain(self) -> bool:
        """Whether it is ready and complete, with nothing else in its folder."""
        return self.status == "ready" and self.broken is None and self.foreign is None and self.making is None

    def kept_for(self, *, foreign: str | None = None, making: str | None = None) -> "Image":
        """Return the same image with a note of what in its folder prevents its deletion."""
        return msgspec.structs.replace(self, foreign=foreign, making=making)

    @property
    def folders(self) -> "tuple[Image, ...]":
        """The folders that are deleted together with it."""
        return (self,) if self.copy is None else (self, self.copy)

    @property
    def total_bytes(self) -> int:
        """The blocks of its disks; a disk with two names counts once."""
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
    """One repository, with a row for each digest that it has, in either layout.

    This is not an attrs class: there may be very many instances, and the garbage collector need not traverse
    them.
    """

    name: str
    """Normalised: `docker.io/library/alpine`."""
    images: Mapping[str, Image]
    """By digest."""
    tags: Mapping[str, str]
    """Tag to digest, as hypeman's lookups resolve it; the digest need not be in the cache."""
    shared: Mapping[str, tuple[str, ...]] = _NO_SHARES
    """The digests whose content other repositories own too, each with all its owners, sorted."""
    unready: Mapping[str, str] = _NO_NOTES
    """Digests that are not ready because of another folder of theirs, and why."""
    named: Mapping[str, Image] = _NO_IMAGES
    """Content whose metadata names this repository although no row of it stands for that content; by digest."""
    odd_tags: AbstractSet[str] = frozenset()
    """Names of tags that are a link of another form or a file: their targets are unknown."""
    folder_tags: AbstractSet[str] = frozenset()
    """Names of tags that are a folder: their targets are unknown too."""


class ContentOwners(Mapping[str, tuple[str, ...]]):
    """The owners of each content folder, by digest: the repositories with a row for it. Some content has none."""

    __slots__ = ("_owners",)

    def __init__(self, owners: Mapping[str, str | tuple[str, ...]]) -> None:
        """Store the owners; nearly all content has one owner, which is stored as a plain string."""
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


Thing = tuple[str, datetime | None]
"""Identifies what makes a reference: its source name and when it was made, since a name may be reused."""


@frozen
class Remembered:
    """The digests that one tag has pointed to since something that runs from it was first seen."""

    digests: frozenset[str]
    """The digests that the tag has pointed to."""
    seen: AbstractSet[Thing] = frozenset()
    """The sources known to run from one of these digests. Any other source that names the tag is seen for the
    first time: it may run from a digest that the tag pointed to between two looks, or before the first one.
    """


class Cause(enum.StrEnum):
    """Why a sweep deletes nothing."""

    UNREADABLE_REFERENCE = "unreadable_reference"
    CLOCK_JUMP = "clock_jump"
    UNREADABLE_CACHE = "unreadable_cache"
    LOST_REFERENCES = "lost_references"
    """By all that is known, the volume of guests or snapshots is not mounted; for images see `LOST_IMAGES`."""
    LOST_IMAGES = "lost_images"
    LEASES_BROKEN = "leases_broken"
    """A rename breaks the kernel's leases on this file system, so it cannot be known whether a process has a
    disk open.
    """


@frozen
class DiskUsage:
    """How full the file system of `images/` is, as `df` shows it, and the outcome of earlier pressure."""

    used_bytes: int
    """Bytes in use on the file system of `images/`."""
    available_bytes: int
    """Bytes available to users other than root."""
    quarantined_bytes: int = 0
    """Blocks that are freed when the quarantine is emptied."""
    is_pressed: bool = False
    """Whether the high mark was exceeded and use has not come down to the low one since."""
    is_backing_off: bool = False
    """Whether the watermark is ignored for now if the low mark still cannot be reached."""
    is_futile: bool = False
    """Whether recent deletions have not freed space on the disk, so that no more images go for that for now."""

    @property
    def total_bytes(self) -> int:
        """The size of which the marks are shares."""
        return self.used_bytes + self.available_bytes


@frozen
class Suspension:
    """One cause why a sweep deletes nothing."""

    cause: Cause
    """What kind of thing is wrong."""
    path: str
    """The file or folder at fault; empty where there is none."""
    detail: str
    """What is wrong and what remedies it, in one line."""


@frozen
class Obstacle:
    """Something because of which hmret or the kernel would refuse a deletion."""

    path: str
    """The path at fault, below the data directory."""
    detail: str
    """What is wrong there."""
    is_broken: bool = False
    """Whether the folder holds something other than a plain image; else it merely cannot be removed now."""
    will_pass: bool = False
    """Whether hypeman is at work there, so that the obstacle will disappear."""


def _timers(timers: Mapping[Key, int | None]) -> Timers:
    return Timers.of(timers)


def _index(references: Iterable[Reference]) -> ReferenceIndex:
    return ReferenceIndex.of(references)


@frozen
class Inventory:
    """Everything that `plan` decides on, as it was found on the disk and among the leases.

    The values in it are never changed once an inventory has been made of them.

    Raises:
        InvalidReferenceError: a reference does not parse.
    """

    repositories: Mapping[str, Repository]
    """All repositories, with their images."""
    states: Timers = attrs.field(factory=lambda: Timers({}), converter=_timers)
    """The `unused_since` of each state file, in nanoseconds; None: unset or unreadable."""
    references: ReferenceIndex = attrs.field(factory=lambda: ReferenceIndex((), {}), converter=_index)
    """What guests, snapshots and the embedder's own sources need."""
    remembered: Mapping[tuple[str, str], Remembered] = attrs.field(factory=dict)
    """By repository and tag: the `remembered` of the previous plan."""
    link_times: Mapping[tuple[str, str], int] = attrs.field(factory=dict)
    """By repository and tag: when the link was made, in nanoseconds; needed for the tags of `unseen_tags`."""
    leased: AbstractSet[Key] = frozenset()
    """The keys of the images that a lease covers."""
    suspensions: tuple[Suspension, ...] = ()
    """What was found that suspends deletion."""
    unlisted: tuple[str, ...] = ()
    """Repositories in and below which nothing is known to be gone, so that no state is pruned: a folder was not listed, may
    be hidden behind a link, or is lost. `""`: all.
    """
    unread_sources: AbstractSet[str] = frozenset()
    """Sources that exist but could not be read: what is remembered of them is kept."""
    backing_off: AbstractSet[Key] = frozenset()
    """Images whose deletion failed lately, or would fail."""
    obstacles: Mapping[Key, Obstacle] = attrs.field(factory=dict)
    """What would prevent the deletion of images that are otherwise due."""
    disk: DiskUsage | None = None
    """None: the disk's usage is unknown, and then no watermark applies."""
    contents: ContentOwners = attrs.field(factory=lambda: ContentOwners({}))
    """The owners of each content folder."""
    details: Mapping[str, str] = attrs.field(factory=dict)
    """Further remarks on some images, by digest."""
    builds: Builds = attrs.field(factory=Builds)
    """The images named in the build records of this host."""
    gaps: Gaps = NO_GAPS
    """The periods up to now in which no sweep watched the cache: no retention window counts them."""
    accessed: Mapping[Key, int] = attrs.field(factory=dict)
    """When disks of images that have timers were last read, in nanoseconds, where that was a use that no
    sweep saw.
    """
    fleet: FleetView | None = None
    """What is known of the fleet that this host is part of; None: it is in none."""
    brake_released_images: int = 0
    """The number of expired images up to which the brake is released, by time or by an operator."""

    def holds(self, key: Key) -> bool:
        """Return whether an image is in the cache."""
        repository = self.repositories.get(key[0])
        return repository is not None and key[1] in repository.images

    def is_partial(self, name: str) -> bool:
        """Return whether something of a repository may be here that was not seen."""
        # guard(unlisted-timers-stay): An image below a folder that cannot be listed may still be there, so its
        # timer is not removed like that of one that has gone.
        return any(not folder or name == folder or name.startswith(f"{folder}/") for folder in self.unlisted)
