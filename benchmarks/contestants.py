"""Ways to read all images of a data directory, to be compared: `python benchmarks/contestants.py WAY DATA_DIR`.

Each does the same: every folder below `images/`, every tag, the metadata of every image (decoded by msgspec) and a
`stat` of its disk. Prints one JSON line: the images found, and the seconds without the interpreter's own start.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import aiofiles
import aiofiles.os
import anyio
import anyio.to_thread
import msgspec

from hmret.actors.scanner import Scanner
from hmret.actors.threads import WorkerThreads
from hmret.disk.filesystem import POSIX

_PART = 500
"""Names of one folder that are read at a time."""
_BATCH = 1000
"""Names in a batch: images and tags."""
_HEX_LENGTH = 64
_DISKS = ("rootfs.erofs", "rootfs.ext4")

_Part = tuple[str, list[str]]
"""A folder, and names in it."""


class _Metadata(msgspec.Struct, gc=False):
    name: str = ""
    digest: str = ""
    status: str = ""
    size_bytes: int = 0


_decoder = msgspec.json.Decoder(_Metadata)


def _list_folders(images: str) -> list[_Part]:
    """List the folders that hold images or tags, large ones in parts."""
    found: list[_Part] = []
    pending = [images]
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as entries:
            below = [(entry.path, entry.name, entry.is_symlink(), entry.is_dir()) for entry in entries]
        names = [name for _, name, is_link, _ in below if is_link or len(name) == _HEX_LENGTH]
        found += [(folder, names[start : start + _PART]) for start in range(0, len(names), _PART)]
        pending += [
            path for path, name, link, is_dir in below if is_dir and not link and len(name) != _HEX_LENGTH
        ]
    return found


def _read_folders(folders: Sequence[_Part]) -> list[tuple[str, str, int]]:
    """Read the images and tags of some folders, with plain system calls."""
    images = []
    for folder, names in folders:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names:
                if len(name) == _HEX_LENGTH:
                    images.append(_read_image(fd, name))
                else:
                    os.readlink(name, dir_fd=fd)
        finally:
            os.close(fd)
    return images


def _read_image(folder_fd: int, name: str) -> tuple[str, str, int]:
    fd = os.open(f"{name}/metadata.json", os.O_RDONLY, dir_fd=folder_fd)
    try:
        metadata = _decoder.decode(os.read(fd, 65_536))
    finally:
        os.close(fd)
    for disk in _DISKS:
        with suppress(FileNotFoundError):
            found = os.stat(f"{name}/{disk}", dir_fd=folder_fd, follow_symlinks=False)
            return metadata.digest, metadata.status, found.st_blocks
    return metadata.digest, metadata.status, 0


def _batches(folders: Sequence[_Part]) -> Iterator[Sequence[_Part]]:
    """Cut them into batches of some 500 images."""
    batch: list[_Part] = []
    for folder in folders:
        batch.append(folder)
        if sum(len(names) for _, names in batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _with_hmret(data_dir: str) -> int:
    """The scanner of the engine."""
    data_fd = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    scanner = Scanner(POSIX, data_fd, WorkerThreads())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scanner.run)
        result = await scanner.scan()
        scanner.close()
    return sum(len(repository.images) for repository in result.repositories.values())


async def _with_one_thread(data_dir: str) -> int:
    """Batches of some 500 images, one thread hop each."""
    folders = await anyio.to_thread.run_sync(_list_folders, f"{data_dir}/images")
    return sum([len(await anyio.to_thread.run_sync(_read_folders, batch)) for batch in _batches(folders)])


async def _with_two_processes(data_dir: str) -> int:
    """The same batches in two worker processes, their start included."""
    return await anyio.to_thread.run_sync(_read_in_processes, data_dir)


def _read_in_processes(data_dir: str) -> int:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        batches = list(_batches(_list_folders(f"{data_dir}/images")))
        return sum(len(images) for images in pool.imap_unordered(_read_folders, batches))


async def _with_aiofiles(data_dir: str) -> int:
    """A file at a time with aiofiles, which knows asyncio only."""
    count = 0
    for folder, names in await asyncio.to_thread(_list_folders, f"{data_dir}/images"):
        for name in names:
            path = f"{folder}/{name}"
            if len(name) != _HEX_LENGTH:
                await aiofiles.os.readlink(path)
                continue
            async with aiofiles.open(f"{path}/metadata.json", "rb") as file:
                _decoder.decode(await file.read())
            for disk in _DISKS:
                with suppress(FileNotFoundError):
                    await aiofiles.os.stat(f"{path}/{disk}")
                    break
            count += 1
    return count


async def _with_anyio_path(data_dir: str) -> int:
    """A file at a time with anyio.Path."""
    count = 0
    pending = [anyio.Path(data_dir, "images")]
    while pending:
        async for path in pending.pop().iterdir():
            if stat.S_ISLNK((await path.lstat()).st_mode):
                await path.readlink()
            elif len(path.name) != _HEX_LENGTH:
                pending.append(path)
            else:
                _decoder.decode(await (path / "metadata.json").read_bytes())
                for disk in _DISKS:
                    with suppress(FileNotFoundError):
                        await (path / disk).lstat()
                        break
                count += 1
    return count


WAYS: dict[str, Callable[[str], Awaitable[int]]] = {
    "hmret": _with_hmret,
    "one-thread": _with_one_thread,
    "two-processes": _with_two_processes,
    "aiofiles": _with_aiofiles,
    "anyio-path": _with_anyio_path,
}


async def _timed(way: str, data_dir: str) -> None:
    begin = time.perf_counter()
    images = await WAYS[way](data_dir)
    print(json.dumps({"images": images, "seconds": time.perf_counter() - begin}))


def main() -> None:
    """Read one data directory in the way that the command line names."""
    parser = argparse.ArgumentParser(description="Read all images in one of several ways.")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("data_dir")
    options = parser.parse_args()
    anyio.run(_timed, options.way, options.data_dir, backend="asyncio")


if __name__ == "__main__":
    main()
