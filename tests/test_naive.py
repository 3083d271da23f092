"""The plain implementation is itself held against hypeman's own run, and against each rule by hand."""

import json
import os
import pathlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support import naive, trees
from support.archives import unpack

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WINDOW = timedelta(days=30)
ALPINE = "docker.io/library/alpine"
A, B, C = "a" * 64, "b" * 64, "c" * 64
DUE = "2026-05-01T00:00:00Z"
RECENT = "2026-05-31T00:00:00Z"
OLD = datetime(2026, 1, 1, tzinfo=UTC)


def key(digits: str, repository: str = ALPINE) -> naive.Key:
    return repository, f"sha256:{digits}"


class Cache:
    """A data directory made by hand."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        (root / "images").mkdir()

    def write(self, path: str, content: object) -> pathlib.Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
        return target

    def image(
        self, digits: str, repository: str = ALPINE, *, rootfs: str = "rootfs.ext4", **fields: object
    ) -> None:
        named = {"name": f"{repository}:latest", "digest": f"sha256:{digits}", "status": "ready"}
        stamped = {"created_at": "2026-01-01T00:00:00Z"}
        self.write(f"images/{repository}/{digits}/metadata.json", named | stamped | fields)
        if rootfs:
            self.write(f"images/{repository}/{digits}/{rootfs}", "disk")

    def tag(self, tag: str, digits: str, repository: str = ALPINE, made: datetime = OLD) -> None:
        link = self.root / "images" / repository / tag
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(digits)
        os.utime(link, (made.timestamp(), made.timestamp()), follow_symlinks=False)

    def state(self, digits: str, unused_since: object, repository: str = ALPINE, **fields: object) -> None:
        named = {"repository": repository, "digest": f"sha256:{digits}", "unused_since": unused_since}
        self.write(f"system/image-retention/{repository}/{digits}.json", named | fields)

    def due(self, digits: str, repository: str = ALPINE) -> None:
        self.image(digits, repository)
        self.state(digits, DUE, repository)

    def guest(self, name: str = "vm", created: object = "2026-03-01T00:00:00Z", **fields: object) -> None:
        self.write(f"guests/{name}/metadata.json", {"Id": name, "CreatedAt": created, "Vcpus": 2} | fields)

    def decide(self, **changes: Any) -> naive.Outcome:
        policy: dict[str, Any] = {"now": NOW, "unused_for": WINDOW, "allowed": ["*"]}
        return naive.decide(self.root, **(policy | changes))

    def reason(self, digits: str, repository: str = ALPINE, **changes: Any) -> str:
        return self.decide(**changes).verdicts[key(digits, repository)].reason


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> Cache:
    return Cache(tmp_path)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FIXTURES / "hypeman-data.json").read_text())
    return content


@pytest.fixture(scope="module")
def foretold(recorded: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> naive.Outcome:
    root = tmp_path_factory.mktemp("hypeman")
    unpack(FIXTURES / "hypeman-data.tar.gz", root)
    return naive.decide(
        root / "before",
        now=datetime.fromisoformat(recorded["sweeps"][0]["now"]),
        unused_for=timedelta(hours=720),
        allowed=recorded["allowed"],
    )


# Against hypeman.


def test_hypemans_images_and_tags_are_left(foretold: naive.Outcome, recorded: dict[str, Any]) -> None:
    assert sorted(f"{repository}@{digest}" for repository, digest in foretold.images) == sorted(
        recorded["images"]
    )
    assert sorted(f"{repository}:{tag}" for repository, tag in foretold.tags) == sorted(recorded["tags"])


def test_hypemans_states_are_left(foretold: naive.Outcome, recorded: dict[str, Any]) -> None:
    now = recorded["sweeps"][0]["now"]
    left = {
        f"{repository}@{digest}": naive.instant(now if text == "now" else text)
        for (repository, digest), text in foretold.states.items()
    }
    assert left == {name: naive.instant(text) for name, text in recorded["states"].items()}
    assert None not in left.values()


def test_hypemans_counters_are_counted(foretold: naive.Outcome, recorded: dict[str, Any]) -> None:
    stats = recorded["sweeps"][0]["stats"]
    assert {name: getattr(foretold, name) for name in stats} == stats


# References, patterns and times.


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("alpine", (ALPINE, "latest", None)),
        ("alpine:3.20", (ALPINE, "3.20", None)),
        ("foo/bar", ("docker.io/foo/bar", "latest", None)),
        ("index.docker.io/foo", ("docker.io/library/foo", "latest", None)),
        ("localhost/foo", ("localhost/foo", "latest", None)),
        ("Host/foo:T", ("Host/foo", "T", None)),
        ("host:5000/a/b__c", ("host:5000/a/b__c", "latest", None)),
        ("[::1]:5000/foo", ("[::1]:5000/foo", "latest", None)),
        (f"alpine:3@sha256:{A}", (ALPINE, None, f"sha256:{A}")),
        (f"{ALPINE}/{A}", (f"{ALPINE}/{A}", "latest", None)),
        (A, None),
        ("", None),
        ("Alpine", None),
        ("a//b", None),
        ("a___b", None),
        ("a..b/c", None),
        ("x:", None),
        ("x:-a", None),
        ("al pine", None),
        ("alpine\n", None),
        ("x.\u212a/y", None),
        (f"alpine@sha256:{A[1:]}", None),
        (f"alpine@sha256:{A.upper()}", None),
    ],
)
def test_a_reference_is_read_as_distribution_reads_it(text: str, parsed: object) -> None:
    assert naive.parse(text) == parsed


def test_references_are_read_as_recorded_from_distributions_own_library() -> None:
    for text, expected in json.loads((FIXTURES / "references.json").read_text()):
        assert naive.parse(text) == (None if expected is None else tuple(expected)), text


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("*", ALPINE, True),
        ("docker.io/*", ALPINE, True),
        (" docker.io/*/alpine ", ALPINE, True),
        ("alpine", ALPINE, False),
        ("docker.io/library/alpin?", ALPINE, True),
        ("docker.io?library/alpine", ALPINE, True),
        ("docker.io/library/alpine?", ALPINE, False),
        ("docker.io/library/[a]lpine", ALPINE, False),
        ("docker?io/*", "dockerXXio/library/alpine", False),
        ("*a*a*b", "a" * 80, False),
    ],
)
def test_a_pattern_matches_the_whole_repository(pattern: str, text: str, matched: bool) -> None:
    assert naive.matches(pattern, text) is matched


def test_times_have_nine_digits_and_zones() -> None:
    second = 10**9
    assert naive.instant("1970-01-01T00:00:01Z") == second
    assert naive.instant("1970-01-01T00:00:01.000000001Z") == second + 1
    assert naive.instant("1970-01-01T02:00:01.5+02:00") == second + second // 2
    assert naive.instant("1969-12-31T23:59:59.9-00:01") == 60 * second - second // 10


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "",
        "2026-06-01",
        "2026-06-31T00:00:00Z",
        "2026-06-01T00:00:00",
        "2026-06-01T00:00:00.Z",
    ],
)
def test_what_is_no_time_or_unset_is_none(text: str) -> None:
    assert naive.instant(text) is None


# What an image is.


def test_an_image_that_is_not_ready_is_cleared_even_when_it_names_another_digest(cache: Cache) -> None:
    cache.image(A, status="pulling", digest=f"sha256:{B}")
    cache.state(A, DUE)
    outcome = cache.decide()
    assert outcome.verdicts[key(A)] == naive.Verdict("clear", "not_ready", [], [], naive.instant(DUE))
    assert (outcome.cleared_states, outcome.ready_images, outcome.states) == (1, 0, {})


def test_a_ready_image_is_broken_without_a_disk_of_its_own(cache: Cache) -> None:
    cache.image(A, rootfs="")
    cache.image(B, rootfs="")
    (cache.root / "images" / ALPINE / B / "rootfs.ext4").symlink_to("/dev/null")
    cache.image(C, rootfs="rootfs.erofs")
    outcome = cache.decide()
    assert [verdict.reason for verdict in outcome.verdicts.values()] == ["broken", "broken", "newly_unused"]
    assert outcome.ready_images == 1


def test_an_image_is_broken_by_what_its_metadata_says_or_does_not_say(cache: Cache) -> None:
    cache.image(A, name="docker.io/library/other:latest")
    cache.image(B, digest=f"sha256:{A}")
    cache.image(C, status=None)
    torn, bare = "d" * 64, "e" * 64
    cache.write(f"images/{ALPINE}/{torn}/metadata.json", '{"status": "re')
    cache.write(f"images/{ALPINE}/{bare}/rootfs.erofs", "disk")
    for digits in (A, B, C, torn, bare):
        assert cache.reason(digits) == "broken"
    assert cache.decide().ready_images == 0


def test_a_broken_image_is_here_and_its_state_is_cleared_not_pruned(cache: Cache) -> None:
    cache.image(A, rootfs="")
    cache.state(A, DUE)
    cache.state(B, DUE)
    outcome = cache.decide()
    assert (outcome.cleared_states, outcome.pruned_states, outcome.pruned) == (1, 1, {key(B)})


def test_a_hex_folder_with_neither_metadata_nor_disk_is_a_repository_level(cache: Cache) -> None:
    cache.image(A, f"docker.io/library/{B}")
    assert list(cache.decide().verdicts) == [key(A, f"docker.io/library/{B}")]


def test_what_is_in_no_repository_is_left_alone(cache: Cache) -> None:
    for place in (
        "orphan",
        "docker.io/short",
        "docker.io/library/Upper",
        "index.docker.io/library/x",
        "docker.io",
    ):
        cache.image(A, place)
    for place in (
        ".unpack-x",
        "docker.io/library/.install-x",
        "content",
        "repositories/docker.io/library/x",
        "layers",
    ):
        cache.image(A, place)
    cache.image(A, "docker.io/content/repositories")
    cache.tag("latest", A, "orphan")
    outcome = cache.decide()
    assert list(outcome.verdicts) == [key(A, "docker.io/content/repositories")]
    assert outcome.tags == {}


# What protects an image.


def test_the_first_reason_that_applies_is_given(cache: Cache) -> None:
    cache.due(A)
    assert cache.reason(A) == "expired"
    assert cache.reason(A, allowed=["ghcr.io/*"]) == "not_allowed"
    assert cache.reason(A, allowed=[]) == "not_allowed"
    assert cache.reason(A, allowed=[], pinned=["*/alpine"]) == "pinned"
    cache.guest(Image=f"alpine@sha256:{A}")
    assert cache.reason(A, allowed=[], pinned=["*/alpine"]) == "referenced"


def test_a_tag_that_is_older_than_its_guest_protects_what_it_points_to(cache: Cache) -> None:
    cache.due(A)
    cache.due(B)
    cache.tag("latest", A)
    cache.guest(Image="alpine")
    outcome = cache.decide()
    assert outcome.verdicts[key(A)].referenced_by == ["instance/vm"]
    assert outcome.verdicts[key(A)].tags == ["latest"]
    assert (outcome.images, outcome.protected_images) == ({key(A)}, 1)


def test_a_tag_that_is_younger_than_its_guest_protects_all_that_was_made_before_the_guest(
    cache: Cache,
) -> None:
    cache.due(A)
    cache.due(B)
    cache.image(C, created_at="2026-03-01T00:05:00Z")
    cache.state(C, DUE)
    undated = "d" * 64
    cache.image(undated, created_at=None)
    cache.state(undated, DUE)
    cache.due(A, "docker.io/library/other")
    cache.tag("latest", A, made=datetime(2026, 3, 1, 0, 0, 1, tzinfo=UTC))
    cache.guest(Image="alpine", created="2026-03-01T00:00:00Z")
    assert cache.decide().images == {key(A), key(B), key(undated)}


@pytest.mark.parametrize(("seconds", "left"), [(0, {A}), (1, {A, B})])
def test_a_tag_counts_as_older_than_its_guest_where_it_is_so_by_five_minutes(
    cache: Cache, seconds: int, left: set[str]
) -> None:
    cache.due(A)
    cache.due(B)
    cache.tag("latest", A, made=datetime(2026, 2, 28, 23, 55, seconds, tzinfo=UTC))
    cache.guest(Image="alpine", created="2026-03-01T00:00:00Z")
    assert cache.decide().images == {key(digits) for digits in left}


@pytest.mark.parametrize("created", ["2031-01-01T00:00:00Z", "2001-01-01T00:00:00Z"])
def test_a_guest_from_the_future_or_from_before_all_images_protects_its_whole_repository(
    cache: Cache, created: str
) -> None:
    cache.due(A)
    cache.due(B)
    cache.tag("latest", A, made=datetime(2000, 1, 1, tzinfo=UTC))
    cache.guest(Image="alpine", created=created)
    assert cache.decide().images == {key(A), key(B)}


@pytest.mark.parametrize("text", [f'{{"path": "\\/data\\/images\\/{ALPINE}\\/{B}"}}', "nothing"])
def test_a_saved_state_protects_what_it_opens_and_the_whole_repository_of_a_tag(
    cache: Cache, text: str
) -> None:
    for digits in (A, B, C):
        cache.due(digits)
    cache.tag("latest", A)
    cache.guest(Image="alpine")
    cache.write("guests/vm/snapshots/snapshot-latest/config.json", text)
    assert cache.decide().images == {key(A), key(B), key(C)}
    cache.guest(Image=f"alpine@sha256:{A}")
    assert cache.decide().images == ({key(A), key(B)} if B in text.replace("\\", "") else {key(A)})
    cache.guest(Image="alpine", ResolvedImage=f"{ALPINE}@sha256:{A}")
    assert cache.decide().images == {key(A)}


@pytest.mark.parametrize("created", [None, 7, "long ago", "0001-01-01T00:00:00Z"])
def test_a_guest_without_a_creation_time_protects_its_whole_repository(cache: Cache, created: object) -> None:
    cache.due(A)
    cache.due(B)
    cache.tag("latest", A)
    cache.guest(Image="alpine", created=created)
    assert cache.decide().images == {key(A), key(B)}


def test_a_resolved_image_protects_its_digest_and_the_tag_only_what_it_points_to(cache: Cache) -> None:
    for digits in (A, B, C):
        cache.due(digits)
    cache.tag("latest", A, made=NOW)
    cache.guest(Image="alpine", ResolvedImage=f"{ALPINE}@sha256:{B}")
    assert cache.decide().images == {key(A), key(B)}


def test_a_resolved_image_by_tag_resolves_nothing(cache: Cache) -> None:
    cache.due(A)
    cache.due(B)
    cache.tag("latest", A, made=NOW)
    cache.guest(Image="alpine", ResolvedImage="alpine:latest")
    assert cache.decide().images == {key(A), key(B)}


def test_every_spelling_of_a_key_protects(cache: Cache) -> None:
    for digits in (A, B, C):
        cache.due(digits)
    pinned = {digits: f"alpine@sha256:{digits}" for digits in (A, B, C)}
    cache.write("guests/vm/metadata.json", f'{{"Image": "{pinned[A]}", "image": "{pinned[B]}"}}')
    cache.write(
        "snapshots/s/snapshot.json",
        f'{{"STORED_metadata": {{"rESOLVEDiMAGE": "{pinned[C]}", "Image": null}}}}',
    )
    outcome = cache.decide()
    assert outcome.images == {key(A), key(B), key(C)}
    assert outcome.verdicts[key(C)].referenced_by == ["snapshot/s"]


def test_what_is_absent_is_not_unreadable(cache: Cache) -> None:
    cache.due(A)
    (cache.root / "guests/being-made").mkdir(parents=True)
    cache.write("guests/a-file", "")
    cache.guest("blank", Image="", ResolvedImage=None)
    cache.write("snapshots/without/snapshot.json", {"snapshot": {"id": "without"}})
    cache.write("snapshots/with-null/snapshot.json", {"stored_metadata": None})
    outcome = cache.decide()
    assert (outcome.unreadable, outcome.deleted_images) == ([], 1)


def test_a_linked_guest_folder_counts(cache: Cache) -> None:
    cache.due(A)
    cache.write("elsewhere/metadata.json", {"Image": f"alpine@sha256:{A}"})
    (cache.root / "guests").mkdir()
    (cache.root / "guests/vm").symlink_to(cache.root / "elsewhere")
    assert cache.decide().verdicts[key(A)].referenced_by == ["instance/vm"]


def test_a_reference_to_what_is_not_here_is_stale_and_blocks_nothing(cache: Cache) -> None:
    cache.due(A)
    cache.tag("dangling", B, made=OLD)
    for name, image in enumerate(
        ["alpine:never", "alpine:never", "alpine:dangling", f"alpine@sha256:{B}", "busybox"]
    ):
        cache.guest(f"vm-{name}", Image=image)
    outcome = cache.decide()
    assert outcome.stale == {"alpine:never", "alpine:dangling", f"alpine@sha256:{B}", "busybox"}
    assert (outcome.stale_references, outcome.protected_images, outcome.deleted_images) == (4, 0, 1)


def test_what_a_tag_protects_for_one_guest_it_protects_for_all_that_name_it(cache: Cache) -> None:
    cache.due(A)
    cache.tag("dangling", B, made=OLD)
    cache.guest("1", Image="alpine:dangling", created=None)
    cache.guest("2", Image="alpine:dangling")
    outcome = cache.decide()
    assert outcome.stale == set()
    assert outcome.verdicts[key(A)].referenced_by == ["instance/1", "instance/2"]


def test_a_guest_with_one_text_that_leads_to_an_image_has_no_stale_one(cache: Cache) -> None:
    cache.due(A)
    cache.guest("1", Image="alpine:gone", ResolvedImage=f"alpine@sha256:{A}")
    assert cache.decide().stale == set()
    cache.guest("2", Image="alpine:gone")
    assert cache.decide().stale == {"alpine:gone"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"Image": "alp',
        "[]",
        "null",
        '{"Image": 7}',
        '{"Image": "Alpine"}',
        '{"Image": "alpine", "ResolvedImage": {}}',
        '{"Image": "alpine", "image": false}',
    ],
)
def test_a_reference_that_cannot_be_read_suspends_deletion_only(cache: Cache, content: str) -> None:
    cache.due(A)
    cache.image(B)
    cache.image(C, status="failed")
    cache.state(C, DUE)
    cache.write("guests/torn/metadata.json", content)
    outcome = cache.decide()
    assert outcome.verdicts[key(A)].reason == "suspended"
    assert (outcome.unreadable, outcome.marked_unused, outcome.cleared_states) == (
        ["guests/torn/metadata.json"],
        1,
        1,
    )
    assert cache.reason(A, unreadable="ignore") == "expired"


# States and time.


@pytest.mark.parametrize(
    ("unused_since", "reason"),
    [
        (RECENT, "retention_window"),
        ("2026-05-02T12:00:00.000000001Z", "retention_window"),
        ("2026-05-02T12:00:00.000000000Z", "expired"),
        ("2026-05-02T14:00:00+02:00", "expired"),
        ("2026-05-02T11:59:59.999999999Z", "expired"),
        ("2026-06-01T12:05:00Z", "retention_window"),
        ("2026-06-01T12:05:00.000000001Z", "newly_unused"),
        ("0001-01-01T00:00:00Z", "newly_unused"),
        (None, "newly_unused"),
        (7, "newly_unused"),
        ("lately", "newly_unused"),
    ],
)
def test_an_image_is_due_when_its_window_has_passed(cache: Cache, unused_since: object, reason: str) -> None:
    cache.image(A)
    cache.state(A, unused_since)
    assert cache.reason(A) == reason


def test_a_state_that_is_unreadable_or_names_another_image_starts_anew(cache: Cache) -> None:
    for digits in (A, B, C):
        cache.image(digits)
    cache.state(A, DUE, digest=f"sha256:{B}")
    other = {"repository": "docker.io/library/other", "digest": f"sha256:{B}", "unused_since": DUE}
    cache.write(f"system/image-retention/{ALPINE}/{B}.json", other)
    cache.write(f"system/image-retention/{ALPINE}/{C}.json", '{"repository"')
    outcome = cache.decide()
    assert outcome.states == {key(A): "now", key(B): "now", key(C): "now"}
    assert (outcome.marked_unused, outcome.pruned_states) == (3, 0)


def test_those_unused_the_longest_go_first_and_the_rest_is_deferred(cache: Cache) -> None:
    cache.due(A)
    cache.image(B)
    cache.state(B, "2026-04-01T00:00:00.000000002Z")
    cache.image(C)
    cache.state(C, "2026-04-01T00:00:00.000000001Z")
    reasons = [verdict.reason for verdict in cache.decide(max_deletes=1).verdicts.values()]
    assert reasons == ["deferred", "deferred", "expired"]
    assert cache.decide(max_deletes=2).images == {key(A)}


# What is left.


def test_a_deletion_takes_the_tags_the_state_and_the_empty_folders(cache: Cache) -> None:
    cache.due(A)
    cache.tag("latest", A)
    cache.tag("3.20", A)
    cache.due(B, "ghcr.io/kernel/x")
    cache.tag("kept", C, "ghcr.io/kernel/x")
    outcome = cache.decide()
    assert outcome.images == set()
    assert outcome.tags == {("ghcr.io/kernel/x", "kept"): f"sha256:{C}"}
    assert outcome.states == {}
    assert outcome.removed_folders == {ALPINE, "docker.io/library", "docker.io"}


def test_the_folder_of_all_images_is_never_removed(cache: Cache) -> None:
    cache.due(A, "localhost/x")
    assert cache.decide().removed_folders == {"localhost/x", "localhost"}


def test_a_directory_without_images_holds_nothing_to_do(tmp_path: pathlib.Path) -> None:
    state = tmp_path / "system/image-retention" / ALPINE / f"{A}.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    outcome = naive.decide(tmp_path, now=NOW, unused_for=WINDOW, allowed=["*"])
    assert (outcome.verdicts, outcome.pruned_states) == ({}, 0)


# The trees that the two implementations are compared on.


def snapshot_of(root: pathlib.Path) -> list[object]:
    found: list[object] = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            target = str(path.readlink()).removeprefix(str(root))
            found.append((name, target, path.lstat().st_mtime_ns if len(target) == 64 else 0))
        elif path.is_file():
            found.append((name, path.read_bytes(), path.stat().st_nlink))
        else:
            found.append(name)
    return found


def test_a_seed_always_grows_the_same_tree(tmp_path: pathlib.Path) -> None:
    shape = trees.Shape(repositories=4, unreadable=3)
    for place, seed in (("one", 1), ("again", 1), ("other", 2)):
        trees.build_tree(tmp_path / place, shape, seed, NOW)
    one, again, other = (snapshot_of(tmp_path / place) for place in ("one", "again", "other"))
    assert one == again
    assert one != other


@pytest.mark.parametrize("name", trees.SHAPES)
def test_a_tree_holds_every_reason_that_its_shape_can_have(tmp_path: pathlib.Path, name: str) -> None:
    shape = trees.SHAPES[name]
    trees.build_tree(tmp_path, shape, 1, NOW)
    before = snapshot_of(tmp_path)
    outcome = naive.decide(
        tmp_path,
        now=NOW,
        unused_for=shape.unused_for,
        allowed=["docker.io/*", "ghcr.io/*", "*:*"],
        pinned=["docker.io/team/*"],
    )
    reasons = {verdict.reason for verdict in outcome.verdicts.values()}
    expected = {
        "newly_unused",
        "retention_window",
        "suspended" if shape.unreadable or shape.hiding else "expired",
    }
    expected |= {"not_ready", "broken"} if shape.whole < 1 else set()
    expected |= {"referenced"} if shape.guests else set()
    assert reasons >= expected
    assert len(outcome.unreadable) == shape.unreadable
    assert snapshot_of(tmp_path) == before
