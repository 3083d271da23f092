"""`check-config`: every setting and its source."""

import pathlib
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from hmret.settings.load import load_settings
from support.config_keys import KEYS

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]


def test_the_document_has_every_setting_with_its_source(cache: Any, call_json: CallJson) -> None:
    code, document = call_json("check-config", "--data-dir", cache.root)
    assert code == 0
    assert list(document) == ["settings", "warnings"]
    assert list(document["settings"]) == KEYS
    assert all(list(setting) == ["value", "source"] for setting in document["settings"].values())
    assert document["settings"]["images.auto_delete.unused_for"] == {
        "value": 2592000.0,
        "source": "default",
    }
    assert document["settings"]["images.auto_delete.enabled"] == {
        "value": False,
        "source": "default",
    }
    assert document["settings"]["hmret.enabled"] == {"value": None, "source": "default"}
    assert document["settings"]["data_dir"] == {"value": str(cache.root), "source": "flag"}
    assert document["warnings"] == []


def test_flags_win_over_the_environment_and_that_over_the_file(
    tmp_path: pathlib.Path, call_json: CallJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        'data_dir: /file\nimages:\n  auto_delete:\n    unused_for: 1h\n    allowed: ["file/*"]\n'
        "hmret:\n  sweep_interval: 5m\n"
    )
    monkeypatch.setenv("HMRET_CONFIG", str(config))
    monkeypatch.setenv("IMAGES__AUTO_DELETE__UNUSED_FOR", "2h")
    monkeypatch.setenv("IMAGES__AUTO_DELETE__ALLOWED", "environment/*")

    def effective(*flags: str) -> list[tuple[object, str]]:
        _, document = call_json("check-config", *flags)
        found = [document["settings"][key] for key in (KEYS[0], KEYS[2], KEYS[3], KEYS[7], KEYS[1])]
        return [(setting["value"], setting["source"]) for setting in found]

    assert effective() == [
        ("/file", "file"),
        (7200.0, "environment"),
        (["environment/*"], "environment"),
        (300.0, "file"),
        (False, "default"),
    ]
    flags = ["--data-dir", "/flag", "--unused-for", "3h", "--allow", "one/*", "--allow", "two/*", "--enable"]
    assert effective(*flags) == [
        ("/flag", "flag"),
        (10800.0, "flag"),
        (["one/*", "two/*"], "flag"),
        (300.0, "file"),
        (True, "flag"),
    ]
    monkeypatch.setenv("IMAGES__AUTO_DELETE__ALLOWED", "[]")
    assert effective()[2] == ([], "environment")
    monkeypatch.setenv("IMAGES__AUTO_DELETE__ALLOWED", "")
    assert effective()[2] == (["file/*"], "file")


@pytest.fixture
def two_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """hypeman's file and hmret's own, where they are looked for."""
    shared, own = tmp_path / "hypeman.yaml", tmp_path / "own.yaml"
    shared.write_text("data_dir: /srv\nimages: {auto_delete: {allowed: ['a.io/*']}}\n")
    own.write_text("hmret: {pinned: ['b.io/*']}\n")
    monkeypatch.delenv("HMRET_CONFIG")
    monkeypatch.setenv("CONFIG_PATH", str(shared))
    defaults = load_settings.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "own_file", str(own))
    return str(shared), str(own)


