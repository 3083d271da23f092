"""What guests and snapshots are found to refer to, and the difference between absent and unreadable."""

import errno
import json
import os
import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from disk.hosts import Host
from hmret.disk.scans.references import (
    NOTHING_KNOWN,
    ReferenceFile,
    ReferenceLook,
    list_guests,
    look_at_references,
    read_reference_files,
)
from hmret.model.references import Reference
from support.builders import DATA, FakeClock, make_guest, make_snapshot
from support.memory_filesystem import Call

ALPINE = "docker.io/library/alpine"
GUEST = "guests/vm/metadata.json"


def look(host: Host, known: Mapping[str, ReferenceFile] | None = None) -> Mapping[str, ReferenceFile]:
    return look_at_references(host.filesystem, host.data_fd, ReferenceLook(known or {})).files


def problem(host: Host, source: str = "instance/vm") -> str:
    file = look(host)[source]
    assert file.references == ()
    assert file.fingerprint is None
    assert file.problem is not None
    return file.problem


def test_guests_and_snapshots_are_read(host: Host) -> None:
    make_guest(host.place, "vm", "alpine")
    make_snapshot(host.place, "s", "alpine:3.20")
    assert {name: (file.path, file.references, file.problem) for name, file in look(host).items()} == {
        "instance/vm": (GUEST, (Reference("instance/vm", "alpine"),), None),
        "snapshot/s": ("snapshots/s/snapshot.json", (Reference("snapshot/s", "alpine:3.20"),), None),
    }


# Absent.


def test_a_host_without_guests_refers_to_nothing(host: Host) -> None:
    assert look(host) == {}


def test_what_an_earlier_engine_knew_of_folders_that_are_gone_counts_no_more(memory: Host) -> None:
    make_guest(memory.place, "vm", "alpine")
    on_record = look(memory)
    assert set(on_record) == {"instance/vm"}
    memory.remove("guests")
    assert look(memory, on_record) == {}


def test_a_guest_without_metadata_is_being_made(host: Host) -> None:
    host.folder("guests/vm")
    assert look(host) == {}


def test_a_file_among_the_guests_is_no_guest(host: Host) -> None:
    host.write("guests/vm", b"{")
    host.write("guests/.lock", b"{")
    assert look(host) == {}


def test_a_guest_that_goes_while_it_is_looked_at_is_absent(memory: Host) -> None:
    make_guest(memory.place, "vm", "alpine")

    def vanish(call: object) -> None:
        if getattr(call, "name", "") == "open" and getattr(call, "path", "").endswith("metadata.json"):
            memory.memory.before = None
            memory.remove("guests/vm")

    memory.memory.before = vanish
    assert look(memory) == {}


# Unreadable.


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"Image": "alpine"', b'{"Image": 5}', b'{"Image": "NOT"}', b"\xff"]
)
def test_what_does_not_parse_is_unreadable(host: Host, content: bytes) -> None:
    host.write(GUEST, content)
    assert problem(host)


def test_a_dangling_link_in_the_place_of_the_file_is_unreadable(host: Host) -> None:
    host.link(GUEST, "gone")
    assert problem(host) == "No such file or directory"


def test_a_dangling_link_in_the_place_of_the_guest_is_unreadable(host: Host) -> None:
    host.link("guests/vm", "gone")
    assert problem(host) == "No such file or directory"


def test_a_dangling_link_in_the_place_of_all_guests_is_unreadable(host: Host) -> None:
    host.link("guests", "gone")
    assert problem(host, "guests") == "No such file or directory"


def test_links_that_lead_in_a_circle_are_unreadable(host: Host) -> None:
    host.link("guests/vm", "vm")
    host.link("guests/other/metadata.json", "metadata.json")
    assert "Too many levels" in problem(host)
    assert "Too many levels" in problem(host, "instance/other")


