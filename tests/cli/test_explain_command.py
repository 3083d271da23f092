"""`explain`: the document, and every reason in words."""

import pathlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cli.caches import DISK_BYTES, Cache, sizes_and_times
from hmret.api.documents import explain_document
from hmret.api.readings import ExplainReading
from hmret.cli import explain as explain_command
from hmret.model.config import RetentionConfig
from hmret.model.images import Cause, Suspension
from hmret.model.planning import Action, Reason, Verdict

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

DUE = timedelta(days=31)
HALF = timedelta(days=15)
X = "ghcr.io/kernel/x"
FIELDS = [
    "repository",
    "digest",
    "tags",
    "status",
    "size_bytes",
    "disk_bytes",
    "action",
    "reason",
    "referenced_by",
    "unused_since",
    "expires_at",
    "blockers",
    "detail",
    "rule",
]


def test_the_document_is_one_image_with_every_reason(cache: Cache, call_json: CallJson, backend: str) -> None:
    digest = cache.image("docker.io/library/alpine", "a", "3.20")
    cache.guest("vm-1", {"Image": "alpine:3.20"})
    code, verdict = call_json(
        "explain", "alpine:3.20", "--allow", "ghcr.io/*", "--data-dir", cache.root, "--backend", backend
    )
    assert code == 0
    assert list(verdict) == FIELDS
    assert verdict == {
        "repository": "docker.io/library/alpine",
        "digest": digest,
        "tags": ["3.20"],
        "status": "ready",
        "size_bytes": 5_000_000_000,
        "disk_bytes": DISK_BYTES,
        "action": "clear",
        "reason": "referenced",
        "referenced_by": ["instance/vm-1"],
        "unused_since": None,
        "expires_at": None,
        "blockers": ["referenced", "not_allowed", "newly_unused"],
        "detail": None,
        "rule": None,
    }


def test_what_is_wrong_with_a_broken_image_is_its_detail(cache: Cache, call_json: CallJson) -> None:
    cache.image(X, "a", "v1", rootfs=False)
    _, verdict = call_json("explain", f"{X}:v1", "--allow", "*", "--data-dir", cache.root)
    assert verdict["reason"] == "broken"
    assert verdict["detail"].startswith("broken: ")


def test_the_remedy_of_a_suspension_is_in_the_detail(cache: Cache, call_json: CallJson) -> None:
    cache.image(X, "a", "v1", unused=DUE)
    torn = cache.guest("torn", "{")
    code, verdict = call_json("explain", f"{X}:v1", "--allow", "*", "--data-dir", cache.root)
    assert (code, verdict["blockers"]) == (0, ["suspended"])
    assert verdict["detail"].startswith(f"unreadable_reference: {torn}: ")
    assert "repair or remove it" in verdict["detail"]


@pytest.mark.parametrize(
    ("unused", "flags", "words"),
    [
        (DUE, ["--enable"], ["it goes with the next sweep"]),
        (DUE, [], ["it goes with the next sweep", "disabled: nothing is swept"]),
        (HALF, ["--enable"], ["- in its window until 20", "it goes with the first sweep from 20"]),
        (None, ["--enable"], ["- no timer runs yet", "its timer starts with the next sweep"]),
    ],
)
def test_people_are_told_when_it_will_go(
    cache: Cache, call: Call, unused: timedelta | None, flags: list[str], words: list[str]
) -> None:
    digest = cache.image(X, "a", "v1", unused=unused)
    code, output, complaints = call("explain", f"{X}:v1", "--allow", "*", "--data-dir", cache.root, *flags)
    assert (code, complaints) == (0, "")
    assert output.startswith(f"{X}@{digest}\n")
    assert all(word in output for word in words)


