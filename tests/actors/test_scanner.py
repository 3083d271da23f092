"""What the scanner finds in `images/`."""

import errno
import json
from collections.abc import AsyncIterator

import anyio
import pytest

from hmret.actors.scanner import Scanner
from hmret.model.errors import EngineClosedError
from support.builders import (
    DATA,
    START_NS,
    Asker,
    Ending,
    GatedThreads,
    digest,
    end_while_queued,
    end_while_working,
    make_image,
    running,
    set_tag,
    settle,
)
from support.memory_filesystem import MemoryFilesystem

ALPINE = "docker.io/library/alpine"
KERNEL = "ghcr.io/kernel/x"


@pytest.fixture
def actor(filesystem: MemoryFilesystem, data_fd: int, threads: GatedThreads) -> Scanner:
    return Scanner(filesystem, data_fd, threads)


@pytest.fixture
async def scanner(actor: Scanner, anyio_backend: str) -> AsyncIterator[Scanner]:
    async with running(actor):
        yield actor


async def test_a_scan_finds_every_image_and_tag(scanner: Scanner, filesystem: MemoryFilesystem) -> None:
    make_image(filesystem, ALPINE, "a", tags=("3.20", "latest"))
    make_image(filesystem, KERNEL, "b", tags=())
    found = await scanner.scan()
    assert {name: set(repository.images) for name, repository in found.repositories.items()} == {
        ALPINE: {digest("a")},
        KERNEL: {digest("b")},
    }
    assert found.repositories[ALPINE].tags == {"3.20": digest("a"), "latest": digest("a")}
    assert (found.unlisted, found.unknown_folders, found.is_absent) == ((), (), False)


async def test_a_scan_in_many_batches_finds_every_image(
    scanner: Scanner, filesystem: MemoryFilesystem
) -> None:
    for number in range(9):
        for letter in "abcdef":
            make_image(
                filesystem,
                f"{KERNEL}-{number}",
                f"{number}{letter}",
                tags=("latest",) if letter == "a" else (),
            )
            for padding in range(11):
                make_image(filesystem, f"{KERNEL}-{number}", f"{number}{letter}{padding:x}", tags=())
    found = await scanner.scan()
    assert sum(len(repository.images) for repository in found.repositories.values()) == 9 * 6 * 12
    assert scanner.images_seen == 9 * 6 * 12


async def test_a_scan_without_an_images_folder_says_so(
    scanner: Scanner, filesystem: MemoryFilesystem
) -> None:
    filesystem.remove(f"{DATA}/images")
    found = await scanner.scan()
    assert found.is_absent
    assert not found.repositories
    assert not found.unlisted