def test_links_that_lead_to_metadata_are_followed(host: Host) -> None:
    host.write("elsewhere/metadata.json", b'{"Image": "alpine"}')
    host.link("guests/vm", "../elsewhere")
    host.link("guests/other/metadata.json", "../../elsewhere/metadata.json")
    assert {name: file.references for name, file in look(host).items()} == {
        name: (Reference(name, "alpine"),) for name in ("instance/vm", "instance/other")
    }


def test_a_link_to_a_guest_that_is_being_made_is_absent(host: Host) -> None:
    host.folder("elsewhere")
    host.link("guests/vm", "../elsewhere")
    assert look(host) == {}


def test_a_folder_in_the_place_of_the_file_is_unreadable(host: Host) -> None:
    host.folder(GUEST)
    assert problem(host) == "Is a directory"


def test_a_file_in_the_place_of_all_guests_is_unreadable(host: Host) -> None:
    host.write("guests")
    assert problem(host, "guests") == "Not a directory"


def test_a_pipe_in_the_place_of_the_file_is_unreadable_and_not_waited_for(real: Host) -> None:
    real.folder("guests/vm")
    os.mkfifo(GUEST, dir_fd=real.data_fd)
    assert problem(real)


def test_a_pipe_that_somebody_writes_to_is_not_waited_for_either(real: Host) -> None:
    real.folder("guests/vm")
    os.mkfifo(GUEST, dir_fd=real.data_fd)
    assert isinstance(real.place, Path)
    fd = os.open(real.place / GUEST, os.O_RDWR)
    try:
        assert problem(real) == "Resource temporarily unavailable"
    finally:
        os.close(fd)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("path", [GUEST, "guests/vm"])
@pytest.mark.parametrize("call", [None, "open"])
def test_what_the_disk_does_not_give_is_unreadable(
    memory: Host, path: str, code: int, call: str | None
) -> None:
    make_guest(memory.place, "vm", "alpine")
    make_guest(memory.place, "other", "alpine")
    memory.memory.deny(f"{DATA}/{path}", code, call=None if path == "guests/vm" else call)
    assert problem(memory) == os.strerror(code)
    assert look(memory)["instance/other"].problem is None


def test_a_fault_in_the_middle_of_a_file_is_unreadable(memory: Host) -> None:
    make_guest(memory.place, "vm", "alpine")
    memory.memory.deny(f"{DATA}/{GUEST}", errno.EIO, call="read")
    assert problem(memory) == "Input/output error"


@pytest.mark.parametrize("call", ["open", "scandir"])
def test_guests_that_cannot_be_listed_are_unreadable_and_snapshots_go_on(memory: Host, call: str) -> None:
    make_guest(memory.place, "vm", "alpine")
    make_snapshot(memory.place, "s", "alpine")
    memory.memory.deny(f"{DATA}/guests", errno.EIO, call=call)
    found = look(memory)
    assert (found["guests"].path, found["guests"].problem) == ("guests", "Input/output error")
    assert found["snapshot/s"].problem is None


def test_a_path_that_cannot_be_told_to_be_absent_is_unreadable(memory: Host) -> None:
    memory.folder("guests/vm")
    calls = []

    def fail(call: object) -> None:
        if getattr(call, "name", "") == "stat":
            calls.append(call)
            if len(calls) == 2:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    memory.memory.before = fail
    assert problem(memory) == "No such file or directory"


# What has not changed.


def count_opens(host: Host) -> list[str]:
    opens: list[str] = []

    def note(call: object) -> None:
        if getattr(call, "name", "") == "open" and getattr(call, "path", "").endswith(".json"):
            opens.append(getattr(call, "path", ""))

    host.memory.before = note
    return opens


def test_a_file_that_has_not_changed_is_not_read_again(memory: Host, clock: FakeClock) -> None:
    make_guest(memory.place, "vm", "alpine")
    clock.advance(timedelta(seconds=2))
    first = look(memory)
    opens = count_opens(memory)
    second = look(memory, first)
    assert opens == []
    assert second["instance/vm"] is first["instance/vm"]


