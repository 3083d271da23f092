"""The Debian package: installed, upgraded while it sweeps, removed, purged."""

import os
import shutil
import tempfile
from pathlib import Path

from systemd.caches import Images
from systemd.checks import check_of, noticed
from systemd.machine import DATA_DIR, Machine
from systemd.root import ROOT, package, run
from systemd.slow_disk import SLOW
from systemd.ways import PACKAGE

__all__: list[str] = []

_SETTINGS = ROOT / "etc/hmret/config.yaml"
_NEWER = "/srv/hmret-newer.deb"
# What changes while any package comes or goes, and what is no package's.
_NOT_LOOKED_AT = (
    "proc",
    "sys",
    "run",
    "tmp",
    "dev",
    "src",
    "srv",
    "var/log",
    "var/cache",
    "var/lib/dpkg",
    "var/tmp",
)


def _put_package() -> None:
    shutil.copyfile(package(), ROOT / PACKAGE.lstrip("/"))


def _put_newer_package() -> None:
    """Put the same package with a higher version into the container."""
    with tempfile.TemporaryDirectory() as folder:
        run("dpkg-deb", "-R", str(package()), folder)
        control = Path(folder, "DEBIAN/control")
        lines = control.read_text().splitlines()
        newer = [f"{line}+newer1" if line.startswith("Version:") else line for line in lines]
        control.write_text("\n".join(newer) + "\n")
        run("dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", folder, str(ROOT / _NEWER.lstrip("/")))


def _all_files() -> set[str]:
    """Return the path of everything in the container but in the data directory."""
    found: set[str] = set()
    not_looked_at = {str(ROOT / name) for name in _NOT_LOOKED_AT} | {str(DATA_DIR)}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if f"{folder}/{name}" not in not_looked_at]
        found.update(f"{folder}/{name}".removeprefix(str(ROOT)) for name in (*folders, *files))
    return found


def _forbid_restarts(machine: Machine) -> None:
    """Have the policy of the host keep packages from restarting anything."""
    machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    machine.run("chmod 755 /usr/sbin/policy-rc.d")


def _leave_a_file(machine: Machine) -> None:
    """Have the service make a file that no package knows of."""
    machine.run("rm -f /opt/left-by-hmret")
    machine.break_unit("ExecStartPre=+/bin/touch /opt/left-by-hmret")


def _spoil(script: str) -> None:
    """Have a package's script do nothing."""
    path = ROOT / f"var/lib/dpkg/info/hmret.{script}"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)


def _start_by_itself(machine: Machine) -> None:
    """Have the unit enabled before the package comes, as a package that enables itself would."""
    wants = ROOT / "etc/systemd/system/multi-user.target.wants"
    (wants / "hmret.service").symlink_to("/lib/systemd/system/hmret.service")


@check_of("nothing")
@noticed("it is enabled", _start_by_itself)
def a_package_that_is_installed_enables_and_starts_nothing_and_works(machine: Machine) -> None:
    _put_package()
    machine.run(f"dpkg -i {PACKAGE}")
    try:
        assert machine.run("systemctl is-enabled hmret", code=1) == "disabled\n"
        assert machine.run("systemctl is-active hmret", code=3) == "inactive\n"
        assert machine.run("command -v hmret") == "/usr/bin/hmret\n"
        assert "native core" in machine.run("hmret --version")
        assert "no native core" not in machine.run("hmret --version")
        # Every setting in it is commented out.
        assert _SETTINGS.exists()
        assert "retention is disabled" in machine.run("hmret check-config")
        images = Images(DATA_DIR, 0, 20)
        machine.run("hmret plan")
        machine.configure(enabled=True)
        machine.run("systemctl enable --now hmret")
        machine.wait_line("sweep_ended", deleted=len(images.due))
        pages = [page for page in machine.show("Documentation").split() if page.startswith("file://")]
        begin = [machine.run(f"head -c 9 {page.removeprefix('file://')}") for page in pages]
        assert begin == ["<!doctype"] * 2, begin
        assert images.left() == {*images.numbers} - {*images.due}
    finally:
        machine.run("systemctl disable hmret; dpkg --purge hmret", code=None)


@check_of("package")
@noticed("a package whose scripts restart nothing", _forbid_restarts)
def a_package_that_is_upgraded_while_it_sweeps_restarts_it_and_it_goes_on(machine: Machine) -> None:
    _put_newer_package()
    images = Images(DATA_DIR, 0, 200, due_every=2)
    machine.configure(enabled=True)
    machine.drop_in(f"[Service]\nEnvironment=HMRET_NATIVE=0\n{machine.patch(SLOW)}")
    machine.run("systemctl enable --now hmret")
    machine.wait_until(lambda: len(images.left_in_trash()) > 1, "it deletes")
    process = machine.show("MainPID")
    machine.run(f"dpkg -i {_NEWER}")
    assert "+newer1" in machine.run("dpkg-query -W -f '${Version}' hmret")
    machine.wait_active()
    assert machine.show("MainPID") not in (process, "0")
    machine.wait_line("deletion_recovered")  # it was in the midst of it
    machine.drop_in("")
    machine.run("systemctl restart hmret; hmret sweep --yes; systemctl disable hmret")
    # One that does not run is not started by it.
    machine.run(f"systemctl stop hmret; dpkg -i {_NEWER}")
    assert machine.run("systemctl is-active hmret", code=3) == "inactive\n"
    assert images.left() == {*images.numbers} - {*images.due}
    assert images.left_in_trash() == []
    assert machine.messages("-p err") == ""


@check_of("package")
@noticed("a package whose scripts stop nothing", lambda machine: _spoil("prerm"))
def a_package_that_is_removed_stops_it_and_keeps_settings_and_data(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 20)
    machine.configure(enabled=True)
    machine.run("systemctl enable --now hmret")
    machine.wait_line("sweep_ended", deleted=len(images.due))
    try:
        machine.run("dpkg -r hmret")
        machine.run("systemctl is-active hmret", code=3)
        assert machine.run("pgrep -f '[h]mret run'", code=1) == ""
        assert not (ROOT / "usr/lib/hmret").exists()
        assert not (ROOT / "usr/bin/hmret").exists()
        assert _SETTINGS.exists()
        assert (DATA_DIR / "system/hmret/journal.jsonl").exists()
        assert images.left() == {*images.numbers} - {*images.due}
    finally:
        machine.run("systemctl stop hmret; dpkg --purge hmret", code=None)


@check_of("nothing")
@noticed("a purge that leaves something", _leave_a_file)
def a_package_that_is_purged_leaves_nothing_but_the_data_directory(machine: Machine) -> None:
    before = _all_files()
    _put_package()
    images = Images(DATA_DIR, 0, 20)
    machine.run(f"dpkg -i {PACKAGE}")
    machine.configure(enabled=True)
    # root's own runs leave what Python has compiled.
    machine.run("hmret plan; hmret --help; systemctl enable --now hmret")
    machine.wait_line("sweep_ended", deleted=len(images.due))
    machine.run("dpkg --purge hmret")
    left = _all_files() - before - {"/etc/hypeman", "/etc/hypeman/config.yaml"}
    assert left == set(), sorted(left)
    machine.run("systemctl status hmret", code=4)  # there is none
    assert (DATA_DIR / "system/hmret/journal.jsonl").exists()
    assert images.left() == {*images.numbers} - {*images.due}
