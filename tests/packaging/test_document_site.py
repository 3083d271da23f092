"""The site of the documents is whole, and what says so notices where it is not."""

import os
import re
import shutil
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import hmret
from support.packaging_programs import PACKAGING, load
from support.patience import PATIENCE

ROOT = PACKAGING.parent
SITE = ROOT / "build/site"

checks = load("document_checks")
sources = load("document_sources")
stages = load("document_stage")

needs_site = pytest.mark.skipif(
    not sources.is_current(SITE), reason="make docs has made no site of these pages"
)

GOOD = '<h2 id="there">x</h2><a href="b.html#over-there">x</a><a href="https://example.org/">x</a>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of two pages that are whole."""
    (tmp_path / "a.html").write_text(GOOD)
    (tmp_path / "b.html").write_text('<p id="over-there"><a href="#over-there">x</a><img src="p.png"></p>')
    (tmp_path / "p.png").touch()
    return tmp_path


def test_a_site_that_is_whole_has_no_problems(site: Path) -> None:
    assert checks.problems_of(site) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<a href="c.html">x</a>', "a.html: c.html leads nowhere"),
        ('<a href="b.html#here">x</a>', "a.html: b.html#here leads to no section"),
        ('<a href="#here">x</a>', "a.html: #here leads to no section"),
        ('<img src="q.png">', "a.html: q.png leads nowhere"),
        (
            '<script src="https://cdn.example/x.js"></script>',
            "a.html: loads https://cdn.example/x.js from elsewhere",
        ),
        ('<script src="//cdn.example/x.js"></script>', "a.html: loads //cdn.example/x.js from elsewhere"),
        (
            '<link rel="stylesheet" href="https://cdn.example/x.css">',
            "a.html: loads https://cdn.example/x.css from elsewhere",
        ),
        (
            '<p style="background: url(https://cdn.example/x.png)">',
            "a.html: loads https://cdn.example/x.png from elsewhere",
        ),
        (
            '<style>@import "https://cdn.example/x.css";</style>',
            "a.html: loads https://cdn.example/x.css from elsewhere",
        ),
        (
            '<img srcset="p.png 1x, https://cdn.example/x.png 2x">',
            "a.html: loads https://cdn.example/x.png from elsewhere",
        ),
    ],
)
def test_what_leads_nowhere_or_is_loaded_from_elsewhere_is_a_problem(
    site: Path, text: str, problem: str
) -> None:
    (site / "a.html").write_text(GOOD + text)
    assert checks.problems_of(site) == [problem]


def test_a_style_sheet_that_loads_from_elsewhere_is_a_problem(site: Path) -> None:
    (site / "x.css").write_text("@font-face { src: url('https://cdn.example/x.woff') }")
    assert checks.problems_of(site) == ["x.css: loads https://cdn.example/x.woff from elsewhere"]


def test_a_folder_without_pages_is_a_problem(tmp_path: Path) -> None:
    assert checks.problems_of(tmp_path) == [f"{tmp_path}: no pages"]


def test_links_that_lead_elsewhere_are_listed_with_their_pages(site: Path) -> None:
    assert checks.links_elsewhere(site) == {"https://example.org/": ["a.html"]}


