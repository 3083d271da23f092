"""What `hmret` gives to those who import it."""

import ast
import importlib
import inspect
import itertools
import textwrap
from pathlib import Path

import pytest

import hmret

SOURCE = Path(hmret.__file__)


def imported_names() -> set[str]:
    """Return every name that the package imports from its own modules, for type checkers or for good."""
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hmret")
        for alias in node.names
    }


def modules() -> list[str]:
    """Return the names of all modules but those that run when they are imported."""
    paths = sorted(SOURCE.parent.rglob("*.py"))
    names = [".".join(("hmret", *path.relative_to(SOURCE.parent).with_suffix("").parts)) for path in paths]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_the_names_are_sorted() -> None:
    assert hmret.__all__ == sorted(hmret.__all__)


def test_no_name_stands_there_twice() -> None:
    assert len(set(hmret.__all__)) == len(hmret.__all__)


def test_the_names_are_all_that_the_package_has() -> None:
    assert set(hmret.__all__) == imported_names()
    assert set(hmret.__all__) <= set(dir(hmret))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        hmret.no_such_name  # noqa: B018 - that is what is tested


@pytest.mark.parametrize("name", hmret.__all__)
def test_a_name_can_be_imported_and_is_documented(name: str) -> None:
    value = getattr(hmret, name)
    assert inspect.getdoc(value)


@pytest.mark.parametrize("name", hmret.__all__)
def test_a_class_documents_its_methods(name: str) -> None:
    value = getattr(hmret, name)
    if not inspect.isclass(value) or value.__module__.split(".")[0] != "hmret":
        return
    public = {key: member for key, member in vars(value).items() if not key.startswith("_")}
    undocumented = [
        key
        for key, member in public.items()
        if (inspect.isfunction(member) or isinstance(member, property)) and not inspect.getdoc(member)
    ]
    assert undocumented == []


@pytest.mark.parametrize("name", [name for name in hmret.__all__ if inspect.isclass(getattr(hmret, name))])
def test_a_class_documents_its_fields(name: str) -> None:
    cls = getattr(hmret, name)
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    undocumented = [
        field.target.id
        for field, following in itertools.zip_longest(body.body, body.body[1:])
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and not field.target.id.startswith("_")
        and not (isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant))
    ]
    assert undocumented == []


def test_every_error_that_is_raised_is_exported() -> None:
    errors = importlib.import_module("hmret.model.errors")
    assert set(errors.__all__) <= set(hmret.__all__)
    assert all(issubclass(getattr(errors, name), hmret.HmretError) for name in errors.__all__)


@pytest.mark.parametrize("name", modules())
def test_a_module_holds_the_names_that_it_lists(name: str) -> None:
    module = importlib.import_module(name)
    names: list[str] = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    assert all(hasattr(module, each) for each in names)
    assert module.__doc__
