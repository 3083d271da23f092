"""What hypeman does to a data directory between two sweeps: a few whole operations, chosen at random.

Each begins with a look at what is there, and leaves what hypeman leaves when it has ended. Nothing is changed inside
the folder of a ready image: hypeman does not do that either, but for a deletion.
"""

import pathlib
import random
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta

from support import naive
from support.mixed_files import Files, names_in, text_of
from support.mixed_guests import add_guest, add_snapshot
from support.mixed_reading import UNFINISHED, Folder, Link, Tree, hex_of, read_tree

__all__ = ["change_tree"]

TAGS = ("latest", "1", "2.0", "v1")


def change_tree(root: pathlib.Path, chance: random.Random, now: datetime, count: int = 4) -> list[str]:
    """Carry out some operations; returns their names. The last sweep lies more than an hour back."""
    changes = _Changes(root, chance, now)
    return [changes.one() for _ in range(count)]


class _Changes:
    def __init__(self, root: pathlib.Path, chance: random.Random, now: datetime) -> None:
        self.files = Files(root)
        self.chance = chance
        self.now = now
        self.tree = Tree(root)

    def one(self) -> str:
        operations: list[Callable[[], None]] = [
            *([self.pull] * 4),
            *([self.begin_pull] * 2),
            *([self.go_on_with_pull] * 3),
            *([self.tag] * 4),
            *([self.tag_in_older_layout] * 2),
            *([self.delete] * 3),
            *([self.promote] * 2),
            self.pull_in_older_layout,
            self.leave_staged,
            *([self.come] * 3),
            *([self.leave] * 3),
            self.build,
            self.forget_build,
            self.take_states,
        ]
        operation = self.chance.choice(operations)
        self.tree = read_tree(self.files.root, naive.nanoseconds_since_epoch(self.now))
        operation()
        self.files.settle()
        return operation.__name__

    # What is there.

    def recently(self) -> datetime:
        return self.now - timedelta(minutes=self.chance.randrange(15, 50))

    def repository(self) -> str:
        known = sorted({link.repository for link in self.tree.links} | {key[0] for key in self.tree.legacy})
        return self.chance.choice([*known, "docker.io/library/fresh"])

    def whole_contents(self) -> list[Folder]:
        return [folder for folder in self.tree.contents.values() if folder.is_ready and not folder.holds_more]

    def metadata(self, repository: str, digits: str, status: str) -> dict[str, object]:
        return {
            "name": f"{repository}:latest",
            "digest": f"sha256:{digits}",
            "status": status,
            "size_bytes": 4096,
            "created_at": text_of(self.recently()),
            "build_id": f"{self.chance.getrandbits(128):032x}",
        }

    def set_tag(self, repository: str, tag: str, digits: str) -> None:
        """Set a tag in today's layout; the same one in the older layout goes."""
        place = self.files.tag(repository, tag)
        older = self.files.tag(repository, tag, is_legacy=True)
        if not self.files.is_free(place) and naive.kind(place) != "link":
            return
        if not self.files.is_free(place.parent / "new"):
            return
        self.files.link(place, self.files.target(repository, digits, is_legacy=False), self.recently())
        if naive.kind(older) == "link":
            older.unlink()

    def links_of(self, repository: str, digest: str) -> list[Link]:
        return [link for link in self.tree.links if (link.repository, link.digest) == (repository, digest)]

    # Images.

    def new_content(self, repository: str) -> str:
        digits = f"{self.chance.getrandbits(256):064x}"
        folder = self.files.content(digits)
        self.files.disk(folder / "rootfs.erofs")
        self.files.write(folder / "metadata.json", self.metadata(repository, digits, "ready"))
        return digits

    def pull(self) -> None:
        """Pull a digest that is not here; a tag that was there moves."""
        repository = self.repository()
        if not self.files.is_free(self.files.content("new")):
            return
        digits = self.new_content(repository)
        if self.chance.random() < 0.8:
            self.set_tag(repository, self.chance.choice(TAGS), digits)

    def begin_pull(self) -> None:
        repository = self.repository()
        legacy = [hex_of(digest) for _, digest in self.tree.legacy if digest not in self.tree.contents]
        digits = f"{self.chance.getrandbits(256):064x}"
        if legacy and self.chance.random() < 0.5:
            digits = self.chance.choice(legacy)
        folder = self.files.content(digits)
        if not self.files.is_free(folder):
            return
        folder.mkdir(parents=True)
        self.files.ages[folder] = self.recently()
        if self.chance.random() < 0.7:
            status = self.chance.choice(("pending", "pulling"))
            self.files.write(folder / "metadata.json", self.metadata(repository, digits, status))
            self.files.ages[folder] = self.recently()
        tag = self.chance.choice(TAGS)
        if naive.kind(self.files.tag(repository, tag)) == "nothing":
            self.set_tag(repository, tag, digits)

    def go_on_with_pull(self) -> None:
        """End a pull that runs, one way or the other, or let it get a little further."""
        running = [one for one in self.tree.contents.values() if one.status in UNFINISHED]
        if not running:
            return
        folder = self.chance.choice(running)
        fields = folder.fields or self.metadata(self.repository(), hex_of(folder.digest), "pending")
        status = self.chance.choice(("pulling", "converting", "failed", "ready", "ready"))
        if status in ("converting", "ready") and folder.disk is None:
            self.files.disk(folder.path / "rootfs.erofs")
        plain = {
            key: dict(value) if isinstance(value, naive.Pairs) else value for key, value in fields.items()
        }
        self.files.write(folder.path / "metadata.json", plain | {"status": status, "size_bytes": 4096})

    def tag(self) -> None:
        """Tag what is here, in whatever repository."""
        contents = self.whole_contents()
        if contents:
            folder = self.chance.choice(contents)
            self.set_tag(self.repository(), self.chance.choice(TAGS), hex_of(folder.digest))

    def tag_in_older_layout(self) -> None:
        """Set a tag as an older server does, or today's for what lies in the older layout."""
        if not self.tree.legacy:
            return
        repository, digest = self.chance.choice(sorted(self.tree.legacy))
        place = self.files.tag(repository, self.chance.choice(TAGS), is_legacy=True)
        if self.files.is_free(place) or naive.kind(place) == "link":
            self.files.link(place, hex_of(digest), self.recently())

    def pull_in_older_layout(self) -> None:
        repository, digits = self.repository(), f"{self.chance.getrandbits(256):064x}"
        shared = [hex_of(folder.digest) for folder in self.whole_contents()]
        if shared and self.chance.random() < 0.4:
            digits = self.chance.choice(shared)
        folder = self.files.legacy(repository, digits)
        if not self.files.is_free(folder):
            return
        status = self.chance.choice(("ready", "ready", "pulling"))
        if status == "ready":
            self.files.disk(folder / "rootfs.erofs")
        self.files.write(folder / "metadata.json", self.metadata(repository, digits, status))
        place = self.files.tag(repository, self.chance.choice(TAGS), is_legacy=True)
        if self.files.is_free(place):
            self.files.link(place, digits, self.recently())

    def promote(self) -> None:
        """Give a whole image of the older layout a second place in content, under tags of its own or of another."""
        whole = [
            (key, folder)
            for key, folder in sorted(self.tree.legacy.items())
            if folder.is_ready and not folder.holds_more and key[1] not in self.tree.contents
        ]
        if not whole:
            return
        (repository, digest), legacy = self.chance.choice(whole)
        folder = self.files.content(hex_of(digest))
        if legacy.disk is None or not self.files.is_free(folder):
            return
        self.files.disk(folder / legacy.disk.name, legacy.disk)
        shutil.copyfile(legacy.path / "metadata.json", folder / "metadata.json")
        if self.chance.random() < 0.5:
            self.set_tag(self.repository(), self.chance.choice(TAGS), hex_of(digest))
            return
        for link in self.links_of(repository, digest):
            place = self.files.tag(repository, link.tag)
            if link.is_legacy and self.files.is_free(place):
                target = self.files.target(repository, hex_of(digest), is_legacy=False)
                self.files.link(place, target, self.recently())

    def delete(self) -> None:
        """Untie a repository from a digest: its tags and its folder go, and content that nobody tags any more."""
        keys = {(link.repository, link.digest) for link in self.tree.links if link.digest is not None}
        choices = sorted(keys | self.tree.legacy.keys())
        if not choices:
            return
        repository, digest = self.chance.choice(choices)
        for link in self.links_of(repository, digest):
            for is_legacy in (False, True):
                place = self.files.tag(repository, link.tag, is_legacy=is_legacy)
                if naive.kind(place) == "link":
                    place.unlink()
        if (repository, digest) in self.tree.legacy:
            shutil.rmtree(self.tree.legacy[repository, digest].path)
        content = self.tree.contents.get(digest)
        tree = read_tree(self.files.root, naive.nanoseconds_since_epoch(self.now))
        tagged = any(link.digest == digest and not link.is_legacy for link in tree.links)
        if content is not None and not tagged and content.status not in UNFINISHED:
            shutil.rmtree(content.path)

    def leave_staged(self) -> None:
        """Be killed while a tag is set."""
        repository = self.repository()
        contents = self.whole_contents()
        place = self.files.tag(repository, ".tag-stage-e77") / "v9"
        if contents and self.files.is_free(place):
            digits = hex_of(self.chance.choice(contents).digest)
            made = self.now - timedelta(seconds=self.chance.choice((20, 3000)))
            self.files.link(place, self.files.target(repository, digits, is_legacy=False), made)
            self.files.ages[place.parent] = made

    # Guests, builds and states.

    def come(self) -> None:
        name = f"new{self.chance.randrange(10**6)}"
        repositories = [self.repository() for _ in range(3)]
        add = add_snapshot if self.chance.random() < 0.2 else add_guest
        add(self.files, self.chance, self.now, name, repositories, TAGS)

    def leave(self) -> None:
        for kind in self.chance.sample(("guests", "snapshots"), 2):
            folder = self.files.root / kind
            names = sorted(names_in(folder))
            if names:
                shutil.rmtree(folder / self.chance.choice(names))
                return

    def build(self) -> None:
        digests = sorted(self.tree.contents)
        if digests:
            self.files.build(
                f"n{self.chance.randrange(10**6)}", image_digest=self.chance.choice(digests), request=None
            )

    def forget_build(self) -> None:
        places = [self.files.root / "builds" / name for name in sorted(names_in(self.files.root / "builds"))]
        places = [place for place in places if naive.kind(place) == "folder"]
        if places:
            shutil.rmtree(self.chance.choice(places))

    def take_states(self) -> None:
        """Set the timers of a repository as hypeman's own controller would."""
        repository = self.repository()
        for name, digest in sorted(self.tree.legacy):
            if name == repository:
                self.files.state(name, hex_of(digest), text_of(self.recently()))
        for link in self.tree.links:
            if link.repository == repository and link.digest is not None:
                self.files.state(repository, hex_of(link.digest), text_of(self.recently()))
