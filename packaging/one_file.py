"""Builds dist/hmret.pyz: all of hmret in one file that any of several Pythons on x86-64 runs.

    python packaging/one_file.py WHEEL OUTPUT

WHEEL is hmret's own, with its native core or without. The libraries are those of packaging/requirements.lock, by version
and hash, once for each Python where they are compiled. The environment needs what packaging/tools.lock has; no Python but
the one that runs this is needed. The same wheel gives the same bytes.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.tags import Tag, compatible_tags, cpython_tags

HERE = Path(__file__).resolve().parent
PYTHONS = ((3, 11), (3, 12), (3, 13))
MACHINE = "x86_64"
# The oldest C library of a distribution that has one of these Pythons.
GLIBC = (2, 34)

# What stands before pex's own search for a Python, which takes any and then complains in thirty lines. Where the file is
# unpacked already, its start does not come here.
SEARCH = """\
hmret_test='import platform, sys
print(sys.version_info[:2] in @VERSIONS@ and platform.machine() == "@MACHINE@" and sys.implementation.name == "cpython")'
for hmret_name in @NAMES@ python3 python; do
    hmret_python=$(command -v "$hmret_name") || continue
    if [ "$("$hmret_python" -c "$hmret_test" 2>/dev/null)" = True ]; then
        PEX_PYTHON=${PEX_PYTHON:-$hmret_python}
        break
    fi
done
if [ -z "${PEX_PYTHON:-}" ]; then
    echo "hmret: error: this file is for Python @WORDS@ on Linux @MACHINE@, and finds none of them" >&2
    exit 2
fi

"""
BEFORE = b"find_python() {\n"


def main(wheel: Path, output: Path) -> None:
    """Build the file."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        wheels = folder / "wheels"
        wheels.mkdir()
        (wheels / wheel.name).write_bytes(wheel.read_bytes())
        for python in PYTHONS:
            _download(python, wheels)
        _pack(folder, wheels, wheel)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(_with_search((folder / "hmret.pyz").read_bytes()))
        output.chmod(0o755)


def _platforms() -> Iterator[str]:
    major, newest = GLIBC
    yield from (f"manylinux_{major}_{minor}_{MACHINE}" for minor in range(newest, 4, -1))
    yield f"manylinux2014_{MACHINE}"
    yield f"linux_{MACHINE}"


def _download(python: tuple[int, int], wheels: Path) -> None:
    platforms = [word for platform in _platforms() for word in ("--platform", platform)]
    digits = "".join(map(str, python))
    abis = [word for abi in (f"cp{digits}", "abi3", "none") for word in ("--abi", abi)]
    _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--require-hashes", "--only-binary", ":all:", "--implementation", "cp"),
        *("--python-version", ".".join(map(str, python)), *abis, *platforms),
        *("-r", str(HERE / "requirements.lock"), "-d", str(wheels)),
    )


def _pack(folder: Path, wheels: Path, wheel: Path) -> None:
    version = wheel.name.split("-")[1]
    targets = []
    for python in PYTHONS:
        target = folder / f"{python[0]}.{python[1]}.json"
        target.write_text(json.dumps(_complete_platform(python)))
        targets += ["--complete-platform", str(target)]
    _run(
        *(sys.executable, "-m", "pex", f"hmret[server]=={version}", "--pre-resolved-dists", str(wheels)),
        *("--no-pypi", *targets, "--venv", "prepend", "--sh-boot", "--include-tools", "-c", "hmret"),
        *("--no-compile", "--pex-root", str(folder / "root"), "-o", str(folder / "hmret.pyz")),
    )


def _complete_platform(python: tuple[int, int]) -> dict[str, object]:
    """Describe a Python that is not here, as pex wants it."""
    version = ".".join(map(str, python))
    platforms = list(_platforms())
    interpreter = f"cp{python[0]}{python[1]}"
    tags: list[Tag] = [
        *cpython_tags(python, abis=[interpreter], platforms=platforms),
        *compatible_tags(python, interpreter=interpreter, platforms=platforms),
    ]
    return {
        "marker_environment": {
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": MACHINE,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        },
        "compatible_tags": [str(tag) for tag in tags],
    }


def _with_search(content: bytes) -> bytes:
    """Put our own search for a Python before pex's; a zip may stand behind anything."""
    start, found, rest = content.partition(BEFORE)
    if not found or not start.startswith(b"#!/bin/sh\n"):
        raise SystemExit("this pex starts its files in another way")
    versions = [f"{major}.{minor}" for major, minor in PYTHONS]
    search = (
        SEARCH.replace("@NAMES@", " ".join(f"python{version}" for version in reversed(versions)))
        .replace("@VERSIONS@", repr(PYTHONS))
        .replace("@MACHINE@", MACHINE)
        .replace("@WORDS@", f"{', '.join(versions[:-1])} or {versions[-1]}")
    )
    return start + search.encode() + found + rest


def _run(*command: str) -> None:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:4])}: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
