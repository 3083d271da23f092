"""Which disks saved states are found to open, in whatever form their configuration names them."""

import errno
import json
import os
import socket
from datetime import timedelta

import attrs
import pytest

from disk.hosts import Host
from hmret.disk.hypeman.saved_states import LARGEST_SEARCHED, disks_named_in
from hmret.disk.scans.references import (
    NOTHING_KNOWN,
    ReferenceFile,
    ReferenceLook,
    look_at_references,
    read_reference_files,
)
from hmret.model.references import Reference
from support.builders import DATA, FakeClock, digest, make_guest, make_snapshot
from support.memory_filesystem import Call

ALPINE = "docker.io/library/alpine"
A, B = digest("a1"), digest("b2")
HEX = A.removeprefix("sha256:")
PATH = f"/var/lib/hypeman/images/{ALPINE}/{HEX}/rootfs.erofs"
CONTENT_PATH = f"/var/lib/hypeman/images/content/{HEX}/rootfs.erofs"
CONFIG = "guests/vm/snapshots/snapshot-latest/config.json"


def opened_by(content: bytes) -> set[str]:
    return set(disks_named_in(content))


# What is found in a file.


@pytest.mark.parametrize("path", [PATH, CONTENT_PATH, f"images/{ALPINE}/{HEX}", f"images/content/{HEX}"])
@pytest.mark.parametrize(
    "form",
    [
        lambda path: path.encode(),
        lambda path: json.dumps({"disks": [{"path": path}]}).encode(),
        lambda path: json.dumps({"disks": [{"path": path}]}).replace("/", "\\/").encode(),
        lambda path: json.dumps({"config": json.dumps({"path": path}).replace("/", "\\/")}).encode(),
        lambda path: json.dumps({"path": path}).replace("/", "\\u002f").encode(),
        lambda path: json.dumps({"path": path}).replace("/", "\\u002F").encode(),
        lambda path: path.replace("/", "%2F").encode(),
        lambda path: path.replace("/", "//").encode(),
        lambda path: path.replace("/", "/./").encode(),
        lambda path: path.encode("utf-16"),
        lambda path: path.encode("utf-16-be"),
        lambda path: path.encode("utf-32"),
        lambda path: b"\x00\xff" + len(path).to_bytes(8, "little") + path.encode() + b"\x00abcdef0123",
        lambda path: b"\x93\xd9" + path.encode() + b"a" * 70,
        lambda path: os.fsencode("\udcff\udc80") + path.encode() + b"\xff",
    ],
)
def test_a_path_is_found_whatever_its_form(form: object, path: str) -> None:
    assert callable(form)
    name = "content" if "content" in path else ALPINE
    assert opened_by(form(path)) == {f"{name}@{A}"}


def test_all_paths_of_a_file_are_found() -> None:
    other = f"/x/images/ghcr.io/kernel/base/{B.removeprefix('sha256:')}/rootfs.ext4"
    assert opened_by(f"{PATH}\0{other}\0{CONTENT_PATH}".encode()) == {
        f"{ALPINE}@{A}",
        f"ghcr.io/kernel/base@{B}",
        f"content@{A}",
    }


def test_a_data_directory_may_itself_lie_below_a_folder_of_that_name() -> None:
    assert opened_by(f"/srv/images/images/hypeman/images/{ALPINE}/{HEX}/rootfs.erofs".encode()) == {
        f"{ALPINE}@{A}"
    }


def test_part_of_a_repository_may_be_called_images() -> None:
    name = "ghcr.io/images/base"
    assert opened_by(f"/data/images/{name}/{HEX}".encode()) == {f"{name}@{A}"}


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        f"/data/images/{HEX}",
        f"/data/images/layers/{HEX}/layer.erofs",
        f"/data/images/{ALPINE}/{HEX[:-1]}",
        f"/data/images/{ALPINE}/{HEX.upper()}",
        f"/data/pictures/{ALPINE}/{HEX}",
        f"images {ALPINE}/{HEX}",
        "",
    ],
)
def test_what_is_no_path_of_an_image_names_none(text: str) -> None:
    assert opened_by(text.encode()) == set()


