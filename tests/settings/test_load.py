"""Settings from the config file, the environment and flags: what wins, and what every mistake is told as."""

import json
import pathlib
from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings as hypothesis_settings, strategies

from hmret.model.errors import ConfigError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule
from hmret.model.policy.window import DeletionWindow
from hmret.settings.effective import EffectiveSetting
from hmret.settings.load import Settings, load_settings
from hmret.settings.warnings import warnings_about
from settings.loading import Load, changed, complaint
from support.bounds import bound, part
from support.config_keys import KEYS

pytestmark = pytest.mark.usefixtures("each_yaml_loader")


FULL = """\
# hypeman's own file
data_dir: /srv/hypeman
port: !port 8080
defaults: &defaults {enabled: true}
also: *defaults
registry: {url: "https://reg.local:5000", insecure: true}
build:
  builder_image: reg.local:5000/tools/builder:2
  timeout: 10m
images:
  cache: &cache [&again a, &again b]
  auto_delete:
    enabled: true
    unused_for: 1h30m
    allowed: ["*", ghcr.io/kernel/*]
hmret:
  enabled: false
  sweep_interval: "90s"
  pinned:
    - docker.io/library/*
  max_deletes_per_sweep: 10
  unreadable_references: ignore
  access_time: never
  leases: when-offered
  control_socket: /run/hmret.sock
  control_socket_group: operators
  control_socket_group_writes: true
  metrics_listen: 127.0.0.1:9100
  journal: false
  fleet:
    endpoints: ["http://10.0.0.1:2379", "https://[fd00::2]:2379/"]
    name: lab
    host: host-1.example
    min_copies: 2
    last_copies_for: never
    hot_for: 12h
    hot_copies: all
    yields_to_pressure: true
    session_ttl: 5s
    timeout: 500ms
    ca_file: /etc/hmret/ca.pem
    cert_file: /etc/hmret/host.pem
    key_file: /etc/hmret/host.key
    user: hmret
    password_file: /etc/hmret/password
  rules:
    - match: [ghcr.io/ci/*]
      tags: ["pr-*", nightly]
      unused_for: 24h
    - match: ["*/base", a.b/c]
      unused_for: never
    - {match: ["*"], keep_latest: 3}
  keep_latest: 2
  min_age: 6h
  delete_unpullable: true
  max_bytes_per_sweep: 100GiB
  disk:
    high_watermark: 85.5%
    low_watermark: 70%
    max_used: 500GB
    count: apparent
    min_unused_for: 2h
  quarantine: 24h
  window:
    hours: [22:00-05:00, "12:00-13:00"]
    time_zone: Europe/Berlin
    yields_to_pressure: true
  brake: 25%
  brake_min_images: 5
  brake_for: 12h
"""

OWN_DURATION = "a duration of at most 2562047h, such as 30d, 1w, 720h or 1h30m"
DURATION = "a Go duration of at most 2562047h, such as 720h or 1h30m (days are not a unit)"
AUTO_DELETE_KNOWN = "known are enabled, unused_for, allowed"
HMRET_KNOWN = (
    "known are enabled, sweep_interval, pinned, rules, keep_latest, min_age, delete_unpullable, "
    "max_deletes_per_sweep, max_bytes_per_sweep, disk, quarantine, window, brake, brake_min_images, brake_for, "
    "unreadable_references, access_time, leases, control_socket, control_socket_group, control_socket_group_writes, metrics_listen, journal, fleet"
)
HMRET_VARIABLES = "known are " + ", ".join(
    key.upper().replace(".", "__") for key in KEYS if key.startswith("hmret.")
)
COUNT = "a whole number, 0 or more, of at most 18 digits"


def variables(known: str, prefix: str) -> str:
    """The known keys as the variables that set them."""
    names = known.removeprefix("known are ").split(", ")
    return f"known are {', '.join(prefix + name.upper() for name in names)}"


# What is read, and what wins


def test_without_any_source_everything_is_a_default(load: Load) -> None:
    loaded = load()

    assert loaded.config == RetentionConfig()
    assert not loaded.config_files
    assert {key: setting.value for key, setting in loaded.values.items()} == {
        "data_dir": "/var/lib/hypeman",
        "images.auto_delete.enabled": False,
        "images.auto_delete.unused_for": 2592000.0,
        "images.auto_delete.allowed": [],
        "registry.url": "localhost:8080",
        "build.builder_image": "",
        "hmret.enabled": None,
        "hmret.sweep_interval": 60.0,
        "hmret.pinned": [],
        "hmret.rules": [],
        "hmret.keep_latest": 0,
        "hmret.min_age": 0.0,
        "hmret.delete_unpullable": False,
        "hmret.max_deletes_per_sweep": 0,
        "hmret.max_bytes_per_sweep": 0,
        "hmret.disk.high_watermark": "0%",
        "hmret.disk.low_watermark": "0%",
        "hmret.disk.max_used": 0,
        "hmret.disk.count": "blocks",
        "hmret.disk.min_unused_for": 3600.0,
        "hmret.quarantine": 0.0,
        "hmret.window.hours": [],
        "hmret.window.time_zone": "UTC",
        "hmret.window.yields_to_pressure": False,
        "hmret.brake": "50%",
        "hmret.brake_min_images": 20,
        "hmret.brake_for": 0.0,
        "hmret.unreadable_references": "suspend",
        "hmret.access_time": "gaps",
        "hmret.leases": "suspend",
        "hmret.control_socket": "",
        "hmret.control_socket_group": "",
        "hmret.control_socket_group_writes": False,
        "hmret.metrics_listen": "",
        "hmret.journal": True,
        "hmret.fleet.endpoints": [],
        "hmret.fleet.name": "default",
        "hmret.fleet.host": "",
        "hmret.fleet.min_copies": 1,
        "hmret.fleet.last_copies_for": 7776000.0,
        "hmret.fleet.hot_for": 0.0,
        "hmret.fleet.hot_copies": 3,
        "hmret.fleet.yields_to_pressure": False,
        "hmret.fleet.session_ttl": 60.0,
        "hmret.fleet.timeout": 2.0,
        "hmret.fleet.ca_file": "",
        "hmret.fleet.cert_file": "",
        "hmret.fleet.key_file": "",
        "hmret.fleet.user": "",
        "hmret.fleet.password_file": "",
    }
    assert changed(loaded) == {}


