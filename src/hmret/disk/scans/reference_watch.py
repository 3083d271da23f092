"""What was found in the files of guests and snapshots, and which of these have changed since."""

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.fingerprints import Fingerprint
from hmret.disk.hypeman.saved_states import SavedState
from hmret.disk.watched_paths import WatchedPaths
from hmret.model.images import Reference
from hmret.model.values import frozen

__all__ = ["ReferenceFile", "ReferenceWatch"]


class ReferenceFile(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one guest's or snapshot's file was found to hold."""

    path: str
    """Below the data directory."""
    references: tuple[Reference, ...] = ()
    problem: str | None = None
    """Why it could not be read; None: it could."""
    fingerprint: Fingerprint | None = None
    """What `stat` must still say for this to be true; None: look again in any case."""
    saved: SavedState | None = None
    """What its saved state was found to hold; None: that was not looked for, since the file says which digest boots."""
    known_as: str = ""
    """Of one that could not be read: what the VM was called when it last could be; empty: not known."""

    @property
    def name(self) -> str:
        """What people call the VM, as far as is known."""
        return self.known_as or next((one.name for one in self.references), "")

    @property
    def fault(self) -> tuple[str, str]:
        """The path of what could not be read, and why, with the name by which people know the VM."""
        named = f" (VM {self.name})" if self.name else ""
        return self.path, f"{self.problem or ''}{named}"


@frozen(eq=False)
class ReferenceWatch:
    """Tells which files of a listing are not what was read of them."""

    paths: WatchedPaths
    numbers: Sequence[int]
    """Of the files that `paths` asks for, in the listing."""
    places: Mapping[int, int]
    """The same the other way round."""
    others: tuple[int, ...]
    """Of the files that are looked at one by one, in their order."""

    @classmethod
    def of(
        cls, names: Sequence[str], file_name: str, files: Sequence[ReferenceFile | None]
    ) -> "ReferenceWatch":
        """Watch the files that are known well enough."""
        nothing = cls(WatchedPaths(), (), {}, tuple(range(len(names))))
        return nothing.renewed(names, file_name, dict(enumerate(files)))

    def without(self, gone: AbstractSet[int], names: Sequence[str]) -> "ReferenceWatch":
        """Watch what is left of a listing, and what has come to it, of which nothing is known.

        Args:
            gone: numbers in the listing before.
            names: the listing now: those that are left in their order, and behind them those that have come.
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
        """Return the same with some files, told by number, as they are now."""
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
        """List the files that have changed, or may have, in their order."""
        changed = [self.numbers[place] for place in self.paths.changed(filesystem, folder_fd, follow=True)]
        return sorted((*changed, *self.others)) if changed else list(self.others)
