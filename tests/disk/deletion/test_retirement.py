"""Deleting images: every outcome, whoever comes between, and what a fault, a crash or a power loss leaves."""

import errno
import json
import mmap
import os
import random
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest

from disk.hosts import Host
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.outcomes import Outcome, Retired
from hmret.disk.deletion.recovery.finishing import finish
from hmret.disk.deletion.retirement import retire
from hmret.disk.deletion.tags.links import read_link
from hmret.disk.deletion.trash.intent_files import drop_intents, list_trash, read_intents, write_intents
from hmret.disk.deletion.trash.intents import Copy, Link, TrashEntry, entries_of
from hmret.disk.filesystem import POSIX, FileLease, Filesystem, FolderCalls
from hmret.disk.fingerprints import SETTLING_NS
from hmret.disk.folders import let_go
from hmret.disk.layout import DELETED, HIDDEN_METADATA, IMAGES, METADATA, OWN, RETENTION, TRASH, Layout
from hmret.model.deletion import Deletion, Failed, Kept, RetireCriteria
from hmret.model.references import Key
from hmret.model.times import SECOND
from hmret.model.verdicts import Reason
from support.bounds import bound
from support.builders import (
    DATA,
    START_NS,
    FakeClock,
    data_fd_of,
    digest,
    free,
    has_image,
    make_image,
    make_state,
    set_tag,
    state_of,
)
from support.children import child
from support.crashes import cut_at, cut_everywhere, failed_everywhere, recover
from support.deletions import deletion, intent, key_of, plain, tags_gone
from support.memory_filesystem import Call, Crash, ForeignOpen, MemoryFilesystem, Tree
from support.patience import PATIENCE, wait_until

ALPINE = "docker.io/library/alpine"
OTHER = "quay.io/other/thing"
BATCH = "0123456789abcdef"
NO_LEASES = (
    errno.ENOLCK,
    errno.EINVAL,
    errno.EACCES,
    errno.EPERM,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTTY,
)
WINDOW_NS = 1000
LOOK = RetireCriteria(frozenset(), WINDOW_NS, START_NS + WINDOW_NS)
TAGS = ("3.20", "latest")
IN_TRASH = f"{TRASH}/{BATCH}.0"


def make_due(host: Host, letters: str = "a", *, name: str = ALPINE, tags: tuple[str, ...] = TAGS) -> Deletion:
    """Make an image that is due to the nanosecond."""
    key = make_image(host.place, name, letters, tags=tags)
    make_state(host.place, key, START_NS)
    return deletion(*key, START_NS)


def folder_of(letters: str = "a", name: str = ALPINE) -> str:
    return f"{IMAGES}/{name}/{letters * 64}"


def disk_of(letters: str = "a", name: str = ALPINE) -> str:
    return f"{folder_of(letters, name)}/rootfs.ext4"


def read_tag(host: Host, tag: str, name: str = ALPINE) -> Link:
    """Read a tag as an intent has it."""
    with closing(OpenFolders(host.filesystem, host.data_fd)) as folders:
        link = read_link(host.filesystem, folders.get(f"{IMAGES}/{name}"), Layout.LEGACY, name, tag)
    assert link is not None
    return link


def retire_all(host: Host, *candidates: Deletion, look: RetireCriteria = LOOK) -> list[Outcome]:
    outcomes = retire(host.filesystem, host.data_fd, candidates, look, batch_name=BATCH).outcomes
    return [*map(plain, outcomes)]


def retire_one(host: Host, candidate: Deletion, look: RetireCriteria = LOOK) -> Outcome:
    (outcome,) = retire_all(host, candidate, look=look)
    return outcome


def is_whole(host: Host, candidate: Deletion) -> bool:
    """Tell whether an image is in its place, with its files and its tags."""
    letters = candidate.digest[-1]
    names = host.names(folder_of(letters, candidate.repository))
    found = [tag for tag in TAGS if host.exists(f"{IMAGES}/{candidate.repository}/{tag}")]
    return names == ["metadata.json", "rootfs.ext4"] and found == list(TAGS)


@attrs.frozen(eq=False)
class Claim:
    """A claim that has lost some digests, and notes of which it is told."""

    lost: tuple[str, ...]
    calls: list[tuple[str, str]] = attrs.field(factory=list)

    def begin(self, digest: str) -> bool:
        self.calls.append(("begin", digest))
        return digest not in self.lost

    def end(self, digest: str) -> None:
        self.calls.append(("end", digest))


def test_what_the_grip_has_lost_is_not_touched_and_the_rest_goes(host: Host) -> None:
    lost, goes = make_due(host, "a"), make_due(host, "b", name=OTHER)
    claim = Claim((lost.digest,))
    outcomes = retire(
        host.filesystem, host.data_fd, [lost, goes], LOOK, batch_name=BATCH, claim=claim
    ).outcomes
    assert [key_of(outcome) for outcome in outcomes] == [goes.key]
    assert is_whole(host, lost)
    assert state_of(host.place, lost.key) is not None
    assert claim.calls == [("begin", lost.digest), ("begin", goes.digest), ("end", goes.digest)]


def test_all_images_of_a_digest_are_worked_on_under_one_grip(host: Host) -> None:
    one, other = make_due(host, "a"), make_due(host, "a", name=OTHER)
    claim = Claim(())
    outcomes = retire(
        host.filesystem, host.data_fd, [one, other], LOOK, batch_name=BATCH, claim=claim
    ).outcomes
    assert [key_of(outcome) for outcome in outcomes] == [one.key, other.key]
    assert claim.calls == [("begin", one.digest), ("end", one.digest)]


@attrs.frozen(eq=False)
class Watched(FolderCalls):
    """A real disk on which something happens right before a call."""

    before: Callable[[str, tuple[object, ...]], None]

    def __getattr__(self, name: str) -> object:
        function = getattr(POSIX, name)

        def call(*args: object, **kwargs: object) -> object:
            self.before(name, args)
            return function(*args, **kwargs)

        return call


# Retired.


def test_an_image_that_is_due_is_retired_with_its_tags_and_its_state(host: Host) -> None:
    candidate = make_due(host)
    links = [read_tag(host, tag) for tag in TAGS]
    outcome = retire_one(host, candidate)
    going = intent(*candidate.key, START_NS, f"{BATCH}.0", *links, copies=(Copy(ALPINE, 0, f"{BATCH}.0"),))
    place = TrashEntry(going, TRASH, f"{BATCH}.0")
    assert outcome == Retired(going, (place,), tuple(links))
    assert isinstance(outcome, Retired)
    assert key_of(outcome) == candidate.key
    assert (host.names(IMAGES), host.names(RETENTION)) == ([], [])
    assert host.names(IN_TRASH) == ["metadata.json", "rootfs.ext4"]
    assert read_intents(host.filesystem, host.data_fd, BATCH) == [going]


def test_what_else_is_in_the_repository_stays(host: Host) -> None:
    candidate, kept = make_due(host, "a", tags=("a",)), make_due(host, "b", tags=("b",))
    set_tag(host.place, ALPINE, "dangling", "c")
    host.folder(f"{IMAGES}/{ALPINE}/below")
    retire_one(host, candidate)
    assert has_image(host.place, kept.key)
    assert state_of(host.place, kept.key) is not None
    assert [name for name in host.names(f"{IMAGES}/{ALPINE}") if "/" not in name] == [
        "b",
        "b" * 64,
        "below",
        "dangling",
    ]


def test_a_batch_is_retired_in_its_order(host: Host) -> None:
    candidates = [make_due(host, "a"), make_due(host, "b", tags=()), make_due(host, "a", name=OTHER)]
    outcomes = retire_all(host, *candidates)
    assert [key_of(outcome) for outcome in outcomes] == [candidate.key for candidate in candidates]
    assert all(isinstance(outcome, Retired) for outcome in outcomes)
    assert host.names(IMAGES) == []


