"""The filter of system calls of the unit file, laid on a process of the tests by libseccomp."""

import ctypes
import ctypes.util
import functools
import shutil
from collections.abc import Collection
from pathlib import Path

from support.children import run_program

__all__ = ["KILLS", "allowed_calls", "filter_program", "why_not"]

UNIT = Path(__file__).parents[2] / "packaging" / "hmret.service"

KILLS = 0x8000_0000
"""What is not allowed ends the whole process, by SIGSYS."""


def why_not() -> str:
    """Return why no filter can be laid on here; empty: it can."""
    if shutil.which("systemd-analyze") is None:
        return "needs systemd-analyze, which knows what is in @system-service"
    if ctypes.util.find_library("seccomp") is None:
        return "needs libseccomp"
    return ""


@functools.cache
def _group(name: str) -> frozenset[str]:
    """Return the calls of a group, those of the groups in it included."""
    listed = run_program(["systemd-analyze", "syscall-filter", name], check=True)
    calls: set[str] = set()
    for line in listed.stdout.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            calls |= _group(word) if word.startswith("@") else {word}
    return frozenset(calls)


def allowed_calls() -> frozenset[str]:
    """Return the calls that the unit allows: its lines one after the other, as systemd.exec(5) has it."""
    allowed: set[str] = set()
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name != "SystemCallFilter":
            continue
        words = value.removeprefix("~").split()
        calls = {call for word in words for call in (_group(word) if word.startswith("@") else {word})}
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    # systemd adds what it needs itself to start the program.
    return frozenset(allowed | {"execve"})


def filter_program(allowed: Collection[str], otherwise: int) -> str:
    """Return a program for `python -c` that lays a filter on itself, and becomes the command in its arguments."""
    return f"""
import ctypes, ctypes.util, os, sys
library = ctypes.CDLL(ctypes.util.find_library("seccomp"))
library.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32({otherwise})))
for name in {sorted(allowed)!r}:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert library.seccomp_rule_add(context, ctypes.c_uint32(0x7FFF0000), number, 0) == 0, name
assert library.seccomp_load(context) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
