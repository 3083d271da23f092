"""What a power cut leaves of a disk, by what was written to it."""

from pathlib import Path

import pytest

from realfs.disk_log import Cut, CutKind, DiskLog, draw_cuts
from realfs.recorder import ENTRY, FLUSH, WRITE, ZERO

BLOCK = 4096


@pytest.fixture
def log(tmp_path: Path) -> DiskLog:
    """Blocks 0 to 2 are written and flushed, then 3 to 5, of which 5 is zeroed again."""
    base = tmp_path / "base"
    base.write_bytes(b"." * 8 * BLOCK)
    entries = [(WRITE, 0, 3), (FLUSH, 0, 0), (WRITE, 3, 3), (ZERO, 5, 1)]
    parts = [
        ENTRY.pack(kind, at * BLOCK, count * BLOCK) + (b"x" * count * BLOCK if kind == WRITE else b"")
        for kind, at, count in entries
    ]
    (tmp_path / "log").write_bytes(b"".join(parts))
    found = DiskLog(base, tmp_path / "log")
    found.load()
    return found


def left_by(log: DiskLog, kind: CutKind, length: int, seed: int = 0) -> str:
    """Show the disk that a cut leaves, a letter for each block."""
    path = log.path.with_name("cut")
    log.write_disk(Cut(kind, length, seed), path)
    blocks = path.read_bytes()
    letters = [blocks[at * BLOCK : (at + 1) * BLOCK] for at in range(8)]
    assert all(len({*block}) == 1 for block in letters), "a block was torn"
    return "".join("0" if block[0] == 0 else chr(block[0]) for block in letters)


@pytest.mark.parametrize(
    ("length", "left"), [(1, "xxx....."), (2, "xxx....."), (3, "xxxxxx.."), (4, "xxxxx0..")]
)
def test_after_a_write_all_is_there_that_was_written(log: DiskLog, length: int, left: str) -> None:
    assert left_by(log, "after a write", length) == left


def test_of_the_writes_since_the_last_flush_any_is_lost_and_no_other(log: DiskLog) -> None:
    assert {left_by(log, "writes lost", 3, seed) for seed in range(20)} == {"xxx.....", "xxxxxx.."}


def test_before_any_flush_nothing_is_sure(log: DiskLog) -> None:
    assert {left_by(log, "writes lost", 1, seed) for seed in range(20)} == {"........", "xxx....."}


def test_of_one_write_some_blocks_may_be_lost(log: DiskLog) -> None:
    left = {left_by(log, "blocks lost", 3, seed) for seed in range(40)}
    assert {one[:3] for one in left} == {"xxx"}
    assert len(left) == 8


def test_cuts_are_of_all_kinds_and_come_after_the_beginning(log: DiskLog) -> None:
    begin = log.entries[1].end
    cuts = draw_cuts(log, 40, begin, 1)
    assert {cut.kind for cut in cuts} == {"after a write", "at a flush", "writes lost", "blocks lost"}
    assert {cut.length for cut in cuts} == {2, 3, 4}
    assert all(log.is_flush(cut.length) for cut in cuts if cut.kind == "at a flush")


def test_what_was_promised_counts_from_its_place_in_the_log_on(log: DiskLog) -> None:
    promised = log.entries[1].end
    cuts = [Cut("after a write", length, 0) for length in range(5)]
    assert [log.passed(cut, promised) for cut in cuts] == [False, False, True, True, True]
