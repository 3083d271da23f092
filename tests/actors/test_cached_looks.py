"""What the scanner and the state keeper do not read again is what they would have read."""

import errno
import json
from collections.abc import Callable
from datetime import timedelta

import attrs
import pytest

from hmret.actors.scanner import Scanner, ScanResult
from hmret.actors.state_keeper import StateKeeper, StatesLoaded
from hmret.disk.layout import OWN, hex_of
from hmret.model.references import Key
from support.builders import (
    DATA,
    START_NS,
    FakeClock,
    GatedThreads,
    digest,
    make_image,
    make_state,
    running,
    set_tag,
)
from support.memory_filesystem import Call, MemoryFilesystem

ALPINE, BUSYBOX, KERNEL = "docker.io/library/alpine", "docker.io/library/busybox", "ghcr.io/kernel/x"
IMAGES, STATES = f"{DATA}/images", f"{DATA}/system/image-retention"
LONG = timedelta(hours=4)


@attrs.define
class Host:
    """A cache, with an engine's actors that have looked at it and others that have not."""

    filesystem: MemoryFilesystem
    data_fd: int
    clock: FakeClock

    def scanner(self) -> Scanner:
        threads = GatedThreads()
        return Scanner(self.filesystem, self.data_fd, threads)

    def keeper(self) -> StateKeeper:
        threads = GatedThreads()
        return StateKeeper(self.filesystem, self.data_fd, threads)

    def wait(self, duration: timedelta = timedelta(seconds=10)) -> None:
        """Let so much time pass that what has changed shows."""
        self.clock.advance(duration)

    async def fresh_scan(self) -> ScanResult:
        """Scan as one who knows nothing does."""
        records = f"{DATA}/{OWN}"
        if self.filesystem.exists(records):
            self.filesystem.move(records, f"{DATA}/records")
        async with running(self.scanner()) as scanner:
            found = await scanner.scan()
        if self.filesystem.exists(f"{DATA}/records"):
            self.filesystem.move(f"{DATA}/records", records)
        return found

    async def fresh_states(self) -> StatesLoaded:
        async with running(self.keeper()) as keeper:
            return await keeper.load()

    def path(self, key: Key, name: str = "") -> str:
        return f"{IMAGES}/{key[0]}/{hex_of(key[1])}/{name}".rstrip("/")

    def rewrite(self, key: Key, **fields: object) -> None:
        """Write an image's metadata anew, as hypeman does."""
        make_image(self.filesystem, key[0], "f", tags=(), **fields)  # type: ignore[arg-type]  # by name
        made = (key[0], digest("f"))
        content = self.filesystem.read_file(self.path(made, "metadata.json"))
        self.filesystem.remove(self.path(made))
        self.filesystem.write_file(
            self.path(key, "metadata.json.tmp"), content.replace(b"f" * 64, hex_of(key[1]).encode())
        )
        self.filesystem.move(self.path(key, "metadata.json.tmp"), self.path(key, "metadata.json"))


@pytest.fixture
def host(filesystem: MemoryFilesystem, data_fd: int, clock: FakeClock) -> Host:
    make_image(filesystem, ALPINE, "a", tags=("latest", "3.20"))
    make_image(filesystem, ALPINE, "b", tags=())
    make_image(filesystem, BUSYBOX, "c")
    make_image(filesystem, KERNEL, "d")
    host = Host(filesystem, data_fd, clock)
    host.wait()
    return host


def same(one: ScanResult, other: ScanResult) -> None:
    assert {name: (dict(r.images), dict(r.tags)) for name, r in one.repositories.items()} == {
        name: (dict(r.images), dict(r.tags)) for name, r in other.repositories.items()
    }
    assert facts(one) == facts(other)


def facts(found: ScanResult) -> dict[str, object]:
    """Return what a scan found beside the repositories."""
    return {
        "unlisted": found.unlisted,
        "unknown_folders": set(found.unknown_folders),
        "is_absent": found.is_absent,
        "images": found.images,
        "contents": dict(found.contents),
        "bases": found.bases,
        "oddities": found.oddities,
        "details": dict(found.details),
        "ghosts": set(found.ghosts),
        "tag_folders": dict(found.tag_folders),
        "builds": found.builds,
    }


def is_same_object(one: ScanResult, other: ScanResult) -> bool:
    """Return whether everything that a plan rests on is the very same object in both scans."""
    return (
        one.repositories is other.repositories
        and one.contents is other.contents
        and one.bases is other.bases
        and one.builds is other.builds
        and one.tag_folders is other.tag_folders
    )


