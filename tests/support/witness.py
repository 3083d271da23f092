"""Watches hmret delete one digest while hypeman works on the same host, and says what was broken.

What is checked, at every change of hmret's and in the end:

- what hypeman lists is always an image;
- what led to an image and was not hypeman's to change still does, unless the digest has gone for all who share its
  bytes, and then no tag of theirs is left that leads nowhere;
- a tag that was set, or an image that lost its disk, before hmret's last look has its image back;
- what comes after the deletion inherits no timer;
- an instance that was created has its disk;
- nothing of hmret's is left behind.
"""

import re

from support.builders import DATA, state_of
from support.hypeman_lookup import CONTENT, DISK, IMAGES, METADATA, Reading, link_of
from support.memory_filesystem import Call as DiskCall
from support.small_hosts import OLD_TIMER, Reference, Scene, World

__all__ = ["TRASH", "Witness"]

TRASH = f"{DATA}/system/hmret/trash"
_CHANGES = frozenset({"rename", "unlink", "rmdir", "symlink", "mkdir"})
_RETIRED = re.compile(rf"{TRASH}/[^/]+|{DATA}/{IMAGES}/(.*/)?\.hmret-[^/]+")
_IN_TRASH = re.compile(rf"{TRASH}|{DATA}/{IMAGES}/(.*/)?\.hmret-")
_PROPER = re.compile(rf"{IMAGES}/(content|[^/]*[.:].*|localhost/.*)/[0-9a-f]{{64}}")


