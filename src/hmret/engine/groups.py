"""Errors that a task group has wrapped."""

__all__ = ["sole_error"]


def sole_error(error: BaseException) -> BaseException:
    """Take an error out of the groups around it, as far as those hold nothing else."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
