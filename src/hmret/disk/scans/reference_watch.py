"""What the files of guests and snapshots were found to hold, and which of them have changed since."""

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint
from hmret.disk.hypeman.saved_states import SavedState
from hmret.disk.watched_paths import WatchedPaths
from hmret.model.references import Reference
from hmret.model.values import frozen


class ReferenceFile(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one guest's or snapshot's file was found to hold."""

    path: str
    """Below the data directory."""
    references: tuple[Reference, ...] = ()
    problem: str | None = None
    """Why it could not be read; None: it was read."""
    fingerprint: Fingerprint | None = None
    """The fingerprint that must still hold for this to be valid; None: read it again in any case."""
    saved: SavedState | None = None
    """What its saved state was found to hold; None: it was not searched, since the file says which digest
    boots.
    """
    known_as: str = ""
    """For an unreadable file: the VM's name when it could last be read; empty: unknown."""
    last_known: tuple[Reference, ...] = ()
    """For an unreadable file: what it named when it could last be read. It counts if the file then disappears."""

    @property
    def name(self) -> str:
        """The VM's display name, as far as it is known."""
        return self.known_as or next((one.name for one in self.references), "")

    @property
    def fault(self) -> tuple[str, str]:
        """The path that could not be read, and why, with the VM's display name."""
        named = f" (VM {self.name})" if self.name else ""
        return self.path, f"{self.problem or ''}{named}"


@frozen(eq=False)
class ReferenceWatch:
    """Finds the files of a listing that have changed since they were read."""

    paths: WatchedPaths
    numbers: Sequence[int]
    """The numbers in the listing of the files that `paths` watches."""
    places: Mapping[int, int]
    """The inverse of `numbers`."""
    others: tuple[int, ...]
    """The numbers of files that are examined one by one, in order."""

    @classmethod
    def of(
        cls, names: Sequence[str], file_name: str, files: Sequence[ReferenceFile | None]
    ) -> "ReferenceWatch":
        """Watch the files whose fingerprints are known."""
        nothing = cls(WatchedPaths(), (), {}, tuple(range(len(names))))
        return nothing.renewed(names, file_name, dict(enumerate(files)))

    def without(self, gone: AbstractSet[int], names: Sequence[str]) -> "ReferenceWatch":
        """Watch what is left of a listing, and what was added to it, of which nothing is known.

        Args:
            gone: numbers in the previous listing.
            names: the listing now: the remaining ones in their order, followed by those that were added.
        """
        known = len(self.numbers) + len(self.others)
        left = [number for number in range(known) if number not in gone]
        moved = {earlier: number for number, earlier in enumerate(left)}
        paths = self.paths.changed_by({self.places[number] for number in gone if number in self.places})
        return ReferenceWatch.numbered(
            paths,
            [moved[number] for number in self.numbers if number in moved],
            (*(moved[number] for number in self.others if number in moved), *range(len(left), len(names))),
        )

    def renewed(
        self, names: Sequence[str], file_name: str, files: Mapping[int, ReferenceFile | None]
    ) -> "ReferenceWatch":
        """Return the same watch with new results for some files, which are given by number."""
        fingerprints: dict[int, Fingerprint] = {}
        gone: set[int] = set()
        come: dict[int, Fingerprint] = {}
        for number, file in files.items():
            place = self.places.get(number)
            if file is None or file.fingerprint is None or file.saved is not None:
                if place is not None:
                    gone.add(place)
            elif place is None:
                come[number] = file.fingerprint
            else:
                fingerprints[place] = file.fingerprint
        paths = self.paths.renewed(fingerprints) if fingerprints else self.paths
        if not gone and not come:
            return attrs.evolve(self, paths=paths)
        left_out = {self.numbers[place] for place in gone}
        watched = ((f"{names[number]}/{file_name}", fingerprint) for number, fingerprint in come.items())
        return ReferenceWatch.numbered(
            paths.changed_by(gone, watched),
            [*(number for number in self.numbers if number not in left_out), *come],
            sorted({*self.others, *left_out}.difference(come)),
        )

    @classmethod
    def numbered(cls, paths: WatchedPaths, numbers: Sequence[int], others: Iterable[int]) -> "ReferenceWatch":
        """Watch paths that have these numbers in the listing."""
        places = {number: place for place, number in enumerate(numbers)}
        return cls(paths, numbers, places, tuple(others))

    def changed(self, filesystem: Filesystem, folder_fd: int) -> list[int]:
        """List the files that have changed, or may have, in order."""
        changed = [self.numbers[place] for place in self.paths.changed(filesystem, folder_fd, follow=True)]
        return sorted((*changed, *self.others)) if changed else list(self.others)