class Witness:
    """Knows what there was before, and sees each of hmret's calls."""

    def __init__(self, scene: Scene, world: World) -> None:
        self._scene = scene
        self._world = world
        reading = world.reading()
        self._tags = set(reading.tags_to(scene.due))
        """Before: what led to the digest, …"""
        self._booted = {one for one in self._references(reading) if reading.boots(*one)}
        """… what there was to boot, …"""
        self._counts_staged = True
        self._dangled: set[Reference] = set()
        self._dangled = set(self._dangling(reading))
        """… and what led nowhere."""
        self._disks = {repository: self._disks_of(repository) for repository in scene.owners}
        self._doubtful: set[str] = set()
        """What was not as it should be right after hmret's last change outside of its trash."""
        self._has_changed = False
        self._has_ghost = False
        self._is_back = False
        """Whether an image has been put back into a repository's own folder, …"""
        self._looked_for_ghost = False
        """… and hmret has looked afterwards for metadata without a disk that would hide it, where there was none."""
        self._wrongly_taken: set[str] = set()
        """Links that hmret has taken from their places though what they led to was there."""
        self.has_gone = False
        """Whether the digest led nowhere at some moment."""
        self.has_erased = False
        self.faults: list[str] = []

    def _references(self, reading: Reading) -> set[Reference]:
        tags = {tag for row in reading.rows() for tag in reading.tags_to(row.hexadecimal)}
        return tags | {(repository, self._digest) for repository in self._scene.owners}

    @property
    def _digest(self) -> str:
        return f"sha256:{self._scene.due}"

    # While hmret works.

    def see(self, call: DiskCall) -> None:
        """See that hmret is about to make a call; what it did before has been done."""
        if self._has_changed:
            self._see_change()
        self._has_changed = call.name in _CHANGES and not _IN_TRASH.match(call.path)
        content = f"{DATA}/{CONTENT}/{self._scene.due}"
        if self._is_back and call.name == "stat" and call.path == content:
            self._looked_for_ghost |= self._scene.due not in self._world.reading().ghosts()
        if call.name == "rename":
            source, _, target = call.path.partition(" -> ")
            self._is_back |= (
                _IN_TRASH.match(source) is not None
                and target.endswith(f"/{self._scene.due}")
                and target != content
            )
            self._see_rename(call.path.partition(" -> ")[0].removeprefix(f"{DATA}/"))
        if call.name == "unlink" and not self.has_erased and self._is_whole(call.path.rpartition("/")[0]):
            self.has_erased = True
            still = self._doubts(self._world.reading())
            self.faults += [f"hmret erases, and {one}" for one in sorted(self._doubtful & still)]
            self._doubtful = set()

    def forget(self, *, is_hypeman_dead: bool) -> None:
        """Take it that hmret has ended, and hypeman too perhaps: what it has staged will then never be a tag."""
        self._has_changed, self._doubtful = False, set()
        self._counts_staged = not is_hypeman_dead

    def _see_change(self) -> None:
        """See what hmret's last change has done."""
        reading = self._world.reading()
        for row in reading.rows():
            # A pull that began in a folder whose metadata hmret had just hidden goes along with it, and comes back.
            is_pulled = self._world.disk.exists(f"{row.folder}/.hmret-hidden")
            if not _PROPER.fullmatch(row.folder) and not is_pulled:
                self.faults.append(f"hypeman lists {row.folder}")
        self._doubtful = self._doubts(reading)
        if not any(reading.boots(repository, self._digest) for repository in self._scene.owners):
            self.has_gone = True

    def _see_rename(self, path: str) -> None:
        reading = self._world.reading()
        for repository, tag in self._tags:
            if path not in _links_of(repository, tag):
                continue
            hexadecimal = reading.hex_of_tag(repository, tag)
            if hexadecimal is not None and reading.find(repository, hexadecimal) is not None:
                self._wrongly_taken.add(path)

    def _is_whole(self, folder: str) -> bool:
        """Return whether this is a retired folder that nothing has been erased of; a ghost that goes is none."""
        return _RETIRED.fullmatch(folder) is not None and self._world.filesystem.exists(f"{folder}/{DISK}")

    def _doubts(self, reading: Reading) -> set[str]:
        lost = {f"{ghost[:4]} has lost its disk" for ghost in reading.ghosts()}
        return lost | {f"{repository}:{tag} leads nowhere" for repository, tag in self._dangling(reading)}

    def _dangling(self, reading: Reading) -> list[Reference]:
        """List the tags to the digest that lead nowhere now and did not before."""
        dangling = []
        for repository, tag in reading.tags_to(self._scene.due):
            # What is staged will be a tag of the repository that it is staged in.
            owner, is_staged, _ = repository.partition("/.tag-stage-")
            counts = (repository, tag) not in self._dangled and (self._counts_staged or not is_staged)
            leads = reading.find(owner, self._scene.due) is not None or self._is_begun(owner)
            if counts and not leads:
                dangling.append((repository, tag))
        return dangling

    def _is_begun(self, repository: str) -> bool:
        """Return whether a folder has come that a pull may be about to fill."""
        folders = (f"{CONTENT}/{self._scene.due}", f"{IMAGES}/{repository}/{self._scene.due}")
        return any(self._world.disk.exists(folder) for folder in folders)

    # When both have ended.

    def check(self) -> None:
        """Check the tree when hypeman's call and hmret's sweep have ended."""
        reading = self._world.reading()
        # Metadata without a disk that came too late for hmret to see hides whatever else there is of the digest,
        # and keeps the links that hmret has not taken yet; it goes a minute later.
        self._has_ghost = self._scene.due in reading.ghosts()
        if not self._has_ghost:
            self._check_references(reading)
        self._check_timers()
        if not self.has_erased and not (self._has_ghost and self._looked_for_ghost):
            self.faults += sorted(self._doubts(reading))
        for path in sorted(self._wrongly_taken):
            touched = {link for one in self._scene.touches for link in _links_of(*one)}
            if not self._world.disk.exists(path) and path not in touched:
                self.faults.append(f"{path} was taken though what it leads to had come")

    def _check_references(self, reading: Reading) -> None:
        touches = self._scene.touches
        alive = {repository: reading.boots(repository, self._digest) for repository in self._scene.owners}
        for unit in self._scene.units:
            if len({alive[one] for one in unit if (one, self._digest) not in touches}) > 1:
                self.faults.append(f"gone for some only: {alive}")
        for repository, reference in sorted(self._booted - touches):
            name, boots = f"{repository}:{reference[:12]}", reading.boots(repository, reference)
            if reference != self._digest and (repository, reference) not in self._tags:
                if not boots:
                    self.faults.append(f"{name} does not boot any more")
                continue
            is_left = reference != self._digest and reading.hex_of_tag(repository, reference) is not None
            if is_left and not boots and not self._is_begun(repository) and not self._has_ghost:
                self.faults.append(f"{name} is left, and leads nowhere")
            # What was pulled again after the tag had gone does not bring it back.
            if boots != alive[repository] and (boots or not self._is_other(repository)):
                self.faults.append(f"{name} {'boots' if boots else 'does not boot'}")

    def _check_timers(self) -> None:
        """Check that what was pulled again has no timer from before; a tag that leads to another's pull keeps its own."""
        name = str((self._world.reading().metadata(f"{CONTENT}/{self._scene.due}") or {}).get("name", ""))
        for repository in self._scene.owners:
            since = state_of(self._world.filesystem, (repository, self._digest))
            is_new = (
                self.has_gone
                and self._is_other(repository)
                and name.startswith((f"{repository}:", f"{repository}@"))
            )
            if is_new and since == OLD_TIMER and (repository, self._digest) not in self._scene.touches:
                self.faults.append(f"the old timer of {repository} is left")

    def _is_other(self, repository: str) -> bool:
        """Return whether what a repository has of the digest, if anything, is another disk than it was."""
        return not self._disks[repository] & self._disks_of(repository)

    def _disks_of(self, repository: str) -> set[int]:
        folders = (f"{CONTENT}/{self._scene.due}", f"{IMAGES}/{repository}/{self._scene.due}")
        inodes = (self._world.disk.inode(f"{folder}/{DISK}") for folder in folders)
        return {inode for inode in inodes if inode is not None}

    def check_at_rest(self) -> None:
        """Check the tree some minutes and some sweeps later."""
        reading = self._world.reading()
        self._check_references(reading)
        for ghost in reading.ghosts():
            # A staging folder that a loss of power has left is not hmret's to clear away, nor what it lies in.
            if self._world.disk.names(f"{CONTENT}/{ghost}") == [METADATA]:
                self.faults.append(f"{ghost[:4]} is left without a disk")
        for path in self._world.filesystem.tree(DATA):
            if path.startswith(f"{TRASH}/") or "/.hmret" in path:
                self.faults.append(f"left behind: {path}")
        disks = {self._world.disk.inode(f"{folder}/{DISK}") for folder in reading.folders_of_images()}
        for identity, running in self._world.hypeman.running.items():
            if running.inode not in disks:
                self.faults.append(f"{identity} was created, and its disk has gone")


def _links_of(repository: str, tag: str) -> list[str]:
    return [link_of(repository, tag, in_content=in_content) for in_content in (True, False)]
