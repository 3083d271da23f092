"""What settings are taken, what is refused, and how it is said."""

import math
import pathlib
from datetime import timedelta
from typing import Any

import attrs
import pytest

from hmret.model.errors import ConfigError
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.window import DeletionWindow


class BytesPath:
    """A path that is made of bytes."""

    def __fspath__(self) -> bytes:
        return b"/var"


def refusal(**settings: Any) -> str:
    """Return the message with which a RetentionConfig is refused."""
    with pytest.raises(ConfigError) as refused:
        RetentionConfig(**settings)
    return str(refused.value)


def auto_delete_refusal(**settings: Any) -> str:
    """Return the message with which an AutoDelete is refused."""
    with pytest.raises(ConfigError) as refused:
        AutoDelete(**settings)
    return str(refused.value)


def test_by_default_nothing_is_swept_and_nothing_is_eligible() -> None:
    config = RetentionConfig()
    assert not config.active
    assert config.auto_delete == AutoDelete(enabled=False, unused_for=timedelta(days=30), allowed=())


def test_the_other_defaults_are_those_of_the_contract() -> None:
    assert attrs.asdict(RetentionConfig(), recurse=False) == {
        "data_dir": "/var/lib/hypeman",
        "auto_delete": AutoDelete(),
        "registry_url": "localhost:8080",
        "builder_image": "",
        "enabled": None,
        "sweep_interval": timedelta(minutes=1),
        "pinned": (),
        "max_deletes_per_sweep": 0,
        "max_bytes_per_sweep": 0,
        "rules": (),
        "keep_latest": 0,
        "min_age": timedelta(0),
        "disk": DiskLimits(),
        "quarantine": timedelta(0),
        "window": DeletionWindow(),
        "brake": 0.5,
        "brake_min_images": 20,
        "brake_for": timedelta(0),
        "delete_unpullable": False,
        "unreadable_references": "suspend",
        "access_time": "gaps",
        "leases": "suspend",
        "control_socket": "",
        "control_socket_group": "",
        "control_socket_group_writes": False,
        "metrics_listen": "",
        "journal": True,
        "fleet": FleetConfig(),
    }


@pytest.mark.parametrize(
    ("enabled", "auto_delete", "active"),
    [
        (None, False, False),
        (None, True, True),
        (True, False, True),
        (True, True, True),
        (False, False, False),
        (False, True, False),
    ],
)
def test_our_own_switch_counts_where_it_is_set(enabled: bool | None, auto_delete: bool, active: bool) -> None:
    assert RetentionConfig(enabled=enabled, auto_delete=AutoDelete(enabled=auto_delete)).active is active


def test_a_config_cannot_be_changed() -> None:
    config = RetentionConfig()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.journal = False  # type: ignore[misc]


@pytest.mark.parametrize("value", [0, 1, "true", "false", "", math.nan, [], ...])
@pytest.mark.parametrize("key", ["enabled", "journal"])
def test_a_switch_that_is_neither_true_nor_false_is_refused(key: str, value: Any) -> None:
    assert refusal(**{key: value}) == f"{key}: expected true or false, got {value!r}"


@pytest.mark.parametrize("value", [None, 0, 1, "true"])
def test_auto_delete_enabled_is_true_or_false(value: Any) -> None:
    assert auto_delete_refusal(enabled=value) == f"enabled: expected true or false, got {value!r}"


def test_journal_has_no_unset_value() -> None:
    assert refusal(journal=None) == "journal: expected true or false, got None"


@pytest.mark.parametrize("value", [None, 720, 1.5, math.nan, math.inf, "720h", b"1h"])
def test_a_duration_that_is_no_timedelta_is_refused(value: Any) -> None:
    assert auto_delete_refusal(unused_for=value) == f"unused_for: expected a timedelta, got {value!r}"
    assert refusal(sweep_interval=value) == f"sweep_interval: expected a timedelta, got {value!r}"


