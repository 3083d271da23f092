"""Events: a name and keys, given to the standard library's logger `hmret`.

The message reads `event key=value …`; the event and its keys also hang on the record as `hmret_event`, so that a
renderer for people or for machines can make its own of them.
"""

import logging

__all__ = ["log_event"]

_logger = logging.getLogger("hmret")


def log_event(level: int, event: str, **keys: object) -> None:
    """Tell one event."""
    if _logger.isEnabledFor(level):
        text = " ".join([event, *(f"{key}={value}" for key, value in keys.items())])
        _logger.log(level, "%s", text, extra={"hmret_event": (event, keys)})