def test_people_are_told_every_reason(cache: Cache, call: Call, tmp_path: pathlib.Path) -> None:
    cache.image("docker.io/library/alpine", "a", "3.20", status="failed")
    cache.guest("vm-1", {"Image": "alpine:3.20"})
    cache.guest("vm-2", {"Image": "alpine"})
    cache.guest("vm-3", {"ResolvedImage": f"alpine@sha256:{'a' * 64}"})
    torn = cache.guest("torn", "{")
    config = tmp_path / "config.yaml"
    config.write_text('hmret:\n  pinned: ["docker.io/library/*", "ghcr.io/*"]\n')
    code, output, _ = call("explain", "alpine:3.20", "--config", config, "--data-dir", cache.root, "--enable")
    assert code == 0
    reasons = [line.removeprefix("- ") for line in output.splitlines() if line.startswith("- ")]
    assert reasons[:-1] == [
        "not ready: its status is failed",
        "referenced by instance/vm-1",
        "referenced by instance/vm-3",
        "pinned: hmret.pinned has docker.io/library/*",
        "not allowed: no pattern of images.auto_delete.allowed matches docker.io/library/alpine",
        "no timer runs yet: the next sweep starts it",
    ]
    assert reasons[-1].startswith(f"deletion is suspended: unreadable_reference: {torn}: ")
    assert output.endswith("it stays while any of this holds\n")


def verdict_with(*blockers: Reason) -> Verdict:
    return Verdict(
        repository=X,
        digest=f"sha256:{'a' * 64}",
        tags=(),
        status="ready",
        size_bytes=1,
        disk_bytes=1,
        action=Action.NONE,
        reason=blockers[0],
        blockers=blockers,
        referenced_by=(),
        unused_since_ns=0,
        expires_at_ns=10**9,
        broken="no rootfs",
    )


@pytest.mark.parametrize(
    ("blocker", "words"),
    [
        (Reason.BROKEN, "broken, so left alone: no rootfs"),
        (Reason.LEASED, "covered by a lease"),
        (Reason.BACKOFF, "its deletion failed lately"),
        (Reason.DEFERRED, "deferred: more are due than hmret.max_deletes_per_sweep, 7"),
        (Reason.OPEN, "a process has its disk open"),
        (Reason.EXPIRED, "its window has passed"),
    ],
)
def test_reasons_of_a_running_engine_have_words_too(blocker: Reason, words: str) -> None:
    reading = ExplainReading(verdict_with(blocker), (), enabled=True)
    told = "\n".join(explain_command._tell(reading, RetentionConfig(max_deletes_per_sweep=7)))
    assert f"- {words}" in told


def test_a_deferred_image_goes_later() -> None:
    reading = ExplainReading(verdict_with(Reason.DEFERRED), (), enabled=True)
    told = "\n".join(explain_command._tell(reading, RetentionConfig()))
    assert "it goes with one of the next sweeps" in told


def test_a_suspension_does_not_become_the_detail_of_what_it_does_not_hold() -> None:
    suspended = [Suspension(Cause.CLOCK_JUMP, "", "wait")]
    assert explain_document(verdict_with(Reason.OPEN), suspended)["detail"] == "broken: no rootfs"
    held = explain_document(verdict_with(Reason.SUSPENDED), suspended)
    assert held["detail"] == "broken: no rootfs; clock_jump: wait"


@pytest.mark.parametrize("image", ["alpine:gone", f"alpine@sha256:{'b' * 64}", "ghcr.io/other/x"])
def test_what_is_not_here_is_one_line_and_1(cache: Cache, call: Call, image: str, backend: str) -> None:
    cache.image("docker.io/library/alpine", "a", "3.20")
    code, output, complaints = call("explain", image, "--data-dir", cache.root, "--backend", backend)
    assert (code, output, complaints) == (1, "", f"hmret: error: {image}: not in the cache\n")


def test_what_is_no_reference_is_bad_usage(cache: Cache, call: Call) -> None:
    code, output, complaints = call("explain", "no\nreference", "--data-dir", cache.root)
    assert (code, output) == (2, "")
    assert complaints == "hmret: error: not an image reference: 'no\\nreference'\n"


def test_nothing_changes(cache: Cache, call: Call) -> None:
    cache.image("docker.io/library/alpine", "a", "3.20", unused=DUE)
    earlier = sizes_and_times(cache.root)
    call("explain", "alpine:3.20", "--enable", "--allow", "*", "--data-dir", cache.root)
    assert sizes_and_times(cache.root) == earlier
