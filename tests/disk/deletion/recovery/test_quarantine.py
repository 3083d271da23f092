"""Images in quarantine: held by a record that is checked, released, and whole or gone whatever cuts that off."""

import errno
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import pytest

from disk.hosts import Host, open_host
from hmret.actors.deleter import Deleter
from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.recovery.quarantine import QuarantineContents, hold, load_held, release
from hmret.disk.deletion.recovery.quarantine_records import (
    HeldImage,
    change_record,
    drop_records,
    read_records,
)
from hmret.disk.deletion.recovery.recovering import Recovery
from hmret.disk.deletion.recovery.restoring import Restoration, recover_quarantine, restore
from hmret.disk.deletion.retirement import retire
from hmret.disk.deletion.tags.links import read_link
from hmret.disk.deletion.trash.intent_files import drop_intents
from hmret.disk.deletion.trash.intents import Copy, Link
from hmret.disk.folders import let_go
from hmret.disk.hypeman.scan import scan_folder
from hmret.disk.layout import HIDDEN_METADATA, IMAGES, METADATA, RETENTION, TRASH, Layout
from hmret.model.deletion import Deletion, Failed, RetireCriteria
from hmret.model.times import format_time
from support.bounds import bound
from support.builders import (
    DATA,
    START_NS,
    GatedThreads,
    data_fd_of,
    digest,
    has_image,
    make_image,
    make_state,
    set_tag,
    state_of,
)
from support.crashes import cut_at, cut_everywhere, failed_everywhere, started
from support.deletions import deletion
from support.memory_filesystem import Call, MemoryFilesystem, Tree

ALPINE = "docker.io/library/alpine"
OTHER = "quay.io/other/thing"
BATCH = "0123456789abcdef"
FOLDER = TRASH
RECORD = f"{FOLDER}/{BATCH}.held"
LOOK = RetireCriteria(frozenset(), 1000, START_NS + 1000)
RETIRED_NS = START_NS + 1000
RESTORED_NS = START_NS + 5000
TAGS = ("3.20", "latest")
DUE = (deletion(ALPINE, digest("a"), START_NS), deletion(OTHER, digest("b"), START_NS))


def make_due(host: Host, letters: str = "a", *, name: str = ALPINE, tags: tuple[str, ...] = TAGS) -> Deletion:
    key = make_image(host.place, name, letters, tags=tags)
    make_state(host.place, key, START_NS)
    return deletion(*key, START_NS)


def hold_all(host: Host, *candidates: Deletion) -> list[HeldImage]:
    """Retire images, and hold them."""
    outcomes = retire(host.filesystem, host.data_fd, candidates, LOOK, batch_name=BATCH).outcomes
    retired = [one for one in outcomes if isinstance(one, Retired)]
    assert len(retired) == len(candidates)
    held = hold(host.filesystem, host.data_fd, BATCH, retired, RETIRED_NS)
    drop_intents(host.filesystem, host.data_fd, BATCH, ())
    return held


def read_tag(host: Host, tag: str) -> Link:
    """Read a tag as a record has it."""
    folder_fd = host.open(f"{IMAGES}/{ALPINE}")
    link = read_link(host.filesystem, folder_fd, Layout.LEGACY, ALPINE, tag)
    host.close(folder_fd)
    assert link is not None
    return link


def hold_one(host: Host) -> HeldImage:
    (held,) = hold_all(host, make_due(host))
    return held


def bring_back(host: Host, held: HeldImage) -> Restoration:
    return restore(host.filesystem, host.data_fd, held, RESTORED_NS)


def held_now(host: Host) -> tuple[HeldImage, ...]:
    return load_held(host.filesystem, host.data_fd).held


def recover(host: Host) -> QuarantineContents:
    return recover_quarantine(host.filesystem, host.data_fd)


# Held.


def test_what_is_held_stands_on_record_with_its_tags_and_its_bytes(host: Host) -> None:
    candidate = make_due(host)
    links = [read_tag(host, tag) for tag in TAGS]
    (held,) = hold_all(host, candidate)
    assert held == HeldImage(
        candidate.digest,
        candidate.rows,
        candidate.is_content,
        f"{BATCH}.0",
        (Copy(ALPINE, 0, f"{BATCH}.0"),),
        tuple(links),
        disk_bytes=4096,
        retired_at_ns=RETIRED_NS,
    )
    assert held.tags_of(ALPINE) == TAGS
    assert held.key == (ALPINE, digest("a"))
    assert held_now(host) == (held,)
    assert host.names(IMAGES) == []
    assert host.names(FOLDER) == [
        f"{BATCH}.0",
        f"{BATCH}.0/metadata.json",
        f"{BATCH}.0/rootfs.ext4",
        f"{BATCH}.held",
    ]


