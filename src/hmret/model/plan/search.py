"""Finding an image by some digits of its digest, or by the VM that runs from it."""

import re
from collections.abc import Callable, Iterator, Sequence

from hmret.model.errors import AmbiguousImageError
from hmret.model.plan.plan import Plan
from hmret.model.references import Key, parsed

_LISTED = 10
"""How many images a message lists."""

_DIGITS = re.compile(r"(?:sha256:)?([0-9a-fA-F]{12,64})")
_DIGEST = re.compile(r"(?:sha256:)?[0-9a-fA-F]{64}")
_NOT_IN_NAMES = re.compile(r"[:@/\s]")


def is_searchable(text: str) -> bool:
    """Return whether a text may be digits of a digest, or the name or id of a VM, besides being a reference."""
    return _DIGITS.fullmatch(text) is not None or (
        bool(text) and _NOT_IN_NAMES.search(text.removeprefix("instance/").removeprefix("snapshot/")) is None
    )


def is_digest(text: str) -> bool:
    """Return whether a text is a whole digest, with or without `sha256:`."""
    return _DIGEST.fullmatch(text) is not None


def start_of_digest(text: str) -> str | None:
    """Return the start of the digests that a text means by 12 digits or more; None: it is no such text."""
    digits = _DIGITS.fullmatch(text)
    return None if digits is None else f"sha256:{digits[1].lower()}"


def sole_image(found: Sequence[Key], text: str) -> Key | None:
    """Return the single image that was found; None: none was.

    Raises:
        AmbiguousImageError: several were found.
    """
    if len(found) > 1:
        listed = ", ".join(f"{repository}@{digest}" for repository, digest in found[:_LISTED])
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise AmbiguousImageError(f"{text}: may mean several images: {listed}{more}")
    return found[0] if found else None


def find_images(plan: Plan, text: str, pause: Callable[[], None] = lambda: None) -> tuple[Key, ...]:
    """List the images that a text may mean, sorted: by 12 digits or more of a digest, or by what needs the image.

    What needs an image is named by the name in its metadata (`Name`), by its id, or by `instance/ID`. Guests
    take precedence over snapshots, which keep the name that their guest had.
    """
    start = start_of_digest(text)
    if start is not None:
        found = _by_digest(plan, start, pause)
        if found:
            return found
    sources = {source for source, name in plan.vm_names.items() if name == text}
    sources |= {text, f"instance/{text}", f"snapshot/{text}"}
    references = [reference for reference in plan.references if reference.source in sources]
    references = [one for one in references if not _is_snapshot(one.source)] or references
    # The image that it boots, or that its tag points to now; else all images that it may run from.
    named = {
        plan.resolve(parsed(one.resolved_image or one.image))
        for one in references
        if one.resolved_image or one.image
    }
    here = [key for key in named if key is not None]
    return tuple(sorted(here or _needed(plan, {one.source for one in references}, pause)))


def _by_digest(plan: Plan, start: str, pause: Callable[[], None]) -> tuple[Key, ...]:
    found = []
    for name, digests in plan.digests():
        found += [(name, digest) for digest in digests if digest.startswith(start)]
        pause()
    return tuple(sorted(found))


def _needed(plan: Plan, sources: set[str], pause: Callable[[], None]) -> Iterator[Key]:
    for name, by_digest in plan.sources():
        yield from ((name, digest) for digest, needing in by_digest.items() if sources.intersection(needing))
        pause()


def _is_snapshot(source: str) -> bool:
    return source.startswith("snapshot/")
