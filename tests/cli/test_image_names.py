"""Images named by digits of their digest or by the VM that runs from them, where no engine runs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import attrs
import pytest

from cli.caches import Cache
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from support.builders import make_config

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

X, ALPINE = "ghcr.io/kernel/x", "docker.io/library/alpine"


def explained(call: Call, cache: Cache, name: str) -> str:
    code, output, _ = call("explain", name, "--data-dir", cache.root)
    assert code == 0
    return output.splitlines()[0]


def test_an_image_is_explained_by_digits_of_its_digest(cache: Cache, call: Call) -> None:
    digest = cache.image(X, "a", "v1")
    for name in ("a" * 12, "A" * 13, "a" * 64, f"sha256:{'a' * 12}", digest):
        assert explained(call, cache, name) == f"{X}@{digest}"


def test_an_image_is_explained_by_the_vm_that_runs_from_it(
    cache: Cache, call: Call, call_json: CallJson
) -> None:
    digest = cache.image(ALPINE, "a", "3.20")
    cache.guest("k3v9", {"Name": "web-1", "Image": "alpine:3.20", "ResolvedImage": f"alpine@{digest}"})
    for name in ("web-1", "k3v9", "instance/k3v9"):
        assert explained(call, cache, name) == f"{ALPINE}@{digest}"
    assert "- referenced by instance/k3v9 (web-1)" in call("explain", "web-1", "--data-dir", cache.root)[1]
    _, document = call_json("explain", "web-1", "--data-dir", cache.root)
    assert (document["referenced_by"], document["vm_names"]) == (
        ["instance/k3v9"],
        {"instance/k3v9": "web-1"},
    )


def test_a_reference_comes_before_digits_and_names(cache: Cache, call: Call) -> None:
    digits = "deadbeefcafe"
    digest = cache.image(f"docker.io/library/{digits}", "a", "latest")
    cache.image(X, "b", "v1")
    cache.guest("vm-1", {"Name": digits, "Image": f"{X}:v1"})
    assert explained(call, cache, digits) == f"docker.io/library/{digits}@{digest}"


def test_what_may_mean_several_images_lists_them(cache: Cache, call: Call) -> None:
    digest = cache.image(X, "a", "v1")
    cache.image("quay.io/other/y", "a")
    code, output, complaints = call("explain", "a" * 12, "--data-dir", cache.root)
    assert (code, output) == (2, "")
    assert complaints == (
        f"hmret: error: {'a' * 12}: may mean several images: {X}@{digest}, quay.io/other/y@{digest}\n"
    )


@pytest.mark.parametrize(
    "name", ["b" * 12, "b" * 64, f"sha256:{'b' * 64}", "web-9", "instance/web-9", "a" * 11]
)
def test_what_names_nothing_is_not_here(cache: Cache, call: Call, name: str) -> None:
    cache.image(X, "a", "v1")
    code, output, complaints = call("explain", name, "--data-dir", cache.root)
    assert (code, output, complaints) == (1, "", f"hmret: error: {name}: not in the cache\n")


def test_a_vm_counts_before_the_snapshot_that_kept_its_name(cache: Cache, call: Call) -> None:
    old = cache.image(ALPINE, "a", "3.19")
    new = cache.image(ALPINE, "b", "3.20")
    cache.guest("vm-1", {"Name": "web-1", "ResolvedImage": f"alpine@{new}"})
    path = cache.root / "snapshots/s-1/snapshot.json"
    path.parent.mkdir(parents=True)
    path.write_text(f'{{"stored_metadata": {{"Name": "web-1", "ResolvedImage": "alpine@{old}"}}}}')
    assert explained(call, cache, "web-1") == f"{ALPINE}@{new}"
    assert explained(call, cache, "s-1") == f"{ALPINE}@{old}"


def test_an_image_is_marked_used_and_restored_by_digits(cache: Cache, call: Call, backend: str) -> None:
    digest = cache.image(X, "a", "v1", unused=timedelta(days=31))
    flags = ["--data-dir", cache.root, "--backend", backend]
    assert call("mark-used", "a" * 12, *flags) == (0, f"{X}@{digest} cleared\n", "")
    cache.state(X, "a", "2026-01-02T03:04:05Z")

    async def sweep() -> None:
        config = attrs.evolve(make_config(cache.root), quarantine=timedelta(days=1))
        async with open_engine(config, Platform(), scheduled=False) as retention:
            assert (await retention.sweep()).quarantined_images == 1

    anyio.run(sweep)
    assert call("restore", "a" * 11, *flags)[0] == 1
    assert call("restore", "a" * 12, *flags) == (0, f"{X}@{digest} (v1) restored\n", "")
