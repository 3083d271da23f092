"""The demonstration: its clock, its host, and the whole of it in a process of its own."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import cast

import attrs
import httpx2
import pytest

from cli.services import free_port
from hmret.cli.demo.chronicle import Chronicle
from hmret.cli.demo.clock import DAY, DemoClock
from hmret.cli.demo.host import Host, offers_leases
from hmret.cli.demo.image_store import StoredImage, hash_disk
from hmret.cli.demo.outcome import find_faults, outcomes
from hmret.disk.hypeman.documents import UnreadableError, read_guest, read_snapshot
from hmret.engine.retention import Retention
from hmret.model.clock.clock_guard import ClockRecord, watch_clock
from hmret.model.images import Inventory
from hmret.model.plan.decide import plan
from hmret.model.plan.plan import Plan
from hmret.model.policy.compiled import Policy
from hmret.model.policy.patterns import compile_patterns
from hmret.model.times import datetime_of
from hmret.model.verdicts import Action, Holder, Reason, Verdict
from support.children import Child, child
from support.patience import PATIENCE

Call = Callable[..., tuple[int, str, str]]

SECOND = 1_000_000_000
# So fast that its clock has always come to where it stands before the engine does anything, as on the slowest machine.
FAST_DAY_SECONDS = 0.001


@attrs.define
class RealTime:
    """A monotonic clock that is set by hand."""

    seconds: float = 100.0

    def __call__(self) -> int:
        return int(self.seconds * SECOND)


class FakeRetention:
    """Grants every lease and mark, and notes them."""

    def __init__(self) -> None:
        self.leased: list[str] = []
        self.host: Host | None = None

    @asynccontextmanager
    async def lease(self, image: str, *, reason: str) -> AsyncIterator[object]:
        self.leased.append(reason)
        assert self.host is not None
        repository, digest = self.host.tags[image]
        yield attrs.make_class("Leased", ["repository", "digest"])(repository, digest)


def make_clock(day: float = 0) -> DemoClock:
    """Make a clock that stands on a day."""
    time = RealTime()
    clock = DemoClock(0.001, time)
    clock.run_to(day * DAY)
    time.seconds += 10
    assert clock.elapsed == day * DAY
    return clock


@pytest.fixture
def retention() -> FakeRetention:
    return FakeRetention()


@pytest.fixture
def host(tmp_path: Path, retention: FakeRetention) -> Host:
    clock = make_clock(1)
    host = Host(tmp_path, clock, cast("Retention", retention), Chronicle(clock, is_silent=True))
    retention.host = host
    return host


def test_the_clock_stands_until_it_is_let_run() -> None:
    time = RealTime()
    clock = DemoClock(0.5, time)
    time.seconds += 3
    assert clock.elapsed == timedelta(0)
    clock.run_to(2 * DAY)
    time.seconds += 0.5
    assert clock.elapsed == DAY
    assert clock.real_seconds_to(2 * DAY) == pytest.approx(0.5)


def test_the_clock_stands_at_its_limit_and_goes_on_from_there() -> None:
    time = RealTime()
    clock = DemoClock(0.5, time)
    clock.run_to(2 * DAY)
    time.seconds += 60
    assert clock.elapsed == 2 * DAY
    clock.run_to(9 * DAY)
    assert clock.elapsed == 2 * DAY
    time.seconds += 0.5
    assert clock.elapsed == 3 * DAY


def test_a_limit_in_the_past_stops_the_clock_and_does_not_set_it_back() -> None:
    clock = make_clock(5)
    clock.run_to(DAY)
    assert clock.elapsed == 5 * DAY


def test_wall_and_boot_time_move_alike_so_that_the_engine_trusts_them() -> None:
    time = RealTime()
    clock = DemoClock(0.5, time)
    clock.run_to(40 * DAY)
    record: ClockRecord | None = None
    for _ in range(40):
        time.seconds += 0.5
        record, fault = watch_clock(record, clock.read())
        assert fault is None


def test_a_time_of_the_clock_is_converted_back_to_its_moment() -> None:
    clock = make_clock(3)
    assert clock.moment_of(clock.now_ns()) == 3 * DAY


async def pull_twice(host: Host) -> None:
    await host.pull("ghcr.io/kernel/agent:latest")
    host.clock.run_to(2 * DAY)
    while host.clock.elapsed < 2 * DAY:
        cast("RealTime", host.clock._monotonic_ns).seconds += 1
    await host.pull("ghcr.io/kernel/agent:latest")


def targets_in(host: Host, folder: str) -> dict[str, str]:
    """Return what the links below a folder of `images/` lead to, by path; nothing else may be among them."""
    root = host.data_dir / "images" / folder
    paths = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    assert all(path.is_symlink() for path in paths)
    return {str(path.relative_to(root)): str(path.readlink()) for path in paths}


def hex_of(image: StoredImage) -> str:
    return image.digest.removeprefix("sha256:")


def test_a_pulled_image_is_ready_sparse_and_named_by_its_tag(host: Host) -> None:
    image = asyncio.run(host.pull("alpine:3.20"))
    content = host.data_dir / "images/content" / hex_of(image)
    metadata = json.loads((content / "metadata.json").read_text())
    assert (metadata["status"], metadata["digest"]) == ("ready", image.digest)
    assert metadata["name"] == "docker.io/library/alpine:3.20"
    assert sorted(path.name for path in content.iterdir()) == [
        "manifest.json",
        "metadata.json",
        "rootfs.erofs",
    ]
    assert image.disk == content / "rootfs.erofs"
    assert image.disk.stat().st_blocks * 512 == image.disk_bytes < image.disk.stat().st_size
    assert hash_disk(image.disk) == image.disk_hash
    target = f"../../../../content/{hex_of(image)}"
    assert targets_in(host, "repositories") == {"docker.io/library/alpine/3.20": target}
    link = host.data_dir / "images/repositories/docker.io/library/alpine/3.20"
    assert link.resolve() == content
    assert link.lstat().st_mtime_ns == host.clock.now_ns()


def test_a_tag_moves_to_what_was_pulled_last_and_the_old_image_keeps_a_name_of_its_own(host: Host) -> None:
    asyncio.run(pull_twice(host))
    old, new = host.images.values()
    target = f"../../../../content/{hex_of(new)}"
    assert targets_in(host, "repositories") == {"ghcr.io/kernel/agent/latest": target}
    assert old.disk.exists()
    assert host.chronicle.names[old.key] == "ghcr.io/kernel/agent:latest (before day 2)"
    assert host.chronicle.names[new.key] == "ghcr.io/kernel/agent:latest"


def test_a_tag_in_another_repository_leads_to_the_same_disk(host: Host) -> None:
    async def act() -> StoredImage:
        await host.pull("docker.io/library/node:22")
        return await host.tag("docker.io/library/node:22", "registry.local:5000/mirror/node:22")

    other = asyncio.run(act())
    assert len(list((host.data_dir / "images/content").iterdir())) == 1
    assert {path: Path(target).name for path, target in targets_in(host, "repositories").items()} == {
        "docker.io/library/node/22": hex_of(other),
        "registry.local:5000/mirror/node/22": hex_of(other),
    }
    assert {image.disk for image in host.images.values()} == {other.disk}


def test_an_older_server_writes_into_a_folder_of_the_repository(host: Host) -> None:
    image = asyncio.run(host.pull("ghcr.io/kernel/base:1", is_older_server=True))
    own = host.data_dir / "images/ghcr.io/kernel/base"
    assert image.folders == (own / hex_of(image),)
    assert str((own / "1").readlink()) == hex_of(image)
    assert not (host.data_dir / "images/content").exists()


def test_an_image_of_the_older_layout_is_promoted_by_a_tag_in_another_repository(host: Host) -> None:
    async def act() -> tuple[StoredImage, StoredImage]:
        older = await host.pull("ghcr.io/kernel/base:1", is_older_server=True)
        return older, await host.tag("ghcr.io/kernel/base:1", "ghcr.io/kernel/release:7")

    older, other = asyncio.run(act())
    content = host.data_dir / "images/content" / hex_of(other)
    assert host.images[older.key].folders == (content, *older.folders)
    assert (content / "rootfs.erofs").samefile(older.disk)
    assert json.loads((content / "metadata.json").read_text())["status"] == "ready"
    assert sorted(targets_in(host, "repositories")) == ["ghcr.io/kernel/base/1", "ghcr.io/kernel/release/7"]
    assert not os.path.lexists(host.data_dir / "images/ghcr.io/kernel/base/1")


def test_an_image_that_is_deleted_by_hand_leaves_its_disk_to_the_other_repository(host: Host) -> None:
    async def act() -> StoredImage:
        await host.pull("docker.io/library/node:22")
        other = await host.tag("docker.io/library/node:22", "registry.local:5000/mirror/node:22")
        await host.delete_image("registry.local:5000/mirror/node:22")
        return other

    image = asyncio.run(act())
    assert list(targets_in(host, "repositories")) == ["docker.io/library/node/22"]
    assert list(host.images) == [("docker.io/library/node", image.digest)]
    assert image.disk.exists()
    asyncio.run(host.delete_image("docker.io/library/node:22"))
    assert not image.disk.parent.exists()


def test_a_vm_is_created_under_a_lease_and_names_the_digest_that_it_boots(
    host: Host, retention: FakeRetention
) -> None:
    image = asyncio.run(host.pull("ghcr.io/kernel/agent:v1"))
    asyncio.run(host.start_vm("vm-1", image.reference))
    (reference,) = read_guest((host.data_dir / "guests/vm-1/metadata.json").read_bytes(), "instance/vm-1")
    assert reference.resolved_image == f"{image.repository}@{image.digest}"
    assert reference.created_at == datetime_of(host.clock.now_ns())
    assert retention.leased == ["create vm-1"]


def test_a_vm_of_an_older_release_names_only_its_tag(host: Host) -> None:
    image = asyncio.run(host.pull("ghcr.io/kernel/agent:v1"))
    asyncio.run(host.start_vm("vm-1", image.reference, resolves=False))
    (reference,) = read_guest((host.data_dir / "guests/vm-1/metadata.json").read_bytes(), "instance/vm-1")
    assert (reference.image, reference.resolved_image) == (image.reference, "")


def test_a_snapshot_outlives_its_vm(host: Host) -> None:
    async def act() -> None:
        image = await host.pull("ghcr.io/kernel/agent:v1")
        await host.start_vm("vm-1", image.reference)
        await host.save_snapshot("snap-1", "vm-1")
        await host.delete_vm("vm-1")

    asyncio.run(act())
    assert not (host.data_dir / "guests/vm-1").exists()
    content = (host.data_dir / "snapshots/snap-1/snapshot.json").read_bytes()
    (reference,) = read_snapshot(content, "snapshot/snap-1")
    assert reference.image == "ghcr.io/kernel/agent:v1"


def test_torn_metadata_cannot_be_read_until_it_is_repaired(host: Host) -> None:
    path = host.data_dir / "guests/vm-1/metadata.json"

    async def act() -> None:
        image = await host.pull("ghcr.io/kernel/agent:v1")
        await host.start_vm("vm-1", image.reference)
        await host.tear_metadata("vm-1")

    asyncio.run(act())
    with pytest.raises(UnreadableError):
        read_guest(path.read_bytes(), "instance/vm-1")
    asyncio.run(host.repair_metadata("vm-1"))
    assert read_guest(path.read_bytes(), "instance/vm-1")


def empty_plan(host: Host) -> Plan:
    policy = Policy(unused_for_ns=SECOND, allowed=compile_patterns(["*"]), pinned=compile_patterns([]))
    return plan(Inventory(repositories={}), policy, datetime_of(host.clock.now_ns()))


def hear_deletion(host: Host, freed_bytes: int, image: StoredImage | None = None) -> None:
    if image is None:
        (image,) = host.images.values()
    keys: Mapping[str, object] = {
        "repository": image.repository,
        "digest": image.digest,
        "unused_since": "2026-01-01T12:00:00Z",
        "bytes": freed_bytes,
    }
    assert host.chronicle.hear("image_deleted", keys)


def test_an_image_that_is_said_to_be_deleted_but_is_not_is_a_fault(host: Host) -> None:
    image = asyncio.run(host.pull("ghcr.io/kernel/agent:v1"))
    hear_deletion(host, image.disk_bytes)
    found = outcomes(host, host.chronicle, empty_plan(host))
    faults = find_faults(host, found, {image.key: Reason.EXPIRED})
    assert faults == [
        "ghcr.io/kernel/agent:v1: said to be deleted, but its folder is there",
        "ghcr.io/kernel/agent:v1: deleted, but v1 still points to it",
    ]


def test_a_wrong_count_of_freed_bytes_is_a_fault(host: Host) -> None:
    image = asyncio.run(host.pull("ghcr.io/kernel/agent:v1"))
    hear_deletion(host, image.disk_bytes + 512)
    (host.data_dir / "images/repositories/ghcr.io/kernel/agent/v1").unlink()
    image.disk.parent.rename(host.data_dir / "away")
    found = outcomes(host, host.chronicle, empty_plan(host))
    (fault,) = find_faults(host, found, {image.key: Reason.EXPIRED})
    assert f"but occupied {image.disk_bytes}" in fault


def test_an_image_that_is_kept_with_a_changed_disk_is_a_fault(host: Host) -> None:
    image = asyncio.run(host.pull("ghcr.io/kernel/agent:v1"))
    image.disk.write_bytes(b"something else")
    found = outcomes(host, host.chronicle, empty_plan(host))
    faults = find_faults(host, found, {image.key: Reason.PINNED})
    assert faults == [
        "ghcr.io/kernel/agent:v1: broken, but the story says pinned",
        "ghcr.io/kernel/agent:v1: said to be kept, but it is not here whole",
    ]


def test_of_a_disk_that_two_repositories_had_all_bytes_count_for_one_of_them(host: Host) -> None:
    async def act() -> None:
        await host.pull("ghcr.io/kernel/base:1", is_older_server=True)
        await host.tag("ghcr.io/kernel/base:1", "ghcr.io/kernel/release:7")

    asyncio.run(act())
    base, release = host.images.values()
    hear_deletion(host, base.disk_bytes, base)
    hear_deletion(host, 0, release)
    for image in (base, release):
        asyncio.run(host.delete_image(image.reference))
        host.images[image.key] = image
    found = outcomes(host, host.chronicle, empty_plan(host))
    fates = {image.key: Reason.EXPIRED for image in (base, release)}
    assert find_faults(host, found, fates) == []
    assert [outcome.freed_bytes for outcome in found] == [base.disk_bytes, 0]
    last = host.chronicle.events[-3].text
    assert last.endswith("unused since day 0, freed with the other that shared its disk")


def shared_plan(host: Host, *holders: str) -> Plan:
    """Make a plan in which the only image of a host is due and held by other repositories."""
    (image,) = host.images.values()
    verdict = Verdict(
        repository=image.repository,
        digest=image.digest,
        tags=(image.tag,),
        status="ready",
        size_bytes=0,
        disk_bytes=0,
        action=Action.NONE,
        reason=Reason.SHARED,
        blockers=(Reason.SHARED,),
        referenced_by=(),
        unused_since_ns=host.clock.now_ns(),
        expires_at_ns=host.clock.now_ns(),
        shared_with=holders,
        held_by=tuple(Holder(holder, Reason.PINNED) for holder in holders),
    )
    return cast("Plan", PlanOfOne(verdict))


@attrs.define
class PlanOfOne:
    """As much of a plan as the demonstration asks of it."""

    one: Verdict
    suspended: tuple[str, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return (self.one,)

    def verdict(self, repository: str, digest: str) -> Verdict | None:
        return self.one if (self.one.repository, self.one.digest) == (repository, digest) else None


def test_who_keeps_an_image_that_is_due_is_told_once(host: Host) -> None:
    image = asyncio.run(host.pull("ghcr.io/kernel/agent:v1"))
    known = len(host.chronicle.events)
    host.chronicle.add_plan(shared_plan(host, "example.com/one", "example.com/two"))
    host.chronicle.add_plan(shared_plan(host, "example.com/one"))
    told = [event.text for event in host.chronicle.events[known:] if event.name == "image_shared"]
    assert told == [
        "ghcr.io/kernel/agent:v1 is due and stays: example.com/one and example.com/two keep the same disk"
    ]
    (found,) = outcomes(host, host.chronicle, shared_plan(host, "example.com/one"))
    assert (found.image, found.reason) == (image, Reason.SHARED)
    assert found.why == "example.com/one keeps the same disk"


def test_a_suspension_is_told_once_and_its_end_too(host: Host) -> None:
    keys = {"cause": "unreadable_reference", "path": "/x/metadata.json", "detail": ""}
    for _ in range(3):
        host.chronicle.hear("deletion_suspended", keys)
    host.chronicle.add_plan(empty_plan(host))
    host.chronicle.add_plan(empty_plan(host))
    assert [event.name for event in host.chronicle.events] == ["deletion_suspended", "deletion_resumed"]


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Where the demonstration makes its temporary folder; nothing else is in it."""
    room = tmp_path / "room"
    room.mkdir()
    return room