def test_a_file_that_changed_less_than_two_seconds_ago_is_read_again(memory: Host, clock: FakeClock) -> None:
    make_guest(memory.place, "vm", "alpine")
    clock.wall_ns += 2 * 10**9 - 1
    first = look(memory)
    assert first["instance/vm"].fingerprint is None
    opens = count_opens(memory)
    assert look(memory, first)["instance/vm"].references == first["instance/vm"].references
    assert len(opens) == 1


def test_a_change_within_the_granularity_of_the_time_stamp_is_seen(memory: Host, clock: FakeClock) -> None:
    make_guest(memory.place, "vm", "alpine:1")
    first = look(memory)
    make_guest(memory.place, "vm", "alpine:2")
    clock.advance(timedelta(hours=1))
    (reference,) = look(memory, first)["instance/vm"].references
    assert reference.image == "alpine:2"


def test_a_file_from_the_future_is_read_each_time(memory: Host, clock: FakeClock) -> None:
    make_guest(memory.place, "vm", "alpine")
    clock.advance(timedelta(hours=-1))
    assert look(memory)["instance/vm"].fingerprint is None


@pytest.mark.parametrize("content", [{"Image": "alpine:2"}, {"Image": "alpine:1", "Name": "longer"}])
def test_a_file_that_has_changed_is_read_again(
    memory: Host, clock: FakeClock, content: dict[str, str]
) -> None:
    make_guest(memory.place, "vm", "alpine:1")
    clock.advance(timedelta(seconds=10))
    first = look(memory)
    clock.advance(timedelta(seconds=10))
    memory.write(GUEST, json.dumps(content).encode())
    (reference,) = look(memory, first)["instance/vm"].references
    assert reference.image == content["Image"]


def test_a_file_whose_time_stamp_was_put_back_is_read_again(memory: Host, clock: FakeClock) -> None:
    make_guest(memory.place, "vm", "alpine:1")
    clock.advance(timedelta(seconds=10))
    first = look(memory)
    clock.advance(timedelta(seconds=10))
    stamp_ns = memory.filesystem.stat(GUEST, dir_fd=memory.data_fd).st_mtime_ns
    make_guest(memory.place, "vm", "alpine:2")
    memory.memory.set_mtime(f"{DATA}/{GUEST}", stamp_ns)
    clock.advance(timedelta(seconds=10))
    (reference,) = look(memory, first)["instance/vm"].references
    assert reference.image == "alpine:2"


def test_what_was_unreadable_is_read_again(memory: Host, clock: FakeClock) -> None:
    memory.write(GUEST, b"{")
    clock.advance(timedelta(seconds=10))
    first = look(memory)
    assert len(count_opens(memory)) == 0
    opens = count_opens(memory)
    look(memory, first)
    assert len(opens) == 1


def test_what_has_gone_is_forgotten(memory: Host, clock: FakeClock) -> None:
    make_guest(memory.place, "vm", "alpine")
    clock.advance(timedelta(seconds=10))
    first = look(memory)
    memory.remove("guests/vm")
    assert look(memory, first) == {}


def test_a_guest_whose_name_is_no_utf8_is_read(real: Host) -> None:
    make_guest(real.place, "vm\udcff", "alpine")
    assert look(real)["instance/vm\udcff"].references[0].image == "alpine"


# One look after the other.


@attrs.define
class Looks:
    """Looks one after the other, each knowing the one before, beside one that knows nothing."""

    host: Host
    clock: FakeClock
    last: ReferenceLook = NOTHING_KNOWN

    def again(self) -> Mapping[str, ReferenceFile]:
        self.last = look_at_references(self.host.filesystem, self.host.data_fd, self.last)
        fresh = look(self.host)
        assert {name: (file.references, file.problem) for name, file in self.last.files.items()} == {
            name: (file.references, file.problem) for name, file in fresh.items()
        }
        return self.last.files

    def wait(self) -> None:
        self.clock.advance(timedelta(seconds=3))