A, B = (ALPINE, digest("a")), (ALPINE, digest("b"))


def replace_by_the_same_digest(host: Host, *, keeps_inode: bool) -> None:
    path = host.path(A, "metadata.json")
    inode = host.filesystem.inode(path)
    assert inode is not None
    host.filesystem.remove(host.path(A))
    host.wait()
    make_image(host.filesystem, ALPINE, "a", tags=(), size_bytes=8192)
    if keeps_inode:
        host.filesystem.set_inode(path, inode)


def replace_folder(host: Host, path: str) -> None:
    host.filesystem.move(path, f"{path}.old")
    make_image(host.filesystem, path.removeprefix(f"{IMAGES}/"), "e")
    host.filesystem.remove(f"{path}.old")


def break_and_touch(host: Host) -> None:
    host.filesystem.remove(host.path(A, "rootfs.ext4"))
    host.rewrite(A, has_disk=False)
    host.filesystem.make_folder(host.path(A))


def replace(host: Host, path: str, make: Callable[[str], object]) -> None:
    host.filesystem.remove(path)
    make(path)


def replace_by_link(host: Host, path: str) -> None:
    host.filesystem.move(path, f"{DATA}/aside")
    host.filesystem.make_link(path, f"{DATA}/aside")


def make_content(host: Host, letters: str, status: str = "ready") -> str:
    path = f"{IMAGES}/content/{hex_of(digest(letters))}"
    metadata = {"name": f"{BUSYBOX}-other:1", "digest": digest(letters), "status": status}
    host.filesystem.write_file(f"{path}/rootfs.erofs", b"content")
    host.filesystem.write_file(f"{path}/metadata.json", json.dumps(metadata).encode())
    return path


def make_link(host: Host, repository: str, tag: str, letters: str) -> str:
    up = "../" * (repository.count("/") + 2)
    path = f"{IMAGES}/repositories/{repository}/{tag}"
    host.filesystem.make_link(path, f"{up}content/{hex_of(digest(letters))}")
    return path


CHANGES: dict[str, Callable[[Host], object]] = {
    "tag moved": lambda host: set_tag(host.filesystem, ALPINE, "latest", "b"),
    "tag made": lambda host: set_tag(host.filesystem, ALPINE, "new", "b"),
    "tag removed": lambda host: host.filesystem.remove(f"{IMAGES}/{ALPINE}/latest"),
    "tag to what is not here": lambda host: set_tag(host.filesystem, ALPINE, "latest", "e"),
    "image pulled": lambda host: make_image(host.filesystem, ALPINE, "e"),
    "image pulled into a new repository": lambda host: make_image(host.filesystem, "quay.io/x/y", "e"),
    "image being pulled": lambda host: make_image(
        host.filesystem, ALPINE, "e", status="pulling", has_disk=False
    ),
    "image removed": lambda host: host.filesystem.remove(host.path(B)),
    "last image removed": lambda host: host.filesystem.remove(host.path((KERNEL, digest("d")))),
    "image replaced by the same digest": lambda host: replace_by_the_same_digest(host, keeps_inode=False),
    "image replaced, its inode number used again": lambda host: replace_by_the_same_digest(
        host, keeps_inode=True
    ),
    "image broken, and its metadata written anew": break_and_touch,
    "image renamed to another digest": lambda host: host.filesystem.move(
        host.path(B), host.path((ALPINE, digest("e")))
    ),
    "image replaced by a link": lambda host: replace_by_link(host, host.path(A)),
    "repository removed": lambda host: host.filesystem.remove(f"{IMAGES}/{ALPINE}"),
    "repository renamed": lambda host: host.filesystem.move(f"{IMAGES}/{ALPINE}", f"{IMAGES}/{ALPINE}2"),
    "repository replaced by another": lambda host: replace_folder(host, f"{IMAGES}/{ALPINE}"),
    "repository replaced by a link": lambda host: replace_by_link(host, f"{IMAGES}/{ALPINE}"),
    "folder above replaced by a link": lambda host: replace_by_link(host, f"{IMAGES}/docker.io"),
    "folder above replaced by a file": lambda host: replace(
        host, f"{IMAGES}/docker.io", host.filesystem.write_file
    ),
    "disk mounted over a repository": lambda host: replace(host, f"{IMAGES}/{ALPINE}", host.filesystem.mount),
    "nested repository made": lambda host: make_image(host.filesystem, f"{ALPINE}/deeper/still", "e"),
    "newer layout made": lambda host: host.filesystem.make_folder(f"{IMAGES}/layers"),
    "content made": lambda host: make_content(host, "e"),
    "content that is shared made": lambda host: (
        make_content(host, "e"),
        make_link(host, ALPINE, "new", "e"),
        make_link(host, KERNEL, "new", "e"),
    ),
    "content of what has a folder of its own made": lambda host: (
        make_content(host, "a"),
        make_link(host, ALPINE, "latest", "a"),
    ),
    "content that is not ready made": lambda host: make_content(host, "a", status="converting"),
    "tag of todays layout made that shadows another": lambda host: make_link(host, ALPINE, "latest", "b"),
    "todays layout behind a link": lambda host: host.filesystem.make_link(
        f"{IMAGES}/content", f"{DATA}/system"
    ),
    "build recorded": lambda host: host.filesystem.write_file(
        f"{DATA}/builds/1/metadata.json", json.dumps({"image_digest": digest("a")}).encode()
    ),
    "all gone": lambda host: host.filesystem.remove(IMAGES),
    "all empty": lambda host: replace(host, IMAGES, host.filesystem.make_folder),
    "nothing": lambda _host: None,
}
TAKES_ALL = {"all gone", "all empty", "folder above replaced by a link", "folder above replaced by a file"}


