"""The errors that hmret raises.

```
HmretError
├── ConfigError            a setting is missing, mistyped or contradicts itself: the operator's to mend
│   └── StopsTimersError   a sweep would stop all timers, and was not told that this is meant
├── InvalidReferenceError  a text is no image reference: the caller's to mend
│   └── AmbiguousImageError  a text may mean several images: the message lists them
├── ImageNotFoundError     the image is not here, not ready or not whole: the caller pulls it again
├── ImageExistsError       the image that is to be restored is in the cache already: nothing is to be done
├── DataDirLockedError     another engine has this data directory, or the same images
└── EngineClosedError      the engine has stopped, or stopped while this call was waiting
    └── DataDirMovedError  the data directory is not the one that the engine opened: open it again
```
"""

__all__ = [
    "AmbiguousImageError",
    "ConfigError",
    "DataDirLockedError",
    "DataDirMovedError",
    "EngineClosedError",
    "HmretError",
    "ImageExistsError",
    "ImageNotFoundError",
    "InvalidReferenceError",
    "StopsTimersError",
]


class HmretError(Exception):
    """The base of all errors that hmret raises on purpose."""


class ConfigError(HmretError):
    """A setting is not usable; the message is one line that names the key, the value and what was expected."""


class StopsTimersError(ConfigError):
    """The operator's patterns let nothing go that is here, so a sweep would stop every timer; nothing was changed."""


class InvalidReferenceError(HmretError, ValueError):
    """A text is not an image reference by the grammar of distribution/reference."""


class AmbiguousImageError(InvalidReferenceError):
    """Digits of a digest, or the name of a VM, may mean several images; the message lists them."""


class ImageNotFoundError(HmretError, LookupError):
    """An image is not in the cache, or is there but not ready or not whole."""


class ImageExistsError(HmretError):
    """An image is in the cache already, so that the one in quarantine is not restored."""


class DataDirLockedError(HmretError):
    """Another engine works on this data directory, or on the same images from another one."""


class EngineClosedError(HmretError):
    """The engine has stopped; what was asked of it did not happen, or its outcome is not known."""


class DataDirMovedError(EngineClosedError):
    """The path of the data directory, of its images or of its lock leads elsewhere by now, so the engine has ended."""
