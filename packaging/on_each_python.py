"""Runs the tests on each Python from 3.11 to 3.14: on those that are here, else on Debian's own, in a root.

    python3 packaging/on_each_python.py [TESTS...]

Pythons are looked for on $PATH and among pyenv's. Debian 12 has 3.11 and Debian 13 has 3.13; making a root of them takes root and
debootstrap. What can be had in neither way is named, with the reason. Each has an environment of its own with the
versions of packaging/development.lock.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from deb import copy_tree
from debian_root import bare_root, why_not

__all__ = ["PYTHONS", "find_python"]

HERE = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
IN_DEBIAN = {"3.11": 12, "3.13": 13}
PACKAGES = ("python3-venv", "python3-dev", "gcc", "git", "procps", "ca-certificates")
INSTALL = (
    "-m",
    "pip",
    "install",
    "--quiet",
    "--disable-pip-version-check",
    "-c",
    "packaging/development.lock",
)


def find_python(version: str) -> Path | None:
    """Return a Python of this version that runs here; None: there is none."""
    for path in _candidates(version):
        told = subprocess.run(
            [path, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"],
            text=True,
            capture_output=True,
            check=False,
        )
        if told.stdout.strip() == version:
            return path
    return None


def _candidates(version: str) -> Iterator[Path]:
    found = shutil.which(f"python{version}")
    if found is not None:
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)


def _test_here(version: str, python: Path, tests: Sequence[str]) -> int:
    environment = HERE / f".venv/python{version}"
    own = str(environment / "bin/python")
    subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
    subprocess.run([own, *INSTALL, "-e", ".[dev]"], cwd=HERE, check=True)
    done = subprocess.run([own, *_pytest(tests)], cwd=HERE, check=False)
    shutil.rmtree(environment)
    return done.returncode


def _test_in_root(release: int, tests: Sequence[str]) -> None:
    with bare_root(release) as root:
        root.install(*PACKAGES)
        copy_tree(HERE, root.path / "src")
        words = " ".join(("/venv/bin/python", *_pytest(tests)))
        line = (
            f"cd /src && python3 -m venv /venv && /venv/bin/python {' '.join(INSTALL)} -e '.[dev]' && {words}"
        )
        _say(root.shell(line))


def _pytest(tests: Sequence[str]) -> Sequence[str]:
    return (
        "-m",
        "pytest",
        "-q",
        "-n",
        os.environ.get("PROCESSES", "auto"),
        "--dist",
        "worksteal",
        *(tests or ("tests",)),
    )


def main(tests: Sequence[str]) -> None:
    """Run the tests on each."""
    failed = []
    for version in PYTHONS:
        python, release = find_python(version), IN_DEBIAN.get(version)
        if python is not None:
            _say(f"Python {version}: {python}")
            if _test_here(version, python, tests) != 0:
                failed.append(version)
        elif release is not None and not why_not():
            _say(f"Python {version}: Debian {release}'s, in a root")
            _test_in_root(release, tests)
        else:
            reason = (
                "no release of Debian has it"
                if release is None
                else f"a root of Debian {release}: {why_not()}"
            )
            _say(f"skipped: Python {version}: it is not here, and {reason}")
    if failed:
        raise SystemExit(f"failed on Python {', '.join(failed)}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program prints


if __name__ == "__main__":
    main(sys.argv[1:])