def test_told_to_stop_it_retires_no_more(host: Host) -> None:
    candidates = [make_due(host, "a", tags=()), make_due(host, "b", tags=())]
    answers = iter([False, True])
    outcomes = retire(
        host.filesystem, host.data_fd, candidates, LOOK, batch_name=BATCH, stopping=answers.__next__
    ).outcomes
    assert len(outcomes) == 1
    assert has_image(host.place, candidates[1].key)


def test_an_image_with_more_files_goes_with_all_of_them(host: Host) -> None:
    candidate = make_due(host)
    host.write(f"{folder_of()}/.notes", b"x")
    host.write(f"{folder_of()}/rootfs.erofs", b"x")
    assert isinstance(retire_one(host, candidate), Retired)
    assert len(host.names(IN_TRASH)) == 4


# Kept.


def test_what_is_referenced_by_now_is_kept(host: Host) -> None:
    candidate = make_due(host)
    look = attrs.evolve(LOOK, protected=frozenset({candidate.key}))
    assert retire_one(host, candidate, look) == Kept(candidate, Reason.REFERENCED)
    assert is_whole(host, candidate)


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_what_has_no_state_by_now_is_kept(host: Host, content: bytes | None) -> None:
    candidate = make_due(host)
    path = f"{RETENTION}/{ALPINE}/{'a' * 64}.json"
    host.remove(path)
    if content is not None:
        host.write(path, content)
    assert retire_one(host, candidate) == Kept(candidate, Reason.NEWLY_UNUSED)
    assert is_whole(host, candidate)


@pytest.mark.parametrize("change_ns", [-1, 1])
def test_what_has_another_state_by_now_is_kept(host: Host, change_ns: int) -> None:
    candidate = make_due(host)
    make_state(host.place, candidate.key, START_NS + change_ns)
    look = attrs.evolve(LOOK, now_ns=START_NS + 10 * WINDOW_NS)
    assert retire_one(host, candidate, look) == Kept(candidate, Reason.RETENTION_WINDOW)
    assert is_whole(host, candidate)


def test_what_is_not_due_is_kept(host: Host) -> None:
    candidate = make_due(host)
    look = attrs.evolve(LOOK, now_ns=START_NS + WINDOW_NS - 1)
    assert retire_one(host, candidate, look) == Kept(candidate, Reason.RETENTION_WINDOW)
    assert is_whole(host, candidate)


@pytest.mark.parametrize("status", ["pulling", "failed"])
def test_what_is_not_ready_by_now_is_kept(host: Host, status: str) -> None:
    candidate = make_due(host)
    make_image(host.place, ALPINE, "a", status=status, tags=())
    assert retire_one(host, candidate) == Kept(candidate, Reason.NOT_READY)
    assert is_whole(host, candidate)


def break_folder(host: Host) -> None:
    host.folder(f"{folder_of()}/below")


def break_link(host: Host) -> None:
    host.link(f"{folder_of()}/link", "metadata.json")


def break_dangling(host: Host) -> None:
    host.link(f"{folder_of()}/link", "gone")


def break_disk(host: Host) -> None:
    host.remove(disk_of())


def break_linked_disk(host: Host) -> None:
    host.remove(disk_of())
    host.link(disk_of(), "metadata.json")


def break_metadata(host: Host) -> None:
    host.remove(f"{folder_of()}/metadata.json")


def tear_metadata(host: Host) -> None:
    host.write(f"{folder_of()}/metadata.json", b"{")


def rename_metadata(host: Host) -> None:
    document = json.loads(host.read(f"{folder_of()}/metadata.json"))
    host.write(f"{folder_of()}/metadata.json", json.dumps({**document, "name": "busybox:latest"}).encode())


def misdigest_metadata(host: Host) -> None:
    document = json.loads(host.read(f"{folder_of()}/metadata.json"))
    host.write(f"{folder_of()}/metadata.json", json.dumps({**document, "digest": digest("b")}).encode())


BREAKS = {
    break_folder: "below: a folder",
    break_link: "link: not a regular file",
    break_dangling: "link: not a regular file",
    break_disk: "",
    break_linked_disk: "rootfs.ext4: not a regular file",
    break_metadata: "",
    tear_metadata: "",
    rename_metadata: "",
    misdigest_metadata: "",
}
"""What a folder may hold that makes it no image, and what of it is named."""


@pytest.mark.parametrize(("damage", "named"), BREAKS.items())
def test_what_is_broken_is_kept_and_its_timer_cleared(
    host: Host, damage: Callable[[Host], None], named: str
) -> None:
    candidate = make_due(host)
    damage(host)
    before = host.names(IMAGES)
    detail = f"{folder_of()}/{named}" if named else ""
    assert retire_one(host, candidate) == Kept(candidate, Reason.BROKEN, detail=detail)
    assert host.names(IMAGES) == before
    assert host.names(RETENTION) == []


@pytest.mark.parametrize("age_ns", [3600 * SECOND - 1, 3600 * SECOND])
def test_a_folder_in_which_something_was_made_long_ago_goes_along_and_a_young_one_keeps_the_image(
    memory: Host, age_ns: int
) -> None:
    candidate = make_due(memory)
    memory.write(f"{folder_of()}/.install-7/manifest.json", b"x")
    memory.memory.set_mtime(f"{DATA}/{folder_of()}/.install-7", memory.filesystem.now_ns() - age_ns)
    memory.write(f"{folder_of()}/sbom.json", b"{}")
    before = memory.names("")
    outcome = retire_one(memory, candidate)
    if age_ns < 3600 * SECOND:
        assert outcome == Kept(
            candidate,
            Reason.NOT_READY,
            detail=f"{folder_of()}/.install-7: something is being made in it",
        )
        assert set(memory.names("")) >= set(before)
        return
    assert isinstance(outcome, Retired)
    assert memory.names(IN_TRASH) == [
        ".install-7",
        ".install-7/manifest.json",
        "metadata.json",
        "rootfs.ext4",
        "sbom.json",
    ]
    assert free(memory.filesystem, memory.data_fd, outcome.place) == 4096
    assert not memory.exists(IN_TRASH)


def test_what_is_broken_and_being_made_is_called_broken(host: Host) -> None:
    candidate = make_due(host)
    host.folder(f"{folder_of()}/.install-1")
    host.folder(f"{folder_of()}/.zz")
    assert retire_one(host, candidate) == Kept(
        candidate, Reason.BROKEN, detail=f"{folder_of()}/.zz: a folder"
    )


def test_a_disk_with_two_names_in_one_folder_is_not_taken_to_be_open(host: Host) -> None:
    """With two descriptors of one file the kernel gives no lease."""
    candidate = make_due(host)
    host.hard_link(disk_of(), f"{folder_of()}/rootfs.erofs")
    assert isinstance(retire_one(host, candidate), Retired)
    assert host.names(IN_TRASH) == ["metadata.json", "rootfs.erofs", "rootfs.ext4"]


def test_what_has_a_pipe_in_it_is_broken_and_not_waited_for(real: Host) -> None:
    candidate = make_due(real)
    os.mkfifo(f"{folder_of()}/pipe", dir_fd=real.data_fd)
    detail = f"{folder_of()}/pipe: not a regular file"
    assert retire_one(real, candidate) == Kept(candidate, Reason.BROKEN, detail=detail)
    assert real.exists(f"{folder_of()}/pipe")