def test_the_file_of_each_setting_is_named(
    two_files: tuple[str, str], call: Call, call_json: CallJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, own = two_files
    monkeypatch.setenv("HMRET__KEEP_LATEST", "3")
    _, document = call_json("check-config", "--allow", "c.io/*")
    found = {key: (one["source"], one.get("path")) for key, one in document["settings"].items()}
    assert found["data_dir"] == ("file", shared)
    assert found["hmret.pinned"] == ("file", own)
    assert found["images.auto_delete.allowed"] == ("flag", None)
    assert found["hmret.keep_latest"] == ("environment", None)
    assert found["hmret.brake"] == ("default", None)
    _, output, _ = call("check-config")
    sources = {line.split()[0]: line.split()[2:] for line in output.splitlines() if "io/" in line}
    assert sources["images.auto_delete.allowed"] == ["file", shared]
    assert sources["hmret.pinned"] == ["file", own]
    assert f"config file: {shared}, {own}" in output.splitlines()


def test_enable_wins_over_a_file_that_disables_both(tmp_path: pathlib.Path, call_json: CallJson) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("images:\n  auto_delete:\n    enabled: false\nhmret:\n  enabled: false\n")
    _, document = call_json("check-config", "--config", str(config), "--enable")
    assert document["settings"]["images.auto_delete.enabled"] == {
        "value": True,
        "source": "flag",
    }
    assert document["settings"]["hmret.enabled"] == {"value": True, "source": "flag"}
    _, document = call_json("check-config", "--config", str(config), "--enable=false")
    assert document["settings"]["hmret.enabled"] == {"value": False, "source": "flag"}


def test_people_see_the_settings_as_they_would_write_them(cache: Any, call: Call) -> None:
    code, output, complaints = call(
        "check-config", "--data-dir", cache.root, "--allow", "a.io/*", "--allow", "b.io/*", "--enable"
    )
    assert (code, complaints) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in output.splitlines()}
    assert rows["images.auto_delete.unused_for"].split() == ["720h", "default"]
    assert rows["images.auto_delete.allowed"] == "[a.io/*, b.io/*]".ljust(len(str(cache.root))) + "  flag"
    assert rows["hmret.control_socket"].split() == ['""', "default"]
    assert rows["hmret.enabled"].split() == ["true", "flag"]
    assert rows["hmret.max_deletes_per_sweep"].split() == ["0", "default"]
    assert output.splitlines()[-1] == "retention is enabled"


POLICY = """\
hmret:
  rules:
    - match: [ghcr.io/ci/*, "*/scratch"]
      tags: ["pr-*"]
      unused_for: 24h
    - {match: ["*/base"], unused_for: never}
    - {match: ["*"], keep_latest: 0}
  min_age: 0
  max_bytes_per_sweep: 1500
  disk: {high_watermark: 85.50%, max_used: 500GiB}
  window: {hours: [22:00-05:00, 12:00-13:00], time_zone: Europe/Berlin}
  brake_for: 12h
"""


def test_people_see_sizes_shares_hours_and_rules_as_they_would_write_them(
    call: Call, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "config.yaml").write_text(POLICY)
    code, output, _ = call("check-config", "--config", tmp_path / "config.yaml")
    assert code == 0
    rows = [re.split(r"  +", line.strip()) for line in output.splitlines()]
    begin = rows.index(["hmret.rules", "3 rules", "file"])
    assert rows[begin + 1 : begin + 4] == [
        ["rule 1", "match [ghcr.io/ci/*, */scratch], tags [pr-*], unused_for 1d"],
        ["rule 2", "match [*/base], unused_for never"],
        ["rule 3", "match [*], keep_latest 0"],
    ]
    for row in (
        ["hmret.min_age", "0s", "file"],
        ["hmret.max_bytes_per_sweep", "1500", "file"],
        ["hmret.disk.high_watermark", "85.5%", "file"],
        ["hmret.disk.low_watermark", "80.5%", "default"],
        ["hmret.disk.max_used", "500GiB", "file"],
        ["hmret.disk.min_unused_for", "1h", "default"],
        ["hmret.window.hours", "[22:00-05:00, 12:00-13:00]", "file"],
        ["hmret.window.time_zone", "Europe/Berlin", "file"],
        ["hmret.brake", "50%", "default"],
        ["hmret.brake_for", "12h", "file"],
    ):
        assert row in rows


def test_a_lone_rule_and_no_rule_are_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"^hmret\.rules +\[\] +default$", call("check-config")[1], re.MULTILINE)
    monkeypatch.setenv("HMRET__RULES", "[{match: ['*'], keep_latest: 1}]")
    assert re.search(
        r"^hmret\.rules +1 rule +environment\n  rule 1 +match \[\*\], keep_latest 1$",
        call("check-config")[1],
        re.MULTILINE,
    )


