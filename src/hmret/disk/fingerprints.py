"""Recognising an unchanged file or folder by its time stamps, without reading it again.

A fingerprint is taken when something is read, and as long as `stat` still returns it, what was read is taken
to be still true. The danger is a racy time stamp: the kernel stamps in ticks, and some file systems in whole
seconds, so a change right after a read may leave the very same stamp as the change before the read. It would
never be noticed.

So a fingerprint counts only if the last change lies at least two seconds before the moment at which the look
*began*, by the clock that stamps the files; any later change then gets a different stamp. Something that has
changed more recently, or is dated in the future, has no fingerprint, and is read again at every look until it
has settled. The clock is asked before the look, never after it: a change during the look then either counts
as too recent or gets a different stamp.

On file systems that this kernel stamps itself, two seconds are not needed: there it suffices that the next
change cannot be stamped as early as the last one (`stable_since`).

By these rules a fingerprint errs only to the safe side: at worst something unchanged is read again. The
opposite error would lose an image: that of a guest whose rewritten metadata still looked like the version
read before.
"""

from hmret.disk.filesystem import Filesystem, Stat
from hmret.model.times import SECOND

INODE_BITS = 2**63 - 1
"""The bits of an inode number that a mark holds: some file systems use all 64."""

Fingerprint = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, and the mtime and ctime in nanoseconds."""

SETTLING_NS = 2 * SECOND
"""How long ago a change must lie, in nanoseconds, for the next one to get a different stamp."""


def stable_fingerprint(found: Stat, looked_ns: int) -> Fingerprint | None:
    """Make a fingerprint of a file that was looked at; None where its last change is too recent for one.

    `looked_ns` is the file system's time from before the look.
    """
    fields = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return if_stable(fields, looked_ns)


def if_stable(fingerprint: Fingerprint, looked_ns: int) -> Fingerprint | None:
    """Return a fingerprint, or None if the last change was too recent, as for `stable_fingerprint`."""
    # guard(recent-change-is-unknown): A second write within two seconds may leave the same time stamp, so
    # what has just changed is read again at the next look.
    if max(fingerprint[3], fingerprint[4]) > looked_ns - SETTLING_NS:
        return None
    return fingerprint


def stable_since(changed_ns: int, looked_ns: int, earliest_ns: int | None) -> bool:
    """Return whether any change after a look will get a different stamp than the last change before it.

    Args:
        changed_ns: the stamp of the last change.
        looked_ns: the file system's time from before the look.
        earliest_ns: the earliest stamp that the next change can get, determined before the look; None:
            unknown.
    """
    if changed_ns <= looked_ns - SETTLING_NS:
        return True
    # A file system made with whole seconds is recognised by its stamps, which are whole seconds.
    return earliest_ns is not None and changed_ns < earliest_ns and changed_ns % SECOND != 0


def is_unchanged(filesystem: Filesystem, path: str, dir_fd: int, fingerprint: Fingerprint) -> bool:
    """Return whether a path still has a fingerprint; its last component must not be a symbolic link."""
    try:
        status = filesystem.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    # guard(changed-stamp-is-reread): What others have changed shows in time stamps or inode; it is read again
    # instead of trusted.
    return (
        status.st_ctime_ns == fingerprint[4]
        and status.st_mtime_ns == fingerprint[3]
        and status.st_ino == fingerprint[1]
        and status.st_dev == fingerprint[0]
    )
