"""Which images the references protect: those they name, and those a moved tag may have named."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import attrgetter

import attrs

from hmret.model.images import Image, Inventory, Key, Reference, Remembered, Repository
from hmret.model.references import ImageReference, parsed
from hmret.model.times import nanoseconds_of

__all__ = [
    "NO_PROTECTION",
    "Memory",
    "Protection",
    "RepositoryProtection",
    "StaleReference",
    "above_of",
    "foreign_owners",
    "kept_in_mind",
    "named_tags",
    "protect",
    "protect_repository",
    "stale_references",
    "unseen_tags",
]

Memory = tuple[str, str]
"""What a tag has pointed to is remembered by its repository and its name."""


_by_source = attrgetter("source", "image")
_HEX_DIGITS = 64
_OF_FILES = ("instance/", "snapshot/")
_OF_IMAGE = "image/"
"""Begins the source of what one image needs of another: that is told by no guest and no snapshot."""


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
    """Who needs each digest, sorted; whether or not it is here."""
    meant: Mapping[Reference, frozenset[str]]
    """Of each reference: the digests in this repository that it can mean."""
    remembered: Mapping[Memory, Remembered]
    """What to give to the next plan, so that the past targets of a tag stay protected."""
    is_settled: bool = False
    """Whether each reference leads to an image of this very repository, so that none is stale whatever else is here."""
    elsewhere: tuple[str, ...] = ()
    """Digests that are needed and are not content of this repository: others may own them."""


NO_PROTECTION = RepositoryProtection({}, {}, {})


def protect(inventory: Inventory) -> Protection:
    """Resolve all references against the repositories; as `protect_repository`, for each that one of them names."""
    found = {name: protect_repository(inventory, name) for name in inventory.references.by_repository}
    sources: defaultdict[Key, set[str]] = defaultdict(set)
    remembered = kept_in_mind(inventory)
    for name, protection in found.items():
        repository = inventory.repositories.get(name)
        for digest, names in protection.sources.items():
            if repository is not None and digest in repository.images:
                sources[name, digest].update(names)
            for owner in foreign_owners(inventory, name, digest):
                sources[owner, digest].update(names)
        remembered.update(protection.remembered)
    return Protection(
        {key: tuple(sorted(names)) for key, names in sources.items()},
        stale_references(inventory, found),
        remembered,
    )


def foreign_owners(inventory: Inventory, name: str, digest: str) -> tuple[str, ...]:
    """List the repositories that own the content of a digest, where one that is none of them names it."""
    owners = inventory.contents.get(digest, ())
    return () if name in owners else owners


def stale_references(
    inventory: Inventory, found: Mapping[str, RepositoryProtection]
) -> tuple[StaleReference, ...]:
    """List the references to what is not here, sorted.

    A text is not stale as long as content of a digest that it means is here, whatever repository it names; and none is
    where the other text of the same reference leads to an image.
    """
    nowhere = [
        reference
        for name, protection in found.items()
        if not protection.is_settled
        for reference, digests in protection.meant.items()
        if not _is_here(inventory, name, digests) and not reference.source.startswith(_OF_IMAGE)
    ]
    if not nowhere:
        return ()
    things = {_thing(reference) for reference in nowhere}
    leads = {
        _thing(reference)
        for name, protection in found.items()
        for reference, digests in protection.meant.items()
        if _thing(reference) in things and _is_here(inventory, name, digests)
    }
    told = {
        StaleReference(reference.source, text)
        for reference in nowhere
        if _thing(reference) not in leads
        for text in (reference.image, reference.resolved_image)
        if text
    }
    return tuple(sorted(told, key=_by_source))


def _is_here(inventory: Inventory, name: str, digests: Iterable[str]) -> bool:
    """Return whether any of some digests is here, in a repository or as content."""
    repository = inventory.repositories.get(name)
    images: Mapping[str, object] = {} if repository is None else repository.images
    return any(digest in images or digest in inventory.contents for digest in digests)


def _thing(reference: Reference) -> object:
    """Tell what a reference is of: a guest's or a snapshot's file can hold several, an embedder's name many."""
    return reference.source if reference.source.startswith(_OF_FILES) else reference


def kept_in_mind(inventory: Inventory) -> dict[Memory, Remembered]:
    """List what stays remembered while there are sources that could not be read: they may name any tag."""
    return dict(inventory.remembered) if inventory.unread_sources else {}


def protect_repository(inventory: Inventory, name: str) -> RepositoryProtection:
    """Resolve the references to one repository.

    A reference by digest protects that digest. One by tag protects the digest that the tag points to now and,
    where the source does not say what it really boots, each digest that the tag has pointed to since something with that
    tag was first seen. At the first sight of a source that is older than the tag's link (or of unknown age), each
    digest that was there before the source is protected: one of them is what it runs from. Where something is that is no
    valid tag, nobody knows what it points to, and each digest of the repository is protected.
    """
    references = inventory.references.by_repository.get(name, ())
    if not references:
        return NO_PROTECTION
    repository = inventory.repositories.get(name)
    images: Mapping[str, Image] = {} if repository is None else repository.images
    is_hidden = is_behind_link(inventory, name)
    sources: defaultdict[str, set[str]] = defaultdict(set)
    meant: dict[Reference, frozenset[str]] = {}
    remembered = _recall_all(inventory, name, references, is_hidden=is_hidden)
    for reference in references:
        for _text, image, open_ended in _named_images(reference):
            if image.repository != name:
                continue
            if image.digest is not None:
                digests = frozenset((image.digest,))
            elif is_hidden or _is_odd(repository, image.tag):
                digests = _made_before(repository, None)
                if open_ended and (memory := remembered.get((name, image.tag or ""))) is not None:
                    digests |= memory.digests
            elif open_ended:
                memory = remembered.get((name, image.tag or ""))
                digests = frozenset() if memory is None else memory.digests
            else:
                digests = _current(repository, image)
            meant[reference] = meant.get(reference, frozenset()) | digests
            for digest in digests:
                sources[digest].add(reference.source)
    return RepositoryProtection(
        sources={digest: tuple(sorted(names)) for digest, names in sources.items()},
        meant=meant,
        remembered=remembered,
        is_settled=all(not images.keys().isdisjoint(digests) for digests in meant.values()),
        elsewhere=tuple(
            digest for digest in sources if digest not in images or not images[digest].is_content
        ),
    )


