"""What a sweep must not take away, told by how hypeman itself reads a random directory before and after it.

This knows nothing of rows, units or timers, only that whatever an instance could be made from can be afterwards, but for
what the sweep says it has deleted; and that whatever an instance or a snapshot refers to leads where it led.
"""

import pathlib
from collections.abc import Iterable, Iterator

import pytest

import hmret
from hmret.engine.opening import open_engine
from support import naive
from support.bounds import bound
from support.host_disk import RealDisk
from support.hypeman_lookup import Reading
from support.mixed_engine import NOW, WINDOW, clock_at, config_of, settings_for, surroundings_of
from support.mixed_reading import lies_behind_a_link
from support.mixed_trees import build_mixed_tree

pytestmark = pytest.mark.anyio

TREES, PER_GROUP = bound(20, 1000), 10
BACKENDS = ("asyncio", "trio")
Called = tuple[str, str]
"""A repository, and a tag or a digest."""


def reading_of(root: pathlib.Path) -> Reading:
    return Reading(RealDisk(root).tree())


def everything(root: pathlib.Path, reading: Reading) -> Iterator[Called]:
    """List all by which an image can be called now: each tag, and each digest in each repository."""
    images = root / "images"
    digests = sorted({path.name for path in images.rglob("*") if naive.is_hex(path.name)})
    called = {(repository, tag) for digits in digests for repository, tag in reading.tags_to(digits)}
    repositories = {repository for repository, _ in called} | {"docker.io/library/elsewhere"}
    repositories |= {
        path.parent.relative_to(images).as_posix()
        for path in images.rglob("*")
        if naive.is_hex(path.name) and naive.is_repository(path.parent.relative_to(images).as_posix())
    }
    called |= {(repository, f"sha256:{digits}") for repository in repositories for digits in digests}
    for repository, tag in sorted(called):
        # A tag that is a folder of another repository's there is told otherwise.
        if not any(lies_behind_a_link(top, repository) for top in (images, images / "repositories")):
            yield repository, tag


def texts_of(root: pathlib.Path) -> Iterator[Called]:
    """List what instances and snapshots refer to."""
    references, _ = naive.read_references(root)
    for reference in references:
        for text in reference.images + reference.resolved:
            repository, tag, digest = naive.parse(text) or ("", None, None)
            yield repository, digest or tag or ""


def check_promises(
    root: pathlib.Path, before: Reading, callable_before: Iterable[Called], report: hmret.SweepReport
) -> int:
    """Compare how a directory reads now with how it did; returns by how many names an image booted that has gone.

    `callable_before`: all by which an image could be called before; what has gone is in no listing of now.
    """
    after = reading_of(root)
    deleted = {(one.repository, one.digest) for one in report.deleted}
    contents = {digest for _, digest in deleted}
    gone = 0
    for repository, called in callable_before:
        found = before.resolve(repository, called)
        if found is None or not before.boots(repository, called):
            continue
        digest = f"sha256:{found.hexadecimal}"
        if not after.boots(repository, called):
            # Content goes for every repository at once; a folder of its own for that repository alone.
            assert digest in contents if found.is_content else (repository, digest) in deleted, called
            gone += 1
        now = after.resolve(repository, called)
        assert now is None or now.hexadecimal == found.hexadecimal, called
    for repository, called in texts_of(root):
        if not any(lies_behind_a_link(root / top, repository) for top in ("images", "images/repositories")):
            assert after.resolve(repository, called) == before.resolve(repository, called), called
    bogus = {*after.folders_of_images()} - {*before.folders_of_images()}
    assert not bogus
    return gone


@pytest.mark.parametrize(
    ("first", "anyio_backend"),
    [(first, BACKENDS[first // PER_GROUP % 2]) for first in range(0, TREES, PER_GROUP)],
)
async def test_what_boots_before_a_sweep_boots_after_it_but_for_what_the_sweep_says_it_deleted(
    tmp_path: pathlib.Path, first: int
) -> None:
    gone = 0
    for seed in range(first, first + PER_GROUP):
        root = tmp_path / f"seed-{seed}"
        build_mixed_tree(root, seed, NOW, unused_for=WINDOW)
        before = reading_of(root)
        callable_before = tuple(everything(root, before))
        config = config_of(root, settings_for(seed))
        async with open_engine(config, surroundings_of(clock_at(NOW)), scheduled=False) as retention:
            gone += check_promises(root, before, callable_before, await retention.sweep())
    assert gone