def command(room: Path, *, day_seconds: float, **options: object) -> AbstractContextManager[Child]:
    """Run the demonstration while the block lasts, and no longer."""
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    program = (
        f"from hmret.cli.demo.running import run; raise SystemExit(run(day_seconds={day_seconds}{given}))"
    )
    return child(
        [sys.executable, "-W", "error", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(room)},
    )


# What is told, in its order; each of it has happened by then, or the demonstration ends with 1.
TOLD = (
    "16 images are pulled",
    "vm-1 is deleted: the timer of alpine:3.19 starts",
    "vm-3 is deleted, its snapshot is not: no timer for debian:12",
    "worker:latest moves on; vm-8 still runs from what it was",
    "a backup opens the disk of toolbox:v2, without announcing it",
    "an export of archive:v1 begins, under a lease",
    "the fourth short job on runner:stable ends; each restarts its timer",
    "debian:13 is marked used, half a day before it was due",
    "node:22 is due and stays: mirror/node:22 is the same disk",
    "mirror/node:22 is deleted by hand, and node:22 goes",
    "toolbox:v2 is due and stays: a process has its disk open",
    "alpine:3.19 goes, like 5 others whose 30 days are over",
    "the host dies while it writes what vm-2 is: the file is torn",
    "build:103 is due and stays: vm-2 might need it, so nothing goes",
    "the file is repaired, and build:103 goes",
    "what browser:latest was before day 7 goes: no VM runs from it",
    "new settings: CI's builds go after a day, and into quarantine for 3",
    "ci/build:104 goes by that rule, into quarantine",
    "hmret restore ci/build:104 brings it back, with its tag",
    "a limit for the cache: runner:stable goes early, unused for longest",
)
OPEN = tuple(text for text in TOLD if "toolbox" in text)
ENDING = "7 in use, 2 not due yet, 1 leased, 1 pinned, 1 open, 1 not allowed. Next:"


