"""Obstacles to a deletion, found before a plan promises that an image goes: hmret or the kernel would refuse it.

They are found by listing the folders of images that are due, without opening any file in them.
"""

from collections.abc import Callable, Iterable
from contextlib import closing

import attrs

from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_folder
from hmret.disk.hypeman.folder_contents import contents_of
from hmret.disk.layout import CONTENT, IMAGES, hex_of
from hmret.model.images import Obstacle
from hmret.model.plan.selection import Choice
from hmret.model.references import Key
from hmret.model.values import define


def find_obstacles(
    filesystem: Filesystem,
    data_fd: int,
    choices: Iterable[Choice],
    pause: Callable[[], None] = lambda: None,
) -> dict[Key, Obstacle]:
    """Return which of some images cannot be deleted, and why; by the first row of each."""
    found: dict[Key, Obstacle] = {}
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        looking = _Looking(filesystem, folders)
        for choice in choices:
            obstacle = looking.look_at(choice)
            if obstacle is not None:
                found[choice.keys[0]] = obstacle
            pause()
    return found


@define(eq=False)
class _Looking:
    """Examines the folders of some images, one after the other."""

    filesystem: Filesystem
    folders: OpenFolders
    _barriers: dict[str, str] = attrs.field(factory=dict)
    """By folder: what prevents changes of everything in it."""

    def look_at(self, choice: Choice) -> Obstacle | None:
        making: Obstacle | None = None
        for parent in _parents(choice):
            try:
                obstacle = self._look_into(parent, hex_of(choice.digest))
            except OSError:
                # It has gone, or the deletion will report what is wrong.
                continue
            if obstacle is not None and not obstacle.will_pass:
                return obstacle
            making = making or obstacle
        return making

    def _look_into(self, parent: str, name: str) -> Obstacle | None:
        parent_fd = self.folders.get(parent)
        path = f"{parent}/{name}"
        with opened_folder(self.filesystem, name, parent_fd) as folder_fd:
            listing = self.filesystem.list_folder(folder_fd)
            contents = contents_of(self.filesystem, folder_fd, listing)
            if contents.foreign is not None:
                return Obstacle(path, contents.foreign, is_broken=True)
            files = [(f"{path}/{file}", folder_fd, file) for file in sorted(listing[2])]
            barriers = (self._barrier(*where) for where in ((path, parent_fd, name), *files))
            barrier = self._barrier_in(parent, parent_fd) or next(filter(None, barriers), None)
        if barrier is None and contents.making is not None:
            return Obstacle(path, contents.making, will_pass=True)
        return barrier

    def _barrier_in(self, parent: str, parent_fd: int) -> Obstacle | None:
        """Examine the parent of an image's folder, once for all images in it."""
        if parent not in self._barriers:
            detail = self.filesystem.find_barrier(".", dir_fd=parent_fd)
            # A folder that is itself a mount point can be changed inside all the same.
            self._barriers[parent] = "" if detail.startswith("something is mounted") else detail
        detail = self._barriers[parent]
        return Obstacle(parent, detail) if detail else None

    def _barrier(self, path: str, parent_fd: int, name: str) -> Obstacle | None:
        """Examine an image's folder, or a file in it."""
        detail = self.filesystem.find_barrier(name, dir_fd=parent_fd)
        return Obstacle(path, detail) if detail else None


def _parents(choice: Choice) -> Iterable[str]:
    """List the parents of an image's folders."""
    if not choice.image.is_content:
        yield f"{IMAGES}/{choice.repository}"
        return
    yield f"{IMAGES}/{CONTENT}"
    for name, image in ((choice.repository, choice.image), *choice.others):
        if image.copy is not None:
            yield f"{IMAGES}/{name}"
