"""Reading `images/content/`, in parts: of what has not changed, nothing is read again."""

import errno
import json

import pytest

from disk.hosts import Host
from hmret.disk.folders import opened
from hmret.disk.hypeman.content import (
    ContentNames,
    is_part,
    list_content,
    names_in,
    part_of,
    part_signature,
    scan_part,
)
from hmret.disk.hypeman.images import FolderScan
from hmret.disk.hypeman.scan import rescan_folder
from hmret.disk.layout import hex_of
from hmret.model.images import Image
from hmret.model.times import SECOND
from support.builders import DATA, START_NS, FakeClock, digest
from support.content_files import content_of, put_content
from support.memory_filesystem import Call

HOUR = 3600 * SECOND


@pytest.fixture(autouse=True)
def _images(request: pytest.FixtureRequest) -> None:
    for name in ("host", "memory"):
        if name in request.fixturenames:
            request.getfixturevalue(name).folder("images")


def listing(host: Host) -> tuple[FolderScan, ContentNames]:
    with opened(host.filesystem, host.open("images")) as fd:
        return list_content(host.filesystem, fd)


def parts(host: Host, known: dict[str, FolderScan] | None = None) -> dict[str, FolderScan]:
    """Read those parts whose prints are not what is known of them."""
    before = known or {}
    found, names = listing(host)
    after: dict[str, FolderScan] = {}
    with opened(host.filesystem, host.open("images")) as fd:
        for path, count, total in found.prints:
            fingerprint = part_signature(count, total)
            if path in before and before[path].fingerprint == fingerprint:
                after[path] = rescan_folder(host.filesystem, fd, before[path])
            else:
                after[path] = scan_part(
                    host.filesystem, fd, path, names[path], fingerprint, known=before.get(path)
                )
    return after


def images(found: dict[str, FolderScan]) -> dict[str, Image]:
    return {
        name: image
        for part in found.values()
        if part.repository is not None
        for name, image in part.repository.images.items()
    }


def one(host: Host, letters: str = "a") -> Image:
    return images(parts(host))[digest(letters)]


def opened_metadata(host: Host) -> list[str]:
    """Return the list to which the digests of all metadata that is opened from now on are added."""
    read: list[str] = []

    def note(call: Call) -> None:
        if call.name == "open" and call.path.endswith("metadata.json"):
            read.append(call.path.split("/")[-2])

    host.memory.before = note
    return read


# The listing.


def test_without_content_there_is_nothing(host: Host) -> None:
    assert listing(host) == (FolderScan("content"), {})


def test_digests_fall_into_parts_by_their_first_two_digits(host: Host) -> None:
    for letters in ("a", "ab", "b"):
        put_content(host, letters)
    found, names = listing(host)
    assert found.subfolders == ("content/aa", "content/ab", "content/bb")
    assert {part: [name for name, _ in inside] for part, inside in names.items()} == {
        "content/aa": ["a" * 64],
        "content/ab": ["ab" * 32],
        "content/bb": ["b" * 64],
    }
    assert part_of(digest("ab")) == "content/ab"
    assert all(map(is_part, names))
    assert not is_part("content")
    assert not is_part("content.example/x")


def test_what_is_no_digest_is_reported_and_hidden_names_are_not(host: Host) -> None:
    put_content(host, "a")
    for name in ("A" * 64, "a" * 63, "docker.io", ".install-1"):
        host.folder(f"images/content/{name}")
    host.write(f"images/content/{'b' * 64}")
    host.link(f"images/content/{'c' * 64}", "a" * 64)
    found, names = listing(host)
    assert list(names) == ["content/aa"]
    told = sorted(path.removeprefix("images/content/") for _, path, _ in found.oddities)
    assert told == sorted(["A" * 64, "a" * 63, "docker.io", "b" * 64, "c" * 64])
    assert {event for event, _, _ in found.oddities} == {"not_an_image"}


