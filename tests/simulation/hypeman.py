"""hypeman, and whoever else works on the host: each piece of work is a generator that yields between its steps.

What it yields is how long it may take until its next step, in seconds. Between two steps anything else can happen,
also in the middle of one of hmret's own system calls.
"""

import errno
import json
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from hmret.disk.layout import DIGEST_HEX, IMAGES, METADATA, OWN, RETENTION, digest_of, hex_of
from hmret.model.images import Key
from hmret.model.times import SECOND
from simulation.truth import DATA, Hold, Pulled, Tag, Truth, path_of

__all__ = ["REPOSITORIES", "Hypeman", "Work"]

Work = Iterator[float]

REPOSITORIES = (
    "docker.io/library/alpine",
    "ghcr.io/kernel/x",
    "registry.local:5000/ci",
    "registry.local:5000/ci/build",
)
_TAGS = ("latest", "3.20")
_DIGESTS = tuple(digest_of(letter * 64) for letter in "abcd")
_DISK = "rootfs.ext4"

_MOST_GUESTS = 4  # beside twelve images or more: most of them are for hmret to take

_QUICK = 0.02
"""Seconds between two steps that hypeman makes in one go; hmret waits longer than that for a torn file."""


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
        self._guests: dict[str, Pulled] = {}
        """Those that run, and what from."""
        self._documents: dict[str, tuple[str, bytes]] = {}
        """By source: where its reference file is and what is in it, whole."""
        self._moving: dict[Tag, str] = {}
        """Tags that have been removed, and what they will point to."""
        self._count = 0

    # What there is to do.

    def anything(self) -> Work:
        """Begin some work."""
        works: tuple[tuple[int, Callable[[], Work]], ...] = (
            (12, lambda: self.pull(self._some_key(), self._rng.choice(_TAGS))),
            (4, lambda: self.retag(self._some_tag())),
            (5, lambda: self.create_guest(self._some_tag())),
            (4, self.delete_guest),
            (3, self.update_guest),
            (2, self.snapshot),
            (2, self.delete_snapshot),
            (3, self.open_disk),
            (1, self.rebuild),
            (1, self.leave_half),
            (1, self.corrupt),
            (1, self.deny),
            (1 if self._clock_jumps else 0, self.jump),
        )
        return self._rng.choices([work for _, work in works], [weight for weight, _ in works])[0]()

    def around(self, key: Key) -> Work:
        """Begin some work on an image that hmret has in hand."""
        tags = [tag for tag, (digest, _) in self._truth.tags.items() if (tag[0], digest) == key]
        tag = self._rng.choice(tags) if tags else (key[0], self._rng.choice(_TAGS))
        image = self._truth.present(key)
        if image is None:
            return self.pull(key, tag[1])
        works: tuple[Callable[[], Work], ...] = (
            lambda: self.open_disk(image),
            lambda: self.open_disk(image),
            lambda: self.create_guest(tag, image),
            lambda: self.retag(tag),
            lambda: self.pull(self._other(key), tag[1]),
            lambda: self.rebuild(image),
        )
        return self._rng.choice(works)()

    # Images and tags.

    def pull(self, key: Key, tag: str) -> Work:
        """Pull an image, or only tag it where it is here."""
        if self._truth.present(key) is None:
            if key in self._busy or self._truth.filesystem.exists(path_of(key)):
                return
            self._busy.add(key)
            yield from self._pull(key)
            self._busy.discard(key)
        yield from self._link((key[0], tag), key[1])

    def _pull(self, key: Key) -> Work:
        path = path_of(key)
        disk = f"{path}/{_DISK}"
        self._truth.filesystem.make_folder(path)
        self._truth.begin_pull(key)
        self._tell(f"pulls {_short(key)}")
        yield self._pause()
        self._write_metadata(self._pulled(key), "pulling")
        yield self._pause()
        image = self._pulled(key)
        twin = self._twin(key)
        if self._truth.filesystem.exists(disk):
            self._truth.filesystem.remove(disk)
        if twin is not None and self._rng.random() < 0.5:
            self._truth.filesystem.link(f"{twin.path}/{_DISK}", disk)
        else:
            self._truth.filesystem.write_file(disk, b"disk", size_bytes=1 << 20)
        image.files.add(_DISK)
        yield self._pause()
        image = self._pulled(key)
        self._write_metadata(image, "ready")
        self._truth.end_pull(image)
        self._tell(f"has pulled {_short(key)}")
        yield _QUICK

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
        for repository in REPOSITORIES:
            image = self._truth.present((repository, key[1]))
            if image is not None:
                return image
        return None

    def _write_metadata(self, image: Pulled, status: str) -> None:
        image.created_at = image.created_at or self._now().isoformat()
        name = f"{image.key[0]}@{image.key[1]}"
        metadata = {"name": name, "digest": image.key[1], "status": status}
        metadata["created_at"] = image.created_at
        path = f"{image.path}/{METADATA}"
        self._truth.filesystem.write_file(f"{path}.tmp", json.dumps(metadata).encode())
        self._truth.filesystem.move(f"{path}.tmp", path)
        image.files.add(METADATA)

    def rebuild(self, image: Pulled | None = None) -> Work:
        """Have an image converted again: it is not ready meanwhile."""
        image = image or self._some_image()
        if image is None or image.key in self._busy or not image.is_present:
            return
        self._busy.add(image.key)
        self._write_metadata(image, "converting")
        image.ready_at, image.unready_at = None, self._truth.chronicle.now
        self._tell(f"rebuilds {_short(image.key)}")
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
            self._truth.filesystem.write_file(f"{image.path}/{_DISK}", b"disk")
            image.files.add(_DISK)
        self._tell(f"leaves half of {_short(key)}")
        yield from ()

    def retag(self, tag: Tag) -> Work:
        """Move a tag to another image of its repository."""
        present = [digest for digest in _DIGESTS if self._truth.present((tag[0], digest))]
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
            yield _QUICK
        self._moving.pop(tag, None)
        self._truth.filesystem.make_link(path, hex_of(digest))
        self._truth.link(tag, digest)
        self._tell(f"tags {_short((tag[0], digest))} as {tag[1]}")

    # Guests and snapshots.

    def create_guest(self, tag: Tag, image: Pulled | None = None) -> Work:
        """Create a guest; without asking hmret, unless `image` is what it said yes to."""
        if len(self._guests) >= _MOST_GUESTS:
            return
        digest = self._truth.tags.get(tag, ("", 0))[0]
        image = image or self._truth.present((tag[0], digest))
        if image is None or not image.is_present:
            return
        by_tag = (
            (tag[0], digest) == image.key and not self._truth.clock.is_behind and self._rng.random() < 0.7
        )
        text = f"{tag[0]}:{tag[1]}" if by_tag else f"{tag[0]}@{image.key[1]}"
        self._count += 1
        source = f"instance/vm-{self._count}"
        guest = {"Id": f"vm-{self._count}", "HypervisorPID": 0, "Image": text}
        if by_tag and self._rng.random() < 0.5:
            guest["ResolvedImage"] = f"{tag[0]}@{image.key[1]}"
        # Go reads the clock after it has found the image, and keeps nine digits of it.
        guest["CreatedAt"] = self._now().isoformat()
        path = f"{DATA}/guests/vm-{self._count}"
        self._truth.filesystem.make_folder(path)
        yield self._rng.choice((_QUICK, _QUICK, 1.0))
        yield from self._write(source, f"{path}/{METADATA}", json.dumps(guest).encode())
        self._truth.settle()
        if image.is_present:
            self._truth.need(source, image)
            self._guests[source] = image
            self._tell(f"has created {source} by {text} on {_short(image.key)}")
        else:
            self._tell(f"cannot start {source}: {_short(image.key)} is gone")
            yield from self._remove(source)

    def update_guest(self) -> Work:
        """Write a guest's metadata anew, in place."""
        source = self._some(self._guests)
        if source is None or source in self._truth.unreadable:
            return
        path, content = self._documents[source]
        guest = json.loads(content)
        guest["HypervisorPID"] = self._rng.randrange(1 << 22)
        yield from self._write(source, path, json.dumps(guest).encode())

    def delete_guest(self) -> Work:
        """Delete a guest."""
        source = self._some(self._guests)
        if source is None or source in self._truth.unreadable:
            return
        self._tell(f"deletes {source}")
        yield from self._remove(source)

    def snapshot(self) -> Work:
        """Make a snapshot of a guest."""
        source = self._some(self._guests)
        if source is None:
            return
        image = self._guests[source]
        self._count += 1
        name = f"snapshot/s-{self._count}"
        stored = json.loads(self._documents[source][1])
        content = json.dumps({"snapshot": {"id": f"s-{self._count}"}, "stored_metadata": stored}).encode()
        path = f"{DATA}/snapshots/s-{self._count}"
        self._truth.filesystem.make_folder(path)
        yield from self._write(name, f"{path}/snapshot.json", content)
        if self._truth.needs.get(source) is not None and image.is_present:
            self._truth.need(name, image)
            self._tell(f"has made {name} of {source}")
        else:
            yield from self._remove(name)

    def delete_snapshot(self) -> Work:
        """Delete a snapshot."""
        source = self._some([name for name in self._documents if name.startswith("snapshot/")])
        if source is not None and source in self._truth.needs:
            self._tell(f"deletes {source}")
            yield from self._remove(source)

    def _write(self, source: str, path: str, content: bytes) -> Work:
        """Write in place: for a moment the file is empty, and then torn."""
        truth = self._truth
        self._documents[source] = path, content
        truth.filesystem.write_file(path, b"")
        truth.unreadable[source] = truth.chronicle.now
        if self._rng.random() < 0.5:
            yield _QUICK
            if source not in self._documents:
                return
        truth.filesystem.write_file(path, content[: self._rng.randrange(len(content))])
        yield _QUICK if self._rng.random() < 0.9 else 2.0
        if source in self._documents:
            truth.filesystem.write_file(path, content)
            truth.unreadable.pop(source, None)

    def _remove(self, source: str) -> Work:
        path, _ = self._documents.pop(source, ("", b""))
        self._truth.needs.pop(source, None)
        self._guests.pop(source, None)
        self._truth.unreadable.pop(source, None)
        if not path:
            return
        self._truth.filesystem.remove(path)
        yield _QUICK
        self._truth.filesystem.remove(path.rpartition("/")[0])

    # Processes, operators, clocks.

    def open_disk(self, image: Pulled | None = None) -> Work:
        """Open a disk as any process may, and close it again some time later."""
        image = image or self._some_image()
        if image is None or not image.is_present or _DISK not in image.files:
            return
        hold = Hold(image, _DISK, self._truth.filesystem.begin_open(f"{image.path}/{_DISK}"))
        self._truth.holds.append(hold)
        self._tell(f"{'opens' if hold.opened.is_open else 'waits to open'} {_short(image.key)}")
        yield self._rng.choice((_QUICK, self._slow, 3 * self._slow))
        hold.opened.close()
        if hold in self._truth.holds:
            self._truth.holds.remove(hold)

    def corrupt(self) -> Work:
        """Spoil one of hmret's files; the lock file is no record."""
        tree = self._truth.filesystem.tree(f"{DATA}/system")
        records = [f"{DATA}/{OWN}/clock.json", f"{DATA}/{OWN}/references.json"]
        files = [
            path
            for path, (kind, _) in tree.items()
            if kind == "file" and (path in records or path.startswith(f"{DATA}/{RETENTION}/"))
        ]
        if files:
            path = self._rng.choice(files)
            self._truth.filesystem.write_file(
                path, self._rng.choice((b"", b"{", b"null", b'{"digest": 1}', b"\xff"))
            )
            self._tell(f"spoils {path}")
        yield from ()

    def deny(self) -> Work:
        """Take the right to something away for a while."""
        disk = self._truth.filesystem
        tree = disk.tree(DATA)
        paths = [path for path, (kind, _) in tree.items() if kind != "file"]
        paths += [path for _, (path, _) in self._documents.items() if path in tree]
        path = self._rng.choice(paths)
        disk.deny(path, self._rng.choice((errno.EACCES, errno.EIO)))
        self._truth.denied += 1
        self._truth.disturb()
        name = f"denied {path}"
        if path in (f"{DATA}/guests", f"{DATA}/snapshots") or any(
            path == document or path == document.rpartition("/")[0]
            for document, _ in self._documents.values()
        ):
            self._truth.unreadable[name] = self._truth.chronicle.now
        self._tell(f"denies {path}")
        yield self._pause()
        self._truth.unreadable.pop(name, None)
        self._truth.denied -= 1
        self._truth.disturb()
        if disk is self._truth.filesystem and disk.exists(path.rpartition("/")[0]):
            disk.allow(path)
        self._tell(f"allows {path}")

    def jump(self) -> Work:
        """Set the wall clock, and perhaps set it right again."""
        by = self._rng.choice((-7200, -200, 200, 3600, 86400, 30 * 86400))
        self._truth.clock.jump(by * SECOND)
        self._tell(f"sets the clock by {by} s")
        yield self._rng.choice((self._slow, 4 * self._slow))
        if self._rng.random() < 0.7:
            self._truth.clock.jump(-by * SECOND)
            self._tell(f"sets the clock by {-by} s")

    # Crashes.

    def resume(self, *, lost_power: bool) -> None:
        """Go on with the disk that a crash has left: everything that had a disk open still has, or all is new."""
        truth = self._truth
        holds, truth.holds[:] = list(truth.holds), []
        if not lost_power:
            for hold in holds:
                path = f"{hold.image.path}/{hold.file_name}"
                if hold.opened.is_open and hold.image.path and truth.filesystem.exists(path):
                    hold.opened = truth.filesystem.hold_open(path)
                    truth.holds.append(hold)
            return
        self._busy = {key for key, image in truth.images.items() if image.path and image.ready_at is None}
        for source in list(self._documents):
            path, content = self._documents[source]
            whole = truth.filesystem.exists(path) and truth.filesystem.read_file(path) == content
            if not whole or source not in truth.needs:
                self._forget(source)
        self._finish_moves()
        known = {path.rpartition("/")[0] for path, _ in self._documents.values()}
        for folder in (f"{DATA}/guests", f"{DATA}/snapshots"):
            for path, (kind, _) in truth.filesystem.tree(folder).items():
                if kind == "folder" and path not in known:
                    truth.filesystem.remove(path)  # it was deleted, and has come back
        for tag, (digest, _) in list(truth.tags.items()):
            image = truth.images.get((tag[0], digest))
            path = f"{DATA}/{IMAGES}/{tag[0]}/{tag[1]}"
            if image is not None and image.is_present:
                truth.filesystem.make_link(path, hex_of(digest))
            else:
                truth.unlink(tag)
                if truth.filesystem.exists(path):
                    truth.filesystem.remove(path)
        truth.filesystem.sync()

    def _finish_moves(self) -> None:
        """Make the tags that a hypeman which was stopped had only removed yet, as it does when it starts."""
        for tag, digest in self._moving.items():
            self._truth.filesystem.make_link(f"{DATA}/{IMAGES}/{tag[0]}/{tag[1]}", hex_of(digest))
            self._truth.link(tag, digest)
        self._moving.clear()

    def _forget(self, source: str) -> None:
        """Remove what a power loss has left of a guest, as hypeman does when it starts."""
        path, _ = self._documents.pop(source)
        folder = path.rpartition("/")[0]
        if self._truth.filesystem.exists(folder):
            self._truth.filesystem.remove(folder)
        self._truth.needs.pop(source, None)
        self._guests.pop(source, None)

    def leave(self, *, everything: bool) -> None:
        """Stop using things: close all disks, and with `everything` delete all guests and snapshots."""
        self._finish_moves()
        for hold in self._truth.holds:
            hold.opened.close()
        self._truth.holds.clear()
        for source, (path, content) in list(self._documents.items()):
            if everything or source not in self._truth.needs:
                self._forget(source)
            else:
                self._truth.filesystem.write_file(path, content)
        self._truth.unreadable.clear()

    # Choices.

    def _tell(self, event: str) -> None:
        self._truth.chronicle.tell(f"hypeman {event}")

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._truth.clock.now_ns() / 1e9, UTC)

    def _pause(self) -> float:
        return self._rng.choice((_QUICK, self._slow, self._slow * self._rng.random()))

    def _some(self, names: Iterable[str]) -> str | None:
        found = list(names)
        return self._rng.choice(found) if found else None

    def _some_key(self) -> Key:
        return self._rng.choice(REPOSITORIES), self._rng.choice(_DIGESTS)

    def _other(self, key: Key) -> Key:
        return key[0], self._rng.choice(_DIGESTS)

    def _some_tag(self) -> Tag:
        return self._rng.choice(REPOSITORIES), self._rng.choice(_TAGS)

    def _some_image(self) -> Pulled | None:
        self._truth.settle()
        found = [image for image in self._truth.images.values() if image.is_present]
        return self._rng.choice(found) if found else None


def _short(key: Key) -> str:
    assert DIGEST_HEX.fullmatch(hex_of(key[1]))
    return f"{key[0]}@{hex_of(key[1])[:4]}"
