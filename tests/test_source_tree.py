"""The tree of the source stays one that a newcomer can look through."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "hmret"
MODULES = sorted(ROOT.rglob("*.py"))
MOST_LINES, MOST_MODULES = 400, 16


def test_no_module_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert len(lengths) > 300
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_no_folder_holds_too_many_modules() -> None:
    folders = Counter(path.parent.relative_to(ROOT) for path in MODULES if path.name != "__init__.py")
    assert {str(folder): number for folder, number in folders.items() if number > MOST_MODULES} == {}
