"""The errors that hmret raises.

```
HmretError
├── ConfigError            a setting is missing, mistyped or contradicts itself: the operator's to mend
├── InvalidReferenceError  a text is no image reference: the caller's to mend
├── ImageNotFoundError     the image is not here, not ready or not whole: the caller pulls it again
├── ImageExistsError       the image that is to be restored is in the cache already: nothing is to be done
├── DataDirLockedError     another engine has this data directory, or the same images
└── EngineClosedError      the engine has stopped, or stopped while this call was waiting
    └── DataDirMovedError  the data directory is not the one that the engine opened: open it again
```
"""

__all__ = [
    "ConfigError",
    "DataDirLockedError",
    "DataDirMovedError",
    "EngineClosedError",
    "HmretError",
    "ImageExistsError",
    "ImageNotFoundError",
    "InvalidReferenceError",
]


class HmretError(Exception):
    """The base of all errors that hmret raises on purpose."""


class ConfigError(HmretError):
    """A setting is not usable; the message is one line that names the key, the value and what was expected."""


class InvalidReferenceError(HmretError, ValueError):
    """A text is not an image reference by the grammar of distribution/reference."""


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
