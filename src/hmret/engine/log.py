"""Structured log events: a name and keys, passed to the standard library's logger `hmret`.

The message reads `event key=value …`. The event and its keys are also attached to the record as
`hmret_event`, so that a formatter for people or for machines can render them in its own way.
"""

import logging

_logger = logging.getLogger("hmret")


def log_event(level: int, event: str, **keys: object) -> None:
    """Log one event."""
    if _logger.isEnabledFor(level):
        text = " ".join([event, *(f"{key}={value}" for key, value in keys.items())])
        _logger.log(level, "%s", text, extra={"hmret_event": (event, keys)})
