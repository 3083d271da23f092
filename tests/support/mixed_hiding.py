"""What nobody can read: names that are no text, links and files where folders should be, and what is locked."""

import os
import random
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta

from support import naive
from support.mixed_files import Files
from support.mixed_guests import add_unreadable
from support.mixed_kinds import HIDDEN, TAGS
from support.mixed_reading import levels

__all__ = ["NO_TEXT", "Hiding"]

NO_TEXT = os.fsdecode(b"caf\xe9")
"""A name that is no UTF-8."""


class Hiding:
    """Makes parts of a data directory unreadable."""

    def __init__(
        self,
        files: Files,
        chance: random.Random,
        now: datetime,
        repositories: Sequence[str],
        digests: Sequence[str],
    ) -> None:
        self.files = files
        self.chance = chance
        self.now = now
        self.repositories = repositories
        self.digests = digests

    def add_no_text(self) -> None:
        """Lay something whose name is no text into one folder or another."""
        files, chance = self.files, self.chance
        digits = chance.choice(self.digests)
        place = chance.choice(
            (
                files.images,
                files.images / "content",
                files.images / "repositories",
                files.images / "docker.io",
                files.images / chance.choice(self.repositories),
                files.images / "repositories" / chance.choice(self.repositories),
                files.root / "guests",
                files.root / "builds",
                files.root / "system/image-retention",
            )
        )
        if naive.kind(place) != "folder" or naive.is_image(place):
            return
        if place.name == "guests":
            files.guest(NO_TEXT, Id="odd", Image=f"{chance.choice(self.repositories)}@sha256:{digits}")
        elif chance.random() < 0.5:
            files.link(place / NO_TEXT, digits, self.now - timedelta(days=40))
        else:
            files.write(place / NO_TEXT / digits / "metadata.json", {"image_digest": f"sha256:{digits}"})
        if chance.random() < 0.2:
            repository = chance.choice(self.repositories)
            odd = files.tag(repository, "odd")
            if files.is_free(odd):
                files.link(odd, f"{NO_TEXT}/{digits}", self.now - timedelta(days=40))

    def hide(self) -> None:
        """Make part of it unreadable."""
        images = self.files.images
        kind = self.chance.choices(list(HIDDEN), list(HIDDEN.values()))[0]
        if kind == "unreadable guest":
            add_unreadable(self.files, self.chance, self.now, self.repositories, TAGS)
        elif kind.startswith("locked"):
            self.lock(kind.removeprefix("locked "))
        else:
            name, _, form = kind.partition(" is ")
            (images / name).mkdir(exist_ok=True)
            if form != "nowhere":
                (images / name).rename(self.files.root / "system" / name)
            else:
                shutil.rmtree(images / name)
            if form == "a file":
                (images / name).write_text("a file\n")
            else:
                self.files.link(images / name, str(self.files.root / "system" / name), self.now)

    def lock(self, kind: str) -> None:
        """Take all permissions from something."""
        images, root = self.files.images, self.files.root
        folders = [path for path in images.rglob("*") if naive.kind(path) == "folder"]
        tops = (images, images / "repositories")
        # In the older layout nobody can tell a locked folder with 64 hex digits from an image's.
        below = [
            path
            for top in tops
            for path, name in levels(top)
            if name != "." and not (top == images and naive.is_hex(path.name))
        ]
        places = {
            "level": below,
            "hosts": [path for path in below if path.parent in tops],
            "content": [images / "content"],
            "repositories": [images / "repositories"],
            "images": [images],
            "digest": [path for path in folders if path.parent == images / "content"],
            "metadata": sorted(images.rglob("metadata.json")),
            "disk": sorted(images.rglob("rootfs.*")),
            "guest": sorted((root / "guests").glob("*/metadata.json")),
            "guest's folder": sorted((root / "guests").glob("*")),
            "guests": [root / "guests"],
            "snapshots": [root / "snapshots"],
            "snapshot": sorted((root / "snapshots").glob("*/snapshot.json")),
            "build": sorted((root / "builds").glob("*/metadata.json")),
            "builds": [root / "builds"],
            "state": sorted((root / "system/image-retention").rglob("*.json")),
        }[kind]
        places = [path for path in places if naive.kind(path) in ("file", "folder")]
        if places:
            self.chance.choice(sorted(places)).chmod(0)
