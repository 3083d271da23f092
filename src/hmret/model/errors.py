"""The errors that hmret raises.

```
HmretError
├── ConfigError            a setting is missing, mistyped or contradictory: the operator must correct it
│   └── StopsTimersError   a sweep would stop all timers, and nothing says that this is intended
├── InvalidReferenceError  a text is not an image reference: the caller must correct it
│   └── AmbiguousImageError  a text may mean several images: the message lists them
├── ImageNotFoundError     the image is not in the cache, not ready or incomplete: the caller pulls it again
├── ImageExistsError       the image to restore is in the cache already: there is nothing to do
├── FleetError             a fleet has not what was asked of it, or there is none of that name
│   └── HostNotFoundError  the fleet has no such host
├── DataDirLockedError     another engine uses this data directory, or the same images
└── EngineClosedError      the engine has stopped, or stopped while this call was waiting
    └── DataDirMovedError  the data directory is no longer the one that the engine opened: open it again
```
"""

import reprlib

__all__ = [
    "AmbiguousImageError",
    "ConfigError",
    "DataDirLockedError",
    "DataDirMovedError",
    "EngineClosedError",
    "FleetError",
    "HmretError",
    "HostNotFoundError",
    "ImageExistsError",
    "ImageNotFoundError",
    "InvalidReferenceError",
    "StopsTimersError",
]


_shortened = reprlib.Repr()
_shortened.maxstring = 200


def quoted(value: object) -> str:
    """Write a value as messages quote it, shortened where it is long."""
    return _shortened.repr(value)


class HmretError(Exception):
    """The base of all errors that hmret raises on purpose."""


class ConfigError(HmretError):
    """A setting is not usable; the message is one line with the key, the value and what was expected."""


class StopsTimersError(ConfigError):
    """The operator's patterns allow no image in the cache to be deleted, so a sweep would stop every timer.

    Nothing was changed.
    """


class InvalidReferenceError(HmretError, ValueError):
    """A text is not an image reference by the grammar of distribution/reference."""


class AmbiguousImageError(InvalidReferenceError):
    """Digits of a digest, or the name of a VM, may mean several images; the message lists them."""


class ImageNotFoundError(HmretError, LookupError):
    """An image is not in the cache, or is present but not ready or incomplete."""


class ImageExistsError(HmretError):
    """An image is in the cache already, so the one in quarantine is not restored."""


class FleetError(HmretError):
    """A fleet cannot do what was asked: it has not been created, exists already, or its settings are not readable."""


class HostNotFoundError(FleetError, LookupError):
    """A fleet has no host of this name."""


class DataDirLockedError(HmretError):
    """Another engine works on this data directory, or on the same images through another one."""


class EngineClosedError(HmretError):
    """The engine has stopped; the requested action did not happen, or its outcome is unknown."""


class DataDirMovedError(EngineClosedError):
    """The path of the data directory, of its images or of its lock now leads elsewhere, so the engine has ended."""
