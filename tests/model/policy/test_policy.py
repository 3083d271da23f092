"""What a configuration comes to for `plan`."""

from datetime import timedelta

from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import AutoDelete, RetentionConfig


def test_a_policy_has_what_its_configuration_states() -> None:
    config = RetentionConfig(
        data_dir="/data",
        auto_delete=AutoDelete(
            enabled=True, unused_for=timedelta(days=30, microseconds=1), allowed=("ghcr.io/kernel/*",)
        ),
        pinned=("ghcr.io/kernel/base",),
        max_deletes_per_sweep=7,
    )
    policy = Policy.of(config)
    assert policy.unused_for_ns == 30 * 24 * 3600 * 10**9 + 1000
    assert policy.allowed.texts == ("ghcr.io/kernel/*",)
    assert policy.pinned.texts == ("ghcr.io/kernel/base",)
    assert policy.max_deletes == 7


def test_by_default_nothing_is_allowed_and_nothing_limited() -> None:
    policy = Policy.of(RetentionConfig(data_dir="/data"))
    assert not policy.allowed.matches("docker.io/library/alpine")
    assert policy.max_deletes == 0
