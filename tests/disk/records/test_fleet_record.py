"""The cache id and the record of the fleet: what is registered is on record, whatever happens to the disk."""

import errno
import os
import random
import stat
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import attrs
import pytest
from hypothesis import given, strategies as st

from disk.hosts import Host
from hmret.disk.layout import OWN
from hmret.disk.records.fleet import CACHE_ID, FLEET, FleetRecord
from hmret.model.records.fleet import MarkAge, Seen, Standing
from support.builders import DATA, data_fd_of
from support.memory_filesystem import Call, MemoryFilesystem

RECORD = f"{OWN}/{FLEET}"
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def numbered() -> Callable[[int], str]:
    """Give texts that look random, the same ones each time."""
    numbers = count(1)
    return lambda count_bytes: f"{next(numbers):0{2 * count_bytes}x}"


def load(host: Host) -> FleetRecord:
    return FleetRecord(host.filesystem, host.data_fd)


def started(host: Host) -> FleetRecord:
    record = FleetRecord(host.filesystem, host.data_fd, random_hex=numbered())
    record.renew()
    record.start("g1")
    return record


def test_a_new_directory_needs_a_cache_id_which_then_stays(host: Host) -> None:
    record = load(host)
    assert (record.cache_id, record.needs_cache_id) == ("", True)
    made = record.renew()
    assert (record.cache_id, record.needs_cache_id) == (made, False)
    assert (load(host).cache_id, load(host).needs_cache_id) == (made, False)
    assert host.read(f"{OWN}/{CACHE_ID}") == f"{made}\n".encode()
    assert len(made) == 8


def test_two_directories_have_two_cache_ids(host: Host) -> None:
    assert load(host).renew() != load(host).renew()


def test_reading_alone_writes_nothing(host: Host) -> None:
    load(host)
    assert not host.exists(OWN)


def test_the_record_is_the_text_that_operators_are_told_of(host: Host) -> None:
    record = started(host)
    mark = record.note_request([A, B], with_mark=True)
    record.see("77", 4711)
    record.note_outcomes(done=mark, registered=[A], unregistered=[B])
    assert host.read(RECORD).decode().splitlines() == [
        "generation g1",
        f"mark {mark}",
        f"? {'a' * 64}",
        f"? {'b' * 64}",
        "seen 77 4711",
        f"+ {'a' * 64}",
        f"- {'b' * 64}",
        f"done {mark}",
    ]


def test_what_was_put_on_record_is_loaded(host: Host) -> None:
    record = started(host)
    mark = record.note_request([A, B, C], with_mark=True)
    record.note_outcomes(done=mark, registered=[A, B])
    assert record.note_request([B], with_mark=False) == ""
    record.note_outcomes(unregistered=[B])
    for one in (record, load(host)):
        assert one.digests == {A: Standing.REGISTERED, C: Standing.ASKED}
        assert (one.standing(A), one.standing(B)) == (Standing.REGISTERED, None)
        assert one.generation == "g1"
        assert one.last_done_mark
        assert not one.needs_cache_id


def test_another_generation_forgets_all_and_the_same_one_only_what_it_registered(host: Host) -> None:
    record = started(host)
    mark = record.note_request([A], with_mark=True)
    record.see("77", 5)
    record.note_outcomes(done=mark, registered=[A])
    record.start("g1")
    for one in (record, load(host)):
        assert (one.digests, one.last_done_mark, one.age_of(mark)) == ({}, None, MarkAge.UNKNOWN)
        assert one.seen == Seen(cluster_id="77", revision=5)
    record.start("g2")
    for one in (record, load(host)):
        assert (one.generation, one.seen, one.cache_id) == ("g2", None, record.cache_id)


def test_a_new_cache_id_forgets_all(host: Host) -> None:
    record = started(host)
    record.note_request([A], with_mark=True)
    before = record.cache_id
    record.renew()
    for one in (record, load(host)):
        assert (one.generation, one.digests, one.seen) == ("", {}, None)
        assert one.cache_id != before


@pytest.mark.parametrize("generation", ["", "two words", "ü", "a\nb", "x" * 129])
def test_a_generation_that_no_line_holds_is_refused(host: Host, generation: str) -> None:
    record = started(host)
    with pytest.raises(ValueError, match="no generation"):
        record.start(generation)
    assert load(host).generation == "g1"


