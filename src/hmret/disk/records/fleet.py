"""What this data directory has told the fleet: its cache id, and the record of what it registered.

`system/hmret/cache-id` holds 8 hexadecimal digits, made once for a data directory. `system/hmret/fleet` holds
the lines of `hmret.model.records.fleet`, appended and synced, and is rewritten by rename.

**What is registered is always a subset of what is on record**, as `+` or `?`: a line that a request rests on is
durable before the request is sent. Whoever makes the record smaller has first made sure, in etcd, that the
copy is not counted.

Calls that write must follow one another. Properties, `standing`, `age_of` and `see` may be used by another
thread meanwhile.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from hmret.disk.filesystem import Filesystem, Stat
from hmret.disk.folders import (
    READ,
    let_go,
    opened,
    opened_data_folder,
    opened_own_folder,
    write_all,
    write_file,
)
from hmret.disk.layout import DIGEST_HEX, OWN, digest_of, hex_of
from hmret.model.records.fleet import KEPT_MARKS, FleetRecordContents, MarkAge, Seen, Standing
from hmret.model.values import frozen

CACHE_ID = "cache-id"
FLEET = "fleet"
_LARGEST_RECORD = 256 * 1024 * 1024  # some 4 million lines
_CHUNK = 1 << 20
_SPARE_LINES = 1000
_ID = re.compile(r"[0-9a-f]{8}")


@frozen
class _FileOnDisk:
    """The file as it was last written or read, by which an unexpected one is recognised."""

    inode: int
    size_bytes: int
    changed_ns: int


class FleetRecord:
    """The cache id and the record of one data directory; what was last read or written is kept in memory.

    After a call that has raised `OSError`, what is on the disk may hold more digests than what is in memory, never
    fewer; the next call that writes rewrites the file as a whole.
    """

    def __init__(
        self, filesystem: Filesystem, data_fd: int, *, random_hex: Callable[[int], str] | None = None
    ) -> None:
        """Read both files; what cannot be read shows in `needs_cache_id`."""
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._random_hex = random_hex or _random_hex
        self._contents = FleetRecordContents()
        self._on_disk: _FileOnDisk | None = None
        self._line_count = 0
        self._seen_on_disk: Seen | None = None
        self._is_believed = True
        self._cache_id = self._read_cache_id()
        self._read()

    @property
    def cache_id(self) -> str:
        """The cache id on the disk; empty where there is none that can be read."""
        return self._cache_id

    @property
    def needs_cache_id(self) -> bool:
        """Whether `renew` must be called before anything is registered or released.

        So it is in a new data directory, and where either file cannot be read. Where `cache_id` is not empty,
        the session of that holder, which may be live for a while, must be ended first: it would count the
        copies of this very directory a second time.
        """
        return not self._cache_id or not self._is_believed

    @property
    def generation(self) -> str:
        """The generation that the record is of; empty: none."""
        return self._contents.generation

    @property
    def seen(self) -> Seen | None:
        """What was seen of the store in this generation; None: nothing yet."""
        return self._contents.seen

    @property
    def last_done_mark(self) -> str | None:
        """The last mark of this generation that is done; None: none is.

        Where there is one and the store has none, `forget` has been said.
        """
        return self._contents.last_done()

    @property
    def digests(self) -> dict[str, Standing]:
        """What is on record, by digest (`sha256:…`), as a copy."""
        # Copied in one go: a thread may be writing.
        known = dict(self._contents.digests)
        return {digest_of(name): standing for name, standing in known.items()}

    def standing(self, digest: str) -> Standing | None:
        """Return what is on record of a digest; None: it is surely not registered."""
        known = self._contents.digests
        return known.get(hex_of(digest))

    def age_of(self, mark: str) -> MarkAge:
        """Return how a mark that stands in `e/` relates to those on record."""
        return self._contents.age_of(mark)

    def is_older(self, mark: str, than: str) -> bool:
        """Return whether a mark was made before another one; both are on record."""
        return self._contents.is_older(mark, than)

    def renew(self) -> str:
        """Give the data directory a new cache id and an empty record, durably; returns the id.

        Raises:
            OSError: it could not be written; `needs_cache_id` then tells whether to call this again.
        """
        self._forget()
        with opened_own_folder(self._filesystem, self._data_fd) as own_fd:
            # The record goes first: after a crash the old id has an empty record, which `e/` contradicts.
            with suppress(FileNotFoundError):
                self._filesystem.unlink(FLEET, dir_fd=own_fd)
            cache_id = self._random_hex(4)
            write_file(self._filesystem, CACHE_ID, f"{cache_id}\n".encode(), own_fd, durable=True)
        self._cache_id = cache_id
        self._is_believed = True
        return cache_id

    def start(self, generation: str) -> None:
        """Begin an empty record for a generation, durably: marks and digests are forgotten.

        What was seen is forgotten too, unless the generation is the same.

        Raises:
            OSError: it is not known which of the two records is on the disk.
            ValueError: it is not text that a line can hold.
        """
        before = self._contents
        contents = FleetRecordContents()
        contents.read_line(f"generation {generation}")
        if generation == before.generation:
            contents.seen = before.seen
        self._contents = contents
        try:
            self._rewrite()
        except OSError:
            self._contents = before
            raise

    def note_request(self, digests: Iterable[str] = (), *, with_mark: bool) -> str:
        """Put on record, durably, what is about to be registered or released.

        With a mark, a new one is made, put on record with them, and returned; without, the answer is empty.
        Only after this has returned may the request be sent.

        Raises:
            OSError: it could not be written: the request must not be sent.
            ValueError: no generation has been started, or a text is not a digest.
        """
        names = [_checked_hex(digest) for digest in digests]
        mark = self._random_hex(8) if with_mark else ""
        self._append([*([f"mark {mark}"] if mark else []), *(f"? {name}" for name in names)])
        return mark

    def note_outcomes(
        self, *, done: str = "", registered: Iterable[str] = (), unregistered: Iterable[str] = ()
    ) -> None:
        """Put on record, durably, what is known to have come of requests.

        `done`: the mark of a request that has committed. Outcomes count in memory even if they cannot be
        written; on the disk a digest may then still be `?`.

        Raises:
            OSError: it could not be written.
            ValueError: no generation has been started, a text is not a digest, or the mark is not on record.
        """
        lines = [f"+ {_checked_hex(digest)}" for digest in registered]
        lines += [f"- {_checked_hex(digest)}" for digest in unregistered]
        if done:
            if done not in self._contents.marks:
                raise ValueError(f"not a mark on record: {done!r}")
            lines.append(f"done {done}")
        try:
            self._append(lines)
        except OSError:
            for line in lines:
                self._contents.read_line(line)
            raise

    def see(self, cluster_id: str, revision: int) -> None:
        """Note what an answer that is believed has shown; it is written with whatever is written next.

        A revision below the one that was seen changes nothing.
        """
        seen = self._contents.seen
        if seen is None or cluster_id != seen.cluster_id or revision > seen.revision:
            self._contents.seen = Seen(cluster_id=cluster_id, revision=revision)

    def flush(self) -> None:
        """Write what was seen, if that is not yet on the disk.

        Raises:
            OSError: it could not be written.
        """
        if self._contents.generation and self._contents.seen != self._seen_on_disk:
            self._append([])

    def _forget(self) -> None:
        self._contents = FleetRecordContents()
        self._on_disk = None
        self._seen_on_disk = None
        self._is_believed = False

    def _read_cache_id(self) -> str:
        try:
            text = self._read_file(CACHE_ID)[0].decode("ascii").removesuffix("\n")
        except (OSError, ValueError):
            return ""
        return text if _ID.fullmatch(text) else ""

    def _read(self) -> None:
        try:
            content, on_disk = self._read_file(FLEET)
        except FileNotFoundError:
            return
        except OSError:
            self._is_believed = False
            return
        # guard(torn-line-is-none): A line that was cut off was never synced, so no request rests on it.
        whole = content[: content.rfind(b"\n") + 1]
        try:
            lines = whole.decode("ascii").removesuffix("\n").split("\n")
            for line in lines:
                self._contents.read_line(line)
        except ValueError:
            lines = []
        # guard(unreadable-record-is-not-believed): What it no longer says may be registered.
        if not lines:
            self._forget()
            return
        self._line_count = len(lines)
        self._seen_on_disk = self._contents.seen
        self._on_disk = on_disk if len(whole) == len(content) else None

    def _read_file(self, name: str) -> tuple[bytes, _FileOnDisk]:
        with (
            opened_data_folder(self._filesystem, self._data_fd, OWN) as own_fd,
            opened(self._filesystem, self._filesystem.open(name, READ, dir_fd=own_fd)) as fd,
        ):
            content = bytearray()
            while part := self._filesystem.read(fd, _CHUNK):
                content += part
                if len(content) > _LARGEST_RECORD:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return bytes(content), _identity(self._filesystem.fstat(fd))

    def _append(self, lines: Sequence[str]) -> None:
        """Append lines, and what was seen, durably, and take them in."""
        if not self._contents.generation:
            raise ValueError("the record has no generation yet")
        seen = self._contents.seen
        written = lines if seen is None or seen == self._seen_on_disk else [seen.render(), *lines]
        if not written:
            return
        if self._line_count > 2 * len(self._contents.digests) + 2 * KEPT_MARKS + _SPARE_LINES:
            self._on_disk = None
        expected, self._on_disk = self._on_disk, None
        with opened_own_folder(self._filesystem, self._data_fd) as own_fd:
            fd = -1 if expected is None else self._open_expected(own_fd, expected)
            if fd < 0:
                self._rewrite_in(own_fd)
                fd = self._open(own_fd)
            try:
                write_all(self._filesystem, fd, _encode(written))
                # guard(record-is-synced-before-requests): The request that follows must not be known to etcd
                # alone.
                self._filesystem.fsync(fd)
                on_disk = _identity(self._filesystem.fstat(fd))
            finally:
                let_go(self._filesystem, fd)
        for line in lines:
            self._contents.read_line(line)
        if len(self._contents.marks) > 2 * KEPT_MARKS:
            self._contents.drop_old_marks()
        self._line_count += len(written)
        self._seen_on_disk = seen
        self._on_disk = on_disk

    def _open_expected(self, own_fd: int, expected: _FileOnDisk) -> int:
        """Open the record for appending if it is the file that was last written; else return -1."""
        try:
            fd = self._open(own_fd)
        except FileNotFoundError:
            return -1
        # guard(append-to-own-record-only): Behind a line that was cut off, or in a file that somebody put
        # there, what is appended could not be read again.
        with suppress(OSError):
            if _identity(self._filesystem.fstat(fd)) == expected:
                return fd
        let_go(self._filesystem, fd)
        return -1

    def _open(self, own_fd: int) -> int:
        # guard(no-links-for-the-record): A link in its place must not make us write into a file elsewhere.
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        return self._filesystem.open(FLEET, flags, dir_fd=own_fd)

    def _rewrite(self) -> None:
        self._on_disk = None
        with opened_own_folder(self._filesystem, self._data_fd) as own_fd:
            self._rewrite_in(own_fd)
            with opened(self._filesystem, self._open(own_fd)) as fd:
                self._on_disk = _identity(self._filesystem.fstat(fd))

    def _rewrite_in(self, own_fd: int) -> None:
        seen = self._contents.seen
        lines = self._contents.render()
        write_file(self._filesystem, FLEET, _encode(lines), own_fd, durable=True)
        self._line_count = len(lines)
        self._seen_on_disk = seen


def _random_hex(count_bytes: int) -> str:
    return os.urandom(count_bytes).hex()


def _identity(found: Stat) -> _FileOnDisk:
    return _FileOnDisk(found.st_ino, found.st_size, found.st_ctime_ns)


def _encode(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def _checked_hex(digest: str) -> str:
    name = hex_of(digest)
    if not DIGEST_HEX.fullmatch(name):
        raise ValueError(f"not a digest: {digest!r}")
    return name
