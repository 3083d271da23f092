"""The checks: each a function that is given the machine, its name a sentence; and by which fault it has to fail."""

from collections.abc import Callable

import systemd.machine
from systemd.ways import Way

__all__ = ["CHECKS", "FAULTS", "Check", "Fault", "check", "check_of", "noticed", "sentence"]

Check = Callable[["systemd.machine.Machine"], None]
Fault = Callable[["systemd.machine.Machine"], None]

CHECKS: dict[Check, Way | None] = {}
"""All checks in order, each with what must be installed for it; None: any way will do."""

FAULTS: list[tuple[Check, str, Fault]] = []
"""A check, what is wrong, and what makes it so."""


def check(function: Check) -> Check:
    """Add a check of the service, whichever way hmret was installed."""
    CHECKS[function] = None
    return function


def check_of(way: Way) -> Callable[[Check], Check]:
    """Add a check of one way of installation."""

    def add(function: Check) -> Check:
        CHECKS[function] = way
        return function

    return add


def noticed(what: str, fault: Fault | str) -> Callable[[Check], Check]:
    """Say which fault a check notices; `fault`: what makes it, or lines for the section of the service."""

    def add(function: Check) -> Check:
        if isinstance(fault, str):
            FAULTS.append((function, what, lambda machine: machine.break_unit(fault)))
        else:
            FAULTS.append((function, what, fault))
        return function

    return add


def sentence(function: Check) -> str:
    """Return the sentence that a check shows."""
    return function.__name__.replace("_", " ")
