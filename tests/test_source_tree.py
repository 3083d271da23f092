"""The tree of the source stays one that a newcomer can look through."""

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "hmret"
MODULES = sorted(ROOT.rglob("*.py"))
NAMES = {
    ".".join(("hmret", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in MODULES
}
MOST_LINES, MOST_MODULES, MOST_CHAINS = 400, 16, 25


def test_no_module_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert len(lengths) > 300
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_no_folder_holds_too_many_modules() -> None:
    folders = Counter(path.parent.relative_to(ROOT) for path in MODULES if path.name != "__init__.py")
    assert {str(folder): number for folder, number in folders.items() if number > MOST_MODULES} == {}


def attribute_chains(path: Path) -> Iterator[str]:
    """List the expressions `a.b.c.d`, and longer ones, in a module."""
    tree = ast.parse(path.read_text())
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        names: list[str] = []
        rest: ast.AST = node
        while isinstance(rest, ast.Attribute):
            names.append(rest.attr)
            rest = rest.value
        if len(names) >= 3 and isinstance(rest, ast.Name) and id(node) not in inner:
            yield ".".join((rest.id, *reversed(names)))


def test_few_expressions_reach_through_two_objects_and_none_through_more() -> None:
    chains = [
        (str(path.relative_to(ROOT)), chain)
        for path in MODULES
        if path.relative_to(ROOT).parts[0] != "model"
        for chain in attribute_chains(path)
    ]
    assert [chain for chain in chains if chain[1].count(".") > 3] == []
    assert len(chains) <= MOST_CHAINS, chains


def imports_of(path: Path) -> Iterator[str]:
    """List the modules of hmret that a module imports anywhere in it, for types included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            below = {f"{node.module}.{name.name}" for name in node.names} & NAMES.keys()
            yield from below or {node.module} & NAMES.keys()


def test_no_modules_import_one_another_in_a_circle() -> None:
    TopologicalSorter({name: set(imports_of(path)) for name, path in NAMES.items()}).prepare()


def test_no_two_classes_have_one_public_name() -> None:
    names = Counter(
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []
