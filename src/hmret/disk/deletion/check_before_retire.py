"""The last check before a batch is retired: which of its images are referenced now.

The tags are read again, and the references of a moment ago are resolved against them.
"""

from collections.abc import Iterable, Mapping, Set as AbstractSet

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import opened_data_folder
from hmret.disk.hypeman.scan import OddTagError, resolve_tag
from hmret.disk.layout import IMAGES
from hmret.model.grouping import ReferenceIndex
from hmret.model.images import ContentOwners, Image, Inventory, Remembered, Repository
from hmret.model.protection import protected_keys
from hmret.model.references import Key, Reference
from hmret.model.tag_history import named_tags
from hmret.model.times import nanoseconds_of
from hmret.model.values import frozen

_Tag = tuple[str, str]
_Groups = Mapping[str, Iterable[Reference]]


@frozen(eq=False)
class BatchToCheck:
    """The rows that are to go, if no reference needs them by now."""

    keys: frozenset[Key]
    content: Mapping[str, str]
    """The repository that the metadata names, for each digest that is content."""
    newcomer_ns: tuple[int, int] | None
    """What was made after the first of these times, and not after the other, counts as new, even if it was scanned."""


def find_protected(
    filesystem: Filesystem,
    data_fd: int,
    batch: BatchToCheck,
    references: ReferenceIndex,
    *,
    remembered: Mapping[_Tag, Remembered],
    known: ReferenceIndex,
) -> tuple[frozenset[Key], bool]:
    """Resolve the references against an inventory of nothing but these images, with their tags as they are now.

    Content can be named under any repository, so every reference to its digest counts, and so does every digest that a
    tag has pointed to. While a tag is absent, the guest behind a reference to it may be running from any image of its
    repository, if it was made shortly before the sweep or later, or was not `known` at the last scan.

    Also returns whether every tag that is named was there: hypeman moves a tag by removing its link and making it again,
    so one that is absent is worth a second look.

    Raises:
        OSError: a tag could not be read.
    """
    rows = _Rows.of(batch)
    groups = {name: references.by_repository.get(name, ()) for name in rows.names}
    named = {(name, tag) for group in groups.values() for name, tag in named_tags(group) if name in groups}
    tags, odd = _read_tags(filesystem, data_fd, named)
    absent = named.difference(tags, odd)
    # guard(newcomer-by-absent-tag): A guest made during the sweep may run from an image to which its tag no longer
    # leads; while the tag is being moved, all that it can have led to stays.
    doubtful = _with_newcomers(groups, known, absent, batch.newcomer_ns)
    ever = set().union(*(memory.digests for memory in remembered.values()), references.digests)
    needed = ever.intersection(batch.content)
    needed |= {digest for name in doubtful for digest in rows.named.get(name, ())}
    kept = {(name, digest) for name in doubtful for digest in rows.images.get(name, ())}
    owned = ((name, digest) for digest in needed for name in rows.owners.get(digest, ()))
    inventory = rows.inventory(tags, odd, ReferenceIndex((), groups), remembered)
    return protected_keys(inventory).union(kept, owned), not absent


@frozen(eq=False)
class _Rows:
    """The rows of a batch, by repository."""

    images: Mapping[str, Mapping[str, Image]]
    named: Mapping[str, Mapping[str, Image]]
    """Content whose metadata names this repository, although it has no row of it in this batch."""
    owners: Mapping[str, list[str]]
    """Of content, by digest."""

    @classmethod
    def of(cls, batch: BatchToCheck) -> "_Rows":
        images: dict[str, dict[str, Image]] = {}
        owners: dict[str, list[str]] = {}
        for name, digest in batch.keys:
            named = batch.content.get(digest)
            images.setdefault(name, {})[digest] = Image(digest, "ready", content_name=named)
            if named is not None:
                owners.setdefault(digest, []).append(name)
        by_name: dict[str, dict[str, Image]] = {}
        for digest, name in batch.content.items():
            if name and name not in owners.get(digest, ()):
                by_name.setdefault(name, {})[digest] = Image(digest, "ready", content_name=name)
        return cls(images, by_name, owners)

    @property
    def names(self) -> AbstractSet[str]:
        """The repositories."""
        return {*self.images, *self.named}

    def inventory(
        self,
        tags: Mapping[_Tag, str],
        odd: AbstractSet[_Tag],
        references: ReferenceIndex,
        remembered: Mapping[_Tag, Remembered],
    ) -> Inventory:
        """Make an inventory of these rows and their tags."""
        by_name: dict[str, dict[str, str]] = {name: {} for name in self.names}
        for (name, tag), target in tags.items():
            by_name[name][tag] = target
        repositories = {
            name: Repository(
                name,
                self.images.get(name, {}),
                targets,
                named=self.named.get(name, {}),
                odd_tags=frozenset(tag for repository, tag in odd if repository == name),
            )
            for name, targets in by_name.items()
        }
        owners = {digest: tuple(sorted(names)) for digest, names in self.owners.items()}
        return Inventory(
            repositories=repositories,
            contents=ContentOwners(owners),
            references=references,
            remembered=remembered,
        )


def _read_tags(
    filesystem: Filesystem, data_fd: int, named: AbstractSet[_Tag]
) -> tuple[dict[_Tag, str], set[_Tag]]:
    """Read where tags lead now; also returns those that hypeman did not make. A tag in neither is absent."""
    tags: dict[_Tag, str] = {}
    odd: set[_Tag] = set()
    with opened_data_folder(filesystem, data_fd, IMAGES) as images_fd:
        for name, tag in named:
            try:
                target = resolve_tag(filesystem, images_fd, name, tag)
            except OddTagError:
                odd.add((name, tag))
                continue
            if target is not None:
                tags[name, tag] = target
    return tags, odd


def _with_newcomers(
    groups: _Groups, known: ReferenceIndex, absent: AbstractSet[_Tag], newcomer_ns: tuple[int, int] | None
) -> set[str]:
    """List the repositories with an absent tag that a new reference names."""
    found: set[str] = set()
    for name in {name for name, _ in absent}:
        before = {*known.by_repository.get(name, ())}
        for reference in groups[name]:
            # guard(newcomer-before-the-scan): A guest that was made right before the scan may have been seen without
            # its tag as well.
            is_newcomer = (
                newcomer_ns is not None
                and reference.created_at is not None
                and newcomer_ns[0] < nanoseconds_of(reference.created_at) <= newcomer_ns[1]
            )
            if (is_newcomer or reference not in before) and not absent.isdisjoint(
                named_tags((reference,), open_ended=True)
            ):
                found.add(name)
    return found
