"""The page as people see it, in a browser: what it shows, what it asks for, and that nothing in a name becomes code."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.complaints import note_complaint
from api.pretend_host import HOSTILE, PretendHost, make_images, serving
from api.serving import served
from hmret.api.http.page import load_page
from hmret.api.openapi import known_parameters
from hmret.model.verdicts import Reason
from support import patience
from support.builders import FakeClock, make_guest, make_image
from support.content_trees import Host as MixedHost
from support.patience import PATIENCE

PAGE, HEADERS = load_page()
TEXT = PAGE.decode()
KERNEL = "ghcr.io/kernel/only-one"
EVENTS = ("delete", "mark", "clear", "failure", "sweep", "deletion_suspended", "no_longer", "ghost")
ODD_EVENTS = (
    "build_unreadable",
    "content_broken",
    "content_without_owner",
    "invalid_link",
    "not_an_image",
    "promotion_cut_off",
    "tag_stage_left",
    "unfinished_image",
)


# What needs no browser.


def test_the_page_loads_nothing_from_elsewhere() -> None:
    assert re.findall(r"(?:src|href)=\"(?!data:|#|metrics\"|v1/)[^\"]*\"", TEXT) == []
    assert "@import" not in TEXT
    assert "url(" not in TEXT
    assert [found for found in re.findall(r"https?://[^\s\"']+", TEXT) if "www.w3.org" not in found] == []


def test_the_page_sends_only_parameters_that_its_calls_know() -> None:
    known = known_parameters()
    key = re.compile(r"(?:^|, )([a-z]+)(?=:|,|$)")
    sent = [(path, [name]) for path, name in re.findall(r"(v1/\w+)\?(\w+)=", TEXT)]
    for path, keys in re.findall(r"`(v1/\w+)\?\$\{new URLSearchParams\(\{ (.*?) \}\)\}`", TEXT):
        sent.append((path, key.findall(keys)))
    built = r"const query = new URLSearchParams\(\{ (.*?) \}\);(.*?)`(v1/\w+)\?\$\{query\}`"
    for keys, between, path in re.findall(built, TEXT, re.DOTALL):
        (listed,) = re.findall(r"for \(const key of (\[.*?\])\)", between)
        names = [*key.findall(keys), *json.loads(listed), *re.findall(r'query\.set\("(\w+)"', between)]
        sent.append((path, names))
    assert sorted(path for path, _ in sent) == sorted(re.findall(r"(v1/\w+)\?", TEXT))
    assert all(names for _, names in sent)
    assert {name for path, names in sent for name in names if name not in known["GET", f"/{path}"]} == set()


def test_no_markup_is_made_of_what_comes_from_the_host() -> None:
    for dangerous in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
    ):
        assert dangerous not in TEXT
    assert re.findall(r"<[^>]* on\w+=", TEXT) == []
    assert re.findall(r"<[^>]* style=", TEXT) == []


def test_the_policy_allows_the_script_and_the_style_by_their_hashes_and_nothing_else() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in HEADERS["content-security-policy"]
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", TEXT, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"


def colors() -> list[tuple[str, dict[str, str]]]:
    """Return the colors of the two schemes, by name."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", TEXT, re.DOTALL)
    )
    return [("light", light), ("dark", {**light, **dark})]


def luminance(color: str) -> float:
    """Tell the relative luminance, as WCAG 2 has it."""
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("scheme", "known"), colors())
@pytest.mark.parametrize(
    ("text", "behind"),
    [
        *(
            (text, behind)
            for text in ("text", "soft", "accent")
            for behind in ("surface", "raised", "ground")
        ),
        *(("danger", "danger-soft"), ("text", "danger-soft"), ("danger", "surface"), ("text", "accent-soft")),
    ],
)
def test_text_can_be_read_on_what_is_behind_it(
    scheme: str, known: dict[str, str], text: str, behind: str
) -> None:
    brighter, darker = sorted((luminance(known[text]), luminance(known[behind])), reverse=True)
    assert (brighter + 0.05) / (darker + 0.05) >= 4.5


# What needs one.


@pytest.fixture
def host() -> PretendHost:
    return PretendHost(make_images(420, datetime.now(UTC)))


Opener = Callable[..., Any]


