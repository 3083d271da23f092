"""What is really needed on the simulated host, known without asking the engine, and what the engine may do to it.

Every rename and removal is judged right before it happens, by the numbers of the events in the chronicle:

- A guest or snapshot needs the image that it boots from (not the one that its tag points to by now), from the moment
  at which its metadata was whole. hypeman, which does not ask first, is promised this only where that moment lies
  before the *last look* of the deletion began: the look at all references that is made under the claim to the image.
  Where a deletion makes no last look at all, the moment at which its batch begins to go counts.
- A live lease counts at once; so does a `mark_used` that has returned, for its window, as long as its repository is
  tied to the image; so does a disk that is open.
- Content goes only where every repository that has been tied to it since before that look is allowed.
- A window is over when the true time that was watched says so: neither a wall clock that was set forward counts, nor long
  times without an engine in which the host was up or off. Steps of less than five minutes pass unnoticed, and over a boot
  those that leave the looks before and after it close together, so they are taken off the window.
- A reference that could not be read from before the last look until now, and a jump of the clock that a sweep has
  seen less than an hour ago, suspend every deletion.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator

import attrs
import trio

from hmret.disk.deletion.ghosts import is_parked_ghost
from hmret.disk.layout import (
    HIDDEN_METADATA,
    IMAGES,
    METADATA,
    OWN,
    RETENTION,
    TRASH,
    hex_of,
)
from hmret.model.clock.clock_guard import ClockRecord
from hmret.model.clock.looks import far_apart_ns
from hmret.model.deletion import Deletion
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.patterns import compile_patterns
from hmret.model.references import Key
from hmret.model.times import SECOND, timedelta_nanoseconds
from simulation.cache import ASIDE_PREFIX, IMAGE_PATH, Cache, is_aside_of
from simulation.chronicle import Chronicle
from simulation.clocks import VirtualClock
from simulation.landmarks import (
    ASIDE,
    DATA,
    Hold,
    Need,
    Pulled,
    Tag,
    Window,
    content_of,
    is_in_content,
    path_of,
    repository_of,
    short,
    status_in,
)
from support.memory_filesystem import Call, MemoryFilesystem

__all__ = ["Truth"]

_FIVE_MINUTES_NS = 300 * SECOND
_HOUR_NS = 3600 * SECOND
_INSIDE_IMAGE = re.compile(rf"({DATA}/{IMAGES}/.+/[0-9a-f]{{64}})/(.+)")
_RETIRED_PATH = re.compile(rf"({DATA}/{TRASH}/[^/]+|{DATA}/{IMAGES}/(?:.+/)?\.hmret-[^/]+)/(.+)")
_OURS = (
    *(f"{DATA}/{folder}/" for folder in (IMAGES, RETENTION, OWN)),
    # Where the data directory is moved aside, its engine writes down there what it knew.
    f"{ASIDE}/{OWN}/",
)
_ABOVE_OURS = (f"{DATA}/system", f"{ASIDE}/system")


class Truth(Cache):
    """The checker."""

    def __init__(self, config: RetentionConfig, clock: VirtualClock, chronicle: Chronicle) -> None:
        super().__init__(clock, chronicle)
        self.config = config
        self.needs: dict[str, Need] = {}
        self.unreadable: dict[str, int] = {}
        """Reference files that are not whole or not allowed to be read, each since its event."""
        self.leases: dict[int, Pulled] = {}
        self.holds: list[Hold] = []
        self.disturbed_at = 0
        """The last event at which a call was made to fail, or something was denied."""
        self.denied = 0
        """How many things hmret has no right to now."""
        self.retirements = 0
        self.returned = 0
        """Images that were put back."""
        self.claimed: list[Key] = []
        """Images that are about to be deleted, or were."""
        self.stirred = trio.Event()
        """Set when that changes."""
        self.on_retired: Callable[[Key], None] = lambda key: None
        self.on_gone: Callable[[Key], None] = _ignore
        """Told each image that has left the cache, whether or not it has come again by then."""
        self.has_spoilt_timers = False
        """Whether a timer was made unreadable: it begins anew when that is found, which may be as late as it is due."""
        self.last_allowed: frozenset[str] | None = None
        """The digests that were in hand when deletion was switched off; None: it is on."""
        self.window_ns = timedelta_nanoseconds(config.auto_delete.unused_for)
        self.apart_ns = far_apart_ns(self.window_ns, timedelta_nanoseconds(config.sweep_interval))
        """How far apart two looks must lie for the time between them not to count."""
        self._allowed = compile_patterns(config.auto_delete.allowed)
        self._pinned = compile_patterns(config.pinned)
        self._windows: dict[Key, Window] = {}
        self._untied: dict[Key, int] = {}
        """When a repository lost its last tag to a digest."""
        """By what was asked for."""
        self._pulled: dict[Key, Window] = {}
        """By the folder."""
        self._sweep = self._window("", None)
        """When the last sweep began."""
        self._looks: dict[str, int] = {}
        """By digest."""
        self._last_looks: dict[str, int] = {}
        self._retire_began = 0
        self._last_clocks: ClockRecord | None = None
        self._held_until_ns = -1
        self._pending: tuple[str, str] | None = None
        """The last rename, from and to, or the path of the last erasing, of which the outcome is not known yet."""
        self._forgiven: set[Tag] = set()
        self._judged_at: dict[str, int] = {}

    # What hypeman and the embedder tell.

    def end_pull(self, image: Pulled) -> None:
        """Note that an image has become ready for the first time."""
        image.ready_at = self.chronicle.now
        # What has another folder besides has rows that go on, with their timers.
        is_alone = len(self.folders_of(image.key[1])) == 1 or image.key != content_of(image.key[1])
        is_new = (image.follows_retired and is_alone) or not self._has_timer(image.key)
        if is_new and image.key[1] not in self.unsure:
            # A timer starts with the sweep that writes it, which may have begun before the pull ended.
            self._pulled[image.key] = attrs.evolve(self._sweep, why="pulled afresh", image=image)

    def _has_timer(self, key: Key) -> bool:
        """Tell whether there is a timer of an image: of content, that of any repository."""
        state = f"{DATA}/{RETENTION}/{key[0]}/{hex_of(key[1])}.json"
        if key != content_of(key[1]):
            return self.filesystem.exists(state)
        top = f"{DATA}/{RETENTION}"
        name = f"/{hex_of(key[1])}.json"
        return self.filesystem.exists(top) and any(path.endswith(name) for path in self.filesystem.tree(top))

    def note_tag(self, tag: Tag) -> None:
        """Note that a tag is there."""
        self._forgiven.discard(tag)

    def unlink(self, tag: Tag) -> None:
        """Note that hypeman has removed a tag; a repository that has no other is not promised the image any more."""
        digest = self.tags.get(tag, ("", 0))[0]
        super().unlink(tag)
        key = repository_of(tag), digest
        window = self._windows.get(key)
        is_tied = any((repository_of(one), found) == key for one, (found, _) in self.tags.items())
        if not is_tied:
            self._untied[key] = self.chronicle.now
        image = None if window is None else window.image
        if image is not None and image.key == content_of(digest) and not is_tied:
            del self._windows[key]

    def need(self, source: str, image: Pulled) -> None:
        """Note that the metadata of a guest or a snapshot is whole."""
        self.needs[source] = Need(image, self.chronicle.now)

    def mark(self, key: Key, image: Pulled, began: int) -> None:
        """Note that a `mark_used` of a digest in a repository has returned, which was asked for after `began`.

        Where the repository was untied from the image meanwhile, that use may have come first, and is promised nothing.
        """
        if self._untied.get(key, -1) >= began:
            return
        self._windows[key] = self._window("marked used", image)

    def _window(self, why: str, image: Pulled | None) -> Window:
        clock = self.clock
        return Window(
            why,
            image,
            clock.true_ns(),
            clock.now_ns(),
            clock.jumped_ns,
            clock.unwatched_ns,
            clock.boots,
            clock.advanced_ns(_FIVE_MINUTES_NS),
            clock.advanced_ns(self.apart_ns),
        )

    def some_image(self, rng: random.Random) -> Pulled | None:
        """Draw one of the images that are in their place."""
        self.settle()
        found = [image for image in self.images.values() if image.is_present]
        return rng.choice(found) if found else None

    # What the engine does.

    def begin_life(self) -> None:
        """Note that an engine starts."""
        self.last_allowed = None
        self.on_gone = _ignore
        self._last_clocks = None
        self._held_until_ns = -1
        self._looks.clear()

    def note_look(self, keys: Iterable[Key], began: int) -> None:
        """Note a look at all references that began with an event, made for these images."""
        self.claimed = sorted(keys)
        self.stirred.set()
        self._looks.update((digest, began) for _, digest in self.claimed)

    def note_retire(self, candidates: tuple[Deletion, ...]) -> None:
        """Note that a batch begins to go."""
        self._retire_began = self.chronicle.now
        self.claimed = sorted(key for candidate in candidates for key in candidate.keys)
        self.stirred.set()
        digests = {candidate.digest for candidate in candidates}
        self._last_looks = {digest: self._looks.pop(digest, self._retire_began) for digest in digests}

    def note_clocks(self, record: ClockRecord) -> None:
        """Note what clocks a sweep has read."""
        last, self._last_clocks = self._last_clocks, record
        # By the time it is recorded, the reading is a little old.
        late_ns = self.clock.boot_ns() - record.boot_ns
        now = self._window("", None)
        self._sweep = attrs.evolve(now, true_ns=now.true_ns - late_ns, wall_ns=record.wall_ns)
        if last is not None:
            drift_ns = (record.wall_ns - last.wall_ns) - (record.boot_ns - last.boot_ns)
            if abs(drift_ns) > _FIVE_MINUTES_NS:
                self._held_until_ns = record.boot_ns + _HOUR_NS

    def judge(self, call: Call) -> None:
        """Judge a call that is about to be made; raises `Breach` where it must not be."""
        self.settle()
        match call.name:
            case "rename":
                self._judge_rename(*call.path.split(" -> "))
            case "unlink" | "rmdir":
                self._judge_removal(call.name, call.path)
            case "symlink" | "mkdir" | "write":
                inside = f"{call.path}/".startswith(_OURS) or call.path in _ABOVE_OURS
                self._check(call.path, inside, "wrote")

    def forgive(self, call: Call) -> None:
        """Note that a call was made to fail."""
        self.disturb()
        if call.name in ("symlink", "rename"):
            self._forgiven.add(_tag_of(call.path.rpartition(" -> ")[2]))
        if call.name == "take_lease":
            image = self.image_at(_folder_of(call.path))
            if image is not None:
                for one in self.folders_of(image.key[1]):
                    one.unleased_at = self.chronicle.now
                image.unleased_at = self.chronicle.now

    def disturb(self) -> None:
        """Note that something is in the way of the engine.

        Known, and not held against it: what an error keeps from going along with a retired image stays. A tag
        dangles; a state is inherited by a fresh pull, until the next sweep.
        """
        self.disturbed_at = self.chronicle.now
        recent = {digest for digest, event in self._judged_at.items() if event >= self._retire_began}
        self.unsure |= recent | {image.key[1] for image in self.retired.values()}
        for key in [key for key in self._pulled if key[1] in self.unsure]:
            del self._pulled[key]

    def settle(self) -> None:
        """See what has become of the last rename."""
        if self._pending is None:
            return
        (source, target), self._pending = self._pending, None
        if not target:
            retired = self.retired.get(_folder_of(source))
            if retired is not None and not self.filesystem.exists(source):
                retired.path = ""
            return
        inside = _INSIDE_IMAGE.fullmatch(target)
        if inside is not None:
            self._settle_inside(source, inside[1], inside[2])
            return
        image = self.image_at(source)
        if image is None or self.filesystem.inode(target) != image.inode:
            return
        image.path = target
        if target == path_of(image.key):
            self._settle_return(source, image)
        else:
            self._settle_retired(target, image)

    def _settle_inside(self, source: str, folder: str, name: str) -> None:
        """See whether metadata has been hidden or shown, or a disk has come where hypeman left only metadata."""
        image = self.image_at(folder)
        if image is None or self.filesystem.exists(source) or not self.filesystem.exists(f"{folder}/{name}"):
            return
        if _folder_of(source) == folder:
            image.is_hidden = name == HIDDEN_METADATA
            if image.is_hidden:
                image.batch = self._retire_began
                self.leave_orphans(image)
            else:
                self.adopt_orphans(image, batch=image.batch)
            return
        retired = self.retired.get(_folder_of(source))
        image.files.add(name)
        if retired is not None:
            retired.path = ""
        if image.is_whole and image.status == "ready":
            image.ready_at = self.chronicle.now
            self.returned += 1
            self.adopt_orphans(image, batch=None if retired is None else retired.batch)
            self.tell("brought back the disk of", image)

    def _settle_return(self, source: str, image: Pulled) -> None:
        del self.retired[source]
        self.returned += 1
        self.images[image.key] = image  # a fresh folder that was still empty is replaced
        self.adopt_orphans(image, batch=image.batch)
        self.tell("put back", image)

    def _settle_retired(self, target: str, image: Pulled) -> None:
        self.retired[target] = image
        image.follows_retired = True
        image.batch = self._retire_began
        self.retirements += not image.is_ghost
        self.leave_orphans(image)
        self.tell("retired", image)
        is_too_late = self.last_allowed is not None and image.key[1] not in self.last_allowed
        if is_too_late and not image.is_ghost:
            raise self.chronicle.fail(f"{image.path} went after deletion was switched off")
        self.on_gone(image.key)
        if self.denied:
            self.unsure.add(image.key[1])
        if self.find(*image.key) is None:
            self.on_retired(image.key)

    def _check(self, path: str, holds: object, what: str) -> None:
        if not holds:
            raise self.chronicle.fail(f"hmret {what} {path}")

    def _judge_rename(self, source: str, target: str) -> None:
        self._check(source, source.startswith(_OURS) and target.startswith(_OURS), "renamed")
        inside = _INSIDE_IMAGE.fullmatch(target)
        if inside is not None and self._judge_inside(source, inside[1], inside[2]):
            self._pending = source, target
            return
        goes, comes = IMAGE_PATH.fullmatch(source), IMAGE_PATH.fullmatch(target)
        if goes:
            image = self.image_at(source)
            if image is None and self.filesystem.inode(source) is None:
                return
            if image is None:
                raise self.chronicle.fail(f"hmret retires {source}, which is no image")
            self._check(target, _RETIRED_PATH.fullmatch(f"{target}/x"), "renamed an image to")
            self._judge_retirement(image)
        elif comes:
            retired = self.retired.get(source)
            self._check(source, retired is not None and retired.path, "put back what is not whole,")
        elif self._is_hiding(source, target):
            self._judge_erasing(_folder_of(source))
            self._pending = source, ""
            return
        elif not self._is_setting_aside(source, target):
            is_inside = _INSIDE_IMAGE.fullmatch(source) or source.startswith(f"{DATA}/{IMAGES}/")
            self._check(source, not is_inside, "renamed")
        if goes or comes:
            self._pending = source, target

    def _judge_inside(self, source: str, folder: str, name: str) -> bool:
        """Judge a rename of one file into the folder of an image; returns whether it is one of those that there are."""
        image = self.image_at(folder)
        if image is None:
            return False
        if _folder_of(source) == folder:
            names = source.rpartition("/")[2], name
            if names == (METADATA, HIDDEN_METADATA):
                self._judge_retirement(image)
            return names in ((METADATA, HIDDEN_METADATA), (HIDDEN_METADATA, METADATA))
        retired = _RETIRED_PATH.fullmatch(source)
        # A disk comes to metadata that says that there is one, and never over another.
        is_missing = image.is_ghost or (name not in image.files and image.is_whole)
        return retired is not None and retired[2] == name and is_missing

    def _judge_retirement(self, image: Pulled) -> None:
        if image.is_hidden or (image.is_ghost and image.follows_retired):
            return
        objection = next(self._objections(image, self._last_looks.get(image.key[1], self._retire_began)), "")
        if objection:
            raise self.chronicle.fail(f"hmret retires {short(image.key)}: {objection}")
        self._judged_at[image.key[1]] = self._retire_began

    def _is_hiding(self, source: str, target: str) -> bool:
        """Tell whether the metadata of what was retired beside itself is hidden: then it cannot come back by itself."""
        folder = _folder_of(source)
        is_retired = _RETIRED_PATH.fullmatch(source) is not None
        return is_retired and (source, target) == (f"{folder}/{METADATA}", f"{folder}/{HIDDEN_METADATA}")

    def _is_setting_aside(self, source: str, target: str) -> bool:
        """Tell whether a tag is set aside to be looked at, or comes back: whether it is lost is seen at rest."""
        trash = f"{DATA}/{TRASH}/"
        if source.startswith(trash) or target.startswith(trash):
            tag = target if source.startswith(trash) else source
            if not self.filesystem.exists(source):
                return True
            kind, _ = self.filesystem.tree(_folder_of(source))[source]
            return kind == "link" and not IMAGE_PATH.fullmatch(tag)
        tag, aside = (target, source) if ASIDE_PREFIX in source else (source, target)
        return is_aside_of(aside, tag) and not IMAGE_PATH.fullmatch(tag)

    def _objections(self, image: Pulled, look: int) -> Iterator[str]:
        """Say why an image must not go now."""
        if image.key == content_of(image.key[1]):
            owners = {
                repository_of(tag)
                for tag, (digest, since) in self.tags.items()
                if digest == image.key[1] and is_in_content(tag) and since < look
            }
        else:
            owners = {image.key[0]}
        for owner in sorted(owners):
            if self._pinned.matches(owner) or not self._allowed.matches(owner):
                yield f"{owner} is pinned or not allowed"
        if image.ready_at is None and image.unready_at < look:
            yield "it is not ready"
        for source, need in self.needs.items():
            if need.image is image and need.since < look:
                yield f"{source} has needed it since {need.since}, the last look began at {look}"
        for name, since in self.unreadable.items():
            # What is denied and has been deleted since is absent, which stops nothing.
            is_there = not name.startswith("denied ") or self.filesystem.exists(name.removeprefix("denied "))
            if since < look and is_there:
                yield f"{name} has been unreadable since {since}, the last look began at {look}"
        if image in self.leases.values():
            yield "it is leased"
        if self.clock.boot_ns() < self._held_until_ns:
            yield "a sweep saw the clock jump less than an hour ago"
        for window in (*self._windows.values(), self._pulled.get(image.key)):
            if window is not None and window.image is image and not self._is_over(window):
                yield f"it was {window.why} at {window.true_ns / SECOND:.4f}"
        for hold in self.holds:
            if hold.opened.is_open and self._shares_disk(hold, image) and not self._is_unleased(image):
                yield f"its {hold.file_name} is open"

    def _shares_disk(self, hold: Hold, image: Pulled) -> bool:
        if not image.path or not image.disk:
            return False
        inode = self.filesystem.inode(f"{hold.image.path}/{hold.file_name}") if hold.image.path else None
        return inode is not None and inode == self.filesystem.inode(f"{image.path}/{image.disk}")

    def _is_unleased(self, image: Pulled) -> bool:
        return self.filesystem.lease_error is not None or image.unleased_at > self._retire_began

    def _is_over(self, window: Window) -> bool:
        clock = self.clock
        small_ns = clock.advanced_ns(_FIVE_MINUTES_NS) - window.small_ns
        if clock.boots != window.boots:
            small_ns = max(small_ns, clock.advanced_ns(self.apart_ns) - window.hidden_ns)
        elapsed_ns = clock.true_ns() - window.true_ns - (clock.unwatched_ns - window.unwatched_ns)
        return elapsed_ns + small_ns >= self.window_ns

    def _judge_removal(self, name: str, path: str) -> None:
        retired = _RETIRED_PATH.fullmatch(path)
        if retired is not None:
            self._judge_erasing(retired[1])
            self._pending = path, ""
            return
        self._check(path, path.startswith(_OURS), "removed")
        if not path.startswith(f"{DATA}/{IMAGES}/"):
            return
        inside = _INSIDE_IMAGE.fullmatch(path)
        # The hidden metadata of an image that is shown again, beside a fresh one.
        is_stale = path.endswith(f"/{HIDDEN_METADATA}") and self.filesystem.exists(
            f"{_folder_of(path)}/{METADATA}"
        )
        self._check(path, is_stale or not inside, "removed a part of an image,")
        if name == "unlink":
            image = self.led_to(_tag_of(path))
            self._check(
                path,
                image is None or image.ready_at is None or image.follows_retired,
                "removed a tag of an image that is here,",
            )

    def _judge_erasing(self, path: str) -> None:
        image = self.retired.get(path)
        if image is None or not image.path:
            return  # hmret has begun to erase it before
        fresh = self.filesystem.exists(path_of(image.key))  # then there is no place to put it back to
        if is_parked_ghost(path.rpartition("/")[2]) and not image.is_ghost and not fresh:
            raise self.chronicle.fail(
                f"hmret erases {short(image.key)} as a ghost, and a pull has begun in it"
            )
        for hold in self.holds:
            if hold.image is image and not fresh and not self._is_unleased(image):
                raise self.chronicle.fail(f"hmret erases {short(image.key)}, whose {hold.file_name} is open")

    # What must be true whenever no deletion is under way.

    def check_images(self) -> None:
        """Check that every image is whole or gone, and that hypeman's tags are there."""
        self.check_folders()
        for tag, (digest, _) in self.tags.items():
            if self.led_to(tag) is not None and tag not in self._forgiven:
                path = f"{DATA}/{IMAGES}/{tag[0]}/{tag[1]}"
                # A crash may have left it set aside, for the recovery.
                self._check(
                    path, self.filesystem.exists(path) or self.is_set_aside(tag, digest), "lost the tag"
                )

    def may_go(self, repository: str) -> bool:
        """Tell whether the settings let a repository's images go."""
        return self._allowed.matches(repository) and not self._pinned.matches(repository)

    def check_folders(self) -> None:
        """Check that every image is whole or gone."""
        self.settle()
        for image in self.images.values():
            if image.path == path_of(image.key):
                present = self.filesystem.inode(image.path) == image.inode
                names = image.files - {METADATA} if image.is_hidden else image.files
                whole = all(self.filesystem.exists(f"{image.path}/{name}") for name in names)
                self._check(image.path, present and whole, "left half of")
        tree = self.filesystem.tree(f"{DATA}/{IMAGES}")
        for path, (kind, _) in tree.items():
            if kind == "folder" and IMAGE_PATH.fullmatch(path):
                known = self.image_at(path) is not None
                self._check(path, known or f"{path}/{METADATA}" not in tree, "made")

    def dangling(self) -> list[str]:
        """List the tags that hmret should have removed with their image and has not.

        Known, and not held against it: a tag that was moved to the image after its batch began to go stays behind.
        """
        found: list[str] = []
        for (folder, name), image, since in self.orphans():
            path = f"{DATA}/{IMAGES}/{folder}/{name}"
            digest = image.key[1]
            in_time = since < image.batch and digest not in self.unsure
            # Where a pull has begun and was stopped, the tag was left for it.
            is_begun = self.filesystem.exists(path_of(content_of(digest)))
            if in_time and not is_begun and self.filesystem.exists(path):
                found.append(path)
        return found

    def resume(self, filesystem: MemoryFilesystem, *, lost_power: bool) -> None:
        """Go on with the disk that a crash has left."""
        self.settle()
        self.filesystem = filesystem
        self._pending = None
        self.leases.clear()
        self.denied = 0
        for name in [name for name in self.unreadable if lost_power or name.startswith("denied ")]:
            del self.unreadable[name]
        if lost_power:
            self._take_stock()

    def _take_stock(self) -> None:
        """See which images the disk has after a power loss, by the inodes of their folders."""
        tree = self.filesystem.tree(DATA)
        places = {
            self.filesystem.inode(path): path
            for path, (kind, _) in tree.items()
            if kind == "folder" and (IMAGE_PATH.fullmatch(path) or _RETIRED_PATH.fullmatch(f"{path}/x"))
        }
        for image in (*self.replaced, *(image for image in self.images.values() if not image.path)):
            # Its removal may have been undone, with all that was in it.
            path = f"{path_of(image.key)}/"
            image.files = {name.removeprefix(path) for name in tree if name.startswith(path)}
        everything = {*self.images.values(), *self.retired.values(), *self.replaced}
        self.replaced.clear()
        self.retired.clear()
        for image in sorted(everything, key=lambda image: image.inode):
            path = places.get(image.inode, "")
            here = {name for name in image.files if f"{path}/{name}" in tree}
            was_present = image.is_present
            image.is_hidden = f"{path}/{HIDDEN_METADATA}" in tree
            if image.is_hidden:
                here.add(METADATA)
            if path == path_of(image.key):
                self._check(path, was_present or here == image.files, "left half of")
                name = HIDDEN_METADATA if image.is_hidden else METADATA
                metadata = self.filesystem.read_file(f"{path}/{name}") if METADATA in here else b""
                # Of a pull, the end may be lost.
                image.path, image.files = path, here
                image.status = status_in(metadata)
                is_ready = image.status == "ready" and image.is_whole
                image.ready_at = (image.ready_at or self.chronicle.now) if is_ready else None
                self.images[image.key] = image
            elif path and here == image.files:
                image.path = path
                self.retired[path] = image
            else:
                image.path = ""


def _ignore(_key: Key) -> None:
    """Do nothing about an image that has gone."""


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _tag_of(path: str) -> Tag:
    repository, _, tag = path.removeprefix(f"{DATA}/{IMAGES}/").rpartition("/")
    return repository, tag
