"""What the unit allows is enough: sweeps, leases, reloads and restarts under its filter and with its rights."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from systemd.caches import Images, image_folder, put_guest, repository
from systemd.checks import check, noticed
from systemd.machine import DATA_DIR, Machine

__all__: list[str] = []

IMAGES = int(os.environ.get("SYSTEMD_TEST_IMAGES", "20000"))
_MAP = (
    "import mmap, sys, time; file = open(sys.argv[1], 'rb'); "
    "kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); file.close(); print(flush=True); time.sleep(3600)"
)


@contextmanager
def _disks_in_use(machine: Machine, images: list[int]) -> Iterator[None]:
    """Have three disks open while the block lasts: by another unit, mapped by another one, and by the host."""
    inside = [f"/var/lib/hypeman/{image_folder(number)}/rootfs.ext4" for number in images]
    machine.run(f"systemd-run --unit=reader tail -f {inside[0]}")
    machine.run(f'systemd-run --unit=mapper python3 -c "{_MAP}" {inside[1]}')
    machine.wait("cat /proc/$(systemctl show -P MainPID mapper)/maps", inside[1])
    machine.wait("ls -l /proc/$(systemctl show -P MainPID reader)/fd", inside[0])
    with (DATA_DIR / image_folder(images[2]) / "rootfs.ext4").open("rb"):
        try:
            yield
        finally:
            machine.run("systemctl stop reader mapper")


def _without_trouble(machine: Machine) -> None:
    """Have nothing in the journal that was refused, nothing unforeseen, and no error."""
    bad = [
        line
        for line in machine.lines()
        if "exception" in line or line["level"] == "error" or "not permitted" in str(line)
    ]
    assert bad == []
    assert machine.messages("-p err") == ""


@check
@noticed(
    "CapabilityBoundingSet without CAP_LEASE: nobody asks who has it open", "CapabilityBoundingSet=~CAP_LEASE"
)
@noticed("without CAP_DAC_OVERRIDE", "CapabilityBoundingSet=~CAP_DAC_OVERRIDE")
@noticed(
    "without CAP_DAC_READ_SEARCH and CAP_DAC_OVERRIDE",
    "CapabilityBoundingSet=\nCapabilityBoundingSet=CAP_LEASE",
)
@noticed("rename taken out of the filter", "SystemCallFilter=~rename renameat renameat2")
@noticed("fcntl taken out of the filter", "SystemCallFilter=~fcntl")
def other_users_images_are_deleted_and_those_in_use_are_kept(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 1000)
    images.belong_to_another_user(images.due[::2])
    in_use = images.due[:6:2]  # of another user, too
    guest = images.due[8]
    put_guest(DATA_DIR, "vm-1", guest)
    machine.configure(enabled=True)
    with _disks_in_use(machine, in_use):
        machine.run("systemctl start hmret")
        swept = machine.wait_line("sweep_ended")
        assert (swept["deleted"], swept["errors"]) == (len(images.due) - len(in_use) - 1, 0), swept
        assert images.left() == {*images.numbers} - {*images.due} | {*in_use, guest}
        _without_trouble(machine)
    timers = DATA_DIR / "system/image-retention"
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (timers / repository(1)).rglob("*")}
    assert modes | {(True, timers.stat().st_mode & 0o777)} == {(False, 0o644), (True, 0o755)}, modes


@check
@noticed("flock taken out of the filter", "SystemCallFilter=~flock")
@noticed("adjtimex taken out of the filter", "SystemCallFilter=~adjtimex clock_adjtime")
@noticed("getdents taken out of the filter", "SystemCallFilter=~getdents64")
def from_a_first_sweep_of_many_images_to_the_stop_it_calls_nothing_that_is_refused(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, IMAGES, due_every=50)
    first = images.due[0]
    machine.configure(enabled=True, more="quarantine: 1h, metrics_listen: '127.0.0.1:9874'")
    # A refused call is no error that could be passed over: it ends the process.
    machine.drop_in("[Service]\nSystemCallErrorNumber=kill\n")
    machine.run("systemctl start hmret")
    machine.wait_line("sweep_ended", deleted=len(images.due))
    machine.run(f"hmret restore {repository(first)}:v1")
    lease = json.loads(machine.run(f"hmret lease {repository(first)}:v1 --ttl 10m --reason test --json"))
    assert lease["id"] in machine.run("hmret leases")
    for line in (
        "hmret status",
        "hmret plan",
        "hmret quarantine",
        "hmret forecast",
        "hmret du",
        f"hmret explain {repository(first)}:v1",
        "curl -sf http://127.0.0.1:9874/metrics",
        "curl -sf http://127.0.0.1:9874/",
    ):
        machine.run(line)
    machine.configure(enabled=True, more="keep_latest: 1")
    machine.run("systemctl reload hmret")
    machine.wait_line("settings_reloaded")
    machine.run("hmret sweep --yes")
    assert machine.show("NRestarts") == "0"
    machine.run("systemctl restart hmret")
    machine.wait("hmret leases", lease["id"])
    machine.run(f"hmret unlease {lease['id']}")
    machine.run("hmret sweep --yes")
    machine.run("systemctl stop hmret")
    assert (machine.show("Result"), machine.show("NRestarts")) == ("success", "0")
    assert images.left() == {*images.numbers} - {*images.due} | {first}
    _without_trouble(machine)
