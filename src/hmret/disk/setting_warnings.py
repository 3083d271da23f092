"""Settings that are allowed but probably not meant."""

import itertools
import os
import pathlib
import stat
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import Literal

from hmret.disk.config_files import reason_of
from hmret.disk.filesystem import POSIX
from hmret.disk.folders import opened
from hmret.disk.hypeman.hidden_links import find_hidden_links
from hmret.disk.layout import METADATA
from hmret.disk.lease_trial import do_leases_break
from hmret.disk.rule_warnings import doubt_rules
from hmret.disk.setting_neighbours import NEIGHBOURS, doubt_neighbours
from hmret.model.config import RetentionConfig
from hmret.model.patterns import why_never
from hmret.model.values import frozen

__all__ = ["Setting", "Source", "try_leases", "warnings_about"]

Source = Literal["default", "file", "environment", "flag"]

AUTO_DELETE = "images.auto_delete"
_MAX_SOCKET_BYTES = 107  # sun_path of a Linux socket address, without its NUL
_MOST_LINKS = 10  # that are told
_MOST_FOLDERS = 200  # that are looked into for a file to try a lease on


@frozen
class Setting:
    """One effective value and where it came from."""

    value: object
    """Ready for JSON: durations are seconds, as a float, sizes bytes, shares percentages as text; None: unset."""
    source: Source


def warnings_about(
    config: RetentionConfig, values: Mapping[str, Setting], neighbours: Mapping[str, str] = NEIGHBOURS
) -> tuple[str, ...]:
    """Look for settings that are allowed but probably not meant; looks at the data directory on the disk.

    `neighbours`: the settings of hypeman's own that ours must get along with.
    """
    auto_delete = config.auto_delete
    warnings = [
        f"{key}: {reason}"
        for key, patterns in (
            (f"{AUTO_DELETE}.allowed", auto_delete.allowed),
            ("hmret.pinned", config.pinned),
        )
        for reason in map(why_never, patterns)
        if reason is not None
    ]
    if config.active and not auto_delete.allowed:
        warnings.append(f"{AUTO_DELETE}.allowed: empty, so nothing is eligible for deletion")
    if any(not pattern.strip("*") for pattern in config.pinned):
        warnings.append("hmret.pinned: covers every repository, so nothing is eligible for deletion")
    both = [values[key] for key in (f"{AUTO_DELETE}.enabled", "hmret.enabled")]
    if all(setting.value is True and setting.source in ("file", "environment") for setting in both):
        warnings.append(
            f"{AUTO_DELETE}.enabled and hmret.enabled: both true, so beside a hypeman server two controllers "
            f"delete; {AUTO_DELETE}.enabled should be false there"
        )
    if config.unreadable_references == "ignore":
        warnings.append(
            "hmret.unreadable_references: ignore is less safe, "
            "an image whose only reference cannot be read may be deleted"
        )
    if len(os.fsencode(config.control_socket)) > _MAX_SOCKET_BYTES:
        warnings.append(
            f"hmret.control_socket: longer than the {_MAX_SOCKET_BYTES} bytes that a socket's path may have"
        )
    if config.metrics_listen.startswith(("0.0.0.0:", "[::]:")):
        warnings.append(
            f"hmret.metrics_listen: {config.metrics_listen} is open to every network of this host"
        )
    return (
        *_look_at_data_dir(pathlib.Path(config.data_dir)),
        *_look_for_links(pathlib.Path(config.data_dir)),
        *_doubt_access_times(config),
        *warnings,
        *doubt_rules(config.rules),
        *_doubt_limits(config),
        *_doubt_brake(values),
        *doubt_neighbours(config, neighbours),
    )


def _doubt_access_times(config: RetentionConfig) -> Iterator[str]:
    try:
        notes_reads = not os.statvfs(f"{config.data_dir}/images").f_flag & os.ST_NOATIME
    except OSError:
        return
    if config.access_time != "never" and not notes_reads:
        yield (
            f"hmret.access_time: {config.access_time}, but the images lie on a file system that is mounted noatime, "
            "so no read of a disk is ever noted; mount it relatime, or set never"
        )


def _doubt_limits(config: RetentionConfig) -> Iterator[str]:
    windows = [config.auto_delete.unused_for, *(rule.unused_for for rule in config.rules)]
    longest = max(window for window in windows if isinstance(window, timedelta))
    if config.disk.is_set and config.disk.min_unused_for > longest:
        yield (
            f"hmret.disk.min_unused_for: longer than {AUTO_DELETE}.unused_for and every rule's window, "
            "so no image goes before its window ends, however full the disk is"
        )
    if config.disk.is_set and config.window.hours and not config.window.yields_to_pressure:
        yield (
            "hmret.window.yields_to_pressure: false, so a disk that is too full stays so until the hours "
            f"of hmret.window.hours ({', '.join(config.window.hours)})"
        )
    if config.delete_unpullable:
        yield "hmret.delete_unpullable: images that cannot be pulled again may be deleted for good"


def _doubt_brake(values: Mapping[str, Setting]) -> Iterator[str]:
    given = [key for key in ("hmret.brake", "hmret.brake_min_images") if values[key].source != "default"]
    if given and values["hmret.brake_for"].value == 0:
        yield f"{given[0]}: has no effect while hmret.brake_for is 0, which switches the brake off"


def _look_at_data_dir(data_dir: pathlib.Path) -> list[str]:
    warnings: list[str] = []
    if not data_dir.is_absolute():
        warnings.append(f"data_dir: {str(data_dir)!r} depends on the folder in which hmret is started")
    for folder in (data_dir, data_dir / "images"):
        try:
            problem = "" if stat.S_ISDIR(folder.stat().st_mode) else "not a folder"
        except OSError as error:
            problem = reason_of(error)
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
    """Warn where a rename breaks the kernel's leases; tried on a file of hmret's own, where its folder is there."""
    try:
        with opened(POSIX, os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)) as fd:
            if not do_leases_break(POSIX, fd):
                return ()
    except OSError:
        return ()
    told = (
        f"data_dir: on {data_dir!r} a rename breaks the kernel's leases, so nobody can tell whether a disk is open: "
        "nothing is deleted, unless hmret.leases: when-offered lets references alone decide"
    )
    return (told,)


def _look_for_links(data_dir: pathlib.Path) -> Iterator[str]:
    """Warn of links that hide images, which suspend deletion."""
    try:
        images_fd = os.open(data_dir / "images", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    with opened(POSIX, images_fd):
        for link in islice(find_hidden_links(POSIX, images_fd), _MOST_LINKS):
            yield (
                f"data_dir: {str(data_dir / 'images' / link.path)!r} is {link.problem}, so nothing is deleted; "
                "to have it on another disk, use a bind mount in the place of the link"
            )


def _probe_leases(images: pathlib.Path) -> str | None:
    """Try whether the kernel gives its word, on the first file of an image that is found; None: it does, or no file."""
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
