"""Reading the build records of this host: an image that was built here cannot be pulled again.

A record names what was built by `image_digest`, and by the references `image_ref` and `request.image_name`. A
record is not a reference: it does not prevent a deletion by itself, and an unreadable one is reported but
suspends nothing.
"""

import os
import re
from collections.abc import Callable, Mapping

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint, is_unchanged, stable_fingerprint
from hmret.disk.folders import opened, read_file
from hmret.disk.hypeman.documents import FAULTS, UnreadableError, decode_by_field, fault_of
from hmret.disk.layout import BUILDS, METADATA
from hmret.model.origins import Builds
from hmret.model.values import frozen

_LIST = os.O_RDONLY | os.O_DIRECTORY
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_MEMBER = re.compile(rb'"image_digest"\s*:\s*"(sha256:[0-9a-f]{64})"')


class _Request(msgspec.Struct, gc=False):
    image_name: str | None = None


class _Record(msgspec.Struct, gc=False):
    image_digest: str | None = None
    image_ref: str | None = None
    request: _Request | None = None


@frozen
class _BuildFile:
    digest: str = ""
    references: tuple[str, ...] = ()
    problem: str = ""
    fingerprint: Fingerprint | None = attrs.field(default=None, eq=False)


@frozen
class BuildsFound:
    """The images that build records name; `builds` is the same object where a look finds nothing new."""

    builds: Builds
    problems: tuple[tuple[str, str], ...] = ()
    """Paths of records that could not be read, and why."""
    files: Mapping[str, _BuildFile] = attrs.field(factory=dict, repr=False)
    fingerprint: Fingerprint | None = attrs.field(default=None, eq=False)


NO_BUILDS = BuildsFound(Builds())


def look_at_builds(
    filesystem: Filesystem,
    data_fd: int,
    known: BuildsFound = NO_BUILDS,
    pause: Callable[[], None] = lambda: None,
) -> BuildsFound:
    """Read the build records; those whose files have not changed are not read again.

    Where the folder cannot be listed, what was known is kept.
    """
    try:
        fd = filesystem.open(BUILDS, _LIST, dir_fd=data_fd)
    except FileNotFoundError:
        return NO_BUILDS
    except OSError as error:
        return attrs.evolve(known, problems=((BUILDS, error.strerror or str(error)),))
    with opened(filesystem, fd):
        looked_ns = filesystem.now_ns()
        try:
            fingerprint = stable_fingerprint(filesystem.fstat(fd), looked_ns)
            if fingerprint is not None and fingerprint == known.fingerprint:
                names = list(known.files)
            else:
                with filesystem.scandir(fd) as entries:
                    names = sorted(entry.name for entry in entries)
        except OSError as error:
            return attrs.evolve(known, problems=((BUILDS, error.strerror or str(error)),))
        files: dict[str, _BuildFile] = {}
        for name in names:
            files[name] = _look(filesystem, fd, name, known.files.get(name))
            pause()
    if files == known.files:
        # The same objects, for everything that rests on them; but their fingerprints may have become stable.
        return (
            known
            if fingerprint == known.fingerprint
            else attrs.evolve(known, files=files, fingerprint=fingerprint)
        )
    return BuildsFound(
        Builds.of(
            (file.digest for file in files.values() if file.digest),
            (text for file in files.values() for text in file.references),
        ),
        tuple((f"{BUILDS}/{name}/{METADATA}", file.problem) for name, file in files.items() if file.problem),
        files,
        fingerprint,
    )


def _look(filesystem: Filesystem, fd: int, name: str, known: _BuildFile | None) -> _BuildFile:
    path = f"{name}/{METADATA}"
    if (
        known is not None
        and known.fingerprint is not None
        and is_unchanged(filesystem, path, fd, known.fingerprint)
    ):
        return known
    try:
        fingerprint = stable_fingerprint(
            filesystem.stat(path, dir_fd=fd, follow_symlinks=False), filesystem.now_ns()
        )
        content = read_file(filesystem, path, fd)
    except (FileNotFoundError, NotADirectoryError):
        # The build has only begun.
        return _BuildFile()
    except OSError as error:
        return _BuildFile(problem=error.strerror or str(error))
    return attrs.evolve(_read(content), fingerprint=fingerprint)


def _read(content: bytes) -> _BuildFile:
    """Read a record as far as it is readable."""
    match = _DIGEST_MEMBER.search(content)
    digest = "" if match is None else match[1].decode()
    try:
        record = msgspec.json.decode(content, type=_Record)
    except msgspec.ValidationError:
        # A field has an unexpected type; the others still count.
        try:
            record = decode_by_field(content, _Record)
        except UnreadableError:
            return _BuildFile(digest, problem="not a JSON object")
    except FAULTS as error:
        return _BuildFile(digest, problem=fault_of(error))
    asked = None if record.request is None else record.request.image_name
    named = tuple(text for text in (record.image_ref, asked) if text)
    stated = record.image_digest or ""
    return _BuildFile(stated if _DIGEST.fullmatch(stated) else digest, named)
