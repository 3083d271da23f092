"""How image references are read."""

import json
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from hmret.model.errors import HmretError, InvalidReferenceError
from hmret.model.references import ImageReference, is_repository, parse_reference

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures" / "references.json"
KNOWN: list[tuple[str, Any]] = [(text, expected) for text, expected in json.loads(FIXTURE.read_text("utf-8"))]

A64 = "a" * 64
SHA256 = f"sha256:{A64}"

SIGNS = [".", "-", "--", "_", "__", "/", ":", "@", "[", "]", "::1", "\n", " ", "\u00e9", "\u212a"]
WORDS = [
    "a",
    "b9",
    "B",
    "7",
    ":5000",
    "docker.io",
    "index.docker.io",
    "localhost",
    "library",
    "sha256:",
    SHA256,
    A64,
]
texts = st.lists(st.sampled_from(SIGNS + WORDS), max_size=8).map("".join) | st.text(max_size=20)


def read(text: str) -> ImageReference | None:
    try:
        return parse_reference(text)
    except InvalidReferenceError:
        return None


@pytest.mark.parametrize(("text", "expected"), KNOWN, ids=range(len(KNOWN)))
def test_a_reference_is_read_as_distribution_reads_it(text: str, expected: list[str | None] | None) -> None:
    reference = read(text)
    found = None if reference is None else [reference.repository, reference.tag, reference.digest]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("docker.io/a/b", "docker.io/a/b:latest"),
        ("index.docker.io/a/b:v1", "docker.io/a/b:v1"),
        ("index.docker.io/index.docker.io/x", "docker.io/index.docker.io/x:latest"),
        ("DOCKER.IO/x", "DOCKER.IO/x:latest"),
        ("Foo/bar", "Foo/bar:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("localhost/x:y", "localhost/x:y"),
        ("[::1]:80/x", "[::1]:80/x:latest"),
        ("[ABC]/x", "[ABC]/x:latest"),
        ("[abc]:1/x", "[abc]:1/x:latest"),
        ("a--b.c/d---e", "a--b.c/d---e:latest"),
        ("a_b.c/x", "a_b.c/x:latest"),
        ("a__b.c/x@" + SHA256, "a__b.c/x@" + SHA256),
        (f"ghcr.io/{A64}", f"ghcr.io/{A64}:latest"),
        (f"docker.io/{A64}", f"docker.io/library/{A64}:latest"),
        (f"a:Tag@{SHA256}", f"docker.io/library/a@{SHA256}"),
        (f"a@sha384:{'0' * 96}", f"docker.io/library/a@sha384:{'0' * 96}"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128),
    ],
)
def test_a_reference_is_normalised(text: str, expected: str) -> None:
    assert str(parse_reference(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "a\n",
        "alpine:latest\n",
        f"a@{SHA256}\n",
        "Alpine",
        "docker.io/",
        "docker.io/Alpine",
        "ghcr.io/a/B:c",
        "a._b/c",
        "a___b",
        "a..b",
        "-a/b",
        "a-/b",
        "a.-b.c/d",
        "A_b/c",
        "a_b.c:80/x",
        "[abc]/x",
        "[::g]/x",
        "[]/x",
        "[::1]",
        "localhost:/x",
        "localhost:port/x",
        "a:",
        "a:.b",
        "a:b:c",
        "a:" + "t" * 129,
        "a@",
        "a@sha256:",
        f"a@{SHA256}:tag",
        f"a@{SHA256}0",
        f"a@{SHA256[:-1]}",
        f"a@SHA256:{A64}",
        f"a@sha256:{'A' * 64}",
        f"a@sha1:{'0' * 40}",
        f"a@md5:{'0' * 32}",
        f"a@sha512:{A64}",
        f"a@b+{SHA256}",
        f"a:.b@{SHA256}",
        f"a@{SHA256}@{SHA256}",
        f"@{SHA256}",
        A64,
        "x.\u212a/y",
        "\u017f.com/x",
        "a/\u0663",
        "\udc80",
        "a\0b",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        parse_reference(text)


def test_a_path_of_255_characters_is_read_and_a_longer_one_is_refused() -> None:
    host = "h." * 200 + "h"
    assert parse_reference(f"{host}/{'p' * 255}").tag == "latest"
    with pytest.raises(InvalidReferenceError, match="longer than 255"):
        parse_reference(f"{host}/{'p' * 256}")


def test_library_counts_as_part_of_the_path() -> None:
    assert parse_reference("p" * 247).tag == "latest"
    with pytest.raises(InvalidReferenceError, match="longer than 255"):
        parse_reference("p" * 248)


def test_a_first_part_that_is_no_host_counts_as_part_of_the_path() -> None:
    assert parse_reference(f"a_b.c/{'p' * 249}").repository == f"a_b.c/{'p' * 249}"
    with pytest.raises(InvalidReferenceError, match="longer than 255"):
        parse_reference(f"a_b.c/{'p' * 250}")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000 + "!",
        "a-" * 50_000,
        "a" + "-" * 100_000 + "!",
        "a_" * 50_000 + "/x",
        "a." * 50_000 + "/!",
        "A." * 50_000 + "/!",
        "a/" * 50_000,
        "a.b/" + "a__" * 33_000 + "B",
        "[" + ":" * 100_000,
        "x/" + "a:" * 50_000,
        "a@" * 50_000,
        "a:" + "0" * 100_000,
        "@" * 100_000,
    ],
    ids=lambda text: text[:8],
)
def test_a_huge_hostile_text_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as refused:
        parse_reference(text)
    message = str(refused.value)
    assert len(message) < 400
    assert message.isprintable()


def test_a_refusal_names_the_text_in_one_line() -> None:
    with pytest.raises(InvalidReferenceError) as refused:
        parse_reference("al pine\nx")
    assert str(refused.value) == r"not an image reference: 'al pine\nx'"


def test_a_refusal_for_upper_case_says_so() -> None:
    with pytest.raises(
        InvalidReferenceError, match="upper case where only lower case is allowed: 'Alpine:V1'"
    ):
        parse_reference("Alpine:V1")


def test_a_refusal_of_a_bare_digest_says_so() -> None:
    with pytest.raises(InvalidReferenceError, match=f"a bare hex digest is no image reference: '{A64}'"):
        parse_reference(A64)


def test_a_refusal_is_a_value_error_and_one_of_hmrets() -> None:
    with pytest.raises(ValueError) as refused:
        parse_reference("A")
    assert isinstance(refused.value, HmretError)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(texts)
def test_reading_what_was_read_changes_nothing(text: str) -> None:
    reference = read(text)
    if reference is not None:
        assert parse_reference(str(reference)) == reference
        assert (reference.tag is None) != (reference.digest is None)
        assert is_repository(reference.repository)


@pytest.mark.parametrize(
    "name",
    [
        "docker.io/library/alpine",
        "ghcr.io/a/b",
        "localhost/x",
        "h:5000/x",
        "a_b.c/x",
        f"docker.io/library/{A64}",
    ],
)
def test_a_normalised_repository_is_known_as_one(name: str) -> None:
    assert is_repository(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "alpine",
        "docker.io/alpine",
        "library/alpine",
        "index.docker.io/a/b",
        "docker.io/library/alpine:latest",
        f"ghcr.io/a/b@{SHA256}",
        "ghcr.io/A",
        "ghcr.io/a/",
        "ghcr.io/../a",
        "ghcr.io",
    ],
)
def test_anything_else_is_no_repository(name: str) -> None:
    assert not is_repository(name)
