"""Which images `plan` and `images` list, in which order, and in which form."""

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cli.caches import Cache
from hmret.api.wire.structs import Document, HolderDocument
from hmret.cli.display import columns
from hmret.cli.display.columns import Column, format_columns, last_part, shorten_list, shorten_repository
from hmret.cli.display.listing import write_csv
from hmret.model.verdicts import Reason
from support.image_fields import IMAGE_FIELDS

Call = Callable[..., tuple[int, str, str]]

DUE = timedelta(days=31)
X, Y, ALPINE = "ghcr.io/kernel/x", "quay.io/other/y", "docker.io/library/alpine"


@pytest.fixture
def flags(cache: Cache) -> list[Any]:
    """A cache with an image for each thing that a sweep can do, and the options by which it does."""
    cache.image(X, "a", "v1", "v2", unused=DUE)
    cache.image(X, "b", unused=timedelta(days=2))
    cache.image(X, "c")
    cache.image(Y, "d", unused=timedelta(days=3))
    cache.image(ALPINE, "e", "3.20")
    cache.guest("vm-1", {"Name": "web-1", "Image": "alpine:3.20"})
    (cache.root / f"images/{Y}/{'d' * 64}/rootfs.ext4").write_bytes(b"x" * 65536)
    return ["--data-dir", cache.root, "--allow", "ghcr.io/*"]


def names(output: str) -> str:
    """Tell images by the first digits of their digests."""
    return "".join(line.partition("@sha256:")[2][0] for line in output.splitlines())


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ([], "adc"),
        (["--all"], "adceb"),
        (["--action", "delete"], "a"),
        (["--action", "stop-timer"], "d"),
        (["--action", "start-timer", "--action", "keep"], "ceb"),
        (["--action", "clear"], "de"),
        (["--action", "mark"], "c"),
        (["--action", "none"], "b"),
        (["--reason", "referenced"], "e"),
        (["--reason", "not_allowed", "--reason", "not-ready"], "d"),
        (["--reason", "newly-unused"], "c"),
        (["--repository", X], "acb"),
        (["--repository", "*.io/*/x"], "acb"),
        (["--repository", "alpine"], "e"),
        (["--repository", "alpine", "--reason", "expired"], ""),
        (["--limit", "2"], "ad"),
        (["--all", "--sort", "repository"], "eabcd"),
        (["--all", "--sort", "size"], "deabc"),
        (["--all", "--sort", "unused"], "adbec"),
        (["--all", "--sort", "expires", "--limit", "3"], "adb"),
        (["--all", "--sort", "reason"], "acdeb"),
    ],
)
def test_a_plan_lists_what_is_asked_for(
    call: Call, flags: list[Any], options: list[str], listed: str
) -> None:
    code, output, complaints = call("plan", *flags, *options, "-q")
    assert (code, complaints) == (0, "")
    assert names(output) == listed
    assert call("plan", *flags, *options, "-o", "name") == (0, output, "")


def test_images_are_all_listed_by_the_same_filters(call: Call, flags: list[Any]) -> None:
    assert names(call("images", *flags, "-q")[1]) == "eabcd"
    assert names(call("images", *flags, "-q", "--sort", "action", "--limit", "2")[1]) == "ad"
    assert names(call("images", *flags, "-q", "--repository", "ghcr.io/*", "--action", "keep")[1]) == "b"


def test_the_documents_are_filtered_and_otherwise_as_ever(call: Call, flags: list[Any]) -> None:
    whole = json.loads(call("plan", *flags, "--json")[1])
    assert [image["digest"][7] for image in whole["images"]] == list("eabcd")
    some = json.loads(call("plan", *flags, "-o", "json", "--reason", "expired")[1])
    assert some["images"] == [image for image in whole["images"] if image["reason"] == "expired"]
    assert {**some, "images": 0, "at": 0} == {**whole, "images": 0, "at": 0}
    assert whole["vm_names"] == {"instance/vm-1": "web-1"}
    listed = json.loads(call("images", *flags, "--json", "--sort", "size", "--limit", "1")[1])
    assert list(listed) == ["at", "data_dir", "images", "vm_names"]
    assert listed["images"] == [image for image in whole["images"] if image["digest"][7] == "d"]


@pytest.mark.parametrize("command", ["plan", "images"])
def test_csv_has_a_header_of_the_fields_of_the_documents(call: Call, flags: list[Any], command: str) -> None:
    document = json.loads(call(command, *flags, "--json")[1])
    rows = list(csv.DictReader(io.StringIO(call(command, *flags, "-o", "csv")[1])))
    assert list(rows[0]) == list(document["images"][0]) == IMAGE_FIELDS
    assert [row["digest"] for row in rows] == [image["digest"] for image in document["images"]]
    first, tagged = rows[0], rows[1]
    assert (first["referenced_by"], first["unused_since"], first["action"]) == ("instance/vm-1", "", "clear")
    assert (tagged["tags"], tagged["disk_bytes"], tagged["action"]) == ("v1 v2", "8192", "delete")


class Row(Document, frozen=True):
    a: tuple[str, ...]
    b: tuple[HolderDocument, ...]
    c: str | None
    d: str


