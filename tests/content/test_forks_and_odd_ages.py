"""Guests whose age proves nothing about what their tag pointed to: forks, saved states, and clocks that were wrong."""

import errno
import json
from datetime import timedelta
from typing import Any

import attrs
import pytest

import hmret
from hmret import Reason
from hmret.engine.retention import Retention
from support.builders import DATA, FakeClock, digest, make_guest, make_snapshot
from support.content_trees import Host, content_path, legacy_path
from support.memory_filesystem import Call, MemoryFilesystem

ALPINE = "docker.io/library/alpine"
APP = "ghcr.io/acme/app"
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
CONFIG = "snapshots/snapshot-latest/config.json"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read what is torn, or absent, again at once."""
    monkeypatch.setattr("hmret.actors.reference_collector._TORN_PAUSE", 0)


@attrs.define(eq=False)
class Tree:
    """A host in one layout; every image that it makes is due."""

    layout: str
    host: Host

    def image(self, letters: str, *, age: timedelta, repository: str = ALPINE) -> None:
        """Make an image that came so long ago."""
        host = attrs.evolve(self.host, age=age)
        if self.layout == "content":
            host.content(letters, name=f"{repository}:pulled")
        else:
            host.legacy(repository, letters)
        host.state(repository, letters)

    def point(self, letters: str, *, age: timedelta, tag: str = "latest", repository: str = ALPINE) -> None:
        """Point a tag to an image, so long ago."""
        host = attrs.evolve(self.host, age=age)
        (host.link if self.layout == "content" else host.legacy_link)(repository, tag, letters)

    def tag_place(self, tag: str, repository: str = ALPINE) -> str:
        return f"images/{'repositories/' if self.layout == 'content' else ''}{repository}/{tag}"

    def disk(self, letters: str, repository: str = ALPINE) -> str:
        """Return the path of a disk, as a hypervisor writes it into its configuration."""
        folder = content_path(letters) if self.layout == "content" else legacy_path(repository, letters)
        return f"/var/lib/hypeman/{folder}/rootfs.erofs"

    def guest(
        self,
        name: str,
        *,
        age: timedelta | None,
        text: str = "alpine",
        resolved: str = "",
        opens: str | bytes | None = None,
    ) -> None:
        """Make a guest so long ago (None: it does not say when), and save its state, with a configuration that holds this."""
        created_at = None if age is None else self.host.clock.now() - age
        make_guest(self.host.place, name, text, resolved_image=resolved, created_at=created_at)
        if opens is not None:
            content = opens if isinstance(opens, bytes) else json.dumps({"disks": [{"path": opens}]}).encode()
            self.host.write(f"guests/{name}/{CONFIG}", content)

    def remove(self, path: str) -> None:
        self.host.remove(path)

    def left(self, repository: str = ALPINE) -> str:
        """Tell which images are left."""
        return "".join(
            letter
            for letter in ("f" if repository == APP else "abcde")
            if self.host.exists(
                content_path(letter) if self.layout == "content" else legacy_path(repository, letter)
            )
        )

    async def sweep(self, retention: Retention | None = None, **settings: Any) -> hmret.SweepReport:
        """Start all timers long ago, and sweep: what is not needed goes."""
        for repository in (ALPINE, APP):
            for letter in self.left(repository):
                self.host.state(repository, letter)
        swept = await (self.host.sweep(**settings) if retention is None else self.host.sweep_by(retention))
        return swept.report


@pytest.fixture(params=["legacy", "content"])
def tree(request: pytest.FixtureRequest, filesystem: MemoryFilesystem, clock: FakeClock) -> Tree:
    """A repository whose tag was moved from its first image to its second, 60 days ago, and an image of another one."""
    tree = Tree(request.param, Host(filesystem, clock))
    tree.image("a", age=200 * DAY)
    tree.image("b", age=60 * DAY)
    tree.point("b", age=60 * DAY)
    tree.image("f", age=90 * DAY, repository=APP)
    return tree


# Forks.


@pytest.mark.parametrize(
    "form",
    [
        lambda path: json.dumps({"disks": [{"path": path}]}).encode(),
        lambda path: json.dumps({"disks": [{"path": path}]}).replace("/", "\\/").encode(),
        lambda path: path.encode("utf-16"),
        lambda path: b"\x00\x7f" + path.encode() + b"\x00",
    ],
    ids=["plain", "escaped", "wide", "binary"],
)
async def test_what_the_saved_state_of_a_fork_opens_stays_though_its_tag_has_moved(
    tree: Tree, form: Any
) -> None:
    tree.guest("fork", age=20 * DAY, opens=form(tree.disk("a")))
    report = await tree.sweep()
    assert tree.left() == "ab"
    assert (report.stale_references, tree.left(APP)) == (0, "")
    assert {key[0] for key in ((one.repository, one.digest) for one in report.deleted)} == {APP}


async def test_a_fork_whose_saved_state_names_no_path_keeps_every_digest_of_its_repository(
    tree: Tree,
) -> None:
    tree.guest("fork", age=20 * DAY, opens=b"\x00")
    await tree.sweep()
    assert (tree.left(), tree.left(APP)) == ("ab", "")


async def test_what_the_saved_state_of_a_fork_opens_is_told_as_referenced_by_it(tree: Tree) -> None:
    tree.guest("fork", age=20 * DAY, text=f"{APP}:gone", opens=tree.disk("a"))
    swept = await tree.host.sweep()
    verdict = swept.verdicts[ALPINE, digest("a")]
    assert (verdict.reason, verdict.referenced_by) == (Reason.REFERENCED, ("instance/fork",))
    assert swept.report.stale_references == 0
    assert (tree.left(), tree.left(APP)) == ("a", "f")


async def test_a_saved_state_keeps_content_that_another_repository_owns_by_now(
    filesystem: MemoryFilesystem, clock: FakeClock
) -> None:
    tree = Tree("content", Host(filesystem, clock))
    tree.image("f", age=90 * DAY, repository=APP)
    tree.image("b", age=90 * DAY)
    tree.point("f", age=90 * DAY, tag="1", repository=APP)
    tree.point("b", age=60 * DAY)
    tree.guest("fork", age=20 * DAY, opens=tree.disk("f"))
    await tree.sweep()
    assert (tree.left(), tree.left(APP)) == ("b", "f")


async def test_a_fork_whose_tag_has_gone_keeps_what_it_opens_and_is_not_stale(tree: Tree) -> None:
    tree.remove(tree.tag_place("latest"))
    tree.guest("fork", age=20 * DAY, opens=tree.disk("a"))
    report = await tree.sweep()
    assert "a" in tree.left()
    assert report.stale_references == 0


async def test_a_snapshot_keeps_what_the_copy_of_its_guest_opens(tree: Tree) -> None:
    make_snapshot(tree.host.place, "s", f"{ALPINE}@{digest('b')}")
    tree.host.write(f"snapshots/s/guest/{CONFIG}", json.dumps({"path": tree.disk("a")}).encode())
    await tree.sweep()
    assert tree.left() == "ab"


async def test_a_fork_made_and_saved_after_the_scan_keeps_what_it_opens(tree: Tree) -> None:
    filesystem = tree.host.place
    assert isinstance(filesystem, MemoryFilesystem)
    listed = 0

    def fork(call: Call) -> None:
        nonlocal listed
        if call.name in ("scandir", "open") and call.path == f"{DATA}/guests":
            listed += call.name == "scandir"
            if listed == 1 and call.name == "open":
                tree.guest("fork", age=timedelta(0), text=f"alpine@{digest('b')}", opens=tree.disk("a"))

    tree.guest("other", age=20 * DAY, text=f"alpine@{digest('b')}")
    filesystem.before = fork
    await tree.sweep()
    filesystem.before = None
    assert listed > 1
    assert tree.left() == "ab"


async def test_a_fork_keeps_its_image_over_restarts_and_once_it_is_gone_that_goes(tree: Tree) -> None:
    tree.guest("fork", age=20 * DAY, opens=tree.disk("a"))
    for _ in range(3):
        await tree.sweep()
        tree.host.clock.advance(10 * MINUTE)
    assert tree.left() == "ab"
    tree.remove("guests/fork")
    await tree.sweep()
    assert tree.left() == ""


async def test_a_fork_of_a_guest_that_says_what_it_boots_needs_no_more_than_that(tree: Tree) -> None:
    tree.guest(
        "fork", age=20 * DAY, text=f"{APP}:gone", resolved=f"{ALPINE}@{digest('a')}", opens=tree.disk("b")
    )
    await tree.sweep()
    assert tree.left() == "a"


async def test_a_fork_of_a_guest_whose_tag_was_watched_keeps_what_the_tag_has_pointed_to(tree: Tree) -> None:
    tree.point("a", age=150 * DAY)
    tree.guest("source", age=100 * DAY)
    async with tree.host.opened() as retention:
        await tree.sweep(retention)
    tree.image("b", age=60 * DAY)
    tree.point("b", age=60 * DAY)
    # Between two sweeps: its state has been restored, so that there is none any more.
    tree.guest("fork", age=20 * DAY)
    tree.remove("guests/source")
    await tree.sweep()
    assert tree.left() == "ab"


@pytest.mark.parametrize("call", ["open", "read"])
async def test_a_saved_state_that_cannot_be_read_suspends_deletion_and_is_named(
    tree: Tree, call: str
) -> None:
    filesystem = tree.host.place
    assert isinstance(filesystem, MemoryFilesystem)
    tree.guest("fork", age=20 * DAY, text=f"alpine@{digest('b')}", opens=tree.disk("a"))
    path = f"{DATA}/guests/fork/{CONFIG}"
    filesystem.deny(path, errno.EACCES, call=call)
    report = await tree.sweep()
    assert [(one.cause, one.path) for one in report.suspended] == [("unreadable_reference", path)]
    assert (tree.left(), tree.left(APP)) == ("ab", "f")
    ignored = await tree.sweep(unreadable_references="ignore")
    # What its metadata names counts all the same.
    assert ignored.suspended == ()
    assert tree.left() == "b"


# Ages that prove nothing.


@pytest.mark.parametrize("ahead", [MINUTE, 6 * MINUTE, 400 * DAY])
async def test_a_guest_from_the_future_keeps_every_digest_of_its_repository(
    tree: Tree, ahead: timedelta
) -> None:
    tree.guest("vm", age=-ahead)
    await tree.sweep()
    assert (tree.left(), tree.left(APP)) == ("ab", "")


async def test_a_guest_made_during_a_sweep_is_judged_by_the_next_one(tree: Tree) -> None:
    tree.guest("vm", age=-MINUTE)
    async with tree.host.opened() as retention:
        await tree.sweep(retention)
        assert tree.left() == "ab"
        tree.host.clock.advance(MINUTE)
        await tree.sweep(retention)
        assert tree.left() == "b"


async def test_a_guest_that_is_older_than_every_image_keeps_every_digest_of_its_repository(
    tree: Tree,
) -> None:
    tree.guest("vm", age=3000 * DAY)
    await tree.sweep()
    assert (tree.left(), tree.left(APP)) == ("ab", "")


@pytest.mark.parametrize("age", [None, timedelta(days=365 * 2025)])
async def test_a_guest_that_does_not_say_how_old_it_is_keeps_every_digest_of_its_repository(
    tree: Tree, age: timedelta | None
) -> None:
    tree.guest("vm", age=age)
    await tree.sweep()
    assert (tree.left(), tree.left(APP)) == ("ab", "")


@pytest.mark.parametrize(("after", "left"), [(5 * MINUTE, "b"), (4 * MINUTE, "ab"), (-4 * MINUTE, "ab")])
async def test_a_guest_made_within_five_minutes_of_its_tags_link_may_run_from_what_was_there_before(
    tree: Tree, after: timedelta, left: str
) -> None:
    tree.guest("vm", age=60 * DAY - after)
    await tree.sweep()
    assert tree.left() == left


async def test_a_guest_made_between_two_sweeps_keeps_what_its_tag_pointed_to_in_between(tree: Tree) -> None:
    async with tree.host.opened() as retention:
        tree.guest("older", age=30 * DAY)
        await tree.sweep(retention)
        assert tree.left() == "b"
        tree.host.clock.advance(DAY)
        # The tag went to c, a guest was started from that, and it went on to d.
        for letter, hours in (("c", 20), ("d", 2)):
            tree.image(letter, age=timedelta(hours=hours))
            tree.point(letter, age=timedelta(hours=hours))
        tree.guest("vm", age=timedelta(hours=10))
        await tree.sweep(retention)
        assert tree.left() == "bcd"


async def test_it_keeps_that_over_a_restart_too(tree: Tree) -> None:
    tree.guest("older", age=30 * DAY)
    await tree.sweep()
    tree.host.clock.advance(DAY)
    for letter, hours in (("c", 20), ("d", 2)):
        tree.image(letter, age=timedelta(hours=hours))
        tree.point(letter, age=timedelta(hours=hours))
    tree.guest("vm", age=timedelta(hours=10))
    for _ in range(2):
        await tree.sweep()
    assert tree.left() == "bcd"


@pytest.mark.parametrize("guest", [{"age": None}, {"age": -400 * DAY}, {"age": 20 * DAY, "opens": b"\x00"}])
async def test_a_guest_whose_age_proves_nothing_keeps_nothing_that_comes_after_it_was_seen(
    tree: Tree, guest: dict[str, Any]
) -> None:
    tree.guest("vm", **guest)
    async with tree.host.opened() as retention:
        await tree.sweep(retention)
        for letters in ("c", "d"):
            tree.host.clock.advance(MINUTE)
            tree.image(letters, age=timedelta(0))
            await tree.sweep(retention)
            tree.host.clock.advance(50 * DAY)
            await tree.sweep(retention)
            assert tree.left() == "ab"
    # Nor after a restart.
    tree.image("c", age=timedelta(0))
    await tree.sweep()
    tree.host.clock.advance(50 * DAY)
    await tree.sweep()
    assert tree.left() == "ab"


# Tags that are there and cannot be read as a link.


def folder(tree: Tree, place: str) -> None:
    tree.host.write(f"{place}/metadata.json", b"{}")


def file(tree: Tree, place: str) -> None:
    tree.host.write(place, digest("a").encode())


def link(target: str) -> Any:
    return lambda tree, place: tree.host.symlink(place, target)


ODD: dict[str, Any] = {
    "a folder": folder,
    "an empty folder": lambda tree, place: tree.host.folder(place),
    "a file": file,
    "a link to another tag": link("other"),
    "an absolute link": link(f"/data/images/content/{'a' * 64}"),
    "a link of another depth": link(f"../content/{'a' * 64}"),
    "a link to what no digest is": link("A" * 64),
}


@pytest.mark.parametrize("tag", ["latest", "3.20", "_dev", "Nightly"])
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("resolved", [False, True])
async def test_a_tag_that_is_there_and_is_no_link_keeps_every_digest_of_its_repository(
    tree: Tree, kind: str, tag: str, resolved: bool
) -> None:
    if tree.host.exists(tree.tag_place(tag)):
        tree.remove(tree.tag_place(tag))
    ODD[kind](tree, tree.tag_place(tag))
    resolved_image = f"{ALPINE}@{digest('b')}" if resolved else ""
    tree.guest("vm", age=20 * DAY, text=f"alpine:{tag}", resolved=resolved_image)
    report = await tree.sweep()
    assert (tree.left(), tree.left(APP)) == ("ab", "")
    assert report.stale_references == 0


@pytest.mark.parametrize("kind", ODD)
async def test_a_snapshots_tag_that_is_no_link_keeps_every_digest_too(tree: Tree, kind: str) -> None:
    tree.remove(tree.tag_place("latest"))
    ODD[kind](tree, tree.tag_place("latest"))
    make_snapshot(tree.host.place, "s", "alpine")
    await tree.sweep()
    assert (tree.left(), tree.left(APP)) == ("ab", "")


async def test_a_tag_that_turns_into_a_folder_after_the_scan_keeps_its_image(tree: Tree) -> None:
    filesystem = tree.host.place
    assert isinstance(filesystem, MemoryFilesystem)
    tree.guest("vm", age=20 * DAY, text="alpine:v1")
    listed = 0

    def turn(call: Call) -> None:
        nonlocal listed
        if call.name == "scandir" and call.path == f"{DATA}/guests":
            listed += 1
            if listed == 2:
                folder(tree, tree.tag_place("v1"))

    filesystem.before = turn
    await tree.sweep()
    filesystem.before = None
    assert listed >= 2
    assert tree.left() == "ab"


# Stale is what leads nowhere by either text.


NOWHERE = f"alpine@{digest('e')}"


@pytest.mark.parametrize(
    ("text", "resolved", "stale"),
    [
        (NOWHERE, f"{ALPINE}@{digest('a')}", 0),
        ("alpine:gone", f"{ALPINE}@{digest('a')}", 0),
        ("alpine", f"{ALPINE}@{digest('e')}", 0),
        (NOWHERE, f"{ALPINE}@{digest('d')}", 2),
        ("alpine:gone", "", 1),
    ],
)
@pytest.mark.parametrize("kind", ["guest", "snapshot"])
async def test_only_what_leads_nowhere_by_either_text_is_stale(
    tree: Tree, kind: str, text: str, resolved: str, stale: int
) -> None:
    if kind == "guest":
        tree.guest("vm", age=20 * DAY, text=text, resolved=resolved)
    else:
        make_snapshot(tree.host.place, "s", text, resolved_image=resolved)
    assert (await tree.sweep()).stale_references == stale