def is_behind_link(inventory: Inventory, name: str) -> bool:
    """Return whether a lookup in a repository goes by the tag of another: one that has the name of a folder above it."""
    return any(
        above is not None and (folder in above.tags or folder in above.odd_tags)
        for above, folder in above_of(inventory, name)
    )


def above_of(inventory: Inventory, name: str) -> Iterator[tuple[Repository | None, str]]:
    """List the repositories above one, each with the name of the folder in it that leads there."""
    for above, folder in _paths_above(name):
        yield inventory.repositories.get(above), folder


@lru_cache(maxsize=16_384)
def _paths_above(name: str) -> tuple[tuple[str, str], ...]:
    parts = name.split("/")
    return tuple(("/".join(parts[:count]), parts[count]) for count in range(1, len(parts)))


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

    They are those that a reference names whose past targets count too, and of which nothing is remembered yet that goes
    back as far as it.
    """
    for reference in references:
        for _text, image, open_ended in _named_images(reference):
            if image.tag is not None and open_ended:
                memory = remembered.get((image.repository, image.tag))
                if memory is None or not _is_covered(memory, reference):
                    yield image.repository, image.tag


def _named_images(reference: Reference) -> Iterator[tuple[str, ImageReference, bool]]:
    """List what a reference names: the text, its meaning, and whether past targets of a tag count too."""
    if reference.image:
        yield reference.image, parsed(reference.image), not reference.resolved_image
    if reference.resolved_image:
        yield reference.resolved_image, parsed(reference.resolved_image), True


def _is_odd(repository: Repository | None, tag: str | None) -> bool:
    """Return whether what is there in the place of a tag is none; one that is named as a digest's folder is that."""
    if repository is None or tag is None:
        return False
    return (
        tag in repository.odd_tags
        or tag in repository.folder_tags
        or (tag not in repository.tags and len(tag) == _HEX_DIGITS and f"sha256:{tag}" in repository.images)
    )


def _recall_all(
    inventory: Inventory, name: str, references: Iterable[Reference], *, is_hidden: bool
) -> dict[Memory, Remembered]:
    """Say what the tags of a repository have pointed to since something with each was first seen, up to now.

    A tag that is absent at the first sight, if only while it is moved, is not seen yet.
    """
    repository = inventory.repositories.get(name)
    found: dict[Memory, Remembered] = {}
    for reference in references:
        for _text, image, open_ended in _named_images(reference):
            if image.repository != name or image.tag is None or not open_ended:
                continue
            key = name, image.tag
            before = inventory.remembered.get(key)
            if is_hidden or _is_odd(repository, image.tag):
                # Nobody knows what it points to now; what it did point to stays known.
                if before is not None:
                    found[key] = before
                continue
            current = _current(repository, image)
            so_far = found.get(key, before)
            if before is not None and _is_covered(before, reference):
                known = before if so_far is None else so_far
                found[key] = Remembered(known.digests | current, known.created_at)
            elif current and repository is not None:
                current |= _before_link(repository, inventory.link_times.get(key), reference)
                if so_far is None:
                    found[key] = Remembered(current, reference.created_at)
                else:
                    since = _earlier(so_far.created_at, reference.created_at)
                    found[key] = Remembered(current | so_far.digests, since)
            elif so_far is not None:
                found[key] = so_far
    return found


def _before_link(repository: Repository, linked_ns: int | None, reference: Reference) -> frozenset[str]:
    """List what a tag may have pointed to before its link was made, for something that is older than that."""
    created_ns = None if reference.created_at is None else nanoseconds_of(reference.created_at)
    if linked_ns is None or created_ns is None or linked_ns > created_ns:
        return _made_before(repository, created_ns)
    return frozenset()


def _is_covered(memory: Remembered, reference: Reference) -> bool:
    """Return whether what is remembered of a tag goes back to when something was made."""
    if memory.created_at is None:
        return True
    return reference.created_at is not None and reference.created_at >= memory.created_at


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else min(one, other)


def _made_before(repository: Repository | None, moment_ns: int | None) -> frozenset[str]:
    """List the digests that a repository has, and the content that its metadata says is of it, made before a moment."""
    if repository is None:
        return frozenset()
    return frozenset(
        image.digest
        for image in chain(repository.images.values(), repository.named.values())
        if moment_ns is None
        or any(folder.created_ns is None or folder.created_ns < moment_ns for folder in image.folders)
    )


def _current(repository: Repository | None, image: ImageReference) -> frozenset[str]:
    target = repository.tags.get(image.tag) if repository is not None and image.tag is not None else None
    return frozenset() if target is None else frozenset((target,))
