"""The names of a fleet's keys."""

import pytest

from hmret.fleet.keys import FleetKeys, all_below, generation_key, host_of, is_holder, make_holder
from hmret.fleet.store import Range
from hmret.model.policy.fleet import is_fleet_name
from support.builders import digest

KEYS = FleetKeys("production", "g1")
HOLDER = "kvm-1.example.org.0a1b2c3d"
A = digest("a")


def test_keys_are_named_as_others_may_read_them() -> None:
    assert generation_key("production") == "/hmret/1/production/generation"
    assert [
        KEYS.settings,
        KEYS.session(HOLDER),
        KEYS.mark(HOLDER),
        KEYS.live(HOLDER),
        KEYS.summary(HOLDER),
        KEYS.holding(A, HOLDER),
        KEYS.used(A),
        KEYS.drain(HOLDER),
        KEYS.token(7),
        KEYS.rolled_back,
        KEYS.policy("00ff"),
        KEYS.young("00ff"),
    ] == [
        f"/hmret/1/production/g1/{rest}"
        for rest in (
            "settings",
            f"s/{HOLDER}",
            f"e/{HOLDER}",
            f"l/{HOLDER}",
            f"i/{HOLDER}",
            f"d/{A}/{HOLDER}",
            f"d/{A}/!used",
            f"drain/{HOLDER}",
            "t/07",
            "rolled_back",
            "p/00ff",
            "p/00ff/young",
        )
    ]


def test_the_last_use_sorts_before_every_holder() -> None:
    assert KEYS.used(A) < KEYS.holding(A, "0.00000000")


def test_keys_are_read_back() -> None:
    assert KEYS.holding_of(KEYS.holding(A, HOLDER)) == (A, HOLDER)
    assert KEYS.used_of(KEYS.used(A)) == A
    for key in (
        KEYS.session(HOLDER),
        KEYS.mark(HOLDER),
        KEYS.live(HOLDER),
        KEYS.summary(HOLDER),
        KEYS.drain(HOLDER),
    ):
        assert KEYS.holder_of(key) == HOLDER
    assert KEYS.token_of(KEYS.token(7)) == 7


def test_keys_of_another_kind_are_not_read() -> None:
    assert KEYS.holding_of(KEYS.used(A)) is None
    assert KEYS.holding_of(KEYS.live(HOLDER)) is None
    assert KEYS.used_of(KEYS.holding(A, HOLDER)) is None
    assert KEYS.holder_of(KEYS.settings) is None
    assert KEYS.holder_of(f"{KEYS.lives}not a holder") is None
    assert KEYS.token_of(f"{KEYS.tokens}seven") is None
    assert KEYS.token_of(FleetKeys("production", "g2").token(7)) is None


def test_a_holder_is_a_host_with_its_data_directory() -> None:
    assert make_holder("kvm-1.example.org", "0a1b2c3d") == HOLDER
    assert host_of(HOLDER) == "kvm-1.example.org"


@pytest.mark.parametrize("text", ["a", "kvm-1.example.org", "K_1", "a" * 64])
def test_what_can_be_a_name(text: str) -> None:
    assert is_fleet_name(text)
    assert is_holder(f"{text}.0a1b2c3d")


@pytest.mark.parametrize("text", ["", ".a", "-a", "a/b", "a b", "ä", "a" * 65, "a\n"])
def test_what_cannot_be_a_name(text: str) -> None:
    assert not is_fleet_name(text)
    assert not is_holder(f"{text}.0a1b2c3d")


@pytest.mark.parametrize("text", ["kvm-1", "kvm-1.0a1b2c3", "kvm-1.0A1B2C3D", "kvm-1.0a1b2c3d/"])
def test_what_cannot_be_a_holder(text: str) -> None:
    assert not is_holder(text)


def test_all_keys_below_a_prefix_are_one_range() -> None:
    assert all_below("/a/l/", limit=3) == Range("/a/l/", "/a/l0", limit=3)