def test_the_whole_demonstration_is_told_once_in_25_lines_that_fit(room: Path) -> None:
    has_leases = offers_leases(room)
    with command(room, day_seconds=FAST_DAY_SECONDS) as demo:
        output, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (0, ""), output
    assert all(character.isprintable() or character == "\n" for character in output)
    lines = output.splitlines()
    days = [(int(line[4:6]), line[8:]) for line in lines if line.startswith("day ")]
    expected = [text for text in TOLD if has_leases or text not in OPEN]
    assert len(days) == len(expected)
    for (_, line), text in zip(days, expected, strict=True):
        assert line.startswith(text) or not has_leases, line
    assert [day for day, _ in days] == sorted(day for day, _ in days)
    assert (len(lines) <= 25, max(map(len, lines)) <= 80) == (True, True), output
    # However long the last check of the disk took.
    assert lines[len(days)].startswith((f"{days[-1][0]} days, ", f"{days[-1][0] + 1} days, "))
    assert lines[len(days)].endswith("kept; the disk agrees with each:")
    if has_leases:
        assert lines[len(days) + 1] == ENDING
    assert [line.split()[1:4] for line in lines[-3:]] == [
        ["demo", "--serve", "the"],
        ["demo", "--keep", "FOLDER"],
        ["plan", "what", "would"],
    ]
    assert list(room.iterdir()) == []


