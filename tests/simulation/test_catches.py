"""The simulation can fail: each safety check, taken out, breaks a promise within a few seeds."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from unittest import mock

import msgspec
import pytest

from hmret.actors.deleter import Deleter
from hmret.actors.locks import Claimed, ClaimImages, Locks
from hmret.actors.reference_collector import Protected, ReferenceCollector
from hmret.disk.data_dir import DataDir
from hmret.disk.deletion import cleaning
from hmret.disk.deletion.cleaning import Cleaning
from hmret.disk.deletion.open_image import OpenImage
from hmret.disk.deletion.recovery.recovering import Recovery
from hmret.engine.suspensions import Suspensions
from hmret.engine.sweep.execution import NewSettings
from hmret.engine.watch import folders as folder_watch
from hmret.model.images import Image
from hmret.model.plan.expiry import Expiry
from hmret.model.references import Key
from simulation.chronicle import Breach
from simulation.run import run_seed
from support.bounds import IS_WHOLE

MOST_SEEDS = 300
"""Most breakages are caught within seventy; this is the bound after which the simulation counts as blind."""


def nothing_is_looked_at_again() -> AbstractContextManager[object]:
    async def recheck(_self: ReferenceCollector, _keys: Iterable[Key], *_others: object) -> Protected:
        return Protected(frozenset(), ())

    return mock.patch.object(ReferenceCollector, "recheck", recheck)


def no_lease_is_taken() -> AbstractContextManager[object]:
    return mock.patch.object(OpenImage, "lease", return_value=True)


def a_broken_lease_is_not_noticed() -> AbstractContextManager[object]:
    return mock.patch.object(OpenImage, "came_between", return_value=False)


def images_in_use_are_claimed() -> AbstractContextManager[object]:
    async def claim(_self: Locks, request: ClaimImages) -> None:
        request.reply.give(Claimed(request.digests))
        await request.ended.wait()

    return mock.patch.object(Locks, "_claim", claim)


@contextmanager
def nothing_suspends() -> Iterator[None]:
    with ExitStack() as stack:
        for method in ("of_survey", "of_references"):
            stack.enter_context(mock.patch.object(Suspensions, method, return_value=[]))
        yield


def a_volume_that_is_away_is_not_missed() -> AbstractContextManager[object]:
    return mock.patch.object(folder_watch, "find_lost", return_value=())


def a_folder_that_was_moved_aside_is_swept() -> AbstractContextManager[object]:
    return mock.patch.object(DataDir, "check", return_value=None)


def a_reload_waits_for_the_end_of_the_sweep() -> AbstractContextManager[object]:
    return mock.patch.object(NewSettings, "are_waiting", new=False)


@contextmanager
def the_timer_of_a_retired_image_counts_for_a_fresh_pull() -> Iterator[None]:
    """Take out both checks: the state goes with its image, and one that is older than its image does not count."""
    unused_since = Expiry.unused_since

    def of_any_age(self: Expiry, image: Image) -> int | None:
        return unused_since(self, msgspec.structs.replace(image, created_ns=None))

    with (
        mock.patch.object(Cleaning, "_remove_state", return_value=None),
        mock.patch.object(Expiry, "unused_since", of_any_age),
    ):
        yield


def a_fresh_pull_loses_its_tags() -> AbstractContextManager[object]:
    return mock.patch.object(cleaning, "is_here", return_value=lambda _repository: False)


def what_was_cut_off_is_left_alone() -> AbstractContextManager[object]:
    return mock.patch.object(Deleter, "_recover", return_value=Recovery((), {}, (), 0, ()))


ERRORS = re.compile("a sweep failed though nothing did|the engine ended with")
"""Begin promises that are broken by any error."""

BREAKAGES: tuple[Callable[[], AbstractContextManager[object]], ...] = (
    nothing_suspends,
    a_volume_that_is_away_is_not_missed,
    a_folder_that_was_moved_aside_is_swept,
)
RARE: tuple[Callable[[], AbstractContextManager[object]], ...] = (
    nothing_is_looked_at_again,
    no_lease_is_taken,
    what_was_cut_off_is_left_alone,
    a_broken_lease_is_not_noticed,
    images_in_use_are_claimed,
    a_reload_waits_for_the_end_of_the_sweep,
    the_timer_of_a_retired_image_counts_for_a_fresh_pull,
    a_fresh_pull_loses_its_tags,
)
"""What only one seed in some dozens catches: minutes, which `make prove` takes."""


@pytest.mark.parametrize("breakage", BREAKAGES + RARE * IS_WHOLE, ids=lambda breakage: breakage.__name__)
def test_a_missing_check_is_caught(breakage: Callable[[], AbstractContextManager[object]]) -> None:
    with breakage(), pytest.raises(Breach, match="seed") as breach:
        run_seeds(MOST_SEEDS)
    # One that raises an error of its own has taken nothing out.
    assert not ERRORS.search(str(breach.value))


def run_seeds(end: int) -> None:
    for seed in range(end):
        run_seed(seed)
