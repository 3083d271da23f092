"""What commands answer on two hosts, one of each layout, without an engine that runs, is what was recorded.

`HMRET_RECORD_OUTSIDE=1 pytest tests/outside` records it again.
"""

from datetime import timedelta
from pathlib import Path

import pytest

from outside.inner_parts import FakeClock
from outside.recorded import hold
from outside.recorded_hosts import RecordedHost
from outside.told import Told, set_to, timers_of

DAY = timedelta(days=1)


def test_commands_answer_without_an_engine_as_recorded(
    host: RecordedHost, layout: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(host)
    ask = told.command
    ask("check-config")
    for variable, value in (("MAX_DELETES_PER_SWEEP", "1"), ("WINDOW__HOURS", "02:00-05:00")):
        with set_to(monkeypatch, **{f"HMRET__{variable}": value}):
            ask(
                "plan",
                "--action",
                "delete",
                "--reason",
                "deferred",
                "--reason",
                "outside-window",
                name=f"plan with {variable}",
            )
    with set_to(monkeypatch, HMRET__BRAKE_FOR="1h", HMRET__BRAKE_MIN_IMAGES="1", HMRET__BRAKE="10%"):
        ask("explain", host.due, name="explain under the brake")
    with set_to(monkeypatch, HMRET__DISK__MAX_USED="1"):
        ask("explain", host.used, name="explain under pressure")
    ask("plan")
    ask("plan", "--at", (host.now + 40 * DAY).isoformat())
    ask("plan", "--detailed-exitcode", "--repository", host.repository)
    for image in host.explained:
        ask("explain", image)
    ask("explain", "nothing/here:1")
    ask("explain", "No Reference")
    ask("images")
    ask("du")
    ask("forecast")
    for command in ("status", "leases", "events"):
        ask(command)
    ask("lease", host.used)
    ask("unlease", "none")
    ask("mark-used", host.used)
    ask("mark-used", "nothing/here:1")
    ask("mark-used", host.used, "--digest", "sha256:short")
    ask("confirm")
    ask("confirm", "clock", "guests")
    ask("confirm", "elsewhere")
    ask("quarantine")
    ask("restore", host.due)
    with set_to(monkeypatch, HMRET__ENABLED="false"):
        ask("sweep", masked=("started_at",), name="sweep where disabled")
        ask("plan", "--repository", host.repository, name="plan where disabled")
    with set_to(monkeypatch, IMAGES__AUTO_DELETE__ALLOWED="nothing/here"):
        ask("sweep", name="sweep that would stop all timers")
    ask("sweep", "--dry-run")
    suspended(host, clock, told)
    quarantined(host, told, monkeypatch)
    ask("sweep", "--yes")
    timers = timers_of(host.root)
    ask("sweep", "--yes")
    lose_guests(host)
    ask("confirm", name="confirm what is gone for good")
    ask("sweep", "--yes", name="sweep without guests")
    hold(**{f"{layout}_commands": told.seen, f"{layout}_timers": timers})


def lose_guests(host: RecordedHost) -> Path:
    """Have another folder in the place of the guests'; returns where that is."""
    guests = host.root / "guests"
    elsewhere = guests.rename(host.root / "guests-elsewhere")
    guests.mkdir()
    return elsewhere


def suspended(host: RecordedHost, clock: FakeClock, told: Told) -> None:
    """Record what commands tell where deletion is suspended, for some causes."""

    def ask(cause: str, *commands: tuple[str, ...]) -> None:
        for command in commands:
            told.command(*command, name=f"{' '.join(command)}: {cause}")

    plan, sweep = ("plan", "--repository", host.repository), ("sweep", "--yes")
    guest = host.root / "guests/torn/metadata.json"
    guest.parent.mkdir()
    guest.write_text('{"Image": ')
    ask("unreadable_reference", plan, ("explain", host.due), sweep)
    guest.unlink()
    guest.parent.rmdir()
    elsewhere = lose_guests(host)
    ask("lost_references", plan, sweep, ("images", "--limit", "1"))
    (host.root / "guests").rmdir()
    elsewhere.rename(host.root / "guests")
    clock.wall_ns += 600 * 10**9
    ask("clock_jump", plan, sweep, ("confirm",), ("confirm", "clock"))


def quarantined(host: RecordedHost, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record what commands tell of an image that is held for a while after it was deleted."""
    with set_to(monkeypatch, HMRET__QUARANTINE="24h", HMRET__MAX_DELETES_PER_SWEEP="1"):
        told.command("sweep", "--yes", name="sweep into quarantine")
        told.command("quarantine", name="quarantine of one")
        (held,) = told.seen["quarantine of one"]["document"]["images"]
        told.command("restore", f"{held['repository']}@{held['digest']}")
        told.command("quarantine")
        told.command("restore", host.used)
