"""Each step of each of hypeman's calls meets each step of a deletion, on small hosts of both layouts.

By default each scene plays some hundreds of its meetings, others in each run of another seed; `HMRET_MEETINGS=all`
plays every one, and a number that many.
"""

import os
import random
from collections.abc import Callable

import pytest

from support.hypeman_today import Call, Hypeman
from support.meetings import Meeting, Span, play, span_of
from support.small_hosts import Scene, World

APP, BASE, CI = "docker.io/library/app", "ghcr.io/kernel/base", "registry.local:5000/ci"
DUE, OTHER, NEW = "a" * 64, "b" * 64, "c" * 64

MEETINGS = os.environ.get("HMRET_MEETINGS", "120")
DEATHS = os.environ.get("HMRET_MEETINGS", "60")


# Hosts.


def shared(world: World) -> None:
    """Content that two repositories tag, and another image that is not due."""
    world.do(world.hypeman.pull(APP, "1", DUE))
    world.do(world.hypeman.pull(BASE, "prod", DUE))
    world.do(world.hypeman.pull(APP, "keep", OTHER))
    world.age([(APP, DUE), (BASE, DUE)])


def single(world: World) -> None:
    """Content that one repository tags, and another image that is not due."""
    world.do(world.hypeman.pull(APP, "1", DUE))
    world.do(world.hypeman.pull(APP, "keep", OTHER))
    world.age([(APP, DUE)])


def untagged(world: World) -> None:
    """Content that was pulled by its digest."""
    world.do(world.hypeman.pull(APP, None, DUE))
    world.age([(APP, DUE)])


def older(world: World) -> None:
    """An image of the older layout, and another one that is not due."""
    world.do(world.hypeman.pull_as_older_server(APP, "1", DUE))
    world.do(world.hypeman.pull_as_older_server(APP, "keep", OTHER))
    world.age([(APP, DUE)])


def promoted(world: World) -> None:
    """An image that a server of August 2026 has promoted: two folders with one disk, and links in both layouts."""
    world.do(world.hypeman.pull_as_older_server(APP, "1", DUE))
    world.do(world.hypeman.promote(APP, DUE, is_august=True))
    world.age([(APP, DUE)])


def promoted_and_shared(world: World) -> None:
    """An image of the older layout that was tagged into another repository since."""
    world.do(world.hypeman.pull_as_older_server(APP, "1", DUE))
    world.do(world.hypeman.tag(APP, "1", BASE, "prod"))
    world.age([(APP, DUE), (BASE, DUE)])


def twice(world: World) -> None:
    """An image of the older layout whose digest was pulled again under another repository."""
    world.do(world.hypeman.pull_as_older_server(APP, "1", DUE))
    world.do(world.hypeman.pull(BASE, "prod", DUE))
    world.age([(APP, DUE), (BASE, DUE)])


HOSTS: dict[Callable[[World], None], tuple[tuple[str, ...], ...]] = {
    shared: ((APP, BASE),),
    single: ((APP,),),
    untagged: ((APP,),),
    older: ((APP,),),
    promoted: ((APP,),),
    promoted_and_shared: ((APP, BASE),),
    twice: ((BASE,), (APP,)),
}


# What hypeman is asked for.


def scene(
    name: str,
    host: Callable[[World], None],
    call: Callable[[Hypeman], Call],
    *touches: tuple[str, str],
    must_succeed: bool = False,
) -> Scene:
    return Scene(
        name=f"{name}, {host.__name__}",
        build=host,
        call=call,
        due=DUE,
        units=HOSTS[host],
        touches=frozenset(touches),
        must_succeed=must_succeed,
    )


def creations() -> list[Scene]:
    by_tag = [
        scene("an instance is created by tag", host, lambda hypeman: hypeman.create("vm", APP, "1"))
        for host in (shared, older, promoted, twice)
    ]
    by_digest = [
        scene(
            "an instance is created by digest",
            host,
            lambda hypeman: hypeman.create("vm", CI, f"sha256:{DUE}", has_resolved=False),
        )
        for host in (shared, untagged)
    ]
    return by_tag + by_digest


