"""The manual pages say what the program says of itself, and man takes them without a word."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hmret.__main__ import main
from hmret.cli.parsing.command_table import COMMANDS, GROUPS
from hmret.settings.setting_table import RULE_SCHEMAS, SETTING_SCHEMAS
from support.children import run_program
from support.packaging_programs import load

PATHS = [(name,) for name in COMMANDS] + [(group, name) for group in GROUPS for name in GROUPS[group]]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    write: Callable[[Path], object] = load("man_pages").write_pages
    write(folder)
    return folder


def text_of(page: Path) -> str:
    """The text of a page as a reader has it, but for its layout."""
    text = re.sub(
        r"^\.(PP|TP|nf|fi|nh)\n|^\.(B|SH) ", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    for escape, char in (
        (r"\-", "-"),
        (r"\(aq", "'"),
        (r"\(dq", '"'),
        (r"\(ti", "~"),
        (r"\(ga", "`"),
        (r"\&", ""),
    ):
        text = text.replace(escape, char)
    return " ".join(text.replace(r"\e", "\\").split())


def test_the_program_each_command_and_the_settings_have_a_page(pages: Path) -> None:
    names = {str(path.relative_to(pages)) for path in pages.rglob("*.?")}
    assert names == {
        "man1/hmret.1",
        "man5/hmret.yaml.5",
        *(f"man1/hmret-{'-'.join(path)}.1" for path in PATHS),
    }


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_the_page_of_a_command_says_all_that_its_help_says(
    pages: Path, path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "10000")
    assert main([*path, "--help"]) == 0
    usage, *lines = capsys.readouterr().out.splitlines()
    page = text_of(pages / f"man1/hmret-{'-'.join(path)}.1")
    assert usage.removeprefix("Usage: ") in page
    for line in filter(None, lines):
        head, _, meaning = line.strip().partition(": ") if line.startswith("  ") else (line, "", "")
        assert head.rstrip(":").replace("Parameters", "OPTIONS").lower() in page.lower()
        assert meaning in page


def test_the_page_of_the_settings_has_each_with_its_default_and_its_variable(pages: Path) -> None:
    page = text_of(pages / "man5/hmret.yaml.5")
    for setting in SETTING_SCHEMAS:
        assert f"{setting.key} (" in page
        assert f"${setting.variable}" in page
        assert setting.description.replace("`", "") in page
    assert all(f"{key.field.name} (" in page for key in RULE_SCHEMAS)
    assert "hmret.sweep_interval (duration; default: 1m)" in page
    assert 'hmret.metrics_listen (address; default: "")' in page


def test_man_shows_the_pages_without_a_warning(pages: Path) -> None:
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("needs man and groff")
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "MANWIDTH": "80",
        "MANPAGER": "cat",
        "HOME": str(pages),
    }
    command = ["man", "--warnings", "-E", "UTF-8", "-l", *map(str, sorted(pages.rglob("*.?")))]
    shown = run_program(command, env=environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.count("SEE ALSO") == len(PATHS) + 2
    broken = pages / "broken"
    broken.write_text(".TH X 1\n.SH NAME\nx\n.nosuch request\n")
    assert (
        "nosuch"
        in run_program(["man", "--warnings", "-E", "UTF-8", "-l", str(broken)], env=environment).stderr
    )
