"""Check hmret's promises on real file systems: `python -m realfs [--part PART] [WORD …]`.

Only root can. Each check is a sentence, and is skipped with its reason where kernel or tools lack what it needs. All is
done in a mount and process namespace of its own, so nothing stays mounted or runs on, whatever ends it. Exits with 1
where a check has failed.
"""

# ruff: noqa: T201 - a program prints

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mutations.run import EVERY, ROOT, build, make_copy
from realfs.checking import Check, carry_out, chosen, summary_of
from realfs.faults import faults
from realfs.filesystems import filesystems
from realfs.full_speed import full_speed
from realfs.mounts import mounted
from realfs.open_disks import open_disks
from realfs.power_cuts import power_cuts

__all__ = ["main"]

PARTS: Mapping[str, Callable[[], Iterator[Check]]] = {
    "file systems": filesystems,
    "faults": faults,
    "power cuts": power_cuts,
    "open disks": open_disks,
    "full speed": full_speed,
}
"""What lists the checks of each part."""

_INSIDE = "HMRET_REALFS_INSIDE"
_NAMESPACES = (
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


def main(arguments: Sequence[str]) -> int:
    """Carry out what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="realfs", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only the checks whose sentence matches one of these")
    parser.add_argument("--part", action="append", choices=[*PARTS], help="only this part (repeatable)")
    parser.add_argument("--jobs", type=int, default=2, help="checks at once (default: 2)")
    parser.add_argument("--list", action="store_true", help="print the checks, and end")
    parser.add_argument(
        "--without",
        metavar="MUTATION",
        action="append",
        help="with a safety check taken away, by the name of its mutation (repeatable)",
    )
    chosen_options = parser.parse_args(arguments)
    checks = chosen(
        (check for part in PARTS.values() for check in part()),
        chosen_options.part or (),
        chosen_options.words,
    )
    if chosen_options.list:
        print(*(f"{check.part}: {check.sentence}" for check in checks), sep="\n")
        return 0
    if not checks:
        print("realfs: no check has such a sentence")
        return 2
    if reason := why_not():
        print(f"realfs: skipped: {reason}")
        return 0
    if _INSIDE not in os.environ:
        return _run_inside(arguments, chosen_options.without or ())
    return _carry_out(checks, chosen_options.jobs)


def why_not() -> str:
    """Return why none of it can be done here; empty: it can."""
    if os.geteuid() != 0:
        return "only root can mount file systems"
    if shutil.which("unshare") is None:
        return "needs unshare (apt install util-linux)"
    trial = subprocess.run([*_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"there are no namespaces of its own: {trial.stderr.strip()}" if trial.returncode else ""


def _run_inside(arguments: Sequence[str], without: Sequence[str]) -> int:
    """Run the same again, in namespaces of its own and, where a safety check is to be taken away, on a copy."""
    with tempfile.TemporaryDirectory() as folder:
        tests, source = Path(__file__).parent.parent, ROOT / "src"
        if without:
            source = _mutated(Path(folder), without)
        path = os.pathsep.join([str(source), str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {_INSIDE: "1", "PYTHONPATH": path}
        command = [*_NAMESPACES, sys.executable, "-m", "realfs", *arguments]
        return os.spawnvpe(os.P_WAIT, command[0], command, environment)


def _mutated(folder: Path, names: Sequence[str]) -> Path:
    """Take safety checks away in a copy of the sources; returns it."""
    source = make_copy(ROOT, folder / "mutated") / "src"
    for name in names:
        mutation = next((one for one in EVERY if one.name == name), None)
        if mutation is None:
            raise SystemExit(f"realfs: there is no mutation {name!r}")
        for path, text in mutation.apply(source / "hmret").items():
            path.write_text(text)
            if path.suffix == ".c":
                build(path)
    return source


def _carry_out(checks: Sequence[Check], jobs: int) -> int:
    begin = time.monotonic()
    # What hmret logs of what is done to it here is no concern of the reader; its reports are checked.
    logging.getLogger("hmret").addHandler(logging.NullHandler())
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hmret-realfs-") as folder,
        mounted("tmpfs", "tmpfs", Path(folder) / "work", "size=80%,mode=755") as work,
    ):
        # Some checks become another user for a while.
        Path(folder).chmod(0o711)
        outcomes = carry_out(checks, work, jobs=jobs)
    print(f"{os.uname().release}: {summary_of(outcomes)}, {time.monotonic() - begin:.0f} s")
    return 1 if any(outcome.verdict == "FAILED" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
