"""What was found in the files of guests and snapshots, and which of these have changed since."""

from collections.abc import Mapping, Sequence

import attrs
import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.saved_states import SavedState
from hmret.disk.signatures import Signature
from hmret.disk.watched_paths import WatchedPaths
from hmret.model.images import Reference

__all__ = ["ReferenceFile", "ReferenceWatch"]


class ReferenceFile(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one guest's or snapshot's file was found to hold."""

    path: str
    """Below the data directory."""
    references: tuple[Reference, ...] = ()
    problem: str | None = None
    """Why it could not be read; None: it could."""
    signature: Signature | None = None
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


@attrs.frozen(eq=False)
class ReferenceWatch:
    """Tells which files of a listing are not what was read of them."""

    paths: WatchedPaths
    numbers: tuple[int, ...]
    """Of the files that `paths` asks for, in the listing."""
    places: Mapping[int, int]
    """The same the other way round."""
    others: tuple[int, ...]
    """Of the files that are looked at one by one."""

    @classmethod
    def of(
        cls, names: Sequence[str], file_name: str, files: Sequence[ReferenceFile | None]
    ) -> "ReferenceWatch":
        """Watch the files that are known well enough."""
        watched: list[tuple[str, Signature]] = []
        numbers: list[int] = []
        others: list[int] = []
        for number, (name, file) in enumerate(zip(names, files, strict=True)):
            if file is None or file.signature is None or file.saved is not None:
                others.append(number)
            else:
                numbers.append(number)
                watched.append((f"{name}/{file_name}", file.signature))
        places = {number: place for place, number in enumerate(numbers)}
        return cls(WatchedPaths(watched), tuple(numbers), places, tuple(others))

    def renewed(self, files: Mapping[int, ReferenceFile | None]) -> "ReferenceWatch | None":
        """Return the same with some files as they are now; None where others are to be watched."""
        signatures: dict[int, Signature] = {}
        for number, file in files.items():
            place = self.places.get(number)
            is_watched = file is not None and file.signature is not None and file.saved is None
            if is_watched is not (place is not None):
                return None
            if file is not None and file.signature is not None and place is not None:
                signatures[place] = file.signature
        return attrs.evolve(self, paths=self.paths.renewed(signatures))

    def changed(self, filesystem: Filesystem, folder_fd: int) -> list[int]:
        """List the files that have changed, or may have, in their order."""
        changed = [self.numbers[place] for place in self.paths.changed(filesystem, folder_fd, follow=True)]
        return sorted((*changed, *self.others)) if changed else list(self.others)
