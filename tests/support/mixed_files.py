"""Writing a data directory of both layouts, file by file, as hypeman's servers of all ages write it."""

import json
import os
import pathlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from support import naive

__all__ = ["Files", "text_of"]

MICROSECOND = timedelta(microseconds=1)


def text_of(moment: datetime, digits: str = "") -> str:
    """Write a time as Go does, to the microsecond and the digits beyond it as they are given."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + digits + "Z"


class Files:
    """The files below one data directory. Nothing is ever written through a link, or over what is there."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.images = root / "images"
        self.ages: dict[pathlib.Path, datetime] = {}
        """When folders have last changed; set at the end, since whatever is written into them changes them too."""

    def settle(self) -> None:
        """Give the folders whose age matters the time stamps that they are to have."""
        for path, moment in self.ages.items():
            if path.exists():
                os.utime(path, ns=(naive.nanoseconds_since_epoch(moment),) * 2)

    def is_free(self, place: pathlib.Path) -> bool:
        """Tell whether something can be made at a place: nothing is there, and only folders lead to it."""
        above = [parent for parent in place.parents if parent.is_relative_to(self.root)]
        return naive.kind(place) == "nothing" and all(
            naive.kind(parent) in ("folder", "nothing") and not naive.is_image(parent) for parent in above
        )

    def write(self, place: pathlib.Path, value: object) -> None:
        """Write JSON, or a text as it is, to a temporary name and rename it."""
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.new")
        temporary.write_text(value if isinstance(value, str) else json.dumps(value, indent=2))
        temporary.rename(place)

    def disk(self, place: pathlib.Path, source: pathlib.Path | None = None, size: int = 600) -> None:
        """Write a disk, or give another one a second name."""
        place.parent.mkdir(parents=True, exist_ok=True)
        if source is None:
            place.write_bytes(bytes(place.parent.name, "ascii") * (1 + size // 64))
        else:
            place.hardlink_to(source)

    def link(self, place: pathlib.Path, target: str, made: datetime) -> None:
        """Make a link, or put it in the place of another, with a rename."""
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(".link.new")
        temporary.symlink_to(target)
        os.utime(temporary, ns=(naive.nanoseconds_since_epoch(made),) * 2, follow_symlinks=False)
        temporary.rename(place)

    def target(self, repository: str, digits: str, *, is_legacy: bool) -> str:
        """Write the target of a tag's link that leads to content, from the folder of its repository."""
        depth = len(repository.split("/")) + (not is_legacy)
        return "../" * depth + f"content/{digits}"

    def content(self, digits: str) -> pathlib.Path:
        return self.images / "content" / digits

    def legacy(self, repository: str, digits: str) -> pathlib.Path:
        return self.images / repository / digits

    def tag(self, repository: str, tag: str, *, is_legacy: bool = False) -> pathlib.Path:
        top = self.images if is_legacy else self.images / "repositories"
        return top / repository / tag

    def state(self, repository: str, digits: str, since: object, **fields: object) -> None:
        named = {"repository": repository, "digest": f"sha256:{digits}", "unused_since": since}
        place = self.root / "system/image-retention" / repository / f"{digits}.json"
        self.write(place, named | fields)

    def guest(self, name: str, **fields: object) -> None:
        self.write(self.root / "guests" / name / "metadata.json", {"Id": name, "Vcpus": 2} | fields)

    def snapshot(self, name: str, stored: object) -> None:
        about = {"id": name, "kind": "Standby", "source_instance_id": "gone"}
        self.write(
            self.root / "snapshots" / name / "snapshot.json", {"snapshot": about, "stored_metadata": stored}
        )

    def build(self, name: str, **fields: object) -> None:
        self.write(self.root / "builds" / name / "metadata.json", {"id": name, "status": "ready"} | fields)


def names_in(folder: pathlib.Path) -> Iterator[str]:
    """Give the names in a folder, dotted ones aside; none where it is not there."""
    return (entry.name for entry in naive.entries(folder) if not entry.name.startswith("."))