def test_the_file_sets_every_key(load: Load, config_file: pathlib.Path) -> None:
    loaded = load(FULL)

    assert loaded.config == RetentionConfig(
        data_dir="/srv/hypeman",
        auto_delete=AutoDelete(
            enabled=True,
            unused_for=timedelta(minutes=90),
            allowed=("*", "ghcr.io/kernel/*"),
        ),
        registry_url="https://reg.local:5000",
        builder_image="reg.local:5000/tools/builder:2",
        enabled=False,
        sweep_interval=timedelta(seconds=90),
        pinned=("docker.io/library/*",),
        max_deletes_per_sweep=10,
        max_bytes_per_sweep=100 * 2**30,
        rules=(
            Rule(match=("ghcr.io/ci/*",), tags=("pr-*", "nightly"), unused_for=timedelta(hours=24)),
            Rule(match=("*/base", "a.b/c"), unused_for="never"),
            Rule(match=("*",), keep_latest=3),
        ),
        keep_latest=2,
        min_age=timedelta(hours=6),
        disk=DiskLimits(
            high_watermark=0.855,
            low_watermark=0.7,
            max_used=500 * 10**9,
            count="apparent",
            min_unused_for=timedelta(hours=2),
        ),
        quarantine=timedelta(hours=24),
        window=DeletionWindow(
            hours=("22:00-05:00", "12:00-13:00"), time_zone="Europe/Berlin", yields_to_pressure=True
        ),
        brake=0.25,
        brake_min_images=5,
        brake_for=timedelta(hours=12),
        delete_unpullable=True,
        unreadable_references="ignore",
        access_time="never",
        leases="when-offered",
        control_socket="/run/hmret.sock",
        control_socket_group="operators",
        control_socket_group_writes=True,
        metrics_listen="127.0.0.1:9100",
        journal=False,
        fleet=FleetConfig(
            endpoints=("http://10.0.0.1:2379", "https://[fd00::2]:2379"),
            name="lab",
            host="host-1.example",
            min_copies=2,
            last_copies_for="never",
            hot_for=timedelta(hours=12),
            hot_copies="all",
            yields_to_pressure=True,
            session_ttl=timedelta(seconds=5),
            timeout=timedelta(milliseconds=500),
            ca_file="/etc/hmret/ca.pem",
            cert_file="/etc/hmret/host.pem",
            key_file="/etc/hmret/host.key",
            user="hmret",
            password_file="/etc/hmret/password",
        ),
    )
    assert list(loaded.config_files) == [str(config_file)]
    assert {setting.source for setting in loaded.values.values()} == {"file"}


@pytest.mark.parametrize("content", [None, FULL, "hmret: {journal: false}\n"])
def test_the_keys_are_always_in_the_same_order(load: Load, content: str | None) -> None:
    assert list(load(content).values) == KEYS


def test_the_values_survive_json(load: Load) -> None:
    values = {key: setting.value for key, setting in load(FULL).values.items()}

    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("DATA_DIR", "/srv/x", "data_dir", "/srv/x"),
        ("IMAGES__AUTO_DELETE__ENABLED", "1", "images.auto_delete.enabled", True),
        ("IMAGES__AUTO_DELETE__UNUSED_FOR", "1.5h", "images.auto_delete.unused_for", 5400.0),
        ("IMAGES__AUTO_DELETE__ALLOWED", "a.b/c, d.e/*", "images.auto_delete.allowed", ["a.b/c", "d.e/*"]),
        ("IMAGES__AUTO_DELETE__ALLOWED", "[]", "images.auto_delete.allowed", []),
        ("REGISTRY__URL", "reg.local", "registry.url", "reg.local"),
        ("BUILD__BUILDER_IMAGE", "reg.local/b:1", "build.builder_image", "reg.local/b:1"),
        ("HMRET__ENABLED", "F", "hmret.enabled", False),
        ("HMRET__SWEEP_INTERVAL", "90s", "hmret.sweep_interval", 90.0),
        ("HMRET__PINNED", "*/base", "hmret.pinned", ["*/base"]),
        ("HMRET__PINNED", " [] ", "hmret.pinned", []),
        ("HMRET__MAX_DELETES_PER_SWEEP", "7", "hmret.max_deletes_per_sweep", 7),
        ("HMRET__UNREADABLE_REFERENCES", "ignore", "hmret.unreadable_references", "ignore"),
        ("HMRET__ACCESS_TIME", "always", "hmret.access_time", "always"),
        ("HMRET__LEASES", "when-offered", "hmret.leases", "when-offered"),
        ("HMRET__CONTROL_SOCKET", "/run/s", "hmret.control_socket", "/run/s"),
        ("HMRET__CONTROL_SOCKET_GROUP", "adm", "hmret.control_socket_group", "adm"),
        ("HMRET__CONTROL_SOCKET_GROUP_WRITES", "true", "hmret.control_socket_group_writes", True),
        ("HMRET__METRICS_LISTEN", "[::1]:9100", "hmret.metrics_listen", "[::1]:9100"),
        ("HMRET__JOURNAL", "false", "hmret.journal", False),
    ],
)
def test_each_variable_sets_its_key_over_the_file(
    load: Load, variable: str, text: str, key: str, value: object
) -> None:
    loaded = load(FULL, environment={variable: text, "PATH": "/bin", "HMRET": "x", "IMAGES__OTHER": "y"})

    assert loaded.values[key] == EffectiveSetting(value, "environment")
    assert {name for name, setting in loaded.values.items() if setting.source != "file"} == {key}


