"""The time-lapse of a host: what its model promises, and that the page shows what it has found."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from studies.candidates import CANDIDATES, Candidate
from studies.model_host import Host
from studies.timelapse import Hardware, compare, run
from studies.timelapse_plot import draw
from studies.timelapse_table import hit_rate, put_into_page, show, tabulate
from studies.vm_stream import CI, DAY, GIB, HOUR, Creation, Shape, catalogue, creations

from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.verdicts import Reason
from hmret.settings.load import load_settings
from support.builders import digest
from support.children import run_program

ROOT = Path(__file__).parent.parent
STORED = json.loads((ROOT / "docs" / "timelapse.json").read_text(encoding="utf-8"))
SMALL = Shape(days=6, warm_up_days=0, repositories=60, creations_a_day=100)
LARGE_DISK = Hardware()
SMALL_DISK = Hardware(disk_gib=280)
MINUTE = HOUR // 60


@pytest.fixture(scope="module")
def stream() -> Sequence[Creation]:
    return list(creations(SMALL, 1))


def test_the_same_seed_gives_the_same_numbers() -> None:
    shape = attrs.evolve(SMALL, days=3, warm_up_days=1)
    once, again = (compare(["1 d", "85/80 %"], [3, 4], shape, SMALL_DISK) for _ in range(2))
    assert json.dumps(once) == json.dumps(again)
    first, second = once["policies"][0]["runs"]
    assert first != second


def test_two_processes_find_what_one_finds() -> None:
    shape = attrs.evolve(SMALL, days=2)
    names = ["1 d", "on this disk"]
    assert compare(names, [1], shape, SMALL_DISK, jobs=2) == compare(names, [1], shape, SMALL_DISK)


# The stream.


def test_creations_come_in_order_and_about_as_many_as_asked_for(stream: Sequence[Creation]) -> None:
    assert [one.number for one in stream] == list(range(1, len(stream) + 1))
    assert all(one.at <= other.at for one, other in pairwise(stream))
    assert stream[0].at >= 0
    assert stream[-1].at < SMALL.end
    whole_weeks = list(creations(attrs.evolve(SMALL, days=28), 1))
    assert len(whole_weeks) == pytest.approx(28 * 100, rel=0.1)


def test_a_digest_is_one_image(stream: Sequence[Creation]) -> None:
    known = {one.digest: (one.repository, one.image_bytes) for one in stream}
    assert all(known[one.digest] == (one.repository, one.image_bytes) for one in stream)


def test_the_more_popular_a_repository_the_more_often_it_is_asked_for() -> None:
    shape = attrs.evolve(SMALL, days=28, passing=0.0)
    asked = [one.repository for one in creations(shape, 1)]
    counts = [asked.count(publisher.name) for publisher in catalogue(shape, 1)]
    harmonic = sum(1 / rank for rank in range(1, shape.repositories + 1))
    for rank in (1, 2, 4, 8):
        assert counts[rank - 1] == pytest.approx(len(asked) / harmonic / rank, rel=0.25)


def test_latest_moves_on_and_a_pinned_tag_is_an_older_version() -> None:
    publishers = catalogue(SMALL, 1)
    noisy = next(publisher for publisher in publishers if publisher.name.startswith(CI))
    assert noisy.latest(6 * DAY) - noisy.latest(0) > 20
    pinned = [publisher for publisher in publishers if publisher.pins_every]
    assert all(publisher.pinned(at) <= publisher.latest(at) for publisher in pinned for at in (0, 3 * DAY))
    assert any(publisher.pinned(DAY) < publisher.latest(DAY) for publisher in pinned)


# The host.


def settings(days: int, **limits: float) -> RetentionConfig:
    """Make a policy for a small cache: a window of days, and limits of the disk."""
    auto_delete = AutoDelete(enabled=True, unused_for=timedelta(days=days), allowed=("*",))
    return RetentionConfig(auto_delete=auto_delete, disk=DiskLimits(**limits))  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    "config",
    [
        settings(1),
        settings(999, max_used=60 * GIB),
        settings(999, high_watermark=0.5),
        settings(2, high_watermark=0.55),
    ],
)
def test_nothing_goes_that_a_vm_uses(config: RetentionConfig, stream: Sequence[Creation]) -> None:
    candidate = Candidate("", "both", config)
    host = run(candidate, stream, SMALL, attrs.evolve(LARGE_DISK, disk_gib=450))
    # Each creation became a VM.
    assert not host.ledger.refused
    assert len(host.departures) > 20
    lives = [(one.digest, one.at, one.at + one.life) for one in stream]
    for gone in host.departures:
        used = [life for life in lives if life[0] == gone.key[1] and life[1] <= gone.at < life[2]]
        assert used == []


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_figures_agree_with_one_another(name: str, stream: Sequence[Creation]) -> None:
    ledger = run(CANDIDATES[name], stream, SMALL, SMALL_DISK).ledger
    assert ledger.creations == len(stream)
    assert ledger.hits + ledger.misses == ledger.creations
    assert ledger.passed_ns == SMALL.days * DAY
    assert 0 < ledger.mean_bytes <= ledger.largest_bytes
    assert ledger.pulled_again_bytes <= ledger.pulled_bytes
    assert ledger.deleted_early <= ledger.deletions
    if not CANDIDATES[name].is_boundless:
        assert ledger.largest_bytes <= (SMALL_DISK.disk_gib - SMALL_DISK.base_gib) * GIB


def test_a_full_disk_refuses_creations_and_is_never_more_than_full(stream: Sequence[Creation]) -> None:
    host = run(CANDIDATES["on this disk"], stream, SMALL, SMALL_DISK)
    assert host.ledger.refused
    assert host.used_bytes <= host.capacity
    assert not host.departures


def test_nothing_deleted_on_a_disk_without_end_is_pulled_once(stream: Sequence[Creation]) -> None:
    ledger = run(CANDIDATES["on a disk without end"], stream, SMALL, LARGE_DISK).ledger
    sizes = {one.digest: one.image_bytes for one in stream}
    assert ledger.misses == len(sizes)
    assert ledger.pulled_bytes == ledger.largest_bytes == sum(sizes.values())
    assert (ledger.refused, ledger.pulled_again_bytes) == (0, 0)


def test_what_happens_while_it_warms_up_is_not_counted() -> None:
    shape = attrs.evolve(SMALL, days=2, warm_up_days=3)
    stream = list(creations(shape, 1))
    ledger = run(CANDIDATES["1 d"], stream, shape, LARGE_DISK).ledger
    assert ledger.creations == sum(one.at >= shape.warm_up for one in stream)
    assert ledger.passed_ns == 2 * DAY


def vm(at: int, *, image: str = "a", life: int = HOUR, gib: int = 10) -> Creation:
    return Creation(at, at, "docker.io/acme/app", f"v{image}", digest(image), gib * GIB, life, 0)


def lived(name: str, *stream: Creation, disk_gib: int = 1000) -> Host:
    host = Host(CANDIDATES[name].config, disk_gib * GIB, 0, 10 * MINUTE, 0.85)
    host.live(stream, 0, stream[-1].at + DAY)
    return host


def test_a_window_begins_when_the_last_vm_ends() -> None:
    """That it has ended is found by the next sweep."""
    life, found = 55 * MINUTE, HOUR
    assert lived("1 d", vm(0, life=life), vm(found + DAY - 1)).ledger.hits == 1
    assert lived("1 d", vm(0, life=life), vm(found + DAY)).ledger.hits == 0


def test_a_use_that_no_sweep_sees_begins_a_window_anew() -> None:
    uses = [vm(number * 20 * HOUR + MINUTE, life=5 * MINUTE) for number in range(5)]
    assert lived("1 d", *uses).ledger.hits == 4


def test_a_mark_that_is_out_of_reach_is_not_tried_at_every_sweep() -> None:
    stream = [attrs.evolve(vm(0, life=2 * DAY), vm_disk_bytes=900 * GIB), vm(MINUTE, image="b")]
    ledger = lived("85/80 %", *stream).ledger
    assert 144 < ledger.sweeps < 150
    assert ledger.deletions == 1
    # After 10 minutes, then 20, 40 and so on, up to 6 hours.
    assert 7 <= ledger.fell_short <= 9


def test_above_its_cap_the_cache_gives_up_what_was_unused_for_the_longest() -> None:
    stream = [vm(number * 6 * HOUR, image=image, gib=200) for number, image in enumerate("abcd")]
    host = lived("500 GiB", *stream)
    assert [gone.key[1] for gone in host.departures] == [digest("a"), digest("b")]
    assert host.ledger.deleted_early == 2
    assert host.cache_bytes == 400 * GIB
    assert host.ledger.largest_bytes == 600 * GIB


def test_above_the_high_mark_a_sweep_does_not_wait_for_its_turn() -> None:
    # 800 of 1000 GiB are near the mark of 850: from there on the disk is looked at between sweeps.
    stream = [
        vm(0, image="a", gib=400),
        vm(6 * HOUR, image="b", gib=410),
        vm(12 * HOUR + MINUTE, image="c", gib=100),
    ]
    host = lived("85/80 %", *stream)
    assert [(gone.at, gone.key[1]) for gone in host.departures] == [(12 * HOUR + MINUTE, digest("a"))]
    assert host.ledger.above_mark_ns == 0


# What it shows.


def document(seeds: int = 2) -> Mapping[str, Any]:
    shape = attrs.evolve(SMALL, days=2)
    return compare(["1 d", "500 GiB", "on a disk without end"], range(1, seeds + 1), shape, SMALL_DISK)


def test_the_table_has_mean_lowest_and_highest_of_all_seeds() -> None:
    found = document()
    table = tabulate(found)
    low, high = sorted(hit_rate(figures) for figures in found["policies"][0]["runs"])
    assert f"{(low + high) / 2:.1f} ({low:.1f} to {high:.1f})" in table.splitlines()[2]
    assert len(table.splitlines()) == 5


def test_the_table_goes_where_the_page_has_its_place() -> None:
    found = document(1)
    page = "before\n<!-- timelapse: begin -->\nold\n<!-- timelapse: end -->\nafter\n"
    put = put_into_page(page, found)
    assert put == page.replace("old\n", show(found))
    assert put_into_page(put, found) == put
    with pytest.raises(SystemExit, match="no place"):
        put_into_page("no table", found)


def test_the_picture_has_a_mark_and_a_name_for_each_policy() -> None:
    picture = draw(document())
    assert picture.count("<circle") == 2  # one of them in the legend
    assert ">500 GiB</text>" in picture
    assert "nothing ever deleted" in picture


def program(*arguments: str | Path) -> str:
    """Run the program; returns what it prints."""
    command = [sys.executable, str(ROOT / "studies" / "timelapse.py"), *map(str, arguments)]
    return run_program(command, check=True).stdout


def test_the_program_shows_what_is_stored() -> None:
    assert program("--stored", ROOT / "docs" / "timelapse.json") == show(STORED)


def test_the_program_runs(tmp_path: Path) -> None:
    few = [
        "--days",
        "1",
        "--warm-up",
        "0",
        "--runs",
        "1",
        "--jobs",
        "1",
        "--only",
        "1 d",
        "--only",
        "7 d + 85/80 %",
    ]
    printed = program(*few, "--json", tmp_path / "found.json", "--plot", tmp_path / "found.svg")
    found = json.loads((tmp_path / "found.json").read_text())
    assert printed == show(found)
    assert (tmp_path / "found.svg").read_text() == draw(found)
    assert [policy["name"] for policy in found["policies"]] == ["1 d", "7 d + 85/80 %"]


# The page.

PAGE = (ROOT / "docs" / "POLICY.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return what stands below a heading of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_page_shows_what_is_stored() -> None:
    assert put_into_page(PAGE, STORED) == PAGE


def test_the_picture_of_the_page_shows_what_is_stored() -> None:
    assert (ROOT / "docs" / "timelapse.svg").read_text(encoding="utf-8") == draw(STORED)
    assert "](timelapse.svg)" in PAGE


def test_what_is_stored_is_of_the_policies_and_the_host_of_today() -> None:
    stored = {policy["name"]: policy["kind"] for policy in STORED["policies"]}
    assert stored == {name: candidate.kind for name, candidate in CANDIDATES.items()}
    assert STORED["shape"] == attrs.asdict(Shape())
    assert STORED["host"] == attrs.asdict(Hardware())
    assert {len(policy["runs"]) for policy in STORED["policies"]} == {len(STORED["seeds"])}


def test_every_figure_that_the_page_draws_on_is_in_its_table() -> None:
    lessons = section("What can be learned from it")
    figures = set(re.findall(r"\d+(?:\.\d+)?", show(STORED)))
    drawn_on = re.findall(r"\d+(?:\.\d+)?", lessons)
    assert drawn_on
    assert [figure for figure in drawn_on if figure not in figures] == []


@pytest.mark.parametrize("reason", Reason)
def test_the_page_explains_every_reason_that_a_rule_gives(reason: Reason) -> None:
    # What is not up to a rule stands in the page of reasons alone.
    given = set(Reason) - {
        *(Reason.NOT_READY, Reason.BROKEN, Reason.REFERENCED, Reason.LEASED, Reason.PINNED),
        *(Reason.NOT_ALLOWED, Reason.NEWLY_UNUSED, Reason.SUSPENDED, Reason.BACKOFF, Reason.OPEN),
    }
    assert (f"`{reason.value}`" in section("The rules, one by one")) == (reason in given)


def test_the_policy_to_begin_with_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "images").mkdir()
    (tmp_path / "config.yaml").write_text(f"data_dir: {tmp_path}\n{example}")
    settings = load_settings(
        config_file=str(tmp_path / "config.yaml"), environment={}, flags={}, default_files=()
    )
    assert settings.warnings == ()
    assert settings.config.disk.is_set


def test_what_the_page_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_metrics_events_and_keys_of_the_page_are_those_of_the_engine() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = re.findall(r"(?:log|metric) `(\w+)`", PAGE)
    assert len(named) == 2
    assert [name for name in named if f'"{name}"' not in source] == []
    keys = set(re.findall(r"`(hmret\.\w+(?:\.\w+)?|images\.auto_delete\.\w+)`", PAGE))
    known = load_settings(config_file=None, environment={}, flags={}, default_files=()).values
    sections = {key.rpartition(".")[0] for key in known}
    assert keys - set(known) - sections == set()
