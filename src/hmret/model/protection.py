"""Which images the references protect: those they name, and those a moved tag may have named."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from operator import attrgetter

import attrs

from hmret.model.images import Inventory, Key, Reference, Remembered, Repository
from hmret.model.references import ImageReference, parsed
from hmret.model.times import nanoseconds_of

__all__ = [
    "Memory",
    "Protection",
    "RepositoryProtection",
    "StaleReference",
    "kept_in_mind",
    "named_tags",
    "protect",
    "protect_repository",
    "unseen_tags",
]

Memory = tuple[str, str]
"""What a tag has pointed to is remembered by the source of a reference and its text."""


_by_source = attrgetter("source", "image")


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
    remembered: Mapping[Memory, Remembered]
    """What to give to the next plan, so that the past targets of a tag stay protected."""


@attrs.frozen
class RepositoryProtection:
    """What the references to one repository come to."""

    sources: Mapping[str, tuple[str, ...]]
    """Who needs each protected image, sorted; by digest."""
    stale: tuple[StaleReference, ...]
    """References to what is not here, sorted."""
    remembered: Mapping[Memory, Remembered]
    """What to give to the next plan, so that the past targets of a tag stay protected."""


_NOTHING = RepositoryProtection({}, (), {})


def protect(inventory: Inventory) -> Protection:
    """Resolve all references against the repositories; as `protect_repository`, for each that one of them names."""
    sources: dict[Key, tuple[str, ...]] = {}
    stale: list[StaleReference] = []
    remembered = kept_in_mind(inventory)
    for name in inventory.references.by_repository:
        found = protect_repository(inventory, name)
        sources.update(((name, digest), names) for digest, names in found.sources.items())
        stale.extend(found.stale)
        remembered.update(found.remembered)
    return Protection(sources, tuple(sorted(stale, key=_by_source)), remembered)


def kept_in_mind(inventory: Inventory) -> dict[Memory, Remembered]:
    """List what stays remembered of sources that exist and could not be read."""
    if not inventory.unread_sources:
        return {}
    return {key: memory for key, memory in inventory.remembered.items() if key[0] in inventory.unread_sources}


def protect_repository(inventory: Inventory, name: str) -> RepositoryProtection:
    """Resolve the references to one repository.

    A reference by digest protects that digest. One by tag protects the digest that the tag points to now and,
    where the source does not say what it really boots, each digest that the tag has pointed to since the source
    was first seen. At the first sight of a source that is older than the tag's link (or of unknown age), each
    digest that was there before the source is protected: one of them is what it runs from.
    """
    references = inventory.references.by_repository.get(name, ())
    if not references:
        return _NOTHING
    repository = inventory.repositories.get(name)
    sources: defaultdict[str, set[str]] = defaultdict(set)
    stale: set[StaleReference] = set()
    remembered: dict[Memory, Remembered] = {}
    for reference in references:
        for text, image, open_ended in _named_images(reference):
            if image.repository != name:
                continue
            if image.digest is not None:
                digests = frozenset((image.digest,))
            elif open_ended:
                memory = _recall(inventory, reference, text, image, repository)
                digests = memory.digests
                # A tag that is absent at the first sight, if only while it is moved, is not seen yet.
                if digests:
                    others = remembered.get((reference.source, text), memory)
                    remembered[reference.source, text] = _both(memory, others)
            else:
                digests = _current(repository, image)
            present = [digest for digest in digests if repository is not None and digest in repository.images]
            if not present:
                stale.add(StaleReference(reference.source, text))
            for digest in present:
                sources[digest].add(reference.source)
    return RepositoryProtection(
        sources={digest: tuple(sorted(names)) for digest, names in sources.items()},
        stale=tuple(sorted(stale, key=_by_source)),
        remembered=remembered,
    )


def named_tags(references: Iterable[Reference], *, open_ended: bool = False) -> Iterator[tuple[str, str]]:
    """List the tags, as repository and tag, that references name.

    With `open_ended`, only those whose past targets count too.
    """
    for reference in references:
        for _text, image, is_open_ended in _named_images(reference):
            if image.tag is not None and (is_open_ended or not open_ended):
                yield image.repository, image.tag


def unseen_tags(
    references: Iterable[Reference], remembered: Mapping[Memory, Remembered]
) -> Iterator[tuple[str, str]]:
    """List the tags, as repository and tag, of whose links a plan needs to know when they were made.

    They are those that a reference names whose past targets count too, and of which nothing is remembered yet, or
    perhaps of another thing with the same name.
    """
    for reference in references:
        for text, image, open_ended in _named_images(reference):
            if image.tag is not None and open_ended:
                memory = remembered.get((reference.source, text))
                if memory is None or not _may_be_same(memory.created_at, reference.created_at):
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


def _both(one: Remembered, other: Remembered) -> Remembered:
    """Remember for two things of one name what either has run from."""
    if one == other:
        return one
    created_at = one.created_at if one.created_at == other.created_at else None
    return Remembered(one.digests | other.digests, created_at)


def _may_be_same(one: datetime | None, other: datetime | None) -> bool:
    return one is None or other is None or one == other


def _made_before(repository: Repository, moment_ns: int | None) -> frozenset[str]:
    return frozenset(
        image.digest
        for image in repository.images.values()
        if moment_ns is None or image.created_ns is None or image.created_ns < moment_ns
    )