@pytest.mark.parametrize(
    ("key", "given_value", "value"),
    [
        ("data_dir", "/srv/x", "/srv/x"),
        ("images.auto_delete.enabled", True, True),
        ("images.auto_delete.unused_for", "720h", 2592000.0),
        ("images.auto_delete.allowed", ("a.b/c", " d.e/* "), ["a.b/c", "d.e/*"]),
        ("images.auto_delete.allowed", [], []),
        ("hmret.enabled", True, True),
        ("hmret.max_deletes_per_sweep", 3, 3),
        ("hmret.journal", False, False),
    ],
)
def test_a_flag_wins_over_the_environment_and_the_file(
    load: Load, key: str, given_value: object, value: object
) -> None:
    environment = {
        "DATA_DIR": "/env",
        "IMAGES__AUTO_DELETE__ALLOWED": "env.io/*",
        "HMRET__ENABLED": "false",
        "HMRET__JOURNAL": "true",
    }

    loaded = load(FULL, environment=environment, flags={key: given_value})

    assert loaded.values[key] == EffectiveSetting(value, "flag")
    assert [name for name, setting in loaded.values.items() if setting.source == "flag"] == [key]


def test_a_flag_of_none_is_not_given(load: Load) -> None:
    assert load(flags={"data_dir": None}).values["data_dir"].source == "default"


def test_a_flag_that_is_no_setting_is_the_callers_mistake(load: Load) -> None:
    with pytest.raises(KeyError, match=r"hmret\.colour"):
        load(flags={"hmret.colour": "red"})


def test_the_enable_flag_activates_an_engine_that_the_file_disables(load: Load) -> None:
    loaded = load("hmret: {enabled: false}\n", flags={"hmret.enabled": True})

    assert loaded.config.active


# Which file


def test_the_argument_wins_over_the_variable_that_names_a_file(tmp_path: pathlib.Path) -> None:
    for name in ("argument", "variable"):
        (tmp_path / name).write_text(f"data_dir: /{name}\n")

    loaded = load_settings(
        config_file=str(tmp_path / "argument"),
        environment={"HMRET_CONFIG": str(tmp_path / "variable")},
        flags={},
    )

    assert loaded.config.data_dir == "/argument"


def test_the_variable_wins_over_the_default_files(tmp_path: pathlib.Path) -> None:
    for name in ("variable", "default"):
        (tmp_path / name).write_text(f"data_dir: /{name}\n")

    loaded = load_settings(
        config_file=None,
        environment={"HMRET_CONFIG": str(tmp_path / "variable")},
        flags={},
        default_files=[str(tmp_path / "default")],
    )

    assert list(loaded.config_files) == [str(tmp_path / "variable")]


def test_the_first_default_file_that_is_there_is_read(tmp_path: pathlib.Path) -> None:
    for name in ("second", "third"):
        (tmp_path / name).write_text(f"data_dir: /{name}\n")
    names = ["first", "second/below", "second", "third"]

    loaded = load_settings(
        config_file=None,
        environment={"HMRET_CONFIG": ""},
        flags={},
        default_files=[str(tmp_path / name) for name in names],
    )

    assert loaded.config.data_dir == "/second"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", "{path}: expected a readable file, got no such file or directory"),
        ("", "{path}: expected a readable file, got a folder"),
        ("file/below", "{path}: expected a readable file, got not a directory"),
        ("a\0b", "{path}: expected a readable file, got embedded null byte"),
        ("a\nb", "{path}: expected a readable file, got no such file or directory"),
    ],
)
@pytest.mark.parametrize("by", ["argument", "variable"])
def test_a_named_file_that_cannot_be_read_is_an_error(
    tmp_path: pathlib.Path, by: str, name: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    path = f"{tmp_path}/{name}"

    with pytest.raises(ConfigError) as caught:
        load_settings(
            config_file=path if by == "argument" else None,
            environment={"HMRET_CONFIG": path} if by == "variable" else {},
            flags={},
        )

    assert str(caught.value) == reason.format(path=path.replace("\0", r"\x00").replace("\n", r"\n"))


def test_an_empty_name_of_a_file_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the config file: expected a readable file, got no such file"):
        load_settings(config_file="", environment={}, flags={})


def test_a_default_file_that_is_there_but_cannot_be_read_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable file, got a folder"):
        load_settings(config_file=None, environment={}, flags={}, default_files=[str(tmp_path)])


def test_a_file_without_end_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^/dev/zero: expected at most 1048576 bytes, got more$"):
        load_settings(config_file="/dev/zero", environment={}, flags={})


# YAML


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n# only a comment\n",
        "---\n...\n",
        "~\n",
        "{}\n",
        "images:\nhmret:\ndata_dir:\n",
        "images: {auto_delete: }\nhmret: ~\n",
        "images: {auto_delete: {enabled: , unused_for: null, allowed: ~}}\n",
        "port: 1\nport: 2\nimages: {cache: 1, cache: 2}\n",
        "other: !unknown {tag: !!python/object:os.system x}\n",
        "base: &base {port: 1}\nmore: {<<: *base}\n<<: *base\n",
        "base: &base {<<: *base, port: [1, *base], ? [list] : 1}\n<<: [*base, *base]\n",
        "enabled: &a x\nunused_for: &a y\n",
        "? [images]\n: 1\n? {hmret: 1}\n: 2\n",
        "\ufeffother: 1\n",
    ],
)
def test_a_file_without_values_of_ours_leaves_the_defaults(load: Load, content: str) -> None:
    assert changed(load(content)) == {}


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ("x: &x true\nhmret: {enabled: *x}", "hmret.enabled", True),
        ("x: &x {enabled: FALSE}\nhmret: *x", "hmret.enabled", False),
        ("x: &x a.b/c\nhmret: {pinned: [*x]}", "hmret.pinned", ["a.b/c"]),
        ("x: &x 1h\nx2: &x 2h\nhmret: {sweep_interval: *x}", "hmret.sweep_interval", 7200.0),
        ('"hmret": {"journal": True}', "hmret.journal", True),
        ("hmret: {journal: !!bool true}", "hmret.journal", True),
        ("hmret: {control_socket: ! 12}", "hmret.control_socket", "12"),
        ("hmret: {control_socket: !!str 12}", "hmret.control_socket", "12"),
        ("hmret: {max_deletes_per_sweep: 999999999999999999}", "hmret.max_deletes_per_sweep", 10**18 - 1),
        ("\ufeffdata_dir: /ü", "data_dir", "/ü"),
    ],
)
def test_aliases_tags_and_quotes_are_understood(load: Load, content: str, key: str, value: object) -> None:
    assert changed(load(content)) == {key: (value, "file")}


