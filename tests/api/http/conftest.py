"""A browser for the tests of the page."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


# The driver has no types without its package, which is not needed to check ours.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Run a browser; where there is none, the tests that need one are skipped."""
    driver = pytest.importorskip("playwright.sync_api", reason="no browser driver is installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
