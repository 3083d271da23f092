"""Ways in: what of hmret is installed in the container, and how it gets there and away."""

import shutil
from typing import Literal

from systemd.machine import Machine
from systemd.root import ROOT, install, package

__all__ = ["PACKAGE", "Way", "have", "installed"]

Way = Literal["checkout", "package", "nothing"]

PACKAGE = "/srv/hmret.deb"
"""Where the package lies in the container while it is installed."""


def installed() -> Way:
    """Return the way in which hmret is installed."""
    if (ROOT / "opt/hmret/installed-files").exists():
        return "checkout"
    return "package" if (ROOT / "var/lib/dpkg/info/hmret.list").exists() else "nothing"


def have(machine: Machine, way: Way) -> None:
    """Have hmret installed in this way and in no other.

    Raises:
        Skipped: there is no package.
    """
    chosen = package() if way == "package" else None
    present = installed()
    if present == way:
        return
    machine.stop()
    if present == "checkout":
        machine.run("make -C /src uninstall")
        # What an earlier fault has made it forget.
        (ROOT / "etc/systemd/system/hmret.service").unlink(missing_ok=True)
    elif present == "package":
        machine.run("dpkg --purge hmret")
    if chosen is not None:
        shutil.copyfile(chosen, ROOT / PACKAGE.lstrip("/"))
        machine.run(f"dpkg -i {PACKAGE}")
    elif way == "checkout":
        install()  # from outside: the container has no network
        machine.run("systemctl daemon-reload")