def test_a_disk_with_a_link_elsewhere_counts_nothing_and_one_whose_links_all_go_counts_once(
    host: Host,
) -> None:
    candidates = [make_due(host, "a"), make_due(host, "b", name=OTHER), make_due(host, "c", name=OTHER)]
    kept = make_image(host.place, OTHER, "d", tags=())
    disks = {
        letters: f"{IMAGES}/{name}/{letters * 64}/rootfs.ext4"
        for name, letters in (
            (ALPINE, "a"),
            (OTHER, "b"),
            (OTHER, "c"),
            (OTHER, "d"),
        )
    }
    for source, target in (("a", "b"), ("d", "c")):
        host.remove(disks[target])
        host.hard_link(disks[source], disks[target])
    assert [held.disk_bytes for held in hold_all(host, *candidates)] == [0, 4096, 0]
    assert has_image(host.place, kept)


def test_the_oldest_comes_first(host: Host) -> None:
    old, new = hold_all(host, make_due(host, "a"), make_due(host, "b", name=OTHER))
    change_record(
        host.filesystem,
        host.data_fd,
        BATCH,
        lambda held: msgspec.structs.replace(held, retired_at_ns=5) if held == new else held,
    )
    assert [held.key for held in held_now(host)] == [new.key, old.key]


def test_a_record_that_cannot_be_written_holds_nothing(memory: Host) -> None:
    outcomes = retire(memory.filesystem, memory.data_fd, [make_due(memory)], LOOK, batch_name=BATCH).outcomes
    retired = [one for one in outcomes if isinstance(one, Retired)]
    memory.memory.deny(f"{DATA}/{RECORD}.tmp", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        hold(memory.filesystem, memory.data_fd, BATCH, retired, RETIRED_NS)
    assert not memory.exists(RECORD)
    assert memory.exists(f"{FOLDER}/{BATCH}.json")


def test_what_of_a_batch_is_held_later_joins_its_record(host: Host) -> None:
    outcomes = retire(
        host.filesystem,
        host.data_fd,
        [make_due(host, "a"), make_due(host, "b", name=OTHER)],
        LOOK,
        batch_name=BATCH,
    ).outcomes
    for outcome in outcomes:
        assert isinstance(outcome, Retired)
        hold(host.filesystem, host.data_fd, BATCH, [outcome], RETIRED_NS)
    assert [held.key for held in held_now(host)] == [(ALPINE, digest("a")), (OTHER, digest("b"))]


def test_on_another_file_system_it_is_held_beside_itself_and_no_image(memory: Host) -> None:
    memory.memory.mount(f"{DATA}/{IMAGES}")
    held = hold_one(memory)
    beside = f"{IMAGES}/{ALPINE}/.hmret-{BATCH}.0"
    assert memory.names(beside) == [HIDDEN_METADATA, "rootfs.ext4"]
    assert held_now(memory) == (held,)
    images_fd = memory.open(IMAGES)
    found = scan_folder(memory.filesystem, images_fd, ALPINE)
    memory.close(images_fd)
    assert (found.repository, found.subfolders) == (None, ())
    assert not [name for name in memory.names("") if name.endswith("metadata.json")]


# Records are checked before they are trusted.

RIGHT = {
    "repository": ALPINE,
    "digest": digest("a"),
    "tags": ["latest"],
    "unused_since_ns": 5,
    "name": f"{BATCH}.0",
    "disk_bytes": 4096,
    "retired_at_ns": 7,
}
WRONG: tuple[dict[str, object], ...] = (
    {"name": ".."},
    {"name": f"{BATCH}.0/../../.."},
    {"name": "fedcba9876543210.0"},
    {"repository": "../.."},
    {"repository": "alpine"},
    {"digest": "sha256:.."},
    {"tags": ["../latest"]},
    {"disk_bytes": -1},
    {"retired_at_ns": -1},
    {"retired_at_ns": 1 << 63},
    {"unused_since_ns": 1 << 63},
    {"retired_at_ns": "now"},
    {"disk_bytes": None},
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"[5]",
        b"[{}]",
        b"\xff",
        b"[" * 100_000,
        json.dumps([RIGHT, RIGHT]).encode(),
        json.dumps([{name: fact for name, fact in RIGHT.items() if name != "retired_at_ns"}]).encode(),
        *(json.dumps([RIGHT | wrong]).encode() for wrong in WRONG),
    ],
)
def test_a_record_that_could_not_be_ours_is_not_believed_and_its_folders_are_kept(
    host: Host, content: bytes
) -> None:
    hold_one(host)
    host.write(RECORD, content)
    host.write(f"{FOLDER}/{BATCH}.json", json.dumps([{**RIGHT, "name": f"{BATCH}.0"}]).encode())
    before = host.names("")
    recovery, recovered = start_on(host)
    assert recovery.errors == ()
    assert [path for path, _ in recovered.errors] == [RECORD]
    assert recovered.held == ()
    assert host.names("") == before


