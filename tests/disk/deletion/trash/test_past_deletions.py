"""What was deleted lately is known from the intents that were carried out, for a day."""

import pytest

from hmret.disk.deletion.trash.intent_files import drop_intents, read_intents, write_intents
from hmret.disk.deletion.trash.past_deletions import deleted_lately, forget_deleted
from hmret.disk.layout import DELETED, TRASH
from hmret.model.times import SECOND
from support.builders import DATA, START_NS, digest
from support.deletions import intent
from support.memory_filesystem import MemoryFilesystem

BATCH = "0123456789abcdef"
FILED = f"{DATA}/{DELETED}"
HOUR_NS = 3600 * SECOND


class Disk:
    """A disk whose clock the test sets."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.filesystem = MemoryFilesystem(lambda: self.now_ns)
        self.filesystem.make_folder(DATA)
        self.data_fd = self.filesystem.open(DATA, 0)

    def delete(self, letter: str, batch_name: str = BATCH) -> None:
        """Carry out a deletion, as far as its intents go."""
        going = intent("docker.io/library/alpine", digest(letter), 0, f"{batch_name}.0")
        write_intents(self.filesystem, self.data_fd, batch_name, [going])
        self.now_ns += SECOND
        drop_intents(self.filesystem, self.data_fd, batch_name, ())

    def lately(self, *letters: str, since_ns: int = 0) -> dict[str, int]:
        return deleted_lately(self.filesystem, self.data_fd, map(digest, letters), since_ns)


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_an_image_is_known_by_the_moment_before_its_deletion(disk: Disk) -> None:
    disk.delete("a")
    assert read_intents(disk.filesystem, disk.data_fd, BATCH) == []
    assert disk.lately("a", "b") == {digest("a"): START_NS}


def test_the_last_deletion_counts(disk: Disk) -> None:
    disk.delete("a")
    disk.now_ns = START_NS + HOUR_NS
    disk.delete("a", "f" * 16)
    assert disk.lately("a") == {digest("a"): START_NS + HOUR_NS}


def test_what_was_before_the_moment_that_is_asked_for_is_left_out(disk: Disk) -> None:
    disk.delete("a")
    assert disk.lately("a", since_ns=START_NS + 1) == {}


def test_nothing_is_known_where_nothing_was_deleted(disk: Disk) -> None:
    assert disk.lately("a") == {}
    forget_deleted(disk.filesystem, disk.data_fd, START_NS)


def test_what_is_no_file_of_intents_says_nothing(disk: Disk) -> None:
    disk.delete("a")
    for number, content in enumerate((b"", b"[1]", b"[" * 2000, b"\xff")):
        disk.filesystem.write_file(f"{FILED}/{number:016x}.json", content)
    assert disk.lately("a") == {digest("a"): START_NS}


def test_old_ones_are_forgotten_and_so_are_all_but_a_thousand(disk: Disk) -> None:
    disk.delete("a")
    for number in range(1001):
        disk.now_ns = START_NS + HOUR_NS + number * SECOND
        disk.delete("b", f"{number:016x}")
    forget_deleted(disk.filesystem, disk.data_fd, START_NS + 1)
    assert disk.lately("a") == {}
    assert sum(path.startswith(f"{FILED}/") for path in disk.filesystem.tree(DATA)) == 1000
    assert disk.lately("b") == {digest("b"): START_NS + HOUR_NS + 1000 * SECOND}


def test_without_room_for_the_record_the_intents_are_dropped(disk: Disk) -> None:
    disk.filesystem.write_file(FILED, b"a file where the folder should be")
    disk.delete("a")
    assert read_intents(disk.filesystem, disk.data_fd, BATCH) == []
    assert [path for path in disk.filesystem.tree(DATA) if f"{TRASH}/" in path] == []
    assert disk.lately("a") == {}
