"""Which images the references protect: those they name, and those a moved tag may have named."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache

import attrs

from hmret.model.images import Inventory, Key, Reference, Remembered, Repository
from hmret.model.references import ImageReference, parse_reference
from hmret.model.times import nanoseconds_of

__all__ = ["Protection", "StaleReference", "named_tags", "parsed", "protect"]

# As many texts as a large host has guests and snapshots; a text costs some 300 bytes.
parsed = lru_cache(maxsize=65_536)(parse_reference)
"""`parse_reference`, for texts that come again and again."""


@attrs.frozen(order=True)
class StaleReference:
    """A reference to an image that is not here."""

    source: str
    image: str


@attrs.frozen
class Protection:
    """What the references come to."""

    sources: Mapping[Key, tuple[str, ...]]
    """Who needs each protected image, sorted."""
    stale: tuple[StaleReference, ...]
    """References to what is not here, sorted."""
    remembered: Mapping[tuple[str, str], Remembered]
    """What to give to the next plan, so that the past targets of a tag stay protected."""


def protect(inventory: Inventory) -> Protection:
    """Resolve all references against the repositories.

    A reference by digest protects that digest. One by tag protects the digest that the tag points to now and,
    where the source does not say what it really boots, each digest that the tag has pointed to since the source
    was first seen. At the first sight of a source that is older than the tag's link (or of unknown age), each
    digest that was there before the source is protected: one of them is what it runs from.

    Raises:
        InvalidReferenceError: a reference does not parse.
    """
    sources: defaultdict[Key, set[str]] = defaultdict(set)
    stale: set[StaleReference] = set()
    remembered = {
        key: memory for key, memory in inventory.remembered.items() if key[0] in inventory.unread_sources
    }
    for reference in inventory.references:
        for text, image, open_ended in _named_images(reference):
            repository = inventory.repositories.get(image.repository)
            if image.digest is not None:
                digests = frozenset((image.digest,))
            elif open_ended:
                memory = _recall(inventory, reference, text, image, repository)
                digests = memory.digests
                # A tag that is absent at the first sight, if only while it is moved, is not seen yet.
                if digests:
                    remembered[reference.source, text] = memory
            else:
                digests = _current(repository, image)
            present = digests.intersection(repository.images) if repository is not None else ()
            if not present:
                stale.add(StaleReference(reference.source, text))
            for digest in present:
                sources[image.repository, digest].add(reference.source)
    return Protection(
        sources={key: tuple(sorted(names)) for key, names in sources.items()},
        stale=tuple(sorted(stale)),
        remembered=remembered,
    )


def named_tags(references: Iterable[Reference], *, open_ended: bool = False) -> Iterator[tuple[str, str]]:
    """List the tags, as repository and tag, that references name.

    With `open_ended`, only those whose past targets count too: a plan needs to know when their links were made.
    """
    for reference in references:
        for _text, image, is_open_ended in _named_images(reference):
            if image.tag is not None and (is_open_ended or not open_ended):
                yield image.repository, image.tag


def _named_images(reference: Reference) -> Iterator[tuple[str, ImageReference, bool]]:
    """List what a reference names: the text, its meaning, and whether past targets of a tag count too."""
    if reference.image:
        yield reference.image, parsed(reference.image), not reference.resolved_image
    if reference.resolved_image:
        yield reference.resolved_image, parsed(reference.resolved_image), True


def _current(repository: Repository | None, image: ImageReference) -> frozenset[str]:
    target = repository.tags.get(image.tag) if repository is not None and image.tag is not None else None
    return frozenset() if target is None else frozenset((target,))


def _recall(
    inventory: Inventory,
    reference: Reference,
    text: str,
    image: ImageReference,
    repository: Repository | None,
) -> Remembered:
    """Say what a tag has pointed to since its source was first seen, up to now."""
    current = _current(repository, image)
    memory = inventory.remembered.get((reference.source, text))
    if memory is not None and _may_be_same(memory.created_at, reference.created_at):
        return Remembered(memory.digests | current, memory.created_at or reference.created_at)
    if current and repository is not None and image.tag is not None:
        linked_ns = inventory.link_times.get((image.repository, image.tag))
        created_ns = None if reference.created_at is None else nanoseconds_of(reference.created_at)
        if linked_ns is None or created_ns is None or linked_ns > created_ns:
            current |= _made_before(repository, created_ns)
    return Remembered(current, reference.created_at)


def _may_be_same(one: datetime | None, other: datetime | None) -> bool:
    return one is None or other is None or one == other


def _made_before(repository: Repository, moment_ns: int | None) -> frozenset[str]:
    return frozenset(
        image.digest
        for image in repository.images.values()
        if moment_ns is None or image.created_ns is None or image.created_ns < moment_ns
    )