def test_nothing_is_put_on_record_before_a_generation_is_started(host: Host) -> None:
    record = load(host)
    record.renew()
    with pytest.raises(ValueError, match="no generation"):
        record.note_request([A], with_mark=False)


@pytest.mark.parametrize("digest", ["", "sha256:", f"sha512:{'a' * 64}", f"sha256:{'A' * 64}", f"{A}\n? x"])
def test_what_is_no_digest_is_refused(host: Host, digest: str) -> None:
    record = started(host)
    for refused in (
        lambda: record.note_request([digest], with_mark=False),
        lambda: record.note_outcomes(registered=[digest]),
    ):
        with pytest.raises(ValueError, match="not a digest"):
            refused()
    assert host.read(RECORD) == b"generation g1\n"


def test_a_mark_that_is_not_on_record_cannot_be_done(host: Host) -> None:
    record = started(host)
    with pytest.raises(ValueError, match="not a mark on record"):
        record.note_outcomes(done="0" * 16)


def test_what_was_seen_is_kept_over_restarts_and_only_rises(host: Host) -> None:
    record = started(host)
    record.see("77", 9)
    record.see("77", 3)
    assert load(host).seen is None
    record.flush()
    assert load(host).seen == Seen(cluster_id="77", revision=9)
    size = len(host.read(RECORD))
    record.flush()
    assert len(host.read(RECORD)) == size
    record.see("77", 10)
    record.note_request([A], with_mark=False)
    assert load(host).seen == Seen(cluster_id="77", revision=10)
    record.see("78", 4)
    record.flush()
    assert load(host).seen == Seen(cluster_id="78", revision=4)


def test_what_is_seen_while_a_thread_writes_is_not_forgotten(memory: Host) -> None:
    record = started(memory)
    record.see("77", 1)
    memory.memory.before = lambda call: record.see("77", 9) if call.name == "fsync" else None
    record.note_request([A], with_mark=False)
    memory.memory.before = None
    assert record.seen == Seen(cluster_id="77", revision=9)
    record.flush()
    assert load(memory).seen == Seen(cluster_id="77", revision=9)


UNREADABLE = [
    b"",
    b"\n",
    b"mark 0000000000000001\n",
    b"generation \n",
    b"generation g1\n\n",
    b"generation g1\n+ " + b"A" * 64 + b"\n",
    b"generation g1\n+ " + b"a" * 63 + b"\n",
    b"generation g1\n! " + b"a" * 64 + b"\n",
    b"generation g1\nmark 1\n",
    b"generation g1\nseen 77 x\n",
    b"generation g1\nseen 77\n",
    b"generation g1\n\0\0\0\0\n+ " + b"a" * 64 + b"\n",
    b"generation g1\n+ " + b"a" * 64 + b"\r\n",
    b"\xff\n",
]


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_record_that_cannot_be_read_needs_another_cache_id(host: Host, content: bytes) -> None:
    before = started(host).cache_id
    host.write(RECORD, content)
    record = load(host)
    assert (record.needs_cache_id, record.cache_id) == (True, before)
    assert (record.generation, record.digests) == ("", {})
    record.renew()
    assert not record.needs_cache_id
    assert (load(host).needs_cache_id, load(host).cache_id) == (False, record.cache_id)


@pytest.mark.parametrize("content", [b"", b"0123456", b"012345678", b"0123456G\n", b"01234567\n\n", b"\xff"])
def test_a_cache_id_that_makes_no_sense_is_none(host: Host, content: bytes) -> None:
    started(host)
    host.write(f"{OWN}/{CACHE_ID}", content)
    assert (load(host).cache_id, load(host).needs_cache_id) == ("", True)


@pytest.mark.parametrize("name", [CACHE_ID, FLEET])
def test_a_file_that_may_not_be_read_needs_another_cache_id(memory: Host, name: str) -> None:
    started(memory)
    memory.memory.deny(f"{DATA}/{OWN}/{name}", errno.EACCES, call="open")
    assert load(memory).needs_cache_id


def test_a_record_without_a_cache_id_is_not_believed(host: Host) -> None:
    started(host).note_request([A], with_mark=True)
    host.remove(f"{OWN}/{CACHE_ID}")
    record = load(host)
    assert record.needs_cache_id
    record.renew()
    assert load(host).digests == {}


