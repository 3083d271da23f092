"""The journal: a line for each entry, whole files of them, and nothing that rests on it."""

import errno
import json
import os
from collections.abc import Mapping

import pytest

from disk.hosts import Host
from hmret.disk.layout import OWN
from hmret.disk.records.journal import JOURNAL, append_to_journal
from support.builders import DATA

PATH = f"{OWN}/{JOURNAL}"
LINE_BYTES = 8


def append(host: Host, *entries: Mapping[str, object], **limits: int) -> None:
    append_to_journal(host.filesystem, host.data_fd, entries, **limits)


def lines(host: Host, suffix: str = "") -> list[object]:
    return [json.loads(line) for line in host.read(PATH + suffix).splitlines()]


def test_entries_are_lines_of_json(host: Host) -> None:
    append(host, {"n": 1}, {"n": 2})
    append(host, {"n": "ä\n"})
    assert lines(host) == [{"n": 1}, {"n": 2}, {"n": "ä\n"}]
    assert host.read(PATH).endswith(b"\n")


def test_nothing_to_append_leaves_an_empty_journal(host: Host) -> None:
    append(host)
    assert host.read(PATH) == b""


def test_the_journal_is_its_owners_alone(host: Host) -> None:
    append(host, {"n": 1})
    assert host.filesystem.stat(PATH, dir_fd=host.data_fd).st_mode & 0o777 == 0o600
    assert host.filesystem.stat(OWN, dir_fd=host.data_fd).st_mode & 0o777 == 0o700


def test_a_journal_that_is_full_to_the_byte_is_not_rotated(host: Host) -> None:
    append(host, {"n": 1}, largest_bytes=2 * LINE_BYTES)
    append(host, {"n": 2}, largest_bytes=2 * LINE_BYTES)
    assert (lines(host), host.exists(f"{PATH}.1")) == ([{"n": 1}, {"n": 2}], False)


def test_what_does_not_fit_begins_a_new_file(host: Host) -> None:
    for number in range(5):
        append(host, {"n": number}, largest_bytes=LINE_BYTES, kept_files=3)
    assert [lines(host, suffix) for suffix in ("", ".1", ".2")] == [[{"n": 4}], [{"n": 3}], [{"n": 2}]]
    assert host.names(OWN) == [JOURNAL, f"{JOURNAL}.1", f"{JOURNAL}.2"]


def test_what_is_larger_than_a_file_may_be_is_written_all_the_same(host: Host) -> None:
    append(host, {"n": 1}, {"n": 2}, largest_bytes=1)
    assert lines(host) == [{"n": 1}, {"n": 2}]


def test_a_line_that_was_cut_off_does_not_spoil_the_next(host: Host) -> None:
    host.write(PATH, b'{"n": 1}\n{"n"')
    append(host, {"n": 2})
    assert host.read(PATH) == b'{"n": 1}\n{"n"\n{"n":2}\n'


def test_short_writes_are_continued(memory: Host) -> None:
    memory.memory.shorten = lambda length: 3
    append(memory, {"n": 1}, {"n": 2})
    assert lines(memory) == [{"n": 1}, {"n": 2}]


def test_a_full_disk_is_told_and_the_line_it_cut_off_is_ended_later(memory: Host) -> None:
    append(memory, {"n": 1})
    memory.memory.shorten = lambda length: 3
    writes = iter((False, True))

    def run_full(call: object) -> None:
        if getattr(call, "name", "") == "write" and next(writes):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    memory.memory.before = run_full
    with pytest.raises(OSError, match="No space left"):
        append(memory, {"n": 2})
    memory.memory.before = None
    append(memory, {"n": 3})
    assert memory.read(PATH) == b'{"n":1}\n{"n\n{"n":3}\n'


def test_a_link_in_its_place_is_not_written_through(host: Host) -> None:
    host.write("elsewhere/file", b"x")
    host.link(PATH, "../../elsewhere/file")
    with pytest.raises(OSError, match=r"Too many levels|Not a directory"):
        append(host, {"n": 1})
    assert host.names("elsewhere") == ["file"]
    assert host.read("elsewhere/file") == b"x"


def test_a_pipe_in_its_place_is_refused_and_not_waited_for(real: Host) -> None:
    real.folder(OWN)
    os.mkfifo(PATH, dir_fd=real.data_fd)
    with pytest.raises(OSError, match="No such device"):
        append(real, {"n": 1})


def test_a_file_that_cannot_be_rotated_is_told(memory: Host) -> None:
    append(memory, {"n": 1})
    memory.memory.deny(f"{DATA}/{PATH}", errno.EIO, call="rename")
    with pytest.raises(OSError, match="Input/output error"):
        append(memory, {"n": 2}, largest_bytes=1)
    assert lines(memory) == [{"n": 1}]


def test_a_name_that_is_no_utf8_loses_no_line(host: Host) -> None:
    append(host, {"n": 1}, {"n": 2, "path": "guests/\udcff/metadata.json"}, {"n": 3})
    assert lines(host) == [{"n": 1}, {"n": 2, "path": "guests/\\udcff/metadata.json"}, {"n": 3}]


def test_nor_does_one_that_stands_further_within(host: Host) -> None:
    append(
        host, {"by": ["instance/\udcff"], "names": {"instance/\udcff": "web-\udcfe"}, "n": 1, "none": None}
    )
    odd, name = "instance/\\udcff", "web-\\udcfe"
    assert lines(host) == [{"by": [odd], "names": {odd: name}, "n": 1, "none": None}]
