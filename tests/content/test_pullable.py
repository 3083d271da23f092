"""What could not be pulled again stays: by its label, the records of builds, its repository, and hypeman's own settings."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from hmret import Reason
from hmret.__main__ import main
from support.builders import FakeClock, digest
from support.content_trees import Host, content_path, state_path, without
from support.memory_filesystem import MemoryFilesystem

A = "docker.io/library/alpine"
B = "ghcr.io/kernel/base"
APP = "docker.io/library/app"
D, E = digest("d"), digest("e")
LABEL = "io.hmret.pullable"


@pytest.fixture
def host(filesystem: MemoryFilesystem, clock: FakeClock) -> Host:
    return Host(filesystem, clock)


def make_due(host: Host, repository: str, letters: str = "d", *, tag: str = "1", **fields: Any) -> None:
    """Make content of one repository with one tag, due."""
    host.content(letters, name=f"{repository}:{tag}", **fields)
    host.link(repository, tag, letters)
    host.state(repository, letters)


async def reason_of(host: Host, repository: str, **settings: Any) -> Reason:
    """Sweep, and tell why the image of a repository has gone or not; it must have done as that says."""
    swept = await host.sweep(**settings)
    reason = swept.reasons[repository, D]
    has_gone = not any(path.endswith(f"{'d' * 64}/metadata.json") for path in host.files())
    assert has_gone == (reason is Reason.EXPIRED)
    assert host.exists(state_path(repository, "d")) is False
    return reason


# The fields that once said something.


@pytest.mark.parametrize("layout", ["today's", "older"])
async def test_the_number_of_a_pull_says_nothing_of_where_an_image_came_from(host: Host, layout: str) -> None:
    metadata = {"build_id": "e2df7169-6791-47c2-b70d-d9aea17cbc2e"}
    if layout == "today's":
        make_due(host, A, metadata=metadata)
    else:
        host.legacy(A, "d", metadata=metadata)
        host.legacy_link(A, "1", "d")
        host.state(A, "d")
    assert await reason_of(host, A) is Reason.EXPIRED


# The label.


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("true", Reason.EXPIRED),
        ("false", Reason.NOT_PULLABLE),
        # Whatever is neither keeps the image.
        ("", Reason.NOT_PULLABLE),
        ("yes", Reason.NOT_PULLABLE),
    ],
)
@pytest.mark.parametrize("layout", ["today's", "older"])
async def test_the_label_says_whether_an_image_can_be_pulled_again(
    host: Host, layout: str, value: str, reason: Reason
) -> None:
    metadata = {"labels": {LABEL: value, "other": "x"}}
    if layout == "today's":
        make_due(host, A, metadata=metadata)
    else:
        host.legacy(A, "d", metadata=metadata)
        host.legacy_link(A, "1", "d")
        host.state(A, "d")
    assert await reason_of(host, A) is reason


@pytest.mark.parametrize(
    "repository", ["localhost:5000/app", "docker.io/builds/x1", "ghcr.io/internal/builder"]
)
async def test_the_label_wins_over_the_repository(host: Host, repository: str) -> None:
    make_due(host, repository, metadata={"labels": {LABEL: "true"}})
    assert await reason_of(host, repository) is Reason.EXPIRED


async def test_the_label_wins_over_the_record_of_a_build(host: Host) -> None:
    make_due(host, A, metadata={"labels": {LABEL: "true"}})
    host.build("b1", image_digest=D)
    assert await reason_of(host, A) is Reason.EXPIRED


async def test_the_label_counts_for_every_owner_of_the_content(host: Host) -> None:
    make_due(host, A, metadata={"labels": {LABEL: "false"}})
    host.link(B, "1", "d")
    host.state(B, "d")
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.NOT_PULLABLE, (B, D): Reason.NOT_PULLABLE}


# Records of builds.


@pytest.mark.parametrize(
    "fields",
    [
        {"image_digest": D},
        {"image_ref": f"{APP}:1"},
        {"image_ref": "app:1"},
        {"image_ref": f"{APP}@{D}"},
        {"image_ref": f"{APP}:other@{D}"},
        {"request": {"image_name": "app:1"}},
        {"request": {"image_name": f"{APP}:1"}},
        {"request": {"image_name": f"app@{D}"}},
        {"image_digest": E, "request": {"image_name": "app:1"}},
        {"image_digest": D, "image_ref": "No Reference", "request": None},
        {"image_digest": D, "image_ref": 7, "request": "none", "provenance": []},
    ],
)
async def test_what_a_record_of_a_build_names_was_built_here(host: Host, fields: dict[str, object]) -> None:
    make_due(host, APP)
    host.build("b1", **fields)
    assert await reason_of(host, APP) is Reason.NOT_PULLABLE


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image_digest": E},
        {"image_digest": ""},
        {"image_ref": f"{APP}:2"},
        {"image_ref": f"{APP}@{E}"},
        # A digest in a reference is that repository's.
        {"image_ref": f"{B}@{D}"},
        # Without a tag it is latest.
        {"request": {"image_name": "app"}},
        {"request": {"image_name": "ghcr.io/kernel/app:1"}},
        # What it was built from, it was not built as.
        {"provenance": {"base_image_digest": D}},
        {"request": {"base_image": f"{APP}:1"}},
    ],
)
async def test_what_no_record_of_a_build_names_can_be_pulled_again(
    host: Host, fields: dict[str, object]
) -> None:
    make_due(host, APP)
    host.build("b1", **fields)
    assert await reason_of(host, APP) is Reason.EXPIRED


async def test_a_name_without_a_tag_names_latest(host: Host) -> None:
    make_due(host, APP, tag="latest")
    host.build("b1", request={"image_name": "app"})
    assert await reason_of(host, APP) is Reason.NOT_PULLABLE


async def test_a_digest_that_was_built_here_counts_under_every_repository(host: Host) -> None:
    make_due(host, A)
    host.link(B, "1", "d")
    host.state(B, "d")
    host.build("b1", image_digest=D)
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.NOT_PULLABLE, (B, D): Reason.NOT_PULLABLE}
    assert swept.deleted == []


async def test_a_name_that_was_built_here_counts_for_that_row_and_the_others_share_it(host: Host) -> None:
    make_due(host, A)
    host.link(APP, "1", "d")
    host.state(APP, "d")
    host.build("b1", image_ref="app:1")
    swept = await host.sweep()
    assert swept.reasons == {(A, D): Reason.SHARED, (APP, D): Reason.NOT_PULLABLE}
    assert swept.held_by(A, "d") == [(APP, Reason.NOT_PULLABLE)]


async def test_records_of_builds_come_and_go_between_sweeps(host: Host) -> None:
    make_due(host, A)
    record = host.build("b1", image_digest=D)
    async with host.opened() as retention:
        assert (await host.sweep_by(retention)).reasons == {(A, D): Reason.NOT_PULLABLE}
        host.hypeman.build("b2", image_digest=E)
        make_due(host.hypeman, B, "e")
        assert (await host.sweep_by(retention)).reasons[B, E] is Reason.NOT_PULLABLE
        host.remove(record.rpartition("/")[0])
        host.state(A, "d")
        # The image outlives its record, by which alone it was known.
        assert (await host.sweep_by(retention)).deleted == [(A, D)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b'"text"'])
async def test_a_record_that_cannot_be_read_is_reported_and_stops_nothing(
    host: Host, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    caplog.set_level(logging.INFO, logger="hmret")
    make_due(host, A)
    path = host.write("builds/b1/metadata.json", content)
    assert await reason_of(host, A) is Reason.EXPIRED
    assert any(path in record.getMessage() for record in caplog.records)


async def test_builds_without_a_record_and_other_things_among_them_say_nothing(host: Host) -> None:
    make_due(host, A)
    host.folder("builds/b1")
    host.write("builds/note.txt", b"no build")
    host.symlink("builds/b2", "b1")
    assert await reason_of(host, A) is Reason.EXPIRED


# Repositories.


@pytest.mark.parametrize(
    ("repository", "reason"),
    [
        ("docker.io/builds/x1", Reason.NOT_PULLABLE),
        ("10.102.0.1:8083/builds/x1", Reason.NOT_PULLABLE),
        ("localhost:8080/builds/x1", Reason.NOT_PULLABLE),
        ("docker.io/internal/builder", Reason.NOT_PULLABLE),
        ("10.102.0.1:8083/internal/builder", Reason.NOT_PULLABLE),
        ("ghcr.io/team/internal/builder", Reason.NOT_PULLABLE),
        ("localhost/tool", Reason.NOT_PULLABLE),
        ("localhost:5000/ci/app", Reason.NOT_PULLABLE),
        ("127.0.0.1:5000/tool", Reason.NOT_PULLABLE),
        ("ghcr.io/builds/team/x1", Reason.EXPIRED),
        ("ghcr.io/team/builds", Reason.EXPIRED),
        ("ghcr.io/team/builds/x1", Reason.EXPIRED),
        ("ghcr.io/internal/builders", Reason.EXPIRED),
        ("10.102.0.1:8083/tool", Reason.EXPIRED),
        ("registry.local:5000/tool", Reason.EXPIRED),
        # What was pushed here without a host looks like what was pulled.
        ("docker.io/library/tool", Reason.EXPIRED),
    ],
)
@pytest.mark.parametrize("layout", ["today's", "older"])
async def test_some_repositories_hold_only_what_was_made_here(
    host: Host, layout: str, repository: str, reason: Reason
) -> None:
    if layout == "today's":
        make_due(host, repository)
    else:
        host.legacy(repository, "d")
        host.legacy_link(repository, "1", "d")
        host.state(repository, "d")
    assert await reason_of(host, repository) is reason


async def test_the_row_of_a_build_holds_the_digest_for_a_row_that_could_be_pulled(host: Host) -> None:
    build = "docker.io/builds/x1"
    host.content("d", name=f"{build}:latest")
    for repository, tag in ((build, "latest"), (APP, "1")):
        host.link(repository, tag, "d")
        host.state(repository, "d")
    before = host.files()
    swept = await host.sweep()
    assert swept.reasons == {(build, D): Reason.NOT_PULLABLE, (APP, D): Reason.SHARED}
    assert swept.held_by(APP, "d") == [(build, Reason.NOT_PULLABLE)]
    assert host.files() == without(before, state_path(build, "d"))
    host.state(build, "d")
    assert (await host.sweep(delete_unpullable=True)).deleted == [(build, D), (APP, D)]
    assert host.files() == {}


@pytest.mark.parametrize(
    "url", ["reg.local:5000", "http://reg.local:5000", "https://reg.local:5000/", "reg.local:5000/"]
)
async def test_what_lies_under_the_host_of_hypemans_own_registry_was_pushed_there(
    host: Host, url: str
) -> None:
    make_due(host, "reg.local:5000/tool")
    assert await reason_of(host, "reg.local:5000/tool", registry_url=url) is Reason.NOT_PULLABLE


@pytest.mark.parametrize("repository", ["reg.local/tool", "reg.local:5001/tool", "other.local:5000/tool"])
async def test_another_host_or_port_is_another_registry(host: Host, repository: str) -> None:
    make_due(host, repository)
    assert await reason_of(host, repository, registry_url="reg.local:5000") is Reason.EXPIRED


async def test_an_older_folder_under_the_host_of_hypemans_own_registry_was_pushed_there(host: Host) -> None:
    host.legacy("reg.local:5000/tool", "d")
    host.legacy_link("reg.local:5000/tool", "1", "d")
    host.state("reg.local:5000/tool", "d")
    reason = await reason_of(host, "reg.local:5000/tool", registry_url="reg.local:5000")
    assert reason is Reason.NOT_PULLABLE


@pytest.mark.parametrize(
    "builder", ["ghcr.io/team/make:v3", "ghcr.io/team/make", f"ghcr.io/team/make@{digest('e')}"]
)
async def test_every_image_of_the_builders_repository_stays(host: Host, builder: str) -> None:
    make_due(host, "ghcr.io/team/make")
    assert await reason_of(host, "ghcr.io/team/make", builder_image=builder) is Reason.NOT_PULLABLE


async def test_a_builder_without_a_host_is_docker_hubs(host: Host) -> None:
    make_due(host, "docker.io/team/make")
    assert await reason_of(host, "docker.io/team/make", builder_image="team/make") is Reason.NOT_PULLABLE


# From hypeman's own settings.

REGISTRY, BUILDER = "reg.local:5000/tool", "ghcr.io/team/make"


@pytest.mark.parametrize(
    ("config", "environment", "kept"),
    [
        ("", {}, []),
        ("registry:\n  url: reg.local:5000\n  insecure: true\n", {}, [REGISTRY]),
        ("registry:\n  url: https://reg.local:5000\n", {}, [REGISTRY]),
        ("registry: {url: other:1}\n", {"REGISTRY__URL": "reg.local:5000"}, [REGISTRY]),
        ("registry: {url: reg.local:5000}\n", {"REGISTRY__URL": "other:1"}, []),
        ("build:\n  builder_image: ghcr.io/team/make:v3\n  timeout: 5m\n", {}, [BUILDER]),
        ('build: {builder_image: ""}\n', {}, []),
        ("", {"BUILD__BUILDER_IMAGE": "ghcr.io/team/make"}, [BUILDER]),
        (
            "registry: {url: reg.local:5000}\nbuild: {builder_image: ghcr.io/team/make}\n",
            {},
            [BUILDER, REGISTRY],
        ),
    ],
)
def test_hypemans_own_settings_name_its_registry_and_its_builder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: str,
    environment: dict[str, str],
    kept: list[str],
) -> None:
    host = Host(tmp_path / "data", FakeClock(wall_ns=time.time_ns()))
    make_due(host, REGISTRY, "d")
    make_due(host, BUILDER, "e")
    assert host.exists(content_path("e"))
    file = tmp_path / "config.yaml"
    file.write_text(f"data_dir: {tmp_path / 'data'}\n{config}")
    for variable in ("REGISTRY__URL", "BUILD__BUILDER_IMAGE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert main(["plan", "--json", "--config", str(file), "--enable", "--allow", "*"]) == 0
    rows = {row["repository"]: row["reason"] for row in json.loads(capsys.readouterr().out)["images"]}
    expected = dict.fromkeys((REGISTRY, BUILDER), "expired") | dict.fromkeys(kept, "not_pullable")
    assert rows == expected


@pytest.mark.parametrize("config", ["registry: {url: [a]}\n", "build: {builder_image: {a: b}}\n"])
def test_a_wrong_value_of_those_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(config)
    assert main(["plan", "--config", str(file), "--data-dir", str(tmp_path)]) == 2
    assert "config.yaml:1" in capsys.readouterr().err
