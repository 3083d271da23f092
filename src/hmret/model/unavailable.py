"""What a setting names, and what may be there later."""

from hmret.model.errors import ConfigError

__all__ = ["UnavailableError"]


class UnavailableError(ConfigError):
    """A setting names what is not there yet, or what somebody else has: a later try may succeed without a change.

    To embedders it is the `ConfigError` that it is; `run` ends with another exit code, so that it is started again.
    """
