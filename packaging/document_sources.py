"""What the documents are made from, and whether a site was made from these very files.

    python3 packaging/document_sources.py SITE

Exit code 0: SITE was; 1: it is older, or not there. Nothing but the standard library is needed.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ROOT", "STAMP", "digest_of_sources", "is_current"]

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".sources"
"""The file of a site that holds the digest of what it was made from."""

_PATTERNS = (
    "README.md",
    "CHANGELOG.md",
    "docs/*",
    "examples/*.py",
    "packaging/document*.py",
    "packaging/docs.lock",
    "src/hmret/**/*.py",
)


def digest_of_sources(root: Path = ROOT) -> str:
    """Return a digest of the names and the bytes of all files that the documents are made from."""
    digest = hashlib.sha256()
    for path in _sources(root):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def is_current(site: Path, root: Path = ROOT) -> bool:
    """Return whether a site was made from the files as they are now."""
    try:
        made_from = (site / STAMP).read_text(encoding="ascii")
    except OSError:
        return False
    return made_from == digest_of_sources(root)


def _sources(root: Path) -> Iterator[Path]:
    for pattern in _PATTERNS:
        yield from sorted(path for path in root.glob(pattern) if path.is_file())


if __name__ == "__main__":
    sys.exit(0 if is_current(Path(sys.argv[1])) else 1)