def start_on(host: Host, *, hold_at_ns: int | None = None) -> tuple[Recovery, QuarantineContents]:
    """Do what a start does about the trash."""
    deleter = Deleter(host.filesystem, host.data_fd, GatedThreads())
    try:
        return deleter._recover(hold_at_ns), deleter._recover_quarantine()
    finally:
        deleter._mailbox.abandon()


def test_a_record_that_the_disk_does_not_give_is_told_and_its_folders_are_kept(memory: Host) -> None:
    hold_one(memory)
    memory.memory.deny(f"{DATA}/{RECORD}", errno.EIO)
    _, recovered = start_on(memory)
    assert recovered.errors == ((RECORD, "Input/output error"),)
    assert memory.exists(f"{FOLDER}/{BATCH}.0/rootfs.ext4")


@pytest.mark.parametrize("failing", range(1, 6))
def test_where_the_records_cannot_be_listed_nothing_is_erased(memory: Host, failing: int) -> None:
    """Whichever of the looks into the trash fails."""
    held = hold_one(memory)
    listed: list[Call] = []

    def fail_once(call: Call) -> None:
        if call.name == "scandir" and call.path == f"{DATA}/{FOLDER}":
            listed.append(call)
            if len(listed) == failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    memory.memory.before = fail_once
    recovery, recovered = start_on(memory)
    memory.memory.before = None
    assert len(listed) >= failing
    assert recovery.errors or recovered.errors
    assert held_now(memory) == (held,)


def test_strays_beside_what_is_held_are_erased(host: Host) -> None:
    held = hold_one(host)
    host.write(f"{FOLDER}/{BATCH}.held.tmp", b"[")
    host.write(f"{FOLDER}/{BATCH}.7/rootfs.ext4", bytes(4096))
    host.write(f"{FOLDER}/fedcba9876543210.0/rootfs.ext4", bytes(4096))
    recovery, recovered = start_on(host)
    assert (recovery.freed_bytes, recovered.held) == (8192, (held,))
    assert [name for name in host.names(FOLDER) if "/" not in name] == [
        f"{BATCH}.0",
        f"{BATCH}.held",
    ]


def test_what_is_gone_is_held_no_longer_and_its_record_goes(host: Host) -> None:
    hold_one(host)
    for name in (METADATA, "rootfs.ext4"):
        host.remove(f"{FOLDER}/{BATCH}.0/{name}")
    host.remove(f"{FOLDER}/{BATCH}.0")
    assert held_now(host) == ()
    assert recover(host).held == ()
    assert host.names(FOLDER) == []


def test_a_look_at_what_is_held_changes_nothing(memory: Host) -> None:
    hold_one(memory)
    gone = json.dumps([{**RIGHT, "name": "fedcba9876543210.0"}]).encode()
    memory.write(f"{FOLDER}/fedcba9876543210.held", gone)
    before = memory.memory.snapshot()
    assert len(held_now(memory)) == 1
    assert read_records(memory.filesystem, memory.data_fd).errors == ()
    assert memory.memory.snapshot() == before


def test_where_there_is_no_trash_nothing_is_held(host: Host) -> None:
    assert (held_now(host), recover(host).errors) == ((), ())


# Released.


def test_what_is_released_is_gone_with_its_record(host: Host) -> None:
    images = hold_all(host, make_due(host, "a"), make_due(host, "b", name=OTHER))
    freed = release(host.filesystem, host.data_fd, images)
    assert (freed.disk_bytes, freed.done, freed.errors) == ((4096, 4096), (True, True), ())
    drop_records(host.filesystem, host.data_fd, {BATCH})
    assert host.names(FOLDER) == []


def test_a_record_stays_with_the_last_of_its_images(host: Host) -> None:
    one, other = hold_all(host, make_due(host, "a"), make_due(host, "b", name=OTHER))
    release(host.filesystem, host.data_fd, [one])
    drop_records(host.filesystem, host.data_fd, {BATCH})
    assert held_now(host) == (other,)


def test_what_stood_beside_itself_leaves_no_folder(memory: Host) -> None:
    memory.memory.mount(f"{DATA}/{IMAGES}")
    assert release(memory.filesystem, memory.data_fd, [hold_one(memory)]).disk_bytes == (4096,)
    assert memory.names(IMAGES) == []


