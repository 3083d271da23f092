"""Data directories as hypeman leaves them, and as they must never be, made from a seed.

`build_tree` writes a whole directory: the same shape, seed and time always give the same names, bytes and link
times. Of every kind of image, state, guest and snapshot that this module knows there is at least one as soon as
the shape has room for it. All times are relative to `now` and to the shape's `unused_for`.
"""

import json
import os
import pathlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from support.timer_ages import age_timers

__all__ = ["SHAPES", "Shape", "build_tree"]

ROOTFS = ("rootfs.ext4", "rootfs.erofs")
DISK_BYTES = 2048
SPARSE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much of what a directory holds."""

    repositories: int = 18
    """Ordinary repositories; `oddities` adds a few of its own."""
    images: tuple[int, int] = (1, 8)
    """Fewest and most images in one repository."""
    tags: tuple[int, int] = (0, 3)
    """Fewest and most tags that point to one image."""
    whole: float = 0.75
    """Share of images that are ready and whole; the rest goes through all that can be wrong with one."""
    stated: float = 0.8
    """Share of images that have a state file; these go through all kinds of state."""
    guests: int = 27
    """Guests; these go through all kinds of guest."""
    snapshots: int = 8
    """Snapshots; these go through all kinds of snapshot."""
    gone_states: int = 4
    """States of images that are gone."""
    dangling_tags: int = 3
    """Tags that point to digests that are not here."""
    unreadable: int = 0
    """Guests and snapshots that cannot be read: torn, mistyped, or with a text that is no reference."""
    oddities: bool = True
    """What no repository has of today's layout, staging folders, nested and 64-hex repositories, and what is no
    repository at all."""
    hiding: bool = False
    """Whether what a repository's folder could be is a link to a folder; needs `oddities`."""
    unused_for: timedelta = timedelta(hours=720)
    """The window that states lie within, at the edge of and beyond."""


SHAPES: Mapping[str, Shape] = {
    "ordinary": Shape(),
    "many repositories": Shape(repositories=60, images=(0, 3), guests=30),
    "few repositories": Shape(repositories=5, images=(18, 28), tags=(1, 4), guests=28),
    "idle": Shape(guests=0, snapshots=0, whole=0.95),
    "broken": Shape(whole=0.4, guests=8, snapshots=4),
    "plain": Shape(whole=1.0, oddities=False, gone_states=0, dangling_tags=0),
    "unreadable": Shape(unreadable=2),
    "hiding": Shape(hiding=True),
}
"""Shapes by name; all but `unreadable` hold only references that can be read."""

HOSTS = (
    "docker.io/library/app-{}",
    "ghcr.io/kernel/hypeman-{}",
    "docker.io/team/app_{}",
    "registry.local:5000/ci/build-{}",
    "Registry.Example:8443/ci/tool-{}",
    "quay.io/team/sub/svc-{}",
    "localhost/dev-{}",
    "UPPER/dev-{}",
    "ghcr.io/kernel/hypeman-1/debug-{}",
)

IMAGES = (
    "pending",
    "pulling",
    "converting",
    "failed",
    "not ready, another digest",
    "no rootfs",
    "link for a rootfs",
    "folder for a rootfs",
    "no metadata",
    "another digest",
    "another repository",
    "torn",
    "empty",
    "no status",
    "status of an odd type",
    "no object",
)

DISKS = ("ext4", "erofs", "both", "sparse", "shared")

STATES = (
    *("within",) * 2,
    *("due",) * 5,
    "boundary",
    "boundary, one nanosecond short",
    "unset",
    "absent",
    "null",
    "nine digits",
    "offset",
    "corrupt",
    "empty",
    "another digest",
    "another repository",
    "no time",
    "far in the future",
    "at the edge of the future",
    "near in the future",
    "long due",
)

GUESTS = (
    "by tag",
    "by digest",
    "resolved only",
    "by tag and resolved",
    "lower-case key",
    "both cases",
    "by tag, sixty fields",
    "fields of odd types",
    "no metadata",
    "no folder",
    "empty image",
    "null image",
    "no creation time",
    "odd creation time",
    "nine digits",
    "linked folder",
    "familiar name",
    "tag and digest",
    "resolved by tag",
    "resolved is empty",
    "by tag, moved",
    "by tag, at the same instant",
    "stale repository",
    "stale digest",
    "stale tag",
    "dangling tag",
    "resolved is stale",
)

