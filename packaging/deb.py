"""Builds the Debian package for the release that this runs on, by dpkg-buildpackage, into a folder.

    python3 packaging/deb.py SOURCE OUTPUT [RELEASE]

SOURCE is a tree of hmret, of which nothing but tracked files is taken where it is a checkout; OUTPUT gets
hmret_VERSION~debN_ARCHITECTURE.deb. With RELEASE it is built for that release of Debian, in a root that debootstrap makes;
without, for the one that this runs on, which must have what Build-Depends in packaging/debian/control names. Where no root
can be made it says why, and ends with 0.

DEBFULLNAME and DEBEMAIL name who builds it. A package holds an environment of one Python, so each release of Debian needs its own.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from debian_root import bare_root, why_not

__all__ = ["build", "build_depends", "build_in_root", "copy_tree"]

HERE = Path(__file__).resolve().parent
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def build(source: Path, output: Path) -> Path:
    """Build the package; returns its path."""
    with TemporaryDirectory(prefix="hmret-deb-") as name:
        tree = Path(name, "hmret")
        copy_tree(source, tree)
        _lay_out(tree)
        done = subprocess.run(
            ["dpkg-buildpackage", "--build=binary", "--unsigned-changes", "--unsigned-source"],
            cwd=tree,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"{done.stdout}\ndpkg-buildpackage: failed")
        (package,) = Path(name).glob("hmret_*.deb")
        output.mkdir(parents=True, exist_ok=True)
        made = output / package.name
        shutil.copy(package, made)
        return made


def build_in_root(source: Path, output: Path, release: int) -> Path:
    """Build the package for another release in a root of it; returns its path."""
    with bare_root(release) as root:
        root.install("python3", "ca-certificates", *build_depends())
        copy_tree(source, root.path / "src")
        said = root.run("python3", "/src/packaging/deb.py", "/src", "/out")
        built = root.path / said.splitlines()[-1].lstrip("/")
        output.mkdir(parents=True, exist_ok=True)
        made = output / built.name
        shutil.copy(built, made)
        return made


def build_depends() -> list[str]:
    """Return the names of the packages that a build needs."""
    control = (HERE / "debian/control").read_text(encoding="utf-8")
    (line,) = re.findall(r"^Build-Depends: (.*)$", control, re.MULTILINE)
    names = [part.split()[0] for part in line.split(", ")]
    return ["build-essential", *("debhelper" if name == "debhelper-compat" else name for name in names)]


def copy_tree(source: Path, tree: Path) -> None:
    """Copy a tree without what was built in it."""
    listed = (
        subprocess.run(
            ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            text=True,
            check=False,
        )
        if (source / ".git").exists()
        else None
    )
    if listed is None or listed.returncode != 0:
        shutil.copytree(
            source, tree, ignore=shutil.ignore_patterns(".venv", "dist", "build", "__pycache__", "*.so")
        )
        return
    for name in filter(None, listed.stdout.split("\0")):
        if (source / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, tree / name)


def _lay_out(tree: Path) -> None:
    """Put the description of the package where it belongs, with what is told elsewhere in the tree."""
    folder = tree / "debian"
    shutil.copytree(tree / "packaging/debian", folder)
    version = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    release = _release()
    maintainer = f"{os.environ.get('DEBFULLNAME', 'hmret maintainers')} <{os.environ.get('DEBEMAIL', 'hmret@example.org')}>"
    control = folder / "control"
    control.write_text(
        control.read_text(encoding="utf-8").replace("@MAINTAINER@", maintainer), encoding="utf-8"
    )
    (folder / "changelog").write_text(
        f"hmret ({version}~deb{release}) unstable; urgency=medium\n\n"
        f"  * hmret {version} for Debian {release}: see /usr/share/doc/hmret/CHANGELOG.md.\n\n"
        f" -- {maintainer}  {format_datetime(EPOCH)}\n",
        encoding="utf-8",
    )
    license_text = (tree / "LICENSE").read_text(encoding="utf-8")
    (holder,) = re.findall(r"^Copyright \(c\) (.*)$", license_text, re.MULTILINE)
    body = license_text.partition(f"Copyright (c) {holder}")[2].strip()
    indented = "\n".join(f" {line}" if line else " ." for line in body.splitlines())
    path = folder / "copyright"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("@COPYRIGHT@", holder).replace("@LICENSE@", indented), encoding="utf-8")


def _release() -> str:
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(r'^VERSION_ID="?(\d+)', text, re.MULTILINE)
    if found is None:
        raise SystemExit("expected a release of Debian with a number, got none in /etc/os-release")
    return found[1]


if __name__ == "__main__":
    source, output, *releases = sys.argv[1:]
    if releases and why_not():
        print(f"deb-{releases[0]}: skipped: {why_not()}")  # noqa: T201 - what it is for
    elif releases:
        print(build_in_root(Path(source), Path(output), int(releases[0])))  # noqa: T201 - what it is for
    else:
        print(build(Path(source), Path(output)))  # noqa: T201 - the same