def test_what_has_a_socket_in_it_is_broken(real: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = make_due(real)
    assert isinstance(real.place, Path)
    monkeypatch.chdir(real.place / folder_of())  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        detail = f"{folder_of()}/socket: not a regular file"
        assert retire_one(real, candidate) == Kept(candidate, Reason.BROKEN, detail=detail)
    assert real.exists(f"{folder_of()}/socket")


@pytest.mark.parametrize("folder", [folder_of(), f"{IMAGES}/{ALPINE}", f"{IMAGES}/docker.io", IMAGES])
def test_what_is_gone_by_now_is_told(memory: Host, folder: str) -> None:
    candidate = make_due(memory)
    memory.remove(folder)
    assert retire_one(memory, candidate) == Kept(candidate, None)


def test_a_digest_folder_that_is_a_link_is_never_followed(host: Host) -> None:
    candidate = make_due(host, tags=())
    host.write("elsewhere/metadata.json", host.read(f"{folder_of()}/metadata.json"))
    host.write("elsewhere/rootfs.ext4", b"x")
    for name in ("metadata.json", "rootfs.ext4"):
        host.remove(f"{folder_of()}/{name}")
    host.remove(folder_of())
    host.link(folder_of(), "../../../../elsewhere")
    assert retire_one(host, candidate) == Kept(candidate, None)
    assert host.names("elsewhere") == ["metadata.json", "rootfs.ext4"]


def test_a_repository_that_is_a_link_is_never_followed(host: Host) -> None:
    candidate = make_due(host, name=OTHER)
    host.link(f"{IMAGES}/docker.io/library/alpine", "../../quay.io/other/thing")
    linked = deletion(ALPINE, candidate.digest, START_NS)
    make_state(host.place, linked.key, START_NS)
    assert not isinstance(retire_one(host, linked), Retired)
    assert has_image(host.place, candidate.key)


@pytest.mark.parametrize("name", ["latest", "..", "a" * 63, "A" * 64])
def test_what_is_not_named_as_a_digest_is_never_renamed(host: Host, name: str) -> None:
    candidate = make_due(host)
    odd = deletion(ALPINE, f"sha256:{name}", 1_767_225_600 * 10**9)
    host.write(
        f"{RETENTION}/{ALPINE}/{name}.json",
        json.dumps(
            {"repository": ALPINE, "digest": odd.digest, "unused_since": "2026-01-01T00:00:00Z"}
        ).encode(),
    )
    assert not isinstance(retire_one(host, odd), Retired)
    assert is_whole(host, candidate)


def test_a_folder_that_is_whole_but_not_named_as_a_digest_is_never_renamed(host: Host) -> None:
    """Even where its metadata names it."""
    odd = deletion(ALPINE, "sha256:latest", START_NS)
    metadata = {"name": "alpine", "digest": odd.digest, "status": "ready"}
    host.write(f"{IMAGES}/{ALPINE}/latest/metadata.json", json.dumps(metadata).encode())
    host.write(f"{IMAGES}/{ALPINE}/latest/rootfs.ext4", b"x")
    make_state(host.place, odd.key, START_NS)
    outcome = retire_one(host, odd)
    assert isinstance(outcome, Failed)
    assert outcome.error.errno == errno.EINVAL
    assert host.exists(f"{IMAGES}/{ALPINE}/latest/rootfs.ext4")


# Open.


def check_kept_open(host: Host, candidate: Deletion) -> None:
    assert retire_one(host, candidate) == Kept(candidate, Reason.OPEN)
    assert is_whole(host, candidate)
    assert state_of(host.place, candidate.key) is None


@pytest.mark.parametrize("name", ["rootfs.ext4", "metadata.json"])
def test_what_is_open_is_kept_and_its_timer_cleared(real: Host, name: str) -> None:
    candidate = make_due(real)
    fd = os.open(f"{folder_of()}/{name}", os.O_RDONLY, dir_fd=real.data_fd)
    try:
        check_kept_open(real, candidate)
    finally:
        os.close(fd)
    make_state(real.place, candidate.key, START_NS)
    assert isinstance(retire_one(real, candidate), Retired)


def test_what_is_mapped_is_open_even_after_its_descriptor_was_closed(real: Host) -> None:
    candidate = make_due(real)
    fd = os.open(disk_of(), os.O_RDWR, dir_fd=real.data_fd)
    with mmap.mmap(fd, 4096):
        os.close(fd)
        check_kept_open(real, candidate)


def test_what_is_open_through_a_hard_link_elsewhere_is_open(real: Host) -> None:
    candidate = make_due(real)
    real.hard_link(disk_of(), disk_of("b", OTHER))
    fd = os.open(disk_of("b", OTHER), os.O_RDONLY, dir_fd=real.data_fd)
    try:
        check_kept_open(real, candidate)
    finally:
        os.close(fd)


def test_what_another_process_has_open_is_open(real: Host) -> None:
    candidate = make_due(real)
    assert isinstance(real.place, Path)
    with (real.place / disk_of()).open("rb") as disk, child(["sleep", "1000"], stdout=disk):
        disk.close()
        check_kept_open(real, candidate)


def test_what_a_foreign_process_has_open_in_memory_is_open(memory: Host) -> None:
    candidate = make_due(memory)
    opener = memory.memory.hold_open(f"{DATA}/{disk_of()}")
    check_kept_open(memory, candidate)
    opener.close()


def test_one_open_image_does_not_keep_the_others(memory: Host) -> None:
    opened, free_one = make_due(memory, "a", tags=()), make_due(memory, "b", tags=())
    opener = memory.memory.hold_open(f"{DATA}/{disk_of()}")
    outcomes = retire_all(memory, opened, free_one)
    opener.close()
    assert plain(outcomes[0]) == Kept(opened, Reason.OPEN)
    assert isinstance(outcomes[1], Retired)


def test_two_images_of_one_disk_go_in_one_batch(host: Host) -> None:
    one, other = make_due(host, "a"), make_due(host, "b", name=OTHER)
    host.remove(disk_of("b", OTHER))
    host.hard_link(disk_of(), disk_of("b", OTHER))
    outcomes = retire_all(host, one, other)
    assert [isinstance(outcome, Retired) for outcome in outcomes] == [True, True]
    assert [
        free(host.filesystem, host.data_fd, outcome.place)
        for outcome in outcomes
        if isinstance(outcome, Retired)
    ] == [0, 4096]


# Somebody comes between.


def between(host: Host, name: str, action: Callable[[], object], *, path: str = "") -> None:
    """Let something happen right before the first call of a name, on a path that ends so."""

    def act(call: Call) -> None:
        if call.name == name and call.path.endswith(path):
            host.memory.before = None
            action()

    host.memory.before = act


def test_who_opens_between_the_lease_and_the_rename_gets_the_image_back(memory: Host) -> None:
    candidate = make_due(memory)
    openers = []
    between(
        memory, "rename", lambda: openers.append(memory.memory.begin_open(f"{DATA}/{disk_of()}")), path=".0"
    )
    assert retire_one(memory, candidate) == Kept(candidate, Reason.OPEN)
    assert openers[0].is_open
    openers[0].close()
    assert is_whole(memory, candidate)
    assert state_of(memory.place, candidate.key) is None
    assert list_trash(memory.filesystem, memory.data_fd) == ([BATCH], [])


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("name", ["rootfs.ext4", "metadata.json"])
def test_who_opens_after_the_rename_gets_the_image_back(memory: Host, name: str, mounted: bool) -> None:
    candidate = make_due(memory)
    place = IN_TRASH
    if mounted:
        memory.memory.mount(f"{DATA}/{IMAGES}")
        place = f"{IMAGES}/{ALPINE}/.hmret-{BATCH}.0"
        # hypeman would open it by the name that it had, and find it gone.
        name = HIDDEN_METADATA if name == METADATA else name
    openers = []
    between(memory, "ask_lease", lambda: openers.append(memory.memory.begin_open(f"{DATA}/{place}/{name}")))
    assert retire_one(memory, candidate) == Kept(candidate, Reason.OPEN)
    assert openers[0].is_open
    openers[0].close()
    assert is_whole(memory, candidate)


def test_who_opens_on_a_real_disk_between_the_lease_and_the_rename_gets_the_image_back(real: Host) -> None:
    candidate = make_due(real)
    leased: list[int] = []
    read: list[bytes] = []
    assert isinstance(real.place, Path)
    path = real.place / disk_of()
    opener = threading.Thread(target=lambda: read.append(path.read_bytes()))

    def come_between(name: str, args: tuple[object, ...]) -> None:
        if name == "take_lease":
            assert isinstance(args[0], int)
            leased.append(args[0])
        elif name == "rename" and args[0] == "a" * 64:
            opener.start()
            wait_until(lambda: any(POSIX.ask_lease(fd) != FileLease.HELD for fd in leased), "a broken lease")

    watched: Filesystem = Watched(come_between)  # type: ignore[assignment]  # it has whatever POSIX has
    outcomes = retire(watched, real.data_fd, [candidate], LOOK, batch_name=BATCH).outcomes
    opener.join(PATIENCE)
    assert [*map(plain, outcomes)] == [Kept(candidate, Reason.OPEN)]
    assert read == [bytes(4096)]
    assert is_whole(real, candidate)


def test_who_opens_is_seen_even_where_another_image_was_refused_its_lease(memory: Host) -> None:
    """A permission is missing for the files of one image only."""
    refused, candidate = make_due(memory, "b", tags=()), make_due(memory)
    for name in ("rootfs.ext4", "metadata.json"):
        memory.memory.deny(f"{DATA}/{folder_of('b')}/{name}", errno.EACCES, call="take_lease")
    openers = []

    def act(call: Call) -> None:
        if call.name == "rename" and call.path.endswith(".1"):
            memory.memory.before = None
            openers.append(memory.memory.begin_open(f"{DATA}/{disk_of()}"))

    memory.memory.before = act
    outcomes = retire_all(memory, refused, candidate)
    assert isinstance(outcomes[0], Retired)
    assert plain(outcomes[1]) == Kept(candidate, Reason.OPEN)
    openers[0].close()
    assert is_whole(memory, candidate)


ages = pytest.mark.parametrize("age_ns", [0, SETTLING_NS - 1, SETTLING_NS], ids=["new", "young", "old"])
"""How long ago a folder was last changed: the next change has another time stamp, or not."""


@ages
def test_metadata_that_is_replaced_after_the_last_look_brings_the_image_back(
    memory: Host, clock: FakeClock, age_ns: int
) -> None:
    candidate = make_due(memory)
    clock.wall_ns += age_ns

    def replace() -> None:
        memory.remove(f"{folder_of()}/metadata.json")
        memory.write(f"{folder_of()}/metadata.json", b"{}")

    between(memory, "rename", replace, path=".0")
    assert retire_one(memory, candidate) == Kept(candidate, Reason.OPEN)
    assert memory.read(f"{folder_of()}/metadata.json") == b"{}"


@ages
@pytest.mark.parametrize("name", ["new", "rootfs.ext4.tmp"])
def test_a_file_that_comes_after_the_last_look_brings_the_image_back(
    memory: Host, clock: FakeClock, name: str, age_ns: int
) -> None:
    candidate = make_due(memory)
    clock.wall_ns += age_ns
    between(memory, "rename", lambda: memory.write(f"{folder_of()}/{name}"), path=".0")
    assert retire_one(memory, candidate) == Kept(candidate, Reason.OPEN)
    assert memory.exists(f"{folder_of()}/{name}")


@ages
def test_another_folder_of_the_name_is_brought_back(memory: Host, clock: FakeClock, age_ns: int) -> None:
    """hypeman deleted the image, and pulled it again, between the last look and the rename."""
    candidate = make_due(memory)
    clock.wall_ns += age_ns

    def pull_again() -> None:
        memory.remove(folder_of())
        make_image(memory.place, ALPINE, "a", tags=TAGS, size_bytes=10)

    between(memory, "rename", pull_again, path=".0")
    assert retire_one(memory, candidate) == Kept(candidate, Reason.OPEN)
    assert len(memory.read(disk_of())) == 10
    assert is_whole(memory, candidate)


def test_a_look_after_the_rename_that_fails_brings_the_image_back(memory: Host) -> None:
    candidate = make_due(memory)

    def fail(call: Call) -> None:
        if call.name == "ask_lease":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    memory.memory.before = fail
    assert retire_one(memory, candidate) == Kept(candidate, Reason.OPEN)
    assert is_whole(memory, candidate)


@pytest.mark.parametrize("mounted", [False, True])
def test_a_fresh_pull_is_not_replaced_and_keeps_its_tags_but_not_the_old_timer(
    memory: Host, mounted: bool
) -> None:
    candidate = make_due(memory)
    if mounted:
        memory.memory.mount(f"{DATA}/{IMAGES}")
    place = f"{IMAGES}/{ALPINE}/.hmret-{BATCH}.0" if mounted else IN_TRASH
    openers = []

    def open_and_pull_again() -> None:
        openers.append(memory.memory.begin_open(f"{DATA}/{place}/rootfs.ext4"))
        make_image(memory.place, ALPINE, "a", tags=TAGS, size_bytes=10)

    between(memory, "ask_lease", open_and_pull_again)
    outcome = retire_one(memory, candidate)
    openers[0].close()
    assert isinstance(outcome, Retired)
    assert tags_gone(outcome) == ()
    assert len(memory.read(disk_of())) == 10
    assert is_whole(memory, candidate)
    assert state_of(memory.place, candidate.key) is None
    assert free(memory.filesystem, memory.data_fd, outcome.place) == 4096
    assert is_whole(memory, candidate)


def test_a_fresh_pull_after_the_rename_keeps_its_tags(memory: Host) -> None:
    """One of them is set aside by then, and the other is not."""
    candidate = make_due(memory)
    set_aside: list[Call] = []

    def pull_again(call: Call) -> None:
        if set_aside:
            memory.memory.before = None
            make_image(memory.place, ALPINE, "a", tags=())
        if call.name == "rename" and call.path.endswith(".0.tag0"):
            set_aside.append(call)

    memory.memory.before = pull_again
    outcome = retire_one(memory, candidate)
    assert set_aside
    assert isinstance(outcome, Retired)
    assert (tags_gone(outcome), outcome.faults) == ((), ())
    assert is_whole(memory, candidate)


ASIDE = pytest.mark.parametrize(
    ("mounted", "aside"),
    [(False, f"{BATCH}.0.tag0"), (True, f".hmret-tag-{'a' * 12}-latest")],
    ids=["one disk", "two disks"],
)
"""Where a tag is set aside to be looked at: in the trash, or beside itself where that is on another disk."""


def on_way_aside(memory: Host, aside: str, action: Callable[[], object]) -> None:
    """Let something happen right before a tag is set aside, on whichever way that goes."""

    def act(call: Call) -> None:
        if call.name == "rename" and call.path.endswith((f"/{aside}", f"{BATCH}.0.tag0")):
            memory.memory.before = None
            action()

    memory.memory.before = act


@ASIDE
@pytest.mark.parametrize("in_content", [False, True])
def test_a_folder_that_comes_after_the_last_tag_was_set_aside_gets_its_tags_again(
    memory: Host, mounted: bool, aside: str, in_content: bool
) -> None:
    candidate = make_due(memory, tags=TAGS)
    if mounted:
        memory.memory.mount(f"{DATA}/{IMAGES}")
    links = [read_tag(memory, tag) for tag in TAGS]
    aside = aside.replace("tag0", "tag1")
    set_aside: list[Call] = []

    def pull_again(call: Call) -> None:
        if set_aside:
            memory.memory.before = None
            if in_content:
                memory.write(f"{IMAGES}/content/{'a' * 64}/metadata.json", b"{}")
            else:
                make_image(memory.place, ALPINE, "a", tags=())
        if call.name == "rename" and call.path.endswith(f"/{aside}"):
            set_aside.append(call)

    memory.memory.before = pull_again
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert (tags_gone(outcome), outcome.links, outcome.faults) == ((), (), ())
    assert [link.target for link in links] == [read_tag(memory, tag).target for tag in TAGS]
    assert state_of(memory.place, candidate.key) is None
    assert not any(".hmret-tag" in name or ".tag" in name for name in memory.names(""))


@ASIDE
@pytest.mark.parametrize("letters", ["a", "b"])
def test_a_tag_that_is_set_between_the_look_and_its_removal_stays(
    memory: Host, mounted: bool, aside: str, letters: str
) -> None:
    """To the same digest too: somebody wants the image."""
    candidate = make_due(memory, tags=("latest",))
    make_image(memory.place, ALPINE, "b", tags=())
    if mounted:
        memory.memory.mount(f"{DATA}/{IMAGES}")

    def set_again() -> None:
        # Another link, as hypeman makes it: beside it first, then renamed over it.
        memory.link(f"{IMAGES}/{ALPINE}/new", letters * 64)
        memory.memory.move(f"{DATA}/{IMAGES}/{ALPINE}/new", f"{DATA}/{IMAGES}/{ALPINE}/latest")

    on_way_aside(memory, aside, set_again)
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert (tags_gone(outcome), outcome.links) == ((), ())
    assert memory.filesystem.readlink(f"{DATA}/{IMAGES}/{ALPINE}/latest") == letters * 64
    assert not any(".hmret-tag" in name or ".tag" in name for name in memory.names(""))


@ASIDE
def test_a_folder_that_takes_the_name_of_a_tag_before_its_removal_stays(
    memory: Host, mounted: bool, aside: str
) -> None:
    candidate = make_due(memory, tags=("latest",))
    if mounted:
        memory.memory.mount(f"{DATA}/{IMAGES}")
    path = f"{DATA}/{IMAGES}/{ALPINE}/latest"

    def make_folder() -> None:
        memory.memory.remove(path)
        memory.memory.write_file(f"{path}/file", b"theirs")

    on_way_aside(memory, aside, make_folder)
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert tags_gone(outcome) == ()
    assert memory.memory.tree(path) == {f"{path}/file": ("file", b"theirs")}


@ASIDE
def test_a_folder_that_was_set_aside_in_the_place_of_a_tag_when_all_ended_is_put_back(
    mounted: bool, aside: str
) -> None:
    cache = make_cache(mounted=mounted, tags=("latest",))
    path = f"{DATA}/{IMAGES}/{ALPINE}/latest"
    made: list[Call] = []

    def make_folder_and_end(call: Call) -> None:
        if made:
            raise Crash
        if call.name == "rename" and call.path.endswith(f"/{aside}"):
            made.append(call)
            cache.remove(path)
            cache.write_file(f"{path}/file", b"theirs")

    cache.before = make_folder_and_end
    with pytest.raises(Crash):
        delete(cache)
    after = cache.crashed_copy()
    assert not after.exists(path)
    recovery = recover(after)
    assert ([one.intent.key for one in recovery.finished], recovery.errors) == ([(ALPINE, digest("a"))], ())
    assert after.tree(path) == {f"{path}/file": ("file", b"theirs")}


def test_a_tag_that_has_moved_by_now_stays(memory: Host) -> None:
    candidate = make_due(memory)
    make_image(memory.place, ALPINE, "b", tags=())
    between(memory, "rename", lambda: set_tag(memory.place, ALPINE, "latest", "b"), path=".0")
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert tags_gone(outcome) == ("3.20",)
    assert memory.exists(f"{IMAGES}/{ALPINE}/latest")
    assert not memory.exists(f"{IMAGES}/{ALPINE}/3.20")


def test_a_tag_that_is_gone_by_now_is_nobodys(memory: Host) -> None:
    candidate = make_due(memory)
    between(memory, "rename", lambda: memory.remove(f"{IMAGES}/{ALPINE}/3.20"), path=".0")
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert (tags_gone(outcome), outcome.faults) == (("latest",), ())


def test_a_tag_whose_name_a_folder_has_taken_does_not_keep_the_others(memory: Host) -> None:
    candidate = make_due(memory)

    def take() -> None:
        memory.remove(f"{IMAGES}/{ALPINE}/3.20")
        memory.folder(f"{IMAGES}/{ALPINE}/3.20")

    between(memory, "rename", take, path=".0")
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert (tags_gone(outcome), outcome.faults) == (("latest",), ())


def test_a_tag_that_cannot_be_removed_is_told_and_does_not_keep_the_others(memory: Host) -> None:
    candidate = make_due(memory)
    memory.memory.deny(f"{DATA}/{IMAGES}/{ALPINE}/3.20", errno.EIO, call="rename")
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert tags_gone(outcome) == ("latest",)
    assert outcome.faults == ((f"{IMAGES}/{ALPINE}/3.20", "Input/output error"),)


def test_a_state_that_cannot_be_removed_is_told(memory: Host) -> None:
    candidate = make_due(memory)
    memory.memory.deny(f"{DATA}/{RETENTION}/{ALPINE}/{'a' * 64}.json", errno.EIO, call="unlink")
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert outcome.faults == ((f"state of {ALPINE}@{candidate.digest}", "Input/output error"),)
    assert tags_gone(outcome) == TAGS


def test_a_state_that_started_again_after_the_rename_stays(memory: Host) -> None:
    candidate = make_due(memory)
    between(memory, "ask_lease", lambda: make_state(memory.place, candidate.key, START_NS + 1))
    assert isinstance(retire_one(memory, candidate), Retired)
    assert state_of(memory.place, candidate.key) is not None


# Another file system, and those that offer no leases.


def test_on_another_file_system_the_folder_stays_beside_itself_without_metadata(memory: Host) -> None:
    candidate = make_due(memory)
    memory.memory.mount(f"{DATA}/{IMAGES}")
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert (outcome.place.folder, outcome.place.name) == (f"{IMAGES}/{ALPINE}", f".hmret-{BATCH}.0")
    assert tags_gone(outcome) == TAGS
    assert memory.names(IMAGES)[-1] == f"{ALPINE}/.hmret-{BATCH}.0/rootfs.ext4"
    assert not any("metadata" in name for name in memory.names(IMAGES))
    assert free(memory.filesystem, memory.data_fd, outcome.place) == 4096
    assert memory.names(IMAGES) == []


@pytest.mark.parametrize("code", NO_LEASES)
def test_where_leases_are_not_offered_it_goes_on_and_tells(memory: Host, code: int) -> None:
    candidate = make_due(memory)
    memory.memory.lease_error = code
    batch = retire(memory.filesystem, memory.data_fd, [candidate], LOOK, batch_name=BATCH)
    assert isinstance(batch.outcomes[0], Retired)
    assert batch.lease_error is not None
    assert batch.lease_error.errno == code


def test_where_leases_are_offered_nothing_is_told(host: Host) -> None:
    candidate = make_due(host)
    assert retire(host.filesystem, host.data_fd, [candidate], LOOK, batch_name=BATCH).lease_error is None


@ages
def test_without_leases_what_changed_after_the_last_look_is_still_brought_back(
    memory: Host, clock: FakeClock, age_ns: int
) -> None:
    candidate = make_due(memory)
    clock.wall_ns += age_ns
    memory.memory.lease_error = errno.ENOLCK
    between(memory, "rename", lambda: memory.write(f"{folder_of()}/new"), path=".0")
    assert retire_one(memory, candidate) == Kept(candidate, Reason.OPEN)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOMEM, errno.EBADF])
