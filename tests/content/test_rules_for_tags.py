"""Images with several tags, and images made in the future, under rules and among the newest, in both layouts."""

from datetime import timedelta
from typing import Any

import pytest

from hmret import Reason, Rule
from support.builders import digest
from support.content_trees import Host

APP = "ghcr.io/acme/app"
D, E, F = digest("d"), digest("e"), digest("f")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)

pytestmark = pytest.mark.anyio


def make_image(host: Host, layout: str, letters: str, *tags: str, days: int = 2, age_days: int = 60) -> None:
    """Make an image of `APP` that has been unused for so many days, with these tags."""
    host.age = timedelta(days=age_days)
    if layout == "content":
        host.content(letters, name=f"{APP}@{digest(letters)}")
    else:
        host.legacy(APP, letters)
    for tag in tags:
        (host.link if layout == "content" else host.legacy_link)(APP, tag, letters)
    host.state(APP, letters, timedelta(days=days))


PULL_REQUESTS = Rule(match=("*",), tags=("pr-*",), unused_for=timedelta(days=1))
RELEASES = Rule(match=("*",), tags=("v*",), unused_for="never")


@pytest.mark.parametrize("rules", [(PULL_REQUESTS, RELEASES), (RELEASES, PULL_REQUESTS)])
async def test_a_promoted_build_stays_as_long_as_its_release_says_whichever_rule_stands_first(
    host: Host, layout: str, rules: tuple[Rule, ...]
) -> None:
    make_image(host, layout, "d", "pr-7", "v2.0")
    make_image(host, layout, "e", "pr-8")
    swept = await host.sweep(rules=rules)
    assert swept.reasons == {(APP, D): Reason.KEPT_BY_RULE, (APP, E): Reason.EXPIRED}
    assert swept.deleted == [(APP, E)]


async def test_a_tag_that_no_rule_names_keeps_an_image_for_the_usual_window(host: Host, layout: str) -> None:
    make_image(host, layout, "d", "pr-7", "prod")
    swept = await host.sweep(rules=(PULL_REQUESTS,))
    assert swept.reasons == {(APP, D): Reason.RETENTION_WINDOW}


async def test_a_promotion_between_two_sweeps_counts_at_once(host: Host, layout: str) -> None:
    make_image(host, layout, "d", "pr-7", days=0)
    rules: dict[str, Any] = {"rules": (PULL_REQUESTS, RELEASES)}
    assert (await host.sweep(**rules)).reasons == {(APP, D): Reason.RETENTION_WINDOW}
    host.state(APP, "d", 2 * DAY)
    (host.hypeman.link if layout == "content" else host.hypeman.legacy_link)(APP, "v2.0", "d")
    assert (await host.sweep(**rules)).reasons == {(APP, D): Reason.KEPT_BY_RULE}


async def test_what_was_made_in_the_future_stays_beside_the_newest_and_not_in_its_place(
    host: Host, layout: str
) -> None:
    make_image(host, layout, "d", "v3", days=40, age_days=-1500)
    make_image(host, layout, "e", "v2", days=40, age_days=70)
    make_image(host, layout, "f", "v1", days=40, age_days=80)
    swept = await host.sweep(keep_latest=1)
    assert swept.reasons == {(APP, D): Reason.LATEST, (APP, E): Reason.LATEST, (APP, F): Reason.EXPIRED}
    assert swept.deleted == [(APP, F)]


async def test_so_it_is_among_the_newest_of_a_rule(host: Host, layout: str) -> None:
    make_image(host, layout, "d", "v3", days=40, age_days=-1)
    make_image(host, layout, "e", "v2", days=40, age_days=70)
    make_image(host, layout, "f", "v1", days=40, age_days=80)
    swept = await host.sweep(rules=(Rule(match=("*",), tags=("v*",), keep_latest=1),))
    assert swept.deleted == [(APP, F)]