def test_a_fresh_pull_of_what_is_released_stays(host: Host) -> None:
    held = hold_one(host)
    fresh = make_image(host.place, ALPINE, "a", tags=TAGS, size_bytes=10)
    assert release(host.filesystem, host.data_fd, [held]).disk_bytes == (4096,)
    assert has_image(host.place, fresh)
    assert [host.exists(f"{IMAGES}/{ALPINE}/{tag}") for tag in TAGS] == [True, True]


def test_what_cannot_be_erased_is_told_and_does_not_keep_the_others(memory: Host) -> None:
    images = hold_all(memory, make_due(memory, "a"), make_due(memory, "b", name=OTHER))
    memory.memory.deny(f"{DATA}/{FOLDER}/{BATCH}.0/rootfs.ext4", errno.EIO, call="unlink")
    freed = release(memory.filesystem, memory.data_fd, images)
    assert (freed.disk_bytes, freed.done) == ((0, 4096), (False, True))
    assert [(place.name, error) for place, error in freed.errors] == [(f"{BATCH}.0", "Input/output error")]


def test_a_release_that_was_cut_off_is_finished_and_not_restored(host: Host) -> None:
    held = hold_one(host)
    host.remove(f"{FOLDER}/{BATCH}.0/{METADATA}")
    with pytest.raises(LookupError):
        bring_back(host, held)
    assert not has_image(host.place, held.key)
    assert recover(host).freed_bytes == 4096
    assert host.names(FOLDER) == []


def test_told_to_stop_it_leaves_the_rest_for_the_next_start(host: Host) -> None:
    held = hold_one(host)
    answers = iter([False, True])
    freed = release(host.filesystem, host.data_fd, [held], stopping=answers.__next__)
    assert (freed.done, freed.errors) == ((False,), ())
    assert host.names(f"{FOLDER}/{BATCH}.0") == ["rootfs.ext4"]
    assert recover(host).freed_bytes == 4096


# Restored.


@pytest.mark.parametrize("mounted", [False, True])
def test_what_is_restored_is_whole_with_its_tags_and_a_timer_from_now(memory: Host, mounted: bool) -> None:
    candidate = make_due(memory)
    before = memory.memory.tree(f"{DATA}/{IMAGES}")
    if mounted:
        memory.memory.mount(f"{DATA}/{IMAGES}")
    (held,) = hold_all(memory, candidate)
    assert bring_back(memory, held) == Restoration({ALPINE: TAGS}, {})
    assert memory.memory.tree(f"{DATA}/{IMAGES}") == before
    assert state_of(memory.place, held.key) == format_time(RESTORED_NS)
    assert memory.names(FOLDER) == []


def test_a_real_disk_gives_an_image_back(real: Host) -> None:
    candidate = make_due(real)
    before = real.names(IMAGES)
    (held,) = hold_all(real, candidate)
    assert bring_back(real, held).tags == {ALPINE: TAGS}
    assert (real.names(IMAGES), real.names(FOLDER)) == (before, [])


def test_the_others_of_its_batch_stay_held(host: Host) -> None:
    one, other = hold_all(host, make_due(host, "a"), make_due(host, "b", name=OTHER))
    bring_back(host, one)
    assert held_now(host) == (other,)


def test_a_tag_that_was_taken_stays_where_it_is(host: Host) -> None:
    held = hold_one(host)
    make_image(host.place, ALPINE, "b", tags=("latest",))
    assert bring_back(host, held) == Restoration({ALPINE: ("3.20",)}, {ALPINE: ("latest",)})
    assert host.filesystem.readlink(f"{IMAGES}/{ALPINE}/latest", dir_fd=host.data_fd) == "b" * 64


def test_what_is_here_already_is_not_replaced(host: Host) -> None:
    held = hold_one(host)
    fresh = make_image(host.place, ALPINE, "a", tags=(), size_bytes=10)
    before = host.names("")
    with pytest.raises(FileExistsError):
        bring_back(host, held)
    assert (host.names(""), state_of(host.place, fresh)) == (before, None)
    assert len(host.read(f"{IMAGES}/{ALPINE}/{'a' * 64}/rootfs.ext4")) == 10


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("at", ["symlink", "rename"])
def test_what_is_pulled_again_while_it_is_restored_is_not_replaced(
    memory: Host, at: str, mounted: bool
) -> None:
    if mounted:
        memory.memory.mount(f"{DATA}/{IMAGES}")
    held = hold_one(memory)
    end = "latest" if at == "symlink" else "a" * 64

    def pull(call: Call) -> None:
        if call.name == at and call.path.endswith(end):
            memory.memory.before = None
            make_image(memory.place, ALPINE, "a", tags=TAGS, size_bytes=10)

    memory.memory.before = pull
    with pytest.raises(FileExistsError):
        bring_back(memory, held)
    assert len(memory.read(f"{IMAGES}/{ALPINE}/{'a' * 64}/rootfs.ext4")) == 10
    assert [memory.exists(f"{IMAGES}/{ALPINE}/{tag}") for tag in TAGS] == [True, True]
    assert state_of(memory.place, held.key) is None
    assert held_now(memory) == (held,)
    assert not [name for name in memory.names(IMAGES) if f"{BATCH}.0/metadata" in name]


