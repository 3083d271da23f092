"""Errors that a task group has wrapped."""

__all__ = ["first_error", "sole_error"]


def sole_error(error: BaseException) -> BaseException:
    """Take an error out of the groups around it, as far as those hold nothing else."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def first_error(group: ExceptionGroup[Exception]) -> Exception:
    """Take one error out of a group of those that came for the same cause."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