@pytest.mark.parametrize("value", [timedelta(0), timedelta(microseconds=-1), timedelta.min])
def test_a_duration_of_zero_or_less_is_refused(value: timedelta) -> None:
    assert auto_delete_refusal(unused_for=value) == f"unused_for: must be more than zero, got {value}"
    assert refusal(sweep_interval=value) == f"sweep_interval: must be more than zero, got {value}"


@pytest.mark.parametrize("value", [timedelta(microseconds=1), timedelta.max])
def test_any_duration_of_more_than_zero_is_taken(value: timedelta) -> None:
    assert AutoDelete(unused_for=value).unused_for == value
    assert RetentionConfig(sweep_interval=value).sweep_interval == value


def test_patterns_are_trimmed() -> None:
    assert AutoDelete(allowed=[" ghcr.io/* ", "*\n"]).allowed == ("ghcr.io/*", "*")
    assert RetentionConfig(pinned=(text for text in (" a.io/b",))).pinned == ("a.io/b",)


@pytest.mark.parametrize("value", ["*", "", None, 5, {"a": 1}])
def test_patterns_that_are_no_list_are_refused(value: Any) -> None:
    expected = f"expected a list of repository patterns, got {value!r}"
    assert auto_delete_refusal(allowed=value) == f"allowed: {expected}"
    assert refusal(pinned=value) == f"pinned: {expected}"


@pytest.mark.parametrize("value", [5, None, b"*", ["*"]])
def test_a_pattern_that_is_no_text_is_refused(value: Any) -> None:
    assert (
        auto_delete_refusal(allowed=["*", value]) == f"allowed: expected a repository pattern, got {value!r}"
    )
    assert refusal(pinned=[value]) == f"pinned: expected a repository pattern, got {value!r}"


@pytest.mark.parametrize("value", ["", "  ", "\n"])
def test_an_empty_pattern_is_refused(value: str) -> None:
    assert (
        auto_delete_refusal(allowed=["*", value])
        == f"allowed: a repository pattern must not be empty, got {value!r}"
    )
    assert refusal(pinned=[value]) == f"pinned: a repository pattern must not be empty, got {value!r}"


@pytest.mark.parametrize("value", [-1, 1.0, math.nan, math.inf, True, False, None, "3"])
def test_a_count_that_is_no_whole_number_from_0_is_refused(value: Any) -> None:
    message = refusal(max_deletes_per_sweep=value)
    assert message == f"max_deletes_per_sweep: expected a whole number, 0 or more, got {value!r}"


@pytest.mark.parametrize("value", [0, 1, 10**30])
def test_a_whole_number_from_0_is_taken(value: int) -> None:
    assert RetentionConfig(max_deletes_per_sweep=value).max_deletes_per_sweep == value


@pytest.mark.parametrize("value", ["", "Ignore", "ignore ", None, True, []])
def test_unreadable_references_suspend_or_are_ignored_and_nothing_else(value: Any) -> None:
    assert (
        refusal(unreadable_references=value)
        == f"unreadable_references: expected suspend or ignore, got {value!r}"
    )


@pytest.mark.parametrize("value", ["", "GAPS", "sometimes", None, True])
def test_access_times_count_in_gaps_always_or_never_and_nothing_else(value: Any) -> None:
    assert refusal(access_time=value) == f"access_time: expected gaps or always or never, got {value!r}"


def test_unreadable_references_can_be_ignored() -> None:
    assert RetentionConfig(unreadable_references="ignore").unreadable_references == "ignore"


@pytest.mark.parametrize("value", [None, 5, b"/run/x", "/run/\0"])
def test_a_control_socket_that_is_no_text_is_refused(value: Any) -> None:
    assert refusal(control_socket=value) == f"control_socket: expected text, got {value!r}"


def test_a_control_socket_is_taken() -> None:
    assert RetentionConfig(control_socket="/run/hmret.sock").control_socket == "/run/hmret.sock"