@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
def test_content_that_is_no_folder_is_an_error_and_not_absent(host: Host, kind: str) -> None:
    host.folder("elsewhere")
    match kind:
        case "file":
            host.write("images/content")
        case "link":
            host.link("images/content", "../elsewhere")
        case _:
            host.link("images/content", "gone")
    found, names = listing(host)
    assert found.error is not None
    assert not names


@pytest.mark.parametrize("call", [None, "scandir"])
def test_content_that_cannot_be_listed_is_an_error(memory: Host, call: str | None) -> None:
    put_content(memory, "a")
    memory.memory.deny(f"{DATA}/images/content", errno.EIO, call=call)
    found, names = listing(memory)
    assert found.error is not None
    assert found.error.errno == errno.EIO
    assert (found.subfolders, names) == ((), {})


# Prints.


def test_the_print_of_a_part_changes_with_each_folder_that_comes_goes_or_is_replaced(memory: Host) -> None:
    put_content(memory, "a")
    put_content(memory, "b")
    prints = [listing(memory)[0].prints]
    memory.folder(f"images/content/aa{'0' * 62}")
    prints.append(listing(memory)[0].prints)
    memory.remove(f"images/content/aa{'0' * 62}")
    assert listing(memory)[0].prints == prints[0]
    memory.memory.remove(f"{DATA}/{content_of('a')}")
    put_content(memory, "a")
    prints.append(listing(memory)[0].prints)
    assert len({found[0] for found in prints}) == 3
    assert len({found[1] for found in prints}) == 1


def test_one_that_comes_while_another_of_its_part_goes_changes_the_print(memory: Host) -> None:
    put_content(memory, "a")
    before = listing(memory)[0].prints
    memory.memory.move(f"{DATA}/{content_of('a')}", f"{DATA}/images/content/aa{'0' * 62}")
    after = listing(memory)[0].prints
    assert [(path, count) for path, count, _ in before] == [(path, count) for path, count, _ in after]
    assert before != after


# Images.


def test_an_image_is_read_with_the_repository_of_its_name(host: Host) -> None:
    put_content(host, "a", name="alpine:3.20")
    assert one(host) == Image(
        digest("a"), "ready", START_NS, 4096, 4096, content_name="docker.io/library/alpine"
    )


@pytest.mark.parametrize("name", ["", "Not A Reference", "x" * 300])
def test_a_name_that_is_no_reference_names_no_repository(host: Host, name: str) -> None:
    put_content(host, "a", name=name)
    found = one(host)
    assert (found.content_name, found.broken, found.is_content) == ("", None, True)


def test_metadata_of_another_digest_is_broken(host: Host) -> None:
    put_content(host, "a", digest=digest("b"))
    assert "another digest" in (one(host).broken or "")


def test_content_that_is_ready_without_a_disk_is_broken(host: Host) -> None:
    put_content(host, "a", has_disk=False)
    found = parts(host)["content/aa"]
    assert images({"": found})[digest("a")].broken == "no rootfs"
    assert (found.unsettled, found.with_disk) == ((digest("a"),), ())


@pytest.mark.parametrize(("age_ns", "status"), [(HOUR - SECOND, "pending"), (HOUR + SECOND, "unknown")])
def test_content_without_metadata_is_pending_for_an_hour_and_broken_then(
    memory: Host, clock: FakeClock, age_ns: int, status: str
) -> None:
    memory.folder(content_of("a"))
    clock.wall_ns += age_ns
    found = one(memory)
    assert (found.status, found.broken) == (status, None if status == "pending" else "no metadata.json")


def test_metadata_that_the_disk_does_not_give_is_told_apart_from_what_cannot_be_parsed(memory: Host) -> None:
    put_content(memory, "a")
    put_content(memory, "ab")
    memory.memory.deny(f"{DATA}/{content_of('a')}/metadata.json", errno.EIO)
    memory.write(f"{content_of('ab')}/metadata.json", b"{")
    found = parts(memory)
    assert (found["content/aa"].unreadable, found["content/aa"].with_disk) == ((digest("a"),),) * 2
    assert (found["content/ab"].unreadable, found["content/ab"].unsettled) == ((), (digest("ab"),))


