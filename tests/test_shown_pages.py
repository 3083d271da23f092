"""The shell that the pages show runs as it stands, block by block, from the top of a page to its end."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.shown_host import ShownHost, blocks_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ENABLED = (
    "images: {auto_delete: {unused_for: 1440h, allowed: ['*']}}\nhmret: {enabled: true, quarantine: 24h}\n"
)

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@contextmanager
def host_of(settings: str = ENABLED, *, serves: bool = False) -> Iterator[ShownHost]:
    # The path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="hmret-") as folder:
        host = ShownHost(Path(folder), settings)
        try:
            if serves:
                host.start()
                host.wait_event("sweep_ended")
            yield host
        finally:
            host.stop()


def page(name: str) -> list[str]:
    return blocks_of((DOCS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["COMMANDS.md", "POLICY.md", "REASONS.md"])
def test_the_shell_of_a_page_that_only_looks_runs(name: str) -> None:
    with host_of("") as host:
        before = sorted(host.cache.root.rglob("*"))
        for block in page(name):
            assert host.run(block)
        assert sorted(host.cache.root.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["OPERATING.md", "SETTINGS.md", pytest.param("METRICS.md", marks=needs_curl)]
)
def test_the_shell_of_a_page_about_a_running_engine_runs(name: str) -> None:
    with host_of(serves=True) as host:
        for block in page(name):
            host.run(block)


def test_the_tasks_of_the_page_on_how_to_do_them_do_them() -> None:
    with host_of() as host:
        (host.root / "etc/hmret/candidate.yaml").write_text(ENABLED)
        said = {block: host.run(block) for block in page("HOW_TO.md")}
        assert host.cache.has("docker.io/library/alpine", "a")
        assert host.cache.has("ghcr.io/kernel/x", "b")
        assert "ghcr.io/kernel/x" in (host.root / "home/plan-web-2.json").read_text()
        assert (host.root / "var/backups/hmret.tar.gz").stat().st_size
    deleted, restored = (
        next(text for block, text in said.items() if command in block)
        for command in ("hmret sweep", "hmret restore")
    )
    assert "docker.io/library/alpine" in deleted
    assert "docker.io/library/alpine" in restored


def test_the_first_day_leads_to_a_limited_retention_that_gives_an_image_back_and_is_widened() -> None:
    install, *blocks = page("FIRST_DAY.md")
    assert install == "sudo make install\nhmret --version\n"  # test_shown_shell.py runs these
    with host_of("") as host:
        said = []
        for block in blocks:
            said.append(host.run(block))
            if "systemctl enable" in block:
                assert not host.cache.has("ghcr.io/kernel/x", "b")
        assert host.cache.has("ghcr.io/kernel/x", "b")
        assert host.cache.has("docker.io/library/alpine", "a")
        assert "max_deletes_per_sweep" not in host.settings.read_text()
        assert "1 image of 2 would be deleted" in next(
            text for text in said if "retention is enabled" in text
        )
        host.run("systemctl disable --now hmret\n")


def test_a_server_of_ones_own_takes_the_lease_that_the_page_on_the_purpose_shows() -> None:
    with host_of(serves=True) as host:
        for block in page("PURPOSE.md"):
            assert "docker.io/library/alpine" in host.run(block)


def test_a_block_that_fails_is_noticed() -> None:
    with host_of() as host:
        for block in (
            "hmret explain nothing:here\n",
            "systemctl stop hmret\n",
            "systemctl mask hmret\n",
            "false\n",
        ):
            with pytest.raises(AssertionError):
                host.run(block)


def test_blocks_in_lists_are_found_and_places_are_those_of_the_host() -> None:
    assert blocks_of("x\n\n1. y\n\n   ```sh\n   a\n     b\n   ```\n\n```python\nc\n```\n```sh\nd\n```\n") == [
        "a\n  b\n",
        "d\n",
    ]
    with host_of() as host:
        assert host.run("echo x > /etc/hmret/x; cat '/etc/hmret/x'\n") == "x\n"
        assert (host.root / "etc/hmret/x").read_text() == "x\n"


def test_no_page_has_shell_that_is_not_run() -> None:
    run = {
        *("COMMANDS.md", "REASONS.md", "OPERATING.md", "SETTINGS.md", "METRICS.md", "HOW_TO.md"),  # here
        *("FIRST_DAY.md", "POLICY.md", "PURPOSE.md"),  # here
        *("INSTALL.md", "ALERTS.md"),  # test_shown_shell.py
        *("CONTROL_API.md",),  # test_control_api_page.py
        *("FLEET.md",),  # test_fleet_page.py
    }
    assert {path.name for path in DOCS.glob("*.md") if re.search(r"```sh\n", path.read_text())} == run
