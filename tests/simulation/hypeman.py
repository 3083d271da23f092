"""hypeman, and whoever else works on the host: each piece of work is a generator that yields between its steps.

What it yields is how long it may take until its next step, in seconds. Between two steps anything else can happen,
also in the middle of one of hmret's own system calls.
"""

import json
import random
from collections.abc import Callable

from hmret.disk.layout import IMAGES, METADATA, digest_of, hex_of
from hmret.model.references import Key
from simulation.guests import Guests
from simulation.landmarks import DATA, DISK, QUICK, Pulled, Tag, Work, path_of, short
from simulation.mishaps import Mishaps
from simulation.truth import Truth

__all__ = ["Hypeman"]

_REPOSITORIES = (
    "docker.io/library/alpine",
    "ghcr.io/kernel/x",
    "registry.local:5000/ci",
    "registry.local:5000/ci/build",
)
_TAGS = ("latest", "3.20")
_DIGESTS = tuple(digest_of(letter * 64) for letter in "abcd")


class Hypeman:
    """Everything that happens on the host beside hmret.

    Args:
        truth: told of all that it does.
        rng: decides what it does.
        slow: seconds that its longer works may pause for.
    """

    def __init__(self, truth: Truth, rng: random.Random, slow: float) -> None:
        self._truth = truth
        self._rng = rng
        self._slow = slow
        self._clock_jumps = rng.random() < 0.3
        self._busy: set[Key] = set()
        self._guests = Guests(truth, rng)
        self._mishaps = Mishaps(truth, rng, self._guests.documents, slow)
        self._moving: dict[Tag, str] = {}
        """Tags that have been removed, and what they will point to."""

    # What there is to do.

    def anything(self) -> Work:
        """Begin some work."""
        works: tuple[tuple[int, Callable[[], Work]], ...] = (
            (12, lambda: self.pull(self._some_key(), self._rng.choice(_TAGS))),
            (4, lambda: self.retag(self._some_tag())),
            (5, lambda: self._guests.create(self._some_tag())),
            (4, self._guests.delete),
            (3, self._guests.update),
            (2, self._guests.fork),
            (2, self._guests.snapshot),
            (2, self._guests.delete_snapshot),
            (3, self._mishaps.open_disk),
            (1, self.rebuild),
            (1, self.leave_half),
            (1, self._mishaps.corrupt),
            (1, self._mishaps.deny),
            (1 if self._clock_jumps else 0, self._mishaps.jump),
        )
        return self._rng.choices([work for _, work in works], [weight for weight, _ in works])[0]()

    def around(self, key: Key) -> Work:
        """Begin some work on an image that hmret has in hand."""
        if key[0] not in _REPOSITORIES:
            # It looks for the digest in today's layout too.
            key = self._rng.choice(_REPOSITORIES), key[1]
        tags = [tag for tag, (digest, _) in self._truth.tags.items() if (tag[0], digest) == key]
        tag = self._rng.choice(tags) if tags else (key[0], self._rng.choice(_TAGS))
        image = self._truth.present(*key)
        if image is None:
            return self.pull(key, tag[1])
        works: tuple[Callable[[], Work], ...] = (
            lambda: self._mishaps.open_disk(image),
            lambda: self._mishaps.open_disk(image),
            lambda: self._guests.create(tag, image),
            lambda: self.retag(tag),
            lambda: self.pull(self._other(key), tag[1]),
            lambda: self.rebuild(image),
        )
        return self._rng.choice(works)()

    def start_guest(self, tag: Tag, image: Pulled) -> Work:
        """Create a guest from an image that hmret has said yes to."""
        return self._guests.create(tag, image)

    # Images and tags.

    def pull(self, key: Key, tag: str) -> Work:
        """Pull an image, or only tag it where it is here."""
        if self._truth.present(*key) is None:
            if key in self._busy or self._truth.filesystem.exists(path_of(key)):
                return
            self._busy.add(key)
            yield from self._pull(key)
            self._busy.discard(key)
        yield from self._link((key[0], tag), key[1])

    def _pull(self, key: Key) -> Work:
        path = path_of(key)
        disk = f"{path}/{DISK}"
        self._truth.filesystem.make_folder(path)
        self._truth.begin_pull(key)
        self._tell(f"pulls {short(key)}")
        yield self._pause()
        self._write_metadata(self._pulled(key), "pulling")
        yield self._pause()
        image = self._pulled(key)
        twin = self._twin(key)
        if self._truth.filesystem.exists(disk):
            self._truth.filesystem.remove(disk)
        if twin is not None and self._rng.random() < 0.5:
            self._truth.filesystem.link(f"{twin.path}/{DISK}", disk)
        else:
            self._truth.filesystem.write_file(disk, b"disk", size_bytes=1 << 20)
        image.files.add(DISK)
        yield self._pause()
        image = self._pulled(key)
        self._write_metadata(image, "ready")
        self._truth.end_pull(image)
        self._tell(f"has pulled {short(key)}")
        yield QUICK

    def _pulled(self, key: Key) -> Pulled:
        """Find the image that a pull is about: hmret may have put the old one back into an empty new folder."""
        self._truth.settle()
        image = self._truth.images[key]
        if image.ready_at is not None:
            image.ready_at, image.unready_at = None, self._truth.chronicle.now
            self._write_metadata(image, "pulling")
        return image

    def _twin(self, key: Key) -> Pulled | None:
        """Find an image of the same digest in another repository: its disk can be shared."""
        for repository in _REPOSITORIES:
            image = self._truth.present(repository, key[1])
            if image is not None:
                return image
        return None

    def _write_metadata(self, image: Pulled, status: str) -> None:
        image.created_at = image.created_at or self._truth.clock.now().isoformat()
        name = f"{image.key[0]}@{image.key[1]}"
        metadata = {"name": name, "digest": image.key[1], "status": status}
        metadata["created_at"] = image.created_at
        path = f"{image.path}/{METADATA}"
        self._truth.filesystem.write_file(f"{path}.tmp", json.dumps(metadata).encode())
        self._truth.filesystem.move(f"{path}.tmp", path)
        image.files.add(METADATA)
        image.status = status
        # Where hmret had hidden what there was, it is this that counts from now on.
        image.is_hidden = False

    def rebuild(self, image: Pulled | None = None) -> Work:
        """Have an image converted again: it is not ready meanwhile."""
        image = image or self._truth.some_image(self._rng)
        if image is None or image.key in self._busy or not image.is_present:
            return
        self._busy.add(image.key)
        self._write_metadata(image, "converting")
        image.ready_at, image.unready_at = None, self._truth.chronicle.now
        self._tell(f"rebuilds {short(image.key)}")
        yield self._pause()
        self._truth.settle()
        if image.is_present:
            self._write_metadata(image, "ready")
            image.ready_at = self._truth.chronicle.now
        self._busy.discard(image.key)

    def leave_half(self) -> Work:
        """Leave half an image behind, as a hypeman that was killed does; it is never ready again."""
        key = self._some_key()
        if key in self._busy or self._truth.filesystem.exists(path_of(key)):
            return
        self._busy.add(key)
        self._truth.filesystem.make_folder(path_of(key))
        image = self._truth.begin_pull(key)
        if self._rng.random() < 0.5:
            self._write_metadata(image, "ready")
        else:
            self._truth.filesystem.write_file(f"{image.path}/{DISK}", b"disk")
            image.files.add(DISK)
        self._tell(f"leaves half of {short(key)}")
        yield from ()

    def retag(self, tag: Tag) -> Work:
        """Move a tag to another image of its repository."""
        present = [digest for digest in _DIGESTS if self._truth.present(tag[0], digest)]
        if present:
            yield from self._link(tag, self._rng.choice(present))

    def _link(self, tag: Tag, digest: str) -> Work:
        if self._truth.clock.is_behind:
            return  # the stamps of links and guests would contradict what happened
        path = f"{DATA}/{IMAGES}/{tag[0]}/{tag[1]}"
        self._truth.unlink(tag)
        self._moving[tag] = digest
        if self._truth.filesystem.exists(path):
            self._truth.filesystem.remove(path)
            yield QUICK
        self._moving.pop(tag, None)
        self._truth.filesystem.make_link(path, hex_of(digest))
        self._truth.link(tag, digest)
        self._tell(f"tags {short((tag[0], digest))} as {tag[1]}")

    # Crashes.

    def resume(self, *, lost_power: bool) -> list[Work]:
        """Go on with the disk that a crash has left: everything that had a disk open still has, or all is new.

        Returns what there is to do when it starts again: nothing.
        """
        truth = self._truth
        holds, truth.holds[:] = list(truth.holds), []
        if not lost_power:
            for hold in holds:
                path = f"{hold.image.path}/{hold.file_name}"
                if hold.opened.is_open and hold.image.path and truth.filesystem.exists(path):
                    hold.opened = truth.filesystem.hold_open(path)
                    truth.holds.append(hold)
            return []
        self._busy = {key for key, image in truth.images.items() if image.path and image.ready_at is None}
        self._finish_moves()
        self._guests.resume()
        for tag, (digest, _) in list(truth.tags.items()):
            image = truth.images.get((tag[0], digest))
            path = f"{DATA}/{IMAGES}/{tag[0]}/{tag[1]}"
            if image is not None and image.is_present:
                self._make_link(tag, digest)
            else:
                truth.unlink(tag)
                if truth.filesystem.exists(path):
                    truth.filesystem.remove(path)
        truth.filesystem.sync()
        return []

    def _finish_moves(self) -> None:
        """Make the tags that a hypeman which was stopped had only removed yet, as it does when it starts."""
        for tag, digest in self._moving.items():
            self._make_link(tag, digest)
            self._truth.link(tag, digest)
        self._moving.clear()

    def _make_link(self, tag: Tag, digest: str) -> None:
        """Make a link after a reboot; as with `_link`, its stamp must not lie before what has happened."""
        path = f"{DATA}/{IMAGES}/{tag[0]}/{tag[1]}"
        self._truth.filesystem.make_link(path, hex_of(digest))
        self._truth.filesystem.set_mtime(path, self._truth.clock.highest_ns)

    def leave(self, *, everything: bool) -> None:
        """Stop using things: close all disks, and with `everything` delete all guests and snapshots."""
        self._finish_moves()
        for hold in self._truth.holds:
            hold.opened.close()
        self._truth.holds.clear()
        self._guests.leave(everything=everything)

    def named(self) -> set[str]:
        """List the repositories that a guest or a snapshot names."""
        return self._guests.named()

    # Choices.

    def _tell(self, event: str) -> None:
        self._truth.chronicle.tell(f"hypeman {event}")

    def _pause(self) -> float:
        return self._rng.choice((QUICK, self._slow, self._slow * self._rng.random()))

    def _some_key(self) -> Key:
        return self._rng.choice(_REPOSITORIES), self._rng.choice(_DIGESTS)

    def _other(self, key: Key) -> Key:
        return key[0], self._rng.choice(_DIGESTS)

    def _some_tag(self) -> Tag:
        return self._rng.choice(_REPOSITORIES), self._rng.choice(_TAGS)