def test_a_record_cut_off_anywhere_says_what_its_whole_lines_say_and_can_be_continued(memory: Host) -> None:
    record = started(memory)
    mark = record.note_request([A, B], with_mark=True)
    record.note_outcomes(done=mark, registered=[A])
    whole = memory.read(RECORD)
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        memory.write(RECORD, whole[:length])
        cut = load(memory)
        assert not cut.needs_cache_id
        lines = whole[:length].count(b"\n")
        assert set(cut.digests) == {A, B} - ({A, B} if lines < 3 else {B} if lines < 4 else set())
        cut.note_request([C], with_mark=False)
        assert load(memory).digests == {**cut.digests, C: Standing.ASKED}


def test_zeros_at_the_end_as_a_power_cut_may_leave_them_are_a_cut_line(host: Host) -> None:
    started(host).note_request([A], with_mark=False)
    host.write(RECORD, host.read(RECORD) + bytes(100))
    record = load(host)
    assert record.digests == {A: Standing.ASKED}
    record.note_request([B], with_mark=False)
    assert load(host).digests == {A: Standing.ASKED, B: Standing.ASKED}


@pytest.mark.parametrize("content", [b"generation g1\n", b"", None])
def test_a_record_that_was_replaced_while_it_was_in_use_is_written_as_a_whole(
    host: Host, content: bytes | None
) -> None:
    record = started(host)
    record.note_request([A], with_mark=False)
    host.remove(RECORD)
    if content is not None:
        host.write(RECORD, content)
    record.note_request([B], with_mark=False)
    assert load(host).digests == {A: Standing.ASKED, B: Standing.ASKED}


def test_a_replaced_record_is_noticed_though_it_is_as_long(memory: Host) -> None:
    record = started(memory)
    record.note_request([A], with_mark=False)
    memory.remove(RECORD)
    memory.write(RECORD, b"generation g1\n? " + b"c" * 64 + b"\n")
    record.note_request([B], with_mark=False)
    assert load(memory).digests == {A: Standing.ASKED, B: Standing.ASKED}