def test_programs_see_seconds_bytes_percentages_and_rules_as_objects(
    call_json: CallJson, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "config.yaml").write_text(POLICY)
    _, document = call_json("check-config", "--config", tmp_path / "config.yaml")
    values = {key: setting["value"] for key, setting in document["settings"].items()}
    assert values["hmret.rules"] == [
        {
            "match": ["ghcr.io/ci/*", "*/scratch"],
            "tags": ["pr-*"],
            "unused_for": 86400.0,
            "keep_latest": None,
        },
        {"match": ["*/base"], "tags": None, "unused_for": "never", "keep_latest": None},
        {"match": ["*"], "tags": None, "unused_for": None, "keep_latest": 0},
    ]
    assert values["hmret.min_age"] == 0.0
    assert values["hmret.disk.high_watermark"] == "85.5%"
    assert values["hmret.disk.low_watermark"] == "80.5%"
    assert values["hmret.disk.max_used"] == 500 * 2**30
    assert values["hmret.window.hours"] == ["22:00-05:00", "12:00-13:00"]
    assert document["settings"]["hmret.disk.low_watermark"]["source"] == "default"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "hmret:\n  disk:\n    high_watermark: 80%\n    low_watermark: 85%\n",
            "4: hmret.disk.low_watermark: must not be above high_watermark (80%), got 85%",
        ),
        (
            "hmret: {disk: {high_watermark: 101%}}\n",
            "1: hmret.disk.high_watermark: expected a percentage from 0% to 100%, such as 85%, got '101%'",
        ),
        (
            "hmret:\n  window: {time_zone: Europe/Berln}\n",
            "2: hmret.window.time_zone: expected a time zone that this host knows, such as Europe/Berlin, got 'Europe/Berln'",
        ),
        (
            "hmret:\n  disk:\n    high_water: 85%\n",
            "3: hmret.disk.high_water: unknown, did you mean high_watermark? known are high_watermark, low_watermark, max_used, count, min_unused_for",
        ),
        (
            "hmret:\n  rules:\n    - match: ['*']\n",
            "3: hmret.rules, rule 1: expected unused_for or keep_latest, got neither",
        ),
    ],
)
@pytest.mark.parametrize("command", ["check-config", "plan"])
def test_a_policy_that_is_none_is_one_line_and_exit_code_2(
    call: Call, tmp_path: pathlib.Path, command: str, content: str, told: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content)
    assert call(command, "--config", config) == (2, "", f"hmret: error: {config}:{told}\n")


def test_what_is_unset_and_no_file_are_said_so(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    _, output, _ = call("check-config")
    assert re.search(r"^hmret\.enabled +unset +default$", output, re.MULTILINE)
    assert "no-settings.yaml" in output
    assert "retention is disabled" in output


def test_a_missing_data_directory_is_only_a_warning(call: Call, tmp_path: pathlib.Path) -> None:
    code, output, complaints = call("check-config", "--data-dir", tmp_path / "absent")
    assert (code, complaints) == (0, "")
    assert f"warning: data_dir: '{tmp_path}/absent'" in output


def test_a_size_is_compared_with_the_share_of_the_disk_at_which_hypeman_refuses_pulls(
    call_json: CallJson, cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMRET__DISK__COUNT", "apparent")
    monkeypatch.setenv("HMRET__DISK__MAX_USED", "900000TB")

    code, document = call_json("check-config", "--data-dir", cache.root)

    assert code == 0
    (warning,) = document["warnings"]
    assert warning == (
        "hmret.disk.max_used: hypeman refuses pulls once images take 20% of the disk (limits.max_image_storage), "
        "which comes before 900000TB; hmret.disk.max_used: 18% lets images go before that"
    )


def test_a_pattern_that_never_matches_is_a_warning(call_json: CallJson, cache: Any) -> None:
    code, document = call_json("check-config", "--data-dir", cache.root, "--allow", "alpine")
    assert code == 0
    assert len(document["warnings"]) == 1
    assert "alpine" in document["warnings"][0]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--unused-for", "30y"], ["--unused-for", "30y"]),
        (["--unused-for", "0s"], ["--unused-for", "0s"]),
        (["--unused-for", "-1h"], ["--unused-for"]),
        (["--allow", " "], ["--allow"]),
        (["--config", "/nowhere/at/all.yaml"], ["/nowhere/at/all.yaml"]),
        (["--data-dir", ""], ["--data-dir"]),
    ],
)
def test_a_bad_setting_is_one_line_that_names_key_and_value(
    call: Call, flags: list[str], named: list[str]
) -> None:
    code, output, complaints = call("check-config", *flags)
    assert (code, output) == (2, "")
    assert complaints.startswith("hmret: error: ")
    assert complaints.count("\n") == 1
    assert all(word in complaints for word in named)


