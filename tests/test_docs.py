"""What the documents say is so: the tests that they name exist, and the code that they show runs."""

import re
import textwrap
from pathlib import Path

import anyio
import pytest

import hmret
from support.builders import has_image, make_image

ROOT = Path(__file__).parent.parent
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "SAFETY.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_the_page_on_safety_names_exists(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_on_safety_names_tests() -> None:
    assert len(NAMED) > 40


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that a page's headings have."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_section_that_a_page_links_to_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    wrong = [
        f"{target}#{anchor}"
        for target, anchor in links
        if anchor not in anchors_of(page.parent / target if target else page)
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?![a-z]+:)([^)#\s]+)(?:#[^)\s]*)?\)", text)
    assert [link for link in links if not (page.parent / link).is_file()] == []


ARCHITECTURE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_every_module_that_the_page_on_the_architecture_names_exists() -> None:
    named = set(re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|c|js|md))`", ARCHITECTURE))
    tops = ROOT, ROOT / "src" / "hmret"
    assert len(named) > 80
    assert sorted(path for path in named if not any((top / path).is_file() for top in tops)) == []


def test_every_row_on_where_to_begin_names_a_path() -> None:
    section = ARCHITECTURE.partition("\n## Where to begin\n")[2].partition("\n## ")[0]
    rows = [row.split(" | ") for row in section.splitlines() if row.startswith("| ")][1:]
    assert len(rows) >= 10
    assert all(re.search(r"`\w+/[\w/]+\.py`", begin) for _, begin, _ in rows)


@pytest.mark.parametrize("folder", ["disk/hypeman", "disk/deletion"])
def test_every_module_in_the_tables_of_the_architecture_exists(folder: str) -> None:
    table = ARCHITECTURE.partition(f"\n| module of `{folder}/` | ")[2].partition("\n\n")[0]
    modules = [
        name for row in table.splitlines()[2:] for name in re.findall(r"`([\w/]+)`", row.split(" | ")[0])
    ]
    assert len(modules) > 8
    assert [name for name in modules if not (ROOT / "src/hmret" / folder / f"{name}.py").is_file()] == []


ODD = re.findall(
    r"^  (\w+): \(one\) => odd\(",
    (ROOT / "src/hmret/api/page/events.js").read_text(encoding="utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize("event", [*ODD, "newer_layout_left_alone", "ghost_removed", "image_kept"])
def test_the_guide_for_operators_has_a_remedy_for_whatever_is_odd_in_a_cache(event: str) -> None:
    assert len(ODD) >= 8
    guide = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")
    section = guide.partition("### What hypeman leaves unfinished")[2].partition("\n### ")[0]
    assert re.search(rf"^\| `{event}`[^|]* \| .+ \| .+ \|$", section, re.MULTILINE)


def test_the_code_of_the_readme_runs(tmp_path: Path, anyio_backend: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    key = make_image(tmp_path, "docker.io/library/alpine", "a", tags=("3.20",))
    code = code.replace("/var/lib/hypeman", str(tmp_path))
    names: dict[str, object] = {}
    exec(f"async def run():\n{textwrap.indent(code, '    ')}    return leased.digest", names)
    run = names["run"]
    assert callable(run)
    assert anyio.run(run, backend=anyio_backend) == key[1]
    assert has_image(tmp_path, key)


async def test_no_sources_may_be_said_as_the_contract_says_it(tmp_path: Path) -> None:
    key = make_image(tmp_path, "docker.io/library/alpine", "a", tags=("3.20",))
    config = hmret.RetentionConfig(data_dir=tmp_path)
    async with hmret.open_retention(config, sources=None) as retention:
        assert (await retention.mark_used("alpine:3.20")).digest == key[1]
