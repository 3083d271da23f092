"""The simulation can fail: each safety check, taken out, breaks a promise within a few seeds."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from unittest import mock

import pytest

from hmret.actors.deleter import Deleter, Recovery
from hmret.actors.locks import Claim, Claimed, Locks
from hmret.actors.reference_collector import Protected, ReferenceCollector
from hmret.disk.data_dir import DataDir
from hmret.disk.deletion import cleaning
from hmret.disk.deletion.cleaning import Cleaning
from hmret.disk.deletion.open_image import OpenImage
from hmret.engine import folder_watch
from hmret.engine.new_settings import NewSettings
from hmret.engine.overlook import Overlook
from hmret.model.images import Key
from simulation.chronicle import Breach
from simulation.run import run_seed

MOST_SEEDS = 150
"""Most breakages are caught within ten; this is the bound after which the simulation counts as blind."""


def nothing_is_looked_at_again() -> AbstractContextManager[object]:
    async def look_again(_self: ReferenceCollector, _keys: Iterable[Key]) -> Protected:
        return Protected(frozenset(), ())

    return mock.patch.object(ReferenceCollector, "look_again", look_again)


def no_lease_is_taken() -> AbstractContextManager[object]:
    return mock.patch.object(OpenImage, "lease", return_value=True)


def a_broken_lease_is_not_noticed() -> AbstractContextManager[object]:
    return mock.patch.object(OpenImage, "came_between", return_value=False)


def images_in_use_are_claimed() -> AbstractContextManager[object]:
    async def claim(_self: Locks, request: Claim) -> None:
        request.reply.give(Claimed(request.digests))
        await request.ended.wait()

    return mock.patch.object(Locks, "_claim", claim)


@contextmanager
def nothing_suspends() -> Iterator[None]:
    with ExitStack() as stack:
        for method in ("_suspensions", "reference_suspensions"):
            stack.enter_context(mock.patch.object(Overlook, method, return_value=[]))
        yield


def a_volume_that_is_away_is_not_missed() -> AbstractContextManager[object]:
    return mock.patch.object(folder_watch, "find_lost", return_value=())


def a_folder_that_was_moved_aside_is_swept() -> AbstractContextManager[object]:
    return mock.patch.object(DataDir, "check", return_value=None)


def a_reload_waits_for_the_end_of_the_sweep() -> AbstractContextManager[object]:
    return mock.patch.object(NewSettings, "are_waiting", new=False)


def the_state_of_a_retired_image_is_kept() -> AbstractContextManager[object]:
    return mock.patch.object(Cleaning, "_remove_state", return_value=None)


def a_fresh_pull_loses_its_tags() -> AbstractContextManager[object]:
    return mock.patch.object(cleaning, "is_here", return_value=lambda _repository: False)


def what_was_cut_off_is_left_alone() -> AbstractContextManager[object]:
    return mock.patch.object(Deleter, "_recover", return_value=Recovery((), {}, (), 0, ()))


BREAKAGES: tuple[Callable[[], AbstractContextManager[object]], ...] = (
    nothing_is_looked_at_again,
    no_lease_is_taken,
    a_broken_lease_is_not_noticed,
    images_in_use_are_claimed,
    nothing_suspends,
    a_volume_that_is_away_is_not_missed,
    a_folder_that_was_moved_aside_is_swept,
    a_reload_waits_for_the_end_of_the_sweep,
    the_state_of_a_retired_image_is_kept,
    a_fresh_pull_loses_its_tags,
    what_was_cut_off_is_left_alone,
)


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_a_missing_check_is_caught(breakage: Callable[[], AbstractContextManager[object]]) -> None:
    with breakage(), pytest.raises(Breach, match="seed"):
        run_seeds(MOST_SEEDS)


def run_seeds(end: int) -> None:
    for seed in range(end):
        run_seed(seed)
