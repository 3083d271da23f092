"""The scenes of the races: small hosts of both layouts, and everything that hypeman can be asked for on them."""

from collections.abc import Callable
from datetime import timedelta

import attrs

from support.builders import START
from support.hypeman_retention import sweep_as_hypeman
from support.hypeman_today import Call, Hypeman
from support.small_hosts import Reference, Scene, World

__all__ = [
    "APP",
    "BASE",
    "CI",
    "DUE",
    "NEW",
    "OTHER",
    "SCENES",
    "Host",
    "older",
    "promoted",
    "promoted_and_shared",
    "scene_of",
    "shared",
    "single",
    "twice",
    "untagged",
]

APP, BASE, CI = "docker.io/library/app", "ghcr.io/kernel/base", "registry.local:5000/ci"
DUE, OTHER, NEW = "a" * 64, "b" * 64, "c" * 64

_TAG, _DIGEST, _MINE = (APP, "1"), (APP, f"sha256:{DUE}"), (APP, "mine")

Host = Callable[[World], None]


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


UNITS: dict[Host, tuple[tuple[str, ...], ...]] = {
    shared: ((APP, BASE),),
    single: ((APP,),),
    untagged: ((APP,),),
    older: ((APP,),),
    promoted: ((APP,),),
    promoted_and_shared: ((APP, BASE),),
    twice: ((BASE,), (APP,)),
}


# What hypeman is asked for.


@attrs.frozen
class _Request:
    """A call of hypeman's, and the hosts that it is made on."""

    name: str
    call: Callable[[Hypeman], Call]
    hosts: tuple[Host, ...]
    touches: tuple[Reference, ...] = ()
    must_succeed_on: tuple[Host, ...] = ()
    """Where the call makes links below `repositories/` only, whose folders hmret does not remove at once."""


_REQUESTS = (
    _Request(
        "an instance is created by tag",
        lambda hypeman: hypeman.create("vm", APP, "1"),
        (shared, older, promoted, twice),
    ),
    _Request(
        "an older instance is created by digest through a repository that does not tag it",
        lambda hypeman: hypeman.create("vm", CI, f"sha256:{DUE}", has_resolved=False),
        (shared, untagged),
    ),
    _Request(
        "the digest is pulled under its own tag",
        lambda hypeman: hypeman.pull(APP, "1", DUE),
        (shared, untagged, older, promoted, promoted_and_shared, twice),
        (_TAG,),
        (shared, untagged, promoted, promoted_and_shared),
    ),
    _Request(
        "the digest is pulled under another repository",
        lambda hypeman: hypeman.pull(CI, "mine", DUE),
        (shared, older, promoted),
        ((CI, "mine"),),
        (shared, older, promoted),
    ),
    _Request(
        "the digest is pulled with keys of the caller",
        lambda hypeman: hypeman.pull(APP, "mine", DUE, tags=("team",)),
        (shared, older, promoted),
        (_MINE,),
    ),
    _Request(
        "a pull moves the tag to an image that is here",
        lambda hypeman: hypeman.pull(APP, "1", OTHER),
        (shared, single, older),
        (_TAG,),
        (shared, single, older),
    ),
    _Request(
        "a pull moves the tag to a new image",
        lambda hypeman: hypeman.pull(APP, "1", NEW),
        (single, promoted),
        (_TAG,),
        (single, promoted),
    ),
    _Request(
        "an older server pulls the digest",
        lambda hypeman: hypeman.pull_as_older_server(APP, "1", DUE),
        (single, promoted),
        (_TAG,),
    ),
    _Request(
        "another tag is set in the repository",
        lambda hypeman: hypeman.tag(APP, "1", APP, "mine"),
        (shared, older, promoted, twice),
        (_MINE,),
    ),
    _Request(
        "a tag is set in another repository",
        lambda hypeman: hypeman.tag(APP, "1", CI, "mine"),
        (shared, older, promoted, twice),
        ((CI, "mine"), _TAG),
    ),
    _Request(
        "the tag is moved to another image",
        lambda hypeman: hypeman.tag(APP, "keep", APP, "1"),
        (shared, single, older),
        (_TAG, _DIGEST),
    ),
    _Request(
        "the image is promoted",
        lambda hypeman: hypeman.promote(APP, DUE),
        (older,),
        (_TAG,),
    ),
    _Request(
        "a server of August promotes the image",
        lambda hypeman: hypeman.promote(APP, DUE, is_august=True),
        (older,),
        (_TAG,),
    ),
    _Request(
        "hypeman deletes the digest of a repository",
        lambda hypeman: hypeman.delete(APP, DUE),
        (shared, single, older, promoted, promoted_and_shared, twice),
        (_TAG, _DIGEST),
    ),
    _Request(
        "hypeman's own retention sweeps",
        lambda hypeman: sweep_as_hypeman(hypeman, START, timedelta(days=30), lambda repository: True),
        (shared, single, older, promoted),
        (_TAG, _DIGEST, (BASE, "prod"), (BASE, f"sha256:{DUE}")),
    ),
)


def _scene(request: _Request, host: Host) -> Scene:
    return Scene(
        name=f"{request.name}: {host.__name__}",
        build=host,
        call=request.call,
        due=DUE,
        units=UNITS[host],
        touches=frozenset(request.touches),
        must_succeed=host in request.must_succeed_on,
    )


SCENES = tuple(_scene(request, host) for request in _REQUESTS for host in request.hosts)


def scene_of(name: str, host: Host) -> Scene:
    """Make the scene of what hypeman is asked for, by its first words, on one of the hosts."""
    found = [request for request in _REQUESTS if request.name.startswith(name)]
    assert len(found) == 1, f"{name}: {[request.name for request in found]}"
    return _scene(found[0], host)