def test_the_time_to_search_does_not_grow_with_the_square_of_the_size() -> None:
    # Each of these would take minutes if it were looked at again from every place.
    for unit in (b"images/", b"/" + b"a" * 64, b"%2f", b"i\0m\0a\0g\0e\0s\0", b"images/a.b/" + b"f" * 63):
        assert opened_by(unit * (LARGEST_SEARCHED // len(unit))) == set()


# Guests and snapshots.


def look(host: Host, known: ReferenceLook = NOTHING_KNOWN) -> dict[str, ReferenceFile]:
    return dict(look_at_references(host.filesystem, host.data_fd, known).files)


def saved_state(host: Host, source: str = "instance/vm") -> tuple[str, ...] | None:
    (reference,) = look(host)[source].references
    return reference.saved_state


def test_a_guest_without_a_saved_state_has_none(host: Host) -> None:
    make_guest(host.place, "vm", "alpine")
    assert saved_state(host) is None
    host.folder("guests/vm/snapshots/snapshot-latest")
    assert saved_state(host) is None


@pytest.mark.parametrize("name", [CONFIG, "guests/vm/snapshots/a/b/c/d/vmstate.bin", "guests/vm/snapshots/x"])
def test_the_saved_state_of_a_guest_names_what_it_opens(host: Host, name: str) -> None:
    make_guest(host.place, "vm", "alpine")
    host.write(name, PATH.encode())
    assert saved_state(host) == (f"{ALPINE}@{A}",)


def test_a_saved_state_that_names_nothing_is_one(host: Host) -> None:
    make_guest(host.place, "vm", "alpine")
    host.write(CONFIG, b"{}")
    assert saved_state(host) == ()


def test_the_largest_file_that_is_searched_is_searched_and_a_larger_one_is_not(host: Host) -> None:
    make_guest(host.place, "vm", "alpine")
    host.write(CONFIG, PATH.encode().rjust(LARGEST_SEARCHED))
    assert saved_state(host) == (f"{ALPINE}@{A}",)
    host.write(CONFIG, PATH.encode().rjust(LARGEST_SEARCHED + 1))
    assert saved_state(host) == ()


@pytest.mark.parametrize("place", ["guest/snapshots/snapshot-latest/config.json", "guest/config.json"])
def test_the_copy_of_a_guest_in_a_snapshot_names_what_it_opens(host: Host, place: str) -> None:
    make_snapshot(host.place, "s", "alpine")
    host.write(f"snapshots/s/{place}", PATH.encode())
    assert saved_state(host, "snapshot/s") == (f"{ALPINE}@{A}",)


def test_the_copy_of_a_guest_that_was_stopped_is_no_saved_state(host: Host) -> None:
    make_snapshot(host.place, "s", "alpine")
    host.write("snapshots/s/guest/metadata.json", b"{}")
    host.write("snapshots/s/guest/overlay.raw", b"")
    assert saved_state(host, "snapshot/s") is None
    host.write("snapshots/s/guest/snapshots/snapshot-latest/state", b"")
    assert saved_state(host, "snapshot/s") == ()


@pytest.mark.parametrize("stored", [{}, {"stored_metadata": None}])
def test_a_snapshot_that_stores_no_metadata_still_needs_what_its_guest_opens(
    host: Host, stored: dict[str, None]
) -> None:
    host.write("snapshots/s/snapshot.json", json.dumps(stored).encode())
    assert look(host)["snapshot/s"].references == ()
    host.write("snapshots/s/guest/snapshots/config.json", CONTENT_PATH.encode())
    assert look(host)["snapshot/s"].references == (Reference("snapshot/s", saved_state=(f"content@{A}",)),)


def test_where_metadata_says_which_digest_boots_no_saved_state_is_looked_for(memory: Host) -> None:
    make_guest(memory.place, "vm", "alpine", resolved_image=f"{ALPINE}@{B}")
    memory.write(CONFIG, PATH.encode())
    looked: list[str] = []
    memory.memory.before = lambda call: looked.append(call.path)
    assert saved_state(memory) is None
    assert not any("guests/vm/snapshots" in path for path in looked)


@pytest.mark.parametrize("image", ["alpine", f"alpine@{B}"])
def test_where_only_the_image_is_named_by_whatever_form_it_is(host: Host, image: str) -> None:
    make_guest(host.place, "vm", image)
    host.write(CONFIG, PATH.encode())
    assert saved_state(host) == (f"{ALPINE}@{A}",)


# What is no plain file.


def test_links_are_part_of_a_saved_state_and_are_not_followed(host: Host) -> None:
    make_guest(host.place, "vm", "alpine")
    host.write("elsewhere/config.json", PATH.encode())
    host.link("guests/vm/snapshots/round", ".")
    host.link("guests/vm/snapshots/file", "../../../elsewhere/config.json")
    host.link("guests/vm/snapshots/folder", "../../../elsewhere")
    host.link("guests/vm/snapshots/nowhere", "gone")
    assert saved_state(host) == ()


def test_a_link_in_the_place_of_all_saved_states_hides_what_they_open(host: Host) -> None:
    make_guest(host.place, "vm", "alpine")
    host.write("elsewhere/config.json", PATH.encode())
    host.link("guests/vm/snapshots", "../../elsewhere")
    file = look(host)["instance/vm"]
    assert file.path == "guests/vm/snapshots"
    assert file.problem == "is a link to a folder: use a bind mount instead"


def test_pipes_and_sockets_are_not_opened(real: Host) -> None:
    make_guest(real.place, "vm", "alpine")
    folder = real.place / "guests/vm/snapshots"  # type: ignore[operator]
    folder.mkdir()
    os.mkfifo(folder / "console")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(folder)
        server.bind("vsock")
    assert saved_state(real) == ()


# What cannot be read.


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("guests/vm/snapshots", "stat"),
        ("guests/vm/snapshots", "open"),
        ("guests/vm/snapshots/snapshot-latest", "open"),
        ("guests/vm/snapshots/snapshot-latest", "scandir"),
        (CONFIG, "stat"),
        (CONFIG, "open"),
        (CONFIG, "read"),
    ],
)
@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_what_the_disk_does_not_give_of_a_saved_state_is_unreadable_and_named(
    memory: Host, path: str, call: str, error: int
) -> None:
    make_guest(memory.place, "vm", "alpine")
    memory.write(CONFIG, PATH.encode())
    memory.memory.deny(f"{DATA}/{path}", error, call=call)
    file = look(memory)["instance/vm"]
    assert (file.path, file.problem) == (path, os.strerror(error))
    assert file.fingerprint is None
    # What the metadata names counts, also where what cannot be read is to be ignored.
    assert file.references == (Reference("instance/vm", "alpine", saved_state=()),)
    memory.memory.allow(f"{DATA}/{path}")
    assert saved_state(memory) == (f"{ALPINE}@{A}",)


