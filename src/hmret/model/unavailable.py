"""What the machine does not give for now: things that settings name, and threads."""

from hmret.model.errors import ConfigError

NO_THREAD = "no thread can be started: check the limits on processes and tasks"
_REFUSAL = "can't start new thread"  # the words of Python's own RuntimeError


class UnavailableError(ConfigError):
    """A setting names something that is missing or in use by another process, so a later attempt may succeed.

    For embedders this is an ordinary `ConfigError`; `run` exits with a code of its own, so that it is started
    again.
    """


def is_thread_refusal(error: RuntimeError) -> bool:
    """Return whether an error reports that no thread can be started; Python has no class of its own for it."""
    return str(error) == _REFUSAL