def test_the_cache_that_is_kept_can_be_played_with(room: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "kept cache"
    with command(room, day_seconds=FAST_DAY_SECONDS, keep=str(folder)) as demo:
        output, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (0, ""), output
    shown = [shlex.split(line) for line in output.splitlines() if line.startswith("  ")]
    assert [words[1] for words in shown] == ["plan", "explain"]
    for words in shown:
        code, answer, complaints = call(*words[1:])
        assert (code, complaints) == (0, ""), answer
        assert ("alpine" if words[1] == "explain" else str(folder)) in answer
    # Its timers go on by this host's clock, which has not jumped.
    timers = {
        json.loads(file.read_bytes())["digest"]: json.loads(file.read_bytes())["unused_since"]
        for file in (folder / "system/image-retention").rglob("*.json")
    }
    document = json.loads(call("plan", "--json", *shown[0][2:])[1])
    waiting = {one["digest"]: one["unused_since"] for one in document["images"] if one["unused_since"]}
    assert document["suspended"] == []
    assert waiting == timers != {}
    assert {one["reason"] for one in document["images"] if one["unused_since"]} == {"retention_window"}
    with command(room, day_seconds=FAST_DAY_SECONDS, keep=str(folder)) as again:
        _, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 1
    assert "expected a folder that is empty or not there" in errors


def test_the_page_shows_it_and_what_is_left_until_it_is_interrupted(room: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with command(room, day_seconds=FAST_DAY_SECONDS, serve=address) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline() == f"day  0  watch it at http://{address}/\n"
        with httpx2.Client(base_url=f"http://{address}", timeout=PATIENCE) as client:
            assert "text/html" in client.get("/").headers["content-type"]
            while "shows what is left" not in demo.stdout.readline():
                assert demo.poll() is None
            assert client.get("/v1/status").json()["totals"]["deleted_images"] == 10
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (0, ""), output
    assert list(room.iterdir()) == []


def test_with_json_it_prints_one_document_and_nothing_else(room: Path) -> None:
    with command(room, day_seconds=FAST_DAY_SECONDS, as_json=True) as demo:
        output, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (0, ""), output
    document = json.loads(output)
    assert document["faults"] == []
    gone = [image for image in document["images"] if image["outcome"] == "deleted"]
    assert document["deleted_images"] == len(gone) == 9
    assert document["freed_bytes"] == sum(image["freed_bytes"] for image in gone) > 0
    assert {image["reason"] for image in gone} == {"expired", "disk_pressure"}
    assert "deletion_suspended" in {event["event"] for event in document["events"]}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_leaves_nothing_behind(room: Path, number: int, code: int) -> None:
    with command(room, day_seconds=2) as demo:
        assert demo.stdout is not None
        while not demo.stdout.readline().startswith("day "):
            assert demo.poll() is None
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (code, "")
    assert list(room.iterdir()) == []


def test_it_ends_when_nobody_reads_on(room: Path) -> None:
    with command(room, day_seconds=FAST_DAY_SECONDS) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.stderr.read() == ""
        assert demo.wait(timeout=PATIENCE) == 1
    assert list(room.iterdir()) == []