@pytest.fixture
def look_at(browser: Any, host: PretendHost) -> Iterator[Opener]:
    """Open the page of a host; whatever the browser complains of fails the test."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)

    with serving(host) as url:

        def opened(path: str = "", *, scheme: str = "light", wait_for: str = "tr.row") -> Any:
            page = context.new_page()
            page.emulate_media(color_scheme=scheme)
            page.on("console", partial(note_complaint, complaints))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(url + path)
            page.wait_for_selector(wait_for)
            page.wait_for_selector("#tiles .tile")
            page.wait_for_selector("#live .dot.on")
            return page

        yield opened
        context.close()
    if not host.is_broken:
        assert complaints == []


def wait_until(page: Any, is_so: Callable[[], bool]) -> None:
    """Wait for something that the page or the host comes to."""
    patience.wait_until(is_so, "what the page shows", pause=partial(page.wait_for_timeout, 20))


def repositories(page: Any) -> list[str]:
    names: list[str] = page.locator("tr.row .repo").all_inner_texts()
    return names


def queries(host: PretendHost) -> list[str]:
    return [path.partition("?")[2] for path in host.asked if path.startswith("/v1/images?")]


def is_at(page: Any, place: str) -> bool:
    """Tell whether the page is at some images, which it writes with an en dash."""
    return place.replace("-", "\N{EN DASH}") in page.locator("#place").inner_text()


def has_other_rows(page: Any, before: list[str]) -> bool:
    return repositories(page) != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_shows_what_the_cache_holds_and_what_goes_when(
    look_at: Opener, host: PretendHost, scheme: str
) -> None:
    page = look_at(scheme=scheme)
    assert page.locator("#tiles .tile").first.inner_text().splitlines()[-1] == "420 images"
    assert page.locator("#bars .slot").count() == 31
    assert page.locator("tr.row").count() == 100
    assert page.locator("#days tr").count() == 31
    assert page.locator("#banners").is_hidden()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(245, 246, 248)" if scheme == "light" else "rgb(15, 18, 22)")


def test_what_goes_first_stands_first(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    assert queries(host)[0] == "limit=100&sort=goes_at&order=asc"
    assert page.locator("tr.row").first.locator(".reason").inner_text() in ("Due", "Due, retried later")


def test_names_of_the_host_never_become_markup(look_at: Opener, host: PretendHost) -> None:
    host.images[:] = host.images[:3]
    for image in host.images:
        image.update(
            repository=HOSTILE,
            tags=[HOSTILE],
            referenced_by=[HOSTILE],
            status=HOSTILE,
            reason=HOSTILE,
            action=HOSTILE,
            shared_with=[HOSTILE],
            held_by=[{"repository": HOSTILE, "reason": HOSTILE}],
        )
    host.suspended = [{"cause": HOSTILE, "path": HOSTILE, "detail": HOSTILE}]
    page = look_at()
    page.locator(".open-row").first.click()
    for event in (*EVENTS, *ODD_EVENTS):
        host.tell(
            event,
            image=HOSTILE,
            digest=HOSTILE,
            detail=HOSTILE,
            reason=HOSTILE,
            path=HOSTILE,
            error=HOSTILE,
            cause=HOSTILE,
            what=HOSTILE,
            status=HOSTILE,
        )
    wait_until(page, lambda: page.locator("#log li").count() == len(EVENTS) + len(ODD_EVENTS))
    assert page.locator("img").count() == 0
    assert page.title() == "box-7: image retention"
    assert HOSTILE in page.locator("tr.row").first.inner_text()
    assert HOSTILE in page.locator("#banners").inner_text()


def test_an_image_tells_with_whom_it_shares_its_bytes_and_who_holds_it(
    look_at: Opener, host: PretendHost
) -> None:
    image = host.images[0]
    image.update(
        repository=KERNEL,
        action="none",
        reason="shared",
        referenced_by=[],
        disk_bytes=516 << 20,
        shared_with=["example.com/one", "example.com/two", "example.com/three"],
        held_by=[
            {"repository": "example.com/one", "reason": "pinned"},
            {"repository": "example.com/two", "reason": "retention_window"},
        ],
    )
    page = look_at("?reason=shared")
    assert repositories(page) == [KERNEL]
    row = page.locator("tr.row").inner_text()
    for part in (
        "Due, held by another",
        "example.com/one, example.com/two",
        "516 MiB",
        "shared with 3 others",
    ):
        assert part in row
    page.locator(".open-row").click()
    facts = page.locator("tr.facts-row").inner_text()
    assert "example.com/one, example.com/two, example.com/three: they share the content" in facts
    assert "example.com/one (pinned), example.com/two (timer runs)" in facts


def test_what_is_odd_on_the_host_is_told_with_its_place_and_the_remedy(
    look_at: Opener, host: PretendHost
) -> None:
    page = look_at()
    for event in ODD_EVENTS:
        host.tell(event, path=f"images/{event}", detail=f"the remedy of {event}")
    wait_until(page, lambda: page.locator("#log li").count() == len(ODD_EVENTS))
    log = page.locator("#log").inner_text()
    for event in ODD_EVENTS:
        assert f": images/{event}: the remedy of {event}" in log


def test_a_suspension_is_told_with_its_remedy_and_goes_by_itself(look_at: Opener, host: PretendHost) -> None:
    path = "/var/lib/hypeman/guests/vm-1/metadata.json"
    host.suspend(path, "cut off; repair or remove it")
    page = look_at()
    banner = page.locator("#suspended").inner_text()
    for part in ("Deletion is suspended", "A reference cannot be read", path, "repair or remove it"):
        assert part in banner
    host.suspended = []
    host.tell("sweep", status="success")
    page.wait_for_selector("#suspended", state="detached")


def test_what_the_brake_holds_is_told_and_goes_by_itself(look_at: Opener, host: PretendHost) -> None:
    host.brake = {"expired": 1200, "eligible": 2000, "released": False, "seconds": 86000.0}
    page = look_at()
    banner = page.locator("#brake").inner_text()
    for part in ("The brake holds", "1,200 of 2,000 images", "in 24 hours", "--release-brake"):
        assert part in banner
    host.brake = {**host.brake, "released": True}
    host.tell("sweep", status="success")
    page.wait_for_selector("#brake", state="detached")


def test_timers_that_the_settings_in_force_have_stopped_are_told(look_at: Opener, host: PretendHost) -> None:
    detail = "35 as images.auto_delete.allowed, [], allows none of their repositories"
    host.stopped_timers = {"timers": 35, "by_reason": {"not_allowed": 35}, "detail": detail}
    page = look_at()
    banner = page.locator("#stopped-timers").inner_text()
    for part in ("35 timers were stopped", detail, "has to wait for its full window again"):
        assert part in banner
    host.stopped_timers = None
    host.tell("sweep", status="success")
    page.wait_for_selector("#stopped-timers", state="detached")


FLEET = {
    "state": "joined",
    "detail": None,
    "settings": {"paused": None},
    "hosts": [{"live": True}, {"live": True}, {"live": False}],
}


def test_a_host_in_a_fleet_has_a_tile_and_a_column_of_copies_elsewhere(
    look_at: Opener, host: PretendHost
) -> None:
    host.fleet = dict(FLEET)
    for image, copies in zip(host.images[:2], (3, 0), strict=True):
        image.update(
            repository=f"example.com/{copies}", action="none", reason="last_copy", copies_elsewhere=copies
        )
    host.images[2:] = []
    page = look_at()
    tile = page.locator("#tiles .tile").last
    wait_until(page, lambda: "hosts live" in tile.inner_text())
    assert tile.inner_text().split("\n")[::2] == ["Fleet", "joined", "2 of 3 hosts live"]
    assert page.locator("#columns th").all_inner_texts()[3] == "Elsewhere"
    cells = {
        row.locator(".repo").inner_text(): row.locator("td").nth(3).inner_text()
        for row in page.locator("tr.row").all()
    }
    assert cells == {"example.com/3": "3", "example.com/0": "0"}
    assert page.locator("tr.row").first.locator("td").count() == page.locator("#columns th").count() == 7
    page.locator(".open-row").first.click()
    assert "hold copies that count" in page.locator("tr.facts-row").inner_text()


def test_a_fleet_that_is_paused_or_out_of_reach_is_told(look_at: Opener, host: PretendHost) -> None:
    paused = {"by": HOSTILE, "at": "2026-11-29T00:00:00Z", "reason": "the registry is down"}
    host.fleet = {**FLEET, "state": "unreachable", "detail": HOSTILE, "settings": {"paused": paused}}
    page = look_at()
    tile = page.locator("#tiles .tile").last
    wait_until(page, lambda: "registry" in tile.inner_text())
    assert "no contact" in tile.inner_text()
    assert f"paused by {HOSTILE}: the registry is down" in tile.inner_text()
    assert page.locator("img").count() == 0
    host.fleet = dict(FLEET)
    host.tell("fleet_joined", reason="prod")
    wait_until(page, lambda: "joined" in tile.inner_text())
    assert "joined the fleet prod" in page.locator("#log").inner_text()


def test_a_host_in_no_fleet_shows_and_asks_nothing_of_one(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    assert "Fleet" not in page.locator("#tiles").inner_text()
    assert page.locator("#columns th").count() == 6
    assert page.locator("tr.row").first.locator("td").count() == 6
    assert not [path for path in host.asked if "fleet" in path]


def test_a_vm_is_called_by_its_name_beside_its_id(look_at: Opener, host: PretendHost) -> None:
    image = host.images[0]
    image.update(action="clear", reason="referenced", referenced_by=["instance/k3v9"], unused_since=None)
    host.images = [image]
    host.vm_names = {"instance/k3v9": "web-1"}
    page = look_at()
    row = page.locator("#rows").inner_text()
    assert "web-1 (instance/k3v9)" in row
    assert "keep" in row


def test_a_disk_that_others_fill_is_told(look_at: Opener, host: PretendHost) -> None:
    host.disk = {
        "used_bytes": 95 << 30,
        "available_bytes": 5 << 30,
        "pressed": True,
        "backing_off": True,
        "shortfall_bytes": 10 << 30,
    }
    banner = look_at().locator("#shortfall").inner_text()
    assert "The disk stays too full" in banner
    assert "10.0 GiB short of the low mark" in banner


def test_every_reason_has_words(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    known = page.locator("#reason option").evaluate_all("options => options.map((one) => one.value)")
    assert set(known) == {"", *Reason}


def test_retention_that_is_switched_off_is_told(look_at: Opener, host: PretendHost) -> None:
    host.enabled = False
    page = look_at()
    assert "switched off" in page.locator("#disabled").inner_text()


def test_an_empty_cache_is_no_fault(look_at: Opener, host: PretendHost) -> None:
    host.images.clear()
    page = look_at(wait_for="#empty")
    wait_until(page, lambda: page.locator("#empty").inner_text() == "The cache is empty.")
    assert "Nothing expires" in page.locator("#bars").text_content()


def test_a_search_asks_the_server_and_shows_what_it_finds(look_at: Opener, host: PretendHost) -> None:
    host.images[77].update(repository=KERNEL, tags=["a&b=c"])
    page = look_at()
    page.fill("#q", "a&b=C")
    wait_until(page, lambda: repositories(page) == [KERNEL])
    assert page.locator("#count").inner_text() == "1 of 420 images"
    page.fill("#q", "no such image")
    wait_until(page, lambda: page.locator("#empty").is_visible())
    assert page.locator("#empty").inner_text() == "No image matches."


def test_a_reason_can_be_chosen_where_the_cache_is_shown(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    pinned = sum(image["reason"] == "pinned" for image in host.images)
    chip = page.locator(".chip[data-reason=pinned]")
    chip.click()
    wait_until(page, lambda: page.locator("tr.row").count() == pinned)
    assert page.locator("#reason").input_value() == "pinned"
    assert chip.get_attribute("aria-pressed") == "true"
    chip.click()
    wait_until(page, lambda: page.locator("tr.row").count() == 100)


def test_columns_sort_and_tell_how(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    header = page.locator("th[data-key=disk_bytes]")
    sizes = sorted((image["disk_bytes"] for image in host.images), reverse=True)
    header.locator("button").click()
    largest = next(image["repository"] for image in host.images if image["disk_bytes"] == sizes[0])
    wait_until(page, lambda: repositories(page)[0] == largest)
    assert header.get_attribute("aria-sort") == "descending"
    header.locator("button").click()
    smallest = next(image["repository"] for image in host.images if image["disk_bytes"] == sizes[-1])
    wait_until(page, lambda: repositories(page)[0] == smallest)
    assert header.get_attribute("aria-sort") == "ascending"
    assert page.locator("th[aria-sort]").count() == 1


def test_pages_are_turned_back_and_forth(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    first = repositories(page)
    assert page.locator("#back").is_disabled()
    for place in ("101-200", "201-300", "301-400", "401-420"):
        page.click("#on")
        wait_until(page, partial(is_at, page, place))
    assert page.locator("#on").is_disabled()
    for _ in range(4):
        before = repositories(page)
        page.click("#back")
        wait_until(page, partial(has_other_rows, page, before))
    assert repositories(page) == first


def test_a_hundred_thousand_images_are_a_page_at_a_time(look_at: Opener, host: PretendHost) -> None:
    host.images[:] = make_images(100_000, datetime.now(UTC))
    page = look_at()
    assert page.locator("#count").inner_text() == "100,000 images"
    assert page.locator("tr.row").count() == 100
    page.click("#on")
    wait_until(page, partial(is_at, page, "101-200 of 100,000"))


def test_what_happens_is_shown_as_it_happens(look_at: Opener, host: PretendHost) -> None:
    page = look_at("?sort=repository")
    gone = host.images.pop(0)
    users = {"last_referenced_by": ["instance/k3v9", "snapshot/s1"], "vm_names": {"instance/k3v9": "web-1"}}
    host.tell("delete", image=f"{gone['repository']}@{gone['digest']}", bytes=3 << 30, **users)
    wait_until(page, lambda: page.locator("#count").inner_text() == "419 images")
    line = page.locator("#log li").first.inner_text()
    assert gone["repository"] in line
    assert "freed 3.0 GiB; last needed by web-1 (instance/k3v9), snapshot/s1" in line


def test_a_stream_that_ends_is_listened_to_again(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    host.listeners[0].put(None)
    wait_until(page, lambda: len(host.listeners) == 2)
    page.wait_for_selector("#live .dot.on")
    host.tell("delete", image=f"{KERNEL}@sha256:{'a' * 64}", bytes=1)
    wait_until(page, lambda: KERNEL in page.locator("#log").inner_text())


def test_an_engine_that_does_not_answer_is_told_and_what_was_seen_stays(
    look_at: Opener, host: PretendHost
) -> None:
    page = look_at()
    host.is_broken = True
    page.fill("#q", "alpine")
    page.wait_for_selector("#banners .banner")
    assert "the engine has stopped" in page.locator("#banners").inner_text()
    assert page.locator("tr.row").count() == 100


def test_a_row_opens_and_tells_everything_that_holds(look_at: Opener, host: PretendHost) -> None:
    page = look_at("?reason=pinned")
    row = page.locator(".open-row").first
    row.focus()
    page.keyboard.press("Enter")
    facts = page.locator("tr.facts-row")
    wait_until(page, lambda: "Holds it back\nPinned\nNot allowed" in facts.inner_text())
    for part in (
        "Rule\nrule 2",
        "Path\n/var/lib/hypeman/images/",
        "Leased by\nci: build 7, until its holder ends it",
    ):
        assert part in facts.inner_text()
    image = next(image for image in host.images if image["repository"] in row.inner_text())
    assert "sha256:" in facts.inner_text()
    assert image["status"] in facts.inner_text()
    assert row.get_attribute("aria-expanded") == "true"
    # What has the focus keeps it when the rows are made anew.
    host.tell("mark", image="x@y")
    asked = len(queries(host))
    wait_until(page, lambda: len(queries(host)) > asked)
    assert page.evaluate("document.activeElement.className") == "open-row"
    page.keyboard.press("Enter")
    wait_until(page, lambda: facts.count() == 0)


def test_the_chart_can_be_read_with_the_keyboard(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    days = host.forecast()["days"]
    page.focus("#bars")
    page.keyboard.press("End")
    assert f", {days[-1]['images']} image" in page.locator("#bar-text").text_content()
    page.keyboard.press("Home")
    assert page.locator("#bar-text").text_content().startswith("Today and overdue: ")
    page.keyboard.press("ArrowRight")
    assert f", {days[1]['images']} image" in page.locator("#bar-text").text_content()


def test_everything_can_be_reached_with_the_keyboard(look_at: Opener, host: PretendHost) -> None:
    host.images[:] = host.images[:1]
    page = look_at()
    reached = []
    for _ in range(44):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
    assert reached[0] == "skip"
    assert {"chip", "bars", "SUMMARY", "log", "q", "action", "reason", "as-csv", "open-row"} <= set(reached)


def test_what_was_chosen_is_in_the_link(look_at: Opener, host: PretendHost) -> None:
    page = look_at("?q=alpine&sort=disk_bytes&order=desc")
    wait_until(page, lambda: all("alpine" in name for name in repositories(page)))
    assert page.input_value("#q") == "alpine"
    page.select_option("#reason", "referenced")
    wait_until(page, lambda: "reason=referenced" in page.url)
    assert "sort=disk_bytes" in page.url


def test_it_fits_a_small_screen(look_at: Opener, host: PretendHost) -> None:
    page = look_at()
    page.set_viewport_size({"width": 360, "height": 700})
    page.wait_for_timeout(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    # Each image is a card, not a row of a table that is cut off; its order can be chosen all the same.
    card = page.locator("tr.row").first
    cells = card.locator("td").evaluate_all("cells => cells.map((one) => one.getBoundingClientRect().right)")
    assert len(cells) == 6
    assert max(cells) <= 360
    page.select_option("#sort", "disk_bytes desc")
    wait_until(page, lambda: "sort=disk_bytes&order=desc" in queries(host)[-1])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_works_with_the_real_thing(browser: Any, tmp_path: Path, backend: str) -> None:
    complaints: list[str] = []
    kept = make_image(tmp_path, "registry.local:5000/ci/app", "c", tags=("1", "2"))
    make_guest(tmp_path, "vm-1", "registry.local:5000/ci/app:2")
    with served(tmp_path, backend) as address:
        page = browser.new_page()
        page.on("console", partial(note_complaint, complaints))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        wait_until(page, lambda: page.locator("#count").inner_text() == "3 images")
        page.wait_for_selector("#live .dot.on")
        wait_until(page, lambda: page.locator("#tiles .tile").first.inner_text().endswith("3 images"))
        page.click("th[data-key=repository] button")
        wait_until(page, lambda: "registry.local:5000/ci/app" in repositories(page)[-1])
        assert "instance/vm-1" in page.locator("tr.row").last.inner_text()
        page.locator(".open-row").last.click()
        wait_until(page, lambda: "In use" in page.locator("tr.facts-row").inner_text())
        assert kept[1] in page.locator("tr.facts-row").inner_text()
        # What happens on the host is there without being asked for.
        path = tmp_path / make_guest(tmp_path, "vm-2", "No Reference")
        httpx2.post(f"{address}/v1/sweeps", timeout=PATIENCE).raise_for_status()
        page.wait_for_selector("#suspended")
        assert str(path) in page.locator("#suspended").inner_text()
        path.unlink()
        httpx2.post(f"{address}/v1/sweeps", timeout=PATIENCE).raise_for_status()
        page.wait_for_selector("#suspended", state="detached")
        wait_until(page, lambda: "deletion is suspended" in page.locator("#log").inner_text())
        page.close()
    assert complaints == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_real_image_that_two_repositories_share_is_counted_once_and_names_its_holder(
    browser: Any, tmp_path: Path, backend: str
) -> None:
    host = MixedHost(tmp_path, FakeClock())
    host.content("d", size_bytes=1 << 20)
    for repository in (KERNEL, "ghcr.io/kernel/other"):
        host.link(repository, "1", "d")
        host.state(repository, "d")
    host.guest("ghcr.io/kernel/other:1")
    with served(tmp_path, backend) as address:
        page = browser.new_page()
        page.goto(f"{address}/?reason=shared")
        wait_until(page, lambda: repositories(page) == [KERNEL])
        row = page.locator("tr.row").inner_text()
        assert "shared with 1 other" in row
        assert "ghcr.io/kernel/other" in row
        page.locator(".open-row").click()
        wait_until(page, lambda: "ghcr.io/kernel/other (in use)" in page.locator("tr.facts-row").inner_text())
        images = httpx2.get(f"{address}/v1/images", timeout=PATIENCE).json()["images"]
        once = {image["digest"]: image["disk_bytes"] for image in images}
        assert len(images) == len(once) + 1
        forecast = httpx2.get(f"{address}/v1/forecast", timeout=PATIENCE).json()
        assert forecast["bytes"] == sum(once.values()) >= 1 << 20
        page.close()