def test_an_unreadable_file_too_large_to_be_searched_stops_nothing(memory: Host) -> None:
    make_guest(memory.place, "vm", "alpine")
    memory.write("guests/vm/snapshots/memory", b"\0" * (LARGEST_SEARCHED + 1))
    memory.memory.deny(f"{DATA}/guests/vm/snapshots/memory", errno.EACCES, call="open")
    assert saved_state(memory) == ()


@pytest.mark.parametrize("call", ["stat", "open"])
def test_what_goes_while_it_is_looked_at_is_absent(memory: Host, call: str) -> None:
    make_guest(memory.place, "vm", "alpine")
    memory.write("guests/vm/snapshots/gone", b"")
    memory.write(CONFIG, PATH.encode())

    def vanish(made: Call) -> None:
        if made.name == call and made.path.endswith("/gone") and memory.exists("guests/vm/snapshots/gone"):
            memory.remove("guests/vm/snapshots/gone")

    memory.memory.before = vanish
    assert saved_state(memory) == (f"{ALPINE}@{A}",)


# What has not changed.


@attrs.define
class Looks:
    """Looks one after the other, each knowing the one before."""

    host: Host
    clock: FakeClock
    last: ReferenceLook = NOTHING_KNOWN

    def again(self) -> tuple[str, ...] | None:
        self.last = look_at_references(self.host.filesystem, self.host.data_fd, self.last)
        (reference,) = self.last.files["instance/vm"].references
        assert reference.saved_state == saved_state(self.host)
        return reference.saved_state

    def opens(self) -> list[str]:
        """List what one more look opens below the guest."""
        opened: list[str] = []

        def note(call: Call) -> None:
            if call.name in ("open", "scandir") and "/guests/vm/" in call.path:
                opened.append(call.path)

        self.host.memory.before = note
        self.last = look_at_references(self.host.filesystem, self.host.data_fd, self.last)
        self.host.memory.before = None
        return opened


@pytest.fixture
def looks(memory: Host, clock: FakeClock) -> Looks:
    make_guest(memory.place, "vm", "alpine")
    return Looks(memory, clock)


@pytest.mark.parametrize("path", [None, CONFIG])
def test_what_has_not_changed_is_not_searched_again(looks: Looks, path: str | None) -> None:
    if path is not None:
        looks.host.write(path, PATH.encode())
    looks.clock.advance(timedelta(seconds=3))
    before = looks.again()
    files = looks.last.files
    assert looks.opens() == []
    assert looks.again() == before
    assert looks.last.files is files


def test_what_changed_less_than_two_seconds_ago_is_searched_again(looks: Looks) -> None:
    looks.clock.advance(timedelta(seconds=3))
    looks.host.write(CONFIG, b"{}")
    assert looks.again() == ()
    looks.host.write(CONFIG, PATH.encode())
    assert looks.again() == (f"{ALPINE}@{A}",)


def test_a_saved_state_that_comes_changes_and_goes_is_seen(looks: Looks) -> None:
    looks.clock.advance(timedelta(seconds=3))
    assert looks.again() is None
    seen = []
    for content in (b"{}", PATH.encode(), CONTENT_PATH.encode()):
        looks.host.write(CONFIG, content)
        looks.clock.advance(timedelta(seconds=3))
        seen.append(looks.again())
    assert seen == [(), (f"{ALPINE}@{A}",), (f"content@{A}",)]
    looks.host.write("guests/vm/snapshots/snapshot-base/state", PATH.encode())
    looks.clock.advance(timedelta(seconds=3))
    assert looks.again() == (f"content@{A}", f"{ALPINE}@{A}")
    looks.host.remove("guests/vm/snapshots/snapshot-base")
    looks.clock.advance(timedelta(seconds=3))
    assert looks.again() == (f"content@{A}",)
    looks.host.remove("guests/vm/snapshots")
    assert looks.again() is None


def test_what_processes_have_read_holds_the_saved_state(looks: Looks) -> None:
    looks.host.write(CONFIG, PATH.encode())
    looks.clock.advance(timedelta(seconds=3))
    host = looks.host
    looks.last = ReferenceLook(read_reference_files(host.filesystem, host.data_fd, ["instance/vm"]))
    assert looks.again() == (f"{ALPINE}@{A}",)
    assert looks.opens() == []
