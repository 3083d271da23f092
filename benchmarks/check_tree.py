"""Reads a data directory by hypeman's rules, and counts: `python benchmarks/check_tree.py FOLDER`.

It shares no line with the generator, with the C program or with hmret, so that it can check them. Prints one JSON
document: what is there, in rows (a digest in a repository that owns it), and `problems` with what should not be there
in a generated tree. Ends with 1 where there are any.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

_HEX = re.compile("[0-9a-f]{64}")
_HOST = re.compile(r".*[.:A-Z].*|localhost")
_DISKS = ("rootfs.erofs", "rootfs.ext4")
_DUE = timedelta(days=60)

Row = tuple[str, str]


@dataclass
class Folder:
    """A digest folder."""

    path: Path
    metadata: dict[str, Any]
    inode: int | None
    """Of its disk."""

    @property
    def is_whole(self) -> bool:
        """Whether it can be booted."""
        return self.inode is not None and self.metadata.get("status") == "ready"


@dataclass
class Found:
    """All of a data directory."""

    content: dict[str, Folder] = field(default_factory=dict)
    legacy: dict[Row, Folder] = field(default_factory=dict)
    links: dict[Row, str] = field(default_factory=dict)
    """By repository and tag, below `repositories`."""
    legacy_links: dict[Row, str] = field(default_factory=dict)
    states: dict[Row, datetime] = field(default_factory=dict)
    references: list[tuple[str, str]] = field(default_factory=list)
    """What guests and snapshots name, and the digest that it is pinned to."""
    problems: list[str] = field(default_factory=list)


def read_tree(data_dir: Path) -> Found:
    """Read everything."""
    found = Found()
    images = data_dir / "images"
    for path in _list(images / "content"):
        found.content[path.name] = _read_folder(path, found)
    for path in _walk(images / "repositories"):
        repository = str(path.parent.relative_to(images / "repositories"))
        found.links[repository, path.name] = _read_link(path, images, found)
    for host in _list(images):
        if _HOST.fullmatch(host.name):
            _read_legacy(host, images, found)
    retention = data_dir / "system" / "image-retention"
    for path in sorted(retention.rglob("*.json")):
        state = json.loads(path.read_text())
        row = state["repository"], state["digest"].removeprefix("sha256:")
        if path != retention / row[0] / f"{row[1]}.json":
            found.problems.append(f"a state of another row: {path}")
        found.states[row] = datetime.fromisoformat(state["unused_since"])
    for path in sorted(data_dir.glob("guests/*/metadata.json")):
        _add_reference(json.loads(path.read_text()), found)
    for path in sorted(data_dir.glob("snapshots/*/snapshot.json")):
        _add_reference(json.loads(path.read_text())["stored_metadata"], found)
    return found


def owners(found: Found) -> dict[Row, str]:
    """List the rows, with the status of each."""
    rows: dict[Row, str] = {}
    named = {(repository, target) for (repository, _), target in found.links.items()}
    for (repository, tag), target in found.legacy_links.items():
        has_folder = (repository, target) in found.legacy
        if (repository, tag) not in found.links and not has_folder:
            named.add((repository, target))
    tagged = {target for _, target in named}
    for hexadecimal, folder in found.content.items():
        if hexadecimal not in tagged:
            named.add((_split(folder.metadata["name"])[0], hexadecimal))
    for repository, hexadecimal in named:
        if hexadecimal in found.content:
            rows[repository, hexadecimal] = found.content[hexadecimal].metadata["status"]
    for row, folder in found.legacy.items():
        content = found.content.get(row[1])
        if row not in rows or (folder.is_whole and content is not None and not content.is_whole):
            rows[row] = folder.metadata["status"]
    return rows


def resolve(found: Found, reference: str) -> str | None:
    """Look for the digest that a reference leads to; None: it leads nowhere."""
    repository, tag, hexadecimal = _split(reference)
    if not hexadecimal:
        target = found.links.get((repository, tag)) or found.legacy_links.get((repository, tag))
        hexadecimal = target or ""
    is_here = hexadecimal in found.content or (repository, hexadecimal) in found.legacy
    return hexadecimal if is_here else None


def summarise(found: Found, now: datetime) -> dict[str, Any]:
    """Count what is there."""
    rows = owners(found)
    per_digest = Counter(hexadecimal for _, hexadecimal in rows)
    linked = set(found.links.values())
    referenced = rows.keys() & {(_split(image)[0], hexadecimal) for image, hexadecimal in found.references}
    due = {row for row, since in found.states.items() if row in rows and now - since >= _DUE}
    by_digest: dict[str, list[Row]] = {}
    for row in rows:
        by_digest.setdefault(row[1], []).append(row)
    whole_due = {one for one, its_rows in by_digest.items() if due.issuperset(its_rows)}
    disks = {folder.inode for folder in (*found.content.values(), *found.legacy.values())} - {None}
    return {
        "content": len(found.content),
        "legacy": len(found.legacy),
        "repositories": len({repository for repository, _ in rows}),
        "links": len(found.links),
        "legacy_links": len(found.legacy_links),
        "rows": len(rows),
        "ready_rows": sum(status == "ready" for status in rows.values()),
        "statuses": dict(sorted(Counter(rows.values()).items())),
        "shared": sum(count > 1 for count in per_digest.values()),
        "owners_of_shared": dict(
            sorted(Counter(count for count in per_digest.values() if count > 1).items())
        ),
        "hard_linked": sum(
            hexadecimal in found.content and found.content[hexadecimal].inode == folder.inode
            for (_, hexadecimal), folder in found.legacy.items()
        ),
        "untagged": sum(hexadecimal not in linked for hexadecimal in found.content),
        "states": len(found.states),
        "states_without_row": sum(row not in rows for row in found.states),
        "rows_without_state": sum(row not in found.states for row in rows),
        "due_rows": len(due),
        "due_units": len(whole_due),
        "rows_of_due_units": sum(len(by_digest[one]) for one in whole_due),
        "references": len(found.references),
        "referenced_rows": len(referenced),
        "stale": sum(resolve(found, reference) is None for reference, _ in found.references),
        "disks": len(disks),
        "problems": found.problems,
    }


def _list(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _walk(folder: Path) -> Iterator[Path]:
    """List links and digest folders."""
    for path in _list(folder):
        if path.is_symlink() or _HEX.fullmatch(path.name):
            yield path
        else:
            yield from _walk(path)


def _read_legacy(host: Path, images: Path, found: Found) -> None:
    for path in _walk(host):
        repository = str(path.parent.relative_to(images))
        if path.is_symlink():
            found.legacy_links[repository, path.name] = _read_link(path, images, found)
        else:
            found.legacy[repository, path.name] = _read_folder(path, found)


def _read_folder(path: Path, found: Found) -> Folder:
    metadata = json.loads((path / "metadata.json").read_text())
    if metadata["digest"] != f"sha256:{path.name}":
        found.problems.append(f"metadata of another digest: {path}")
    manifest = path / "manifest.json"
    if manifest.exists() and json.loads(manifest.read_text())["digest"] != metadata["digest"]:
        found.problems.append(f"a manifest of another digest: {path}")
    disks = [path / name for name in _DISKS if (path / name).is_file()]
    if bool(disks) != (metadata["status"] == "ready"):
        found.problems.append(f"{metadata['status']} with {len(disks)} disks: {path}")
    if disks and disks[0].stat().st_size != metadata["size_bytes"]:
        found.problems.append(f"another size than its metadata says: {path}")
    return Folder(path, metadata, disks[0].stat().st_ino if disks else None)


def _read_link(path: Path, images: Path, found: Found) -> str:
    """Read a tag; it is valid as hypeman finds it valid, by its text alone."""
    target = path.readlink()
    hexadecimal = target.name
    joined = Path("/").joinpath(path.parent.relative_to(images))
    for part in target.parts:
        joined = joined.parent if part == ".." else joined / part
    is_bare = str(target) == hexadecimal
    if not _HEX.fullmatch(hexadecimal) or not (is_bare or joined == Path("/content") / hexadecimal):
        found.problems.append(f"no valid tag: {path} -> {target}")
    return hexadecimal


def _add_reference(guest: dict[str, Any], found: Found) -> None:
    found.references.append((guest["Image"], _split(guest["ResolvedImage"])[2]))
    for reference in (guest["Image"], guest["ResolvedImage"]):
        if resolve(found, reference) is None:
            found.problems.append(f"a guest of an image that is not here: {reference}")


def _split(reference: str) -> tuple[str, str, str]:
    """Take a reference apart: repository, tag, hex digits of its digest."""
    named, _, digest = reference.partition("@sha256:")
    if not _HOST.fullmatch(named.split("/")[0]) or "/" not in named:
        named = f"docker.io/{named}" if "/" in named else f"docker.io/library/{named}"
    repository, colon, tag = named.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = named, ""
    return repository, "" if digest else tag or "latest", digest


def main() -> None:
    """Check one data directory."""
    parser = argparse.ArgumentParser(description="Count what is in a data directory.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--now", type=datetime.fromisoformat, help="when a timer of 60 days is due; default: now"
    )
    options = parser.parse_args()
    found = read_tree(options.folder)
    summary = summarise(found, options.now or datetime.now().astimezone())
    print(json.dumps(summary, indent=2))
    sys.exit(bool(found.problems))


if __name__ == "__main__":
    main()