def pulls() -> list[Scene]:
    hosts = (shared, untagged, older, promoted, promoted_and_shared, twice)
    again = [
        scene(
            "the digest is pulled under its own tag",
            host,
            lambda hypeman: hypeman.pull(APP, "1", DUE),
            (APP, "1"),
            must_succeed=True,
        )
        for host in hosts
    ]
    elsewhere = [
        scene(
            "the digest is pulled under another repository",
            host,
            lambda hypeman: hypeman.pull(CI, "mine", DUE),
            (CI, "mine"),
            must_succeed=True,
        )
        for host in (shared, older, promoted)
    ]
    with_keys = [
        scene(
            "the digest is pulled with keys of the caller",
            host,
            lambda hypeman: hypeman.pull(APP, "mine", DUE, tags=("team",)),
            (APP, "mine"),
        )
        for host in (shared, older, promoted)
    ]
    moved = [
        scene(
            "a pull moves the tag to an image that is here",
            host,
            lambda hypeman: hypeman.pull(APP, "1", OTHER),
            (APP, "1"),
            must_succeed=True,
        )
        for host in (shared, single, older)
    ]
    moved_to_new = [
        scene(
            "a pull moves the tag to a new image",
            host,
            lambda hypeman: hypeman.pull(APP, "1", NEW),
            (APP, "1"),
            must_succeed=True,
        )
        for host in (single, promoted)
    ]
    rolled_back = [
        scene(
            "an older server pulls the digest",
            host,
            lambda hypeman: hypeman.pull_as_older_server(APP, "1", DUE),
            (APP, "1"),
        )
        for host in (single, promoted)
    ]
    return again + elsewhere + with_keys + moved + moved_to_new + rolled_back


def tags() -> list[Scene]:
    inside = [
        scene(
            "another tag is set in the repository",
            host,
            lambda hypeman: hypeman.tag(APP, "1", APP, "mine"),
            (APP, "mine"),
        )
        for host in (shared, older, promoted, twice)
    ]
    across = [
        scene(
            "a tag is set in another repository",
            host,
            lambda hypeman: hypeman.tag(APP, "1", CI, "mine"),
            (CI, "mine"),
            (APP, "1"),
        )
        for host in (shared, older, promoted, twice)
    ]
    moved = [
        scene(
            "a tag is moved to another image",
            host,
            lambda hypeman: hypeman.tag(APP, "keep", APP, "1"),
            (APP, "1"),
            (APP, f"sha256:{DUE}"),
        )
        for host in (shared, single, older)
    ]
    return inside + across + moved


def promotions() -> list[Scene]:
    return [
        scene(
            f"a server {'of August ' if is_august else ''}promotes the image",
            older,
            lambda hypeman, is_august=is_august: hypeman.promote(APP, DUE, is_august=is_august),
            (APP, "1"),
        )
        for is_august in (False, True)
    ]


def deletions() -> list[Scene]:
    return [
        scene(
            "hypeman deletes the digest of a repository",
            host,
            lambda hypeman: hypeman.delete(APP, DUE),
            (APP, "1"),
            (APP, f"sha256:{DUE}"),
        )
        for host in (shared, single, older, promoted, promoted_and_shared, twice)
    ]


SCENES = [*creations(), *pulls(), *tags(), *promotions(), *deletions()]


def describe(played_scene: Scene, meeting: Meeting) -> str:
    return f"{played_scene.name}: {meeting}"


def meetings_of(span: Span, wanted: str, rng: random.Random) -> list[Meeting]:
    return span.meetings(10**9 if wanted == "all" else int(wanted), rng)


@pytest.mark.parametrize("met", SCENES, ids=lambda one: one.name)
def test_no_step_of_hypeman_takes_an_image_away_or_leaves_half_of_one(met: Scene) -> None:
    span = span_of(met)
    rng = random.Random(f"meetings of {met.name}")
    broken = {}
    for meeting in meetings_of(span, MEETINGS, rng):
        played = play(met, meeting, begin=span.begin)
        if played.faults:
            broken[meeting] = played.faults, played.outcome
    assert broken == {}


@pytest.mark.parametrize("met", SCENES, ids=lambda one: one.name)
def test_killed_among_them_hmret_puts_everything_right_when_it_starts(met: Scene) -> None:
    pass
