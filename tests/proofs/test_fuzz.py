"""Whatever stands in any file, and whatever any name is: no crash, nothing outside is touched, nothing in use goes."""

import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from trio.testing import MockClock

from hmret import HmretError, ImageNotFoundError, SweepReport, SweepStatus
from hmret.disk.deletion.recovery.quarantine import load_held
from hmret.disk.deletion.recovery.restoring import restore
from hmret.disk.layout import hex_of
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.references import Key
from hmret.model.times import timedelta_nanoseconds
from support.bounds import bound, part
from support.builders import (
    DATA,
    START_NS,
    FakeClock,
    data_fd_of,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    make_snapshot,
    make_state,
)
from support.inline_threads import InlineThreads
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently

T = TypeVar("T")

ALPINE = "docker.io/library/alpine"
BUSYBOX = "docker.io/library/busybox"
CANARY = "/canary"
OWN = f"{DATA}/system/hmret"
TRASH = f"{OWN}/trash"
RETENTION = f"{DATA}/system/image-retention"

OLD_NS = START_NS - timedelta_nanoseconds(timedelta(days=60))

OURS = (f"{DATA}/images/", f"{OWN}/", f"{RETENTION}/")
"""What hmret may change something in."""

few = settings(
    max_examples=bound(10, 150),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
many = settings(few, max_examples=bound(20, 400))


@attrs.define(eq=False)
class Host:
    """A small host: an image that is referenced, one that is due, one that is leased, and a tree beside it all."""

    filesystem: MemoryFilesystem
    clock: FakeClock
    referenced: Key
    due: Key
    leased: Key

    def around(self) -> object:
        """Tell all that hmret has no business with."""
        contents = self.filesystem.tree("/")
        return {
            path: (found, contents[path])
            for path, found in self.filesystem.snapshot("/").items()
            if not f"{path}/".startswith(OURS) and path not in (DATA, f"{DATA}/system")
        }

    def sweep(self, backend: str = "trio", *, times: int = 2) -> list[SweepReport]:
        """Open an engine, and again, and let it sweep; what lies around must stay as it is."""
        before = self.around()
        reports: list[SweepReport] = []
        for _ in range(times):
            try:
                reports += run(self._sweep, backend)
            except (HmretError, OSError):
                continue
            finally:
                self.clock.advance(timedelta(minutes=1))
                assert self.around() == before
                assert self.filesystem.open_descriptors() == {}
        assert SweepStatus.ERROR not in [report.status for report in reports], reports
        return reports

    async def _sweep(self) -> list[SweepReport]:
        platform = Platform(
            filesystem=self.filesystem, clock=self.clock, threads=InlineThreads(), monotonic_ns=lambda: 0
        )
        config = make_config(self.filesystem)
        reports = []
        with patiently():
            async with open_engine(config, platform, scheduled=False) as retention:
                await retention.plan()
                try:
                    async with retention.lease(*self.leased):
                        reports.append(await retention.sweep())
                except (ImageNotFoundError, OSError):
                    reports.append(await retention.sweep())
        return reports

    def check_kept(self) -> None:
        """Check that what is in use is whole."""
        assert has_image(self.filesystem, self.referenced)
        folder = f"{DATA}/images/{ALPINE}/{hex_of(self.referenced[1])}"
        assert len(self.filesystem.read_file(f"{folder}/rootfs.ext4")) == 4096


def run(function: Callable[[], Awaitable[T]], backend: str) -> T:
    """Run in an event loop; on trio, with a clock that does not make anybody wait."""
    options = {"clock": MockClock(autojump_threshold=0)} if backend == "trio" else {}
    return anyio.run(function, backend=backend, backend_options=options)


def make_host() -> Host:
    clock = FakeClock()
    filesystem = MemoryFilesystem(clock.now_ns)
    filesystem.make_folder(f"{DATA}/images")
    referenced = make_image(filesystem, ALPINE, "a")
    due = make_image(filesystem, BUSYBOX, "b")
    leased = make_image(filesystem, "ghcr.io/kernel/leased", "e")
    for key in (referenced, due, leased):
        make_state(filesystem, key, OLD_NS)
    make_guest(filesystem, "vm", "alpine", resolved_image=f"{ALPINE}@{referenced[1]}")
    make_snapshot(filesystem, "snap")
    filesystem.write_file(f"{DATA}/system/oci-cache/index.json", b"{}")
    filesystem.write_file(f"{DATA}/config.json", b"{}")
    for name in ("metadata.json", "rootfs.ext4", "precious.json", f"{'a' * 64}/metadata.json", "images/x/y"):
        filesystem.write_file(f"{CANARY}/{name}", b"{}")
    return Host(filesystem, clock, referenced, due, leased)


# Contents.


def truncations(content: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, len(content)).map(lambda end: content[:end])


def changed_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    def change(edits: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content)
        for place, byte in edits:
            changed[place] = byte
        return bytes(changed)

    edit = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    return st.lists(edit, min_size=1, max_size=4).map(change)


odd_numbers = st.sampled_from(
    [
        *(10**30, -(10**30), 2**63, 2**64, -(2**63) - 1, 10**4000, 1e308, -0.0, 0.5),
        *(float("inf"), float("-inf"), float("nan")),
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | odd_numbers | st.integers() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=6,
)
MONSTERS = (
    b"",
    b"\0" * 300,
    b"[" * 100_000,
    b'{"Image":' * 50_000,
    b"[" * 5000 + b"]" * 5000,
    b'{"a":' * 900 + b"1" + b"}" * 900,
    b'{"Image":"alpine","Image":"busybox"}',
    b"\xff\xfe" + '{"Image":"alpine"}'.encode("utf-16-le"),
    b"\xef\xbb\xbf{}",
    b'{"Image":"\xff\xfe"}',
    b'{"Image":"\\ud800"}',
    b"1" * 100_000,
    b'{"unused_since_ns":' + b"9" * 5000 + b"}",
    b" " * 200_000 + b"{}",
    b"null",
    b"[]",
    b"[null]",
    b"{}{}",
)


def variants(fields: object) -> st.SearchStrategy[bytes]:
    """Draw what can have become of a file that held these fields."""
    content = json.dumps(fields).encode()
    kinds = [truncations(content), changed_bytes(content), st.binary(max_size=200), st.sampled_from(MONSTERS)]
    kinds.append(json_values.map(lambda value: json.dumps(value).encode()))
    if isinstance(fields, dict):
        kinds.append(
            st.tuples(st.sampled_from(sorted(fields)), json_values).map(
                lambda change: json.dumps(fields | dict([change])).encode()
            )
        )
    return st.one_of(kinds)


GUEST = {"Id": "x", "Image": "busybox", "ResolvedImage": "", "CreatedAt": "2026-05-01T00:00:00Z"}
METADATA = {
    "name": f"{BUSYBOX}:latest",
    "digest": digest("b"),
    "status": "ready",
    "size_bytes": 4096,
    "created_at": "2026-05-01T00:00:00Z",
}
STATE = {"repository": BUSYBOX, "digest": digest("b"), "unused_since": "2026-03-01T00:00:00Z"}
INTENT = {
    "repository": "docker.io/library/gone",
    "digest": digest("c"),
    "tags": ["latest"],
    "unused_since_ns": OLD_NS,
    "name": "0123456789abcdef.0",
}
HELD = INTENT | {"disk_bytes": 4096, "retired_at_ns": 5}
FILES: dict[str, tuple[str, object]] = {
    "guest": (f"{DATA}/guests/fuzzed/metadata.json", GUEST),
    "snapshot": (f"{DATA}/snapshots/fuzzed/snapshot.json", {"snapshot": {}, "stored_metadata": GUEST}),
    "metadata": (f"{DATA}/images/{BUSYBOX}/{'b' * 64}/metadata.json", METADATA),
    "state": (f"{RETENTION}/{BUSYBOX}/{'b' * 64}.json", STATE),
    "intents": (f"{TRASH}/0123456789abcdef.json", [INTENT]),
    "held": (f"{TRASH}/0123456789abcdef.held", [HELD]),
    "clock": (
        f"{OWN}/clock.json",
        {"boot_id": "first-boot", "boot_ns": 10**15, "wall_ns": START_NS, "suspended_until_boot_ns": 0},
    ),
    "references": (
        f"{OWN}/references.json",
        [{"source": "instance/vm", "image": "alpine", "digests": [digest("a")], "created_at": None}],
    ),
    "leases": (f"{OWN}/leases.json", [{"id": "x", "repository": ALPINE, "digest": digest("a")}]),
    "journal": (f"{OWN}/journal.jsonl", {"time": "2026-05-01T00:00:00Z", "event": "mark"}),
    "lock": (f"{OWN}/lock", {"process": 1}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_any_content_stops_nothing_and_harms_nothing(name: str, anyio_backend_name: str) -> None:
    path, fields = FILES[name]

    # asyncio has no clock that can be sped up, and a file that may be torn is waited for.
    @settings(few, max_examples=5 if anyio_backend_name == "asyncio" else few.max_examples)
    @given(content=variants(fields))
    def check(content: bytes) -> None:
        host = make_host()
        host.filesystem.write_file(path, content)
        if name in ("intents", "held"):
            host.filesystem.write_file(f"{TRASH}/{INTENT['name']}/rootfs.ext4", bytes(4096))
        reports = host.sweep(anyio_backend_name)
        assert len(reports) == 2
        host.check_kept()

    check()


SUSPENDING = frozenset({"guest", "snapshot", "leases"})
"""What nobody can read keeps every image."""


@pytest.mark.parametrize("names", [SUSPENDING, FILES.keys() - SUSPENDING], ids=["suspending", "others"])
def test_files_cut_off_at_any_byte_stop_nothing_and_harm_nothing(names: frozenset[str]) -> None:
    contents = {FILES[name][0]: json.dumps(FILES[name][1]).encode() for name in sorted(names)}
    for end in part(range(max(map(len, contents.values()))), 4):
        host = make_host()
        for path, content in contents.items():
            host.filesystem.write_file(path, content[: end % len(content)])
        assert len(host.sweep(times=1)) == 1
        host.check_kept()


@pytest.mark.parametrize("name", ["state", "metadata", "clock", "references", "journal"])
@pytest.mark.parametrize("content", MONSTERS, ids=range(len(MONSTERS)))
def test_a_corrupt_file_does_not_keep_another_image(name: str, content: bytes) -> None:
    host = make_host()
    other = make_image(host.filesystem, "ghcr.io/kernel/other", "9")
    make_state(host.filesystem, other, OLD_NS)
    host.filesystem.write_file(FILES[name][0], content)
    host.sweep()
    assert not has_image(host.filesystem, other)


# Intents.

hostile_paths = st.sampled_from(
    [
        *("..", ".", "", "/", "../..", "../../..", "../guests", "../../guests", "../../../guests", "/canary"),
        *(
            "../../../canary",
            "../../../../canary",
            "../../../../../canary",
            "a/../../..",
            "docker.io/library/..",
        ),
        *("../image-retention", "../../image-retention", "lock", "clock.json", "0123456789abcdef.json"),
        *("a\0b", "a\nb", "\udcff", "n" * 255, "n" * 256, "n/" * 3000, "a" * 64, ALPINE, BUSYBOX, "images"),
        *("precious", "x/../../precious", f"{ALPINE}/{'a' * 64}", f"../../../images/{ALPINE}/{'a' * 64}"),
    ]
)
hostile_digests = st.one_of(
    hostile_paths.map("sha256:{}".format),
    hostile_paths,
    st.sampled_from([digest("a"), digest("b"), digest("c"), "sha256:" + "A" * 64, "sha512:" + "a" * 128]),
)
hostile_intents = st.fixed_dictionaries(
    {
        "repository": hostile_paths | st.sampled_from([ALPINE, BUSYBOX, "docker.io/library/gone"]),
        "digest": hostile_digests,
        "tags": st.lists(hostile_paths | st.just("latest"), max_size=3),
        "unused_since_ns": st.sampled_from([OLD_NS, 0, -1, 10**25]),
        "name": hostile_paths | st.just("0123456789abcdef.0"),
    }
)
FOLDER = f"{TRASH}/0123456789abcdef.0"


@many
@given(
    intents=st.lists(hostile_intents, min_size=1, max_size=3), is_open=st.booleans(), is_here=st.booleans()
)
@example([INTENT | {"name": "../../../guests"}], False, True)
@example([INTENT | {"name": ".."}], False, True)
@example([INTENT | {"repository": ".."}], False, True)
@example([INTENT | {"repository": "../guests", "digest": "sha256:vm"}], True, True)
@example([INTENT | {"digest": "sha256:../../../../../canary/new"}], True, True)
@example([INTENT | {"digest": "sha256:../../../guests/vm/metadata", "repository": "docker.io"}], True, True)
@example([INTENT | {"tags": ["../../../../../canary/tag"]}], True, True)
@example([INTENT | {"repository": ALPINE, "digest": digest("a")}], False, True)
def test_hostile_intents_are_refused(intents: list[dict[str, object]], is_open: bool, is_here: bool) -> None:
    host = make_host()
    if is_here:
        for name in ("metadata.json", "rootfs.ext4"):
            host.filesystem.write_file(f"{FOLDER}/{name}", b"{}")
        for folder in (f"{DATA}/.hmret-0123456789abcdef.0", f"{DATA}/guests/.hmret-0123456789abcdef.0"):
            host.filesystem.write_file(f"{folder}/rootfs.ext4", b"{}")
    opener = host.filesystem.hold_open(f"{FOLDER}/rootfs.ext4") if is_open and is_here else None
    host.filesystem.write_file(f"{TRASH}/0123456789abcdef.json", json.dumps(intents).encode())
    host.sweep()
    host.check_kept()
    if opener is not None:
        opener.close()


hostile_records = st.builds(
    lambda intent, more: {**intent, **more},
    hostile_intents,
    st.fixed_dictionaries(
        {
            "disk_bytes": st.sampled_from([0, 4096, -1, 10**25]),
            "retired_at_ns": st.sampled_from([0, OLD_NS, -1, 10**25]),
        }
    ),
)


@many
@given(records=st.lists(hostile_records, min_size=1, max_size=3), is_here=st.booleans())
@example([HELD | {"name": "../../../guests"}], True)
@example([HELD | {"name": ".."}], True)
@example([HELD | {"repository": "../guests", "digest": "sha256:vm"}], True)
@example([HELD | {"digest": "sha256:../../../../../canary/new"}], True)
@example([HELD | {"tags": ["../../../../../canary/tag"]}], True)
@example([HELD | {"repository": ALPINE, "digest": digest("a")}], True)
@example([HELD | {"repository": ALPINE, "digest": digest("f")}], True)
def test_hostile_records_of_what_is_held_are_refused(records: list[dict[str, object]], is_here: bool) -> None:
    host = make_host()
    if is_here:
        for name in ("metadata.json", "rootfs.ext4"):
            host.filesystem.write_file(f"{FOLDER}/{name}", b"{}")
        for folder in (f"{DATA}/.hmret-0123456789abcdef.0", f"{DATA}/guests/.hmret-0123456789abcdef.0"):
            host.filesystem.write_file(f"{folder}/rootfs.ext4", b"{}")
    host.filesystem.write_file(f"{TRASH}/0123456789abcdef.held", json.dumps(records).encode())
    before = host.around()
    fd = data_fd_of(host.filesystem)
    for held in load_held(host.filesystem, fd).held:
        with suppress(LookupError, OSError):
            restore(host.filesystem, fd, held, START_NS)
    host.filesystem.close(fd)
    assert host.around() == before
    # Without quarantine, whatever is held goes.
    host.sweep()
    host.check_kept()


# Names.

odd_names = st.sampled_from(
    [
        *(
            "\udcff",
            "a\udcffb",
            "a\nb",
            "a b",
            "..a",
            "...",
            ".x",
            "-",
            "%2e%2e",
            "\u202e",
            "x" * 255,
            "é" * 127,
        ),
        *(
            "a" * 64,
            "A" * 64,
            "a" * 63,
            "a" * 65,
            "a" * 64 + "\n",
            "a" * 64 + ".json",
            "a" * 64 + ".json.tmp",
        ),
        *(
            "content",
            "layers",
            "repositories",
            "metadata.json",
            "rootfs.ext4",
            "latest",
            "docker.io",
            "[::1]:80",
        ),
    ]
)
places = st.sampled_from(
    [
        *(f"{DATA}/images", f"{DATA}/images/docker.io", f"{DATA}/images/docker.io/library"),
        *(f"{DATA}/images/{ALPINE}", f"{DATA}/images/{BUSYBOX}", f"{DATA}/images/{BUSYBOX}/{'b' * 64}"),
        *(RETENTION, f"{RETENTION}/docker.io/library", f"{RETENTION}/{ALPINE}"),
        *(OWN, TRASH, f"{DATA}/system", f"{DATA}/guests", f"{DATA}/snapshots"),
    ]
)
targets = st.sampled_from(
    [
        *(
            CANARY,
            "/canary/precious.json",
            "../canary",
            "../../canary",
            "../../../canary",
            "../../../../canary",
        ),
        *(
            "../../../../../canary",
            f"{CANARY}/{'a' * 64}",
            "a" * 64,
            "b" * 64,
            ".",
            "..",
            "/",
            "nowhere",
            "\udcff",
        ),
        *(DATA, f"{DATA}/guests", f"{DATA}/images", f"{DATA}/images/{ALPINE}", f"{TRASH}/x", "/dev/null"),
    ]
)


@st.composite
def things(draw: st.DrawFn) -> Callable[[MemoryFilesystem], None]:
    """Draw something that is put where it does not belong."""
    path = f"{draw(places)}/{draw(odd_names)}"
    kind = draw(st.sampled_from(["file", "folder", "image", "link"]))
    target = draw(targets)

    def put(filesystem: MemoryFilesystem) -> None:
        if filesystem.exists(path):
            return
        match kind:
            case "file":
                filesystem.write_file(path, b"{")
            case "folder":
                filesystem.write_file(f"{path}/x/y", b"{}")
            case "image":
                filesystem.write_file(f"{path}/{'a' * 64}/metadata.json", json.dumps(METADATA).encode())
                filesystem.write_file(f"{path}/{'a' * 64}/rootfs.ext4", b"x")
            case _:
                filesystem.make_link(path, target)

    return put


@many
@given(put=st.lists(things(), min_size=1, max_size=4))
def test_an_odd_name_anywhere_stops_nothing_and_harms_nothing(
    put: list[Callable[[MemoryFilesystem], None]],
) -> None:
    host = make_host()
    for one in put:
        one(host.filesystem)
    host.sweep()
    host.check_kept()


LINKED = (
    *(f"{DATA}/images/docker.io", f"{DATA}/images/docker.io/library", f"{DATA}/images/{BUSYBOX}"),
    *(f"{DATA}/images/{BUSYBOX}/{'b' * 64}", f"{DATA}/images/{BUSYBOX}/{'b' * 64}/rootfs.ext4"),
    *(f"{DATA}/images/{BUSYBOX}/{'b' * 64}/metadata.json", f"{DATA}/images", f"{DATA}/system", OWN, TRASH),
    *(
        f"{OWN}/clock.json",
        f"{OWN}/references.json",
        f"{OWN}/journal.jsonl",
        f"{OWN}/lock",
        f"{OWN}/leases.json",
    ),
    *(f"{OWN}/clock.json.tmp", f"{OWN}/references.json.tmp", f"{TRASH}/0123456789abcdef.json"),
    *(f"{TRASH}/0123456789abcdef.0", RETENTION, f"{RETENTION}/docker.io", f"{RETENTION}/{BUSYBOX}"),
    *(f"{RETENTION}/{BUSYBOX}/{'b' * 64}.json", f"{RETENTION}/{BUSYBOX}/{'b' * 64}.json.tmp"),
)


FOLLOWED = frozenset((f"{DATA}/images", f"{DATA}/system", OWN, RETENTION))
"""Folders that an operator may have moved to another disk, with a link in their place."""


@pytest.mark.parametrize("path", [path for path in LINKED if path not in FOLLOWED])
@pytest.mark.parametrize("is_intended", [False, True])
def test_no_link_that_leads_outside_is_followed(tmp_path: Path, path: str, is_intended: bool) -> None:
    """On a real directory: what was at a path is moved outside, and a link to it takes its place."""
    root, outside = tmp_path / "data", tmp_path / "outside"
    busybox = make_image(root, BUSYBOX, "b")
    make_state(root, busybox, OLD_NS)
    trash = root / TRASH.removeprefix(f"{DATA}/")
    for name in ("metadata.json", "rootfs.ext4"):
        file = trash / "0123456789abcdef.0" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"{}")
    if is_intended:
        (trash / "0123456789abcdef.json").write_bytes(json.dumps([INTENT]).encode())
    link = root / path.removeprefix(f"{DATA}/")
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rename(outside)
    else:
        outside.write_bytes(b"{}" if is_intended else b"")
    link.symlink_to(os.path.relpath(outside, link.parent))
    before = everything_in(outside)

    async def sweep() -> None:
        platform = Platform(clock=FakeClock(), threads=InlineThreads(), monotonic_ns=lambda: 0)
        async with open_engine(make_config(root), platform, scheduled=False) as retention:
            await retention.sweep()
            await retention.sweep()

    for _ in range(2):
        try:
            run(sweep, "trio")
        except OSError as error:
            assert path == f"{OWN}/lock", error  # noqa: PT017 - where it is refused
    assert everything_in(outside) == before


def everything_in(place: Path) -> dict[str, tuple[int, int, int, bytes]]:
    found = {}
    for path in (place, *sorted(place.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = status.st_ino, status.st_mtime_ns, status.st_nlink, content
    return found