def test_a_link_in_the_place_of_the_record_leads_nowhere(host: Host) -> None:
    record = started(host)
    host.write("elsewhere", b"generation g1\n")
    host.remove(RECORD)
    host.link(RECORD, "../../elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        record.note_request([A], with_mark=False)
    assert load(host).needs_cache_id
    assert host.read("elsewhere") == b"generation g1\n"
    record.renew()
    record.start("g1")
    record.note_request([A], with_mark=False)
    assert host.read("elsewhere") == b"generation g1\n"
    assert load(host).digests == {A: Standing.ASKED}


def test_a_long_record_is_rewritten_with_what_it_says(host: Host) -> None:
    record = started(host)
    record.note_request([A], with_mark=False)
    record.see("77", 1)
    sizes = []
    for _ in range(80):
        record.note_outcomes(unregistered=[B] * 20)
        sizes.append(len(host.read(RECORD)))
    assert min(sizes[60:]) < sizes[0] + 1000
    assert max(sizes) < 1500 * 67
    assert load(host).digests == {A: Standing.ASKED}
    assert load(host).seen == Seen(cluster_id="77", revision=1)


def test_the_last_hundred_marks_survive_a_rewrite_and_the_last_that_is_done(memory: Host) -> None:
    host = memory
    record = started(host)
    marks = [record.note_request(with_mark=True) for _ in range(3)]
    record.note_outcomes(done=marks[1])
    marks += [record.note_request(with_mark=True) for _ in range(205)]
    host.remove(RECORD)
    record.flush()
    record.note_request([A], with_mark=False)
    for one in (record, load(host)):
        assert one.last_done_mark
    kept = load(host)
    known = [mark for mark in marks if kept.age_of(mark) is not MarkAge.UNKNOWN]
    assert known == [marks[1], *marks[-100:]]


def test_marks_are_told_apart_by_when_they_were_made(host: Host) -> None:
    record = started(host)
    one, two, three, four = (record.note_request(with_mark=True) for _ in range(4))
    assert {record.age_of(mark) for mark in (one, two, three, four)} == {MarkAge.CURRENT}
    assert not record.last_done_mark
    record.note_outcomes(done=three)
    for known in (record, load(host)):
        assert [known.age_of(mark) for mark in (one, two, three, four)] == [
            MarkAge.OUTDATED,
            MarkAge.OUTDATED,
            MarkAge.CURRENT,
            MarkAge.CURRENT,
        ]
        assert known.age_of("f" * 16) is MarkAge.UNKNOWN


def test_only_the_owner_can_look_into_the_folder(real: Host) -> None:
    started(real)
    fd = real.open(OWN)
    try:
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o700
    finally:
        real.close(fd)


# What happens to the disk: at every call of a life with the record, a crash, a power cut, or a failure.


@attrs.define
class Store:
    """What etcd may count of this directory, each moment as early as it may and as late as it may."""

    registered: set[tuple[str, str]] = attrs.field(factory=set)
    """Holder and digest."""
    marks: list[str] = attrs.field(factory=list)
    """What may stand in `e/`: the last one, or any that has not been confirmed since."""

    def copy(self) -> "Store":
        return Store(set(self.registered), list(self.marks))


def live(record: FleetRecord, store: Store) -> None:
    """Do all that a keeper does with a record."""
    if record.needs_cache_id:
        store.marks.clear()
        record.renew()
    record.start("g1")
    for digests in ([A], [B, C]):
        mark = record.note_request(digests, with_mark=True)
        store.registered.update((record.cache_id, digest) for digest in digests)
        store.marks.append(mark)
        record.see("77", len(store.marks))
        record.note_outcomes(done=mark, registered=digests)
    record.note_request([B], with_mark=False)
    store.registered.discard((record.cache_id, B))
    record.note_outcomes(unregistered=[B])
    record.note_request([C], with_mark=False)
    record.note_outcomes(registered=[C])
    record.see("77", 20)
    record.flush()
    record._on_disk = None  # the next call rewrites the file, as after an error
    store.marks.append(record.note_request(with_mark=True))
    store.registered.clear()
    store.marks.clear()
    record.renew()
    record.start("g1")
    mark = record.note_request([A], with_mark=True)
    store.registered.add((record.cache_id, A))
    store.marks.append(mark)
    record.note_outcomes(done=mark, registered=[A])


def check(record: FleetRecord, store: Store, reason: object) -> None:
    """Check that whatever is registered of this holder is on record, or that the record says not to trust it."""
    if record.needs_cache_id:
        return
    if record.cache_id and not record.generation:  # an empty record; whether it is believed, `e/` decides
        return
    mine = {digest for holder, digest in store.registered if holder == record.cache_id}
    assert mine <= set(record.digests), reason
    if mine:
        assert any(record.age_of(mark) is MarkAge.CURRENT for mark in store.marks), reason


def moments(disk: MemoryFilesystem) -> Iterator[tuple[Call, MemoryFilesystem, Store]]:
    """Give the disk and the store before each call of a life."""
    working = disk.crashed_copy()
    store = Store()
    found: list[tuple[Call, MemoryFilesystem, Store]] = []
    fd = data_fd_of(working)
    working.before = lambda call: found.append((call, working.crashed_copy(), store.copy()))
    live(FleetRecord(working, fd, random_hex=numbered()), store)
    working.before = None
    found.append((Call("end", "", 0), working.crashed_copy(), store))
    return iter(found)


def read_again(filesystem: MemoryFilesystem) -> FleetRecord:
    fd = data_fd_of(filesystem)
    try:
        return FleetRecord(filesystem, fd)
    finally:
        filesystem.close(fd)


def test_a_kill_before_any_call_leaves_what_is_registered_on_record(memory: Host) -> None:
    seen = 0
    for call, disk, store in moments(memory.memory):
        record = read_again(disk)
        check(record, store, call)
        seen += not record.needs_cache_id
    assert seen > 50


def test_a_power_cut_before_any_call_leaves_what_is_registered_on_record(memory: Host) -> None:
    for call, disk, store in moments(memory.memory):
        for seed in range(10):
            check(read_again(disk.after_power_loss(random.Random(seed))), store, (call, seed))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_after_a_call_that_fails_what_is_registered_is_on_record_in_memory_and_on_the_disk(
    memory: Host, code: int
) -> None:
    for number in count(2):
        disk = memory.memory.crashed_copy()
        failing = disk.calls + number
        reached: list[Call] = []

        def fail(call: Call, failing: int = failing, reached: list[Call] = reached) -> None:
            if call.number == failing:
                reached.append(call)
                raise OSError(code, os.strerror(code))

        store = Store()
        fd = data_fd_of(disk)
        disk.before = fail
        record: FleetRecord | None = None
        try:
            record = FleetRecord(disk, fd, random_hex=numbered())
            live(record, store)
        except OSError:
            pass
        disk.before = None
        if not reached:
            break
        assert record is not None
        check(record, store, reached)
        check(read_again(disk), store, reached)
        # It can be continued.
        if record.needs_cache_id:
            record.renew()
            store.marks.clear()
        if not record.generation:
            record.start("g1")
        record.note_request([C], with_mark=True)
        store.registered.add((record.cache_id, C))
        assert record.standing(C) is Standing.ASKED
        again = read_again(disk)
        assert not again.needs_cache_id
        assert again.digests == record.digests
        disk.close(fd)
        assert disk.open_descriptors() == {}, reached
    assert number > 50


def test_what_is_settled_is_settled_even_if_it_cannot_be_written(memory: Host) -> None:
    record = started(memory)
    mark = record.note_request([A, B], with_mark=True)
    memory.memory.deny(f"{DATA}/{RECORD}", errno.ENOSPC, call="write")
    with pytest.raises(OSError, match="No space"):
        record.note_outcomes(done=mark, registered=[A], unregistered=[B])
    assert record.digests == {A: Standing.REGISTERED}
    assert record.last_done_mark
    assert load(memory).digests == {A: Standing.ASKED, B: Standing.ASKED}
    memory.memory.allow(f"{DATA}/{RECORD}")
    record.note_request([C], with_mark=False)
    assert load(memory).digests == {A: Standing.REGISTERED, C: Standing.ASKED}
    assert load(memory).last_done_mark


def test_what_could_not_be_put_on_record_may_not_be_asked_for(memory: Host) -> None:
    record = started(memory)
    memory.memory.deny(f"{DATA}/{RECORD}", errno.EIO, call="fsync")
    with pytest.raises(OSError, match="Input/output"):
        record.note_request([A], with_mark=True)
    assert record.digests == {}
    memory.memory.allow(f"{DATA}/{RECORD}")
    record.note_request([B], with_mark=False)
    assert load(memory).digests == {B: Standing.ASKED}


def test_short_writes_are_continued(memory: Host) -> None:
    record = started(memory)
    memory.memory.shorten = lambda length: min(length, 7)
    record.note_request([A, B], with_mark=True)
    memory.memory.shorten = None
    assert set(load(memory).digests) == {A, B}


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "registered", "unregistered", "mark", "done", "load", "start", "foreign"]),
        st.lists(st.sampled_from([A, B, C]), max_size=2),
    ),
    max_size=20,
)


