"""Lays out the sources of the site: the README as its first page, the pages of docs/, and what is made from the code.

Pages link to each other, and to files of the checkout, by paths that hold on a code host; here these are turned into the
paths of the site, and the files are carried along.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from document_pages import GENERATED

__all__ = ["GROUPS", "groups_of", "stage"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "First day": ("PURPOSE", "ALTERNATIVES", "FIRST_DAY"),
    "How to": ("INSTALL", "HOW_TO", "OPERATING", "ALERTS", "POLICY", "FLEET", "EMBEDDING"),
    "Reference": (
        "COMMANDS",
        "SETTINGS",
        "REASONS",
        "METRICS",
        "CONTROL_API",
        "PYTHON",
        "CHANGELOG",
    ),
    "Why": ("SAFETY", "DECISIONS", "ARCHITECTURE", "DELETION", "BENCHMARKS", "PROOFS", "TESTING"),
}
"""The pages beside the first one, by what a reader wants. One that stands in no group comes last."""

_WIDE = {"SETTINGS", "REASONS", "METRICS"}  # their tables take the room in which others have their contents
_STYLES = """\
/* Room for tables with many columns, and for lines of shell. */
@media (min-width: 82em) {
    .content { width: 54em; }
}
@media (min-width: 105em) {
    .content { width: 66em; }
}
@media (min-width: 67em) {
    .content:has(+ .no-toc) { width: 100%; max-width: 80em; }
    .no-toc { display: none; }
}
.content pre { font-size: 0.8em; }
.content table.docutils { margin-left: 0; font-size: 0.85em; }
.content td { vertical-align: top; }
.content td code { padding: 0; border: 0; background: none; overflow-wrap: anywhere; white-space: normal; }
.content td:first-child code { overflow-wrap: normal; }
"""
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_MARKER = re.compile(r"^<!-- made from the code: (\w+) -->$", re.MULTILINE)
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def stage(root: Path, folder: Path) -> None:
    """Write the sources of the site into a folder.

    Raises:
        SystemExit: a page links to a file that is not there.
    """
    styles = folder / "_static/documents.css"
    styles.parent.mkdir(parents=True)
    styles.write_text(_STYLES, encoding="utf-8")
    pages = _pages(root)
    for path, name in pages.items():
        text = _FENCE.split(path.read_text(encoding="utf-8"))
        # Only what stands between blocks of code has links.
        text[::2] = [_turn_links(part, path, root, folder, pages) for part in text[::2]]
        whole = _MARKER.sub(lambda found: GENERATED[found[1]](), "".join(text))
        if name == "index":
            whole += _contents(set(pages.values()) - {"index"})
        if name in _WIDE:
            whole = f"---\nhide-toc: true\n---\n\n{whole}"
        (folder / f"{name}.md").write_text(whole, encoding="utf-8")


def groups_of(names: set[str]) -> Mapping[str, list[str]]:
    """Return the pages that there are, by group."""
    listed = {name for group in GROUPS.values() for name in group}
    groups = {title: [name for name in group if name in names] for title, group in GROUPS.items()}
    return {**groups, "More": sorted(names - listed)}


def _pages(root: Path) -> Mapping[Path, str]:
    return {
        root / "README.md": "index",
        root / "CHANGELOG.md": "CHANGELOG",
        **{path: path.stem for path in sorted((root / "docs").glob("*.md"))},
    }


def _turn_links(text: str, page: Path, root: Path, folder: Path, pages: Mapping[Path, str]) -> str:
    def turned(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        if re.match(r"[a-z]+:", target):
            return found[0]
        path = (page.parent / target).resolve()
        if path in pages:
            return f"{before}{pages[path]}.md{after}"
        if not path.is_file() or not path.is_relative_to(root):
            raise SystemExit(f"{page.relative_to(root)}: {target} leads nowhere")
        carried = path.relative_to(root / "docs" if path.is_relative_to(root / "docs") else root)
        (folder / carried).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / carried)
        return f"{before}{carried}{after}"

    return _LINK.sub(turned, text)


def _contents(names: set[str]) -> str:
    parts = [
        f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(group) + "\n```\n"
        for title, group in groups_of(names).items()
        if group
    ]
    return "".join(parts)
