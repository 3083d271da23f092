"""What the native core does of a deletion in one call, by single calls: the same calls in the same order.

The product has no use for it. Here it shows what each of those calls leads to, on a disk in memory that ends, fails or
changes at any of them; and the core is held to it, call by call.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs

from hmret.disk.filesystem import FileLease, Filesystem, HeldFolder, Step

__all__ = ["hold_folders", "retire_folder"]


class _Unexpected(Exception):  # noqa: N818 - it says how far it has come
    def __init__(self, step: Step, code: int) -> None:
        super().__init__(step, code)
        self.step, self.code = step, code


def hold_folders(
    filesystem: Filesystem, fds: list[int], names: list[str], metadata: str, most: int, /
) -> list[HeldFolder | int]:
    """Hold each folder, as `Filesystem.hold_folders` says."""
    answer: list[HeldFolder | int] = []
    for fd, name in zip(fds, names, strict=True):
        try:
            answer.append(filesystem.hold_folder(fd, name, metadata, most))
        except OSError as error:
            answer.append(error.errno or errno.EIO)
    return answer


def retire_folder(
    filesystem: Filesystem,
    fds: tuple[int, int, int, int, int],
    names: tuple[str, str],
    numbers: tuple[int, int, int, bool, bool],
    files: list[int],
    absent: list[str],
    tags: tuple[list[int], list[str], list[int], list[str], list[str]],
    timers: tuple[list[int], list[str], list[int]],
    /,
) -> tuple[int, int, int]:
    """Do what `Filesystem.retire_folder` says."""
    going = _Going(filesystem, fds, names, numbers, files, absent)
    try:
        going.rename_out()
        going.look_for_arrivals(Step.CLOSED)
        going.set_aside(tags)
        going.look_for_arrivals(Step.LOOKED)
        going.remove(tags[4], timers)
    except _Unexpected as stopped:
        return stopped.step, stopped.code, going.gone
    return Step.DONE, 0, going.gone


@attrs.define(eq=False)
class _Going:
    filesystem: Filesystem
    fds: tuple[int, int, int, int, int]
    names: tuple[str, str]
    numbers: tuple[int, int, int, bool, bool]
    files: list[int]
    absent: list[str]
    gone: int = 0

    def rename_out(self) -> None:
        filesystem = self.filesystem
        _, parent_fd, trash_fd, folder_fd, metadata_fd = self.fds
        name, aside = self.names
        inode, changed_ns, metadata_ns, syncs, leases = self.numbers
        leased = self.files if leases else []
        with _at(Step.NOT_BEGUN):
            for fd in leased:
                filesystem.take_lease(fd)
            _expect(filesystem.fstat(metadata_fd).st_ctime_ns, metadata_ns)
            if syncs:
                _expect(filesystem.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_ino, inode)
        with _at(Step.LEASED):
            filesystem.rename(name, aside, src_dir_fd=parent_fd, dst_dir_fd=trash_fd)
        with _at(Step.RENAMED):
            moved = filesystem.stat(aside, dir_fd=trash_fd, follow_symlinks=False)
            _expect((moved.st_ino, moved.st_mtime_ns), (inode, changed_ns))
            for fd in (parent_fd, trash_fd) if syncs else ():
                filesystem.fsync(fd)
            _expect([self._lease_of(fd) for fd in leased], [FileLease.HELD] * len(leased), errno.EBUSY)
        filesystem.close_all([*self.files, folder_fd])

    def _lease_of(self, fd: int) -> int | None:
        with suppress(OSError):
            return self.filesystem.ask_lease(fd)
        return None

    def look_for_arrivals(self, step: Step) -> None:
        with _at(step):
            for path in self.absent:
                with suppress(FileNotFoundError, NotADirectoryError):
                    self.filesystem.stat(path, dir_fd=self.fds[0], follow_symlinks=False)
                    raise FileExistsError(errno.EEXIST, path)

    def set_aside(self, tags: tuple[list[int], list[str], list[int], list[str], list[str]]) -> None:
        with _at(Step.LOOKED):
            for tag_fd, tag, inode, target, aside in zip(*tags, strict=True):
                answers = self.filesystem.set_aside(tag_fd, [tag], [inode], self.fds[2], [aside])
                [(code, doubt, found, leads)] = answers
                _expect(code or doubt, 0, code or doubt)
                _expect((found, leads), (inode, target))

    def remove(self, asides: list[str], timers: tuple[list[int], list[str], list[int]]) -> None:
        with _at(Step.LOOKED):
            for aside in reversed(asides):
                self.filesystem.unlink(aside, dir_fd=self.fds[2])
                self.gone += 1
            for number, (fd, timer) in enumerate(zip(*timers[:2], strict=True)):
                [found] = self.filesystem.stat_files(fd, [timer])
                code = found if isinstance(found, int) else errno.ESTALE
                _expect(found, tuple(timers[2][6 * number : 6 * number + 6]), code)
                self.filesystem.unlink(timer, dir_fd=fd)


@contextmanager
def _at(step: Step) -> Iterator[None]:
    """Whatever goes wrong in the block, that is how far it has come."""
    try:
        yield
    except OSError as error:
        raise _Unexpected(step, error.errno or errno.EIO) from None


def _expect(found: object, wanted: object, code: int = errno.ESTALE) -> None:
    if found != wanted:
        raise OSError(code, "not as expected")
