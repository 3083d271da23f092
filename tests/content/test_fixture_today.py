"""A data directory that hypeman wrote in autumn 2026, and what its own sweep left of it.

Beside it stands what hypeman said of both: what it lists, and what each reference leads to. hmret reads the same, and
decides otherwise where hypeman takes an image away that somebody needs.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import hmret
from hmret import ImageNotFoundError, Reason, parse_reference
from hmret.__main__ import main
from hmret.model.times import nanoseconds_of
from support.archives import unpack
from support.builders import FakeClock
from support.content_trees import Files, Host, Key
from support.hypeman_reader import Listed, Reader

FIXTURES = Path(__file__).parents[1] / "fixtures"
NOTED: dict[str, Any] = json.loads((FIXTURES / "hypeman-today.json").read_bytes())
NOW = datetime.fromisoformat(NOTED["now"])
SETTINGS: dict[str, Any] = {"unused_for": timedelta(hours=720), "allowed": tuple(NOTED["allowed"])}
SIDES = ["before", "after"]
DIGESTS = {row["digest"] for side in SIDES for row in NOTED[side]["list_images"]}

DEBIAN = "docker.io/library/debian"
LIBRARY_NODE = "docker.io/library/node"
ALPINE, MYAPP, MYTOOL = "docker.io/library/alpine", "docker.io/library/myapp", "docker.io/library/mytool"
NGINX, BUSYBOX = "docker.io/library/nginx", "docker.io/library/busybox"
REDIS, POSTGRES = "docker.io/library/redis", "docker.io/library/postgres"
BASE, BROWSER, TOOL = "ghcr.io/kernel/base", "ghcr.io/kernel/browser", "ghcr.io/kernel/tool"
KERNEL_DEBIAN, KERNEL_NODE, LEGACY = "ghcr.io/kernel/debian", "ghcr.io/kernel/node", "ghcr.io/kernel/legacy"
CI_APP, QUAY = "localhost:5000/ci/app", "quay.io/x/y"


def key(repository: str, start: str) -> Key:
    """Name a row by the first digits of its digest."""
    (digest,) = (digest for digest in DIGESTS if digest.startswith(f"sha256:{start}"))
    return repository, digest


# What is due was unused since 2 October or before. A row without a timer gets one now.
BEFORE = {
    # The tag 3.20, and two more repositories with tags of their own. myapp runs on vmbbbb…; base has no timer yet.
    key(ALPINE, "4197"): Reason.SHARED,
    key(MYAPP, "4197"): Reason.REFERENCED,
    key(BASE, "4197"): Reason.NEWLY_UNUSED,
    # latest pointed to it once; nobody else has it, and nobody runs from it. Unused since 1 October.
    key(ALPINE, "d4a2"): Reason.EXPIRED,
    # latest points to it now. Unused since 27 October.
    key(ALPINE, "faa6"): Reason.RETENTION_WINDOW,
    # Pulled by digest, so it has no tag. Unused since 2 September.
    key(BUSYBOX, "9d75"): Reason.EXPIRED,
    # A folder of the older layout with a disk of its own; its tag went elsewhere. Unused since 1 October.
    key(DEBIAN, "c224"): Reason.EXPIRED,
    # The content of that digest, tagged 11. No timer yet.
    key(KERNEL_DEBIAN, "c224"): Reason.NEWLY_UNUSED,
    # An older server's, with two tags of the older layout. Unused since 1 October.
    key(LEGACY, "a657"): Reason.EXPIRED,
    # The content, which kernel/node alone owns: the other repository has a whole folder. Unused since 1 October.
    key(KERNEL_NODE, "eb8f"): Reason.EXPIRED,
    # That folder, with the tag 20. No timer yet.
    key(LIBRARY_NODE, "eb8f"): Reason.NEWLY_UNUSED,
    # Promoted when it was tagged into mytool: one disk by two names. tool is due, mytool has no timer yet.
    key(TOOL, "2c11"): Reason.SHARED,
    key(MYTOOL, "2c11"): Reason.NEWLY_UNUSED,
    # vmaaaa… booted it; latest has moved on since.
    key(NGINX, "6964"): Reason.REFERENCED,
    # What latest points to, as vmaaaa… names it.
    key(NGINX, "3db3"): Reason.REFERENCED,
    # A snapshot needs it.
    key(BROWSER, "d4c3"): Reason.REFERENCED,
    # A registry that only this host has: it could not be pulled again.
    key(CI_APP, "a172"): Reason.NOT_PULLABLE,
    # Not among what may be deleted from, however long unused.
    key(QUAY, "3388"): Reason.NOT_ALLOWED,
    # A pull that failed, and one that waits.
    key(REDIS, "15f4"): Reason.NOT_READY,
    key(POSTGRES, "5fbe"): Reason.NOT_READY,
}

DELETED = sorted(one for one, reason in BEFORE.items() if reason is Reason.EXPIRED)
LEFT_TIMERS = {
    # Shared: they run on.
    key(ALPINE, "4197"): "2026-09-22T00:00:00Z",
    key(TOOL, "2c11"): "2026-10-01T00:00:00Z",
    # Within its window.
    key(ALPINE, "faa6"): "2026-10-27T00:00:00Z",
    # Begun now.
    key(BASE, "4197"): NOTED["now"],
    key(KERNEL_DEBIAN, "c224"): NOTED["now"],
    key(LIBRARY_NODE, "eb8f"): NOTED["now"],
    key(MYTOOL, "2c11"): NOTED["now"],
}

# What is left after hypeman's own sweep.
AFTER = {
    # hypeman has untied alpine from it, and begun the timer of base.
    key(MYAPP, "4197"): Reason.REFERENCED,
    key(BASE, "4197"): Reason.RETENTION_WINDOW,
    key(ALPINE, "faa6"): Reason.RETENTION_WINDOW,
    # hypeman lists it under the other repository's name, so it has thrown this timer away.
    key(DEBIAN, "c224"): Reason.NEWLY_UNUSED,
    key(KERNEL_DEBIAN, "c224"): Reason.RETENTION_WINDOW,
    key(LIBRARY_NODE, "eb8f"): Reason.RETENTION_WINDOW,
    key(MYTOOL, "2c11"): Reason.RETENTION_WINDOW,
    key(NGINX, "3db3"): Reason.REFERENCED,
    key(BROWSER, "d4c3"): Reason.REFERENCED,
    key(CI_APP, "a172"): Reason.NOT_PULLABLE,
    key(QUAY, "3388"): Reason.NOT_ALLOWED,
    key(REDIS, "15f4"): Reason.NOT_READY,
    key(POSTGRES, "5fbe"): Reason.NOT_READY,
}

# A month later, if nothing is used.
LATER = {
    key(BASE, "4197"): Reason.SHARED,
    key(ALPINE, "faa6"): Reason.EXPIRED,
    key(KERNEL_DEBIAN, "c224"): Reason.EXPIRED,
    key(LIBRARY_NODE, "eb8f"): Reason.EXPIRED,
    key(MYTOOL, "2c11"): Reason.EXPIRED,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    unpack(FIXTURES / "hypeman-today.tar.gz", tmp_path)
    return tmp_path


def host_of(root: Path, side: str) -> Host:
    return Host(root / side, FakeClock(wall_ns=nanoseconds_of(NOW)))


def timers(host: Host) -> dict[Key, str]:
    """Read all timers, each of which has nothing but the three keys that hypeman knows."""
    found: dict[Key, str] = {}
    for path, (_, content, _) in host.files().items():
        if path.startswith("system/image-retention/"):
            state = json.loads(content)
            assert set(state) == {"digest", "repository", "unused_since"}
            assert path == f"system/image-retention/{state['repository']}/{state['digest'][7:]}.json"
            found[state["repository"], state["digest"]] = state["unused_since"]
    return found


# The reader that the tests below rely on.


@pytest.mark.parametrize("side", SIDES)
def test_the_reader_of_these_tests_lists_and_finds_what_hypeman_does(root: Path, side: str) -> None:
    read = Reader(host_of(root, side).entries())
    assert read.rows() == sorted(Listed(**row) for row in NOTED[side]["list_images"])
    for image, found in NOTED[side]["get_image"].items():
        assert read.find(image) == (None if "error" in found else Listed(**found))


# Reading.


@pytest.mark.parametrize("side", SIDES)
async def test_every_image_that_hypeman_lists_is_a_row(root: Path, side: str) -> None:
    async with host_of(root, side).opened(**SETTINGS) as retention:
        made = await retention.plan()
    verdicts = {(one.repository, one.digest): one for one in made.verdicts}
    assert set(verdicts) == set(BEFORE if side == "before" else AFTER)
    for row in NOTED[side]["list_images"]:
        reference = parse_reference(row["name"])
        verdict = verdicts[reference.repository, row["digest"]]
        assert verdict.status == row["status"]
        assert verdict.broken is None


@pytest.mark.parametrize("side", SIDES)
async def test_every_tag_that_hypeman_knows_is_a_tag_of_its_row(root: Path, side: str) -> None:
    async with host_of(root, side).opened(**SETTINGS) as retention:
        made = await retention.plan()
    tags = {
        (one.repository, tag): one.digest.removeprefix("sha256:") for one in made.verdicts for tag in one.tags
    }
    noted = {}
    for link in NOTED[side]["tag_links"]:
        path = link["path"].removeprefix("images/").removeprefix("repositories/")
        repository, _, tag = path.rpartition("/")
        noted[repository, tag] = link["target"].rpartition("/")[2]
    assert tags == noted


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("image", NOTED["before"]["get_image"])
async def test_every_reference_leads_where_hypeman_says(root: Path, side: str, image: str) -> None:
    noted = NOTED[side]["get_image"][image]
    async with host_of(root, side).opened(**SETTINGS) as retention:
        if noted.get("status") != "ready":
            with pytest.raises(ImageNotFoundError):
                await retention.mark_used(image)
            return
        used = await retention.mark_used(image)
        assert used.digest == noted["digest"]
        assert used.repository == parse_reference(noted["name"]).repository
        if (used.repository, used.digest) in (BEFORE if side == "before" else AFTER):
            verdict = await retention.explain(image)
            assert (verdict.repository, verdict.digest) == (used.repository, used.digest)
            assert verdict.unused_since is None


@pytest.mark.parametrize("side", SIDES)
async def test_no_reference_is_stale_but_one_that_hypeman_does_not_find_either(root: Path, side: str) -> None:
    host = host_of(root, side)
    async with host.opened(**SETTINGS) as retention:
        made = await retention.plan()
    read = Reader(host.entries())
    assert [stale.image for stale in made.stale_references if read.find(stale.image) is not None] == []
    if side == "before":
        assert made.stale_references == ()


@pytest.mark.parametrize("side", SIDES)
async def test_no_timer_is_pruned_whose_image_hypeman_lists(root: Path, side: str) -> None:
    host = host_of(root, side)
    async with host.opened(**SETTINGS) as retention:
        made = await retention.plan()
    assert not Reader(host.entries()).keys() & set(made.pruned)
    gone = {one for one in timers(host) if one[0] == "docker.io/library/gone"}
    assert set(made.pruned) == gone


async def test_promoted_and_separate_copies_occupy_what_they_occupy(root: Path) -> None:
    async with host_of(root, "before").opened(**SETTINGS) as retention:
        made = await retention.plan()
    verdicts = {(one.repository, one.digest): one for one in made.verdicts}
    # One disk by two names, and shown on each row of its digest.
    assert {verdicts[key(one, "2c11")].disk_bytes for one in (TOOL, MYTOOL)} == {8192}
    # Two disks of one digest; the older folder's is another row.
    assert verdicts[key(KERNEL_DEBIAN, "c224")].disk_bytes == 4096
    assert verdicts[key(DEBIAN, "c224")].disk_bytes == 8192
    assert made.summary.delete_bytes == 45056


# Deciding.


async def test_a_sweep_decides_row_by_row_as_worked_out_by_hand(root: Path) -> None:
    swept = await host_of(root, "before").sweep(**SETTINGS)
    assert swept.reasons == BEFORE
    assert swept.held_by(*short(ALPINE, "4197")) == [
        (MYAPP, Reason.REFERENCED),
        (BASE, Reason.NEWLY_UNUSED),
    ]
    assert swept.held_by(*short(TOOL, "2c11")) == [(MYTOOL, Reason.NEWLY_UNUSED)]
    assert swept.verdicts[key(BASE, "4197")].shared_with == (ALPINE, MYAPP)
    assert swept.verdicts[key(MYAPP, "4197")].referenced_by == ("instance/vmbbbbbbbbbbbbbbbbbbbbbb",)
    assert swept.verdicts[key(BROWSER, "d4c3")].referenced_by == ("snapshot/snap1",)
    for start in ("6964", "3db3"):
        assert swept.verdicts[key(NGINX, start)].referenced_by == ("instance/vmaaaaaaaaaaaaaaaaaaaaaa",)


def short(repository: str, start: str) -> Key:
    """Name a row as the helpers of tests do, by its digest without the prefix."""
    return repository, key(repository, start)[1].removeprefix("sha256:")


async def test_a_sweep_deletes_what_is_due_for_all_and_reports_it(root: Path) -> None:
    host = host_of(root, "before")
    swept = await host.sweep(**SETTINGS)
    report = swept.report
    assert (report.status, report.errors) == (hmret.SweepStatus.SUCCESS, ())
    assert swept.deleted == DELETED
    assert {(one.repository, one.digest): one.tags for one in report.deleted} == {
        key(ALPINE, "d4a2"): (),
        key(BUSYBOX, "9d75"): (),
        key(DEBIAN, "c224"): (),
        key(LEGACY, "a657"): ("1", "stable"),
        key(KERNEL_NODE, "eb8f"): ("20",),
    }
    assert (report.deleted_images, report.deleted_bytes) == (5, 8192 + 16384 + 8192 + 8192 + 4096)
    # Of hypeman's own counters: 19 list rows are ready, and 3 keys protected.
    assert (report.ready_images, report.protected_images, report.stale_references) == (18, 4, 0)
    assert (report.marked_unused, report.cleared_states, report.pruned_states) == (4, 4, 1)
    assert timers(host) == LEFT_TIMERS
    assert host.trash() == []


async def test_a_sweep_touches_no_file_but_those_of_what_it_deletes(root: Path) -> None:
    host = host_of(root, "before")
    before = images_of(host.files())
    await host.sweep(**SETTINGS)
    gone = [
        *(f"images/content/{key(one, start)[1][7:]}/" for one, start in CONTENT_GONE),
        f"images/{DEBIAN}/",
        f"images/{LEGACY}/",
        f"images/repositories/{KERNEL_NODE}/20",
    ]
    after = images_of(host.files())
    assert after == {path: about for path, about in before.items() if not path.startswith(tuple(gone))}
    # Older folders that are left empty go at once; of the others, a pull may be about to use one.
    assert not host.exists(f"images/{DEBIAN}")
    assert not host.exists(f"images/{LEGACY}")
    assert host.exists(f"images/repositories/{KERNEL_NODE}")


CONTENT_GONE = [(ALPINE, "d4a2"), (BUSYBOX, "9d75"), (KERNEL_NODE, "eb8f")]


def images_of(files: Files) -> Files:
    return {path: about for path, about in files.items() if not path.startswith("system/")}


async def test_the_two_images_in_use_that_hypeman_takes_away_stay(root: Path) -> None:
    host = host_of(root, "before")
    swept = await host.sweep(**SETTINGS)
    read, hypeman = Reader(host.entries()), Reader(host_of(root, "after").entries())
    # A machine runs from it, but the tag by which it was created has moved on: hypeman goes by the tag alone.
    in_use = f"{NGINX}@{key(NGINX, '6964')[1]}"
    assert read.find(in_use) == Listed(in_use, key(NGINX, "6964")[1], "ready")
    assert hypeman.find(in_use) is None
    # A machine runs from it as myapp: hypeman unties alpine, whose tag then leads nowhere.
    for image in (f"{ALPINE}:3.20", f"{MYAPP}:v1", f"{BASE}:prod"):
        found = read.find(image)
        assert found is not None
        assert found.digest == key(MYAPP, "4197")[1]
    assert hypeman.find(f"{ALPINE}:3.20") is None
    assert {key(NGINX, "6964"), key(ALPINE, "4197")}.isdisjoint(swept.deleted)


async def test_a_second_sweep_finds_nothing_more_to_do(root: Path) -> None:
    host = host_of(root, "before")
    async with host.opened(**SETTINGS) as retention:
        await retention.sweep()
        before = host.files()
        report = await retention.sweep()
    assert (report.deleted_images, report.marked_unused, report.cleared_states) == (0, 0, 0)
    assert (report.pruned_states, host.files()) == (0, before)


# Handing back.


async def test_hypeman_lists_and_finds_all_that_is_left_as_before(root: Path) -> None:
    host = host_of(root, "before")
    was = Reader(host.entries())
    await host.sweep(**SETTINGS)
    read = Reader(host.entries())
    gone = [
        # Digests that are gone everywhere.
        Listed(f"{ALPINE}:latest", key(ALPINE, "d4a2")[1], "ready"),
        Listed(f"{BUSYBOX}@{key(BUSYBOX, '9d75')[1]}", key(BUSYBOX, "9d75")[1], "ready"),
        Listed(f"{LEGACY}:1", key(LEGACY, "a657")[1], "ready"),
        Listed(f"{LEGACY}:stable", key(LEGACY, "a657")[1], "ready"),
        # The content; the folder of the other repository is listed still.
        Listed(f"{KERNEL_NODE}:20", key(KERNEL_NODE, "eb8f")[1], "ready"),
        # The untagged folder, which hypeman lists under the name of the content: one row less of two alike.
        Listed(f"{KERNEL_DEBIAN}:11", key(KERNEL_DEBIAN, "c224")[1], "ready"),
    ]
    expected = was.rows()
    for row in gone:
        expected.remove(row)
    assert read.rows() == expected
    lost = {image for image in NOTED["before"]["get_image"] if read.find(image) != was.find(image)}
    assert lost == {
        f"alpine@{key(ALPINE, 'd4a2')[1]}",
        f"busybox@{key(BUSYBOX, '9d75')[1]}",
        f"{LEGACY}:stable",
        f"{KERNEL_NODE}:20",
    }
    assert [read.find(image) for image in sorted(lost)] == [None] * 4


async def test_hypeman_prunes_no_timer_that_is_left(root: Path) -> None:
    host = host_of(root, "before")
    await host.sweep(**SETTINGS)
    assert set(timers(host)) <= Reader(host.entries()).keys()


async def test_what_hypemans_own_sweep_left_is_carried_on_with_its_timers(root: Path) -> None:
    host = host_of(root, "after")
    before, images = timers(host), images_of(host.files())
    swept = await host.sweep(**SETTINGS)
    assert (swept.reasons, swept.deleted) == (AFTER, [])
    assert images_of(host.files()) == images
    del before[key(CI_APP, "a172")]
    assert timers(host) == before | {key(DEBIAN, "c224"): NOTED["now"]}


async def test_what_hypemans_own_sweep_left_falls_due_when_its_timers_say(root: Path) -> None:
    async with host_of(root, "after").opened(**SETTINGS) as retention:
        made = await retention.plan(NOW + timedelta(days=31))
    assert {(one.repository, one.digest): one.reason for one in made.verdicts} == AFTER | LATER


# As printed.


def test_the_printed_plan_says_who_shares_and_who_holds(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = root / "no-settings.yaml"
    empty.write_text("")
    monkeypatch.setenv("HMRET_CONFIG", str(empty))
    allowed = [token for pattern in NOTED["allowed"] for token in ("--allow", pattern)]
    at = ["--at", NOTED["now"], "--unused-for", NOTED["unused_for"]]
    code = main(["plan", "--json", "--enable", "--data-dir", str(root / "before"), *at, *allowed])
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    rows = {(row["repository"], row["digest"]): row for row in document["images"]}
    assert {one: row["reason"] for one, row in rows.items()} == {
        one: str(reason) for one, reason in BEFORE.items()
    }
    assert list(rows) == sorted(rows)
    shared = rows[key(ALPINE, "4197")]
    assert (shared["action"], shared["tags"]) == ("none", ["3.20"])
    assert shared["shared_with"] == [MYAPP, BASE]
    assert shared["held_by"] == [
        {"repository": MYAPP, "reason": "referenced"},
        {"repository": BASE, "reason": "newly_unused"},
    ]
    alone = rows[key(BUSYBOX, "9d75")]
    assert (alone["shared_with"], alone["held_by"]) == ([], [])
    assert document["summary"] == {
        "images": 20,
        "delete": 5,
        "delete_bytes": 45056,
        "mark": 4,
        "clear": 8,
        "keep": 3,
        "prune": 1,
    }
    assert datetime.fromisoformat(document["at"]) == NOW.astimezone(UTC)
