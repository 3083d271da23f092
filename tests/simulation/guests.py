"""Guests and snapshots, and their metadata, which hypeman writes in place."""

import json
import random
from collections.abc import Iterable

from hmret.disk.layout import METADATA
from simulation.landmarks import DATA, QUICK, Pulled, Tag, Work, repository_of, short
from simulation.truth import Truth

__all__ = ["Guests"]

_MOST_GUESTS = 4  # beside twelve images or more: most of them are for hmret to take


class Guests:
    """Whoever refers to an image.

    Args:
        truth: told of all that they do.
        rng: decides what they do.
        is_today: whether the server always notes the digest that boots.
    """

    def __init__(self, truth: Truth, rng: random.Random, *, is_today: bool = False) -> None:
        self._truth = truth
        self._is_today = is_today
        self._rng = rng
        self._running: dict[str, Pulled] = {}
        """Guests, and what they run from."""
        self.documents: dict[str, tuple[str, bytes]] = {}
        """By source: where its reference file is and what is in it, whole."""
        self._saved: dict[str, tuple[str, bytes]] = {}
        """By source: the configuration of its saved state, the same way."""
        self._count = 0

    def create(self, tag: Tag, image: Pulled | None = None) -> Work:
        """Create a guest; without asking hmret, unless `image` is what it said yes to."""
        if len(self._running) >= _MOST_GUESTS:
            return
        repository = repository_of(tag)
        digest = (self._truth.resolve(repository, tag[1]) or ("", 0))[0]
        image = image or self._truth.present(repository, digest)
        if image is None or self._truth.find(repository, image.key[1]) is not image:
            return  # by this repository another folder would boot, or none
        leads = self._truth.find(repository, digest) is image
        by_tag = leads and not self._truth.clock.is_behind and self._rng.random() < 0.7
        text = f"{repository}:{tag[1]}" if by_tag else f"{repository}@{image.key[1]}"
        self._count += 1
        source = f"instance/vm-{self._count}"
        guest = {"Id": f"vm-{self._count}", "HypervisorPID": 0, "Image": text}
        if by_tag and (self._is_today or self._rng.random() < 0.5):
            guest["ResolvedImage"] = f"{repository}@{image.key[1]}"
        # Go reads the clock after it has found the image, and keeps nine digits of it.
        guest["CreatedAt"] = self._truth.clock.now().isoformat()
        path = f"{DATA}/guests/vm-{self._count}"
        self._truth.filesystem.make_folder(path)
        yield self._rng.choice((QUICK, QUICK, 1.0))
        yield from self._write(source, f"{path}/{METADATA}", json.dumps(guest).encode())
        self._truth.settle()
        if image.is_present:
            self._truth.need(source, image)
            self._running[source] = image
            self._tell(f"has created {source} by {text} on {short(image.key)}")
        else:
            self._tell(f"cannot start {source}: {short(image.key)} is gone")
            yield from self._remove(source)

    def fork(self) -> Work:
        """Fork a guest: the copy has a saved state, and the time of now for its age, whatever its tag points to by now."""
        source = self._some(self._running)
        if source is None or source in self._truth.unreadable or len(self._running) >= _MOST_GUESTS:
            return
        image = self._running[source]
        guest = json.loads(self.documents[source][1])
        self._count += 1
        name = f"vm-{self._count}"
        guest |= {"Id": name, "CreatedAt": self._truth.clock.now().isoformat()}
        folder = f"{DATA}/guests/{name}"
        self._truth.filesystem.make_folder(folder)
        self._save(f"instance/{name}", f"{folder}/snapshots", image)
        yield self._rng.choice((QUICK, QUICK, 1.0))
        yield from self._write(f"instance/{name}", f"{folder}/{METADATA}", json.dumps(guest).encode())
        self._truth.settle()
        if image.is_present and source in self._truth.needs:
            self._truth.need(f"instance/{name}", image)
            self._running[f"instance/{name}"] = image
            self._tell(f"has forked instance/{name} from {source}")
        else:
            yield from self._remove(f"instance/{name}")

    def _save(self, source: str, folder: str, image: Pulled) -> None:
        """Write a saved state, in the form of one hypervisor or another."""
        disk = f"{image.path}/{image.disk}"
        forms = (
            json.dumps({"disks": [{"path": disk}]}).encode(),
            json.dumps({"disks": [{"path": disk}]}).replace("/", "\\/").encode(),
            b"\x00\xff" + disk.encode() + b"\x00",
        )
        content = self._rng.choice(forms)
        path = f"{folder}/snapshot-latest/config"
        self._truth.filesystem.make_folder(f"{folder}/snapshot-latest")
        self._truth.filesystem.write_file(path, content)
        self._saved[source] = path, content

    def update(self) -> Work:
        """Write a guest's metadata anew, in place."""
        source = self._some(self._running)
        if source is None or source in self._truth.unreadable:
            return
        path, content = self.documents[source]
        guest = json.loads(content)
        guest["HypervisorPID"] = self._rng.randrange(1 << 22)
        yield from self._write(source, path, json.dumps(guest).encode())

    def delete(self) -> Work:
        """Delete a guest."""
        source = self._some(self._running)
        if source is None or source in self._truth.unreadable:
            return
        self._tell(f"deletes {source}")
        yield from self._remove(source)

    def snapshot(self) -> Work:
        """Make a snapshot of a guest."""
        source = self._some(self._running)
        if source is None:
            return
        image = self._running[source]
        self._count += 1
        name = f"snapshot/s-{self._count}"
        stored = json.loads(self.documents[source][1])
        content = json.dumps({"snapshot": {"id": f"s-{self._count}"}, "stored_metadata": stored}).encode()
        path = f"{DATA}/snapshots/s-{self._count}"
        self._truth.filesystem.make_folder(path)
        if source in self._saved:
            self._save(name, f"{path}/guest/snapshots", image)
        yield from self._write(name, f"{path}/snapshot.json", content)
        if self._truth.needs.get(source) is not None and image.is_present:
            self._truth.need(name, image)
            self._tell(f"has made {name} of {source}")
        else:
            yield from self._remove(name)

    def delete_snapshot(self) -> Work:
        """Delete a snapshot."""
        source = self._some([name for name in self.documents if name.startswith("snapshot/")])
        if source is not None and source in self._truth.needs:
            self._tell(f"deletes {source}")
            yield from self._remove(source)

    def named(self) -> set[str]:
        """List the repositories that any of them names."""
        texts = set()
        for _, content in self.documents.values():
            document = json.loads(content)
            guest = document.get("stored_metadata", document)
            texts |= {guest[key] for key in ("Image", "ResolvedImage") if key in guest}
        return {text.partition("@")[0] if "@" in text else text.rpartition(":")[0] for text in texts}

    def _write(self, source: str, path: str, content: bytes) -> Work:
        """Write in place: for a moment the file is empty, and then torn."""
        truth = self._truth
        self.documents[source] = path, content
        truth.filesystem.write_file(path, b"")
        truth.unreadable[source] = truth.chronicle.now
        if self._rng.random() < 0.5:
            yield QUICK
            if source not in self.documents:
                return
        truth.filesystem.write_file(path, content[: self._rng.randrange(len(content))])
        yield QUICK if self._rng.random() < 0.9 else 2.0
        if source in self.documents:
            truth.filesystem.write_file(path, content)
            truth.unreadable.pop(source, None)

    def _remove(self, source: str) -> Work:
        path, _ = self.documents.pop(source, ("", b""))
        self._saved.pop(source, None)
        self._truth.needs.pop(source, None)
        self._running.pop(source, None)
        self._truth.unreadable.pop(source, None)
        if not path:
            return
        self._truth.filesystem.remove(path)
        yield QUICK
        self._truth.filesystem.remove(path.rpartition("/")[0])

    # Crashes.

    def resume(self) -> None:
        """See what a power loss has left: what is not whole goes, and what was deleted and has come back goes again."""
        disk = self._truth.filesystem
        for source in list(self.documents):
            files = [self.documents[source], *([self._saved[source]] if source in self._saved else ())]
            whole = all(disk.exists(path) and disk.read_file(path) == content for path, content in files)
            if not whole or source not in self._truth.needs:
                self._forget(source)
        self._remove_strays()

    def leave(self, *, everything: bool) -> None:
        """Finish what is being written or deleted, and with `everything` delete all guests and snapshots."""
        for source, (path, content) in list(self.documents.items()):
            if everything or source not in self._truth.needs:
                self._forget(source)
            else:
                self._truth.filesystem.write_file(path, content)
        self._truth.unreadable.clear()
        self._remove_strays()

    def _remove_strays(self) -> None:
        """Remove the folders of which the metadata has gone: while one is there, what it named stays protected."""
        disk = self._truth.filesystem
        known = {path.rpartition("/")[0] for path, _ in self.documents.values()}
        for folder in (f"{DATA}/guests", f"{DATA}/snapshots"):
            for path, (kind, _) in disk.tree(folder).items():
                if kind == "folder" and path.rpartition("/")[0] == folder and path not in known:
                    disk.remove(path)

    def _forget(self, source: str) -> None:
        """Remove what a power loss has left of a guest, as hypeman does when it starts."""
        path, _ = self.documents.pop(source)
        self._saved.pop(source, None)
        folder = path.rpartition("/")[0]
        if self._truth.filesystem.exists(folder):
            self._truth.filesystem.remove(folder)
        self._truth.needs.pop(source, None)
        self._running.pop(source, None)

    def _tell(self, event: str) -> None:
        self._truth.chronicle.tell(f"hypeman {event}")

    def _some(self, names: Iterable[str]) -> str | None:
        found = list(names)
        return self._rng.choice(found) if found else None
