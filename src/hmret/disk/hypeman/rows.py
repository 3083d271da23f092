"""From the folders of both layouts to rows: which repository has which digest, and in which folder.

Source: hypeman's own rules of lookup, which `precedence` applies to one repository.
"""

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from typing import cast

import attrs

from hmret.disk.hypeman.content import is_part, part_of
from hmret.disk.hypeman.images import NOTHING, FolderScan
from hmret.disk.hypeman.precedence import (
    choose_row,
    effective_tags,
    has_usable_folder,
    linked_or_own_digests,
    names_at,
    share_digests,
    tag_names_of_folders,
    tags_folder_of,
)
from hmret.disk.hypeman.repositories import repository_of
from hmret.disk.layout import CONTENT, IMAGES, REPOSITORIES, hex_of
from hmret.model.images import ContentOwners, Image, Repository
from hmret.model.references import Reference
from hmret.model.values import define, frozen

Names = str | tuple[str, ...]
"""Repositories, sorted; a single one is stored as a plain string, since there may be very many."""

_NO_NAMES: AbstractSet[str] = frozenset()
_NO_IMAGES: Mapping[str, Image] = {}
_NO_SHARES: Mapping[str, tuple[str, ...]] = {}
_NO_NOTES: Mapping[str, str] = {}


@frozen
class RowsFound:
    """The rows that follow from all folders."""

    repositories: Mapping[str, Repository]
    owners: ContentOwners
    bases: tuple[Reference, ...]
    """The needs that images have of one another; the very same object where none of them has changed."""
    ownerless: tuple[str, ...]
    """Paths of content that no repository owns."""


