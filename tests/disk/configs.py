"""Configurations of every kind, as hypothesis makes them."""

from datetime import timedelta
from typing import Literal

from hypothesis import strategies as st

from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.policy.fleet import FleetConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.rules import Rule
from hmret.model.policy.window import DeletionWindow

__all__ = ["configs"]

_LONGEST = timedelta(days=365 * 270)  # what seconds as a float hold to the microsecond

_patterns = st.lists(
    st.sampled_from(["*", "ghcr.io/kernel/*", "docker.io/library/alpine", "*/base", "a.b/ü: #,"])
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12).filter(
        lambda text: bool(text.strip())
    ),
    max_size=3,
)
_counts = st.integers(0, 10**18 - 1)
_shares = (
    st.floats(0, 1)
    | st.sampled_from([0, 1, 0.85, 0.855, 1 / 3, 5e-324])
    | st.decimals(0, 1, places=3).map(float)
)
_windows = st.timedeltas(timedelta(microseconds=1), _LONGEST)
_durations = st.just(timedelta(0)) | _windows
_clocks = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
_spans = st.builds("{}-{}".format, _clocks, _clocks | st.just("24:00")).filter(
    lambda span: len(set(span.split("-"))) > 1
)


@st.composite
def _limits(draw: st.DrawFn) -> DiskLimits:
    high = draw(_shares)
    return DiskLimits(
        high_watermark=high,
        low_watermark=draw(st.none() | _shares.map(lambda share: share * high)),
        max_used=draw(_counts | _shares.map(float)),
        count=draw(st.sampled_from(("blocks", "apparent"))),
        min_unused_for=draw(_windows),
    )


@st.composite
def _rules(draw: st.DrawFn) -> Rule:
    never: Literal["never"] = "never"
    window = draw(st.none() | st.just(never) | _windows)
    return Rule(
        match=draw(_patterns.filter(bool)),
        tags=draw(_patterns),
        unused_for=window,
        keep_latest=draw(_counts if window is None else st.none() | _counts),
    )


@st.composite
def _fleets(draw: st.DrawFn) -> FleetConfig:
    endpoints = draw(
        st.lists(
            st.sampled_from(["http://10.0.0.1:2379", "https://etcd-2.lab", "http://[::1]:2379"]), max_size=3
        )
    )
    all_of_them: Literal["all"] = "all"
    never: Literal["never"] = "never"
    has_user = draw(st.booleans())
    return FleetConfig(
        endpoints=endpoints,
        name=draw(st.sampled_from(["default", "Lab_1.b-c"])),
        host=draw(st.sampled_from(["host-1", "a"] if endpoints else ["", "host-1"])),
        min_copies=draw(st.integers(0, 40)),
        last_copies_for=draw(st.just(never) | _windows),
        hot_for=draw(_durations),
        hot_copies=draw(st.just(all_of_them) | st.integers(0, 40)),
        yields_to_pressure=draw(st.booleans()),
        session_ttl=draw(st.timedeltas(timedelta(seconds=5), _LONGEST)),
        timeout=draw(_windows),
        ca_file=draw(st.sampled_from(["", "/etc/ca.pem"])),
        cert_file=draw(st.sampled_from(["", "/etc/host.pem"])),
        user="hmret" if has_user else "",
        password_file="/etc/password" if has_user else "",
    )


def configs() -> st.SearchStrategy[RetentionConfig]:
    """Make configurations in which every setting may be another than the default."""
    return st.builds(
        RetentionConfig,
        data_dir=st.sampled_from(["/var/lib/hypeman", "/srv/x y"]),
        auto_delete=st.builds(AutoDelete, enabled=st.booleans(), unused_for=_windows, allowed=_patterns),
        enabled=st.none() | st.booleans(),
        sweep_interval=_windows,
        pinned=_patterns,
        max_deletes_per_sweep=_counts,
        max_bytes_per_sweep=_counts,
        rules=st.lists(_rules(), max_size=3),
        keep_latest=_counts,
        min_age=_durations,
        disk=_limits(),
        quarantine=_durations,
        window=st.builds(
            DeletionWindow,
            hours=st.lists(_spans, max_size=3),
            time_zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
            yields_to_pressure=st.booleans(),
        ),
        brake=_shares,
        brake_min_images=_counts,
        brake_for=_durations,
        delete_unpullable=st.booleans(),
        unreadable_references=st.sampled_from(["suspend", "ignore"]),
        access_time=st.sampled_from(["gaps", "always", "never"]),
        leases=st.sampled_from(["suspend", "when-offered"]),
        control_socket=st.sampled_from(["", "/run/hmret.sock"]),
        metrics_listen=st.sampled_from(["", "127.0.0.1:9874"]),
        journal=st.booleans(),
        fleet=_fleets(),
    )
