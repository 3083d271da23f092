"""The plain implementation for both layouts is held against each rule by hand."""

import pathlib
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.mixed_files import Files, text_of
from support.mixed_naive import decide
from support.mixed_references import Memory
from support.mixed_values import Outcome, Rule, Settings, Verdict
from support.mixed_watch import Watch

NOW = datetime(2031, 5, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
A, B, C = "ghcr.io/o/a", "docker.io/library/b", "quay.io/c/c"
D, E = "d" * 64, "e" * 64


def digest(digits: str) -> str:
    return f"sha256:{digits}"


class Host:
    """A data directory made by hand; whatever has a timer is due, unless said."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.files = Files(root)
        (root / "images/content").mkdir(parents=True)
        (root / "images/repositories").mkdir()

    def content(
        self,
        digits: str = D,
        *,
        name: str = A,
        status: str = "ready",
        has_disk: bool = True,
        **fields: object,
    ) -> pathlib.Path:
        folder = self.files.content(digits)
        self.files.write(folder / "metadata.json", self.metadata(name, digits, status) | fields)
        if has_disk:
            self.files.disk(folder / "rootfs.erofs")
        return folder

    def legacy(
        self, repository: str, digits: str = D, *, status: str = "ready", is_linked: bool = False
    ) -> pathlib.Path:
        folder = self.files.legacy(repository, digits)
        self.files.write(folder / "metadata.json", self.metadata(repository, digits, status))
        source = self.files.content(digits) / "rootfs.erofs" if is_linked else None
        self.files.disk(folder / "rootfs.erofs", source)
        return folder

    def metadata(self, name: str, digits: str, status: str) -> dict[str, Any]:
        created = text_of(NOW - 100 * DAY)
        named = {"name": f"{name}@{digest(digits)}", "digest": digest(digits)}
        return named | {"status": status, "created_at": created, "size_bytes": 7}

    def link(self, repository: str, tag: str, digits: str = D, made: datetime = NOW - 90 * DAY) -> None:
        target = self.files.target(repository, digits, is_legacy=False)
        self.files.link(self.files.tag(repository, tag), target, made)

    def legacy_link(
        self, repository: str, tag: str, digits: str = D, made: datetime = NOW - 90 * DAY
    ) -> None:
        self.files.link(self.files.tag(repository, tag, is_legacy=True), digits, made)

    def state(self, repository: str, digits: str = D, age: timedelta = 40 * DAY) -> None:
        self.files.state(repository, digits, text_of(NOW - age))

    def guest(self, name: str = "vm", created: datetime = NOW - 50 * DAY, **fields: object) -> None:
        self.files.guest(name, CreatedAt=text_of(created), **fields)

    def age(self, folder: pathlib.Path, age: timedelta) -> None:
        self.files.ages = {folder: NOW - age}
        self.files.settle()

    def decide(self, memory: Memory | None = None, **settings: Any) -> Outcome:
        """Tell what a sweep does; nobody knows of any look before it, so timers count as they stand."""
        return decide(self.root, Settings(**settings), NOW, memory, Watch())

    def verdict(self, repository: str = A, digits: str = D, **settings: Any) -> Verdict:
        return self.decide(**settings).verdicts[repository, digest(digits)]

    def reasons(self, **settings: Any) -> dict[str, str]:
        """Tell the reasons for the rows of digest `d`, by repository."""
        verdicts = self.decide(**settings).verdicts
        return {key[0]: verdict.reason for key, verdict in verdicts.items() if key[1] == digest(D)}

    def removed(self, **settings: Any) -> set[str]:
        removed = self.decide(**settings).removed
        return {path.relative_to(self.root / "images").as_posix() for path in removed}


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


# Rows and units.


def test_content_goes_with_all_links_and_states_of_its_owners_once_all_are_due(host: Host) -> None:
    folder = host.content()
    host.link(A, "1")
    host.link(B, "1")
    host.state(A)
    host.state(B)
    outcome = host.decide()
    assert host.reasons() == {A: "expired", B: "expired"}
    assert outcome.verdicts[A, digest(D)].shared_with == (B,)
    assert outcome.deleted_bytes == outcome.delete_bytes == (folder / "rootfs.erofs").stat().st_blocks * 512
    assert outcome.states == {}
    assert host.removed() == {f"content/{D}", f"repositories/{A}/1", f"repositories/{B}/1"}


def test_one_owner_that_is_not_due_holds_the_content(host: Host) -> None:
    host.content()
    host.link(A, "1")
    host.link(B, "1")
    host.state(A)
    host.state(B, age=DAY)
    verdict = host.verdict()
    assert (verdict.reason, verdict.held_by) == ("shared", ((B, "retention_window"),))
    assert host.reasons(allowed=("ghcr.io/*",)) == {A: "shared", B: "not_allowed"}
    assert not host.removed()


def test_content_without_links_belongs_to_the_repository_of_its_name(host: Host) -> None:
    host.content(name=B)
    host.state(B)
    assert host.reasons() == {B: "expired"}


def test_content_that_nobody_owns_and_whose_name_says_nothing_has_no_row(host: Host) -> None:
    host.content(name="Not A Name")
    assert host.reasons() == {}
    assert not host.removed()


def test_a_legacy_link_without_a_folder_makes_an_owner_and_a_shadowed_one_does_not(host: Host) -> None:
    host.content(name=C)
    host.content(E)
    host.legacy_link(A, "1")
    host.legacy_link(B, "1")
    host.link(B, "1", E)
    assert host.reasons().keys() == {A}


def test_a_promoted_image_is_one_row_with_two_copies_whose_bytes_count_once(host: Host) -> None:
    folder = host.content()
    host.legacy(A, is_linked=True)
    host.link(A, "1")
    host.legacy_link(A, "1")
    host.state(A)
    blocks = (folder / "rootfs.erofs").stat().st_blocks * 512
    outcome = host.decide()
    assert host.verdict().disk_bytes == outcome.deleted_bytes == blocks
    assert host.removed() == {
        f"content/{D}",
        *(f"{A}/{D}", f"{A}/1", A, "ghcr.io/o", "ghcr.io"),
        f"repositories/{A}/1",
    }
    host.link(B, "1")
    assert host.reasons() == {A: "shared", B: "newly_unused"}
    assert not host.removed()


def test_an_untagged_legacy_folder_goes_alone_and_frees_nothing_of_a_disk_it_shares(host: Host) -> None:
    host.content(name=B)
    host.legacy(A, is_linked=True)
    host.link(B, "1")
    host.state(A)
    outcome = host.decide()
    assert host.reasons() == {A: "expired", B: "newly_unused"}
    assert outcome.deleted_bytes == 0
    assert (A, digest(D)) not in outcome.states
    assert f"content/{D}" not in host.removed()


def test_a_tagged_legacy_folder_beside_content_leaves_its_link_and_its_timer(host: Host) -> None:
    host.content(name=B)
    host.legacy(A)
    host.legacy_link(A, "1")
    host.link(B, "1")
    host.state(A)
    host.state(B, age=DAY)
    assert host.removed() == {f"{A}/{D}"}
    assert (A, digest(D)) in host.decide().states
    shutil.rmtree(host.files.legacy(A, D))
    assert host.reasons() == {A: "shared", B: "retention_window"}


def test_a_link_goes_together_with_the_legacy_one_that_it_shadows(host: Host) -> None:
    host.content(E)
    host.link(A, "1", E)
    host.legacy(A)
    host.legacy_link(A, "1")
    host.state(A, E)
    assert host.removed() == {f"content/{E}", f"repositories/{A}/1", f"{A}/1"}


def test_links_to_a_broken_legacy_folder_stay_when_the_content_goes(host: Host) -> None:
    host.content()
    host.link(A, "1")
    host.legacy(A, status="failed")
    host.state(A)
    assert host.reasons() == {A: "expired"}
    assert host.removed() == {f"content/{D}"}


def test_units_are_put_off_by_the_youngest_timer_in_each(host: Host) -> None:
    for digits, ages in ((D, (90, 50)), (E, (60, 60)), ("f" * 64, (95, 40))):
        host.content(digits)
        for repository, age in zip((A, B), ages, strict=True):
            host.link(repository, digits[:1], digits)
            host.state(repository, digits, age * DAY)
    outcome = host.decide(max_deletes=2)
    assert {key[1][7] for key in outcome.deleted} == {"d", "e"}
    assert outcome.verdicts[A, digest("f" * 64)].reason == "deferred"


def test_a_tag_that_is_being_set_keeps_the_content_and_makes_room_for_the_next(host: Host) -> None:
    host.content()
    host.content(E)
    host.state(A, D, 90 * DAY)
    host.state(A, E, 80 * DAY)
    host.files.link(
        host.files.tag(B, ".tag-stage-1") / "v1",
        host.files.target(B, D, is_legacy=False),
        NOW - timedelta(seconds=20),
    )
    outcome = host.decide(max_deletes=1)
    assert {one.reason for one in outcome.verdicts.values()} == {"expired", "deferred"}
    assert outcome.deleted == {(A, digest(E))}


# Conditions.


@pytest.mark.parametrize("status", ["pending", "pulling", "converting"])
def test_while_content_is_unfinished_every_legacy_folder_of_its_digest_is_not_ready(
    host: Host, status: str
) -> None:
    host.content(status=status, has_disk=False)
    host.legacy(A)
    host.legacy(B)
    assert host.reasons() == {A: "not_ready", B: "not_ready"}


def test_a_whole_legacy_image_outlives_failed_content(host: Host) -> None:
    host.content(status="failed", has_disk=False)
    host.legacy(A)
    host.legacy_link(A, "1")
    host.link(B, "1")
    host.state(A)
    assert host.reasons() == {A: "expired", B: "not_ready"}
    assert host.removed() == {f"{A}/{D}"}


def test_a_ghost_breaks_every_row_of_its_digest(host: Host) -> None:
    host.content(has_disk=False)
    host.link(A, "1")
    host.legacy(B)
    assert host.reasons() == {A: "broken", B: "broken"}


def test_a_legacy_folder_that_is_being_pulled_holds_the_row_beside_ready_content(host: Host) -> None:
    host.content()
    host.link(A, "1")
    host.legacy(A, status="pulling")
    assert host.reasons() == {A: "not_ready"}


def test_content_without_metadata_is_pending_for_an_hour_and_broken_then(host: Host) -> None:
    folder = host.files.content(D)
    folder.mkdir()
    host.link(A, "1")
    host.age(folder, timedelta(minutes=50))
    assert (host.verdict().status, host.verdict().reason) == ("pending", "not_ready")
    host.age(folder, 2 * HOUR)
    assert (host.verdict().status, host.verdict().reason) == ("unknown", "broken")


def test_an_install_folder_makes_an_image_not_ready_for_an_hour_and_goes_with_it_then(host: Host) -> None:
    folder = host.content()
    host.state(A)
    host.files.write(folder / ".install-1/manifest.json", {})
    host.age(folder / ".install-1", timedelta(minutes=50))
    assert host.reasons() == {A: "not_ready"}
    host.age(folder / ".install-1", 2 * HOUR)
    assert host.reasons() == {A: "expired"}


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_plain_files_go_along_and_anything_else_breaks_the_image(host: Host, kind: str) -> None:
    folder = host.content()
    host.state(A)
    if kind == "file":
        host.files.write(folder / "sbom.json", {})
    elif kind == "link":
        (folder / "latest").symlink_to("rootfs.erofs")
    else:
        (folder / "more").mkdir()
    assert host.reasons() == {A: "expired" if kind == "file" else "broken"}


def test_content_whose_metadata_names_another_digest_is_broken(host: Host) -> None:
    host.content(digest=digest(E))
    assert host.reasons() == {A: "broken"}


# Tags and references.


@pytest.mark.parametrize(
    ("target", "is_tag"),
    [
        (f"../../../../content/{D}", True),
        (D, True),
        (f"../../../../../images/content/{D}", True),
        (f"../../../content/{D}", False),
        (f"../../../../../content/{D}", False),
        (f"./{D}", False),
        (f"/images/content/{D}", False),
        (f"../../../../content/{D[:63]}", False),
        ("latest", False),
    ],
)
@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_link_is_a_tag_where_it_leads_to_content_or_is_a_bare_digest(
    host: Host, target: str, is_tag: bool, is_legacy: bool
) -> None:
    host.content(name=C)
    if is_legacy and target.startswith("../"):
        target = target.removeprefix("../")
    host.files.link(host.files.tag(A, "1", is_legacy=is_legacy), target, NOW)
    assert host.reasons().keys() == ({A} if is_tag else {C})


def test_a_reference_by_a_repository_that_owns_nothing_protects_the_content(host: Host) -> None:
    host.content()
    host.link(B, "1")
    host.state(B)
    host.guest(Image=f"{A}@{digest(D)}")
    outcome = host.decide()
    assert outcome.verdicts[B, digest(D)].referenced_by == ("instance/vm",)
    assert (outcome.stale, outcome.cleared) == (set(), {(B, digest(D))})


def test_a_reference_by_an_owner_holds_the_others_as_shared(host: Host) -> None:
    host.content()
    for repository in (A, B):
        host.link(repository, "1")
        host.state(repository)
    host.guest(Image=f"{A}:1", ResolvedImage=f"{A}@{digest(D)}")
    assert host.reasons() == {A: "referenced", B: "shared"}


def test_a_reference_to_a_legacy_folder_protects_it_and_the_content_and_no_other_folder(host: Host) -> None:
    host.content(name=B)
    host.link(B, "1")
    for repository in (A, C):
        host.legacy(repository)
        host.state(repository)
    host.guest(Image=f"{A}@{digest(D)}")
    assert host.reasons() == {A: "referenced", B: "referenced", C: "expired"}


def test_a_moved_tag_protects_what_it_has_led_to_for_whoever_names_it(host: Host) -> None:
    for digits in (D, E):
        host.content(digits)
        host.state(A, digits)
    host.link(A, "1", D)
    host.guest("first", Image=f"{A}:1")
    memory = host.decide().memory
    assert memory[A, "1"].digests == {digest(D)}
    host.link(A, "1", E, NOW)
    shutil.rmtree(host.root / "guests/first")
    host.guest("fork", created=NOW, Image=f"{A}:1")
    assert host.decide(memory).verdicts[A, digest(D)].referenced_by == ("instance/fork",)
    shutil.rmtree(host.root / "guests/fork")
    assert host.decide(memory).memory == {}


def test_what_a_tag_has_led_to_says_nothing_of_a_guest_that_is_older_still(host: Host) -> None:
    for digits in (D, E):
        host.content(digits)
    host.link(A, "1", E)
    host.guest("first", Image=f"{A}:1")
    memory = host.decide().memory
    assert memory[A, "1"].digests == {digest(E)}
    host.guest("older", created=NOW - 95 * DAY, Image=f"{A}:1")
    assert host.decide(memory).memory[A, "1"].digests == {digest(D), digest(E)}


def test_a_tag_that_is_younger_than_its_guest_protects_all_that_the_repository_had(host: Host) -> None:
    for digits in (D, E):
        host.content(digits)
    host.link(A, "1", E, NOW - DAY)
    host.link(B, "1", D)
    host.guest(Image=f"{A}:1")
    # A has pulled both, though the first is B's alone by now.
    assert host.reasons() == {B: "referenced"}
    assert host.verdict(A, E).reason == "referenced"


@pytest.mark.parametrize("kind", ["folder", "link of another form", "behind a link"])
def test_a_tag_that_is_there_and_is_none_protects_the_whole_repository(host: Host, kind: str) -> None:
    name = f"{A}/web" if kind == "behind a link" else A
    host.content(name=name)
    host.state(name)
    if kind == "behind a link":
        host.content(E)
        host.link(A, "web", E)
    elif kind == "folder":
        host.files.tag(A, "1").mkdir(parents=True)
    else:
        host.files.link(host.files.tag(A, "1"), "elsewhere", NOW)
    host.guest(Image=f"{name}:1", ResolvedImage=f"{C}@{digest('f' * 64)}")
    assert host.reasons()[name] == "referenced"


def test_a_reference_is_not_stale_while_content_of_its_digest_is_here(host: Host) -> None:
    host.content()
    host.guest("healthy", Image=f"{B}@{digest(D)}")
    host.guest("stale", Image=f"{A}@{digest(E)}")
    assert host.decide().stale == {("instance/stale", f"{A}@{digest(E)}")}


def test_the_base_of_another_image_is_referenced(host: Host) -> None:
    host.content()
    host.content(E, machine={"base": f"{A}@{digest(D)}"}, has_disk=False)
    assert host.reasons() == {A: "referenced"}


def test_what_cannot_be_listed_suspends_deletion_and_keeps_the_timers_of_what_it_hides(host: Host) -> None:
    host.state(A)
    (host.root / "images/content").rmdir()
    (host.root / "images/content").symlink_to(host.root / "elsewhere")
    outcome = host.decide()
    assert outcome.suspended == {"unreadable_cache"}
    assert outcome.states.keys() == {(A, digest(D))}


# What the operator says.


@pytest.mark.parametrize(
    "record",
    [
        {"image_digest": digest(D)},
        {"image_ref": f"{A}:1"},
        {"image_ref": f"{A}@{digest(D)}"},
        {"request": {"image_name": f"{A}:1"}},
    ],
)
def test_a_record_of_a_build_makes_its_image_unpullable_unless_a_label_says_otherwise(
    host: Host, record: dict[str, object]
) -> None:
    host.content()
    host.link(A, "1")
    host.state(A)
    host.files.build("b1", **record)
    assert host.reasons() == {A: "not_pullable"}
    assert host.reasons(delete_unpullable=True) == {A: "expired"}
    host.content(labels={"io.hmret.pullable": "true"})
    assert host.reasons() == {A: "expired"}


@pytest.mark.parametrize(
    "repository",
    [
        "docker.io/builds/x1",
        "10.102.0.1:8083/builds/x1",
        "ghcr.io/o/internal/builder",
        "localhost/x",
        "localhost:8080/x",
    ],
)
def test_what_was_made_here_is_unpullable_and_holds_what_others_tag(host: Host, repository: str) -> None:
    host.content()
    for name in (repository, A):
        host.link(name, "1")
        host.state(name)
    assert host.reasons() == {repository: "not_pullable", A: "shared"}


def test_rules_windows_and_numbers_are_asked_of_each_row_by_its_own_repository(host: Host) -> None:
    host.content()
    for repository in (A, B):
        host.link(repository, "1")
        host.state(repository)
    never = Rule(match=("ghcr.io/*",), tags=("1",), unused_for="never")
    assert host.reasons(rules=(never,)) == {A: "kept_by_rule", B: "shared"}
    assert host.reasons(pinned=("docker.io/*",)) == {A: "shared", B: "pinned"}
    assert host.reasons(keep_latest=1) == {A: "latest", B: "latest"}
    assert host.reasons(min_age=101 * DAY) == {A: "too_young", B: "too_young"}