@pytest.mark.parametrize(
    "value",
    ["", "localhost:9464", "127.0.0.1:0", "[::1]:65535", "[::ffff:10.0.0.1]:1", "metrics.example:09464"],
)
def test_a_host_and_port_is_taken(value: str) -> None:
    assert RetentionConfig(metrics_listen=value).metrics_listen == value


@pytest.mark.parametrize(
    "value",
    [
        "9464",
        ":9464",
        "localhost",
        "localhost:",
        "localhost:65536",
        "localhost:123456",
        "localhost:http",
        "localhost:-1",
        "localhost:9464\n",
        "local host:9464",
        "::1:9464",
        "[]:9464",
        "http://localhost:9464",
        "localhost:\u0661\u0662",
    ],
)
def test_what_is_no_host_and_port_is_refused(value: str) -> None:
    assert refusal(metrics_listen=value) == f"metrics_listen: expected host:port, got {value!r}"


@pytest.mark.parametrize("value", [None, 9464, "a\0:1"])
def test_a_listen_address_that_is_no_text_is_refused(value: Any) -> None:
    assert refusal(metrics_listen=value) == f"metrics_listen: expected text, got {value!r}"


def test_a_data_directory_is_a_text_or_a_path() -> None:
    assert RetentionConfig(data_dir="/srv/x").data_dir == "/srv/x"
    assert RetentionConfig(data_dir=pathlib.PurePosixPath("/srv/x")).data_dir == "/srv/x"


@pytest.mark.parametrize("value", ["", "/srv\0", None, 5, b"/srv", BytesPath()])
def test_a_data_directory_that_is_no_path_is_refused(value: Any) -> None:
    assert refusal(data_dir=value) == f"data_dir: expected a path, got {value!r}"


@pytest.mark.parametrize("value", [None, True, {"enabled": True}])
def test_auto_delete_settings_of_another_type_are_refused(value: Any) -> None:
    assert refusal(auto_delete=value) == f"auto_delete: expected an AutoDelete, got {value!r}"


@pytest.mark.parametrize("value", [timedelta(0), timedelta(microseconds=1), timedelta.max])
@pytest.mark.parametrize("key", ["min_age", "quarantine", "brake_for"])
def test_a_duration_that_may_be_zero_is_taken(key: str, value: timedelta) -> None:
    assert getattr(RetentionConfig(**{key: value}), key) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["min_age", "quarantine", "brake_for"])
def test_a_duration_of_less_than_zero_is_refused(key: str) -> None:
    value = timedelta(microseconds=-1)
    assert refusal(**{key: value}) == f"{key}: must be zero or more, got {value}"
    assert refusal(**{key: 0}) == f"{key}: expected a timedelta, got 0"


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1, 1.0])
def test_a_share_from_0_to_1_is_taken(value: float) -> None:
    assert RetentionConfig(brake=value).brake == value


@pytest.mark.parametrize("value", [-0.1, 1.1, 50, math.nan, math.inf, True, None, "50%"])
def test_a_share_that_is_none_is_refused(value: Any) -> None:
    assert refusal(brake=value) == f"brake: expected a share from 0 to 1, got {value!r}"


@pytest.mark.parametrize("value", [-1, 1.0, True, None, "3"])
@pytest.mark.parametrize("key", ["max_bytes_per_sweep", "keep_latest", "brake_min_images"])
def test_each_count_is_a_whole_number_from_0(key: str, value: Any) -> None:
    assert refusal(**{key: value}) == f"{key}: expected a whole number, 0 or more, got {value!r}"


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_whether_unpullable_images_may_go_is_true_or_false(value: Any) -> None:
    assert refusal(delete_unpullable=value) == f"delete_unpullable: expected true or false, got {value!r}"


@pytest.mark.parametrize(("key", "kind"), [("disk", "DiskLimits"), ("window", "DeletionWindow")])
@pytest.mark.parametrize("value", [None, {}, 0.85])
def test_parts_of_another_type_are_refused(key: str, kind: str, value: Any) -> None:
    assert refusal(**{key: value}) == f"{key}: expected a {kind}, got {value!r}"
