"""Inventories to plan on, made of a few words."""

from collections.abc import Mapping
from datetime import timedelta

from hmret.model.images import Image, Inventory, Repository
from hmret.model.policy.compiled import CompiledRule, Policy
from hmret.model.policy.patterns import compile_patterns
from hmret.model.references import Key, Reference
from hmret.model.times import timedelta_nanoseconds
from support.builders import START, START_NS, digest

__all__ = [
    "ALPINE",
    "DUE_NS",
    "NOW",
    "NOW_NS",
    "WINDOW_NS",
    "A",
    "B",
    "C",
    "D",
    "guest",
    "make_image",
    "make_inventory",
    "make_policy",
    "make_repository",
    "make_rule",
]

ALPINE = "docker.io/library/alpine"
A, B, C, D = (digest(letter) for letter in "abcd")
NOW, NOW_NS = START, START_NS
WINDOW_NS = timedelta_nanoseconds(timedelta(days=30))
DUE_NS = NOW_NS - WINDOW_NS
"""The latest `unused_since` that is due."""


def make_image(digest: str = A, **fields: object) -> Image:
    """Make a ready image; `fields` are those of `Image`."""
    return Image(**{"digest": digest, "status": "ready", "disk_bytes": 4096, **fields})  # type: ignore[arg-type]  # by name


def make_repository(*images: Image, name: str = ALPINE, tags: Mapping[str, str] | None = None) -> Repository:
    """Put images and tags into a repository."""
    return Repository(name, {image.digest: image for image in images}, tags or {})


def make_inventory(
    *repositories: Repository, states: Mapping[Key, int | None] | None = None, **fields: object
) -> Inventory:
    """Put repositories into a cache whose images are all due, unless `states` are given."""
    if states is None:
        states = {
            (repository.name, digest): DUE_NS for repository in repositories for digest in repository.images
        }
    by_name = {repository.name: repository for repository in repositories}
    return Inventory(repositories=by_name, states=states, **fields)  # type: ignore[arg-type]  # by name


def make_policy(
    *, allowed: tuple[str, ...] = ("*",), pinned: tuple[str, ...] = (), **fields: object
) -> Policy:
    """Allow everything to go after `WINDOW_NS`; `fields` are those of `Policy`."""
    return Policy(WINDOW_NS, compile_patterns(allowed), compile_patterns(pinned), **fields)  # type: ignore[arg-type]  # by name


def make_rule(
    *match: str, tags: tuple[str, ...] = (), window_ns: int | None = None, keep_latest: int | None = None
) -> CompiledRule:
    """Make a rule for some repositories."""
    patterns = compile_patterns(tags) if tags else None
    return CompiledRule(compile_patterns(match or ("*",)), patterns, window_ns, keep_latest)


def guest(image: str = "", *, name: str = "vm", resolved: str = "", **fields: object) -> Reference:
    """Make the reference of a guest."""
    return Reference(f"instance/{name}", image, resolved, **fields)  # type: ignore[arg-type]  # by name
