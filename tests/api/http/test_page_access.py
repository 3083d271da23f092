"""What axe-core finds on the page: nothing, in light, dark and on a phone, on each view and with each banner."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from api.pretend_host import PretendHost, make_images, serving, text_of
from support import patience
from support.patience import PATIENCE

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core is installed")

VIEWS = ("overview", "disk", "quarantine", "history", "users", "repositories", "policy")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1360, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1360, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
REPOSITORY = "ghcr.io/kernel/build"
DIGEST = f"sha256:{'ab' * 32}"


def full(host: PretendHost) -> PretendHost:
    """Give a host something to show on each view."""
    now = datetime.now(UTC)
    image = {"repository": REPOSITORY, "digest": DIGEST, "tags": ["v1"], "disk_bytes": 5 << 30}
    soon = text_of(now + timedelta(days=1))
    host.quarantined = [
        {
            **image,
            "retired_at": text_of(now),
            "until": soon,
            "command": f"hmret restore {REPOSITORY}@{DIGEST}",
        }
    ]
    host.went = [
        {"date": now.date().isoformat(), "event": "delete", "reason": reason, "images": 3, "bytes": 7 << 30}
        for reason in ("expired", "disk_pressure")
    ]
    host.past = [
        {"time": text_of(now), "event": "delete", "image": f"{REPOSITORY}@{DIGEST}", "bytes": 1},
        {
            "time": text_of(now),
            "event": "failure",
            "reason": "deletion_failed",
            "path": "/x",
            "error": "denied",
        },
    ]
    host.users = [
        {"user": "instance/k3v9", "name": "web-1", "images": [image], "total": 1, "missing": ["quay.io/x:1"]}
    ]
    host.repositories = [
        {
            "repository": REPOSITORY,
            "images": 3,
            "bytes": 5 << 30,
            "shared_bytes": 1 << 30,
            "newest": text_of(now),
            "rules": [1],
            "unruled_images": 2,
            "next": {"digest": DIGEST, "tags": [], "reason": "expired", "expires_at": soon},
        }
    ]
    host.leases = [
        {**image, "id": "x", "owner": "ci", "reason": "build 7", "expires_at": soon},
    ]
    host.space = {
        "state": "pressed",
        "high_watermark": "55%",
        "low_watermark": "50%",
        "high_bytes": 550 << 30,
        "low_bytes": 500 << 30,
        "excess_bytes": 100 << 30,
        "going_images": 4,
    }
    return host


def with_every_banner(host: PretendHost) -> PretendHost:
    """Give a host everything that the page warns of."""
    host.suspend("/var/lib/hypeman/guests/vm-1/metadata.json", "cut off; repair or remove it")
    host.brake = {"expired": 1200, "eligible": 2000, "released": False, "seconds": 86000.0}
    host.stopped_timers = {
        "timers": 35,
        "by_reason": {"not_allowed": 35},
        "detail": "35 as nothing is allowed",
    }
    host.disk = {"shortfall_bytes": 10 << 30}
    host.refused = "/etc/hmret.yaml:9: hmret.keep_latest: expected a whole number"
    return host


@pytest.fixture
def host() -> PretendHost:
    return full(PretendHost(make_images(9, datetime.now(UTC))))


@pytest.fixture
def address(host: PretendHost) -> Iterator[str]:
    with serving(host) as address:
        yield address


def found_on(page: Any, part: str | None = None) -> list[str]:
    """Return what axe-core finds on the page, or on a part of it, with the elements at fault."""
    violations = axe.Axe().run(page, context=part).response["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for one in violations
        for node in one["nodes"]
    ]


def shown(page: Any, selector: str) -> None:
    patience.wait_until(
        lambda: page.locator(selector).count() > 0, selector, pause=partial(page.wait_for_timeout, 20)
    )


CONTENT = {
    "overview": "#view-overview tr.row",
    "disk": "#disk .card",
    "quarantine": "#quarantine tr.row",
    "history": "#history tr.row",
    "users": "#users tr.row",
    "repositories": "#repositories tr.row",
    "policy": "#policy tr.row",
}


def look(browser: Any, address: str, kind: str) -> Any:
    context = browser.new_context(**LOOKS[kind])
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.goto(address)
    shown(page, "tr.row")
    shown(page, "#live .dot.on")
    return page


@pytest.mark.parametrize("kind", LOOKS)
def test_axe_finds_nothing_on_any_view(browser: Any, host: PretendHost, address: str, kind: str) -> None:
    page = look(browser, address, kind)
    page.locator(".open-row").first.click()
    shown(page, "tr.facts-row")
    found = {"overview": found_on(page)}
    for view in VIEWS[1:]:
        page.evaluate("view => { location.hash = `view=${view}` }", view)
        shown(page, CONTENT[view])
        found[view] = found_on(page, f"#view-{view}")
        if kind == "phone":
            assert (
                page.evaluate("document.documentElement.scrollWidth") <= LOOKS["phone"]["viewport"]["width"]
            )
    image = host.images[0]
    page.evaluate("name => { location.hash = `image=${name}` }", f"{image['repository']}@{image['digest']}")
    shown(page, "#image dl")
    found["image"] = found_on(page, "#view-image")
    page.context.close()
    assert {view: faults for view, faults in found.items() if faults} == {}


@pytest.mark.parametrize("kind", LOOKS)
def test_axe_finds_nothing_with_any_banner(browser: Any, host: PretendHost, address: str, kind: str) -> None:
    with_every_banner(host)
    page = look(browser, address, kind)
    for name in ("suspended", "brake", "stopped-timers", "shortfall", "refused"):
        shown(page, f"#{name}")
    host.enabled = False
    host.tell("sweep", status="success")
    shown(page, "#disabled")
    # All of them at once, and one more.
    host.is_broken = True
    host.tell("sweep", status="success")
    shown(page, "#no-answer")
    found = found_on(page, "#banners")
    assert page.locator("#banners .banner").count() == 7
    page.context.close()
    assert found == []
