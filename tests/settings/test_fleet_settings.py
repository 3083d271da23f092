"""The settings of a fleet from the config file and the environment, and the error for each mistake in them."""

from datetime import timedelta
from typing import Any

import pytest

from hmret.model.errors import ConfigError
from hmret.model.fleet import CopyRules
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.settings.load import Settings, load_settings
from settings.loading import Load, complaint

pytestmark = pytest.mark.usefixtures("each_yaml_loader")

DURATION = "a duration of at most 2562047h, such as 30d, 1w, 720h or 1h30m"
URL = "a URL such as http://10.0.0.1:2379"
NAME = "up to 64 letters, digits, dots, dashes and underscores, the first a letter or digit"
COPIES = "a whole number from 0 to 40"
ENDPOINTS = '["http://10.0.0.1:2379"]'


def load_on(node_name: str, **environment: str) -> Settings:
    """Load settings on a host that calls itself so."""
    return load_settings(
        config_file=None,
        environment=environment,
        flags={},
        default_files=(),
        own_file=None,
        node_name=lambda: node_name,
    )


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ("endpoints: []", "endpoints", ()),
        (
            "endpoints: [http://etcd-1, 'https://[::1]:2379/', http://etcd-1]",
            "endpoints",
            ("http://etcd-1", "https://[::1]:2379"),
        ),
        ("name: " + "a" * 64, "name", "a" * 64),
        ("host: 0-a_B.c", "host", "0-a_B.c"),
        ("min_copies: 0", "min_copies", 0),
        ("min_copies: 40", "min_copies", 40),
        ("last_copies_for: never", "last_copies_for", "never"),
        ("last_copies_for: 30d", "last_copies_for", timedelta(days=30)),
        ("hot_for: 0", "hot_for", timedelta(0)),
        ("hot_for: 1w", "hot_for", timedelta(weeks=1)),
        ("hot_copies: all", "hot_copies", "all"),
        ("hot_copies: 0", "hot_copies", 0),
        ("session_ttl: 5s", "session_ttl", timedelta(seconds=5)),
        ("timeout: 1ms", "timeout", timedelta(milliseconds=1)),
        ("cert_file: /etc/both.pem", "cert_file", "/etc/both.pem"),
    ],
)
def test_a_setting_of_the_fleet_is_read(load: Load, written: str, key: str, value: object) -> None:
    assert getattr(load(f"hmret:\n  fleet:\n    {written}\n").config.fleet, key) == value


@pytest.mark.parametrize(
    ("written", "key", "problem"),
    [
        ("endpoints: http://etcd", "endpoints", f"expected a list, each element {URL}, got http://etcd"),
        ("endpoints: [etcd:2379]", "endpoints", f"expected {URL}, got 'etcd:2379'"),
        ("endpoints: [http://etcd/v3]", "endpoints", f"expected {URL}, got 'http://etcd/v3'"),
        (
            "endpoints: [http://root:secret@etcd]",
            "endpoints",
            f"expected {URL}, got 'http://root:secret@etcd'",
        ),
        ("endpoints: ['http://etcd:65536']", "endpoints", f"expected {URL}, got 'http://etcd:65536'"),
        ("endpoints: ['']", "endpoints", f"expected {URL}, got ''"),
        ("endpoints: [2379]", "endpoints", f"expected {URL}, got 2379"),
        ("name: ''", "name", f"expected {NAME}, got ''"),
        ("name: a/b", "name", f"expected {NAME}, got 'a/b'"),
        ("name: .a", "name", f"expected {NAME}, got '.a'"),
        ("name: 7", "name", "expected a name, got 7"),
        ("host: h\u00f6st", "host", f"expected {NAME}, got 'h\u00f6st'"),
        ("min_copies: -1", "min_copies", f"expected {COPIES}, got -1"),
        ("min_copies: 41", "min_copies", f"expected {COPIES}, got 41"),
        ("min_copies: all", "min_copies", f"expected {COPIES}, got all"),
        ("min_copies: true", "min_copies", f"expected {COPIES}, got true"),
        ("last_copies_for: 0s", "last_copies_for", "expected a duration of more than zero, got '0s'"),
        ("last_copies_for: ever", "last_copies_for", f"expected never, or {DURATION}, got 'ever'"),
        ("hot_for: -1s", "hot_for", "expected a duration of zero or more, got '-1s'"),
        ("hot_copies: some", "hot_copies", f"expected all, or {COPIES}, got some"),
        ("hot_copies: 41", "hot_copies", f"expected all, or {COPIES}, got 41"),
        ("yields_to_pressure: 1", "yields_to_pressure", "expected true or false, got 1"),
        ("session_ttl: 4999ms", "session_ttl", "expected a duration of 5 seconds or more, got '4999ms'"),
        ("timeout: 0s", "timeout", "expected a duration of more than zero, got '0s'"),
        ("ca_file: 1", "ca_file", "expected a path, got 1"),
        ("key_file: /etc/host.key", "key_file", "expected a cert_file beside it, got none"),
        ("user: hmret", "user", "expected a password_file beside it, got none"),
        ("password_file: /etc/p", "password_file", "expected a user beside it, got none"),
    ],
)
def test_a_mistake_is_told_with_its_file_line_and_key(
    load: Load, written: str, key: str, problem: str
) -> None:
    assert (
        complaint(load, f"hmret:\n  fleet:\n    {written}\n")
        == f"config.yaml:3: hmret.fleet.{key}: {problem}"
    )