def test_a_lease_that_fails_for_another_reason_fails_the_deletion(memory: Host, code: int) -> None:
    candidate = make_due(memory)
    memory.memory.lease_error = code
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Failed)
    assert (key_of(outcome), outcome.path, outcome.unfinished) == (candidate.key, folder_of(), False)
    assert outcome.error.errno == code
    assert is_whole(memory, candidate)


@pytest.mark.parametrize("name", ["rootfs.ext4", "metadata.json"])
def test_a_lease_that_fails_for_one_file_is_not_hidden_by_one_that_is_not_offered(
    memory: Host, name: str
) -> None:
    candidate = make_due(memory)
    other = "metadata.json" if name == "rootfs.ext4" else "rootfs.ext4"
    memory.memory.deny(f"{DATA}/{folder_of()}/{name}", errno.EIO, call="take_lease")
    memory.memory.deny(f"{DATA}/{folder_of()}/{other}", errno.ENOLCK, call="take_lease")
    assert isinstance(retire_one(memory, candidate), Failed)
    assert is_whole(memory, candidate)


# What fails.


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_repository_that_cannot_be_read_does_not_fail_the_others(memory: Host, code: int) -> None:
    stuck, other = make_due(memory), make_due(memory, name=OTHER)
    memory.memory.deny(f"{DATA}/{IMAGES}/{ALPINE}", code)
    outcomes = retire_all(memory, stuck, other)
    assert isinstance(outcomes[0], Failed)
    assert (outcomes[0].path, outcomes[0].error.errno) == (folder_of(), code)
    assert isinstance(outcomes[1], Retired)
    memory.memory.allow(f"{DATA}/{IMAGES}/{ALPINE}")
    assert is_whole(memory, stuck)