def test_csv_writes_lists_objects_and_nothing() -> None:
    held = HolderDocument(X, Reason.REFERENCED), HolderDocument(Y, Reason.LEASED)
    text = write_csv(Row, [Row((), held, None, 'x, "y"')])
    assert text == f'a,b,c,d\n,{X}:referenced {Y}:leased,,"x, ""y"""\n'


def test_a_wide_table_has_everything_in_full(call: Call, flags: list[Any]) -> None:
    _, output, _ = call("plan", *flags, "--all", "-o", "wide")
    lines = output.splitlines()
    assert lines[0].split() == [
        *("ACTION", "REPOSITORY", "DIGEST", "REASON", "ON", "DISK", "TAGS", "EXPIRES"),
        *("UNUSED", "SINCE", "STATUS", "NEEDED", "BY"),
    ]
    assert any(f"sha256:{'e' * 64}" in line and "instance/vm-1 (web-1)" in line for line in lines)
    _, output, _ = call("images", *flags, "-o", "wide")
    assert "instance/vm-1 (web-1)" in output
    assert f"sha256:{'a' * 64}" in output


def test_images_tell_size_last_use_due_reason_and_holders(
    call: Call, flags: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, output, complaints = call("images", *flags)
    assert (code, complaints) == (0, "")
    titles, *rows = output.splitlines()
    assert titles.split() == [
        *("REPOSITORY", "DIGEST", "ON", "DISK", "LAST", "USE", "DUE", "REASON", "HOLDERS", "TAGS"),
    ]
    cells = {row.split()[1][0]: row.split()[2:] for row in rows}
    assert cells["e"] == ["8.0", "KiB", "in", "use", "-", "referenced", "web-1", "3.20"]
    # A timer that the next sweep stops never runs out.
    assert cells["d"][3:] == ["-", "not_allowed", "-", "-"]
    assert cells["a"][4:] == ["expired", "-", "v1,v2"]
    assert cells["a"][2] < cells["a"][3]
    monkeypatch.setenv("COLUMNS", "80")
    _, output, _ = call("images", *flags)
    assert max(map(len, output.splitlines())) <= 80


def test_without_images_that_is_said(cache: Cache, call: Call) -> None:
    assert call("images", "--data-dir", cache.root) == (0, "no images\n", "")
    assert call("images", "--data-dir", cache.root, "-q") == (0, "", "")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--limit", "0"], "--limit"),
        (["--repository", " "], "--repository"),
        (["--reason", "whim"], "--reason"),
        (["--action", "prune"], "--action"),
        (["--sort", "colour"], "--sort"),
        (["-o", "yaml"], "-o"),
    ],
)
def test_what_no_list_can_be_is_bad_usage(
    cache: Cache, call: Call, options: list[str], complaint: str
) -> None:
    for command in ("plan", "images"):
        code, output, complaints = call(command, *options, "--data-dir", cache.root)
        assert (code, output, complaints.count("\n")) == (2, "", 1)
        assert complaint in complaints


ROWS = [["ghcr.io/kernel/linux", "aaaa", "v1,v2,v3,v4", "x" * 10], ["alpine", "bbbb", "-", "y"]]
COLUMNS = (
    Column(title="repository", worth=9, least=8, least_of=last_part, shorten=shorten_repository),
    Column(title="digest", worth=8),
    Column(title="tags", worth=3, least=6, shorten=shorten_list),
    Column(title="note", worth=2),
)


@pytest.mark.parametrize("is_at_terminal", [True, False])
@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (80, ["REPOSITORY", "DIGEST", "TAGS", "NOTE"]),
        (50, ["REPOSITORY", "DIGEST", "TAGS"]),
        (38, ["REPOSITORY", "DIGEST"]),
        (20, ["REPOSITORY", "DIGEST"]),
        (5, ["REPOSITORY"]),
    ],
)
def test_columns_of_least_worth_are_left_out_first(
    monkeypatch: pytest.MonkeyPatch, is_at_terminal: bool, width: int, titles: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(columns, "is_terminal", lambda _: is_at_terminal)
    first, linux, _ = format_columns(COLUMNS, ROWS).splitlines()
    assert first.split() == titles
    # In a pipe what is there is whole.
    assert is_at_terminal or linux.split()[0] == "ghcr.io/kernel/linux"


@pytest.mark.parametrize(
    ("name", "width", "shortened"),
    [
        ("ghcr.io/kernel/linux", 20, "ghcr.io/kernel/linux"),
        ("ghcr.io/kernel/linux", 19, ".../kernel/linux"),
        ("ghcr.io/kernel/linux", 12, ".../linux"),
        ("ghcr.io/kernel/linux", 5, "linux"),
        ("a" * 20, 10, "aaaaaaa..."),
    ],
)
def test_a_repository_keeps_its_last_parts_whole(name: str, width: int, shortened: str) -> None:
    assert shorten_repository(name, width) == shortened


@pytest.mark.parametrize(
    ("text", "width", "shortened"),
    [
        ("v1,v2,v3", 8, "v1,v2,v3"),
        ("v1,v2,v3", 7, "v1,+2"),
        ("v10,v2", 6, "v10,v2"),
        ("release-2026,v2", 9, "releas..."),
    ],
)
def test_a_list_counts_what_it_leaves_out(text: str, width: int, shortened: str) -> None:
    assert shorten_list(text, width) == shortened