SNAPSHOTS = (
    "by tag",
    "by digest",
    "null",
    "absent",
    "by tag and resolved",
    "no metadata",
    "stale digest",
    "odd-case key",
)

UNREADABLE = (
    "torn guest",
    "empty guest",
    "mistyped image",
    "mistyped resolved image",
    "no reference",
    "no object",
    "torn snapshot",
    "mistyped snapshot",
)


def build_tree(root: pathlib.Path, shape: Shape, seed: int, now: datetime) -> None:
    """Write a data directory; `root` may be there already, and empty."""
    _Builder(root, shape, random.Random(seed), now).build()
    age_timers(root, seed, now)


def _text_of(moment: datetime, digits: int = 6, extra: str = "") -> str:
    """Write a time in UTC with so many digits of its microseconds, and the digits beyond them as they are given."""
    moment = moment.astimezone(UTC)
    fraction = f"{moment.microsecond:06d}"[:digits] + extra
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + (f".{fraction}" if fraction else "") + "Z"


def _nanoseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _write(path: pathlib.Path, fields: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields, indent=2))


def _tear(path: pathlib.Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


class _Wheel:
    """Gives each of some kinds once, in a shuffled order, then all of them again."""

    def __init__(self, kinds: tuple[str, ...], chance: random.Random) -> None:
        self._kinds = kinds
        self._chance = chance
        self._left: list[str] = []

    def turn(self) -> str:
        if not self._left:
            self._left = self._chance.sample(self._kinds, len(self._kinds))
        return self._left.pop()


@dataclass(frozen=True)
class _Made:
    """An image that stands in the tree."""

    repository: str
    hex: str
    created: datetime
    tags: tuple[str, ...]

    @property
    def digest(self) -> str:
        return f"sha256:{self.hex}"


class _Builder:
    def __init__(self, root: pathlib.Path, shape: Shape, chance: random.Random, now: datetime) -> None:
        self.root = root
        self.shape = shape
        self.chance = chance
        self.now = now
        self.images: list[_Made] = []
        self.links: dict[tuple[str, str], datetime] = {}
        self.shareable: list[pathlib.Path] = []
        self.disks = _Wheel(DISKS, chance)
        self.wrongs = _Wheel(IMAGES, chance)
        self.states = _Wheel(STATES, chance)
        self.latest: set[str] = set()
        self.guest_count = 0

    def build(self) -> None:
        for folder in ("images", "guests", "snapshots", "system/image-retention"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(self.shape.repositories):
            self.repository(
                HOSTS[number % len(HOSTS)].format(number), self.chance.randint(*self.shape.images)
            )
        if self.shape.oddities:
            self.oddities()
        for made in self.images:
            if self.chance.random() < self.shape.stated:
                self.state(made.repository, made.hex, self.states.turn())
        for _ in range(self.shape.gone_states):
            repository = self.chance.choice([self.any_repository(), "docker.io/library/gone"])
            self.state(repository, self.hex(), self.states.turn())
        for number in range(self.shape.dangling_tags):
            self.tag(self.any_repository(), f"dangling-{number}", self.hex(), self.past())
        if self.images:
            self.references()

    def references(self) -> None:
        guests = _Wheel(GUESTS, self.chance)
        for _ in range(self.shape.guests):
            self.guest(guests.turn())
        snapshots = _Wheel(SNAPSHOTS, self.chance)
        for _ in range(self.shape.snapshots):
            self.snapshot(snapshots.turn())
        unreadable = _Wheel(UNREADABLE, self.chance)
        for _ in range(self.shape.unreadable):
            self.unreadable(unreadable.turn())

    # What chance gives.

    def hex(self) -> str:
        return f"{self.chance.getrandbits(256):064x}"

    def name(self) -> str:
        return "".join(self.chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=24))

    def past(self, days: int = 200) -> datetime:
        return self.now - timedelta(microseconds=self.chance.randrange(1, days * 86_400_000_000))

    def any_repository(self) -> str:
        return self.chance.choice(self.images).repository if self.images else "docker.io/library/app-0"

    def any_image(self) -> _Made:
        return self.chance.choice(self.images)

    def tagged_image(self) -> _Made:
        return self.chance.choice([made for made in self.images if made.tags] or self.images)

    # Images.

    def repository(self, name: str, count: int) -> None:
        for _ in range(count):
            wrong = "" if self.chance.random() < self.shape.whole else self.wrongs.turn()
            shared = [made.hex for made in self.images if made.repository != name]
            again = shared and self.chance.random() < 0.1
            self.image(name, self.chance.choice(shared) if again else self.hex(), wrong)

    def image(self, repository: str, hex_digits: str, wrong: str = "") -> None:
        folder = self.root / "images" / repository / hex_digits
        if folder.exists():
            return
        created = self.past(900)
        tags = []
        for _ in range(self.chance.randint(*self.shape.tags)):
            tag = self.fresh_tag(repository)
            moved = self.chance.random() < 0.25
            self.tag(repository, tag, hex_digits, self.past(150) if moved else created)
            tags.append(tag)
        made = _Made(repository, hex_digits, created, tuple(tags))
        self.images.append(made)
        folder.mkdir(parents=True)
        _write(folder / "metadata.json", self.metadata(made))
        self.disk(folder)
        if wrong:
            self.spoil(folder, made, wrong)

    def fresh_tag(self, repository: str) -> str:
        if repository not in self.latest and self.chance.random() < 0.5:
            self.latest.add(repository)
            return "latest"
        return f"{self.chance.choice(['v', 'T', '_', '3.'])}{self.chance.randrange(10**6)}"

    def tag(self, repository: str, tag: str, hex_digits: str, made: datetime) -> None:
        link = self.root / "images" / repository / tag
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(hex_digits)
        os.utime(link, ns=(_nanoseconds(made),) * 2, follow_symlinks=False)
        self.links[repository, tag] = made

    def metadata(self, made: _Made) -> dict[str, Any]:
        by_tag = f"{made.repository}:{made.tags[0]}" if made.tags else f"{made.repository}@{made.digest}"
        created: list[object] = [_text_of(made.created)] * 8
        created += [
            _text_of(made.created, 6, "123"),
            _text_of(made.created, 0),
            None,
            1780000000,
            "yesterday",
        ]
        fields = {
            "name": by_tag,
            "digest": made.digest,
            "status": "ready",
            "request": {"Name": by_tag},
            "size_bytes": self.chance.randrange(10**10),
            "entrypoint": ["/usr/local/bin/docker-entrypoint.sh"],
            "cmd": ["node", "server.js", "--port", "8080"],
            "env": {
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
            },
            "working_dir": "/app",
            "created_at": self.chance.choice(created),
        }
        return {key: value for key, value in fields.items() if value is not None}

    def disk(self, folder: pathlib.Path) -> None:
        kind = self.disks.turn()
        path = folder / ROOTFS[kind == "erofs"]
        if kind == "shared" and self.shareable:
            source = self.chance.choice(self.shareable)
            path = folder / source.name
            path.hardlink_to(source)
        else:
            path.write_bytes(self.chance.randbytes(DISK_BYTES))
        if kind == "sparse":
            os.truncate(path, SPARSE_BYTES)
        if kind == "both":
            (folder / ROOTFS[1]).write_bytes(self.chance.randbytes(DISK_BYTES))
        self.shareable.append(path)

    def spoil(self, folder: pathlib.Path, made: _Made, wrong: str) -> None:
        metadata = folder / "metadata.json"
        fields = self.metadata(made)
        if wrong in ("no rootfs", "link for a rootfs", "folder for a rootfs") or (
            wrong in ("pending", "pulling") and self.chance.random() < 0.7
        ):
            for name in ROOTFS:
                (folder / name).unlink(missing_ok=True)
            self.shareable = [path for path in self.shareable if path.parent != folder]
        if wrong in ("pending", "pulling", "converting", "failed"):
            _write(
                metadata, fields | {"status": wrong, "error": "no such host" if wrong == "failed" else None}
            )
        elif wrong == "not ready, another digest":
            _write(metadata, fields | {"status": "pulling", "digest": f"sha256:{self.hex()}"})
        elif wrong == "link for a rootfs":
            (folder / ROOTFS[0]).symlink_to("/dev/null")
        elif wrong == "folder for a rootfs":
            (folder / ROOTFS[0]).mkdir()
        elif wrong == "no metadata":
            metadata.unlink()
        elif wrong == "another digest":
            _write(metadata, fields | {"digest": f"sha256:{self.hex()}"})
        elif wrong == "another repository":
            _write(metadata, fields | {"name": "docker.io/library/another:latest"})
        elif wrong == "torn":
            _tear(metadata, self.chance.uniform(0.1, 0.9))
        elif wrong == "empty":
            metadata.write_bytes(b"")
        elif wrong == "no status":
            _write(metadata, {key: value for key, value in fields.items() if key != "status"})
        elif wrong == "status of an odd type":
            _write(metadata, fields | {"status": 7})
        elif wrong == "no object":
            _write(metadata, ["ready"])

    def oddities(self) -> None:
        images = self.root / "images"
        self.repository(f"docker.io/library/{self.hex()}", 2)  # a repository that looks like a digest folder
        self.repository("ghcr.io/kernel/hypeman-1", 2)  # has other repositories below it
        (images / "docker.io/library" / self.hex()).mkdir(parents=True, exist_ok=True)
        (images / "docker.io/library/void").mkdir(exist_ok=True)
        (images / "docker.io/library/note.txt").write_text("not an image\n")
        (images / "docker.io/library/.hidden").mkdir(exist_ok=True)
        # Of today's layout: content that no repository has, and a tag that leads nowhere. Neither is a row.
        today = self.hex()
        _write(images / "content" / today / "metadata.json", {"digest": f"sha256:{today}", "status": "ready"})
        (images / "content" / today / ROOTFS[1]).write_bytes(b"today")
        link = images / "repositories/docker.io/library/today/latest"
        link.parent.mkdir(parents=True)
        link.symlink_to(f"../../../../../content/{self.hex()}")
        (images / "layers" / self.hex()).mkdir(parents=True)
        self.apart("content/docker.io/library/app")
        for staging in (".unpack-x", ".install-x", ".tag-stage-x"):
            (images / staging).mkdir()
            (images / staging / ROOTFS[0]).write_bytes(b"half")
        self.apart("docker.io/library/.install-x")
        self.apart("orphan")  # one component alone is no repository
        self.apart("docker.io/short")  # would be docker.io/library/short
        self.apart("docker.io/library/Upper")
        behind = self.root / ("guests" if self.shape.hiding else "nowhere")
        (images / "docker.io/library/elsewhere").symlink_to(behind)
        _write(self.root / "system/oci-cache/index.json", {"schemaVersion": 2, "manifests": []})

    def apart(self, place: str) -> None:
        """Make an image, whole but for its place: no repository is there."""
        digits = self.hex()
        folder = self.root / "images" / place / digits
        made = _Made(place, digits, self.past(), ())
        _write(folder / "metadata.json", self.metadata(made))
        (folder / ROOTFS[0]).write_bytes(b"apart")

    # States.

    def state(self, repository: str, hex_digits: str, kind: str) -> None:
        path = self.root / "system/image-retention" / repository / f"{hex_digits}.json"
        edge = self.now - self.shape.unused_for
        ahead = timedelta(minutes=5)
        microsecond = timedelta(microseconds=1)
        second = timedelta(seconds=1)
        inside = self.now - self.shape.unused_for * self.chance.random()
        before = edge - self.chance.randrange(1, 60 * 86_400) * second
        since = {
            "due": _text_of(before),
            "boundary": _text_of(edge),
            "boundary, one nanosecond short": _text_of(edge, 6, "001"),
            "unset": "0001-01-01T00:00:00Z",
            "null": None,
            "nine digits": _text_of(edge - microsecond, 6, "999"),
            "offset": _text_of(before, 0).replace("Z", "+02:00"),
            "no time": "a while ago",
            "far in the future": _text_of(self.now + ahead + microsecond),
            "at the edge of the future": _text_of(self.now + ahead),
            "near in the future": _text_of(self.now + ahead * self.chance.random()),
            "long due": _text_of(before - timedelta(days=400), 0),
        }.get(kind, _text_of(inside))
        fields = {"repository": repository, "digest": f"sha256:{hex_digits}", "unused_since": since}
        if kind == "absent":
            del fields["unused_since"]
        elif kind == "another digest":
            fields |= {"digest": f"sha256:{self.hex()}", "unused_since": _text_of(before)}
        elif kind == "another repository":
            fields |= {"repository": "docker.io/library/another", "unused_since": _text_of(before)}
        _write(path, fields)
        if kind == "corrupt":
            _tear(path, self.chance.uniform(0.1, 0.9))
        elif kind == "empty":
            path.write_bytes(b"")

    # References.

    def guest_fields(self, identity: str, count: int = 0) -> dict[str, Any]:
        started = _text_of(self.past(60))
        fields: dict[str, Any] = {
            "Id": identity,
            "Name": f"vm-{identity[:8]}",
            "Platform": "linux/amd64",
            "Size": 1073741824,
            "Vcpus": 2,
            "Env": {"APP_ENV": "production", "Image": "not/this:one"},
            "Tags": {"team": "infra"},
            "NetworkEnabled": True,
            "Volumes": None,
            "StartedAt": started,
            "HypervisorType": "cloud-hypervisor",
            "HypervisorPID": self.chance.randrange(10**7),
            "phases": {"current": "running", "since": started, "cumulative": {"created": 120}},
        }
        return fields | {
            f"Field{number}": self.chance.choice([None, "", number, [], {}]) for number in range(count)
        }

    def familiar(self, repository: str) -> str:
        """Shorten a repository as a caller may type it."""
        for prefix in ("docker.io/library/", "docker.io/"):
            if repository.startswith(prefix):
                short = repository.removeprefix(prefix)
                is_digest_like = len(short) == 64
                return (
                    repository if is_digest_like else self.chance.choice([short, f"index.docker.io/{short}"])
                )
        return repository

    def reference(self, kind: str) -> dict[str, Any]:
        """Make the fields that matter, for one kind of guest or snapshot."""
        made = self.tagged_image()
        tag = self.chance.choice(made.tags) if made.tags else "latest"
        by_tag, by_digest = f"{made.repository}:{tag}", f"{made.repository}@{made.digest}"
        other = self.any_image()
        resolved = f"{other.repository}@{other.digest}"
        sibling = self.chance.choice([image for image in self.images if image.repository == made.repository])
        link = self.links.get((made.repository, tag), made.created)
        gone = self.hex()
        dangling = self.chance.choice(
            [place for place in self.links if place[1].startswith("dangling-")] or [(made.repository, tag)]
        )
        created = _text_of(made.created + (self.now - made.created) * self.chance.random())
        fields: dict[str, dict[str, Any]] = {
            "by digest": {"Image": by_digest},
            "resolved only": {"ResolvedImage": resolved},
            "by tag and resolved": {
                "Image": by_tag,
                "ResolvedImage": f"{made.repository}@{self.chance.choice([made, sibling]).digest}",
            },
            "lower-case key": {"image": by_tag},
            "odd-case key": {"iMAGE": by_tag, "RESOLVEDIMAGE": resolved},
            "both cases": {"Image": by_digest, "image": resolved},
            "empty image": {"Image": "", "ResolvedImage": ""},
            "null image": {"Image": None, "ResolvedImage": self.chance.choice([None, by_digest])},
            "familiar name": {
                "Image": self.familiar(made.repository)
                + self.chance.choice(["", f":{tag}", f"@{made.digest}"])
            },
            "tag and digest": {"Image": f"{by_tag}@{sibling.digest}"},
            "resolved by tag": {"Image": by_tag, "ResolvedImage": by_tag},
            "resolved is empty": {"Image": by_tag, "ResolvedImage": self.chance.choice(["", None])},
            "by tag, moved": {"Image": by_tag, "CreatedAt": _text_of(link - timedelta(hours=1))},
            "by tag, at the same instant": {"Image": by_tag, "CreatedAt": _text_of(link)},
            "nine digits": {
                "Image": by_tag,
                "CreatedAt": _text_of(link, 6, self.chance.choice(["000", "001"])),
            },
            "stale repository": {"Image": f"docker.io/library/never:{tag}"},
            "stale digest": {"Image": f"{made.repository}@sha256:{gone}"},
            "stale tag": {"Image": f"{made.repository}:never"},
            "dangling tag": {"Image": ":".join(dangling)},
            "resolved is stale": {"Image": by_tag, "ResolvedImage": f"{made.repository}@sha256:{gone}"},
        }
        return {"CreatedAt": created} | fields.get(kind, {"Image": by_tag})

    def guest(self, kind: str) -> None:
        identity = self.name()
        folder = self.root / "guests" / identity
        if kind == "no folder":
            folder.write_text("a file among the guests\n")
            return
        folder.mkdir()
        if kind == "no metadata":
            return
        fields = self.guest_fields(identity, 60 if kind == "by tag, sixty fields" else 0) | self.reference(
            kind
        )
        if kind == "no creation time":
            del fields["CreatedAt"]
        elif kind == "odd creation time":
            fields["CreatedAt"] = self.chance.choice([None, 7, "long ago", ["2026"]])
        elif kind == "fields of odd types":
            fields |= {"Vcpus": "two", "Env": ["A=1"], "HypervisorPID": {"pid": 1}, "Tags": 3.5, "Name": None}
        # What is drawn here is drawn beside everything else, which stays what it was.
        beside = random.Random()
        beside.setstate(self.chance.getstate())
        match beside.randrange(12):
            case 0:
                self.saved_state(folder / "snapshots", beside)
            case 1 if isinstance(fields.get("CreatedAt"), str):
                ahead = timedelta(seconds=beside.choice((1, 299, 301, 40_000_000)))
                fields["CreatedAt"] = _text_of(self.now + ahead)
            case 2 if isinstance(fields.get("CreatedAt"), str):
                fields["CreatedAt"] = "2001-01-01T00:00:00Z"
        _write(folder / "metadata.json", fields)
        if kind == "linked folder":
            place = self.root / "system" / f"guest-{identity}"
            folder.rename(place)
            folder.symlink_to(place)

    def saved_state(self, folder: pathlib.Path, chance: random.Random) -> None:
        """Save the state of a guest; its configuration may name the disk of an image."""
        made = chance.choice(self.images) if self.images else None
        path = "" if made is None else f"/data/images/{made.repository}/{made.hex}/rootfs.ext4"
        folder.mkdir()
        text = chance.choice((path, path.replace("/", "\\/"), "{}"))
        (folder / "config.json").write_bytes(text.encode(chance.choice(("utf-8", "utf-16"))))

    def snapshot(self, kind: str) -> None:
        identity = self.name()
        folder = self.root / "snapshots" / identity
        folder.mkdir()
        if kind == "no metadata":
            return
        about = {
            "id": identity,
            "name": f"snap-{identity[:4]}",
            "kind": "full",
            "created_at": _text_of(self.past(60)),
        }
        fields: dict[str, Any] = {"snapshot": about}
        if kind != "absent":
            guest = self.guest_fields(self.name()) | self.reference(kind)
            fields["stored_metadata"] = None if kind == "null" else guest
        _write(folder / "snapshot.json", fields)

    def unreadable(self, kind: str) -> None:
        identity = self.name()
        guest = self.guest_fields(identity) | self.reference("by tag")
        if kind in ("torn snapshot", "mistyped snapshot"):
            path = self.root / "snapshots" / identity / "snapshot.json"
            _write(path, {"snapshot": {"id": identity}, "stored_metadata": guest})
            if kind == "mistyped snapshot":
                _write(
                    path, {"snapshot": {"id": identity}, "stored_metadata": self.chance.choice([7, "vm", []])}
                )
        else:
            path = self.root / "guests" / identity / "metadata.json"
            changed: object = {
                "mistyped image": guest | {"Image": self.chance.choice([7, ["alpine"], {}, True])},
                "mistyped resolved image": guest
                | {"ResolvedImage": self.chance.choice([7, ["alpine"], False])},
                "no reference": guest
                | {"Image": self.chance.choice(["Alpine", "a//b", "x:", "0" * 64, "al pine"])},
                "no object": self.chance.choice([[], None, "alpine", 7]),
            }.get(kind, guest)
            _write(path, changed)
        if kind in ("torn guest", "torn snapshot"):
            _tear(path, self.chance.uniform(0.1, 0.9))
        elif kind == "empty guest":
            path.write_bytes(b"")