def test_tags_that_could_not_be_read_are_not_left_behind(memory: Host) -> None:
    """Where the repository can be read again in the same batch, its image stays all the same."""
    candidate = make_due(memory)
    memory.memory.before = fail_once("scandir", ALPINE)
    assert isinstance(retire_one(memory, candidate), Failed)
    assert is_whole(memory, candidate)


def fail_once(name: str, path: str) -> Callable[[Call], None]:
    """Make one call fail, and no other after it."""
    failed: list[Call] = []

    def fail(call: Call) -> None:
        if call.name == name and call.path.endswith(path) and not failed:
            failed.append(call)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return fail


def test_intents_that_cannot_be_written_fail_the_batch(host: Host) -> None:
    candidates = [make_due(host, "a", tags=()), make_due(host, "b", tags=())]
    host.write(OWN, b"in the way")
    outcomes = retire_all(host, *candidates)
    assert [isinstance(outcome, Failed) for outcome in outcomes] == [True, True]
    assert all(has_image(host.place, candidate.key) for candidate in candidates)


def test_an_image_that_cannot_be_put_back_waits_whole_in_the_trash(memory: Host) -> None:
    candidate = make_due(memory)
    openers: list[ForeignOpen] = []
    renames: list[Call] = []

    def act(call: Call) -> None:
        if call.name == "ask_lease" and not openers:
            openers.append(memory.memory.begin_open(f"{DATA}/{IN_TRASH}/rootfs.ext4"))
        if call.name == "rename" and call.path.endswith("a" * 64):
            renames.append(call)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    memory.memory.before = act
    outcome = retire_one(memory, candidate)
    memory.memory.before = None
    assert isinstance(outcome, Failed)
    assert (outcome.unfinished, outcome.path) == (True, IN_TRASH)
    assert len(renames) == 1
    assert plain(finish(memory.filesystem, memory.data_fd, [place_of(memory)])) == Kept(
        candidate, Reason.OPEN
    )
    openers[0].close()
    assert is_whole(memory, candidate)