@pytest.fixture
def looks(memory: Host, clock: FakeClock) -> Looks:
    return Looks(memory, clock)


@pytest.mark.parametrize("made", [(), ("guests",), ("guests", "snapshots")])
@pytest.mark.parametrize("has_guest", [True, False])
def test_a_look_that_finds_nothing_new_is_the_one_before_also_where_there_is_nothing(
    looks: Looks, made: tuple[str, ...], has_guest: bool
) -> None:
    for folder in made:
        looks.host.folder(folder)
    if has_guest:
        make_guest(looks.host.place, "vm", "alpine")
    looks.wait()
    before = looks.again()
    assert looks.again() is before


@pytest.mark.parametrize("call", [None, "open", "scandir"])
def test_guests_that_could_not_be_listed_and_then_are_gone_are_no_problem_any_more(
    looks: Looks, call: str | None
) -> None:
    make_guest(looks.host.place, "vm", "alpine")
    make_snapshot(looks.host.place, "s", "alpine")
    looks.wait()
    looks.again()
    looks.host.memory.deny(f"{DATA}/guests", errno.EACCES, call=call)
    looks.host.memory.change_mode(f"{DATA}/guests")
    assert looks.again()["guests"].problem
    looks.host.memory.allow(f"{DATA}/guests")
    looks.host.memory.remove(f"{DATA}/guests")
    looks.wait()
    assert set(looks.again()) == {"snapshot/s"}


def test_the_last_guest_that_goes_is_forgotten(looks: Looks) -> None:
    make_guest(looks.host.place, "vm", "alpine")
    looks.wait()
    looks.again()
    looks.host.memory.remove(f"{DATA}/guests/vm")
    looks.wait()
    assert looks.again() == {}
    make_guest(looks.host.place, "vm", "alpine")
    assert set(looks.again()) == {"instance/vm"}


def test_guests_in_whose_place_others_were_put_are_read(looks: Looks) -> None:
    make_guest(looks.host.place, "vm", "alpine")
    looks.wait()
    looks.again()
    looks.host.memory.move(f"{DATA}/guests", f"{DATA}/old")
    make_guest(looks.host.place, "vm", "busybox")
    looks.wait()
    assert looks.again()["instance/vm"].references[0].image == "busybox"
    looks.host.memory.move(f"{DATA}/guests", f"{DATA}/other")
    looks.host.memory.make_link(f"{DATA}/guests", "old")
    assert looks.again()["instance/vm"].references[0].image == "alpine"


@pytest.mark.parametrize("way", ["folder link", "file link", "mount"])
def test_a_guest_behind_a_link_or_a_mount_is_read_again_where_that_leads_elsewhere(
    looks: Looks, way: str
) -> None:
    memory = looks.host.memory
    for name, image in (("one", "alpine"), ("two", "busybox")):
        memory.write_file(f"{DATA}/elsewhere/{name}/metadata.json", f'{{"Image": "{image}"}}'.encode())
    guest = f"{DATA}/guests/vm"
    match way:
        case "folder link":
            memory.make_link(guest, "../elsewhere/one")
        case "file link":
            memory.make_link(f"{guest}/metadata.json", "../../elsewhere/one/metadata.json")
        case _:
            make_guest(looks.host.place, "vm", "alpine")
    looks.wait()
    assert looks.again()["instance/vm"].references[0].image == "alpine"
    before = memory.inode(f"{DATA}/guests")
    match way:
        case "folder link":
            # That changes the folder of all guests; what leads on from it does not.
            memory.move(f"{DATA}/elsewhere/one", f"{DATA}/elsewhere/old")
            memory.move(f"{DATA}/elsewhere/two", f"{DATA}/elsewhere/one")
        case "file link":
            memory.make_link(f"{guest}/metadata.json", "../../elsewhere/two/metadata.json")
        case _:
            memory.mount(guest)
            memory.write_file(f"{guest}/metadata.json", b'{"Image": "busybox"}')
    assert memory.inode(f"{DATA}/guests") == before
    assert looks.again()["instance/vm"].references[0].image == "busybox"


