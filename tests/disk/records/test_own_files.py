"""hmret's own records: the lock, what tags have pointed to, the clocks and the leases."""

import errno
import json
import os
import random
from datetime import datetime, timedelta, timezone

import pytest

from disk.hosts import Host
from hmret.disk.hypeman.documents import UnreadableError
from hmret.disk.layout import OWN
from hmret.disk.records.engine import (
    load_clock_record,
    load_leases,
    load_remembered,
    save_clock_record,
    save_leases,
    save_remembered,
)
from hmret.model.clock.clock_guard import ClockRecord
from hmret.model.images import Remembered
from hmret.model.records.leases import LeaseRecord
from support.builders import DATA, START, START_NS, digest

ALPINE = "docker.io/library/alpine"
CORRUPT = [b"", b"{", b"5", b'[{"source": 5}]', b"\xff", b"[" * 100_000]
CLOCK = ClockRecord("boot", 12, START_NS, 34)
LEASE = LeaseRecord(
    id="1", repository="r", digest="d", owner="o", reason="create", ttl_ns=5, expires_at_ns=START_NS
)


def save(host: Host, remembered: dict[tuple[str, str], Remembered]) -> None:
    save_remembered(host.filesystem, host.data_fd, remembered)


def load(host: Host) -> dict[tuple[str, str], Remembered]:
    return load_remembered(host.filesystem, host.data_fd)


# What tags have pointed to.


def test_what_is_remembered_is_read_again(host: Host) -> None:
    remembered = {
        (ALPINE, "latest"): Remembered(
            frozenset({digest("a"), digest("b")}),
            frozenset({("instance/a", START), ("instance/a", None), ("job", START)}),
        ),
        (ALPINE, "3.20"): Remembered(frozenset()),
    }
    save(host, remembered)
    assert load(host) == remembered


@pytest.mark.parametrize(
    "created_at",
    [
        START.astimezone(timezone(timedelta(hours=-14))),
        datetime.fromisoformat("9999-12-31T23:59:59.999999-23:59"),
        datetime.fromisoformat("0002-01-01T00:00:00+23:59"),
    ],
)
def test_a_time_far_away_is_read_again(host: Host, created_at: datetime) -> None:
    remembered = {
        (ALPINE, "latest"): Remembered(frozenset({digest("a")}), frozenset({("instance/a", created_at)}))
    }
    save(host, remembered)
    assert load(host) == remembered


def test_nothing_on_record_is_nothing_remembered(host: Host) -> None:
    assert load(host) == {}


@pytest.mark.parametrize("content", CORRUPT)
def test_a_corrupt_memory_is_none(host: Host, content: bytes) -> None:
    host.write(f"{OWN}/references.json", content)
    assert load(host) == {}


def older(source: str, image: str, *letters: str, created_at: str | None = None) -> dict[str, object]:
    """Return an entry as an older release wrote it: by what refers to an image, and by that text."""
    return {
        "source": source,
        "image": image,
        "digests": [digest(one) for one in letters],
        "created_at": created_at,
    }


@pytest.mark.parametrize(
    ("first", "second"), [("2026-05-01T00:00:00Z", "2026-05-03T00:00:00Z"), (None, None)]
)
def test_what_an_older_release_remembered_counts_for_the_tag_and_covers_nothing(
    host: Host, first: str | None, second: str | None
) -> None:
    entries = [
        older("instance/a", "alpine", "a", "b", created_at=first),
        older("instance/b", f"{ALPINE}:latest", "b", "c", created_at=second),
        older("instance/b", "alpine:3.20", "d"),
        older("instance/c", f"{ALPINE}@{digest('e')}", "e"),
        older("instance/d", "Not A Reference", "f"),
        {"repository": "quay.io/x/y", "tag": "1", "digests": [digest("g")], "created_at": first},
    ]
    host.write(f"{OWN}/references.json", json.dumps(entries).encode())
    assert load(host) == {
        (ALPINE, "latest"): Remembered(frozenset(map(digest, "abc"))),
        (ALPINE, "3.20"): Remembered(frozenset({digest("d")})),
        ("quay.io/x/y", "1"): Remembered(frozenset({digest("g")})),
    }


def test_to_an_older_release_what_is_remembered_covers_no_guest(host: Host) -> None:
    seen = frozenset({("instance/a", START)})
    save(host, {(ALPINE, "latest"): Remembered(frozenset({digest("a")}), seen)})
    (entry,) = json.loads(host.read(f"{OWN}/references.json"))
    # It takes whatever was made since that time for covered.
    assert datetime.fromisoformat(entry["created_at"]).year == 9999


def test_a_guest_whose_name_is_no_text_is_seen_for_the_first_time_again(host: Host) -> None:
    seen = frozenset({("instance/a\udcff", START), ("instance/b", START)})
    save(host, {(ALPINE, "latest"): Remembered(frozenset({digest("a")}), seen)})
    assert load(host) == {
        (ALPINE, "latest"): Remembered(frozenset({digest("a")}), frozenset({("instance/b", START)}))
    }


@pytest.mark.parametrize("seed", range(5))
def test_what_is_remembered_survives_a_power_loss(memory: Host, seed: int) -> None:
    remembered = {(ALPINE, "latest"): Remembered(frozenset({digest("a")}))}
    save(memory, remembered)
    after = memory.memory.after_power_loss(random.Random(seed))
    fd = after.open(DATA, os.O_RDONLY)
    assert load_remembered(after, fd) == remembered
    after.close(fd)


def test_a_memory_that_cannot_be_written_is_told(memory: Host) -> None:
    memory.memory.deny(f"{DATA}/system", errno.EROFS)
    with pytest.raises(OSError, match="Read-only"):
        save(memory, {})


# The clocks.


def test_the_clocks_are_read_again(host: Host) -> None:
    save_clock_record(host.filesystem, host.data_fd, CLOCK)
    assert load_clock_record(host.filesystem, host.data_fd) == CLOCK


@pytest.mark.parametrize("content", CORRUPT)
def test_a_corrupt_record_of_the_clocks_is_none(host: Host, content: bytes) -> None:
    host.write(f"{OWN}/clock.json", content)
    assert load_clock_record(host.filesystem, host.data_fd) is None


def test_no_record_of_the_clocks_is_none(host: Host) -> None:
    assert load_clock_record(host.filesystem, host.data_fd) is None


@pytest.mark.parametrize("seed", range(10))
def test_the_clocks_on_record_survive_a_power_loss(memory: Host, seed: int) -> None:
    """It is after a power loss that the clock may be wrong, and only the record tells."""
    save_clock_record(memory.filesystem, memory.data_fd, CLOCK)
    after = memory.memory.after_power_loss(random.Random(seed))
    fd = after.open(DATA, os.O_RDONLY)
    assert load_clock_record(after, fd) == CLOCK
    after.close(fd)


# The leases.


def test_leases_are_read_again(host: Host) -> None:
    save_leases(host.filesystem, host.data_fd, [LEASE])
    assert load_leases(host.filesystem, host.data_fd) == [LEASE]


def test_no_record_of_leases_is_none(host: Host) -> None:
    assert load_leases(host.filesystem, host.data_fd) == []


@pytest.mark.parametrize("content", CORRUPT)
def test_a_corrupt_record_of_leases_is_told(host: Host, content: bytes) -> None:
    host.write(f"{OWN}/leases.json", content)
    with pytest.raises(UnreadableError):
        load_leases(host.filesystem, host.data_fd)
