"""What a release says of itself: what it is made of, the sums of its files, and the lines by which it is had."""

import hashlib
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.children import run_program
from support.packaging_programs import PACKAGING, load

release, ways = load("release"), load("ways_in")
LOCK = (PACKAGING / "requirements.lock").read_text()
PROJECT = {"name": "hmret", "version": "9.8.7", "description": "It.", "license": "MIT"}


def test_the_bill_of_materials_has_each_library_of_the_lock_with_its_hashes() -> None:
    bill: dict[str, Any] = release.bill_of_materials(PROJECT, LOCK)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/hmret@9.8.7"
    found = {one["name"]: one for one in bill["components"]}
    assert len(found) == len(re.findall(r"^[a-z0-9-]+==", LOCK, re.MULTILINE)) > 20
    assert found["msgspec"]["purl"] == f"pkg:pypi/msgspec@{found['msgspec']['version']}"
    hashes = [
        one["hashes"][0]["content"] for library in found.values() for one in library["externalReferences"]
    ]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", LOCK))
    assert bill["dependencies"][0]["dependsOn"] == [one["bom-ref"] for one in found.values()]
    assert bill == release.bill_of_materials(PROJECT, LOCK)
    assert bill["serialNumber"] != release.bill_of_materials(PROJECT, f"{LOCK}\n")["serialNumber"]


def test_a_line_of_the_lock_without_a_version_is_refused() -> None:
    with pytest.raises(SystemExit, match="expected NAME==VERSION, got 'anyio>=4'"):
        release.bill_of_materials(PROJECT, "anyio>=4\n")


def test_the_sums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "hmret.pyz").write_bytes(b"one")
    (tmp_path / "SHA256SUMS").write_text(release.sums(tmp_path))
    assert release.sums(tmp_path) == f"{hashlib.sha256(b'one').hexdigest()}  hmret.pyz\n"
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    assert run_program(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path).returncode == 0


def test_the_version_stands_in_one_place_and_what_people_read_agrees_with_it() -> None:
    root = PACKAGING.parent
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for folder in (root / "src", root / "packaging"):
        for path in (
            one for one in folder.rglob("*") if one.suffix in {".py", ".sh", ".in", ""} and one.is_file()
        ):
            assert f'"{version}"' not in path.read_text(encoding="utf-8"), path
    heading = re.search(r"^## ([0-9.]+)", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading is not None
    assert heading[1] == version
    assert f"localhost/hmret:{version}" in (root / "README.md").read_text(encoding="utf-8")
    document = json.loads((root / "docs/openapi.json").read_text(encoding="utf-8"))
    assert document["info"]["version"] == version


@pytest.mark.parametrize("way", ways.WAYS)
def test_the_readme_shows_at_most_three_lines_for_each_way_in(way: str) -> None:
    assert 1 <= len(ways.lines_of(way).splitlines()) <= 3


def test_where_no_root_can_be_made_the_ways_in_say_why_and_fail_nobody(tmp_path: Path) -> None:
    program = [sys.executable, str(PACKAGING / "ways_in.py")]
    done = run_program(program, env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"ways-in: skipped: (needs debootstrap, .*|only root can)\n", done.stdout)
