"""`explain`: the document, and every reason in words."""

import json
import pathlib
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import msgspec
import pytest

from cli.caches import DISK_BYTES, Cache, sizes_and_times
from hmret.api.wire.convert import explain_document, read_explained
from hmret.api.wire.structs import encode_document
from hmret.cli.commands import explain as explain_command
from hmret.cli.display.tables import put_suspension
from hmret.model.images import Cause, Suspension
from hmret.model.policy.config import RetentionConfig
from hmret.model.verdicts import Action, Holder, Reason, Verdict
from support.image_fields import IMAGE_FIELDS

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

DUE = timedelta(days=31)
HALF = timedelta(days=15)
X = "ghcr.io/kernel/x"
FIELDS = [*IMAGE_FIELDS, "blockers", "detail", "rule", "vm_names", "paths", "leases"]


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
        "shared_with": [],
        "held_by": [],
        "copies_elsewhere": None,
        "blockers": ["referenced", "not_allowed"],
        "detail": None,
        "rule": None,
        "vm_names": {},
        "paths": [f"{cache.root}/images/docker.io/library/alpine/{digest.removeprefix('sha256:')}"],
        "leases": [],
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
    assert "repair it" in verdict["detail"]


@pytest.mark.parametrize(
    ("unused", "flags", "words"),
    [
        (DUE, ["--enable"], ["the next sweep will delete it"]),
        (
            DUE,
            [],
            ["the next sweep will delete it", "disabled: nothing is swept; set hmret.enabled, or pass"],
        ),
        (HALF, ["--enable"], ["- in its window until 20", "the first sweep after 20"]),
        (None, ["--enable"], ["- no timer is running yet", "the next sweep will start its timer"]),
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
    ]
    assert reasons[-1].startswith(f"deletion is suspended: unreadable_reference: {torn}: ")
    assert output.endswith("it is kept as long as any of this applies\n")


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


def tell(verdict: Verdict, config: RetentionConfig | None = None) -> list[str]:
    return list(explain_command._tell(verdict, (), config or RetentionConfig(), {}, enabled=True))


@pytest.mark.parametrize(
    ("blocker", "words"),
    [
        (Reason.BROKEN, "broken, so left alone: no rootfs"),
        (Reason.LEASED, "covered by a lease; hmret leases says whose"),
        (Reason.BACKOFF, "its deletion failed recently"),
        (Reason.DEFERRED, "deferred: more images are due than hmret.max_deletes_per_sweep, 7"),
        (Reason.OPEN, "a process has its disk open"),
        (Reason.EXPIRED, "its window has passed"),
    ],
)
def test_reasons_of_a_running_engine_have_words_too(blocker: Reason, words: str) -> None:
    told = "\n".join(tell(verdict_with(blocker), RetentionConfig(max_deletes_per_sweep=7)))
    assert f"- {words}" in told


def test_a_deferred_image_goes_later() -> None:
    told = "\n".join(tell(verdict_with(Reason.DEFERRED)))
    assert "one of the next sweeps will delete it" in told


def test_a_suspension_does_not_become_the_detail_of_what_it_does_not_hold() -> None:
    suspended = [Suspension(Cause.CLOCK_JUMP, "", "wait")]
    assert explain_document(verdict_with(Reason.OPEN), suspended).detail == "broken: no rootfs"
    held = explain_document(verdict_with(Reason.SUSPENDED), suspended)
    assert held.detail == "broken: no rootfs; clock_jump: wait"


WAIT = Suspension(Cause.CLOCK_JUMP, "", "wait; then confirm it")
LISTED = Suspension(Cause.UNREADABLE_CACHE, "/images/content", "input/output error")


@pytest.mark.parametrize(
    ("broken", "detail", "words"),
    [
        (None, None, None),
        ("no rootfs", None, "broken: no rootfs"),
        ("no rootfs", "no rootfs", "broken: no rootfs"),
        ("no rootfs", "no rootfs: hidden; pull it again", "broken: no rootfs; hidden; pull it again"),
        ("no rootfs", "no rootfs image", "broken: no rootfs; no rootfs image"),
        (None, "converting for a day; pull it again", "converting for a day; pull it again"),
    ],
)
def test_what_is_odd_about_an_image_is_told_once(
    broken: str | None, detail: str | None, words: str | None
) -> None:
    blockers = [Reason.NOT_READY if broken is None else Reason.BROKEN, Reason.SUSPENDED]
    verdict = attrs.evolve(verdict_with(*blockers), broken=broken, detail=detail)
    assert explain_document(verdict).detail == words
    held = explain_document(verdict, [WAIT, LISTED]).detail
    suspended = "clock_jump: wait; then confirm it; unreadable_cache: /images/content: input/output error"
    assert held == (suspended if words is None else f"{words}; {suspended}")


@pytest.mark.parametrize("broken", [None, "no rootfs"])
@pytest.mark.parametrize("detail", [None, "converting for a day; pull it again", "lost: clock_jump"])
@pytest.mark.parametrize("suspended", [[], [WAIT], [WAIT, LISTED], [Suspension(Cause.CLOCK_JUMP, "", "")]])
def test_what_an_engine_tells_of_an_image_is_read_back(
    broken: str | None, detail: str | None, suspended: list[Suspension]
) -> None:
    blockers = [Reason.SHARED, *([] if broken is None else [Reason.BROKEN])]
    blockers += [Reason.SUSPENDED] if suspended else []
    verdict = attrs.evolve(
        verdict_with(*blockers),
        broken=broken,
        detail=detail,
        shared_with=("ghcr.io/kernel/y", "ghcr.io/kernel/z"),
        held_by=(Holder("ghcr.io/kernel/z", Reason.REFERENCED),),
    )
    document = json.loads(encode_document(explain_document(verdict, suspended)))
    assert document["shared_with"] == ["ghcr.io/kernel/y", "ghcr.io/kernel/z"]
    assert document["held_by"] == [{"repository": "ghcr.io/kernel/z", "reason": "referenced"}]
    read, words, names = read_explained(document)
    assert (read, names) == (verdict, {})
    assert "; ".join(words) == "; ".join(map(put_suspension, suspended))


def test_an_engine_from_before_contents_were_shared_is_read_too() -> None:
    verdict = attrs.evolve(verdict_with(Reason.OPEN), broken=None)
    document = msgspec.to_builtins(explain_document(verdict))
    del document["shared_with"], document["held_by"]
    assert read_explained(document)[0] == verdict


def test_what_a_newer_engine_tells_besides_is_passed_over() -> None:
    holder = Holder("ghcr.io/kernel/z", Reason.REFERENCED)
    verdict = attrs.evolve(verdict_with(Reason.SHARED), broken=None, held_by=(holder,))
    document = json.loads(encode_document(explain_document(verdict)))
    document["more"] = document["held_by"][0]["more"] = {"of": "it"}
    assert read_explained(document)[0] == verdict


def test_people_are_told_who_shares_an_image_and_who_holds_it() -> None:
    verdict = attrs.evolve(
        verdict_with(Reason.SHARED),
        broken=None,
        shared_with=("ghcr.io/kernel/y", "ghcr.io/kernel/z"),
        held_by=(Holder("ghcr.io/kernel/z", Reason.REFERENCED),),
        detail="a folder is in the way",
    )
    told = tell(verdict)
    lines = [re.split(" {2,}", line) for line in told[1].splitlines()]
    assert lines[-3:] == [
        ["shared with", "ghcr.io/kernel/y, ghcr.io/kernel/z"],
        ["held by", "ghcr.io/kernel/z (referenced)"],
        ["detail", "a folder is in the way"],
    ]
    assert "- its content is shared with ghcr.io/kernel/z (referenced)" in told
    assert told[-1] == "it is kept as long as any of this applies"


def test_an_image_that_nobody_shares_has_no_rows_for_it() -> None:
    told = tell(verdict_with(Reason.OPEN))
    assert not {"shared with", "held by", "detail"} & {line.split("  ")[0] for line in told[1].splitlines()}


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
