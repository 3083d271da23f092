"""Recognising that the system refuses to start another thread for this process."""

__all__ = ["NO_THREAD", "is_thread_refusal"]

NO_THREAD = "no thread can be started: check the limits on processes and tasks"
_REFUSAL = "can't start new thread"  # the words of Python's own RuntimeError


def is_thread_refusal(error: RuntimeError) -> bool:
    """Return whether an error reports that no thread can be started; Python has no class of its own for it."""
    return str(error) == _REFUSAL