@pytest.mark.parametrize("at_once", [True, False], ids=["within two seconds", "later"])
@pytest.mark.parametrize("change", CHANGES)
async def test_whatever_changes_is_seen_by_the_next_scan(host: Host, change: str, at_once: bool) -> None:
    async with running(host.scanner()) as scanner:
        before = await scanner.scan()
        if at_once:
            # What changed with the same stamps as what was read then.
            set_tag(host.filesystem, ALPINE, "other", "a")
            before = await scanner.scan()
        else:
            host.wait()
        CHANGES[change](host)
        after = await scanner.scan()
        same(after, await host.fresh_scan())
        if change not in TAKES_ALL:
            assert after.repositories[BUSYBOX] is before.repositories[BUSYBOX]
        host.wait()
        same(await scanner.scan(), await host.fresh_scan())
        recovered = await scanner.scan()
        unknown = recovered.is_absent or recovered.unlisted or recovered.hidden
        assert unknown or is_same_object(await scanner.scan(), recovered)


@pytest.mark.parametrize("change", CHANGES)
async def test_whatever_changed_between_two_engines_is_seen(host: Host, change: str) -> None:
    async with running(host.scanner()) as scanner:
        before = await scanner.scan()
        await scanner.save_cache()
    host.wait()
    CHANGES[change](host)
    host.wait()
    expected = await host.fresh_scan()
    async with running(host.scanner()) as scanner:
        after = await scanner.scan()
    same(after, expected)
    if change == "nothing":
        same(after, before)


async def test_nothing_is_read_where_nothing_has_changed_not_even_by_the_next_engine(host: Host) -> None:
    async with running(host.scanner()) as scanner:
        await scanner.scan()
        await scanner.save_cache()
    opened: list[str] = []
    host.filesystem.before = lambda call: (
        opened.append(call.path) if call.name in ("open", "scandir") else None
    )
    async with running(host.scanner()) as scanner:
        first = await scanner.scan()
        assert [path for path in opened if "docker.io" in path or "ghcr.io" in path] == []
        assert is_same_object(await scanner.scan(), first)
    host.filesystem.before = None


async def test_an_image_that_is_not_ready_is_looked_at_every_time(host: Host) -> None:
    key = make_image(host.filesystem, ALPINE, "e", status="pulling", has_disk=False, tags=())
    async with running(host.scanner()) as scanner:
        host.wait()
        before = await scanner.scan()
        assert is_same_object(await scanner.scan(), before)
        for status in ("converting", "failed", "pulling", "ready"):
            host.wait()
            host.rewrite(key, status=status, has_disk=False)
            same(await scanner.scan(), await host.fresh_scan())
        host.wait()
        host.filesystem.write_file(host.path(key, "rootfs.ext4"), b"x")
        found = await scanner.scan()
        assert found.repositories[ALPINE].images[key[1]].broken is None
        same(found, await host.fresh_scan())