def test_an_image_that_is_back_in_its_place_is_not_called_unfinished(memory: Host) -> None:
    candidate = make_due(memory)
    memory.memory.deny(f"{DATA}/{RETENTION}/{ALPINE}/{'a' * 64}.json", errno.EIO, call="unlink")
    between(memory, "rename", lambda: memory.write(f"{folder_of()}/new"), path=".0")
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Failed)
    assert (outcome.unfinished, outcome.path) == (False, folder_of())
    assert has_image(memory.place, candidate.key)


def test_metadata_that_cannot_be_hidden_keeps_the_image_whole(memory: Host) -> None:
    candidate = make_due(memory)
    memory.memory.mount(f"{DATA}/{IMAGES}")
    memory.memory.before = fail_once("rename", HIDDEN_METADATA)
    outcome = retire_one(memory, candidate)
    memory.memory.before = None
    assert isinstance(outcome, Failed)
    assert (outcome.path, outcome.unfinished) == (folder_of(), False)
    assert is_whole(memory, candidate)


def test_metadata_is_shown_again_where_the_folder_cannot_be_renamed(memory: Host) -> None:
    candidate = make_due(memory)
    memory.memory.mount(f"{DATA}/{IMAGES}")
    memory.memory.before = fail_once("rename", f"/.hmret-{BATCH}.0")
    outcome = retire_one(memory, candidate)
    memory.memory.before = None
    assert isinstance(outcome, Failed)
    assert outcome.unfinished is False
    assert is_whole(memory, candidate)


def test_metadata_that_stays_hidden_waits_for_the_next_recovery(memory: Host) -> None:
    candidate = make_due(memory)
    memory.memory.mount(f"{DATA}/{IMAGES}")
    hidden: list[Call] = []

    def fail(call: Call) -> None:
        if hidden and call.name == "rename":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if call.name == "rename" and call.path.endswith(HIDDEN_METADATA):
            hidden.append(call)

    memory.memory.before = fail
    outcome = retire_one(memory, candidate)
    memory.memory.before = None
    assert isinstance(outcome, Failed)
    assert outcome.unfinished
    recovery = recover(memory.memory)
    assert [one.intent.key for one in recovery.finished] == [candidate.key]
    assert memory.names(IMAGES) == []


@pytest.mark.parametrize("moment", ["before the folder is renamed", "before it is looked at there"])
def test_a_pull_that_begins_in_a_folder_whose_metadata_is_hidden_gets_the_folder(
    memory: Host, moment: str
) -> None:
    candidate = make_due(memory)
    memory.memory.mount(f"{DATA}/{IMAGES}")
    aside = f"{IMAGES}/{ALPINE}/.hmret-{BATCH}.0"

    def pull(call: Call) -> None:
        if call.name == "rename" and call.path.endswith(f"/.hmret-{BATCH}.0"):
            memory.memory.before = None
            memory.write(f"{folder_of()}/metadata.json", b"a pull's")

    def pull_by_its_descriptor(call: Call) -> None:
        if call.name == "stat" and call.path.endswith(f"{BATCH}.0/metadata.json"):
            memory.memory.before = None
            memory.write(f"{aside}/metadata.json", b"a pull's")

    memory.memory.before = pull if moment.endswith("renamed") else pull_by_its_descriptor
    assert retire_one(memory, candidate) == Kept(candidate, Reason.NOT_READY, detail="a pull has begun in it")
    assert memory.names(folder_of()) == ["metadata.json", "rootfs.ext4"]
    assert memory.read(f"{folder_of()}/metadata.json") == b"a pull's"
    assert is_whole(memory, candidate)
    # Its timer is not for the fresh image.
    assert state_of(memory.place, candidate.key) is None


# Finishing what was cut off.


def place_of(host: Host) -> TrashEntry:
    (intent,) = read_intents(host.filesystem, host.data_fd, BATCH)
    in_trash, beside = entries_of(intent)
    return in_trash if host.exists(f"{in_trash.folder}/{in_trash.name}") else beside


def cut_off(host: Host, *, erased: bool = False) -> Deletion:
    """Leave a deletion right after the rename, or while it was erased."""
    candidate = make_due(host)
    links = [Link(Layout.LEGACY, ALPINE, tag, "a" * 64, 0) for tag in TAGS]
    going = intent(*candidate.key, START_NS, f"{BATCH}.0", *links)
    write_intents(host.filesystem, host.data_fd, BATCH, [going])
    host.filesystem.rename(folder_of(), IN_TRASH, src_dir_fd=host.data_fd, dst_dir_fd=host.data_fd)
    if erased:
        host.remove(f"{IN_TRASH}/metadata.json")
    return candidate


def test_a_deletion_that_was_cut_off_is_finished(host: Host) -> None:
    cut_off(host)
    outcome = finish(host.filesystem, host.data_fd, [place_of(host)])
    assert isinstance(outcome, Retired)
    assert tags_gone(outcome) == TAGS
    assert (host.names(IMAGES), host.names(RETENTION)) == ([], [])


