"""The public names of the package, with their parameters, fields and members, are what was recorded.

`HMRET_RECORD_OUTSIDE=1 pytest tests/outside` records it again.
"""

import enum
import inspect
from typing import Any

import attrs

import hmret
from outside.recorded import hold


def told_name(value: Any) -> dict[str, Any]:
    """Say what the outside sees of one public name."""
    if not inspect.isclass(value):
        return {"called with": f"({_parameters(value)})"}
    bases = [
        base
        for base in value.__mro__[1:-1]
        if base.__module__ == "builtins" or base.__name__ in hmret.__all__
    ]
    told: dict[str, Any] = {"bases": [base.__name__ for base in bases]} if bases else {}
    if issubclass(value, enum.Enum):
        return {**told, "members": {one.name: one.value for one in value}}
    fields = _fields(value)
    if fields:
        told["fields"] = fields
    own = [cls for cls in reversed(value.__mro__) if cls.__module__.startswith("hmret")]
    members = {name: one for cls in own for name, one in vars(cls).items() if _is_seen(name, one, fields)}
    return {**told, **{name: _member(members[name]) for name in sorted(members)}}


def _fields(value: Any) -> list[str]:
    if attrs.has(value):
        public = [one for one in attrs.fields(value) if one.init and not one.name.startswith("_")]
        return [f"{one.name}{'' if one.default is attrs.NOTHING else ' ='}" for one in public]
    return [*getattr(value, "__struct_fields__", ())]


def _is_seen(name: str, member: Any, fields: list[str]) -> bool:
    known = name in (
        "__iter__",
        "__aiter__",
        "__anext__",
        "__len__",
        "__contains__",
        "__getitem__",
        "__call__",
    )
    is_field = name in {field.partition(" ")[0] for field in fields}
    return (known or not name.startswith("_")) and not is_field and hasattr(member, "__get__")


def _member(member: Any) -> Any:
    if isinstance(member, property) or not callable(getattr(member, "__func__", member)):
        return "property"
    return f"({_parameters(getattr(member, '__func__', member))})"


def _parameters(value: Any) -> str:
    """Write the parameters down as in a signature, without types and values of defaults."""
    told: list[str] = []
    names = [one for one in inspect.signature(value).parameters.values() if one.name not in ("self", "cls")]
    for one in names:
        if one.kind is one.KEYWORD_ONLY and not {"*", *(f"*{each.name}" for each in names)} & {*told}:
            told.append("*")
        star = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        told.append(f"{star}{one.name}{'' if one.default is one.empty else '='}")
        if one.kind is one.POSITIONAL_ONLY:
            told.append("/")
    return ", ".join(told)


def test_public_names_have_the_parameters_and_fields_that_were_recorded() -> None:
    hold(names={name: told_name(getattr(hmret, name)) for name in hmret.__all__})
