"""What an operator wants of a sweep, and what is to come of it, as the plain implementation tells it."""

import pathlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from support.mixed_references import Memory
from support.naive import Key

__all__ = ["Outcome", "Rule", "Settings", "Verdict"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the operator says of some images; the first rule that matches counts."""

    match: tuple[str, ...]
    tags: tuple[str, ...] = ()
    unused_for: timedelta | Literal["never"] | None = None
    keep_latest: int | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator wants."""

    unused_for: timedelta = timedelta(days=30)
    allowed: tuple[str, ...] = ("*",)
    pinned: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    keep_latest: int = 0
    min_age: timedelta = timedelta(0)
    max_deletes: int = 0
    """Units that one sweep deletes; 0: no limit."""
    delete_unpullable: bool = False
    unreadable: Literal["suspend", "ignore"] = "suspend"
    looks_inside: bool = True
    """Whether a plan knows what else lies in the folder of an image; else only the deletion comes upon it."""
    makes_room: bool = True
    """Whether what turns out not to go makes room for the next in the same sweep."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of one row."""

    action: str
    reason: str
    status: str
    tags: tuple[str, ...]
    size_bytes: int
    disk_bytes: int
    referenced_by: tuple[str, ...]
    shared_with: tuple[str, ...]
    held_by: tuple[tuple[str, str], ...]
    """Repository and reason of each row that keeps the content."""
    unused_since: int | None


@dataclass
class Outcome:
    """The verdicts, and what the sweep does and leaves."""

    verdicts: dict[Key, Verdict]
    suspended: set[str]
    unreadable: list[str]
    stale: set[tuple[str, str]]
    pruned: set[Key]
    marked: set[Key]
    cleared: set[Key]
    """Rows that have a state and should have none."""
    delete_bytes: int
    """Blocks that come free if all goes that is to go."""
    ready_images: int
    protected_images: int
    memory: Memory
    owners: set[Key]
    """Rows that stand for content."""
    deleted: set[Key] = field(default_factory=set)
    deleted_bytes: int = 0
    failed: int = 0
    """Units that nobody can tell to be unused."""
    removed: set[pathlib.Path] = field(default_factory=set)
    """Folders of digests, links, and the folders that this leaves empty in the older layout."""
    remade: set[pathlib.Path] = field(default_factory=set)
    """Links that are taken away and set again."""
    states: dict[Key, str] = field(default_factory=dict)
    """Left afterwards: `unused_since` as its file has it, or `now` where this sweep has written it."""
