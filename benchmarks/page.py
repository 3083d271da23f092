"""How soon the page of a large cache shows something, and its longest task, in a browser.

    PYTHONPATH=src:tests python benchmarks/page.py

The engine is pretended, so that what is measured is the page's own; it needs playwright and a Chromium.
"""

import argparse
import os
import shutil
import statistics
from datetime import UTC, datetime
from typing import Any

from api.pretend_host import PretendHost, make_images, serving

_WATCH = """
window.tasks = [];
new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((one) => one.duration)))
  .observe({ type: "longtask", buffered: true });
"""


def measure(browser: Any, address: str) -> tuple[float, float]:
    """Return when the first image is listed, and the longest task until then and of turning a page, in milliseconds."""
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.add_init_script(_WATCH)
    page.goto(address, wait_until="commit")
    page.wait_for_selector("tr.row")
    listed: float = page.evaluate("performance.now()")
    page.wait_for_selector("#tiles .tile")
    page.click("#on")
    page.wait_for_selector("#place:text('101')")
    longest: float = page.evaluate("Math.max(0, ...window.tasks)")
    page.close()
    return listed, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only this needs it

    host = PretendHost(make_images(chosen.images, datetime.now(UTC)))
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with serving(host) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        found = [measure(browser, address) for _ in range(chosen.runs)]
        browser.close()
    listed, longest = zip(*found, strict=True)
    print(
        f"{chosen.images} images: listed after {statistics.median(listed):.0f} ms (at most {max(listed):.0f})"
    )
    print(f"longest task {max(longest):.0f} ms (0: none of 50 or more)")


if __name__ == "__main__":
    main()
