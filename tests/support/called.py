"""What it is that a fake of `Threads` is given to run: a function, or a `partial` of one."""

from collections.abc import Callable, Mapping
from functools import partial

import attrs

__all__ = ["Called", "name_of"]


@attrs.frozen
class Called:
    """A function, and everything that it is called with."""

    function: Callable[..., object]
    arguments: tuple[object, ...]
    keywords: Mapping[str, object]

    @classmethod
    def of(cls, function: Callable[..., object], arguments: tuple[object, ...]) -> "Called":
        """Take a `partial` apart."""
        if isinstance(function, partial):
            return cls(function.func, (*function.args, *arguments), function.keywords)
        return cls(function, arguments, {})

    @property
    def name(self) -> str:
        """The function's own name."""
        return getattr(self.function, "__name__", "")


def name_of(function: Callable[..., object]) -> str:
    """Return the name of a function, also of one that some arguments are bound to."""
    return Called.of(function, ()).name
