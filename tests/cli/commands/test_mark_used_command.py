"""`mark-used` on the files, without an engine."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cli.caches import Cache
from hmret.disk.data_dir import DataDir
from hmret.disk.filesystem import POSIX

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

DUE = timedelta(days=31)
ALPINE = "docker.io/library/alpine"


def test_the_timer_is_cleared_once(cache: Cache, call: Call, backend: str) -> None:
    digest = cache.image(ALPINE, "a", "3.20", unused=DUE)
    flags = ["mark-used", "alpine:3.20", "--data-dir", cache.root, "--backend", backend]
    assert call(*flags) == (0, f"{ALPINE}@{digest} cleared\n", "")
    assert not cache.state_path(ALPINE, "a").exists()
    assert call(*flags) == (0, f"{ALPINE}@{digest} nothing to clear\n", "")


def test_the_document_has_three_fields(cache: Cache, call_json: CallJson) -> None:
    digest = cache.image(ALPINE, "a", "3.20", unused=DUE)
    code, document = call_json("mark-used", "alpine:3.20", "--data-dir", cache.root)
    assert code == 0
    assert list(document.items()) == [("repository", ALPINE), ("digest", digest), ("cleared", True)]


@pytest.mark.parametrize("prefix", ["sha256:", ""])
def test_a_digest_counts_instead_of_the_tag(cache: Cache, call: Call, prefix: str) -> None:
    cache.image(ALPINE, "a", "3.20", unused=DUE)
    digest = cache.image(ALPINE, "b", unused=DUE)
    code, output, _ = call(
        "mark-used", "alpine:3.20", "--digest", prefix + "b" * 64, "--data-dir", cache.root
    )
    assert (code, output) == (0, f"{ALPINE}@{digest} cleared\n")
    assert cache.state_path(ALPINE, "a").exists()


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("alpine:gone", "not in the cache"),
        ("alpine:broken", "broken: "),
        ("alpine:pulling", "not ready: pulling"),
    ],
)
def test_an_image_that_cannot_be_used_is_one_line_and_1(
    cache: Cache, call: Call, image: str, problem: str, backend: str
) -> None:
    cache.image(ALPINE, "a", "broken", rootfs=False)
    cache.image(ALPINE, "b", "pulling", status="pulling")
    code, output, complaints = call("mark-used", image, "--data-dir", cache.root, "--backend", backend)
    assert (code, output) == (1, "")
    assert complaints.startswith(f"hmret: error: {image}: {problem}")
    assert complaints.count("\n") == 1


def test_a_timer_that_cannot_be_cleared_is_one_line_and_1(cache: Cache, call: Call) -> None:
    cache.image(ALPINE, "a", "3.20")
    (cache.state_path(ALPINE, "a") / "in the way").mkdir(parents=True)
    code, output, complaints = call("mark-used", "alpine:3.20", "--data-dir", cache.root)
    assert (code, output) == (1, "")
    assert complaints.startswith(f"hmret: error: {cache.root}: ")
    assert complaints.count("\n") == 1


@pytest.mark.parametrize("flags", [["no reference"], ["alpine", "--digest", "sha256:12"]])
def test_what_names_no_image_is_bad_usage(cache: Cache, call: Call, flags: list[str]) -> None:
    code, output, complaints = call("mark-used", *flags, "--data-dir", cache.root)
    assert (code, output) == (2, "")
    assert complaints.startswith("hmret: error: not ")


@pytest.mark.parametrize("command", [["mark-used", "alpine"], ["sweep", "--enable"], ["run", "--enable"]])
def test_a_directory_that_another_engine_has_is_exit_3(
    cache: Cache, call: Call, command: list[str], backend: str
) -> None:
    data_fd = os.open(cache.root, os.O_RDONLY)
    data_dir = DataDir.claim(POSIX, data_fd, str(cache.root))
    try:
        code, output, complaints = call(*command, "--data-dir", cache.root, "--backend", backend)
    finally:
        data_dir.close()
        os.close(data_fd)
    assert (code, output) == (3, "")
    assert complaints.startswith(f"hmret: error: {cache.root}: another engine (process {os.getpid()})")
    assert complaints.count("\n") == 1
