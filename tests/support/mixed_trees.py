"""Data directories in which both layouts are mixed, made from a seed.

The same seed and time always give the same names, bytes, links and ages. The few repositories, tags and digests of a
directory meet in all ways: content with one, several and no owners, folders of the older layout beside it in every
condition, links of all forms, and whatever hypeman leaves lying when it is cut off. All times are relative to `now`.
"""

import pathlib
import random
from datetime import datetime, timedelta
from typing import Any

from support import naive
from support.mixed_changes import change_tree
from support.mixed_files import Files, text_of
from support.mixed_guests import add_guest, add_snapshot
from support.mixed_hiding import NO_TEXT, Hiding
from support.mixed_kinds import (
    CONTENTS,
    EXTRAS,
    LEGACIES,
    LINKS,
    MADE_HERE,
    ODD_STATUS,
    ORDINARY,
    STATES,
    TAGS,
)
from support.mixed_reading import read_tree
from support.mixed_rows import Rows, make_rows
from support.timer_ages import age_timers

__all__ = ["build_mixed_tree", "change_tree"]


def build_mixed_tree(
    root: pathlib.Path,
    seed: int,
    now: datetime,
    *,
    unused_for: timedelta = timedelta(days=30),
    digests: int = 12,
    guests: int = 4,
    is_readable: bool = True,
) -> None:
    """Write a data directory; `root` may be there already, and empty.

    With `is_readable` false, references that cannot be read and folders that cannot be listed come too.
    """
    _Builder(root, random.Random(seed), now, unused_for).build(digests, guests, is_readable=is_readable)
    age_timers(root, seed, now)


