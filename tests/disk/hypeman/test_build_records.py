"""What the records of builds name, and what is reported of those that cannot be read."""

import errno
import json

import pytest

from disk.hosts import Host
from hmret.disk.hypeman.builds import NO_BUILDS, BuildsFound, look_at_builds
from hmret.model.times import SECOND
from support.builders import DATA, FakeClock, digest
from support.memory_filesystem import Call

A, B = digest("a"), digest("b")
APP = "docker.io/library/app"


def record(host: Host, name: str, content: object) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    host.write(f"builds/{name}/metadata.json", raw)


def look(host: Host, known: BuildsFound = NO_BUILDS) -> BuildsFound:
    return look_at_builds(host.filesystem, host.data_fd, known)


def test_without_builds_nothing_is_named(host: Host) -> None:
    assert look(host) is NO_BUILDS


def test_a_record_names_a_digest_and_two_references(host: Host) -> None:
    request = {"image_name": "app:asked"}
    record(host, "1", {"image_digest": A, "image_ref": f"{APP}@{B}", "request": request, "status": "ready"})
    found = look(host)
    assert found.builds.digests == {A}
    assert found.builds.named == {APP: {B}}
    assert found.builds.tags == {APP: {"asked"}}
    assert found.problems == ()


def test_all_records_count_together(host: Host) -> None:
    record(host, "1", {"image_digest": A, "image_ref": "app:1"})
    record(host, "2", {"image_digest": B, "image_ref": "app:2"})
    found = look(host).builds
    assert (found.digests, found.tags) == ({A, B}, {APP: {"1", "2"}})


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"image_digest": None, "image_ref": None, "request": None},
        {"image_digest": "", "image_ref": "", "request": {"image_name": ""}},
        {"image_digest": "sha256:short"},
        {"image_ref": "Not A Reference"},
    ],
)
def test_a_record_that_names_nothing_is_no_problem(host: Host, content: object) -> None:
    record(host, "1", content)
    found = look(host)
    assert (found.builds.digests, found.builds.tags, found.builds.named) == (frozenset(), {}, {})
    assert found.problems == ()


def test_a_build_that_begins_has_no_record_yet(host: Host) -> None:
    host.folder("builds/new")
    host.write("builds/file")
    record(host, "1", {"image_digest": A})
    found = look(host)
    assert (found.builds.digests, found.problems) == ({A}, ())


@pytest.mark.parametrize("field", ["image_ref", "request", "image_digest"])
def test_a_field_of_an_odd_type_does_not_hide_the_others(host: Host, field: str) -> None:
    content = {"image_digest": A, "image_ref": "app:1", "request": {"image_name": "app:2"}, field: 7}
    record(host, "1", content)
    found = look(host)
    named = {"image_ref": {"2"}, "request": {"1"}, "image_digest": {"1", "2"}}[field]
    assert found.builds.tags == {APP: named}
    assert found.builds.digests == (frozenset() if field == "image_digest" else {A})
    assert found.problems == ()


def test_a_torn_record_counts_as_far_as_its_digest_can_be_read(host: Host) -> None:
    record(host, "1", json.dumps({"image_digest": A, "image_ref": "app:1"}).encode()[:-8])
    found = look(host)
    assert (found.builds.digests, found.builds.tags) == ({A}, {})
    assert [path for path, _ in found.problems] == ["builds/1/metadata.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 100_000])
def test_a_record_that_cannot_be_read_is_reported_and_the_others_count(host: Host, content: bytes) -> None:
    record(host, "1", content)
    record(host, "2", {"image_digest": B})
    found = look(host)
    assert found.builds.digests == {B}
    assert [path for path, _ in found.problems] == ["builds/1/metadata.json"]
    assert "\n" not in found.problems[0][1]


def test_a_record_that_the_disk_does_not_give_is_reported(memory: Host) -> None:
    record(memory, "1", {"image_digest": A})
    memory.memory.deny(f"{DATA}/builds/1/metadata.json", errno.EIO)
    assert look(memory).problems == (("builds/1/metadata.json", "Input/output error"),)


def test_records_that_have_not_changed_are_not_read_again(memory: Host, clock: FakeClock) -> None:
    for name in "123":
        record(memory, name, {"image_digest": A, "image_ref": f"app:{name}"})
    clock.wall_ns += 10 * SECOND
    first = look(memory)
    record(memory, "2", {"image_digest": B})
    clock.wall_ns += 10 * SECOND
    read: list[str] = []

    def note(call: Call) -> None:
        if call.name == "open" and call.path.endswith(".json"):
            read.append(call.path)

    memory.memory.before = note
    second = look(memory, first)
    assert read == [f"{DATA}/builds/2/metadata.json"]
    assert (second.builds.digests, second.builds.tags) == ({A, B}, {APP: {"1", "3"}})
    read.clear()
    assert look(memory, second).builds is second.builds
    assert read == []


def test_what_was_written_a_moment_ago_is_read_again(memory: Host, clock: FakeClock) -> None:
    record(memory, "1", {"image_digest": A})
    first = look(memory)
    record(memory, "1", {"image_digest": B})
    assert look(memory, first).builds.digests == {B}
    clock.wall_ns += 10 * SECOND


def test_a_record_that_has_gone_names_nothing_any_more(memory: Host, clock: FakeClock) -> None:
    record(memory, "1", {"image_digest": A})
    record(memory, "2", {"image_digest": B})
    clock.wall_ns += 10 * SECOND
    first = look(memory)
    memory.memory.remove(f"{DATA}/builds/1")
    assert look(memory, first).builds.digests == {B}


@pytest.mark.parametrize("call", [None, "scandir"])
def test_where_builds_cannot_be_listed_what_was_known_stays(
    memory: Host, clock: FakeClock, call: str | None
) -> None:
    record(memory, "1", {"image_digest": A})
    first = look(memory)
    memory.memory.deny(f"{DATA}/builds", errno.EACCES, call=call)
    second = look(memory, first)
    assert second.builds == first.builds
    assert second.problems == (("builds", "Permission denied"),)
