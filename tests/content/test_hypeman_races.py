"""Each step of each of hypeman's calls meets each step of a deletion, on small hosts of both layouts.

Each scene plays some of its meetings, always the same ones, and a hundred where the whole is played; `HMRET_MEETINGS=500`
plays that many of each, and `HMRET_MEETINGS=all` every one.
"""

import os
import random
from collections.abc import Iterable

import attrs
import pytest

from support.bounds import bound
from support.meetings import End, Meeting, Span, play, span_of
from support.scenes import SCENES, older, promoted, scene_of, shared
from support.small_hosts import Scene

_MEETINGS = os.environ.get("HMRET_MEETINGS", "")

APART = tuple(
    attrs.evolve(scene_of(name, host), is_apart=True, must_succeed=False)
    for name, host in (
        ("an instance is created by tag", shared),
        ("the digest is pulled under its own tag", shared),
        ("the digest is pulled under its own tag", older),
        ("another tag is set in the repository", promoted),
        ("another tag is set in the repository", older),
        ("hypeman deletes the digest", shared),
    )
)
"""Scenes with hmret's trash on another file system."""


def drawn(span: Span, most: int, rng: random.Random) -> list[Meeting]:
    return span.meetings(10**9 if _MEETINGS == "all" else int(_MEETINGS or bound(most, 100)), rng)


def broken_in(scene: Scene, meetings: Iterable[Meeting]) -> dict[Meeting, list[str]]:
    """Play meetings; returns those in which something was broken."""
    played = {meeting: play(scene, meeting) for meeting in meetings}
    return {meeting: one.faults for meeting, one in played.items() if one.faults}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_whenever_hypeman_comes_nothing_is_lost_and_nothing_is_left(scene: Scene) -> None:
    span = span_of(scene)
    assert broken_in(scene, drawn(span, 4, random.Random(scene.name))) == {}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_whenever_hmret_is_killed_its_next_start_puts_everything_right(scene: Scene) -> None:
    span, rng = span_of(scene), random.Random(f"killed: {scene.name}")
    meetings = [
        attrs.evolve(meeting, end="killed", rest=rng.choice(("there", "before the start", "after the sweep")))
        for meeting in drawn(span, 3, rng)
    ]
    assert broken_in(scene, meetings) == {}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_whenever_the_power_is_lost_the_next_start_puts_everything_right(scene: Scene) -> None:
    span, rng = span_of(scene), random.Random(f"power lost: {scene.name}")
    meetings = [
        attrs.evolve(meeting, end="power lost", seed=rng.randrange(1000)) for meeting in drawn(span, 3, rng)
    ]
    assert broken_in(scene, meetings) == {}


@pytest.mark.parametrize("end", ["none", "killed", "power lost"])
@pytest.mark.parametrize("scene", APART, ids=lambda scene: scene.name)
def test_with_the_trash_on_another_file_system_hypeman_lists_nothing_that_is_no_image(
    scene: Scene, end: End
) -> None:
    span, rng = span_of(scene), random.Random(f"{end}, apart: {scene.name}")
    meetings = [attrs.evolve(meeting, end=end, seed=rng.randrange(1000)) for meeting in drawn(span, 3, rng)]
    assert broken_in(scene, meetings) == {}