class _Builder:
    def __init__(
        self, root: pathlib.Path, chance: random.Random, now: datetime, unused_for: timedelta
    ) -> None:
        self.files = Files(root)
        self.chance = chance
        self.now = now
        self.unused_for = unused_for
        self.digests: list[str] = []
        self.repositories: list[str] = []

    def build(self, digests: int, guests: int, *, is_readable: bool) -> None:
        for folder in ("images", "guests", "snapshots", "builds", "system/image-retention"):
            (self.files.root / folder).mkdir(parents=True, exist_ok=True)
        self.repositories = self.chance.sample(ORDINARY, self.chance.randint(3, 6))
        self.repositories += self.chance.sample(MADE_HERE, self.chance.choice((0, 0, 1, 2)))
        self.digests = [f"{self.chance.getrandbits(256):064x}" for _ in range(digests)]
        for digits in self.digests:
            self.content(digits, self.pick(CONTENTS))
            for repository in self.chance.sample(self.repositories, self.chance.choice((0, 0, 0, 1, 1, 2))):
                self.legacy(repository, digits, self.pick(LEGACIES))
        for repository in self.repositories:
            for tag in TAGS:
                self.tags(repository, tag)
        self.leftovers()
        self.states(make_rows(read_tree(self.files.root, naive.nanoseconds_since_epoch(self.now))))
        for _ in range(self.chance.randrange(3)):
            self.files.state(
                "docker.io/library/gone", f"{self.chance.getrandbits(256):064x}", text_of(self.past())
            )
        for number in range(guests):
            add_guest(self.files, self.chance, self.now, f"vm{number}", self.repositories, TAGS)
        for number in range(guests // 3):
            add_snapshot(self.files, self.chance, self.now, f"snap{number}", self.repositories, TAGS)
        for number in range(self.chance.choice((0, 0, 1, 2))):
            self.build_record(f"b{number}")
        hiding = Hiding(self.files, self.chance, self.now, self.repositories, self.digests)
        if self.chance.random() < 0.15:
            hiding.add_no_text()
        if not is_readable:
            hiding.hide()
        self.files.settle()

    # What chance gives.

    def pick(self, weights: dict[str, int]) -> str:
        return self.chance.choices(list(weights), list(weights.values()))[0]

    def past(self, days: int = 150) -> datetime:
        return self.now - timedelta(microseconds=self.chance.randrange(3_600_000_000, days * 86_400_000_000))

    def old(self) -> datetime:
        return self.now - timedelta(hours=self.chance.randrange(2, 2000))

    def young(self) -> datetime:
        return self.now - timedelta(minutes=self.chance.randrange(2, 55))

    # Digests.

    def metadata(self, repository: str, digits: str, status: object) -> dict[str, Any]:
        names = [f"{repository}:{self.chance.choice(TAGS)}", f"{repository}@sha256:{digits}"]
        fields: dict[str, Any] = {
            "name": self.chance.choice(names),
            "digest": f"sha256:{digits}",
            "platform": "linux/amd64",
            "status": status,
            "request": {"Name": names[0], "Tags": None, "Platform": ""},
            "size_bytes": self.chance.randrange(10**9) if status == "ready" else 0,
            "cmd": ["/bin/sh"],
            "created_at": text_of(self.past(600)),
            "build_id": f"{self.chance.getrandbits(128):032x}",
        }
        if self.chance.random() < 0.1:
            label = self.chance.choice(("true", "false", "False", "perhaps"))
            fields["labels"] = {"io.hmret.pullable": label, "team": "infra"}
        if self.chance.random() < 0.05:
            fields["created_at"] = self.chance.choice((None, 7, "long ago"))
        elif random.Random(f"{digits} of {repository}").random() < 0.07:
            fields["created_at"] = text_of(self.now + timedelta(days=400))
        return fields

    def content(self, digits: str, kind: str) -> None:
        files, chance = self.files, self.chance
        folder = files.content(digits)
        repository = chance.choice(self.repositories)
        status = kind.partition(",")[0]
        fields = self.metadata(repository, digits, status if status in ("pending", "pulling") else "ready")
        if kind == "absent":
            return
        if kind == "a link":
            targets = ({*self.digests} - {digits}, {"0d" * 32}, {str(files.root)})
            files.link(folder, chance.choice(sorted(chance.choice(targets))), self.past())
            return
        folder.mkdir(parents=True)
        if kind in ("begun", "begun, with a file"):
            files.ages[folder] = self.young()
        elif kind.startswith("left"):
            files.ages[folder] = self.old()
        elif kind.startswith(("converting", "failed")):
            files.write(folder / "metadata.json", fields | {"status": status})
        elif kind == "another digest":
            files.write(
                folder / "metadata.json", fields | {"digest": f"sha256:{chance.choice(self.digests)}"}
            )
        elif kind.startswith("torn"):
            files.write(folder / "metadata.json", '{"name": "docker.io/library/app:1", "dig')
        elif kind == "odd status":
            files.write(folder / "metadata.json", fields | {"status": chance.choice(ODD_STATUS)})
        else:
            if chance.random() < 0.05:
                fields["name"] = chance.choice((None, "Not A Name", "a" * 64))
            if kind == "persona" or chance.random() < 0.04:
                base = f"{chance.choice(self.repositories)}@sha256:{chance.choice(self.digests)}"
                fields["machine"] = {"kind": "persona", "base": base}
            self.write_metadata(folder, fields, kind)
        if kind == "persona":
            files.disk(folder / chance.choice(("persona.qcow2", "base.raw")))
        if kind in ("pulling, nearly done", "begun, with a file"):
            files.disk(folder / "rootfs.erofs.tmp-5f0c")
        if kind == "both disks":
            files.disk(folder / "rootfs.ext4", size=9000)
            files.disk(folder / "rootfs.erofs")
        if kind in (
            "ready",
            "metadata is a link",
            "metadata is a folder",
            "converting, linked",
            "failed, with a disk",
            "left with a disk only",
            "another digest",
            "torn",
            "odd status",
        ):
            files.disk(folder / chance.choice(("rootfs.erofs", "rootfs.erofs", "rootfs.ext4")))
            if chance.random() < 0.5:
                files.write(folder / "manifest.json", {"schema_version": 1, "digest": f"sha256:{digits}"})
        if kind == "ready":
            self.extra(folder)

    def legacy(self, repository: str, digits: str, kind: str) -> None:
        files, chance = self.files, self.chance
        folder = files.legacy(repository, digits)
        if not files.is_free(folder):
            return
        status = kind.partition(",")[0]
        fields = self.metadata(
            repository, digits, status if status in ("pulling", "converting", "failed") else "ready"
        )
        if chance.random() < 0.5:
            del fields["build_id"]
        folder.mkdir(parents=True)
        if kind == "another digest":
            fields["digest"] = f"sha256:{chance.choice(self.digests)}"
        elif kind == "another repository":
            fields["name"] = "docker.io/library/another:latest"
        elif kind == "odd status":
            fields["status"] = chance.choice(ODD_STATUS)
        if kind == "torn":
            files.write(folder / "metadata.json", '{"name": "docker.io/library/app:1", "dig')
        elif kind != "without metadata":
            self.write_metadata(folder, fields, kind)
        if kind == "both disks":
            files.disk(folder / "rootfs.ext4", size=9000)
        if kind == "with a link for a disk":
            files.link(folder / "rootfs.erofs", "/dev/null", self.past())
        elif kind not in ("without a disk", "pulling", "converting", "failed"):
            linked = [path for path in naive.entries(files.content(digits)) if path.name == "rootfs.erofs"]
            source = linked[0] if linked and chance.random() < 0.6 else None
            files.disk(folder / "rootfs.erofs", source)
        if kind == "whole":
            self.extra(folder)

    def write_metadata(self, folder: pathlib.Path, fields: dict[str, Any], kind: str) -> None:
        place = folder / "metadata.json"
        if kind == "metadata is a folder":
            place.mkdir()
        elif kind == "metadata is a link":
            self.files.write(folder / "real.json", fields)
            self.files.link(place, "real.json", self.past())
        else:
            self.files.write(place, fields)

    def extra(self, folder: pathlib.Path) -> None:
        files, kind = self.files, self.pick(EXTRAS)
        if kind.endswith("install"):
            inner = folder / ".install-81f3"
            files.write(inner / "manifest.json", {"schema_version": 1})
            files.ages[inner] = self.young() if kind == "young install" else self.old()
        elif kind == "temporary disk":
            files.disk(folder / "rootfs.erofs.tmp-81f3")
        elif kind == "plain file":
            files.write(folder / "sbom.json", {})
        elif kind == "link":
            files.link(folder / "current", "rootfs.erofs", self.past())
        elif kind == "folder":
            (folder / "layers").mkdir()
        elif kind == "tags of another repository":
            self.nested(folder)
        elif kind == "a name that is no text":
            files.write(folder / NO_TEXT, "")

    def nested(self, folder: pathlib.Path) -> None:
        """Lay into a digest's folder what hypeman writes for a repository that is named as a tag that leads there."""
        files, chance = self.files, self.chance
        other = chance.choice(self.digests)
        files.link(folder / chance.choice(TAGS[:3]), f"../../../../../content/{other}", self.past())
        if chance.random() < 0.5:
            inner = folder / other
            self.write_metadata(inner, self.metadata("ghcr.io/o/app/web", other, "ready"), "")
            files.disk(inner / "rootfs.erofs")

    # Tags.

    def tags(self, repository: str, tag: str) -> None:
        here = [digits for digits in self.digests if self.files.legacy(repository, digits).exists()]
        candidates = self.digests + here * 4
        self.tag(repository, tag, self.chance.choice(candidates), self.pick(LINKS), is_legacy=False)
        kind = self.pick(LINKS)
        kind = {"long": "short", "short": "long"}.get(kind, kind) if self.chance.random() < 0.8 else kind
        if self.chance.random() < 0.6:
            self.tag(repository, tag, self.chance.choice(here or candidates), kind, is_legacy=True)

    def tag(self, repository: str, tag: str, digits: str, kind: str, *, is_legacy: bool) -> None:
        files, chance = self.files, self.chance
        place = files.tag(repository, tag, is_legacy=is_legacy)
        if not kind or not files.is_free(place):
            return
        long = files.target(repository, digits, is_legacy=is_legacy)
        targets = {
            "long": long,
            "short": digits,
            "roundabout": f"./{long.replace('content/', '../images/content//')}",
            "absolute": str(files.content(digits)),
            "wrong depth": f"../{long}" if chance.random() < 0.5 else long.removeprefix("../"),
            "dotted": f"./{digits}",
            "no digest": chance.choice((digits[:63], "nowhere", digits.upper())),
            "another tag": "no-such-tag",
            "dangling": f"{chance.getrandbits(256):064x}" if is_legacy else long[:-64] + "0d" * 32,
        }
        if kind == "folder":
            place.mkdir(parents=True)
        else:
            files.link(place, targets[kind], self.past(200))

    # What is left lying.

    def leftovers(self) -> None:
        files, chance = self.files, self.chance
        for name in chance.sample(("layers", "bases", "whatever", ".unpack-x", "content"), 2):
            folder = (
                files.images / name / ("nothing" if name == "content" else f"{chance.getrandbits(256):064x}")
            )
            files.write(
                folder / "metadata.json", self.metadata("docker.io/library/app", self.digests[0], "ready")
            )
            files.disk(folder / "rootfs.erofs")
        for repository in chance.sample(self.repositories, 2):
            is_legacy = chance.random() < 0.3
            digits = chance.choice(self.digests)
            place = files.tag(repository, ".tag-stage-9c1", is_legacy=is_legacy) / chance.choice(
                ("v9", "latest")
            )
            made = self.now - timedelta(seconds=chance.choice((20, 5000, 500_000)))
            if files.is_free(place):
                files.link(place, files.target(repository, digits, is_legacy=is_legacy), made)
                files.ages[place.parent] = made
        if chance.random() < 0.2:
            place = files.images / "docker.io/library" / chance.choice(self.digests)
            if files.is_free(place):  # no repository is there
                files.write(place / "metadata.json", self.metadata("docker.io/library", place.name, "ready"))
                files.disk(place / "rootfs.erofs")
        if chance.random() < 0.2:
            place = files.tag(chance.choice(self.repositories), "none") / "deeper"
            if files.is_free(place):
                place.mkdir(parents=True)

    # States and builds.

    def states(self, rows: Rows) -> None:
        """Write the states of what is here, mostly of one kind for one digest, and of what is not."""
        for digits in self.digests:
            is_due = self.chance.random() < 0.8
            for repository in self.repositories:
                if (repository, f"sha256:{digits}") not in rows.by_key and self.chance.random() < 0.95:
                    continue
                kind = "due" if is_due and self.chance.random() < 0.85 else self.pick(STATES)
                if kind:
                    self.state(repository, digits, kind)

    def state(self, repository: str, digits: str, kind: str) -> None:
        edge = self.now - self.unused_for
        before = edge - timedelta(microseconds=self.chance.randrange(1, 60 * 86_400_000_000))
        inside = self.now - self.unused_for * self.chance.random()
        since: object = {
            "due": text_of(before),
            "boundary": text_of(edge),
            "boundary, one nanosecond short": text_of(edge, "001"),
            "unset": "0001-01-01T00:00:00Z",
            "null": None,
            "far in the future": text_of(self.now + timedelta(minutes=6)),
        }.get(kind, text_of(inside))
        named = {"digest": f"sha256:{self.chance.choice(self.digests)}"} if kind == "another digest" else {}
        self.files.state(repository, digits, since, **named)
        if kind == "torn":
            path = self.files.root / "system/image-retention" / repository / f"{digits}.json"
            self.files.write(path, '{"repository": "docker.io')

    def build_record(self, name: str) -> None:
        chance = self.chance
        repository, digits = chance.choice(self.repositories), chance.choice(self.digests)
        records: list[dict[str, object]] = [
            {"image_digest": f"sha256:{digits}"},
            {"image_ref": f"{repository}:{chance.choice(TAGS)}"},
            {"image_ref": f"{repository}@sha256:{digits}"},
            {"request": {"image_name": f"{repository}:{chance.choice(TAGS)}"}},
            {"request": {"image_name": repository}, "image_digest": ""},
            {"image_digest": f"sha256:{digits}", "request": 7, "image_ref": ["odd"]},
            {"image_digest": None, "image_ref": "Not A Name", "request": None},
        ]
        self.files.build(name, **chance.choice(records))
        if chance.random() < 0.2:
            self.files.write(self.files.root / "builds" / name / "metadata.json", "")