async def test_an_images_folder_that_cannot_be_opened_is_unlisted(
    scanner: Scanner, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    filesystem.deny(f"{DATA}/images", errno.EACCES)
    found = await scanner.scan()
    assert [path for path, _ in found.unlisted] == [""]
    assert not found.is_absent


async def test_a_folder_that_cannot_be_listed_does_not_stop_the_rest(
    scanner: Scanner, filesystem: MemoryFilesystem
) -> None:
    make_image(filesystem, ALPINE, "a")
    make_image(filesystem, KERNEL, "b")
    filesystem.deny(f"{DATA}/images/ghcr.io/kernel", errno.EIO, call="scandir")
    found = await scanner.scan()
    assert set(found.repositories) == {ALPINE}
    assert [path for path, _ in found.unlisted] == ["ghcr.io/kernel"]


async def test_folders_of_neither_layout_are_told(scanner: Scanner, filesystem: MemoryFilesystem) -> None:
    filesystem.make_folder(f"{DATA}/images/layers")
    assert (await scanner.scan()).unknown_folders == ("layers",)


async def test_an_image_is_looked_at_afresh(scanner: Scanner, filesystem: MemoryFilesystem) -> None:
    key = make_image(filesystem, ALPINE, "a", status="pulling", has_disk=False)
    before = await scanner.inspect_image(key, is_content=False)
    make_image(filesystem, ALPINE, "a")
    after = await scanner.inspect_image(key, is_content=False)
    assert before is not None
    assert after is not None
    assert (before.status, after.status) == ("pulling", "ready")


async def test_content_and_a_folder_of_the_repository_are_looked_at_apart(
    scanner: Scanner, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    assert await scanner.inspect_image(key, is_content=True) is None
    where = f"{DATA}/images/content/{'a' * 64}"
    metadata = {"name": f"{KERNEL}:1", "digest": key[1], "status": "pulling"}
    filesystem.write_file(f"{where}/metadata.json", json.dumps(metadata).encode())
    own, content = [await scanner.inspect_image(key, is_content=one) for one in (False, True)]
    assert own is not None
    assert content is not None
    assert (own.status, own.content_name) == ("ready", None)
    assert (content.status, content.content_name) == ("pulling", KERNEL)


@pytest.mark.parametrize("folder", ["content", "repositories", "repositories/docker.io"])
async def test_where_todays_layout_cannot_be_listed_no_state_is_pruned_that_it_may_hold(
    scanner: Scanner, filesystem: MemoryFilesystem, folder: str
) -> None:
    filesystem.make_folder(f"{DATA}/images/repositories/docker.io")
    filesystem.make_folder(f"{DATA}/images/content")
    filesystem.deny(f"{DATA}/images/{folder}", errno.EACCES)
    found = await scanner.scan()
    assert found.unlisted == ((folder, "Permission denied"),)
    assert found.unpruned == (("docker.io",) if folder.endswith("docker.io") else ("",))


async def test_the_owners_of_content_are_known_without_a_look(
    scanner: Scanner, filesystem: MemoryFilesystem
) -> None:
    assert scanner.owners(digest("a")) is None
    metadata = {"name": f"{KERNEL}:1", "digest": digest("a"), "status": "ready"}
    where = f"{DATA}/images/content/{'a' * 64}"
    filesystem.write_file(f"{where}/metadata.json", json.dumps(metadata).encode())
    for name in (KERNEL, ALPINE):
        up = "../" * (name.count("/") + 2)
        filesystem.make_link(f"{DATA}/images/repositories/{name}/1", f"{up}content/{'a' * 64}")
    found = await scanner.scan()
    assert scanner.owners(digest("a")) == found.contents[digest("a")] == (ALPINE, KERNEL)
    assert scanner.owners(digest("b")) == ()
    assert found.ghosts == (digest("a"),)


@pytest.mark.parametrize("repository", [ALPINE, "docker.io/library/other"])
async def test_an_image_that_is_not_here_is_none(
    scanner: Scanner, filesystem: MemoryFilesystem, repository: str
) -> None:
    make_image(filesystem, ALPINE, "a")
    assert await scanner.inspect_image((repository, digest("b")), is_content=False) is None


async def test_without_an_images_folder_nothing_is_here(
    scanner: Scanner, filesystem: MemoryFilesystem
) -> None:
    filesystem.remove(f"{DATA}/images")
    for is_content in (False, True):
        assert await scanner.inspect_image((ALPINE, digest("a")), is_content=is_content) is None
    assert await scanner.resolve_tag(ALPINE, "latest") is None
    assert await scanner.link_times([(ALPINE, "latest")]) == {}


async def test_an_image_that_cannot_be_looked_at_is_an_error(
    scanner: Scanner, filesystem: MemoryFilesystem
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    filesystem.deny(f"{DATA}/images/docker.io", errno.EACCES)
    with pytest.raises(PermissionError):
        await scanner.inspect_image(key, is_content=False)


async def test_a_tag_is_resolved_afresh(scanner: Scanner, filesystem: MemoryFilesystem) -> None:
    make_image(filesystem, ALPINE, "a")
    assert await scanner.resolve_tag(ALPINE, "latest") == digest("a")
    set_tag(filesystem, ALPINE, "latest", "b")
    assert await scanner.resolve_tag(ALPINE, "latest") == digest("b")
    assert await scanner.resolve_tag(ALPINE, "3.20") is None


async def test_link_times_leave_out_absent_tags(scanner: Scanner, filesystem: MemoryFilesystem) -> None:
    make_image(filesystem, ALPINE, "a")
    times = await scanner.link_times([(ALPINE, "latest"), (ALPINE, "absent"), (KERNEL, "latest")])
    assert times == {(ALPINE, "latest"): START_NS}


async def test_a_look_passes_a_long_scan(
    scanner: Scanner, filesystem: MemoryFilesystem, threads: GatedThreads
) -> None:
    key = make_image(filesystem, ALPINE, "a")
    gate = threads.hold("_look")
    asker = Asker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asker.ask, scanner.scan)
        await gate.arrived.wait()
        assert await scanner.inspect_image(key, is_content=False) is not None
        assert not asker.is_answered
        gate.opened.set()


async def test_waiting_requests_are_counted(actor: Scanner) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(actor.scan)
        await settle()
        assert actor.waiting == 1
        async with running(actor):
            await settle()
            assert actor.waiting == 0


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_the_end_answers_or_refuses_a_queued_request(actor: Scanner, ending: Ending) -> None:
    asker = await end_while_queued(actor, actor.scan, ending)
    assert asker.is_answered
    assert asker.is_refused == (ending == "cancelled")


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
async def test_the_end_answers_or_refuses_a_request_being_worked_on(
    actor: Scanner, threads: GatedThreads, ending: Ending
) -> None:
    asker = await end_while_working(actor, actor.scan, ending, threads.hold("_look"))
    assert asker.is_answered


async def test_calls_after_the_end_are_refused(actor: Scanner) -> None:
    async with running(actor):
        pass
    with pytest.raises(EngineClosedError):
        await actor.scan()
    with pytest.raises(EngineClosedError):
        await actor.inspect_image((ALPINE, digest("a")), is_content=False)
