"""The classes of values that share comparison, hash and `repr` say what those of attrs would."""

import importlib
import pkgutil
from typing import Any

import attrs
import pytest

import hmret
from hmret.model.values import define, frozen


def classes_by(frozen: Any, define: Any) -> dict[str, Any]:
    """Make classes by one pair of decorators or the other."""

    @frozen
    class Plain:
        first: int
        second: str = "b"
        hidden: str = attrs.field(default="h", repr=False)
        loose: str = attrs.field(default="l", eq=False)

    @frozen(kw_only=True)
    class Named:
        first: int = 1

    @frozen
    class Derived(Plain):
        third: float = 0.5

    @frozen
    class Empty:
        pass

    @frozen(eq=False)
    class Itself:
        first: int = 1

    @frozen(eq=False, repr=False)
    class Silent:
        first: int = 1

    @frozen
    class Written:
        first: int = 1

        def __repr__(self) -> str:
            return "written"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    @define
    class Changing:
        first: Any = 1

    @define(eq=False)
    class Unfinished:
        first: int = attrs.field(init=False)

    made = (Plain, Named, Derived, Empty, Itself, Silent, Written, Changing, Unfinished)
    return {cls.__name__: cls for cls in made}


OURS = classes_by(frozen, define)
THEIRS = classes_by(attrs.frozen, attrs.define)
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("Plain", {"first": 1}),
    ("Plain", {"first": 2}),
    ("Plain", {"first": 1, "hidden": "x"}),
    ("Plain", {"first": 1, "loose": "x"}),
    ("Plain", {"first": 1.0}),
    ("Named", {"first": 1}),
    ("Derived", {"first": 1}),
    ("Derived", {"first": 1, "third": 2.5}),
    ("Empty", {}),
    ("Itself", {}),
    ("Written", {}),
    ("Changing", {}),
    ("Changing", {"first": 2}),
    ("Unfinished", {}),
]


def is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize(("name", "fields"), CALLS)
def test_a_value_shows_itself_as_one_of_attrs_does(name: str, fields: dict[str, Any]) -> None:
    assert repr(OURS[name](**fields)) == repr(THEIRS[name](**fields))


def test_a_value_that_holds_itself_is_shown_once() -> None:
    ours, theirs = OURS["Changing"](), THEIRS["Changing"]()
    ours.first, theirs.first = [ours], [theirs]
    assert repr(ours) == repr(theirs) == "Changing(first=[...])"


def test_a_value_that_does_not_show_its_fields_is_shown_as_an_object() -> None:
    assert repr(OURS["Silent"]()).startswith("<")
    assert "Silent object at" in repr(OURS["Silent"]())


@pytest.mark.parametrize(("name", "fields"), CALLS)
@pytest.mark.parametrize(("other_name", "other_fields"), CALLS)
def test_values_are_equal_where_those_of_attrs_are(
    name: str, fields: dict[str, Any], other_name: str, other_fields: dict[str, Any]
) -> None:
    def compared(classes: dict[str, Any]) -> tuple[bool, bool, bool, bool]:
        one, other = classes[name](**fields), classes[other_name](**other_fields)
        hashes = is_hashable(one) and is_hashable(other) and hash(one) == hash(other)
        return one == other, one != other, is_hashable(one), hashes

    ours, theirs = compared(OURS), compared(THEIRS)
    assert ours[:3] == theirs[:3]
    if ours[0]:
        assert ours[3] == theirs[3]


def test_values_do_not_change_and_have_slots() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        OURS["Plain"](1).first = 2
    assert not hasattr(OURS["Plain"](1), "__dict__")
    assert attrs.evolve(OURS["Plain"](1), second="c") == OURS["Plain"](1, "c")


def test_no_class_has_more_compiled_for_it_than_it_needs() -> None:
    """Each costs every command half a millisecond."""
    compiled = set()
    for module in pkgutil.walk_packages(hmret.__path__, "hmret."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and attrs.has(value) and value.__module__.startswith("hmret."):
                for name in ("__repr__", "__eq__", "__hash__"):
                    code = getattr(vars(value).get(name), "__code__", None)
                    if code is not None and code.co_filename.startswith("<attrs generated"):
                        compiled.add(value.__name__)
    # Those that can be sorted are compared by attrs' own.
    assert compiled == {"Hidden", "StaleReference"}, "hmret.model.values has what makes the others"