def test_a_guest_that_is_being_made_is_looked_for_every_time(looks: Looks) -> None:
    looks.host.folder("guests/vm")
    looks.wait()
    before = looks.again()
    assert looks.again() is before
    make_guest(looks.host.place, "vm", "alpine")
    looks.wait()
    assert set(looks.again()) == {"instance/vm"}
    looks.host.memory.remove(f"{DATA}/guests/vm")
    assert looks.again() == {}


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_guest_whose_metadata_has_gone_goes_on_referring_to_what_it_named_while_its_folder_is_there(
    memory: Host, clock: FakeClock, is_settled: bool
) -> None:
    make_guest(memory.place, "vm", "alpine")
    clock.advance(timedelta(seconds=3 if is_settled else 0))
    first = look_at_references(memory.filesystem, memory.data_fd)
    named = first.files["instance/vm"].references
    memory.remove(GUEST)
    second = look_at_references(memory.filesystem, memory.data_fd, first)
    third = look_at_references(memory.filesystem, memory.data_fd, second)
    assert second.files["instance/vm"].references == third.files["instance/vm"].references == named
    assert third.files is second.files
    make_guest(memory.place, "vm", "busybox")
    fourth = look_at_references(memory.filesystem, memory.data_fd, third).files
    assert [one.image for one in fourth["instance/vm"].references] == ["busybox"]
    memory.remove("guests/vm")
    assert look_at_references(memory.filesystem, memory.data_fd, third).files == {}


@pytest.mark.parametrize("content", [b"{", b"", b"5"])
@pytest.mark.parametrize("path", [GUEST, "snapshots/s/snapshot.json"])
def test_what_could_once_be_read_goes_on_referring_after_it_was_unreadable_and_has_gone(
    memory: Host, path: str, content: bytes
) -> None:
    """A volume that fails is unreadable before it is unmounted."""
    make_guest(memory.place, "vm", "alpine")
    make_snapshot(memory.place, "s", "busybox")
    first = look_at_references(memory.filesystem, memory.data_fd)
    memory.write(path, content)
    (source,) = [each for each, file in first.files.items() if file.path == path]
    torn = look_at_references(memory.filesystem, memory.data_fd, first)
    again = look_at_references(memory.filesystem, memory.data_fd, torn)
    # As hypeman has it: what cannot be read names nothing now.
    assert torn.files[source].problem is not None
    assert torn.files[source].references == again.files[source].references == ()
    memory.remove(path)
    gone = look_at_references(memory.filesystem, memory.data_fd, again)
    later = look_at_references(memory.filesystem, memory.data_fd, gone)
    assert {source: file.references for source, file in later.files.items()} == {
        source: file.references for source, file in first.files.items()
    }
    assert {file.problem for file in later.files.values()} == {None}
    memory.write(path, content)
    assert look_at_references(memory.filesystem, memory.data_fd, later).files[source].references == ()
    memory.remove(path.rpartition("/")[0])
    assert source not in look_at_references(memory.filesystem, memory.data_fd, later).files