def test_a_mistyped_key_of_the_file_is_bad_config(call: Call, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("images:\n  auto_delete:\n    allow: []\n")
    code, _, complaints = call("check-config", "--config", config)
    assert code == 2
    assert complaints.startswith(f"hmret: error: {config}:3: ")
    assert "allow" in complaints


@pytest.mark.parametrize("command", ["run", "check-config"])
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            "control_socket_group: no such group",
            "hmret.control_socket_group: expected a group of this host, got 'no such group'",
        ),
        ("control_socket: HERE/plain", "hmret.control_socket: cannot be created at HERE/plain: file exists"),
        ("control_socket: HERE/data", "hmret.control_socket: cannot be created at HERE/data: file exists"),
        (
            "control_socket: HERE/plain/x",
            "hmret.control_socket: cannot be created at HERE/plain/x: not a directory",
        ),
        (
            "fleet: {endpoints: ['https://127.0.0.1:1'], ca_file: HERE/no}",
            "hmret.fleet.ca_file: HERE/no: No such file or directory",
        ),
        (
            "fleet: {endpoints: ['https://127.0.0.1:1'], cert_file: HERE/no}",
            "hmret.fleet.cert_file: HERE/no: No such file or directory",
        ),
        (
            "fleet: {endpoints: ['https://127.0.0.1:1'], cert_file: HERE/plain, key_file: HERE/data}",
            "hmret.fleet.key_file: HERE/data: Is a directory",
        ),
    ],
)
def test_what_keeps_an_engine_from_starting_is_an_error_of_check_config_too(
    tmp_path: pathlib.Path, call: Call, command: str, settings: str, told: str
) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "plain").touch()
    config = tmp_path / "config.yaml"
    config.write_text(f"data_dir: {tmp_path}/data\nhmret: {{{settings}}}\n".replace("HERE", str(tmp_path)))
    code, output, errors = call(command, "--config", config)
    assert (code, output) == (2, "")
    assert errors == f"hmret: error: {told.replace('HERE', str(tmp_path))}\n"
    if command == "check-config":
        assert call("check-config", "--quiet", "--config", config)[0] == 2


def test_a_socket_that_is_there_or_left_over_is_none(tmp_path: pathlib.Path, call: Call) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    config = tmp_path / "config.yaml"
    for place in (tmp_path / "hmret.sock", tmp_path / "a link"):
        config.write_text(f"data_dir: {tmp_path}/data\nhmret: {{control_socket: {place}}}\n")
        if place.name == "a link":
            place.symlink_to(tmp_path)
        else:
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(place))
        before = place.lstat()
        assert call("check-config", "--config", config)[0] == 0
        assert place.lstat() == before


def test_a_data_directory_that_is_none_is_not_taken_for_a_bad_place_of_the_socket(
    tmp_path: pathlib.Path, call: Call, call_json: CallJson
) -> None:
    (tmp_path / "file").touch()
    code, document = call_json("check-config", "--data-dir", tmp_path / "file")
    assert (code, document["warnings"]) == (
        0,
        [f"data_dir: '{tmp_path}/file': not a folder, so run does not start"],
    )
    own = tmp_path / "data/system/hmret/hmret.sock"
    own.parent.mkdir(parents=True)
    own.touch()
    code, _, errors = call("check-config", "--data-dir", tmp_path / "data")
    assert (code, errors) == (
        2,
        f"hmret: error: hmret.control_socket: cannot be created at {own}: file exists\n",
    )


def test_files_of_a_fleet_that_are_not_read_at_the_start_are_no_error(
    tmp_path: pathlib.Path, call_json: CallJson
) -> None:
    (tmp_path / "images").mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data_dir: {tmp_path}\nhmret: {{fleet: {{endpoints: ['http://127.0.0.1:1'], ca_file: {tmp_path}/no, "
        f"user: a, password_file: {tmp_path}/no}}}}\n"
    )
    code, document = call_json("check-config", "--config", config)
    assert code == 0
    (told,) = (one for one in document["warnings"] if "No such file" in one)
    assert told == (
        f"hmret.fleet.password_file: {tmp_path}/no: No such file or directory, so etcd lets this host do nothing "
        "until that file is there"
    )
