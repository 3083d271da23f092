"""What a person sees at a terminal, and what stays out of a pipe."""

import json
import os
import re
import sys
from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest

from cli.caches import Cache
from hmret.cli.commands import sweep as sweep_command
from hmret.cli.display import tables
from hmret.engine.retention import Retention
from hmret.engine.statistics import Statistics
from hmret.model.images import Cause, Suspension
from hmret.model.report import SweepReport, SweepStatus
from hmret.model.times import datetime_of
from support.children import child
from support.patience import PATIENCE, patiently
from support.terminals import open_terminal

Call = Callable[..., tuple[int, str, str]]

DUE = timedelta(days=31)


def at_terminal(*arguments: object, typed: str = "", columns: int = 132) -> tuple[int, str]:
    """Carry out a command with all three streams on a terminal, at which something has been typed ahead."""
    ours, theirs = open_terminal()
    os.write(ours, typed.encode())
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    environment.pop("NO_COLOR", None)
    seen = b""
    command = [sys.executable, "-m", "hmret", *map(str, arguments)]
    with child(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # what Linux says when the other side is closed
                break
            if not part:
                break
            seen += part
        process.wait(PATIENCE)
    os.close(ours)
    return process.returncode, seen.decode()


def test_a_plan_at_a_terminal_is_a_table_with_short_digests(cache: Cache) -> None:
    cache.image("ghcr.io/kernel/x", "a", "v1", unused=DUE)
    code, seen = at_terminal("plan", "--enable", "--allow", "*", "--data-dir", cache.root)
    assert code == 0
    assert "\x1b[31mdelete" in seen
    assert "─" in seen
    assert "sha256:" not in seen
    assert re.search(r"\baaaaaaaaaaaa +expired +8.0 KiB +v1 ", seen)
    assert not re.search(r"\d{2}:\d{2}:\d{2}Z +\d{4}-", seen)


def test_a_sweep_at_a_terminal_shows_its_progress_and_takes_it_away(cache: Cache) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    code, seen = at_terminal("sweep", "--yes", "--enable", "--allow", "*", "--data-dir", cache.root)
    assert code == 0
    assert "[y/N]" not in seen
    assert "images seen" in seen
    after = seen[seen.rindex("images seen") :]
    assert "\x1b[2K" in after
    assert "deleted ghcr.io/kernel/x@aaaaaaaaaaaa, 8.0 KiB" in after


@pytest.mark.parametrize(
    ("typed", "goes"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("\x04", False)]
)
def test_a_sweep_at_a_terminal_asks_before_it_deletes(cache: Cache, typed: str, goes: bool) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=DUE)
    cache.image("ghcr.io/kernel/y", "b", unused=timedelta(days=1))
    cache.image("quay.io/other/z", "c", unused=timedelta(days=1))
    flags = ["--enable", "--allow", "ghcr.io/*", "--data-dir", cache.root]
    code, seen = at_terminal("sweep", *flags, typed=typed)
    assert f"Delete 1 image, 8.0 KiB, in {cache.root}? [y/N] " in seen
    assert "1 timer would be stopped: 1 not_allowed (images.auto_delete.allowed)" in seen
    assert (code, cache.has("ghcr.io/kernel/x", "a")) == ((0, False) if goes else (1, True))
    assert ("nothing was done" in seen) is not goes
    assert cache.state_path("quay.io/other/z", "c").exists() is not goes


def test_a_sweep_at_a_terminal_asks_nothing_where_nothing_would_go(cache: Cache) -> None:
    cache.image("ghcr.io/kernel/x", "a", unused=timedelta(days=1))
    for flags in (["--enable", "--allow", "*"], ["--allow", "*"], ["--dry-run"]):
        code, seen = at_terminal("sweep", *flags, "--data-dir", cache.root)
        assert (code, "[y/N]" in seen) == (0, False)


def test_a_plan_at_80_columns_has_one_line_an_image_and_breaks_no_word(cache: Cache) -> None:
    long = "ghcr.io/kernel/a-rather-long-name/of-a-repository"
    cache.image(long, "a", "v1", "release-of-today", unused=DUE)
    cache.image("docker.io/library/alpine", "b", "3.20", unused=DUE)
    cache.image("quay.io/other/x", "c", unused=timedelta(days=2))
    code, seen = at_terminal("plan", "--enable", "--allow", "*.io/*/*", "--data-dir", cache.root, columns=80)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", seen).splitlines()
    assert code == 0
    titles, rule, *rows = lines[:4]
    assert titles.split() == ["ACTION", "REPOSITORY", "DIGEST", "REASON", "ON", "DISK"]
    assert set(rule) == {"\u2500"}
    assert [row.split()[:4] for row in rows] == [
        ["delete", "docker.io/library/alpine", "b" * 12, "expired"],
        ["delete", ".../a-rather-long-name/of-a-repository", "a" * 12, "expired"],
    ]
    assert max(map(len, (titles, rule, *rows))) <= 80


