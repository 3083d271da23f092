"""Rows: what hypeman lists, one for each repository and digest, and which folders stand behind each."""

from dataclasses import dataclass, field

from support.mixed_reading import Folder, Tree
from support.naive import Key

__all__ = ["Row", "Rows", "make_rows"]


@dataclass
class Row:
    """One digest under one repository."""

    repository: str
    digest: str
    content: Folder | None = None
    """Set where the repository owns content of that digest, ready or not."""
    legacy: Folder | None = None
    tags: set[str] = field(default_factory=set)
    """Those of its repository by which a lookup leads to the digest."""

    @property
    def key(self) -> Key:
        return self.repository, self.digest

    @property
    def has_whole_legacy(self) -> bool:
        return self.legacy is not None and is_whole(self.legacy, self.repository)

    @property
    def copy(self) -> Folder | None:
        """The legacy folder, where it is whole and ready."""
        legacy = self.legacy
        return legacy if legacy is not None and self.has_whole_legacy and legacy.status == "ready" else None

    @property
    def is_of_content(self) -> bool:
        """Whether it is the content that it stands for, and not a legacy folder."""
        return self.content is not None and (self.content.is_ready or not self.has_whole_legacy)

    @property
    def standing(self) -> Folder:
        """The folder whose metadata speaks for it."""
        folder = self.content if self.is_of_content else self.legacy
        assert folder is not None
        return folder


@dataclass(frozen=True)
class Rows:
    """All rows of a data directory."""

    tree: Tree
    by_key: dict[Key, Row]

    def of_content(self, digest: str) -> list[Row]:
        """List the rows that stand for the content of a digest."""
        return [row for row in self.by_key.values() if row.digest == digest and row.is_of_content]

    def owners(self, digest: str) -> set[str]:
        return {row.repository for row in self.by_key.values() if row.digest == digest and row.content}

    def is_here(self, key: Key) -> bool:
        return key in self.by_key or key[1] in self.tree.contents

    def needed_for(self, key: Key) -> set[Key]:
        """List the rows that must stay so that what a repository calls by a digest stays."""
        repository, digest = key
        needed = {key} & self.by_key.keys()
        if repository not in self.owners(digest):
            needed |= {row.key for row in self.of_content(digest)}
        return needed

    def digests_in(self, repository: str) -> set[str]:
        """List every digest that a repository has, or has pulled first."""
        own = {digest for name, digest in self.by_key if name == repository}
        return own | {
            digest for digest, content in self.tree.contents.items() if content.repository == repository
        }

    def ages(self, repository: str, digest: str) -> list[int | None]:
        """Tell when a digest came into a repository: once for each folder that it has there."""
        row = self.by_key.get((repository, digest))
        folders = [] if row is None else [row.standing, row.copy]
        content = self.tree.contents.get(digest)
        if content is not None and content.repository == repository:
            folders.append(content)
        return [folder.created for folder in folders if folder is not None]


def is_whole(folder: Folder, repository: str) -> bool:
    """Tell whether a legacy folder has metadata of its digest and repository, and a disk."""
    is_told = folder.status != "unknown" and folder.is_named and folder.repository == repository
    return is_told and folder.disk is not None


def owners_of(tree: Tree, digest: str) -> set[str]:
    """Tell the repositories whose content a digest's folder is."""
    owners: set[str] = set()
    for link in tree.links:
        if link.digest != digest or link.is_shadowed:
            continue
        legacy = tree.legacy.get((link.repository, digest))
        if not link.is_legacy or legacy is None or not is_whole(legacy, link.repository):
            owners.add(link.repository)
    named = tree.contents[digest].repository
    if not owners and named is not None:
        owners.add(named)
    return owners


def make_rows(tree: Tree) -> Rows:
    """Make the rows of a data directory."""
    rows: dict[Key, Row] = {}
    for digest, content in tree.contents.items():
        for repository in owners_of(tree, digest):
            rows[repository, digest] = Row(repository, digest, content=content)
    for (repository, digest), folder in tree.legacy.items():
        rows.setdefault((repository, digest), Row(repository, digest)).legacy = folder
    for link in tree.links:
        if link.digest is not None and not link.is_shadowed and (link.repository, link.digest) in rows:
            rows[link.repository, link.digest].tags.add(link.tag)
    return Rows(tree, rows)
