"""The root of the container: Debian 12 of debootstrap, with the checkout in `/src`, and hmret installed in it.

It is kept, so that only the first time takes long.
"""

import os
import shutil
import subprocess
from pathlib import Path

__all__ = [
    "CHECKOUT",
    "ENVIRONMENT",
    "ROOT",
    "Skipped",
    "copy_checkout",
    "install",
    "make_root",
    "package",
    "run",
]

CHECKOUT = Path(__file__).resolve().parents[2]
ROOT = Path(os.environ.get("SYSTEMD_TEST_ROOT", "/var/tmp/hmret-systemd-test"))
ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
)

_MIRROR = os.environ.get("SYSTEMD_TEST_MIRROR", "http://deb.debian.org/debian")
# With a compiler, so that the native core is what runs, as in the package.
_PACKAGES = (
    "systemd,systemd-sysv,dbus,python3,python3-venv,python3-dev,gcc,libc6-dev,make,ca-certificates,procps,curl,"
    "iproute2,kmod"
)
_COMPLETE = ROOT / "etc/hmret-systemd-test"


class Skipped(Exception):  # noqa: N818 - it is no error
    """What is asked for cannot be tried here; the text says why."""


def run(*command: str) -> str:
    """Run a command on the host; returns what it says."""
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def make_root() -> None:
    """Make the root, if there is none, and take out of it what an earlier run has left.

    Raises:
        Skipped: it cannot be made, for want of a mirror for example.
    """
    if not _COMPLETE.exists() or _COMPLETE.read_text() != _PACKAGES:
        shutil.rmtree(ROOT, ignore_errors=True)
        ROOT.parent.mkdir(parents=True, exist_ok=True)
        try:
            run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(ROOT), _MIRROR)
        except AssertionError as error:
            raise Skipped(
                f"no root can be made from {_MIRROR}: {str(error).strip().splitlines()[-1]}"
            ) from None
        _COMPLETE.write_text(_PACKAGES)
    for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copyfile(f"/{name}", ROOT / name)
    # It is no harm if a power cut takes this root.
    (ROOT / "etc/dpkg/dpkg.cfg.d/quickly").write_text("force-unsafe-io\n")
    if (ROOT / "var/lib/dpkg/info/hmret.list").exists():
        in_root("dpkg", "--purge", "hmret")
    for name in ("opt/hmret", "var/log/journal", "etc/hmret", "usr/share/doc/hmret"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for name in ("usr/local/bin/hmret", "etc/systemd/system/hmret.service"):
        (ROOT / name).unlink(missing_ok=True)
    copy_checkout()


def copy_checkout() -> None:
    """Copy what git knows of the checkout, and what it does not ignore, to `/src`."""
    shutil.rmtree(ROOT / "src", ignore_errors=True)
    listed = run("git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (ROOT / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, ROOT / "src" / name)


def in_root(*command: str) -> str:
    """Run a command in the root with the host's network, which the container does not have."""
    return run("chroot", str(ROOT), "env", "-i", *ENVIRONMENT, *command)


def install() -> None:
    """Install hmret as the README says, from the checkout."""
    in_root("make", "-C", "/src", "install")


def package() -> Path:
    """Return the Debian package of this checkout for the release that the root is.

    Raises:
        Skipped: there is none.
    """
    found = sorted((CHECKOUT / "dist").glob("hmret_*deb12_amd64.deb"))
    if not found:
        raise Skipped("no dist/hmret_*deb12_amd64.deb: `make deb` on Debian 12 makes it")
    return found[-1]
