"""Roots of Debian that debootstrap makes, in which something is built or tried.

A bare root of each release is kept in $HMRET_ROOTS (/var/tmp/hmret-roots), so that only the first time takes long; each use
has a copy of it. $DEBIAN_MIRROR names another mirror than Debian's own. What this host trusts and asks to find others (its
certificates and resolv.conf) counts in a root as well.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["RELEASES", "Root", "bare_root", "why_not"]

ROOTS = Path(os.environ.get("HMRET_ROOTS", "/var/tmp/hmret-roots"))
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
RELEASES: Mapping[int, str] = {12: "bookworm", 13: "trixie"}
TOOLS = ("debootstrap", "chroot", "mount", "unshare")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_HOST_FILES = ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt")


def why_not() -> str:
    """Return why no root can be made here; empty: one can."""
    if os.geteuid() != 0:
        return "only root can"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(missing)} (apt install debootstrap)" if missing else ""


class Root:
    """A root of Debian, in which commands are run without the host's environment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str, code: int = 0, **environment: str) -> str:
        """Run a command in it; returns what it says. `code`: the exit code that is expected."""
        program = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", program, str(self.path), *command],
            env={**ENVIRONMENT, **environment},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != code:
            raise SystemExit(f"{' '.join(command)}: exit {done.returncode}, expected {code}\n{done.stdout}")
        return done.stdout

    def shell(self, line: str, *, code: int = 0) -> str:
        """Run a line of shell in it."""
        return self.run("sh", "-ec", line, code=code)

    def install(self, *packages: str) -> None:
        """Install packages of Debian, or files of packages."""
        self.run("apt-get", "update", "--quiet")
        self.run("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *packages)
        # What a package has just written of them is not what this host has.
        _take_from_host(self.path)

    def copy(self, source: Path, folder: str) -> str:
        """Copy a file or a tree into a folder of it; returns its path in there."""
        target = self.path / folder.lstrip("/") / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target)
        return f"{folder}/{source.name}"

    def files(self) -> set[str]:
        """Return the paths of everything in it, but for what the kernel shows and the package manager keeps."""
        passed = ("proc", "sys", "dev", "run", "tmp", "var/cache", "var/lib/apt", "var/lib/dpkg", "var/log")
        return {
            str(path)
            for path in (one.relative_to(self.path) for one in self.path.rglob("*"))
            if not any(path.is_relative_to(folder) for folder in passed)
        }


@contextmanager
def bare_root(release: int) -> Iterator[Root]:
    """Give a root of a release with nothing but what is essential; it goes with the block."""
    base = ROOTS / f"debian-{release}"
    if not base.exists():
        partial = base.with_name(f"{base.name}.new")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _say(f"making a root of Debian {release}")
        command = ["debootstrap", "--variant=minbase", RELEASES[release], str(partial), MIRROR]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        partial.rename(base)
    used = ROOTS / f"used-{release}-{os.getpid()}"
    subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(used)], check=True)
    try:
        _take_from_host(used)
        # It is thrown away in any case, so nothing in it has to survive a power loss.
        (used / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
        yield Root(used)
    finally:
        shutil.rmtree(used, ignore_errors=True)


def _take_from_host(root: Path) -> None:
    for name in _HOST_FILES:
        if Path("/", name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path("/", name), root / name)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