def test_what_an_image_needs_is_kept_by_its_digest(host: Host) -> None:
    base = f"docker.io/library/base@{digest('f')}"
    put_content(host, "a", machine={"base": base})
    put_content(host, "b")
    found = parts(host)
    assert found["content/aa"].bases == ((digest("a"), base),)
    assert found["content/bb"].bases == ()


# What is read again.


def test_one_image_that_comes_reads_one(memory: Host) -> None:
    for tail in "0123":
        put_content(memory, f"aa{tail}")
    put_content(memory, "b")
    before = parts(memory)
    put_content(memory, "aa4")
    read = opened_metadata(memory)
    after = parts(memory, before)
    assert read == [hex_of(digest("aa4"))]
    assert after["content/bb"] is before["content/bb"]
    assert images(after).keys() == images(before).keys() | {digest("aa4")}
    assert all(images(after)[name] is image for name, image in images(before).items())


def test_one_image_that_goes_reads_none(memory: Host) -> None:
    for tail in "0123":
        put_content(memory, f"aa{tail}")
    before = parts(memory)
    memory.memory.remove(f"{DATA}/{content_of('aa1')}")
    read = opened_metadata(memory)
    after = parts(memory, before)
    assert read == []
    assert images(after).keys() == images(before).keys() - {digest("aa1")}


def test_one_image_that_is_replaced_under_its_name_reads_one(memory: Host) -> None:
    for tail in "0123":
        put_content(memory, f"aa{tail}")
    before = parts(memory)
    memory.memory.remove(f"{DATA}/{content_of('aa1')}")
    put_content(memory, "aa1", size_bytes=9)
    read = opened_metadata(memory)
    after = parts(memory, before)
    assert read == [hex_of(digest("aa1"))]
    assert images(after)[digest("aa1")].size_bytes == 9


def test_an_image_that_is_not_ready_is_looked_at_every_time(memory: Host) -> None:
    put_content(memory, "aa0")
    put_content(memory, "aa1", status="pulling", has_disk=False)
    before = parts(memory)
    read = opened_metadata(memory)
    assert parts(memory, before)["content/aa"] is before["content/aa"]
    assert read == [hex_of(digest("aa1"))]
    memory.memory.before = None
    put_content(memory, "aa1")
    after = parts(memory, before)
    assert (images(after)[digest("aa1")].status, after["content/aa"].unsettled) == ("ready", ())
    assert parts(memory, after)["content/aa"] is after["content/aa"]


def test_an_image_that_was_not_ready_is_read_with_its_part_when_that_changes(memory: Host) -> None:
    put_content(memory, "aa0", status="pulling", has_disk=False)
    before = parts(memory)
    put_content(memory, "aa0")
    put_content(memory, "aa1")
    assert images(parts(memory, before))[digest("aa0")].status == "ready"


def test_the_names_of_a_part_are_known_without_a_listing(memory: Host) -> None:
    for tail in "012":
        put_content(memory, f"aa{tail}")
    put_content(memory, "aa3", status="failed")
    _, names = listing(memory)
    found = parts(memory)["content/aa"]
    inodes = dict(names["content/aa"]) | {hex_of(digest("aa3")): -1}
    assert dict(names_in(found)) == inodes


def test_what_has_gone_between_the_listing_and_the_look_is_left_out(memory: Host) -> None:
    put_content(memory, "aa0")
    put_content(memory, "aa1")
    found, names = listing(memory)
    memory.memory.remove(f"{DATA}/{content_of('aa0')}")
    with opened(memory.filesystem, memory.open("images")) as fd:
        _, count, total = found.prints[0]
        part = scan_part(
            memory.filesystem, fd, "content/aa", names["content/aa"], part_signature(count, total)
        )
    assert images({"": part}).keys() == {digest("aa1")}


def test_odd_metadata_of_content_spoils_no_other(host: Host) -> None:
    put_content(host, "aa0")
    host.write(f"{content_of('aa1')}/metadata.json", json.dumps(["ready"]).encode())
    found = images(parts(host))
    assert found[digest("aa0")].broken is None
    assert found[digest("aa1")].broken is not None
