"""How full the file system of the images is."""

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened
from hmret.disk.layout import IMAGES
from hmret.model.images import DiskUsage


def look_at_usage(filesystem: Filesystem, data_fd: int) -> DiskUsage | None:
    """Read how full the file system of `images/` is, as `df` shows it; None where there is no such folder.

    Used is everything that is not free; available is what is free to users other than root. So their sum
    leaves out the reserve that a file system keeps for root.

    Raises:
        OSError: the folder exists but cannot be examined.
    """
    try:
        fd = open_data_folder(filesystem, data_fd, IMAGES)
    except FileNotFoundError:
        return None
    with opened(filesystem, fd):
        space = filesystem.fstatvfs(fd)
    return DiskUsage((space.f_blocks - space.f_bfree) * space.f_frsize, space.f_bavail * space.f_frsize)