@define(eq=False)
class Rows:
    """Makes rows from folders, repeatedly; where nothing has changed, the rows are the very same objects."""

    _folders: Mapping[str, FolderScan] = attrs.field(factory=dict)
    _repositories: dict[str, Repository] = attrs.field(factory=dict)
    _owners: dict[str, Names] = attrs.field(factory=dict)
    _ownerless: set[str] = attrs.field(factory=set)
    _claimants: dict[str, Names] = attrs.field(factory=dict)
    """For each digest: the repositories with a link to it, or a folder of it, except its owners; kept only
    on hosts that have any content.
    """
    _named_only: dict[str, set[str]] = attrs.field(factory=dict)
    """By repository: the content whose metadata names it although it has no link to that."""
    _named_only_by: dict[str, str] = attrs.field(factory=dict)
    """The same by digest."""
    _has_content: bool = False
    _contents: dict[str, Image] = attrs.field(factory=dict)
    """All content by digest, while all rows are being made; empty: content is looked up in its part."""
    _linked: dict[str, dict[str, Image | None]] = attrs.field(factory=dict)
    """While all rows are being made: by repository, the content that its links lead to; None where it is
    missing.
    """
    _unusual: set[str] = attrs.field(factory=set)
    """While all rows are being made: digests that are linked but missing, not ready, or not owned by exactly
    the one repository that they name.
    """
    _bases: tuple[Reference, ...] = ()

    def put_together(self, folders: Mapping[str, FolderScan]) -> RowsFound:
        """Make the rows of all folders."""
        before, self._folders = self._folders, folders
        before = before if self._has_content or not any(map(is_part, folders)) else {}
        paths = [path for path, folder in folders.items() if before.get(path) is not folder]
        paths += [path for path in before if path not in folders]
        repositories = {name for path in paths if (name := _named_by(path)) is not None}
        parts = filter(is_part, paths) if before else ()
        digests = {digest for path in parts for digest in _changed(before, folders, path)}
        # Once there is content, it matters which repository links to which digest.
        self._has_content = self._has_content or any(map(is_part, folders))
        if self._has_content:
            if not before:
                for path, folder in folders.items():
                    if is_part(path):
                        self._contents.update(folder.images)
            repositories |= self._renew_owners(before, repositories, digests)
        for name in repositories:
            self._renew(name)
        self._contents, self._linked, self._unusual = {}, {}, set()
        return RowsFound(
            dict(self._repositories),
            ContentOwners(self._owners),
            self._renew_bases(),
            tuple(sorted(f"{IMAGES}/{CONTENT}/{hex_of(digest)}" for digest in self._ownerless)),
        )

    def _renew_owners(
        self, before: Mapping[str, FolderScan], repositories: AbstractSet[str], digests: AbstractSet[str]
    ) -> set[str]:
        """Determine the owners of content again where they may have changed; returns affected repositories."""
        if not before:
            return self._find_all_owners(repositories)
        # What was made before stays as it is.
        self._owners = dict(self._owners)
        affected = set(digests)
        touched: set[str] = set()
        for name in repositories:
            legacy_before = before.get(name, NOTHING)
            earlier = linked_or_own_digests(legacy_before, before.get(tags_folder_of(name), NOTHING))
            legacy = self._legacy(name)
            now = linked_or_own_digests(legacy, self._tag_folder(name))
            for digest in earlier - now:
                self._touch(digest, touched)
                self._remove_claimant(digest, name)
            for digest in now - earlier:
                self._add_claimant(digest, name)
            # Without a folder of the older layout, links alone determine it.
            is_plain = legacy.repository is None and legacy_before.repository is None
            affected |= earlier ^ now if is_plain else earlier | now
        owned: dict[str, AbstractSet[str]] = {}
        for digest in affected:
            self._touch(digest, touched)
            self._renew_owners_of(digest, owned)
            self._touch(digest, touched)
        return touched

    def _find_all_owners(self, repositories: AbstractSet[str]) -> set[str]:
        """Determine the owners of all content at once; returns those that metadata names and no link does."""
        contents, unusual = self._contents, self._unusual
        owners: dict[str, Names] = {}
        for name in sorted(repositories):
            share_digests(self._tag_folder(name), contents)
            linked = self._linked_content(name)
            found = self._linked[name] = dict(zip(linked, map(contents.get, linked), strict=True))
            shared = owners.keys() & found.keys()
            before = {digest: owners[digest] for digest in shared}
            owners.update(dict.fromkeys(found, name))
            owners.update((digest, (*_each(names), name)) for digest, names in before.items())
            unusual.update(shared)
            unusual.update(
                [
                    digest
                    for digest, content in found.items()
                    if content is None or content.status != "ready" or content.content_name != name
                ]
            )
            legacy = self._legacy(name)
            if legacy.repository is not None:
                for digest in linked_or_own_digests(legacy, self._tag_folder(name)) - linked:
                    self._add_claimant(digest, name)
        # One by one: Python makes the difference of two large sets in one go, and no other thread runs meanwhile.
        ownerless = [digest for digest in contents if digest not in owners]
        for digest in (*unusual, *ownerless):
            content = contents.get(digest)
            if content is None:
                for name in _each(owners.pop(digest)):
                    self._add_claimant(digest, name)
                continue
            named = content.content_name or ""
            if named and named not in _each(owners.get(digest, ())):
                self._named_only.setdefault(named, set()).add(digest)
                self._named_only_by[digest] = named
            if digest not in owners:
                owners[digest] = named or ()
                if not named:
                    self._ownerless.add(digest)
        self._owners = owners
        return {*self._named_only}

    def _touch(self, digest: str, touched: set[str]) -> None:
        """Add the repositories whose rows depend on the owners of a digest."""
        for names in (self._owners.get(digest, ()), self._claimants.get(digest, ())):
            if isinstance(names, str):
                touched.add(names)
            else:
                touched.update(names)
        if digest in self._named_only_by:
            touched.add(self._named_only_by[digest])

    def _renew_owners_of(self, digest: str, owned: dict[str, AbstractSet[str]]) -> None:
        named_only = self._named_only_by.pop(digest, None)
        claimants, owning = _each(self._claimants.get(digest, ())), _each(self._owners.get(digest, ()))
        candidates = sorted({*claimants, *(name for name in owning if name != named_only)})
        if named_only is not None:
            self._named_only[named_only].discard(digest)
            if not self._named_only[named_only]:
                del self._named_only[named_only]
        self._ownerless.discard(digest)
        content = self._content(digest)
        if content is None:
            self._owners.pop(digest, None)
            self._put_claimants(digest, candidates)
            return
        owners = []
        for name in candidates:
            linked = owned.get(name)
            if linked is None:
                linked = owned[name] = self._linked_content(name)
            if digest in linked:
                owners.append(name)
        self._put_claimants(digest, [name for name in candidates if name not in owners])
        name = content.content_name or ""
        if name and name not in owners:
            self._named_only.setdefault(name, set()).add(digest)
            self._named_only_by[digest] = name
        # guard(untagged-content-has-owner): Untagged content still belongs to the repository its metadata
        # names; without an owner no reference would protect it.
        if not owners:
            if name:
                owners.append(name)
            else:
                self._ownerless.add(digest)
        self._owners[digest] = owners[0] if len(owners) == 1 else tuple(owners)

    def _add_claimant(self, digest: str, name: str) -> None:
        names = _each(self._claimants.get(digest, ()))
        owns = self._named_only_by.get(digest) != name and name in _each(self._owners.get(digest, ()))
        if not owns and name not in names:
            self._put_claimants(digest, (*names, name))

    def _remove_claimant(self, digest: str, name: str) -> None:
        self._put_claimants(digest, [one for one in _each(self._claimants.get(digest, ())) if one != name])
        if digest in self._owners:
            self._owners[digest] = tuple(one for one in _each(self._owners[digest]) if one != name)

    def _put_claimants(self, digest: str, names: Sequence[str]) -> None:
        if names:
            self._claimants[digest] = names[0] if len(names) == 1 else tuple(names)
        else:
            self._claimants.pop(digest, None)

    def _linked_content(self, name: str) -> AbstractSet[str]:
        """List the digests that a repository's links lead to in content.

        Those are links below `repositories/`, and those of the older layout where nothing shadows them and
        the repository has no complete folder of its own.
        """
        legacy, tag_folder = self._legacy(name), self._tag_folder(name)
        found = set(tag_folder.tags.values())
        if legacy.tags:
            shadowed = names_at(tag_folder)
            images = legacy.images
            for tag, digest in legacy.tags.items():
                if tag not in shadowed and not has_usable_folder(images.get(digest), legacy):
                    found.add(digest)
        return found

    def _renew(self, name: str) -> None:
        """Make the rows of one repository again."""
        legacy, tag_folder = self._legacy(name), self._tag_folder(name)
        images: dict[str, Image] = {}
        shared: dict[str, tuple[str, ...]] = {}
        unready: dict[str, str] = {}
        named: dict[str, Image] = {}
        if self._has_content:
            images, shared, unready, named = self._rows_of(name, legacy)
        else:
            images.update(legacy.images)
        tags = effective_tags(legacy, tag_folder)
        odd_tags = folder_tags = _NO_NAMES
        if legacy.repository is not None or legacy.subfolders or tag_folder.subfolders or tag_folder.odd_tags:
            # A folder hides a link of its name from the lookup of a tag, but not from the lookup of a repository
            # below it.
            hidden = legacy.tags.keys() & set(tag_names_of_folders(tag_folder))
            odd_tags = frozenset(legacy.odd_tags | tag_folder.odd_tags | hidden).difference(tag_folder.tags)
            folder_tags = (
                frozenset(tag_names_of_folders(legacy))
                .union(tag_names_of_folders(tag_folder))
                .difference(tags)
            )
        if not (images or tags or odd_tags or named):
            self._repositories.pop(name, None)
            return
        made = Repository(
            name,
            images,
            tags,
            # One empty value shared by all.
            shared or _NO_SHARES,
            unready or _NO_NOTES,
            named or _NO_IMAGES,
            odd_tags or _NO_NAMES,
            folder_tags or _NO_NAMES,
        )
        if self._repositories.get(name) != made:
            self._repositories[name] = made

    def _rows_of(  # noqa: C901 - nothing is called for each of very many
        self, name: str, legacy: FolderScan
    ) -> tuple[dict[str, Image], dict[str, tuple[str, ...]], dict[str, str], dict[str, Image]]:
        """List a repository's images, with which it shares them, which are not ready, and which only name it."""
        images: dict[str, Image] = {}
        shared: dict[str, tuple[str, ...]] = {}
        unready: dict[str, str] = {}
        named: dict[str, Image] = {}
        folders = legacy.images
        named_only = self._named_only.get(name, _NO_NAMES)
        digests = {*folders, *named_only}
        if name in self._linked:
            # Fast path: most content is owned by this repository alone.
            linked = self._linked[name]
            digests |= linked.keys() & self._unusual
            for digest in digests:
                linked.pop(digest, None)
            images = cast("dict[str, Image]", linked)
        else:
            digests |= self._linked_content(name)
        for digest in digests:
            content = self._content(digest)
            own = folders.get(digest)
            owners = self._owners.get(digest, ())
            is_owner = name in _each(owners)
            if content is None:
                if own is not None:
                    images[digest] = own
                continue
            if own is None and is_owner and content.status == "ready" and content.broken is None:
                images[digest] = content
                if not isinstance(owners, str):
                    shared[digest] = owners
                continue
            row, note = choose_row(
                content,
                own,
                is_owner=is_owner,
                own_is_usable=has_usable_folder(own, legacy),
                own_is_unreadable=digest in legacy.unreadable,
                content_is_unreadable=digest in self._folders[part_of(digest)].unreadable,
                content_has_disk=digest in self._folders[part_of(digest)].with_disk,
            )
            if row is not None:
                images[digest] = row
                if note:
                    unready[digest] = note
                if is_owner and not isinstance(owners, str) and row.is_content:
                    shared[digest] = owners
            if content.content_name == name and not (is_owner and row is not None and row.is_content):
                named[digest] = content
        return images, shared, unready, named

    def _renew_bases(self) -> tuple[Reference, ...]:
        found = tuple(
            sorted(
                (
                    Reference(f"image/{digest}", resolved_image=base)
                    for folder in self._folders.values()
                    if folder.bases
                    for digest, base in folder.bases
                ),
                key=lambda reference: (reference.source, reference.resolved_image),
            )
        )
        if found != self._bases:
            self._bases = found
        return self._bases

    def _content(self, digest: str) -> Image | None:
        if self._contents:
            return self._contents.get(digest)
        return self._folders.get(part_of(digest), NOTHING).images.get(digest)

    def _legacy(self, name: str) -> FolderScan:
        return self._folders.get(name, NOTHING)

    def _tag_folder(self, name: str) -> FolderScan:
        return self._folders.get(tags_folder_of(name), NOTHING)


def _each(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _named_by(path: str) -> str | None:
    """Return the repository to which a folder belongs; None: it belongs to none."""
    if is_part(path) or not path:
        return None
    if path == REPOSITORIES or path.startswith(f"{REPOSITORIES}/"):
        return repository_of(path)
    return path


def _changed(before: Mapping[str, FolderScan], after: Mapping[str, FolderScan], path: str) -> Iterable[str]:
    """List the digests of a part of content whose folder has changed."""
    one, other = before.get(path, NOTHING), after.get(path, NOTHING)
    earlier, now = one.images, other.images
    yield from (digest for digest, image in now.items() if earlier.get(digest) is not image)
    yield from (digest for digest in earlier if digest not in now)
    yield from {*one.unreadable} ^ {*other.unreadable}
