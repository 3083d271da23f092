"""The journal, read back: each day's sums over all of its files, whatever state they are in."""

import errno
import json
from datetime import timedelta

import pytest

from disk.hosts import Host
from hmret.disk.layout import OWN
from hmret.disk.records.history import MOST_LATEST, HistoryReader
from hmret.disk.records.journal import JOURNAL, append_to_journal
from hmret.model.records.history import History, Went
from hmret.model.times import format_time, timedelta_nanoseconds
from support.builders import DATA, START, START_NS

DAY_NS = timedelta_nanoseconds(timedelta(days=1))
PATH = f"{OWN}/{JOURNAL}"


def line(event: str, *, days: int = 0, **facts: object) -> dict[str, object]:
    return {"time": format_time(START_NS - days * DAY_NS), "event": event, "image": "r@sha256:1", **facts}


def write(host: Host, *lines: dict[str, object], **options: int) -> None:
    for each in lines:
        append_to_journal(host.filesystem, host.data_fd, [each], **options)


def read(host: Host, since_ns: int = 0) -> History:
    return HistoryReader().read(host.filesystem, host.data_fd, since_ns)


def test_what_went_is_added_up_by_day_event_and_reason(host: Host) -> None:
    write(
        host,
        line("delete", days=1, reason="expired", bytes=5),
        line("delete", reason="expired", bytes=10),
        line("delete", reason="disk_pressure", bytes=7),
        line("mark"),
        line("delete", reason="expired", bytes=20),
        line("release", bytes=3),
        line("restore"),
        line("recover", reason="finished", bytes=1),
    )
    today, yesterday = START.date(), (START - timedelta(days=1)).date()
    history = read(host, START_NS - 5 * DAY_NS)
    assert history.days == (
        Went(today, "delete", "disk_pressure", 1, 7),
        Went(today, "delete", "expired", 2, 30),
        Went(today, "release", "", 1, 3),
        Went(today, "restore", "", 1, 0),
        Went(today, "recover", "finished", 1, 1),
        Went(yesterday, "delete", "expired", 1, 5),
    )
    assert history.begins_ns == START_NS - DAY_NS
    assert [entry["event"] for entry in history.latest][:2] == ["delete", "delete"]


def test_rotated_files_count_and_the_oldest_that_are_kept_too(host: Host) -> None:
    lines = [line("delete", days=days, reason="expired", bytes=1) for days in (4, 3, 2, 1, 0)]
    write(host, *lines, largest_bytes=1)
    assert host.read(f"{PATH}.4")
    history = read(host, START_NS - 30 * DAY_NS)
    assert [(went.day, went.images) for went in history.days] == [
        ((START - timedelta(days=days)).date(), 1) for days in range(5)
    ]
    assert [entry["time"] for entry in history.latest] == [entry["time"] for entry in lines]


def test_a_file_is_read_once_for_as_long_as_it_stays_the_same(memory: Host) -> None:
    write(memory, line("delete", bytes=1), line("delete", bytes=2), largest_bytes=1)
    reader, filesystem = HistoryReader(), memory.memory
    made: list[str] = []
    filesystem.before = lambda call: made.append(call.name)
    reader.read(filesystem, memory.data_fd, 0)
    assert made.count("pread") >= 2
    made.clear()
    again = reader.read(filesystem, memory.data_fd, 0)
    assert made.count("pread") == 0
    assert sum(went.disk_bytes for went in again.days) == 3
    write(memory, line("delete", bytes=4))
    assert sum(went.disk_bytes for went in reader.read(filesystem, memory.data_fd, 0).days) == 7


@pytest.mark.parametrize(
    "broken",
    [
        b'{"time":"2026-05-28T20:26:40Z","event":"del',
        b"no json at all",
        b'{"time":"yesterday","event":"delete"}',
        b'{"time":17,"event":"delete"}',
        b"[]",
        b"\xff\xfe",
        b'{"event":"delete","bytes":1}',
        b"x" * (2 << 20),
    ],
)
def test_a_line_that_is_no_entry_is_skipped(host: Host, broken: bytes) -> None:
    write(host, line("delete", bytes=1))
    whole = host.read(PATH)
    host.write(PATH, whole + broken + b"\n" + whole)
    history = read(host)
    assert [(went.images, went.disk_bytes) for went in history.days] == [(2, 2)]


def test_odd_sizes_and_reasons_do_not_grow_what_is_remembered(host: Host) -> None:
    odd = [
        line("delete", reason="x" * 5000, bytes=-5),
        line("delete", reason=["expired"], bytes="many"),
        line("delete", reason=7, bytes=1 << 62),
        line("delete", bytes=True),
    ]
    write(host, *odd)
    (went,) = read(host).days
    assert (went.reason, went.images, went.disk_bytes) == ("", 4, (1 << 62) + 1)


def test_no_more_than_the_latest_are_listed(host: Host) -> None:
    write(host, *(line("mark", number=number) for number in range(MOST_LATEST + 20)))
    latest = read(host).latest
    assert [entry["number"] for entry in latest] == list(range(20, MOST_LATEST + 20))


def test_a_file_that_cannot_be_read_is_named_and_the_others_count(memory: Host) -> None:
    write(memory, line("delete", bytes=1), line("delete", bytes=2), largest_bytes=1)
    memory.memory.deny(f"{DATA}/{PATH}", errno.EIO)
    history = read(memory)
    assert history.unreadable == (JOURNAL,)
    assert sum(went.disk_bytes for went in history.days) == 1


def test_a_link_in_the_place_of_the_journal_is_not_followed(host: Host) -> None:
    write(host, line("delete", bytes=1))
    host.write("elsewhere", json.dumps(line("delete", bytes=9)).encode() + b"\n")
    host.remove(PATH)
    host.link(PATH, "../../elsewhere")
    history = read(host)
    assert (history.days, history.unreadable) == ((), (JOURNAL,))


def test_without_a_journal_there_is_no_history(host: Host) -> None:
    history = read(host)
    assert (history.days, history.begins_ns, history.latest, history.unreadable) == ((), None, (), ())
