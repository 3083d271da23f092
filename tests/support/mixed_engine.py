"""The engine as it is opened on a random data directory, and what its operator wants, by the seed of that."""

import pathlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import hmret
from hmret.engine.platform import Platform
from support import naive
from support.builders import FakeClock, GatedThreads
from support.locked_files import dated, with_locks
from support.mixed_values import Rule, Settings

__all__ = ["NOW", "WINDOW", "clock_at", "config_of", "settings_for", "surroundings_of"]

NOW = datetime(2031, 5, 1, tzinfo=UTC)
"""Long after any real clock, so that what is written now has been left alone for long."""
WINDOW = timedelta(days=30)

RULES: tuple[tuple[Rule, ...], ...] = (
    (),
    (),
    (Rule(match=("ghcr.io/*", "quay.io/*"), unused_for=timedelta(days=45)),),
    (
        Rule(match=("docker.io/*",), tags=("v*", "web"), unused_for="never"),
        Rule(match=("*",), tags=("latest", "2*"), keep_latest=1),
    ),
)

OVERLAPPING = (
    Rule(match=("*",), tags=("v*", "2*"), unused_for=timedelta(days=5), keep_latest=1),
    Rule(match=("docker.io/*",), tags=("latest", "3*"), unused_for=timedelta(days=90)),
    Rule(match=("docker.io/*", "ghcr.io/*"), unused_for=timedelta(days=10), keep_latest=0),
    Rule(match=("*",), tags=("web",), unused_for="never"),
)
"""Rules of which several hold for the tags of one image."""


def surroundings_of(clock: FakeClock, *, has_locks: bool = False) -> Platform:
    return Platform(
        filesystem=with_locks(clock) if has_locks else dated(clock),
        clock=clock,
        threads=GatedThreads(),
        monotonic_ns=lambda: 0,
    )


def clock_at(moment: datetime) -> FakeClock:
    return FakeClock(wall_ns=naive.nanoseconds_since_epoch(moment))


def settings_for(seed: int) -> Settings:
    chance = random.Random(f"settings {seed}")
    settings = Settings(
        unused_for=WINDOW,
        allowed=chance.choice((("*",), ("*",), ("*",), ("docker.io/*", "ghcr.io/*"))),
        pinned=chance.choice(((), (), ("*/web", "quay.io/*"))),
        rules=chance.choice(RULES),
        keep_latest=chance.choice((0, 0, 0, 1, 2)),
        min_age=chance.choice((timedelta(0), timedelta(0), timedelta(days=20))),
        max_deletes=chance.choice((0, 0, 1, 2)),
        delete_unpullable=chance.random() < 0.5,
        unreadable=chance.choice(("suspend", "suspend", "ignore")),
    )
    return replace(settings, rules=OVERLAPPING) if seed % 7 == 3 else settings


def config_of(root: pathlib.Path, settings: Settings) -> hmret.RetentionConfig:
    return hmret.RetentionConfig(
        data_dir=root,
        auto_delete=hmret.AutoDelete(enabled=True, unused_for=settings.unused_for, allowed=settings.allowed),
        pinned=settings.pinned,
        rules=[
            hmret.Rule(
                match=rule.match, tags=rule.tags, unused_for=rule.unused_for, keep_latest=rule.keep_latest
            )
            for rule in settings.rules
        ],
        keep_latest=settings.keep_latest,
        min_age=settings.min_age,
        max_deletes_per_sweep=settings.max_deletes,
        delete_unpullable=settings.delete_unpullable,
        unreadable_references=settings.unreadable,
        access_time="never",
    )