class _Answers(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/here" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_link_elsewhere_that_does_not_answer_well_is_told_with_its_pages(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        url = f"http://127.0.0.1:{server.server_port}"
        (site / "a.html").write_text(f'<a href="{url}/here">x</a>')
        found = [checks._main(["--ask", str(site)])]
        (site / "b.html").write_text(f'<a href="{url}/gone">x</a>')
        found.append(checks._main(["--ask", str(site)]))
        server.shutdown()
    assert found == [0, 1]
    assert capsys.readouterr().out == f"{url}/gone: 404 Not Found (b.html)\n"


def test_without_a_network_no_link_elsewhere_is_asked_for(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    assert checks._main(["--ask", str(site)]) == 0
    assert "skipped: no network" in capsys.readouterr().out


def test_a_site_of_other_sources_is_not_current(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/X.md").write_text("x")
    site = tmp_path / "site"
    site.mkdir()
    assert not sources.is_current(site, tmp_path)
    (site / sources.STAMP).write_text(sources.digest_of_sources(tmp_path))
    assert sources.is_current(site, tmp_path)
    (tmp_path / "docs/X.md").write_text("y")
    assert not sources.is_current(site, tmp_path)


def test_links_of_the_checkout_become_those_of_the_site(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "packaging").mkdir()
    (root / "README.md").write_text(
        "[a](docs/A.md#x) [b](CHANGELOG.md) ![p](docs/p.png) [e](https://x.org/a.md)\n"
    )
    (root / "CHANGELOG.md").write_text("[r](README.md)\n")
    (root / "docs/A.md").write_text(
        "[r](../README.md#ways-in) [u](../packaging/u)\n\n```sh\n[n](none)\n```\n"
    )
    for name in ("docs/p.png", "packaging/u"):
        (root / name).write_text(name)
    stages.stage(root, tmp_path / "stage")
    index = (tmp_path / "stage/index.md").read_text()
    assert index.startswith("[a](A.md#x) [b](CHANGELOG.md) ![p](p.png) [e](https://x.org/a.md)\n")
    assert "\nA\n" in index.partition("toctree")[2]
    assert (tmp_path / "stage/CHANGELOG.md").read_text() == "[r](index.md)\n"
    assert (tmp_path / "stage/A.md").read_text() == (
        "[r](index.md#ways-in) [u](packaging/u)\n\n```sh\n[n](none)\n```\n"
    )
    assert (tmp_path / "stage/p.png").read_text() == "docs/p.png"
    assert (tmp_path / "stage/packaging/u").read_text() == "packaging/u"


def test_a_link_to_a_file_that_is_not_there_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("[a](docs/A.md)\n")
    (tmp_path / "CHANGELOG.md").touch()
    with pytest.raises(SystemExit, match=r"README.md: docs/A.md leads nowhere"):
        stages.stage(tmp_path, tmp_path / "stage")


def test_a_page_that_stands_in_no_group_comes_last() -> None:
    groups = stages.groups_of({"SAFETY", "NEW"})
    assert (groups["Why"], groups["More"]) == (["SAFETY"], ["NEW"])


@needs_site
def test_links_and_anchors_of_the_site_hold_and_nothing_is_loaded_from_elsewhere() -> None:
    assert len(checks.read_site(SITE)) > 10
    assert checks.problems_of(SITE) == []


@needs_site
def test_each_public_name_is_in_the_reference_with_what_it_does() -> None:
    page = (SITE / "PYTHON.html").read_text(encoding="utf-8")
    for name in hmret.__all__:
        _, found, rest = page.partition(f'id="hmret.{name}"')
        assert found, name
        described = re.search(r"<dd>\s*<p>([^<]+)", rest)
        assert described, name
    for name in (key for key in vars(hmret.Retention) if not key.startswith("_")):
        assert f'id="hmret.Retention.{name}"' in page, name


@needs_site
def test_each_page_of_the_checkout_is_a_page_of_the_site() -> None:
    made = {path.stem for path in SITE.glob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "CHANGELOG", "search"} <= made


@needs_site
def test_what_the_unit_and_the_alerts_lead_to_is_there() -> None:
    texts = [(PACKAGING / name).read_text(encoding="utf-8") for name in ("hmret.service", "alerts.yaml")]
    named = [
        url for text in texts for url in re.findall(r"file:///usr/share/doc/hmret/html/([^\s\"]+)", text)
    ]
    pages = checks.read_site(SITE)
    assert len(named) > 10
    for url in named:
        page, _, anchor = url.partition("#")
        assert (SITE / page).is_file(), url
        assert not anchor or anchor in pages[SITE.resolve() / page].anchors, url


CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@needs_site
def test_the_site_is_searched_from_its_folder_and_asks_for_nothing_elsewhere() -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="no browser driver")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    asked: list[str] = []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto((SITE / "index.html").as_uri())
        page.fill(".sidebar-search", "watermark")
        page.press(".sidebar-search", "Enter")
        page.wait_for_selector("#search-results li")
        found = page.inner_text("#search-results")
        browser.close()
    assert "hmret.disk.high_watermark" in found or "high_watermark" in found
    assert len(asked) > 5
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
