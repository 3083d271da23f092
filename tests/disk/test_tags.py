"""Tags over the batches of one sweep: read once, each verified before it goes, and looked for again at the end."""

import pytest

from builders import digest, has_image, make_image, set_tag
from disk.hosts import Host
from hmret.disk.folders import let_go, step_into
from hmret.disk.layout import IMAGES, hex_of
from hmret.disk.tags import KnownTags, find_tags
from memory_filesystem import Call

ALPINE = "docker.io/library/alpine"
A, B, C = (hex_of(digest(letters)) for letters in "abc")


def open_repository(host: Host) -> int:
    return step_into(host.filesystem, host.data_fd, f"{IMAGES}/{ALPINE}")


def find(host: Host, known: KnownTags, *batch: str) -> dict[str, list[str]]:
    """Find the tags of a batch, those of its images alone."""
    fd = open_repository(host)
    found = known.find(host.filesystem, fd, ALPINE, set(batch))
    let_go(host.filesystem, fd)
    return {name: tags for name, tags in found.items() if name in batch}


def leave(host: Host, known: KnownTags, *gone: str) -> list[tuple[str, str]]:
    """Say that a batch is done with, and all of it has gone."""
    fd = open_repository(host)
    faults = known.leave(host.filesystem, lambda: fd, ALPINE, set(gone), set(gone))
    let_go(host.filesystem, fd)
    return faults


def expecting(*hexadecimals: str) -> KnownTags:
    known = KnownTags()
    for hexadecimal in hexadecimals:
        known.expect(ALPINE, hexadecimal)
    return known


def remove_image(host: Host, hexadecimal: str) -> None:
    path = f"{IMAGES}/{ALPINE}/{hexadecimal}"
    for name in host.names(path):
        host.remove(f"{path}/{name}")
    host.remove(path)


def tags_of(host: Host) -> list[str]:
    return [name for name in host.names(f"{IMAGES}/{ALPINE}") if len(name) < 64]


def test_the_tags_of_some_digests_are_found(host: Host) -> None:
    make_image(host.place, ALPINE, "a", tags=("x", "b"))
    make_image(host.place, ALPINE, "c", tags=("y",))
    fd = open_repository(host)
    assert find_tags(host.filesystem, fd, {A, B}) == {A: ["b", "x"]}
    let_go(host.filesystem, fd)


def test_a_repository_is_listed_once_for_many_batches_and_once_at_the_end(memory: Host) -> None:
    for letters in "abc":
        make_image(memory.place, ALPINE, letters, tags=(f"v{letters}",))
    listed: list[str] = []

    def note(call: Call) -> None:
        if call.name == "scandir":
            listed.append(call.path)

    memory.memory.before = note
    known = expecting(A, B, C)
    for name in (A, B, C):
        assert list(find(memory, known, name)) == [name]
        leave(memory, known, name)
        assert len(listed) == (2 if name == C else 1)


def test_a_repository_that_fits_a_batch_is_not_listed_again(memory: Host) -> None:
    make_image(memory.place, ALPINE, "a")
    known = expecting(A)
    assert find(memory, known, A) == {A: ["latest"]}
    memory.memory.before = lambda call: pytest.fail("listed again") if call.name == "scandir" else None
    assert leave(memory, known, A) == []


@pytest.mark.parametrize("how", ["made", "moved"])
def test_a_tag_that_came_between_two_batches_goes_with_its_image(host: Host, how: str) -> None:
    make_image(host.place, ALPINE, "a", tags=("va",))
    make_image(host.place, ALPINE, "b", tags=("vb",))
    make_image(host.place, ALPINE, "c", tags=("vc",))
    known = expecting(A, B)
    find(host, known, A)
    leave(host, known)
    set_tag(host.place, ALPINE, "vc" if how == "moved" else "new", "b")
    find(host, known, B)
    for name in (A, B):
        remove_image(host, name)
    known.leave(host.filesystem, lambda: -1, ALPINE, {A}, {A})
    assert leave(host, known, B) == []
    assert tags_of(host) == ([] if how == "moved" else ["vc"])


def test_at_the_end_a_tag_of_what_is_here_again_stays(host: Host) -> None:
    make_image(host.place, ALPINE, "a", tags=("va",))
    known = expecting(A, B)
    find(host, known, A)
    leave(host, known, A)
    leave(host, known, B)
    assert tags_of(host) == ["va"]
    assert has_image(host.place, (ALPINE, digest("a")))


def test_an_image_that_will_not_be_come_to_is_not_waited_for(host: Host) -> None:
    make_image(host.place, ALPINE, "a", tags=("va",))
    known = expecting(A, B)
    find(host, known, A)
    known.forget(ALPINE, B)
    remove_image(host, A)
    assert leave(host, known, A) == []
    assert tags_of(host) == []