@pytest.mark.parametrize("command", ["plan", "images"])
@pytest.mark.parametrize("columns", [40, 132])
def test_a_wide_table_is_as_wide_as_it_needs_to_be(cache: Cache, command: str, columns: int) -> None:
    long = "ghcr.io/kernel/a-rather-long-name/of-a-repository"
    digest = cache.image(long, "a", "v1", "release-of-today", unused=DUE)
    flags = ["--enable", "--allow", "*", "--data-dir", cache.root, "-o", "wide"]
    code, seen = at_terminal(command, *flags, columns=columns)
    titles, _, row = re.sub(r"\x1b\[[0-9;]*m", "", seen).splitlines()[:3]
    assert code == 0
    assert "STATUS" in titles
    assert all(word in row for word in (long, digest, "release-of-today,v1", "8.0 KiB", "ready"))


def test_a_plan_at_40_columns_has_what_becomes_of_each_image_and_why(cache: Cache) -> None:
    cache.image("ghcr.io/kernel/x", "a", "v1", unused=DUE)
    cache.image("ghcr.io/kernel/y", "b")
    code, seen = at_terminal("plan", "--enable", "--allow", "*", "--data-dir", cache.root, columns=40)
    titles, _, *rows = re.sub(r"\x1b\[[0-9;]*m", "", seen).splitlines()
    assert (code, titles.split()) == (0, ["ACTION", "REPOSITORY"])
    assert rows[0].split() == ["delete", "ghcr.io/kernel/x"]
    code, seen = at_terminal("plan", "--enable", "--allow", "*/x", "--data-dir", cache.root, columns=40)
    titles, _, *rows = re.sub(r"\x1b\[[0-9;]*m", "", seen).splitlines()
    assert titles.split() == ["ACTION", "REPOSITORY", "REASON"]
    assert rows[0].split() == ["delete", "ghcr.io/kernel/x", "expired"]


def test_json_at_a_terminal_is_spread_and_without_progress(cache: Cache) -> None:
    code, seen = at_terminal("sweep", "--enable", "--allow", "*", "--data-dir", cache.root, "--json")
    assert code == 0
    assert "\x1b" not in seen
    assert seen.startswith('{\r\n  "status": "success",')
    assert json.loads(seen)["deleted"] == []


def test_settings_at_a_terminal_are_a_table(
    cache: Cache, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "is_terminal", lambda _: True)
    code, output, _ = call("check-config", "--data-dir", cache.root)
    assert code == 0
    assert "─" in output
    assert re.search(r"images\.auto_delete\.unused_for +720h +default", output)


class Sweeper:
    """Sweeps until its statistics have been looked at."""

    def __init__(self) -> None:
        self.looked = anyio.Event()

    def statistics(self) -> Statistics:
        self.looked.set()
        numbers = Statistics(
            sweeping=True,
            images_seen=7,
            sweeps=0,
            deleted_images=0,
            deleted_bytes=0,
            failed_deletes=0,
            last_report=None,
            leases_offered=None,
            waiting={},
        )
        assert isinstance(numbers, Statistics)
        return numbers

    async def sweep(self, *, release_brake: bool = False, stop_timers: bool = True) -> SweepReport:
        assert (release_brake, stop_timers) == (False, True)
        with patiently():
            await self.looked.wait()
        return SweepReport(status=SweepStatus.SUCCESS, started_at=datetime_of(0), duration_seconds=0.0)


def test_progress_tells_the_images_seen(
    backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def sweep() -> SweepReport:
        sweeper: Retention = Sweeper()  # type: ignore[assignment]  # the two calls that are made of it
        return await sweep_command.sweep_in_sight(sweeper, shown=True)

    monkeypatch.setattr(sweep_command, "is_terminal", lambda _: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    report = anyio.run(sweep, backend=backend)
    assert report.status is SweepStatus.SUCCESS
    output, complaints = capsys.readouterr()
    assert output == ""
    assert "7 images seen" in complaints


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (5_000_000_000, "4.7 GiB"),
        (1 << 70, "1024.0 EiB"),
    ],
)
def test_sizes_are_told_in_powers_of_1024(size_bytes: int, text: str) -> None:
    assert tables.format_size(size_bytes) == text


def test_a_cell_stays_one_line_and_a_column_aligned() -> None:
    told = tables.format_table([["a\nb", "1"], ["c", "22"]], right=[1])
    assert told == "a\\nb   1\nc     22"


def test_brackets_at_a_terminal_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "is_terminal", lambda _: True)
    assert "[red]:smile:" in tables.format_table([["[red]:smile:", "x"]])


def test_a_suspension_without_a_path_is_told_without() -> None:
    told = tables.format_suspension(Suspension(Cause.CLOCK_JUMP, "", "the clock moved; check the time"))
    assert told == "deletion is suspended: clock_jump: the clock moved; check the time"
