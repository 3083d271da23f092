"""The references of guests and snapshots, indexed, and brought up to date by what has changed since the last look."""

from collections.abc import Mapping

import attrs

from hmret.disk.scans.references import ReferenceFile, ReferenceLook
from hmret.model.grouping import ReferenceIndex
from hmret.model.records.folders import FolderSeen
from hmret.model.values import frozen


@frozen(eq=False)
class IndexedReferences:
    """What guests and snapshots refer to, by the last look at their files."""

    look: ReferenceLook
    is_indexed: bool = False
    """Whether the index holds what the look found; else it is empty."""
    index: ReferenceIndex = attrs.field(factory=lambda: ReferenceIndex((), {}))
    unreadable: tuple[tuple[str, str], ...] = ()
    unread_sources: frozenset[str] = frozenset()

    @property
    def files(self) -> Mapping[str, ReferenceFile]:
        """The result of each file, by source."""
        return self.look.files

    def folders(self) -> Mapping[str, FolderSeen]:
        """Return the identities of the folders of guests and snapshots, except those that could not be listed."""
        return self.look.folders()

    def renew(self, look: ReferenceLook) -> "IndexedReferences":
        """Return the same after a later look; only what is new in it is worked through."""
        before, after = self.look.files, look.files
        # guard(each-look-counts-changes): A guest or snapshot that changed since the last look protects what it needs
        # from this look on.
        if after is before and self.is_indexed:
            return self if look is self.look else attrs.evolve(self, look=look)
        indexed = before if self.is_indexed else {}
        gone = [
            reference
            for source, file in indexed.items()
            if after.get(source) is not file
            for reference in file.references
        ]
        come = [
            reference
            for source, file in after.items()
            if indexed.get(source) is not file
            for reference in file.references
        ]
        problems = {source: file for source, file in after.items() if file.problem is not None}
        return IndexedReferences(
            look,
            is_indexed=True,
            index=self.index.changed(gone, come),
            unreadable=tuple(sorted(file.fault for file in problems.values())),
            unread_sources=frozenset(problems),
        )