def test_an_unknown_key_is_refused(load: Load) -> None:
    told = complaint(load, "hmret:\n  fleet:\n    endpoint: []\n")

    assert told.startswith(
        "config.yaml:3: hmret.fleet.endpoint: unknown, did you mean endpoints? known are endpoints, name,"
    )


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("ENDPOINTS", "http://a:1,https://b", "endpoints", ("http://a:1", "https://b")),
        ("MIN_COPIES", "2", "min_copies", 2),
        ("HOT_COPIES", "all", "hot_copies", "all"),
        ("HOT_COPIES", "7", "hot_copies", 7),
        ("LAST_COPIES_FOR", "never", "last_copies_for", "never"),
        ("SESSION_TTL", "90s", "session_ttl", timedelta(seconds=90)),
    ],
)
def test_variables_set_the_fleet_too(load: Load, variable: str, text: str, key: str, value: object) -> None:
    loaded = load(environment={f"HMRET__FLEET__{variable}": text})

    assert getattr(loaded.config.fleet, key) == value


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("MIN_COPIES", "41", f"expected {COPIES}, got 41"),
        ("HOT_COPIES", "one", f"expected all, or {COPIES}, got 'one'"),
        ("ENDPOINTS", "etcd", f"expected {URL}, got 'etcd'"),
    ],
)
def test_a_mistake_in_a_variable_names_it(load: Load, variable: str, text: str, problem: str) -> None:
    name = f"HMRET__FLEET__{variable}"

    assert complaint(load, environment={name: text}) == f"environment variable {name}: {problem}"


def test_a_host_in_a_fleet_bears_its_own_name_where_none_is_given() -> None:
    loaded = load_on("web-1.example", HMRET__FLEET__ENDPOINTS="http://etcd")

    assert loaded.config.fleet.host == "web-1.example"
    assert loaded.values["hmret.fleet.host"].value == "web-1.example"
    assert loaded.values["hmret.fleet.host"].source == "default"


def test_without_a_fleet_no_host_has_a_name() -> None:
    assert load_on("web 1").config == RetentionConfig()


def test_a_host_whose_own_name_cannot_be_one_needs_a_setting() -> None:
    with pytest.raises(ConfigError) as caught:
        load_on("web 1", HMRET__FLEET__ENDPOINTS="http://etcd")

    assert (
        str(caught.value)
        == f"hmret.fleet.host: expected a name, as this host's own is not {NAME}, got 'web 1'"
    )


@pytest.mark.parametrize(
    ("written", "warning"),
    [
        (
            "min_copies: 2",
            "hmret.fleet.min_copies: has no effect while hmret.fleet.endpoints is empty, which means no fleet",
        ),
        (
            f"endpoints: {ENDPOINTS}\n    user: hmret\n    password_file: /etc/p",
            "hmret.fleet.password_file: the password goes over the network as plain text to an endpoint with http://",
        ),
        (
            f"endpoints: {ENDPOINTS}\n    hot_copies: 2",
            "hmret.fleet.hot_copies: has no effect while hmret.fleet.hot_for is 0, with which no image is hot",
        ),
    ],
)
def test_what_is_probably_not_meant_is_pointed_out(load: Load, written: str, warning: str) -> None:
    assert warning in load(f"hmret:\n  fleet:\n    {written}\n").warnings


def test_a_plain_fleet_gives_no_warning(load: Load) -> None:
    loaded = load(f"hmret:\n  fleet:\n    endpoints: {ENDPOINTS}\n    host: h\n")

    assert not [one for one in loaded.warnings if one.startswith("hmret.fleet")]


def test_the_rules_of_a_host_are_those_of_its_settings() -> None:
    assert FleetConfig().rules == CopyRules()
    assert FleetConfig(
        min_copies=2,
        last_copies_for="never",
        hot_for=timedelta(hours=1),
        hot_copies="all",
        yields_to_pressure=True,
    ).rules == CopyRules(
        min_copies=2,
        last_copies_for=None,
        hot_for=timedelta(hours=1),
        hot_copies=None,
        yields_to_pressure=True,
    )


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"endpoints": "http://etcd"},
            "endpoints: expected a list of URLs such as http://10.0.0.1:2379, got 'http://etcd'",
        ),
        ({"endpoints": [1]}, f"endpoints: expected {URL}, got 1"),
        ({"host": "a" * 65}, f"host: expected {NAME}, got '{'a' * 65}'"),
        ({"name": None}, "name: expected text, got None"),
        ({"min_copies": True}, f"min_copies: expected {COPIES}, got True"),
        ({"hot_copies": "never"}, f"hot_copies: expected all, or {COPIES}, got 'never'"),
        ({"session_ttl": timedelta(seconds=4)}, "session_ttl: must be 5 seconds or more, got 0:00:04"),
    ],
)
def test_an_embedder_is_told_of_a_mistake_too(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FleetConfig(**given)

    assert str(caught.value) == problem
