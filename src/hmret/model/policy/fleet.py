"""How a host takes part in a fleet, which has its common state in etcd."""

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal

import attrs

from hmret.model.errors import ConfigError
from hmret.model.fleet import CopyRules
from hmret.model.policy.kinds import (
    BOOLEAN,
    DURATION,
    PATH,
    URLS,
    WINDOW,
    ZERO_DURATION,
    Kind,
    count_up_to,
    declare,
    duration_from,
    setting,
    text_of,
)
from hmret.model.values import frozen

MOST_COPIES = 40
"""More copies than this cannot be compared in one transaction of etcd."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_WORDS = "up to 64 letters, digits, dots, dashes and underscores, the first a letter or digit"
_URL = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/?#@\\]+)(?::([0-9]{1,5}))?/?", re.ASCII)
_LAST_PORT = 65535


def is_fleet_name(text: str) -> bool:
    """Return whether a text can name a fleet or a host of one."""
    return _NAME.fullmatch(text) is not None


def _endpoints(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"endpoints: expected a list of URLs such as http://10.0.0.1:2379, got {value!r}")
    urls: tuple[object, ...] = tuple(value)
    for url in urls:
        match = _URL.fullmatch(url) if isinstance(url, str) else None
        if match is None or int(match[1] or 0) > _LAST_PORT:
            raise ConfigError(f"endpoints: expected a URL such as http://10.0.0.1:2379, got {url!r}")
    return tuple(dict.fromkeys(str(url).rstrip("/") for url in urls))


def _name_problem(value: object) -> str | None:
    if not isinstance(value, str):
        return f"expected text, got {value!r}"
    return None if is_fleet_name(value) else f"expected {_NAME_WORDS}, got {value!r}"


_FLEET_NAME = Kind("name", _name_problem, expected="a name")
_HOST_NAME = attrs.evolve(_FLEET_NAME, problem_of=lambda value: None if value == "" else _name_problem(value))


def _of_engine(kind: Any, default: object) -> Any:
    """Make a field of which a running engine keeps the value with which it started."""
    return setting(kind, default, is_policy=False, needs_restart=True)


@frozen(kw_only=True)
class FleetConfig:
    """The fleet that this host is part of; `hmret.fleet` in the config.

    Raises:
        ConfigError: a value is not usable, or one has no effect without another that is missing.
    """

    endpoints: tuple[str, ...] = attrs.field(
        default=(), converter=_endpoints, metadata=declare(URLS, is_policy=False, needs_restart=True)
    )
    """The URLs of etcd's members, as `http://10.0.0.1:2379`; empty: this host is in no fleet."""
    name: str = _of_engine(_FLEET_NAME, "default")
    """The name of the fleet: letters, digits, dots, dashes and underscores."""
    host: str = _of_engine(_HOST_NAME, "")
    """The name of this host in the fleet, of the same characters; empty: the host's own name."""
    min_copies: int = _of_engine(count_up_to(MOST_COPIES), 1)
    """How many live hosts elsewhere must have an image before it is deleted here, at most 40; the larger of this and
    the fleet's own setting counts; 0: the fleet's own setting alone.
    """
    last_copies_for: timedelta | Literal["never"] = _of_engine(WINDOW, timedelta(hours=2160))
    """How long an image must have been unused anywhere before its last copies go too; `never`: they stay."""
    hot_for: timedelta = _of_engine(ZERO_DURATION, timedelta(0))
    """An image that was used anywhere in the fleet within this time is hot; 0: none is."""
    hot_copies: int | Literal["all"] = _of_engine(count_up_to(MOST_COPIES, or_word="all"), 3)
    """How many live hosts elsewhere must have a hot image before it is deleted here, at most 40; `all`: it is not
    deleted here; 0: as any other image.
    """
    yields_to_pressure: bool = _of_engine(BOOLEAN, False)
    """Whether the limits of the disk may take last copies; pause and deletion tokens hold all the same."""
    session_ttl: timedelta = _of_engine(
        duration_from(timedelta(seconds=5), "5 seconds"), timedelta(seconds=60)
    )
    """How long this host's copies count after it was last heard from; 5 seconds or more."""
    timeout: timedelta = _of_engine(DURATION, timedelta(seconds=2))
    """How long one request to etcd may take; more than zero."""
    ca_file: str = _of_engine(PATH, "")
    """The certificates of the authorities that etcd's certificate is checked with; empty: those of the system."""
    cert_file: str = _of_engine(PATH, "")
    """This host's own certificate for TLS; empty: none."""
    key_file: str = _of_engine(PATH, "")
    """The private key of that certificate; empty: it is in the same file."""
    user: str = _of_engine(text_of("a user"), "")
    """The user of etcd that this host is; empty: none, where etcd asks for none."""
    password_file: str = _of_engine(PATH, "")
    """The file with the password of that user; empty: none."""

    def __attrs_post_init__(self) -> None:
        for name, value, other_name, other in (
            ("key_file", self.key_file, "cert_file", self.cert_file),
            ("user", self.user, "password_file", self.password_file),
            ("password_file", self.password_file, "user", self.user),
        ):
            if value and not other:
                raise ConfigError(f"{name}: expected a {other_name} beside it, got none")

    @property
    def is_set(self) -> bool:
        """Whether this host is in a fleet."""
        return bool(self.endpoints)

    @property
    def rules(self) -> CopyRules:
        """What this host wants of the copies elsewhere."""
        return CopyRules(
            min_copies=self.min_copies,
            last_copies_for=None if self.last_copies_for == "never" else self.last_copies_for,
            hot_for=self.hot_for,
            hot_copies=None if self.hot_copies == "all" else self.hot_copies,
            yields_to_pressure=self.yields_to_pressure,
        )

    def host_on(self, node_name: str) -> str:
        """Return the name of this host in the fleet; `node_name`: what the host calls itself.

        Raises:
            ConfigError: no name is set, and the host's own cannot be one; the message begins with the key.
        """
        if self.host or is_fleet_name(node_name):
            return self.host or node_name
        raise ConfigError(
            f"hmret.fleet.host: expected a name, as this host's own is not {_NAME_WORDS}, got {node_name!r}"
        )
