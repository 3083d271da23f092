"""Each question that an operator has is answered by the page within two clicks, and by a link that can be sent."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.complaints import note_complaint
from api.full_host import BUILD, KERNEL, OLD, REFUSAL, WEB, FullHost, full_host
from support import patience
from support.patience import PATIENCE

Look = Callable[[str], Any]


# What its engine answers is the same on either backend, and `test_it_works_with_the_real_thing` uses both.
@pytest.fixture(scope="module")
def host() -> Iterator[FullHost]:
    with full_host("trio") as host:
        yield host


@pytest.fixture(scope="module")
def window(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1360, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE * 1000)
    yield context
    context.close()


@pytest.fixture
def look(window: Any, host: FullHost) -> Iterator[Look]:
    """Open the page by a link; whatever the browser complains of fails the test."""
    complaints: list[str] = []
    pages: list[Any] = []

    def opened(link: str) -> Any:
        page = window.new_page()
        pages.append(page)
        page.on("console", partial(note_complaint, complaints))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(host.address + link)
        return page

    yield opened
    for page in pages:
        page.close()
    assert complaints == []


def says(page: Any, place: str, *parts: str) -> None:
    """Wait until a place of the page says all of this."""
    found = page.locator(place)

    def is_said() -> bool:
        text = " ".join(found.inner_text().split()) if found.count() else ""
        return all(part in text for part in parts)

    patience.wait_until(is_said, f"{place}: {parts}", pause=partial(page.wait_for_timeout, 20))


QUESTIONS = {
    "how full is the disk": (
        ["#views a[data-view=disk]"],
        "#view=disk",
        "#disk",
        ("High mark 80%, 51.2 MiB", "Low mark 70%", "Most for images", "Has to come free", "Everything else"),
    ),
    "what has to go for it, and how": (
        ["#tiles a[href='#view=disk']"],
        "#view=disk",
        "#disk",
        ("Images are deleted to free space", "What is in quarantine goes first", "Has to come free 11"),
    ),
    "what is in quarantine, and how does it come back": (
        ["#tiles a[href='#view=quarantine']"],
        "#view=quarantine",
        "#quarantine",
        (f"hmret restore {BUILD}@sha256:b1", "pr-7", "1.0 MiB", "Held until", "in 2 days"),
    ),
    "what went, when and why": (
        ["#views a[data-view=history]"],
        "#view=history",
        "#history",
        ("What went in 30 days", "1 image deleted", "deleted window ended 1"),
    ),
    "what did the last sweep do": (
        ["#views a[data-view=history]"],
        "#view=history",
        "#sweep",
        ("The last sweep", "Took", "Failed nothing", "Due, held by the brake 6"),
    ),
    "which images does a VM keep": (
        ["#views a[data-view=users]"],
        "#view=users&q=web-1",
        "#users",
        ("web-1", "instance/k3v9q2", f"{WEB}:1.27"),
    ),
    "what does a VM want that is not here": (
        ["#views a[data-view=users]"],
        "#view=users",
        "#users",
        ("instance/m7p1", "quay.io/gone/app:1: not here"),
    ),
    "what is leased, by whom, why and until when": (
        ["#views a[data-view=users]"],
        "#view=users",
        "#leases",
        (KERNEL, "ci-runner", "boot test 17", "UTC"),
    ),
    "what does each repository take, and what goes next": (
        ["#views a[data-view=repositories]"],
        "#view=repositories",
        "#repositories",
        (OLD, "6.0 MiB", "rule 2", "Due, held by the brake"),
    ),
    "what is the policy, and where was it set": (
        ["#views a[data-view=policy]"],
        "#view=policy",
        "#policy",
        ("hmret.quarantine", "2d", "/etc/hmret/config.yaml:", "hmret.disk.high_watermark", "80%"),
    ),
    "what did a reload refuse": (["#refused a"], "#view=policy", "#policy", (f"refused: {REFUSAL}",)),
}


def test_each_question_is_answered_within_two_clicks(look: Look) -> None:
    page = look("")
    page.wait_for_selector("tr.row")
    page.wait_for_selector("#tiles a[href='#view=disk']")
    for clicks, _, place, answer in QUESTIONS.values():
        assert len(clicks) <= 2
        for click in clicks:
            page.click(click)
        says(page, place, *answer)
        page.click("#views a[data-view=overview]")


@pytest.mark.parametrize("link", sorted({link for _, link, _, _ in QUESTIONS.values()}))
def test_each_answer_has_a_link(look: Look, link: str) -> None:
    page = look(link)
    for _, leads, place, answer in QUESTIONS.values():
        if leads == link:
            says(page, place, *answer)


def test_an_image_is_told_whole_by_clicks_and_by_a_link(look: Look, host: FullHost) -> None:
    page = look(f"?q={KERNEL.rpartition('/')[2]}")
    page.wait_for_selector("tr.row")
    page.locator(".open-row").first.click()
    parts = (
        "Leased by ci-runner: boot test 17, until",
        f"Shared with {WEB}-mirror",
        "/images/content/",
        "Holds it back Leased",
        "2.0 MiB on the disk",
        "Tags 6.1",
    )
    says(page, "tr.facts-row", *parts)
    page.click("tr.facts-row a:text('A link to this image')")
    says(page, "#image", *parts)
    assert "#image=" in page.url
    says(look(page.url.rpartition("/")[2]), "#image", *parts)
    assert page.title().startswith(KERNEL)


def test_from_an_image_to_its_vms_and_back(look: Look) -> None:
    page = look(f"#image={WEB}:1.27")
    says(page, "#image", "Needed by web-1 (instance/k3v9q2)")
    page.click("#image a:text('web-1')")
    says(page, "#users", "1 of 3 match", f"{WEB}:1.27")
    page.click("#user-rows a")
    says(page, "#image", "Needed by web-1 (instance/k3v9q2)")


def test_the_page_says_which_host_it_is_about(look: Look, host: FullHost) -> None:
    name = httpx2.get(f"{host.address}v1/status", timeout=PATIENCE).json()["host"]
    page = look("")
    says(page, "#host", name)
    assert page.title() == f"{name}: image retention"


def test_the_events_from_before_are_there_when_the_page_opens(look: Look) -> None:
    said = f"deleted {BUILD}@b1b1b1b1b1b1, in quarantine until"
    says(look(""), "#log", said, "sweep:", "the brake holds")


def test_the_tiles_tell_what_is_held_from_what_is_freed(look: Look) -> None:
    page = look("")
    says(
        page,
        "#tiles",
        "In quarantine 1.0 MiB 1 image held, not yet freed",
        "Freed since the start 0 B 1 image deleted",
    )


def test_a_brake_that_holds_is_amber_and_a_fault_is_red(look: Look) -> None:
    page = look("")
    page.wait_for_selector("#brake")
    page.wait_for_selector("#refused")
    brake, refused = (
        page.locator(name).evaluate("one => getComputedStyle(one.querySelector('h2')).color")
        for name in ("#brake", "#refused")
    )
    assert (brake, refused) == ("rgb(138, 75, 0)", "rgb(180, 35, 24)")
    boxes = [page.locator(name).bounding_box() for name in ("#brake", "#refused")]
    assert boxes[1]["y"] - boxes[0]["y"] - boxes[0]["height"] >= 8


def test_what_stays_as_it_is_wanted_has_no_red_date_and_does_not_lead(look: Look) -> None:
    page = look("")
    page.wait_for_selector("tr.row")
    rows = page.locator("tr.row")
    first = rows.first.inner_text()
    assert "Due, held by the brake" in first
    kept = rows.filter(has_text="v2.0")
    assert "Among the newest" in kept.inner_text()
    assert kept.locator(".due.past").count() == 0
    assert "stays" in kept.inner_text()


def test_an_image_without_a_tag_says_so(look: Look) -> None:
    page = look(f"?q={'b3' * 8}")
    says(page, "tr.row", "untagged")


def test_parts_of_the_bar_can_be_told_apart_without_color(look: Look) -> None:
    page = look("")
    page.wait_for_selector("#strip span")
    kinds = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#strip span')]"
        ".map((one) => [one.className, getComputedStyle(one).backgroundImage]))"
    )
    assert len(kinds) >= 4
    assert len(set(kinds.values())) == len(kinds)


@pytest.mark.parametrize("form", ["CSV", "JSON"])
def test_what_is_filtered_can_be_taken_along(look: Look, form: str, tmp_path: Path) -> None:
    page = look("?reason=brake")
    page.wait_for_selector("tr.row")
    with page.expect_download() as download:
        page.click(f".export a:text('{form}')")
    download.value.save_as(tmp_path / "taken")
    text = (tmp_path / "taken").read_text()
    rows = json.loads(text)["images"] if form == "JSON" else list(csv.DictReader(text.splitlines()))
    assert {row["repository"] for row in rows} == {OLD}
    assert len(rows) == 6
    assert re.fullmatch(rf"hmret-images-.*\.{form.lower()}", download.value.suggested_filename)


def test_repositories_can_be_sorted_and_searched_and_the_address_has_it(look: Look) -> None:
    page = look("#view=repositories")
    says(page, "#repository-rows", OLD)
    page.click("#repository-rows th[data-key=repository] button")
    says(page, "#repository-rows tbody tr:first-child", WEB)
    assert "sort=repository&order=asc" in page.url
    page.fill("#repository-q", "kernel/build")
    says(page, "#repository-rows", "1 of 5 match")
    assert page.input_value("#repository-q") == "kernel/build"
    says(look(page.url.rpartition("/")[2]), "#repository-rows", "1 of 5 match")


def test_a_view_can_be_reached_and_left_by_keyboard(look: Look) -> None:
    page = look("")
    page.wait_for_selector("tr.row")
    page.focus("#views a[data-view=quarantine]")
    page.keyboard.press("Enter")
    says(page, "#quarantine", "hmret restore")
    assert page.evaluate("document.activeElement.textContent") == "Quarantine"
    assert page.locator("#views a[aria-current=page]").inner_text() == "Quarantine"
    page.go_back()
    page.wait_for_selector("#view-overview tr.row")
    assert page.evaluate("document.activeElement.textContent") == "Overview"
