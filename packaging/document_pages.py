"""The parts of the documents that are made from the code: the references of commands, settings and Python names.

A page names such a part by a comment, `<!-- made from the code: python -->`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping

from document_commands import commands_reference
from document_settings import rules_table, settings_table

import hmret

__all__ = ["GENERATED", "python_names"]

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "The engine": (
        "open_retention",
        "Retention",
        "Statistics",
        "Event",
        "Listener",
        "ReferenceSource",
        "Reference",
    ),
    "Settings": ("RetentionConfig", "AutoDelete", "Rule", "DiskLimits", "DeletionWindow"),
    "What calls return": (
        "MarkedUsed",
        "Leased",
        "Restored",
        "Quarantined",
        "SweepReport",
        "SweepStatus",
        "DeletedImage",
        "SweepError",
        "Suspension",
        "Cause",
        "DiskUsage",
    ),
    "Plans and verdicts": ("Plan", "Verdict", "Action", "Reason", "Summary", "Pressure", "Braking"),
}


def python_names() -> Mapping[str, list[str]]:
    """Return all public names by the title of their group; one that no group names is in the last but one."""
    grouped = {title: list(names) for title, names in _GROUPS.items()}
    errors = [name for name in hmret.__all__ if _is_error(getattr(hmret, name))]
    listed = {name for names in grouped.values() for name in names} | set(errors)
    return {**grouped, "To decide without an engine": sorted(set(hmret.__all__) - listed), "Errors": errors}


def _is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


def _python() -> str:
    return "\n".join(_python_parts())


def _python_parts() -> Iterator[str]:
    for title, names in python_names().items():
        yield f"## {title}\n"
        for name in names:
            value = getattr(hmret, name)
            kind = (
                "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"
            )
            if _is_error(value):
                kind = "autoexception"
            yield f"### {name}\n\n```{{eval-rst}}\n.. {kind}:: hmret.{name}\n```\n"


GENERATED: Mapping[str, Callable[[], str]] = {
    "commands": commands_reference,
    "settings": settings_table,
    "rules": rules_table,
    "python": _python,
}
"""Makes the text of each part, by its name."""
