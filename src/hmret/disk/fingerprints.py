"""Telling by its time stamps that a file or a folder is still what was found there.

Two changes within the granularity of a time stamp cannot be told apart. So nothing is known of what had changed less
than two seconds before it was looked at, or later than that: it is looked at again. Where it is known how the kernel
stamps, a change that it would stamp later than the last one is enough.
"""

from hmret.disk.filesystem import Filesystem, Stat
from hmret.model.times import SECOND

__all__ = ["INODE_BITS", "SETTLING_NS", "Fingerprint", "is_unchanged", "stable_fingerprint", "stable_since"]

INODE_BITS = 2**63 - 1
"""As much of an inode number as a mark holds: some file systems use all 64 bits."""

Fingerprint = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, and when contents and inode last changed, in nanoseconds."""

SETTLING_NS = 2 * SECOND
"""How long ago a change must lie, in nanoseconds, for the next one to show."""


def stable_fingerprint(found: Stat, looked_ns: int) -> Fingerprint | None:
    """Make what tells the next version from the one that was looked at; None where its last change is too fresh.

    `looked_ns` is the file system's time before the look.
    """
    # guard(recent-change-is-unknown): A second write within two seconds may leave the same time stamp, so what has
    # just changed is read again at the next look.
    if max(found.st_mtime_ns, found.st_ctime_ns) > looked_ns - SETTLING_NS:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def stable_since(changed_ns: int, looked_ns: int, earliest_ns: int | None) -> bool:
    """Return whether whatever changes after a look gets another stamp than the last change before it.

    Args:
        changed_ns: that stamp.
        looked_ns: the file system's time before the look.
        earliest_ns: what the next change can be stamped with at the earliest, asked before the look; None: not known.
    """
    if changed_ns <= looked_ns - SETTLING_NS:
        return True
    # A file system that was made with whole seconds shows it in its stamps.
    return earliest_ns is not None and changed_ns < earliest_ns and changed_ns % SECOND != 0


def is_unchanged(filesystem: Filesystem, path: str, dir_fd: int, fingerprint: Fingerprint) -> bool:
    """Return whether a path, whose last component must not be a symbolic link, still has a fingerprint."""
    try:
        found = filesystem.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    # guard(changed-stamp-is-reread): What others have changed shows in time stamps or inode; it is read again instead
    # of trusted.
    return (
        found.st_ctime_ns == fingerprint[4]
        and found.st_mtime_ns == fingerprint[3]
        and found.st_ino == fingerprint[1]
        and found.st_dev == fingerprint[0]
    )