@pytest.mark.parametrize("tag", ["newer", "latest"])
def test_a_tag_that_came_later_is_left_and_brings_the_image_back_before_it_is_erased(
    memory: Host, tag: str
) -> None:
    candidate = make_due(memory)
    outcome = retire_one(memory, candidate)
    assert isinstance(outcome, Retired)
    assert tags_gone(outcome) == TAGS
    set_tag(memory.place, ALPINE, tag, "a")
    recovery = recover(memory.memory)
    assert (recovery.finished, recovery.put_back, recovery.errors) == ((), (candidate.key,), ())
    assert is_whole(memory, candidate)
    assert memory.exists(f"{IMAGES}/{ALPINE}/{tag}")
    assert state_of(memory.place, candidate.key) is None
    assert list_trash(memory.filesystem, memory.data_fd) == ([], [])


def test_by_an_intent_of_the_older_release_a_tag_that_came_later_brings_the_image_back(memory: Host) -> None:
    """It says of a tag only where it leads, so one under another name is known to be new."""
    candidate = cut_off(memory)
    set_tag(memory.place, ALPINE, "newer", "a")
    recovery = recover(memory.memory)
    assert (recovery.finished, recovery.put_back, recovery.errors) == ((), (candidate.key,), ())
    assert is_whole(memory, candidate)
    assert memory.exists(f"{IMAGES}/{ALPINE}/newer")


def test_a_tag_that_came_later_to_what_was_being_erased_is_left_dangling(memory: Host) -> None:
    cut_off(memory, erased=True)
    set_tag(memory.place, ALPINE, "newer", "a")
    recovery = recover(memory.memory)
    assert (len(recovery.finished), recovery.put_back, recovery.errors) == (1, (), ())
    assert not memory.exists(folder_of())
    assert memory.exists(f"{IMAGES}/{ALPINE}/newer")


def test_a_deletion_whose_disk_is_open_is_undone_with_its_tags(real: Host) -> None:
    candidate = cut_off(real)
    real.remove(f"{IMAGES}/{ALPINE}/latest")
    fd = os.open(f"{IN_TRASH}/rootfs.ext4", os.O_RDONLY, dir_fd=real.data_fd)
    outcome = finish(real.filesystem, real.data_fd, [place_of(real)])
    os.close(fd)
    assert plain(outcome) == Kept(candidate, Reason.OPEN)
    assert is_whole(real, candidate)
    assert state_of(real.place, candidate.key) is None


def test_undoing_makes_the_folders_that_have_gone(memory: Host) -> None:
    candidate = cut_off(memory)
    memory.remove(f"{IMAGES}/docker.io")
    opener = memory.memory.hold_open(f"{DATA}/{IN_TRASH}/rootfs.ext4")
    assert plain(finish(memory.filesystem, memory.data_fd, [place_of(memory)])) == Kept(
        candidate, Reason.OPEN
    )
    opener.close()
    assert is_whole(memory, candidate)


def test_undoing_leaves_a_tag_that_has_been_taken(memory: Host) -> None:
    cut_off(memory)
    set_tag(memory.place, ALPINE, "latest", "b")
    opener = memory.memory.hold_open(f"{DATA}/{IN_TRASH}/rootfs.ext4")
    finish(memory.filesystem, memory.data_fd, [place_of(memory)])
    opener.close()
    with_b = memory.filesystem.readlink(f"{IMAGES}/{ALPINE}/latest", dir_fd=memory.data_fd)
    assert with_b == "b" * 64


def test_a_fresh_pull_is_not_undone_over(memory: Host) -> None:
    candidate = cut_off(memory)
    make_image(memory.place, ALPINE, "a", tags=("latest",), size_bytes=10)
    memory.remove(f"{IMAGES}/{ALPINE}/3.20")
    opener = memory.memory.hold_open(f"{DATA}/{IN_TRASH}/rootfs.ext4")
    outcome = finish(memory.filesystem, memory.data_fd, [place_of(memory)])
    opener.close()
    assert isinstance(outcome, Retired)
    assert (len(memory.read(disk_of())), memory.exists(f"{IMAGES}/{ALPINE}/latest")) == (10, True)
    assert not memory.exists(f"{IMAGES}/{ALPINE}/3.20")
    assert state_of(memory.place, candidate.key) is None


def test_a_fresh_pull_is_rid_of_the_old_timer_and_of_none_but_that(memory: Host) -> None:
    candidate = cut_off(memory)
    make_image(memory.place, ALPINE, "a", tags=TAGS)
    make_state(memory.place, candidate.key, START_NS + 1)
    assert isinstance(finish(memory.filesystem, memory.data_fd, [place_of(memory)]), Retired)
    assert is_whole(memory, candidate)
    assert state_of(memory.place, candidate.key) is not None


def test_what_was_being_erased_is_not_put_back_though_its_disk_is_open_elsewhere(memory: Host) -> None:
    cut_off(memory, erased=True)
    memory.hard_link(f"{IN_TRASH}/rootfs.ext4", disk_of("a", OTHER))
    opener = memory.memory.hold_open(f"{DATA}/{disk_of('a', OTHER)}")
    recovery = recover(memory.memory)
    opener.close()
    assert len(recovery.finished) == 1
    assert (recovery.put_back, recovery.freed_bytes) == ((), 0)
    assert not memory.exists(folder_of())
    assert memory.exists(disk_of("a", OTHER))


def test_what_cannot_be_finished_waits(memory: Host) -> None:
    candidate = cut_off(memory)
    memory.memory.deny(f"{DATA}/{IN_TRASH}", errno.EIO)
    outcome = finish(
        memory.filesystem,
        memory.data_fd,
        [entries_of(read_intents(memory.filesystem, memory.data_fd, BATCH)[0])[0]],
    )
    assert isinstance(outcome, Failed)
    assert (key_of(outcome), outcome.path, outcome.unfinished) == (candidate.key, IN_TRASH, True)


def test_an_undoing_that_was_cut_off_after_any_call_is_undone_again(memory: Host) -> None:
    candidate = cut_off(memory)
    memory.remove(f"{IMAGES}/docker.io")
    start = memory.memory.crashed_copy()
    for number in range(1, 1000):
        filesystem = start.crashed_copy()
        opener = filesystem.hold_open(f"{DATA}/{IN_TRASH}/rootfs.ext4")
        is_cut_off = cut_at(filesystem, number, recover)
        filesystem = filesystem.crashed_copy()
        if filesystem.exists(f"{DATA}/{IN_TRASH}"):
            opener = filesystem.hold_open(f"{DATA}/{IN_TRASH}/rootfs.ext4")
        recover(filesystem)
        opener.close()
        links = [filesystem.exists(f"{DATA}/{IMAGES}/{ALPINE}/{tag}") for tag in TAGS]
        assert (has_image(filesystem, candidate.key), links) == (True, [True, True]), number
        if not is_cut_off:
            return
    pytest.fail("it never ended")


# Faults, crashes and power losses at every call.


def make_cache(*, mounted: bool, tags: tuple[str, ...] = TAGS) -> MemoryFilesystem:
    """Make three images: two that are due, one of them without tags, and one that is not asked about."""
    filesystem = MemoryFilesystem(lambda: START_NS)
    for name, letters, pointing in ((ALPINE, "a", tags), (OTHER, "b", ()), (OTHER, "c", ("kept",))):
        key = make_image(filesystem, name, letters, tags=pointing)
        make_state(filesystem, key, START_NS)
    if mounted:
        filesystem.mount(f"{DATA}/{IMAGES}")
    filesystem.sync()
    return filesystem


DUE = (deletion(ALPINE, digest("a"), START_NS), deletion(OTHER, digest("b"), START_NS))


