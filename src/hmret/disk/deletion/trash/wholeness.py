"""Whether a retired folder still holds all of an image, so that it can be put back."""

import errno
import stat

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import exists, opened_folder
from hmret.disk.hypeman.manifests import layers_needed
from hmret.disk.layout import HIDDEN_METADATA, IMAGES, METADATA, ROOTFS_NAMES

_LAYERS = f"{IMAGES}/layers"


class LayersGoneError(OSError):
    """A retired image cannot be put back: a layer that holds its data has gone."""


def has_metadata_and_disk(filesystem: Filesystem, parent_fd: int, name: str) -> bool:
    """Return whether a retired folder has both metadata and a disk: until its erasing has begun.

    Raises:
        OSError: that could not be determined.
    """
    return all(
        any(_is_file(filesystem, parent_fd, f"{name}/{file_name}") for file_name in names)
        for names in ((METADATA, HIDDEN_METADATA), ROOTFS_NAMES)
    )


def _is_file(filesystem: Filesystem, parent_fd: int, path: str) -> bool:
    try:
        status = filesystem.stat(path, dir_fd=parent_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode)


def check_layers(filesystem: Filesystem, data_fd: int, parent_fd: int, name: str) -> None:
    """Check that all layers needed by the image in a retired folder exist; usually it needs none.

    hypeman collects layers that no image in the cache names, those of a retired image among them.

    Raises:
        LayersGoneError: one has gone.
        OSError: that could not be determined.
    """
    with opened_folder(filesystem, name, parent_fd) as fd:
        layers = layers_needed(filesystem, fd)
    # guard(no-restore-without-layers): hypeman may have collected the layers of a retired image; restored
    # without them, it would be listed and never boot.
    for layer in layers:
        path = f"{_LAYERS}/{layer}"
        if not exists(filesystem, data_fd, path):
            fault = f"its layer {layer} has gone, so it cannot be brought back"
            raise LayersGoneError(errno.ENOENT, fault, path)
