"""`quarantine` and `restore`, by themselves and through the running engine."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from cli.caches import DISK_BYTES, Cache, sizes_and_times
from cli.services import running_service
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from support.builders import make_config

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

ALPINE = "docker.io/library/alpine"
DUE = timedelta(days=31)


@pytest.fixture
def digest(cache: Cache) -> str:
    """The digest of the one image in quarantine."""
    digest = cache.image(ALPINE, "a", "3.20", "latest", unused=DUE)

    async def sweep() -> None:
        config = attrs.evolve(make_config(cache.root), quarantine=timedelta(days=1))
        async with open_engine(config, Platform(), scheduled=False) as retention:
            assert (await retention.sweep()).quarantined_images == 1

    anyio.run(sweep)
    return digest


def trash_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "system/hmret/trash").iterdir())


def test_what_is_held_is_listed_and_nothing_is_changed(
    cache: Cache, call: Call, digest: str, backend: str
) -> None:
    before = sizes_and_times(cache.root)
    code, output, complaints = call("quarantine", "--data-dir", cache.root, "--backend", backend)
    assert (code, complaints) == (0, "")
    titles, row = output.splitlines()
    assert titles.split() == ["REPOSITORY", "DIGEST", "TAGS", "ON", "DISK", "UNTIL"]
    assert row.split()[:5] == [ALPINE, "a" * 12, "3.20,latest", "8.0", "KiB"]
    assert len(row) <= 80
    assert sizes_and_times(cache.root) == before


def test_the_list_is_a_document(cache: Cache, call_json: CallJson, digest: str) -> None:
    code, document = call_json("quarantine", "--data-dir", cache.root)
    (image,) = document["images"]
    assert code == 0
    assert list(image) == ["repository", "digest", "tags", "disk_bytes", "retired_at", "until", "command"]
    assert image["command"] == f"hmret restore {ALPINE}@{digest} --data-dir {cache.root}"
    assert (image["digest"], image["tags"], image["disk_bytes"]) == (digest, ["3.20", "latest"], DISK_BYTES)


def test_where_nothing_is_held_that_is_said(cache: Cache, call: Call) -> None:
    assert call("quarantine", "--data-dir", cache.root) == (0, "nothing is in quarantine\n", "")


def test_an_image_is_restored_with_the_tags_that_are_free(
    cache: Cache, call: Call, digest: str, backend: str
) -> None:
    cache.image(ALPINE, "b", "latest")
    flags = ["restore", "alpine:3.20", "--data-dir", cache.root, "--backend", backend]
    told = f"{ALPINE}@{digest} (3.20) restored, without latest, now used for another image\n"
    assert call(*flags) == (0, told, "")
    assert cache.has(ALPINE, "a")
    assert trash_of(cache.root) == []
    code, output, complaints = call(*flags)
    assert (code, output) == (1, "")
    assert complaints == "hmret: error: alpine:3.20: not in quarantine\n"


def test_a_restored_image_is_a_document(cache: Cache, call_json: CallJson, digest: str) -> None:
    code, document = call_json("restore", "alpine", "--digest", "a" * 64, "--data-dir", cache.root)
    assert (code, list(document)) == (0, ["repository", "digest", "tags", "unused_since", "taken_tags"])
    assert (document["digest"], document["tags"]) == (digest, ["3.20", "latest"])


def test_what_is_here_already_is_one_line_and_1(cache: Cache, call: Call, digest: str) -> None:
    cache.image(ALPINE, "a", "3.20")
    code, output, complaints = call("restore", "alpine:3.20", "--data-dir", cache.root)
    assert (code, output) == (1, "")
    assert complaints == f"hmret: error: alpine:3.20: in the cache already: {ALPINE}@{digest}\n"


@pytest.mark.parametrize("flags", [["no reference"], ["alpine", "--digest", "sha256:12"]])
def test_what_names_no_image_is_bad_usage(cache: Cache, call: Call, flags: list[str]) -> None:
    code, output, complaints = call("restore", *flags, "--data-dir", cache.root)
    assert (code, output) == (2, "")
    assert complaints.startswith("hmret: error: not ")


def test_no_vm_is_said_to_lead_to_what_was_deleted(call: Call) -> None:
    told = " ".join(call("restore", "--help")[1].split())
    assert (
        "A reference by tag or digest (alpine:3.20) to a deleted image, or 12 or more digits of its" in told
    )
    assert "VM" not in told


def test_the_running_engine_lists_and_restores(cache: Cache, call: Call, digest: str) -> None:
    # While deletion is suspended, nothing leaves the quarantine.
    cache.guest("vm-1", "{")
    with running_service(cache.root, "--enable", "--allow", "*") as service:
        service.wait_event("sweep_ended")
        code, output, complaints = call("quarantine", "--data-dir", cache.root)
        assert (code, digest[7:19] in output) == (0, True)
        assert complaints.startswith("hmret: the running engine answers")
        cache.image(ALPINE, "a")
        code, _, complaints = call("restore", "alpine:3.20", "--data-dir", cache.root)
        assert (code, "in the cache already" in complaints) == (1, True)
        for name in ("metadata.json", "rootfs.ext4", ""):
            path = cache.root / "images" / ALPINE / ("a" * 64) / name
            path.unlink() if name else path.rmdir()
        code, output, _ = call("restore", "alpine:3.20", "--data-dir", cache.root)
        assert (code, output) == (0, f"{ALPINE}@{digest} (3.20, latest) restored\n")
        assert service.stop() == 0
    assert cache.has(ALPINE, "a")
