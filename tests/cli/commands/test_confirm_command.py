"""`confirm`, by itself and through the running engine, and `run` on a data directory that is moved aside."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cli.caches import Cache
from cli.services import running_service
from support.patience import PATIENCE

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

RESUMES = "deletion resumes with the next sweep, unless something else suspends it\n"
ALPINE = "docker.io/library/alpine"
DUE = timedelta(days=31)


@pytest.fixture
def lost(cache: Cache, call: Call) -> Cache:
    """A host whose guests and snapshots are not mounted."""
    cache.image(ALPINE, "a", "3.20")
    cache.guest("vm-1", {"Image": "alpine:3.20"})
    folder = cache.root / "snapshots/snap-1"
    folder.mkdir(parents=True)
    (folder / "snapshot.json").write_text('{"stored_metadata": {"Image": "alpine:3.20"}}')
    assert call("sweep", "--enable", "--allow", "*", "--data-dir", cache.root)[0] == 0
    unmount(cache, "guests")
    unmount(cache, "snapshots")
    return cache


def unmount(cache: Cache, folder: str) -> None:
    (cache.root / folder).rename(cache.root.with_name(f"{folder}.away"))
    (cache.root / folder).mkdir()


def test_what_is_named_is_confirmed_and_what_is_not_stays(lost: Cache, call: Call, backend: str) -> None:
    flags = ["--data-dir", lost.root, "--backend", backend]
    sweep = ["sweep", "--enable", "--allow", "*", *flags]
    code, output, _ = call(*sweep)
    assert code == 1
    assert "hmret confirm guests" in output
    code, _, complaints = call("confirm", *flags)
    assert (code, complaints) == (
        2,
        "hmret: error: confirm: several things need to be confirmed; name those that are correct: guests snapshots\n",
    )
    assert call("confirm", "guests", *flags)[:2] == (0, f"guests: confirmed\n{RESUMES}")
    code, output, _ = call(*sweep)
    assert code == 1
    assert "hmret confirm snapshots" in output
    assert call("confirm", "guests", "snapshots", *flags)[:2] == (
        0,
        f"snapshots: confirmed\nguests: nothing to confirm\n{RESUMES}",
    )
    assert call(*sweep)[0] == 0
    assert call("confirm", *flags)[:2] == (0, "nothing to confirm\n")


def test_the_document_lists_what_was_confirmed(lost: Cache, call_json: CallJson) -> None:
    flags = ["--data-dir", lost.root]
    assert call_json("confirm", "snapshots", *flags) == (0, {"confirmed": ["snapshots"]})
    assert call_json("confirm", *flags) == (0, {"confirmed": ["guests"]})
    assert call_json("confirm", *flags) == (0, {"confirmed": []})


@pytest.mark.parametrize("word", ["guest", "/etc", "system"])
def test_a_word_that_is_no_such_folder_is_bad_usage(cache: Cache, call: Call, word: str) -> None:
    code, _, complaints = call("confirm", word, "--data-dir", cache.root)
    assert code == 2
    assert complaints.startswith("hmret: error: confirm: expected one of guests, snapshots, images")
    assert complaints.count("\n") == 1


def test_the_running_engine_is_asked(lost: Cache, call: Call) -> None:
    flags = ["--data-dir", lost.root]
    with running_service(lost.root, "--enable", "--allow", "*") as service:
        told = service.wait_event("deletion_suspended")
        assert told["cause"] == "lost_references"
        code, _, complaints = call("confirm", *flags)
        assert code == 2
        assert "name those that are correct: guests snapshots" in complaints
        assert call("confirm", "guests", str(lost.root / "snapshots"), *flags)[:2] == (
            0,
            f"guests: confirmed\nsnapshots: confirmed\n{RESUMES}",
        )
        assert service.wait_event("confirmed")["what"] == "guests"
        assert call("sweep", *flags)[0] == 0


def test_an_engine_whose_directory_is_moved_aside_ends_with_1_and_takes_nothing(
    cache: Cache, backend: str
) -> None:
    aside = cache.root.with_name("aside")
    flags = ["--enable", "--allow", "*", "--backend", backend]
    with running_service(cache.root, *flags, environment={"HMRET__SWEEP_INTERVAL": "1s"}) as service:
        service.wait_event("engine_started")
        cache.root.rename(aside)
        # Without what the engine is about to rename: it goes on meanwhile.
        shutil.copytree(aside, cache.root, ignore=shutil.ignore_patterns("*.sock", "*.tmp"))
        moved = Cache.__new__(Cache)
        moved.root = aside
        moved.image(ALPINE, "a", "3.20", unused=DUE)
        assert service.process.wait(PATIENCE) == 1
    assert moved.has(ALPINE, "a")


@pytest.mark.parametrize("is_link", [True, False])
def test_a_link_that_hides_images_is_warned_of(cache: Cache, call: Call, is_link: bool) -> None:
    cache.image(ALPINE, "a", "3.20")
    if is_link:
        (cache.root / "images/docker.io").rename(cache.root.with_name("elsewhere"))
        (cache.root / "images/docker.io").symlink_to("../../elsewhere")
    code, output, _ = call("check-config", "--data-dir", cache.root)
    assert code == 0
    assert ("images/docker.io' is a symbolic link to a folder" in output) is is_link
    assert ("replace the link with a bind mount" in output) is is_link
