"""The options that commands share, and the settings that result from them."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hmret.cli.display.logs import LogFormat, LogLevel, logging_to_stderr
from hmret.cli.display.output import write_json, write_result
from hmret.disk.data_dir_warnings import doubt_data_dir, image_disk_bytes
from hmret.model.durations import parse_span
from hmret.model.errors import ConfigError
from hmret.model.times import SECOND
from hmret.model.values import frozen
from hmret.settings.load import Settings, load_settings

Backend = Literal["asyncio", "trio"]
"""The event loop that runs the engine."""

Named = Annotated[
    str,
    Parameter(
        name="IMAGE",
        help="A reference by tag or digest (alpine:3.20), 12 or more digits of a digest, or a VM's name.",
    ),
]
"""The image that a command operates on."""

FLAG = Parameter(negative=(), show_default=False)
"""An option without a value, which can only be present or absent."""

Place = str | Path
"""A path, always kept as the text that was given; the `Path` in the type makes shells complete it."""

TIMEOUT = "5s"
"""How long a running engine may be silent by default."""


def read_span(option: str, text: str) -> int:
    """Parse the duration of an option, which must be positive; returns nanoseconds.

    Raises:
        ConfigError: it is not one.
    """
    try:
        nanoseconds = parse_span(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
    if nanoseconds <= 0:
        raise ConfigError(f"{option}: expected a duration of more than zero, got {text!r}")
    return nanoseconds


@Parameter(name="*", negative=())
@frozen(kw_only=True)
class Common:
    """The options of a command; None: not given."""

    config: Annotated[
        Place | None,
        Parameter(
            metavar="FILE",
            help="hypeman's config file; default: $HMRET_CONFIG, $CONFIG_PATH, /etc/hypeman/config.yaml or "
            "~/.config/hypeman/config.yaml, whichever is set or exists first. /etc/hmret/config.yaml is read as well, "
            "unless this option or $HMRET_CONFIG names a file.",
        ),
    ] = None
    data_dir: Annotated[Place | None, Parameter(metavar="FOLDER", help="hypeman's data directory.")] = None
    enable: Annotated[
        bool | None, Parameter(n_tokens=0, help="Enable retention, whatever the config file says.")
    ] = None
    unused_for: Annotated[
        str | None, Parameter(help="How long an image must be unused to expire: 30d, 720h.")
    ] = None
    allow: Annotated[
        list[str] | None,
        Parameter(
            help="A pattern of repositories whose images may be deleted; repeatable, replaces the configured list.",
            json_list=False,
        ),
    ] = None
    backend: Annotated[Backend, Parameter(help="The event loop that runs the engine.")] = "asyncio"
    json: Annotated[bool, FLAG, Parameter(help="Print one JSON document, also for an error.")] = False
    timeout: Annotated[str, Parameter(help="How long a running engine may be unresponsive.")] = TIMEOUT
    log_format: Annotated[LogFormat, Parameter(help="The format of log lines on standard error.")] = "console"
    log_level: Annotated[
        LogLevel | None, Parameter(help="The lowest level that is logged; default: warning, or info for run.")
    ] = None

    def settings(self, earlier: Settings | None = None) -> Settings:
        """Load the settings: options over the environment over config files over defaults.

        `earlier`: the settings that a reload replaces; a config file that has become empty or is gone is
        refused.

        Raises:
            ConfigError: a setting is invalid.
        """
        flags: Mapping[str, object] = {
            "data_dir": self.data_dir,
            "images.auto_delete.enabled": self.enable,
            "images.auto_delete.unused_for": self.unused_for,
            "images.auto_delete.allowed": self.allow,
            "hmret.enabled": self.enable,
        }
        config_file = None if self.config is None else str(self.config)
        return load_settings(
            config_file=config_file,
            environment=os.environ,
            flags=flags,
            earlier=earlier,
            ask_disk=doubt_data_dir,
            disk_size=image_disk_bytes,
        )

    @property
    def names_policy(self) -> bool:
        """Whether options change the deletion policy: the running engine uses its own settings."""
        return any(option is not None for option in (self.enable, self.unused_for, self.allow))

    @property
    def timeout_seconds(self) -> float:
        """How long a running engine may be silent.

        Raises:
            ConfigError: the option is not a duration.
        """
        return read_span("--timeout", self.timeout) / SECOND

    def logging(self, default_level: LogLevel = "warning") -> AbstractContextManager[None]:
        """Write log lines to standard error as the options specify."""
        return logging_to_stderr(self.log_format, self.log_level or default_level)

    def write(self, document: object, lines: Iterable[str]) -> None:
        """Write a result: as a JSON document if the options ask for that, else as lines for people.

        Raises:
            OSError: it could not be written.
        """
        if self.json:
            write_json(document)
        else:
            write_result("\n".join(lines))


DEFAULTS = Common()
"""No options given."""
