"""Where timers are, by the names of their files."""

import errno

import pytest

from disk.hosts import Host
from hmret.disk.hypeman.retention_states.timer_index import TimerIndex
from hmret.disk.layout import RETENTION
from support.builders import DATA, START_NS, digest, make_state
from support.memory_filesystem import MemoryFilesystem

ALPINE, NESTED, BASE = "docker.io/library/alpine", "docker.io/library/alpine/edge", "ghcr.io/kernel/base"
A, B = digest("a"), digest("b")


def find(host: Host, wanted: str) -> list[str]:
    return [*TimerIndex.build(host.filesystem, host.data_fd).repositories_of(wanted)]


def test_each_repository_with_a_timer_for_a_digest_is_found(host: Host) -> None:
    for repository in (ALPINE, NESTED, BASE):
        make_state(host.place, (repository, A), START_NS)
    make_state(host.place, (BASE, B), START_NS)
    assert sorted(find(host, A)) == [ALPINE, NESTED, BASE]
    assert find(host, B) == [BASE]
    assert find(host, digest("c")) == []


def test_digests_that_begin_alike_may_share_an_answer_and_miss_none(host: Host) -> None:
    like_a = "sha256:" + "a" * 60 + "0123"
    make_state(host.place, (ALPINE, A), START_NS)
    make_state(host.place, (BASE, like_a), START_NS)
    assert ALPINE in find(host, A)
    assert BASE in find(host, like_a)


def test_what_is_no_timer_is_not_listed(host: Host) -> None:
    for name in ("x.json", "A" * 64 + ".json", "a" * 64 + ".json.tmp", "a" * 64):
        host.write(f"{RETENTION}/{ALPINE}/{name}")
    assert find(host, A) == []


def test_without_states_there_are_no_timers(host: Host) -> None:
    assert find(host, A) == []


def test_a_folder_that_cannot_be_listed_is_an_error(filesystem: MemoryFilesystem, data_fd: int) -> None:
    make_state(filesystem, (ALPINE, A), START_NS)
    filesystem.deny(f"{DATA}/{RETENTION}/docker.io/library", errno.EACCES)
    with pytest.raises(PermissionError):
        TimerIndex.build(filesystem, data_fd)
