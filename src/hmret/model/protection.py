"""Which images the references protect: those they name, and those a moved tag may have named."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from operator import attrgetter

import attrs
import msgspec

from hmret.model.images import Image, Inventory, Remembered
from hmret.model.references import Key, Reference
from hmret.model.tag_history import (
    TagName,
    current_digest,
    digests_in,
    is_unreadable_tag,
    named_images,
    recall,
)

_by_source = attrgetter("source", "image")
_OF_FILES = ("instance/", "snapshot/")
_OF_IMAGE = "image/"
"""Begins the source of a need that one image has of another; no guest or snapshot reports that one."""


@attrs.frozen(order=True)
class StaleReference:
    """A reference to an image that is not in the cache."""

    source: str
    """Who refers to it: `instance/ID`, `snapshot/ID` or an embedder's own name."""
    image: str
    """The reference, as it was given."""


class RepositoryProtection(msgspec.Struct, frozen=True, gc=False):
    """The outcome of resolving the references to one repository."""

    sources: Mapping[str, tuple[str, ...]]
    """The sources that need each digest, sorted; whether or not the digest is in the cache."""
    meant: Mapping[Reference, tuple[str, ...]]
    """For each reference: the digests in this repository that it can mean, in no particular order."""
    remembered: Mapping[TagName, Remembered]
    """Input of the next plan, so that the past targets of a tag stay protected."""
    resolves_all: bool = False
    """Whether each reference resolves to an image of this very repository, so that none can be stale whatever
    else exists.
    """
    elsewhere: tuple[str, ...] = ()
    """Needed digests that are not content of this repository: other repositories may own them."""
    is_lasting: bool = True
    """Whether it stays valid until something other than the time changes."""


NO_PROTECTION = RepositoryProtection({}, {}, {})


def protected_keys(inventory: Inventory) -> frozenset[Key]:
    """List the images that the references protect."""
    found = {name: protect_repository(inventory, name, None) for name in inventory.references.by_repository}
    return frozenset(protected_sources(inventory, found))


def protected_sources(
    inventory: Inventory, found: Mapping[str, RepositoryProtection]
) -> Mapping[Key, set[str]]:
    """Return the sources that need each image in the cache, given what each repository's references protect."""
    sources: defaultdict[Key, set[str]] = defaultdict(set)
    for name, protection in found.items():
        repository = inventory.repositories.get(name)
        for digest, names in protection.sources.items():
            if repository is not None and digest in repository.images:
                sources[name, digest].update(names)
            for owner in foreign_owners(inventory, name, digest):
                sources[owner, digest].update(names)
    return sources


def foreign_owners(inventory: Inventory, name: str, digest: str) -> tuple[str, ...]:
    """List the owners of the content of a digest, where it is named under a repository that does not own it."""
    owners = inventory.contents.get(digest, ())
    # guard(any-name-protects-owners): hypeman boots content under any repository name, so a reference
    # protects it for every repository that owns it.
    return () if name in owners else owners


def stale_references(
    inventory: Inventory, found: Mapping[str, RepositoryProtection]
) -> tuple[StaleReference, ...]:
    """List the references to images that are not in the cache, sorted.

    A text is not stale as long as content of a digest that it can mean is in the cache, whatever repository
    it names; and none is where the other text of the same reference resolves to an image.
    """
    nowhere = [
        reference
        for name, protection in found.items()
        if not protection.resolves_all
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
    unresolved = {
        StaleReference(reference.source, text)
        for reference in nowhere
        if _thing(reference) not in leads
        for text in (reference.image, reference.resolved_image)
        if text
    }
    return tuple(sorted(unresolved, key=_by_source))


def _is_here(inventory: Inventory, name: str, digests: Iterable[str]) -> bool:
    """Return whether any of some digests is in the cache, in a repository or as content."""
    repository = inventory.repositories.get(name)
    images: Mapping[str, object] = {} if repository is None else repository.images
    return any(digest in images or digest in inventory.contents for digest in digests)


def _thing(reference: Reference) -> object:
    """Return what two references must share to be of one thing: the source for files, else the reference itself.

    A guest's or a snapshot's file can hold several references; an embedder may use one name for many things.
    """
    return reference.source if reference.source.startswith(_OF_FILES) else reference


def protect_repository(inventory: Inventory, name: str, now_ns: int | None) -> RepositoryProtection:
    """Resolve the references to one repository at a time in nanoseconds (None: unknown, so no age proves anything).

    A reference by digest protects that digest; so does a saved state that names its disk. A reference by tag
    protects the digest that the tag points to now and, where the source does not say what it really boots,
    each digest that the tag has pointed to since something with that tag was first seen, and each that the
    source may run from (`tag_history.recall`). Where a tag cannot be read as a link, its target is unknown,
    and each digest of the repository is protected.
    """
    references = inventory.references.naming(name)
    if not references:
        return NO_PROTECTION
    repository = inventory.repositories.get(name)
    images: Mapping[str, Image] = {} if repository is None else repository.images
    is_hidden = is_behind_link(inventory, name)
    sources: defaultdict[str, set[str]] = defaultdict(set)
    meant: dict[Reference, frozenset[str]] = {}
    is_partial = inventory.is_partial(name)
    history = recall(inventory, name, is_hidden=is_hidden, is_partial=is_partial, now_ns=now_ns)
    for reference in references:
        for image, is_open_ended in named_images(reference):
            if image.repository != name:
                continue
            if image.digest is not None:
                digests = frozenset((image.digest,))
            elif is_hidden or is_unreadable_tag(repository, image.tag):
                digests = digests_in(repository)
            else:
                digests = current_digest(repository, image.tag)
            if is_open_ended and image.tag is not None:
                digests |= history.digests(reference, (name, image.tag))
            meant[reference] = meant.get(reference, frozenset()) | digests
            for digest in digests:
                sources[digest].add(reference.source)
    return RepositoryProtection(
        sources={digest: tuple(sorted(names)) for digest, names in sources.items()},
        # The garbage collector need not look at tuples of texts.
        meant={reference: tuple(digests) for reference, digests in meant.items()},
        remembered=history.remembered,
        resolves_all=all(not images.keys().isdisjoint(digests) for digests in meant.values()),
        elsewhere=tuple(
            digest for digest in sources if digest not in images or not images[digest].is_content
        ),
        is_lasting=not history.undecided and not is_partial,
    )


def is_behind_link(inventory: Inventory, name: str) -> bool:
    """Return whether lookups in a repository follow a tag of a parent repository with its folder's name."""
    parents = ((inventory.repositories.get(above), folder) for above, folder in _paths_above(name))
    # guard(tag-of-parent-hides): Where a tag of a parent repository is in the path, lookups follow that tag,
    # so a reference keeps every digest here.
    return any(
        above is not None and (folder in above.tags or folder in above.odd_tags) for above, folder in parents
    )


def names_above(name: str) -> tuple[str, ...]:
    """List the names that repositories above one would have."""
    return tuple(above for above, _ in _paths_above(name))


# Asked a few times in a row for each repository.
@lru_cache(maxsize=128)
def _paths_above(name: str) -> tuple[tuple[str, str], ...]:
    """List the names of the repositories above one, each with the name of the folder in it that leads there."""
    parts = name.split("/")
    return tuple(("/".join(parts[:count]), parts[count]) for count in range(1, len(parts)))