def delete(filesystem: MemoryFilesystem) -> list[Outcome]:
    """Do what the deleter does with a batch."""
    fd = data_fd_of(filesystem)
    try:
        outcomes = retire(filesystem, fd, DUE, LOOK, batch_name=BATCH).outcomes
        places = [outcome.place for outcome in outcomes if isinstance(outcome, Retired)]
        is_done = not any(isinstance(one, Failed) and one.unfinished for one in outcomes)
        for place in places:
            try:
                free(filesystem, fd, place)
            except OSError:
                is_done = False
        if is_done:
            with suppress(OSError):
                drop_intents(filesystem, fd, BATCH, ())
        return [*outcomes]
    finally:
        let_go(filesystem, fd)


def images_in(filesystem: MemoryFilesystem) -> Tree:
    return filesystem.tree(f"{DATA}/{IMAGES}")


def broken_promise(filesystem: MemoryFilesystem, before: Tree) -> str | None:
    """Tell what is wrong after a recovery; None: each image is whole or gone, and nothing is left over."""
    after = images_in(filesystem)
    expected = dict(before)
    states = set(filesystem.tree(f"{DATA}/{RETENTION}"))
    for name, letters in ((ALPINE, "a"), (OTHER, "b")):
        top = f"{DATA}/{IMAGES}/{name}/{letters * 64}"
        if top not in after:
            expected = {
                path: entry
                for path, entry in expected.items()
                if not path.startswith(top) and entry != ("link", letters * 64)
            }
            if any(path.endswith(f"{letters * 64}.json") for path in states):
                return f"the state of {name} is left"
    # A repository's folders go with its last image.
    expected = {
        path: entry
        for path, entry in expected.items()
        if entry[0] != "folder"
        or any(other.startswith(f"{path}/") for other in expected if expected[other][0] != "folder")
    }
    if after != expected:
        return f"images differ: {sorted(set(after) ^ set(expected))}"
    trash = f"{DATA}/{TRASH}"
    left = sorted(filesystem.tree(trash)) if filesystem.exists(trash) else []
    if left:
        return f"the trash holds {left}"
    if filesystem.open_descriptors():
        return f"left open: {filesystem.open_descriptors()}"
    return None


@pytest.fixture(params=["one disk", "two disks"])
def cache(request: pytest.FixtureRequest) -> MemoryFilesystem:
    """A cache with two images that are due; on two disks it is another one than the trash is on."""
    return make_cache(mounted=request.param == "two disks")


def test_without_a_fault_everything_goes(cache: MemoryFilesystem) -> None:
    before = images_in(cache)
    assert all(isinstance(outcome, Retired) for outcome in delete(cache))
    assert not any(has_image(cache, candidate.key) for candidate in DUE)
    assert broken_promise(cache, before) is None


def test_a_crash_at_any_call_leaves_each_image_whole_or_gone(cache: MemoryFilesystem) -> None:
    before = images_in(cache)
    for number, filesystem in cut_everywhere(cache, delete):
        after = filesystem.crashed_copy()
        recovery = recover(after)
        assert recovery.errors == (), number
        assert broken_promise(after, before) is None, number


@pytest.mark.parametrize("seed", range(bound(2, 40)))
def test_a_power_loss_at_any_call_leaves_each_image_whole_or_gone(cache: MemoryFilesystem, seed: int) -> None:
    before = images_in(cache)
    rng = random.Random(seed)
    for number, filesystem in cut_everywhere(cache, delete):
        after = filesystem.after_power_loss(rng)
        assert recover(after).errors == (), number
        assert broken_promise(after, before) is None, number


@pytest.mark.parametrize("seed", range(bound(2, 40)))
def test_a_crash_of_the_recovery_leaves_each_image_whole_or_gone(cache: MemoryFilesystem, seed: int) -> None:
    before = images_in(cache)
    rng = random.Random(seed)
    for number, filesystem in cut_everywhere(cache, delete):
        if rng.random() < 0.5:
            after = filesystem.crashed_copy()
            at = rng.randint(1, 70)
            cut_at(after, at, recover)
            again = after.after_power_loss(rng) if rng.random() < 0.5 else after.crashed_copy()
            recover(again)
            assert broken_promise(again, before) is None, (number, at)


def test_an_opener_who_is_there_after_a_crash_at_any_call_keeps_a_whole_image(
    cache: MemoryFilesystem,
) -> None:
    before = images_in(cache)
    for number, filesystem in cut_everywhere(cache, delete):
        after = filesystem.crashed_copy()
        standing = [
            path for path in after.tree(DATA) if path.endswith("/rootfs.ext4") and "c" * 64 not in path
        ]
        openers = [after.hold_open(path) for path in standing]
        # Once its metadata has gone, its erasing has begun.
        whole = [path for path in standing if is_complete(after, path)]
        recover(after)
        for opener in openers:
            opener.close()
        assert broken_promise(after, before) is None, number
        assert len([one for one in DUE if has_image(after, one.key)]) == len(whole), number


def is_complete(filesystem: MemoryFilesystem, disk: str) -> bool:
    """Tell whether the folder of a disk has its metadata, in sight or hidden."""
    folder = disk.rpartition("/")[0]
    return any(filesystem.exists(f"{folder}/{name}") for name in (METADATA, HIDDEN_METADATA))


def is_kept_or_on_record(filesystem: MemoryFilesystem, candidate: Deletion, before: Tree) -> bool:
    """Tell whether an image is whole in its place, with its tags, or stands elsewhere by an intent, or is gone."""
    letters = candidate.digest[-1]
    after = images_in(filesystem)
    top = f"{DATA}/{IMAGES}/{candidate.repository}/{letters * 64}"
    if top in after:
        return all(
            after.get(path) == entry
            for path, entry in before.items()
            if path.startswith(top) or entry == ("link", letters * 64)
        )
    elsewhere = [
        path for path in filesystem.tree(DATA) if f"{BATCH}." in path and path.endswith("rootfs.ext4")
    ]
    return not elsewhere or filesystem.exists(f"{DATA}/{TRASH}/{BATCH}.json")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_a_fault_at_any_call_leaves_each_image_whole_or_on_record(cache: MemoryFilesystem, code: int) -> None:
    before = images_in(cache)
    for call, filesystem, _ in failed_everywhere(cache, delete, code):
        assert all(is_kept_or_on_record(filesystem, one, before) for one in DUE), call
        recover(filesystem)
        assert is_consistent(filesystem, before), (call, broken_promise(filesystem, before))


def is_consistent(filesystem: MemoryFilesystem, before: Tree) -> bool:
    """Tell whether each image is whole or gone; a tag or a state that a fault left behind is allowed to dangle."""
    for candidate in DUE:
        top = f"{DATA}/{IMAGES}/{candidate.repository}/{candidate.digest[-1] * 64}"
        files = {path: entry for path, entry in images_in(filesystem).items() if path.startswith(top)}
        if files and files != {path: entry for path, entry in before.items() if path.startswith(top)}:
            return False
    carried_out = f"{DATA}/{DELETED}/{BATCH}.json"
    return not [path for path in filesystem.tree(DATA) if BATCH in path and path != carried_out]


def test_a_fault_that_lasts_keeps_every_image_whole_or_on_record(cache: MemoryFilesystem) -> None:
    before = images_in(cache)
    for name in (
        "open",
        "scandir",
        "rename",
        "unlink",
        "rmdir",
        "readlink",
        "fsync",
        "write",
        "stat",
        "fstat",
    ):
        filesystem = cache.crashed_copy()

        def fail(call: Call, name: str = name) -> None:
            if call.name == name and call.path != DATA:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        filesystem.before = fail
        delete(filesystem)
        filesystem.before = None
        assert all(is_kept_or_on_record(filesystem, one, before) for one in DUE), name
        after = filesystem.crashed_copy()
        recover(after)
        assert is_consistent(after, before), name


def test_an_image_has_a_key() -> None:
    key: Key = (ALPINE, digest("a"))
    assert deletion(*key, 5).key == key
