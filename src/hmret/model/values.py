"""Value classes as attrs makes them, without the code that attrs compiles for each class at every start.

attrs compiles comparison, hash and `repr` of each class from text, which takes longer than everything else
about it. All classes made here share these methods, which use the fields that attrs lists and give the
results that attrs' own would.
"""

from collections.abc import Callable, Hashable
from functools import partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

import attrs

__all__ = ["define", "frozen"]

if TYPE_CHECKING:
    from attrs import define, frozen
else:

    def frozen(cls: type | None = None, **options: bool) -> type | Callable[[type], type]:
        """Make a class of immutable values, which are hashable where they are comparable."""
        make = partial(_make, attrs.frozen, **options)
        return make if cls is None else make(cls)

    def define(cls: type | None = None, **options: bool) -> type | Callable[[type], type]:
        """Make a class of mutable values, which are not hashable where they are comparable."""
        make = partial(_make, attrs.define, **options)
        return make if cls is None else make(cls)


def _make(
    make: Callable[..., Any],
    written: type,
    *,
    eq: bool = True,
    repr: bool = True,  # noqa: A002 - as attrs has it
    kw_only: bool = False,
) -> type:
    """Make a class, and add the methods that attrs would have compiled for it, but for those that it defines itself."""
    made = make(written, eq=False, repr=False, kw_only=kw_only)
    own = vars(written)
    if repr and "__repr__" not in own:
        made.__repr__ = _show
    if eq and "__eq__" not in own:
        made.__eq__, made.__hash__ = _comparison(made)
        if make is attrs.define:
            made.__hash__ = None
    return made  # type: ignore[no-any-return]  # the class itself


def _comparison(cls: Any) -> tuple[Callable[[Any, object], bool], Callable[[Any], int]]:
    """Make the comparison for values of exactly one class, and their hash, from the fields that are compared."""
    names = [field.name for field in attrs.fields(cls) if field.eq]
    fields: Callable[[object], Hashable] = attrgetter(*names) if names else lambda _: ()

    def is_equal(self: Any, other: object) -> bool:
        return fields(self) == fields(other) if other.__class__ is self.__class__ else NotImplemented

    def hash_of(self: Any) -> int:
        return hash((cls, fields(self)))

    return is_equal, hash_of


@recursive_repr("...")
def _show(self: Any) -> str:
    cls = type(self)
    fields = [
        f"{field.name}={getattr(self, field.name, attrs.NOTHING)!r}"
        for field in attrs.fields(cls)
        if field.repr
    ]
    return f"{cls.__qualname__.rpartition('>.')[2]}({', '.join(fields)})"
