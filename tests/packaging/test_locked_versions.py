"""What every way of installation has is one set of libraries, by version and hash, that the tests were run with."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def locked(name: str) -> dict[str, str]:
    """The versions in a lock; each entry of one with hashes has some."""
    entries = re.sub(r"\\\n *", "", (ROOT / "packaging" / name).read_text()).splitlines()
    found = {}
    for entry in entries:
        if entry.startswith("#"):
            continue
        version = re.match(r"[^=\s]+==([^\s;]+)", entry)
        assert version is not None, entry
        found[name_of(entry)] = version[1]
        if name != "development.lock":
            assert re.search(r" ?--hash=sha256:[0-9a-f]{64}", entry), entry
    return found


def test_each_library_that_is_needed_is_locked() -> None:
    needed = {name_of(one) for one in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"])}
    assert needed <= set(locked("requirements.lock"))


def test_what_is_installed_is_what_the_tests_are_run_with() -> None:
    installed, tested = locked("requirements.lock"), locked("development.lock")
    assert len(installed) > 20
    assert installed == {name: tested.get(name) for name in installed}


@pytest.mark.parametrize("name", ["tools", "docs"])
def test_what_builds_is_locked_too(name: str) -> None:
    wanted = (ROOT / "packaging" / f"{name}.in").read_text().split()
    assert set(wanted) <= set(locked(f"{name}.lock"))


def test_what_builds_the_documents_does_not_take_the_place_of_what_the_tests_are_run_with() -> None:
    tested = locked("development.lock")
    shared = {name: version for name, version in locked("docs.lock").items() if name in tested}
    assert "pyyaml" in shared
    assert shared == {name: tested[name] for name in shared}