async def test_what_is_not_ready_and_empties_is_no_image_any_more(host: Host) -> None:
    key = make_image(host.filesystem, ALPINE, "e", status="pulling", has_disk=False, tags=())
    async with running(host.scanner()) as scanner:
        host.wait()
        await scanner.scan()
        host.filesystem.remove(host.path(key, "metadata.json"))
        host.wait()
        same(await scanner.scan(), await host.fresh_scan())
        make_image(host.filesystem, ALPINE, "e", tags=())
        same(await scanner.scan(), await host.fresh_scan())


async def test_a_digest_folder_that_was_empty_becomes_an_image(host: Host) -> None:
    key = (ALPINE, digest("e"))
    host.filesystem.make_folder(host.path(key))
    host.wait()
    async with running(host.scanner()) as scanner:
        assert key[1] not in (await scanner.scan()).repositories[ALPINE].images
        host.wait()
        make_image(host.filesystem, ALPINE, "e", tags=())
        assert key[1] in (await scanner.scan()).repositories[ALPINE].images


async def test_a_disk_that_went_from_a_ready_image_is_missed_for_hours_at_most_though_tags_move(
    host: Host,
) -> None:
    async with running(host.scanner()) as scanner:
        await scanner.scan()
        host.filesystem.remove(host.path(A, "rootfs.ext4"))
        hours = 0
        while (await scanner.scan()).repositories[ALPINE].images[A[1]].broken is None:
            host.wait(timedelta(hours=1))
            hours += 1
            set_tag(host.filesystem, ALPINE, "latest", "ab"[hours % 2])
            assert hours <= 4


async def test_the_clock_set_back_hides_no_change(host: Host) -> None:
    async with running(host.scanner()) as scanner:
        await scanner.scan()
        host.clock.wall_ns -= 3600 * 10**9
        make_image(host.filesystem, ALPINE, "e")
        same(await scanner.scan(), await host.fresh_scan())
        set_tag(host.filesystem, ALPINE, "e", "e")
        same(await scanner.scan(), await host.fresh_scan())
        host.wait(timedelta(hours=2))
        set_tag(host.filesystem, ALPINE, "e", "a")
        same(await scanner.scan(), await host.fresh_scan())


async def test_permission_that_is_lost_is_told_and_regained_shows_everything_again(host: Host) -> None:
    folder = f"{IMAGES}/docker.io"
    async with running(host.scanner()) as scanner:
        whole = await scanner.scan()
        host.wait()
        host.filesystem.deny(folder, errno.EACCES)
        host.filesystem.change_mode(folder)
        lost = await scanner.scan()
        assert lost.unlisted == (("docker.io", "Permission denied"),)
        assert set(lost.repositories) == {KERNEL}
        host.wait()
        same(await scanner.scan(), lost)
        host.filesystem.allow(folder)
        host.filesystem.change_mode(folder)
        same(await scanner.scan(), whole)


async def test_a_folder_that_fails_to_list_for_a_moment_is_listed_again(host: Host) -> None:
    async with running(host.scanner()) as scanner:
        whole = await scanner.scan()
        set_tag(host.filesystem, ALPINE, "new", "a")
        host.wait()
        host.filesystem.deny(f"{IMAGES}/{ALPINE}", errno.EIO, call="scandir")
        assert [path for path, _ in (await scanner.scan()).unlisted] == [ALPINE]
        host.filesystem.allow(f"{IMAGES}/{ALPINE}")
        found = await scanner.scan()
        assert found.unlisted == ()
        assert set(found.repositories) == set(whole.repositories)


async def test_what_is_doubted_is_read_in_full(host: Host) -> None:
    async with running(host.scanner()) as scanner:
        await scanner.scan()
        host.filesystem.remove(host.path(A, "rootfs.ext4"))
        assert (await scanner.scan()).repositories[ALPINE].images[A[1]].broken is None
        await scanner.invalidate({A})
        assert (await scanner.scan()).repositories[ALPINE].images[A[1]].broken


