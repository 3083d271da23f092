"""When the timers of a generated data directory were written: somebody looked at it lately, or nobody for long."""

import os
import pathlib
import random
from datetime import datetime, timedelta

from support import naive

__all__ = ["age_timers"]

LATELY, LONG_AGO = timedelta(minutes=5), timedelta(days=12)


def age_timers(root: pathlib.Path, seed: int, now: datetime) -> None:
    """Give the files of timers their ages; one tree in four has been without a controller for some days."""
    chance = random.Random(f"ages {seed}")
    newest = now - (LONG_AGO * chance.random() if seed % 4 == 3 else LATELY)
    paths = sorted(path for path in (root / "system/image-retention").rglob("*.json") if path.is_file())
    for place, path in enumerate(chance.sample(paths, len(paths))):
        written = newest - timedelta(days=60) * (chance.random() if place else 0)
        os.utime(path, ns=(naive.nanoseconds_since_epoch(written),) * 2)
