"""The policies that the time-lapse compares, each as the settings that an operator would write."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Literal

import attrs
from studies.vm_stream import CI, GIB

from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule

__all__ = ["CANDIDATES", "KINDS", "Candidate", "Kind"]

Kind = Literal["window", "disk", "both", "rules", "nothing"]

KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "window": "a window",
        "disk": "limits of the disk",
        "both": "both",
        "rules": "with rules",
        "nothing": "nothing deleted",
    }
)
"""What each kind is called in a table and a plot."""

# Where only the disk decides. `never` would keep what the disk needs as well.
_ALWAYS = timedelta(days=3650)


@attrs.frozen
class Candidate:
    """A policy to compare."""

    name: str
    kind: Kind
    config: RetentionConfig
    is_boundless: bool = False
    """Whether its disk has no end: what a cache could do at best."""


def _config(
    days: float | None,
    *,
    marks: tuple[float, float] | None = None,
    most_gib: int = 0,
    latest: int = 0,
    ci_hours: int = 0,
) -> RetentionConfig:
    high, low = marks or (0.0, None)
    rules = (Rule(match=(f"{CI}/*",), unused_for=timedelta(hours=ci_hours)),) if ci_hours else ()
    return RetentionConfig(
        auto_delete=AutoDelete(
            enabled=True, unused_for=timedelta(days=days) if days else _ALWAYS, allowed=("*",)
        ),
        disk=DiskLimits(high_watermark=high, low_watermark=low, max_used=most_gib * GIB),
        keep_latest=latest,
        rules=rules,
    )


def _candidates() -> Iterator[Candidate]:
    for days in (1, 3, 7, 14, 30):
        yield Candidate(f"{days} d", "window", _config(days))
    for high, low in ((85, 80), (75, 70), (75, 50)):
        yield Candidate(f"{high}/{low} %", "disk", _config(None, marks=(high / 100, low / 100)))
    for gib in (500, 1000, 1500):
        yield Candidate(f"{gib} GiB", "disk", _config(None, most_gib=gib))
    for days in (7, 30):
        yield Candidate(f"{days} d + 85/80 %", "both", _config(days, marks=(0.85, 0.8)))
    for days, gib in ((7, 1500), (30, 1000)):
        yield Candidate(f"{days} d + {gib} GiB", "both", _config(days, most_gib=gib))
    yield Candidate("1 d + latest 1", "rules", _config(1, latest=1))
    for days in (7, 14):
        yield Candidate(f"{days} d, CI 12 h", "rules", _config(days, ci_hours=12))
    yield Candidate("14 d, CI 12 h + 85/80 %", "rules", _config(14, ci_hours=12, marks=(0.85, 0.8)))
    yield Candidate("1000 GiB, CI 12 h", "rules", _config(None, ci_hours=12, most_gib=1000))
    yield Candidate("on this disk", "nothing", _config(None))
    yield Candidate("on a disk without end", "nothing", _config(None), is_boundless=True)


CANDIDATES: Mapping[str, Candidate] = MappingProxyType(
    {candidate.name: candidate for candidate in _candidates()}
)
"""By name, in the order of the table."""