@pytest.mark.parametrize("change", ["image", "link", "both"])
async def test_a_change_in_todays_layout_leaves_what_it_does_not_touch(host: Host, change: str) -> None:
    for letters in ("1a", "2a", "3a"):
        make_content(host, letters)
        make_link(host, f"quay.io/x/{letters}", "latest", letters)
    host.wait()
    async with running(host.scanner()) as scanner:
        before = await scanner.scan()
        opened: list[str] = []
        host.filesystem.before = lambda call: (
            opened.append(call.path) if call.name == "open" and call.path.endswith(".json") else None
        )
        if change != "link":
            make_content(host, "1b")
        if change != "image":
            make_link(host, "quay.io/x/2a", "new", "1b")
        opened.clear()
        after = await scanner.scan()
        host.filesystem.before = None
        metadata = f"{IMAGES}/content/{hex_of(digest('1b'))}/metadata.json"
        assert opened == ([metadata] if change != "link" else [])
        assert after.repositories["quay.io/x/1a"] is before.repositories["quay.io/x/1a"]
        assert after.repositories["quay.io/x/3a"] is before.repositories["quay.io/x/3a"]
        same(after, await host.fresh_scan())


# The record.


async def test_the_record_of_another_data_directory_is_of_no_use_and_does_no_harm(
    host: Host, clock: FakeClock
) -> None:
    async with running(host.scanner()) as scanner:
        await scanner.scan()
        await scanner.save_cache()
    other = MemoryFilesystem(clock.now_ns)
    other.make_folder(IMAGES)
    make_image(other, ALPINE, "a", status="failed", tags=())
    make_image(other, KERNEL, "e")
    record = f"{DATA}/{OWN}/images.snapshot"
    other.write_file(record, host.filesystem.read_file(record))
    there = Host(other, other.open(DATA, 0), clock)
    there.wait()
    async with running(there.scanner()) as scanner:
        same(await scanner.scan(), await there.fresh_scan())
    other.close(there.data_fd)


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "folder"])
async def test_a_damaged_record_does_no_harm(host: Host, damage: str) -> None:
    record = f"{DATA}/{OWN}/images.snapshot"
    async with running(host.scanner()) as scanner:
        before = await scanner.scan()
        await scanner.save_cache()
    content = bytearray(host.filesystem.read_file(record))
    content[len(content) // 2] ^= 1
    host.filesystem.remove(record)
    match damage:
        case "torn":
            host.filesystem.write_file(record, bytes(content[: len(content) // 2]))
        case "flipped":
            host.filesystem.write_file(record, bytes(content))
        case "empty":
            host.filesystem.write_file(record, b"")
        case _:
            host.filesystem.make_folder(record)
    async with running(host.scanner()) as scanner:
        same(await scanner.scan(), before)


async def test_two_engines_in_turn_each_see_what_happened_while_the_other_ran(host: Host) -> None:
    for letter in ("e", "ab", "cd", "ef"):
        async with running(host.scanner()) as scanner:
            same(await scanner.scan(), await host.fresh_scan())
            host.wait()
            make_image(host.filesystem, ALPINE, letter)
            same(await scanner.scan(), await host.fresh_scan())
            await scanner.save_cache()
        set_tag(host.filesystem, BUSYBOX, "latest", letter)
        host.wait()


async def test_a_record_is_not_written_again_where_nothing_is_new(host: Host) -> None:
    writes: list[Call] = []
    async with running(host.scanner()) as scanner:
        await scanner.save_cache()
        assert not host.filesystem.exists(f"{DATA}/{OWN}/images.snapshot")
        await scanner.scan()
        await scanner.save_cache()
        host.filesystem.before = lambda call: writes.append(call) if call.name == "write" else None
        await scanner.scan()
        await scanner.save_cache()
    host.filesystem.before = None
    assert writes == []


async def test_an_image_with_odd_numbers_is_recorded_like_any_other(host: Host) -> None:
    metadata = host.filesystem.read_file(host.path(A, "metadata.json"))
    odd = metadata.replace(b'"size_bytes": 4096', b'"size_bytes": 1' + b"0" * 30)
    odd = odd.replace(b'"created_at": "20', b'"created_at": "99')
    assert odd.count(b"99") > metadata.count(b"99")
    host.filesystem.write_file(host.path(A, "metadata.json"), odd)
    host.wait()
    async with running(host.scanner()) as scanner:
        before = await scanner.scan()
        await scanner.save_cache()
    async with running(host.scanner()) as scanner:
        same(await scanner.scan(), before)


# States.


STATE_CHANGES: dict[str, Callable[[Host], object]] = {
    "timer started": lambda host: make_state(host.filesystem, (ALPINE, digest("e")), START_NS),
    "timer started anew": lambda host: rewrite_state(host, A, START_NS + 1),
    "timer cleared": lambda host: host.filesystem.remove(f"{STATES}/{ALPINE}/{'a' * 64}.json"),
    "timer corrupt": lambda host: rewrite_state(host, A, None),
    "repository cleared": lambda host: host.filesystem.remove(f"{STATES}/{ALPINE}"),
    "repository new": lambda host: make_state(host.filesystem, ("quay.io/x/y", digest("e")), START_NS),
    "all cleared": lambda host: host.filesystem.remove(STATES),
    "nothing": lambda _host: None,
}


def rewrite_state(host: Host, key: Key, since_ns: int | None) -> None:
    """Write a state as hypeman does: beside it, then renamed."""
    path = f"{STATES}/{key[0]}/{hex_of(key[1])}.json"
    other = ("aside.example/x", key[1])
    make_state(host.filesystem, other, since_ns or 0)
    aside = f"{STATES}/{other[0]}/{hex_of(key[1])}.json"
    content = host.filesystem.read_file(aside).replace(other[0].encode(), key[0].encode())
    host.filesystem.remove(f"{STATES}/aside.example")
    host.filesystem.write_file(f"{path}.tmp", b"torn" if since_ns is None else content)
    host.filesystem.move(f"{path}.tmp", path)


@pytest.fixture
def marked(host: Host) -> Host:
    for key in (A, B, (BUSYBOX, digest("c"))):
        make_state(host.filesystem, key, START_NS)
    host.wait()
    return host


@pytest.mark.parametrize("at_once", [True, False], ids=["within two seconds", "later"])
@pytest.mark.parametrize("change", STATE_CHANGES)
async def test_whatever_somebody_else_does_to_a_timer_is_seen(
    marked: Host, change: str, at_once: bool
) -> None:
    async with running(marked.keeper()) as keeper:
        before = await keeper.load()
        if at_once:
            rewrite_state(marked, A, START_NS + 7)
            before = await keeper.load()
        else:
            marked.wait()
        STATE_CHANGES[change](marked)
        after, expected = await keeper.load(), await marked.fresh_states()
        assert (dict(after.states), after.corrupt) == (dict(expected.states), expected.corrupt)
        if change != "all cleared":
            assert after.states.by_repository[BUSYBOX] is before.states.by_repository[BUSYBOX]
        if change == "nothing" and not at_once:
            assert after is before


@pytest.mark.parametrize("change", STATE_CHANGES)
async def test_whatever_happened_to_timers_between_two_engines_is_seen(marked: Host, change: str) -> None:
    async with running(marked.keeper()) as keeper:
        await keeper.load()
        await keeper.save_cache()
    STATE_CHANGES[change](marked)
    marked.wait()
    async with running(marked.keeper()) as keeper:
        after = await keeper.load()
    marked.filesystem.remove(f"{DATA}/{OWN}")
    expected = await marked.fresh_states()
    assert (dict(after.states), after.corrupt) == (dict(expected.states), expected.corrupt)


async def test_what_the_keeper_does_itself_is_seen(marked: Host) -> None:
    async with running(marked.keeper()) as keeper:
        await keeper.load()
        marked.wait()
        await keeper.mark([(KERNEL, digest("d"))], START_NS + 5)
        await keeper.clear([A])
        assert dict((await keeper.load()).states) == {
            B: START_NS,
            (BUSYBOX, digest("c")): START_NS,
            (KERNEL, digest("d")): START_NS + 5,
        }


async def test_a_timer_that_could_not_be_read_for_a_moment_is_read_again(marked: Host) -> None:
    path = f"{STATES}/{ALPINE}/{'a' * 64}.json"
    async with running(marked.keeper()) as keeper:
        marked.filesystem.deny(path, errno.EIO)
        assert (await keeper.load()).states[A] is None
        marked.filesystem.allow(path)
        loaded = await keeper.load()
        assert (loaded.states[A], loaded.corrupt) == (START_NS, ())


async def test_a_timer_of_an_impossible_time_stops_no_record(marked: Host) -> None:
    path = f"{STATES}/{ALPINE}/{'a' * 64}.json"
    content = marked.filesystem.read_file(path)
    marked.filesystem.write_file(path, content.replace(b'unused_since": "20', b'unused_since": "99'))
    marked.wait()
    async with running(marked.keeper()) as keeper:
        before = await keeper.load()
        assert before.states[A] is None
        await keeper.save_cache()
    async with running(marked.keeper()) as keeper:
        assert dict((await keeper.load()).states) == dict(before.states)