@given(steps)
def test_whatever_is_done_what_is_loaded_is_what_was_in_memory(
    steps: Sequence[tuple[str, list[str]]],
) -> None:
    disk = MemoryFilesystem(lambda: 0)
    disk.make_folder(DATA)
    fd = data_fd_of(disk)
    random_hex = numbered()
    record = FleetRecord(disk, fd, random_hex=random_hex)
    record.renew()
    record.start("g0")
    marks = ["0" * 16]
    expected: dict[str, Standing] = {}
    done = False
    for number, (what, digests) in enumerate(steps):
        match what:
            case "ask":
                record.note_request(digests, with_mark=False)
                expected |= dict.fromkeys(digests, Standing.ASKED)
            case "registered":
                record.note_outcomes(registered=digests)
                expected |= dict.fromkeys(digests, Standing.REGISTERED)
            case "unregistered":
                record.note_outcomes(unregistered=digests)
                expected = {digest: found for digest, found in expected.items() if digest not in digests}
            case "mark":
                marks.append(record.note_request(with_mark=True))
            case "done" if len(marks) > 1:
                record.note_outcomes(done=marks[-1])
                done = True
            case "load":
                record = FleetRecord(disk, fd, random_hex=random_hex)
            case "start":
                record.start(f"g{number + 1}")
                marks, expected, done = ["0" * 16], {}, False
            case "foreign":
                disk.write_file(f"{DATA}/{RECORD}", b"x")
                record.note_request([A], with_mark=False)
                expected[A] = Standing.ASKED
        assert record.digests == expected
        assert [record.age_of(mark) for mark in marks] == [
            FleetRecord(disk, fd).age_of(mark) for mark in marks
        ] or what == "foreign"
        assert FleetRecord(disk, fd).digests == expected
        assert (
            (FleetRecord(disk, fd).last_done_mark is not None) == (record.last_done_mark is not None) == done
        )
    disk.close(fd)
    assert disk.open_descriptors() == {}