@pytest.mark.parametrize("is_gone", [True, False])
def test_what_was_known_of_a_folder_that_was_away_is_known_when_it_is_back(
    memory: Host, is_gone: bool
) -> None:
    """The volume of the guest's own metadata is not mounted yet."""
    make_guest(memory.place, "vm", "alpine")
    make_guest(memory.place, "other", "busybox")
    first = look_at_references(memory.filesystem, memory.data_fd)

    def fail(call: Call) -> None:
        if call.name == "scandir" or (call.name == "open" and call.path.endswith("/guests")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    if is_gone:
        memory.remove("guests")
    else:
        memory.remove(GUEST)
        memory.memory.before = fail
    away = look_at_references(memory.filesystem, memory.data_fd, first)
    still_away = look_at_references(memory.filesystem, memory.data_fd, away)
    memory.memory.before = None
    assert not {"instance/vm", "instance/other"} & still_away.files.keys()
    assert set(still_away.remembered()) >= {"instance/vm", "instance/other"}
    memory.folder("guests/vm")
    back = look_at_references(memory.filesystem, memory.data_fd, still_away)
    assert back.files["instance/vm"].references == first.files["instance/vm"].references
    assert ("instance/other" in back.files) is not is_gone
    assert back.remembered() == back.files


def test_a_guest_that_was_torn_and_then_loses_its_metadata_is_absent(memory: Host) -> None:
    """Nobody knows what it named."""
    memory.write(GUEST, b"{")
    first = look_at_references(memory.filesystem, memory.data_fd)
    memory.remove(GUEST)
    assert look_at_references(memory.filesystem, memory.data_fd, first).files == {}


def test_a_guest_whose_metadata_has_the_inode_number_of_another_is_read(looks: Looks) -> None:
    make_guest(looks.host.place, "vm", "alpine:1")
    looks.wait()
    looks.again()
    number = looks.host.memory.inode(f"{DATA}/{GUEST}")
    assert number is not None
    looks.host.memory.remove(f"{DATA}/guests/vm/metadata.json")
    make_guest(looks.host.place, "vm", "alpine:2")
    looks.host.memory.set_inode(f"{DATA}/{GUEST}", number)
    looks.wait()
    assert looks.again()["instance/vm"].references[0].image == "alpine:2"


def test_what_processes_have_read_counts_only_while_it_has_not_changed(looks: Looks) -> None:
    make_guest(looks.host.place, "vm", "alpine")
    make_guest(looks.host.place, "other", "alpine")
    looks.wait()
    read = read_reference_files(looks.host.filesystem, looks.host.data_fd, ["instance/vm", "instance/other"])
    make_guest(looks.host.place, "vm", "busybox")
    looks.last = ReferenceLook(read)
    found = looks.again()
    assert found["instance/vm"].references[0].image == "busybox"
    assert found["instance/other"] is read["instance/other"]


@pytest.mark.parametrize("seed", range(12))
def test_looks_after_guests_have_come_gone_and_changed_find_what_a_first_look_finds(
    looks: Looks, seed: int
) -> None:
    chance = random.Random(seed)
    host = looks.host
    names = [f"vm-{number}" for number in range(8)]
    for _ in range(60):
        for _ in range(chance.choice([0, 1, 1, 2, 5])):
            make = chance.choice([make_guest, make_guest, make_snapshot])
            name, folder = chance.choice(names), "guests" if make is make_guest else "snapshots"
            if host.exists(f"{folder}/{name}") and chance.random() < 0.4:
                host.remove(f"{folder}/{name}")
            elif chance.random() < 0.1:
                host.folder(f"{folder}/new-{name}")
            else:
                make(host.place, name, f"alpine:{chance.randrange(1000)}")
        if chance.random() < 0.7:
            looks.wait()
        looks.again()
    looks.wait()
    looks.again()
    opens = count_opens(host)
    assert look_at_references(host.filesystem, host.data_fd, looks.last).files is looks.last.files
    assert [path for path in opens if "/new-" not in path] == []


def test_guests_that_can_be_listed_are_listed_by_source(memory: Host) -> None:
    make_guest(memory.place, "vm", "alpine")
    memory.folder("guests/new")
    make_snapshot(memory.place, "s", "alpine")
    assert sorted(list_guests(memory.filesystem, memory.data_fd)) == [
        "instance/new",
        "instance/vm",
        "snapshot/s",
    ]
    memory.memory.deny(f"{DATA}/guests", errno.EACCES)
    assert list_guests(memory.filesystem, memory.data_fd) == ["snapshot/s"]