@pytest.mark.parametrize("spelling", ["true", "True", "TRUE", "false", "False", "FALSE"])
def test_a_boolean_has_the_spellings_that_all_of_yaml_shares(load: Load, spelling: str) -> None:
    assert load(f"hmret: {{journal: {spelling}}}").config.journal is (spelling.lower() == "true")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1ns", timedelta(microseconds=1)),
        ("1000ns", timedelta(microseconds=1)),
        ("1001ns", timedelta(microseconds=2)),
        ("9223372036854775807ns", timedelta(microseconds=9223372036854776)),
    ],
)
def test_less_than_a_microsecond_is_rounded_up(load: Load, text: str, expected: timedelta) -> None:
    loaded = load(flags={"images.auto_delete.unused_for": text})

    assert loaded.config.auto_delete.unused_for == expected
    assert loaded.values["images.auto_delete.unused_for"].value == expected.total_seconds()


def test_an_alias_bomb_outside_our_keys_costs_nothing(load: Load) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60))]

    assert changed(load("\n".join(lines))) == {}


# What is wrong with the file


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("\n- a\n", "2: the file: expected a mapping of keys to values, got a list"),
        ("text", "1: the file: expected a mapping of keys to values, got text"),
        ("a: 1\n---\nb: 1\n", "2: expected one YAML document, got another one"),
        ("a: 1\nb: *gone\n", "2: expected an anchor &gone before its alias, got none (text that begins with * needs quotes)"),
        (b"a: 1\nb: \xff\n", "2: expected UTF-8, got the byte 0xff"),
        (b"\xef\xbb\xbf\xfe\n", "1: expected UTF-8, got the byte 0xfe"),
        ("a: 1\n".encode("utf-16"), "1: expected UTF-8, got the byte 0xff"),
        ("a: ü\n\nb: \0\n", r"3: expected printable text, got '\x00'"),
        ("a: 1\nb: \x1b\n", r"2: expected printable text, got '\x1b'"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_config_is_told_by_its_line(load: Load, content: str | bytes, told: str) -> None:
    assert complaint(load, content) == f"config.yaml:{told}"


@pytest.mark.parametrize(("content", "line"), [("a:\n  " + "[" * 2000, 2), ("a: " + "{b: " * 2000, 1)])
def test_nesting_that_is_too_deep_is_told_by_its_line(load: Load, content: str, line: int) -> None:
    # Newer releases of libyaml have a limit of their own, which a document meets before ours.
    assert complaint(load, content) in (
        f"config.yaml:{line}: expected at most 1000 levels of nesting, got more",
        f"config.yaml:{line}: not valid YAML, while increasing flow level, exceeded maximum nesting depth",
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: 1\nb: [\n", 3),
        ("a: 1\nb: 'x\n", 3),
        ("a: 1\n\tb: 2\n", 2),
        ("a: 1\nb: c: d\n", 2),
        ("a: 1\nb: !no!tag x\n", 2),
        ("a: 1\n b: 2\n", 2),
        ("%YAML 3.0\n---\na\n", 1),
    ],
)
def test_broken_yaml_is_told_by_its_line(load: Load, content: str, line: int) -> None:
    assert complaint(load, content).startswith(f"config.yaml:{line}: not valid YAML, ")


@pytest.mark.parametrize("content", ['a: "\\UFFFFFFFF"\n', "%YAML 1." + "9" * 5000 + "\n---\na: 1\n"])
def test_an_escape_that_is_no_character_is_told(load: Load, content: str) -> None:
    assert complaint(load, content).partition(", ")[0] in (
        "config.yaml: not valid YAML",
        "config.yaml:1: not valid YAML",
    )


def test_a_star_without_quotes_is_told_to_need_them(load: Load) -> None:
    told = complaint(load, "images:\n  auto_delete:\n    allowed: [*]\n")

    assert told.startswith("config.yaml:3: not valid YAML, while scanning an alias")
    assert told.endswith("(text that begins with * needs quotes)")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("data_dir: 5", "1: data_dir: expected a path, got 5"),
        ("data_dir: ''", "1: data_dir: expected a path, got ''"),
        ('data_dir: "a\\0b"', r"1: data_dir: expected a path, got 'a\x00b'"),
        ("data_dir: [a]", "1: data_dir: expected a path, got a list"),
        ("images: 5", "1: images: expected a mapping of keys to values, got 5"),
        ("images: ''", '1: images: expected a mapping of keys to values, got ""'),
        ("images:\n  auto_delete:\n    - a", "3: images.auto_delete: expected a mapping of keys to values, got a list"),
        ("hmret: true", "1: hmret: expected a mapping of keys to values, got true"),
        ("hmret: !x", "1: hmret: expected a mapping of keys to values, got nothing"),
        ("hmret:\n  enabled: yes", "2: hmret.enabled: expected true or false, got yes"),
        ("hmret:\n  enabled: on", "2: hmret.enabled: expected true or false, got on"),
        ("hmret:\n  enabled: 1", "2: hmret.enabled: expected true or false, got 1"),
        ("hmret:\n  enabled: 'true'", '2: hmret.enabled: expected true or false, got "true"'),
        ("hmret:\n  enabled: !!str true", "2: hmret.enabled: expected true or false, got true"),
        ("hmret:\n  enabled: {}", "2: hmret.enabled: expected true or false, got a mapping"),
        ("hmret:\n  enabled: |\n    true\n", '2: hmret.enabled: expected true or false, got "true\\n"'),
        ("hmret:\n  max_deletes_per_sweep: -1", f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got -1"),
        ("hmret:\n  max_deletes_per_sweep: 010", f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got 010"),
        ("hmret:\n  max_deletes_per_sweep: 1_0", f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got 1_0"),
        ("hmret:\n  max_deletes_per_sweep: 0x1", f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got 0x1"),
        ("hmret:\n  max_deletes_per_sweep: 1.0", f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got 1.0"),
        ("hmret:\n  max_deletes_per_sweep: '1'", f'2: hmret.max_deletes_per_sweep: expected {COUNT}, got "1"'),
        ("hmret:\n  max_deletes_per_sweep: true", f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got true"),
        ("hmret:\n  max_deletes_per_sweep: 1" + "0" * 18, f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got 1" + "0" * 18),
        ("hmret:\n  max_deletes_per_sweep: " + "9" * 5000, f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got " + "9" * 59 + "…"),
        ("hmret:\n  max_deletes_per_sweep: []", f"2: hmret.max_deletes_per_sweep: expected {COUNT}, got a list"),
        ("hmret:\n  sweep_interval: 60", f"2: hmret.sweep_interval: expected {OWN_DURATION}, got 60"),
        ("hmret:\n  sweep_interval: 1y", f"2: hmret.sweep_interval: expected {OWN_DURATION}, got '1y'"),
        ("hmret:\n  sweep_interval: 0s", "2: hmret.sweep_interval: expected a duration of more than zero, got '0s'"),
        ("images:\n  auto_delete:\n    unused_for: 30d", f"3: images.auto_delete.unused_for: expected {DURATION}, got '30d'; write 720h"),
        ("images:\n  auto_delete:\n    unused_for: 1w12h", f"3: images.auto_delete.unused_for: expected {DURATION}, got '1w12h'; write 180h"),
        ("images:\n  auto_delete:\n    unused_for: 720", f"3: images.auto_delete.unused_for: expected {DURATION}, got 720"),
        ("images:\n  auto_delete:\n    unused_for: 2562048h", f"3: images.auto_delete.unused_for: expected {DURATION}, got '2562048h'"),
        ("images:\n  auto_delete:\n    unused_for: -1h", "3: images.auto_delete.unused_for: expected a duration of more than zero, got '-1h'"),
        ("images:\n  auto_delete:\n    unused_for: 0.9ns", "3: images.auto_delete.unused_for: expected a duration of more than zero, got '0.9ns'"),
        ("images:\n  auto_delete:\n    allowed: 'a,,b'", "3: images.auto_delete.allowed: expected a repository pattern between commas, got 'a,,b'"),
        ("images:\n  auto_delete:\n    allowed: 5", "3: images.auto_delete.allowed: expected a list, each element a repository pattern, got 5"),
        ("images:\n  auto_delete:\n    enabled: yes", "3: images.auto_delete.enabled: expected true or false, got yes"),
        ("images:\n  auto_delete:\n    enabled: 'yes'", '3: images.auto_delete.enabled: expected true or false, got "yes"'),
        ("images:\n  auto_delete:\n    enabled: 'tRUE'", '3: images.auto_delete.enabled: expected true or false, got "tRUE"'),
        ("images:\n  auto_delete:\n    enabled: [true]", "3: images.auto_delete.enabled: expected true or false, got a list"),
        ("hmret:\n  pinned: a, b", "2: hmret.pinned: expected a list, each element a repository pattern, got a, b"),
        ("images:\n  auto_delete:\n    allowed: {a: b}", "3: images.auto_delete.allowed: expected a list, each element a repository pattern, got a mapping"),
        ("images:\n  auto_delete:\n    allowed:\n    - a\n    - 5", "5: images.auto_delete.allowed: expected a repository pattern, got 5"),
        ("images:\n  auto_delete:\n    allowed:\n    - a\n    -", "5: images.auto_delete.allowed: expected a repository pattern, got nothing"),
        ("images:\n  auto_delete:\n    allowed:\n    - [a]", "4: images.auto_delete.allowed: expected a repository pattern, got a list"),
        ("hmret:\n  pinned:\n  - a\n  - ' '", "4: hmret.pinned: a repository pattern must not be empty, got ' '"),
        ("hmret:\n  pinned: &a [*a]", "2: hmret.pinned: expected a repository pattern, got a list"),
        ("hmret:\n  unreadable_references: keep", "2: hmret.unreadable_references: expected suspend or ignore, got 'keep'"),
        ("hmret:\n  control_socket: 5", "2: hmret.control_socket: expected a path, got 5"),
        ('hmret:\n  control_socket: "a\\0"', r"2: hmret.control_socket: expected text, got 'a\x00'"),
        ("hmret:\n  metrics_listen: 9100", "2: hmret.metrics_listen: expected host:port, got 9100"),
        ("hmret:\n  metrics_listen: ':9100'", "2: hmret.metrics_listen: expected host:port, got ':9100'"),
        ("hmret:\n  metrics_listen: h:65536", "2: hmret.metrics_listen: expected host:port, got 'h:65536'"),
        ("hmret:\n  metrics_listen: " + "h" * 5000, "2: hmret.metrics_listen: expected host:port, got '" + "h" * 134 + "…"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_line_and_key(load: Load, content: str, told: str) -> None:
    assert complaint(load, content) == f"config.yaml:{told}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("images:\n  auto_delete:\n    allow: [a]", f"3: images.auto_delete.allow: unknown, did you mean allowed? {AUTO_DELETE_KNOWN}"),
        ("images:\n  auto_delete:\n    zzz: 1", f"3: images.auto_delete.zzz: unknown, {AUTO_DELETE_KNOWN}"),
        ("images:\n  auto_delete:\n    <<: {enabled: true}", f"3: images.auto_delete.<<: unknown, {AUTO_DELETE_KNOWN}"),
        ("images:\n  auto_delete:\n    Enabled:", f"3: images.auto_delete.Enabled: unknown, did you mean enabled? {AUTO_DELETE_KNOWN}"),
        ("images:\n  auto_delete:\n    ? [a]\n    : b", f"3: images.auto_delete.a list: unknown, {AUTO_DELETE_KNOWN}"),
        ("hmret:\n  interval: 1m", f"2: hmret.interval: unknown, did you mean sweep_interval? {HMRET_KNOWN}"),
    ],
)  # fmt: skip
def test_an_unknown_key_of_ours_is_told_with_the_known_ones(load: Load, content: str, told: str) -> None:
    assert complaint(load, content) == f"config.yaml:{told}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("hmret:\nport: 1\nhmret:", "3: hmret: expected once, got it on line 1 and again on line 3"),
        ("data_dir: /a\ndata_dir: /a", "2: data_dir: expected once, got it on line 1 and again on line 2"),
        ("images:\n  auto_delete:\n  x:\n  auto_delete:", "4: images.auto_delete: expected once, got it on line 2 and again on line 4"),
        ("hmret:\n  journal: true\n  'journal': true", "3: hmret.journal: expected once, got it on line 2 and again on line 3"),
        ("images:\n  auto_delete:\n    allowed:\n    allowed: []", "4: images.auto_delete.allowed: expected once, got it on line 3 and again on line 4"),
    ],
)  # fmt: skip
def test_a_key_given_twice_is_told_with_both_lines(load: Load, content: str, told: str) -> None:
    assert complaint(load, content) == f"config.yaml:{told}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("x: &x {hmret: {pinned: [a]}}\n<<: *x", "2: <<: expected hmret to be written out, got it through a merge"),
        ("x: &x {data_dir: /x}\n<<: [{}, *x]", "2: <<: expected data_dir to be written out, got it through a merge"),
        ("x: &x {auto_delete: {}}\nimages:\n  <<: {<<: *x}", "3: images.<<: expected auto_delete to be written out, got it through a merge"),
    ],
)  # fmt: skip
def test_a_merge_that_would_bring_a_key_of_ours_is_refused(load: Load, content: str, told: str) -> None:
    assert complaint(load, content) == f"config.yaml:{told}"


def test_a_wrong_value_is_told_even_where_a_flag_wins_over_it(load: Load) -> None:
    told = complaint(load, "data_dir: 5", flags={"data_dir": "/x"})

    assert told == "config.yaml:1: data_dir: expected a path, got 5"


# What is wrong with the environment and with flags


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("DATA_DIR", "/\udcff", r"expected UTF-8, got '/\udcff'"),
        ("IMAGES__AUTO_DELETE__ENABLED", "yes", "expected true or false, got 'yes'"),
        ("IMAGES__AUTO_DELETE__ENABLED", "tRUE", "expected true or false, got 'tRUE'"),
        ("IMAGES__AUTO_DELETE__UNUSED_FOR", "30d", f"expected {DURATION}, got '30d'; write 720h"),
        ("IMAGES__AUTO_DELETE__ALLOWED", "a,,b", "expected a repository pattern between commas, got 'a,,b'"),
        ("IMAGES__AUTO_DELETE__ALLOWED", "a,", "expected a repository pattern between commas, got 'a,'"),
        ("IMAGES__AUTO_DELETE__ALLOWED", " ", "expected a repository pattern between commas, got ' '"),
        ("HMRET__PINNED", "a,\udcff", r"expected UTF-8, got '\udcff'"),
        ("HMRET__MAX_DELETES_PER_SWEEP", "+1", f"expected {COUNT}, got '+1'"),
        ("HMRET__MAX_DELETES_PER_SWEEP", "\u0661", f"expected {COUNT}, got '\u0661'"),
        ("HMRET__MAX_DELETES_PER_SWEEP", "1\n", rf"expected {COUNT}, got '1\n'"),
        ("HMRET__METRICS_LISTEN", "x", "expected host:port, got 'x'"),
        ("HMRET__SWEEP", "1m", f"unknown, did you mean HMRET__SWEEP_INTERVAL? {HMRET_VARIABLES}"),
        ("IMAGES__AUTO_DELETE__ALLOW", "*", f"unknown, did you mean IMAGES__AUTO_DELETE__ALLOWED? {variables(AUTO_DELETE_KNOWN, 'IMAGES__AUTO_DELETE__')}"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_told_by_its_name(load: Load, variable: str, text: str, told: str) -> None:
    assert complaint(load, environment={variable: text}) == f"environment variable {variable}: {told}"


@pytest.mark.parametrize(
    "spelling", ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"]
)
def test_a_boolean_variable_has_the_spellings_of_go(load: Load, spelling: str) -> None:
    loaded = load(environment={"HMRET__JOURNAL": spelling})

    assert loaded.config.journal is (spelling[0] in "1tT")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("data_dir", "", "--data-dir: expected a path, got ''"),
        ("data_dir", 5, "--data-dir: expected a path, got 5"),
        ("images.auto_delete.enabled", 1, "--enable: expected true or false, got 1"),
        ("hmret.enabled", "yes", "--enable: expected true or false, got 'yes'"),
        ("images.auto_delete.unused_for", "1 h", f"--unused-for: expected {OWN_DURATION}, got '1 h'"),
        ("images.auto_delete.unused_for", "0", "--unused-for: expected a duration of more than zero, got '0'"),
        ("images.auto_delete.unused_for", "x" * 99, f"--unused-for: expected {OWN_DURATION}, got '{'x' * 59}…'"),
        ("images.auto_delete.allowed", "*", "--allow: expected a list, each element a repository pattern, got '*'"),
        ("images.auto_delete.allowed", 5, "--allow: expected a list, each element a repository pattern, got 5"),
        ("images.auto_delete.allowed", ["a", ""], "--allow: a repository pattern must not be empty, got ''"),
        ("images.auto_delete.allowed", [5], "--allow: expected a repository pattern, got 5"),
        ("hmret.pinned", [""], "--pin: a repository pattern must not be empty, got ''"),
        ("hmret.max_deletes_per_sweep", True, f"--max-deletes-per-sweep: expected {COUNT}, got true"),
        ("hmret.max_deletes_per_sweep", "1", f"--max-deletes-per-sweep: expected {COUNT}, got '1'"),
        ("hmret.max_deletes_per_sweep", -1, f"--max-deletes-per-sweep: expected {COUNT}, got -1"),
        ("hmret.max_deletes_per_sweep", 10**18, f"--max-deletes-per-sweep: expected {COUNT}, got a number out of range"),
        ("hmret.metrics_listen", "x\ny", r"--metrics-listen: expected host:port, got 'x\ny'"),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_told_by_its_name(load: Load, key: str, value: object, told: str) -> None:
    assert complaint(load, flags={key: value}) == told


# Warnings


def data_dir_in(folder: pathlib.Path) -> str:
    (folder / "data" / "images").mkdir(parents=True)
    return str(folder / "data")


def test_nothing_is_warned_of_where_nothing_is_odd(load: Load, tmp_path: pathlib.Path) -> None:
    flags = {
        "data_dir": data_dir_in(tmp_path),
        "hmret.enabled": True,
        "images.auto_delete.allowed": ["*"],
        "hmret.pinned": ["docker.io/library/*"],
        "hmret.control_socket": "/run/hmret.sock",
        "hmret.metrics_listen": "127.0.0.1:9100",
    }

    assert load(flags=flags).warnings == ()


def test_a_missing_data_directory_is_warned_of(load: Load, tmp_path: pathlib.Path) -> None:
    loaded = load(flags={"data_dir": f"{tmp_path}/gone"})

    assert loaded.warnings == (
        f"data_dir: '{tmp_path}/gone': no such file or directory, so run does not start",
    )


def test_a_data_directory_that_is_a_file_is_warned_of(load: Load, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()

    loaded = load(flags={"data_dir": f"{tmp_path}/file"})

    assert loaded.warnings == (f"data_dir: '{tmp_path}/file': not a folder, so run does not start",)


def test_a_data_directory_without_images_is_warned_of(load: Load, tmp_path: pathlib.Path) -> None:
    loaded = load(flags={"data_dir": str(tmp_path)})

    assert loaded.warnings == (
        f"data_dir: '{tmp_path}/images': no such file or directory, so there is nothing to do",
    )


def test_a_relative_data_directory_is_warned_of(
    load: Load, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir_in(tmp_path)
    monkeypatch.chdir(tmp_path)

    loaded = load(flags={"data_dir": "data"})

    assert loaded.warnings == ("data_dir: 'data' depends on the folder in which hmret is started",)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"images.auto_delete.allowed": ["alpine"]}, "images.auto_delete.allowed: pattern 'alpine' can never match"),
        ({"hmret.pinned": ["*", "Al\npine"]}, r"hmret.pinned: pattern 'Al\npine' can never match"),
        ({"hmret.enabled": True}, "images.auto_delete.allowed: empty, so nothing is eligible"),
        ({"images.auto_delete.enabled": True}, "images.auto_delete.allowed: empty, so nothing is eligible"),
        ({"hmret.pinned": ["**"]}, "hmret.pinned: covers every repository, so nothing is eligible"),
        ({"hmret.unreadable_references": "ignore"}, "hmret.unreadable_references: ignore is less safe"),
        ({"hmret.control_socket": "/" + "s" * 107}, "hmret.control_socket: longer than the 107 bytes"),
        ({"hmret.metrics_listen": "0.0.0.0:9100"}, "hmret.metrics_listen: 0.0.0.0:9100 is open to every network"),
        ({"hmret.metrics_listen": "[::]:9100"}, "hmret.metrics_listen: [::]:9100 is open to every network"),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant_is_warned_of(
    load: Load, tmp_path: pathlib.Path, flags: dict[str, object], told: str
) -> None:
    warnings = load(flags={"data_dir": data_dir_in(tmp_path), **flags}).warnings

    assert warnings[0].startswith(told)
    assert all(warning.isprintable() for warning in warnings)


@pytest.mark.parametrize(
    ("flags", "environment", "warned"),
    [
        ({}, {"IMAGES__AUTO_DELETE__ENABLED": "true", "HMRET__ENABLED": "true"}, True),
        ({}, {"IMAGES__AUTO_DELETE__ENABLED": "true", "HMRET__ENABLED": "false"}, False),
        ({}, {"IMAGES__AUTO_DELETE__ENABLED": "true"}, False),
        ({}, {"HMRET__ENABLED": "true"}, False),
        ({"hmret.enabled": True}, {"IMAGES__AUTO_DELETE__ENABLED": "true"}, False),
    ],
)
def test_two_controllers_are_warned_of_where_both_are_asked_for(
    load: Load, tmp_path: pathlib.Path, flags: dict[str, object], environment: dict[str, str], warned: bool
) -> None:
    given_flags = {"data_dir": data_dir_in(tmp_path), "images.auto_delete.allowed": ["*"], **flags}

    warnings = load(flags=given_flags, environment=environment).warnings

    assert any("two controllers" in warning for warning in warnings) is warned


@pytest.mark.parametrize(("mode", "warned"), [(0o644, False), (0o664, False), (0o666, True)])
def test_a_config_file_that_everybody_may_write_is_warned_of(
    load: Load, config_file: pathlib.Path, mode: int, warned: bool
) -> None:
    config_file.touch()
    config_file.chmod(mode)

    assert any("every user of this host may write it" in warning for warning in load("").warnings) is warned


def test_a_device_as_the_config_file_is_not_warned_of() -> None:
    loaded = load_settings(config_file="/dev/null", environment={}, flags={})

    assert not any("/dev/null" in warning for warning in loaded.warnings)


def test_warnings_are_told_for_a_config_made_in_python(tmp_path: pathlib.Path, load: Load) -> None:
    config = RetentionConfig(data_dir=data_dir_in(tmp_path), pinned=("*",))

    assert warnings_about(config, load().values) == (
        "hmret.pinned: covers every repository, so nothing is eligible for deletion",
    )


def test_a_size_is_compared_with_a_share_of_the_disk_only_where_its_size_is_told(load: Load) -> None:
    limits = DiskLimits(max_used=10 << 30, count="apparent")
    config, values = RetentionConfig(disk=limits), load().values

    assert warnings_about(config, values) == ()
    assert warnings_about(config, values, disk_bytes=100 << 30) == ()
    (warning,) = warnings_about(config, values, disk_bytes=20 << 30)
    assert warning.startswith("hmret.disk.max_used: hypeman refuses pulls once images take 20% of the disk")


# Nothing but settings and errors of one line


def attempt(
    config_file: pathlib.Path | None = None, environment: Mapping[str, str] | None = None
) -> Settings | str:
    """The settings, or what loading complains of; anything else that is raised fails the test."""
    try:
        return load_settings(
            config_file=None if config_file is None else str(config_file),
            environment=environment or {},
            flags={},
            default_files=(),
        )
    except ConfigError as error:
        return str(error)


def assert_sound(outcome: Settings | str, prefix: str) -> None:
    if isinstance(outcome, str):
        assert outcome.startswith(prefix)
        assert outcome.isprintable()
    else:
        assert json.dumps({key: setting.value for key, setting in outcome.values.items()}).isprintable()
        assert all(warning.isprintable() for warning in outcome.warnings)


def test_a_config_cut_off_anywhere_gives_settings_or_one_line(config_file: pathlib.Path) -> None:
    content = FULL.encode()
    for length in part(range(len(content)), 3):
        config_file.write_bytes(content[:length])
        assert_sound(attempt(config_file), str(config_file))


MARKS = [
    "- ",
    "? ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a ",
    "!t ",
    "> ",
    "'",
    '"',
    "<<: ",
    "  ",
    "\n",
    "\t",
    "#",
    "%YAML 1.2\n",
    "---\n",
    "...\n",
    "\x00",
    "\ufeff",
    "\\",
    "~",
    "0",
    "\u2028",
]

any_bytes = (
    strategies.binary(max_size=80)
    | strategies.text(strategies.characters(), max_size=80).map(
        lambda text: text.encode(errors="surrogatepass")
    )
    | strategies.lists(strategies.sampled_from(FULL.splitlines(keepends=True) + MARKS), max_size=25).map(
        lambda parts: "".join(parts).encode()
    )
)

fuzzed = hypothesis_settings(
    max_examples=bound(100, 300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


@fuzzed
@given(content=any_bytes)
@example(content=b'hmret: {control_socket: "\\ud800"}')
def test_any_bytes_give_settings_or_one_line(config_file: pathlib.Path, content: bytes) -> None:
    config_file.write_bytes(content)

    assert_sound(attempt(config_file), str(config_file))


@fuzzed
@given(
    environment=strategies.dictionaries(
        strategies.sampled_from([key.upper().replace(".", "__") for key in KEYS]),
        strategies.text(strategies.characters(exclude_characters="\0"), max_size=30),
        min_size=1,
    )
)
def test_any_environment_gives_settings_or_one_line(environment: dict[str, str]) -> None:
    assert_sound(attempt(environment=environment), "environment variable ")
