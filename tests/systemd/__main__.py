"""Tries the service under a real systemd: installs hmret in a root of Debian 12, boots it in a container, and acts in it.

`make systemd-test`. Only root can, and systemd-nspawn and debootstrap must be there; elsewhere it says why not, and
ends with 0. The root is kept in $SYSTEMD_TEST_ROOT (/var/tmp/hmret-systemd-test), so that only the first time takes
long.

Each check is a sentence; what it needs it makes itself. One that fails is told with the end of the journal, and the
others go on. With --broken each check is carried out on a service with a fault that it has to notice.
"""

import argparse
import os
import shutil
import sys
import time

from systemd import access, checkout, journals, packaged, reloading, starting, stopping, sweeping
from systemd.checks import CHECKS, FAULTS, Check, sentence
from systemd.machine import Machine, booted
from systemd.root import Skipped, make_root
from systemd.ways import Way, have

_ORDER = [
    module.__name__
    for module in (starting, sweeping, reloading, stopping, journals, access, checkout, packaged)
]
_TOOLS = ("systemd-nspawn", "debootstrap", "nsenter", "chroot", "git")
_PATIENCE_WITH_FAULTS = 60.0


def why_not() -> str:
    """Return why this cannot be tried here; empty: it can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)} (apt install systemd-container debootstrap git)"
    return ""


def main() -> int:
    """Carry out the checks; returns the exit code."""
    wanted = _parser().parse_args()
    reason = why_not()
    if reason:
        print(f"systemd-test: skipped: {reason}")
        return 0
    try:
        make_root()
        with booted() as machine:
            print(_describe(machine), flush=True)
            carry_out = _carry_out_broken if wanted.broken else _carry_out
            return carry_out(machine, wanted.only, wanted.way)
    except Skipped as skipped:
        print(f"systemd-test: skipped: {skipped}")
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="systemd-test", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORDS",
        help="only checks whose sentence has these words; may be given several times",
    )
    parser.add_argument(
        "--way", choices=("checkout", "package"), default="checkout", help="how hmret is installed"
    )
    parser.add_argument(
        "--broken", action="store_true", help="carry each check out on a service that is broken"
    )
    return parser


def _describe(machine: Machine) -> str:
    systemd = machine.run("systemctl --version").split("\n", 1)[0]
    debian = machine.run("cat /etc/debian_version").strip()
    return f"Linux {os.uname().release}, Debian {debian}, {systemd}"


def _carry_out(machine: Machine, only: list[str], way: Way) -> int:
    passed = failed = skipped = 0
    for function in sorted(CHECKS, key=_place):
        if not _is_wanted(sentence(function), only):
            continue
        before = time.monotonic()
        try:
            _prepare(machine, CHECKS[function] or way)
            function(machine)
            _look_at_the_journal(machine)
        except Skipped as reason:
            skipped += 1
            print(f"skipped  {sentence(function)}: {reason}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"FAILED   {sentence(function)}: {error}\n{machine.tail()}", flush=True)
        else:
            passed += 1
            print(f"ok {time.monotonic() - before:4.0f}s {sentence(function)}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def _carry_out_broken(machine: Machine, only: list[str], way: Way) -> int:
    passed = failed = skipped = 0
    machine.patience_seconds = _PATIENCE_WITH_FAULTS
    for function, what, fault in sorted(FAULTS, key=lambda one: _place(one[0])):
        if not _is_wanted(f"{sentence(function)} {what}", only):
            continue
        try:
            _prepare(machine, CHECKS[function] or way)
            fault(machine)
            function(machine)
            _look_at_the_journal(machine)
        except Skipped as reason:
            skipped += 1
            print(f"skipped  {what}: {reason}", flush=True)
        except AssertionError as error:
            passed += 1
            print(f"noticed  {what}: {sentence(function)}: {str(error)[:300]}", flush=True)
        else:
            failed += 1
            print(f"MISSED   {what}: {sentence(function)}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def _is_wanted(text: str, only: list[str]) -> bool:
    return not only or any(words in text for words in only)


def _place(function: Check) -> int:
    return _ORDER.index(function.__module__)


def _prepare(machine: Machine, way: Way) -> None:
    machine.begin()
    have(machine, way)
    machine.begin()


def _look_at_the_journal(machine: Machine) -> None:
    """After each check: all lines are JSON, which `lines` asks."""
    machine.lines()


if __name__ == "__main__":
    sys.exit(main())
