"""The error for settings that name something which is missing or taken for now."""

from hmret.model.errors import ConfigError

__all__ = ["UnavailableError"]


class UnavailableError(ConfigError):
    """A setting names something that is missing or in use by another process, so a later attempt may succeed.

    For embedders this is an ordinary `ConfigError`; `run` exits with a code of its own, so that it is started
    again.
    """