def test_another_folder_in_its_place_is_not_restored(host: Host) -> None:
    held = hold_one(host)
    metadata = json.loads(host.read(f"{FOLDER}/{BATCH}.0/{METADATA}"))
    host.write(f"{FOLDER}/{BATCH}.0/{METADATA}", json.dumps({**metadata, "digest": digest("b")}).encode())
    with pytest.raises(LookupError):
        bring_back(host, held)
    assert not has_image(host.place, held.key)


def test_a_link_in_its_place_is_not_followed(host: Host) -> None:
    held = hold_one(host)
    host.filesystem.rename(
        f"{FOLDER}/{BATCH}.0", "elsewhere", src_dir_fd=host.data_fd, dst_dir_fd=host.data_fd
    )
    host.link(f"{FOLDER}/{BATCH}.0", "../../../elsewhere")
    with pytest.raises(LookupError):
        bring_back(host, held)
    assert release(host.filesystem, host.data_fd, [held]).done == (True,)
    assert host.names("elsewhere") == [METADATA, "rootfs.ext4"]


@pytest.mark.parametrize("link", [f"{IMAGES}/docker.io", f"{IMAGES}/{ALPINE}"])
def test_an_image_is_not_restored_through_a_link(host: Host, link: str) -> None:
    held = hold_one(host)
    host.folder("elsewhere/library/alpine")
    host.link(link, "../" * link.count("/") + "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        bring_back(host, held)
    assert host.names("elsewhere") == ["library", "library/alpine"]
    assert held_now(host) == (held,)


def test_a_repository_that_is_removed_while_an_image_is_restored_is_made_again(memory: Host) -> None:
    (held,) = hold_all(memory, make_due(memory, tags=()))

    def remove(call: Call) -> None:
        if call.name == "rename" and call.path.endswith("a" * 64):
            memory.memory.before = None
            memory.remove(f"{IMAGES}/{ALPINE}")

    memory.memory.before = remove
    assert bring_back(memory, held) == Restoration({}, {})
    assert has_image(memory.place, held.key)


def test_an_image_is_restored_for_good_before_its_record_goes(memory: Host) -> None:
    held = hold_one(memory)
    bring_back(memory, held)
    for seed in range(20):
        after = memory.memory.after_power_loss(random.Random(seed))
        with open_host(after) as host:
            start_on(host)
        assert has_image(after, held.key)


# Cut off and failing at every call.


def test_the_tags_of_what_is_restored_are_on_the_disk_before_it_is_back(memory: Host) -> None:
    held = hold_one(memory)
    calls: list[str] = []

    def note(call: Call) -> None:
        calls.append(f"{call.name} {call.path}")

    memory.memory.before = note
    bring_back(memory, held)
    made = max(number for number, call in enumerate(calls) if call.startswith("symlink"))
    back = next(number for number, call in enumerate(calls) if call.startswith("rename") and number > made)
    assert any(call.startswith("fsync") for call in calls[made:back]), calls


def make_cache(*, mounted: bool) -> MemoryFilesystem:
    """Make three images: two that are due, one of them without tags, and one that is not asked about."""
    filesystem = MemoryFilesystem(lambda: START_NS)
    for name, letters, tags in ((ALPINE, "a", TAGS), (OTHER, "b", ()), (OTHER, "c", ("kept",))):
        key = make_image(filesystem, name, letters, tags=tags)
        make_state(filesystem, key, START_NS)
    if mounted:
        filesystem.mount(f"{DATA}/{IMAGES}")
    filesystem.sync()
    return filesystem


@pytest.fixture(params=["one disk", "two disks"])
def cache(request: pytest.FixtureRequest) -> MemoryFilesystem:
    """A cache with two images that are due; on two disks it is another one than the trash is on."""
    return make_cache(mounted=request.param == "two disks")


Work = Callable[[MemoryFilesystem], object]


def quarantine_all(filesystem: MemoryFilesystem) -> None:
    """Do what the deleter does with a batch where quarantine is on."""
    fd = data_fd_of(filesystem)
    try:
        outcomes = retire(filesystem, fd, DUE, LOOK, batch_name=BATCH).outcomes
        retired = [one for one in outcomes if isinstance(one, Retired) and not one.faults]
        hold(filesystem, fd, BATCH, retired, RETIRED_NS)
        if len(retired) == len(outcomes) and not any(isinstance(one, Failed) for one in outcomes):
            drop_intents(filesystem, fd, BATCH, ())
    finally:
        let_go(filesystem, fd)


def restore_first(filesystem: MemoryFilesystem) -> object:
    fd = data_fd_of(filesystem)
    try:
        found = load_held(filesystem, fd).held
        return restore(filesystem, fd, next(one for one in found if one.repository == ALPINE), RESTORED_NS)
    finally:
        let_go(filesystem, fd)


def release_all(filesystem: MemoryFilesystem) -> object:
    fd = data_fd_of(filesystem)
    try:
        images = load_held(filesystem, fd).held
        freed = release(filesystem, fd, images)
        drop_records(filesystem, fd, {held.batch_name for held in images})
    finally:
        let_go(filesystem, fd)
    return freed


WORK: dict[str, tuple[tuple[Work, ...], Work]] = {
    "hold": ((), quarantine_all),
    "restore": ((quarantine_all,), restore_first),
    "release": ((quarantine_all,), release_all),
}


def start(filesystem: MemoryFilesystem) -> tuple[Recovery, QuarantineContents]:
    """Do what a start does about the trash, where quarantine is on."""
    return started(filesystem, lambda deleter: (deleter._recover(RETIRED_NS), deleter._recover_quarantine()))


def is_held(filesystem: MemoryFilesystem, candidate: Deletion) -> bool:
    fd = data_fd_of(filesystem)
    try:
        return candidate.key in [held.key for held in load_held(filesystem, fd).held]
    finally:
        let_go(filesystem, fd)


def broken_promise(filesystem: MemoryFilesystem, before: Tree) -> str | None:
    """Tell what is wrong after a start; None: each image is here whole, held whole or gone, and nothing is left over."""
    return next(complaints(filesystem, before), None)


def complaints(filesystem: MemoryFilesystem, before: Tree) -> Iterator[str]:
    held = [candidate for candidate in DUE if is_held(filesystem, candidate)]
    after = filesystem.tree(f"{DATA}/{IMAGES}")
    trash = f"{DATA}/{FOLDER}"
    in_trash = filesystem.tree(trash) if filesystem.exists(trash) else {}
    expected = {f"{trash}/{BATCH}.held"} if held else set()
    for number, candidate in enumerate(DUE):
        letters = candidate.digest[-1]
        own = f"{DATA}/{IMAGES}/{candidate.repository}/{letters * 64}"
        links = [path for path, entry in before.items() if entry == ("link", letters * 64)]
        whole = below(before, own)
        here = below(after, own)
        if here and (candidate in held or here != whole or any(link not in after for link in links)):
            yield f"{candidate.key} is here, and not whole, or held besides"
        state = f"{DATA}/{RETENTION}/{candidate.repository}/{letters * 64}.json"
        if not here and (filesystem.exists(state) or any(link in after for link in links)):
            yield f"a tag or the timer of {candidate.key} is left"
        place = f"{trash}/{BATCH}.{number}"
        beside = below(after, f"{DATA}/{IMAGES}/{candidate.repository}/.hmret-{BATCH}.{number}")
        if f"/{METADATA}" in beside:
            yield f"the metadata of {candidate.key} is in sight"
        shown = {path.replace(HIDDEN_METADATA, METADATA): entry for path, entry in beside.items()}
        if {**below(in_trash, place), **shown} != (whole if candidate in held else {}):
            yield f"{candidate.key} is held, and not whole, or is left where it was held"
        expected |= {path for path in in_trash if candidate in held and path.startswith(place)}
    if set(in_trash) != expected:
        yield f"the trash holds {sorted(in_trash)}"
    folders = [path for path, entry in after.items() if entry[0] == "folder"]
    empty = [path for path in folders if not below(after, f"{path}/")]
    if empty:
        yield f"left empty: {empty}"
    if filesystem.open_descriptors():
        yield f"left open: {filesystem.open_descriptors()}"


def below(tree: Tree, top: str) -> Tree:
    return {path.removeprefix(top): entry for path, entry in tree.items() if path.startswith(top)}


def cut_copies(cache: MemoryFilesystem, name: str) -> Iterator[tuple[int, MemoryFilesystem]]:
    """Crash some work at each of its calls; gives the disk as the dead process leaves it."""
    preparations, work = WORK[name]
    for prepare in preparations:
        prepare(cache)
    cache.sync()
    yield from cut_everywhere(cache, work)


@pytest.mark.parametrize("name", WORK)
def test_a_crash_at_any_call_leaves_each_image_here_whole_or_held_whole_or_gone(
    cache: MemoryFilesystem, name: str
) -> None:
    before = cache.tree(f"{DATA}/{IMAGES}")
    number = 0
    for number, filesystem in cut_copies(cache, name):
        after = filesystem.crashed_copy()
        recovery, recovered = start(after)
        assert (recovery.errors, recovered.errors) == ((), ()), number
        assert broken_promise(after, before) is None, number
    assert number > 10


@pytest.mark.parametrize("name", ["hold", "restore"])
def test_nothing_that_was_to_be_held_is_lost_by_a_crash_at_any_call(
    cache: MemoryFilesystem, name: str
) -> None:
    for number, filesystem in cut_copies(cache, name):
        after = filesystem.crashed_copy()
        start(after)
        for candidate in DUE:
            assert has_image(after, candidate.key) or is_held(after, candidate), (number, candidate)


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("seed", range(bound(2, 40)))
def test_a_power_loss_at_any_call_leaves_each_image_here_whole_or_held_whole_or_gone(
    cache: MemoryFilesystem, name: str, seed: int
) -> None:
    before = cache.tree(f"{DATA}/{IMAGES}")
    rng = random.Random(seed)
    for number, filesystem in cut_copies(cache, name):
        after = filesystem.after_power_loss(rng)
        recovery, recovered = start(after)
        assert (recovery.errors, recovered.errors) == ((), ()), number
        assert broken_promise(after, before) is None, number
        if name != "release":
            assert all(has_image(after, one.key) or is_held(after, one) for one in DUE), number


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("seed", range(bound(2, 40)))
def test_a_crash_of_the_start_leaves_each_image_here_whole_or_held_whole_or_gone(
    cache: MemoryFilesystem, name: str, seed: int
) -> None:
    before = cache.tree(f"{DATA}/{IMAGES}")
    rng = random.Random(seed)
    for number, filesystem in cut_copies(cache, name):
        after = filesystem.crashed_copy()
        at = rng.randint(1, 90)
        cut_at(after, at, start)
        again = after.after_power_loss(rng) if rng.random() < 0.5 else after.crashed_copy()
        start(again)
        assert broken_promise(again, before) is None, (number, at)


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_fault_at_any_call_leaves_each_image_here_whole_or_held_whole_or_gone(
    cache: MemoryFilesystem, name: str, code: int
) -> None:
    before = cache.tree(f"{DATA}/{IMAGES}")
    preparations, work = WORK[name]
    for prepare in preparations:
        prepare(cache)

    def try_work(filesystem: MemoryFilesystem) -> None:
        with suppress(OSError, LookupError, StopIteration):
            work(filesystem)

    for reached, filesystem, _ in failed_everywhere(cache, try_work, code):
        after = filesystem.crashed_copy()
        start(after)
        if name != "release":
            assert all(has_image(after, one.key) or is_held(after, one) for one in DUE), reached
        # The timer of an image that is gone is pruned by the next sweep, tags that a fault left may dangle.
        for candidate in DUE:
            if has_image(after, candidate.key):
                own = f"{DATA}/{IMAGES}/{candidate.repository}/{candidate.digest[-1] * 64}"
                now = after.tree(f"{DATA}/{IMAGES}")
                assert {path: entry for path, entry in now.items() if path.startswith(own)} == {
                    path: entry for path, entry in before.items() if path.startswith(own)
                }, reached


def test_a_restore_that_fails_leaves_what_it_found(memory: Host) -> None:
    held = hold_one(memory)
    before = memory.names("")

    def fail(call: Call) -> None:
        if call.name == "rename" and call.path.endswith("a" * 64):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    memory.memory.before = fail
    with pytest.raises(OSError, match="Input/output error"):
        bring_back(memory, held)
    memory.memory.before = None
    assert memory.names("") == before
    assert bring_back(memory, held).tags == {ALPINE: TAGS}


def fail_renames_to(memory: Host, *ends: str) -> None:
    """Make every rename fail whose target ends so."""

    def fail(call: Call) -> None:
        if call.name == "rename" and call.path.endswith(ends):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    memory.memory.before = fail


def test_a_restore_that_fails_leaves_the_timer_that_it_found(memory: Host) -> None:
    """The row of one whose content is in the cache has one."""
    held = hold_one(memory)
    make_state(memory.place, held.key, START_NS + 7)
    fail_renames_to(memory, "a" * 64)
    with pytest.raises(OSError, match="Input/output error"):
        bring_back(memory, held)
    memory.memory.before = None
    assert state_of(memory.place, held.key) == format_time(START_NS + 7)


def test_a_tag_that_was_set_since_is_not_taken_for_one_of_a_restore(host: Host) -> None:
    """A restore begins with a timer: without one, there was none."""
    held = hold_one(host)
    set_tag(host.place, ALPINE, "latest", "a")
    assert recover(host).held == (held,)
    assert host.exists(f"{IMAGES}/{ALPINE}/latest")


def test_metadata_that_cannot_be_shown_again_takes_the_image_back_into_quarantine(memory: Host) -> None:
    memory.memory.mount(f"{DATA}/{IMAGES}")
    held = hold_one(memory)
    before = memory.names("")
    fail_renames_to(memory, METADATA)
    with pytest.raises(OSError, match="Input/output error"):
        bring_back(memory, held)
    memory.memory.before = None
    assert memory.names("") == before
    assert bring_back(memory, held).tags == {ALPINE: TAGS}


def test_an_image_that_stays_hidden_in_its_place_keeps_its_record_and_is_shown_at_the_next_start(
    memory: Host,
) -> None:
    """Whatever is done with what is held in between: it is in the cache, though nobody sees it."""
    memory.memory.mount(f"{DATA}/{IMAGES}")
    held = hold_one(memory)
    fail_renames_to(memory, METADATA, f".hmret-{BATCH}.0")
    with pytest.raises(OSError, match="Input/output error"):
        bring_back(memory, held)
    memory.memory.before = None
    folder = f"{IMAGES}/{ALPINE}/{'a' * 64}"
    assert memory.names(folder) == [HIDDEN_METADATA, "rootfs.ext4"]
    assert release(memory.filesystem, memory.data_fd, [held]).done == (True,)
    drop_records(memory.filesystem, memory.data_fd, {BATCH})
    assert memory.exists(RECORD)
    recovered = recover(memory)
    assert (recovered.held, recovered.errors) == ((), ())
    assert memory.names(folder) == [METADATA, "rootfs.ext4"]
    assert not memory.exists(RECORD)


# Recovery with quarantine on and off.


def test_a_deletion_that_was_cut_off_is_held_with_the_tags_that_its_intent_names(host: Host) -> None:
    candidate = make_due(host)
    retire(host.filesystem, host.data_fd, [candidate], LOOK, batch_name=BATCH)
    recovery, recovered = start_on(host, hold_at_ns=RETIRED_NS)
    (held,) = recovery.held
    assert (held.key, held.tags_of(ALPINE), held.retired_at_ns) == (candidate.key, TAGS, RETIRED_NS)
    assert (recovery.freed_bytes, recovered.held) == (0, (held,))
    assert not host.exists(f"{FOLDER}/{BATCH}.json")


def test_a_deletion_that_was_cut_off_is_freed_where_quarantine_is_off(host: Host) -> None:
    retire(host.filesystem, host.data_fd, [make_due(host)], LOOK, batch_name=BATCH)
    recovery, recovered = start_on(host)
    assert (recovery.held, recovery.freed_bytes, recovered.held) == ((), 4096, ())
    assert host.names(FOLDER) == []


def test_what_was_being_erased_is_not_held(host: Host) -> None:
    retire(host.filesystem, host.data_fd, [make_due(host)], LOOK, batch_name=BATCH)
    host.remove(f"{FOLDER}/{BATCH}.0/{METADATA}")
    recovery, _ = start_on(host, hold_at_ns=RETIRED_NS)
    assert (recovery.held, recovery.freed_bytes) == ((), 4096)
    assert host.names(FOLDER) == []


def test_what_is_held_is_not_finished_again_though_its_intents_are_there(memory: Host) -> None:
    """Not even where somebody has its disk open through another link: it would come back by itself."""
    outcomes = retire(memory.filesystem, memory.data_fd, [make_due(memory)], LOOK, batch_name=BATCH).outcomes
    (outcome,) = outcomes
    assert isinstance(outcome, Retired)
    (held,) = hold(memory.filesystem, memory.data_fd, BATCH, [outcome], RETIRED_NS)
    opener = memory.memory.hold_open(f"{DATA}/{FOLDER}/{BATCH}.0/rootfs.ext4")
    recovery, recovered = start_on(memory)
    opener.close()
    assert (recovery.put_back, recovery.finished, recovered.held) == ((), (), (held,))
    assert not memory.exists(f"{FOLDER}/{BATCH}.json")
