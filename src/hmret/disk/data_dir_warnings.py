"""Warnings about valid settings that the disk casts doubt on: the data directory, its leases and links."""

import itertools
import os
import pathlib
import stat
from collections.abc import Iterator
from contextlib import suppress

from hmret.disk.filesystem import POSIX, Filesystem
from hmret.disk.folders import opened, opened_folder
from hmret.disk.hypeman.hidden import Hidden, find_hidden
from hmret.disk.hypeman.repositories import is_host, list_entries
from hmret.disk.kernel_lease_trial import do_leases_break
from hmret.disk.layout import DIGEST_HEX, FOLDER_NAME, IMAGES, METADATA, OWN, REPOSITORIES
from hmret.model.policy.config import RetentionConfig

_MOST_LINKS = 10  # links that are listed
_MOST_LISTED = 10_000  # folders that are listed for links: more than any host has repositories
_MOST_FOLDERS = 200  # folders that are searched for a file to try a lease on


def doubt_data_dir(config: RetentionConfig) -> tuple[str, ...]:
    """List what is probably unintended about the configured data directory; one line each."""
    data_dir = pathlib.Path(config.data_dir)
    return (
        *_look_at_data_dir(data_dir),
        *_doubt_read_only(data_dir),
        *_look_for_links(data_dir),
        *_doubt_access_times(config),
    )


def image_disk_bytes(config: RetentionConfig) -> int | None:
    """Return the size of the images' file system, without what is reserved for root; None: unknown."""
    try:
        space = os.statvfs(f"{config.data_dir}/images")
    except (OSError, ValueError):
        return None
    return (space.f_blocks - space.f_bfree + space.f_bavail) * space.f_frsize


def _doubt_access_times(config: RetentionConfig) -> Iterator[str]:
    flags = _mount_flags(pathlib.Path(config.data_dir) / IMAGES)
    if config.access_time != "never" and flags is not None and flags & os.ST_NOATIME:
        yield (
            f"hmret.access_time: {config.access_time}, but the images lie on a file system that is mounted noatime, "
            "so no read of a disk is ever noted; mount it relatime, or set never"
        )


def _doubt_read_only(data_dir: pathlib.Path) -> Iterator[str]:
    """Warn of what cannot be written, as its mount says: nothing is tried."""
    # hmret's own folder is made when it is needed, inside what is there of its path.
    places = (data_dir / OWN, (data_dir / OWN).parent, data_dir)
    of_own = next((folder for folder in places if _mount_flags(folder) is not None), data_dir)
    for folder, outcome in ((of_own, "run does not start"), (data_dir / IMAGES, "no image can be deleted")):
        if (_mount_flags(folder) or 0) & os.ST_RDONLY:
            yield f"data_dir: {str(folder)!r} lies on a file system that is mounted read-only, so {outcome}"
            return


def _mount_flags(folder: pathlib.Path) -> int | None:
    """Return the flags with which the file system of a folder is mounted; None: it is not there, or not to be asked."""
    try:
        return os.statvfs(folder).f_flag
    except (OSError, ValueError):
        return None


def _look_at_data_dir(data_dir: pathlib.Path) -> list[str]:
    warnings: list[str] = []
    if not data_dir.is_absolute():
        warnings.append(f"data_dir: {str(data_dir)!r} depends on the folder in which hmret is started")
    for folder in (data_dir, data_dir / "images"):
        try:
            problem = "" if stat.S_ISDIR(folder.stat().st_mode) else "not a folder"
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
        if problem:
            outcome = "run does not start" if folder == data_dir else "there is nothing to do"
            return [*warnings, f"data_dir: {str(folder)!r}: {problem}, so {outcome}"]
    refused = _probe_leases(data_dir / "images")
    if refused is not None:
        warnings.append(
            f"data_dir: {str(data_dir)!r} offers no file leases ({refused}), so hmret cannot ask the kernel "
            "whether a disk is open"
        )
    return warnings


def try_leases(data_dir: str) -> tuple[str, ...]:
    """Warn if a rename breaks the kernel's leases, as tried on a file of hmret's own in its folder."""
    try:
        with opened(POSIX, os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)) as fd:
            if not do_leases_break(POSIX, fd):
                return ()
    except OSError:
        return ()
    warning = (
        f"data_dir: on {data_dir!r} a rename breaks the kernel's file leases, so open disks cannot be detected: "
        "nothing is deleted, unless hmret.leases: when-offered lets references alone decide"
    )
    return (warning,)


def _look_for_links(data_dir: pathlib.Path) -> Iterator[str]:
    """Warn of links that hide images, which suspend deletion."""
    try:
        images_fd = os.open(data_dir / "images", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    with opened(POSIX, images_fd):
        for link in itertools.islice(_find_hidden_links(POSIX, images_fd), _MOST_LINKS):
            yield (
                f"data_dir: {str(data_dir / 'images' / link.path)!r} is {link.problem}, so nothing is deleted; "
                "to keep it on another disk, replace the link with a bind mount"
            )


def _find_hidden_links(filesystem: Filesystem, images_fd: int) -> Iterator[Hidden]:
    """List the links below `images/` that hide images; folders that cannot be listed are skipped."""
    waiting = ["", REPOSITORIES]
    for _ in range(_MOST_LISTED):
        if not waiting:
            return
        path = waiting.pop()
        with suppress(OSError), opened_folder(filesystem, path or ".", images_fd) as fd:
            entries = list_entries(filesystem, fd)
            is_top = path in ("", REPOSITORIES)
            links = filter(is_host, entries.links) if is_top else entries.links
            yield from (link for link in find_hidden(filesystem, fd, path, links) if link.problem)
            waiting.extend(
                f"{path}/{name}".lstrip("/")
                for name in filter(FOLDER_NAME.fullmatch, entries.folders)
                if (
                    is_host(name)
                    if is_top
                    else path.startswith(REPOSITORIES) or not DIGEST_HEX.fullmatch(name)
                )
            )


def _probe_leases(images: pathlib.Path) -> str | None:
    """Try a lease on the first image file that is found; returns the problem, None: none, or no file."""
    for folder, _, files in itertools.islice(os.walk(images), _MOST_FOLDERS):
        if METADATA in files:
            try:
                with opened(POSIX, POSIX.open(f"{folder}/{METADATA}", os.O_RDONLY | os.O_NONBLOCK)) as fd:
                    POSIX.take_lease(fd)
            except (BlockingIOError, FileNotFoundError):
                return None
            except OSError as error:
                return error.strerror
            return None
    return None
