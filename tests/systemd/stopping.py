"""The service is stopped in every way there is: nothing is lost, and nothing is left."""

import time
from functools import partial

from systemd.caches import Images
from systemd.checks import check, noticed
from systemd.machine import DATA_DIR, Machine
from systemd.slow_disk import DEAF, SLOW

__all__: list[str] = []

_STOPS_WITHIN_SECONDS = 10


@check
@noticed("WatchdogSec=0: nobody notices", "WatchdogSec=0")
def the_watchdog_ends_one_that_hangs_and_starts_it_again(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 50)
    machine.configure(enabled=True)
    machine.run("systemctl start hmret")
    machine.wait_line("sweep_ended", deleted=len(images.due))
    process = machine.show("MainPID")
    more = Images(DATA_DIR, 50, 100)
    machine.run("systemctl kill --kill-who=main -s STOP hmret")
    machine.wait_restarted(1)
    machine.wait_active()
    assert "Watchdog timeout" in machine.messages("")
    assert machine.show("MainPID") not in ("0", process)
    machine.wait_line("sweep_ended", deleted=len(more.due))
    machine.run("hmret status")


@check
@noticed("Restart=no: it stays killed", "Restart=no")
def killed_in_mid_deletion_three_times_it_recovers_and_leaves_nothing_in_the_trash(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 2000, due_every=2)
    machine.configure(enabled=True)
    machine.run("systemctl start --no-block hmret")
    for kill in range(1, 4):
        machine.wait_until(lambda: machine.show("MainPID") != "0", "the process is there")
        # It looks every millisecond, and kills when something has gone and something lies in the trash.
        found = machine.run(
            "python3 /src/tests/systemd/kill_in_deletion.py $(systemctl show -P MainPID hmret) /var/lib/hypeman"
        )
        assert "killed" in found, found
        assert images.left_in_trash() != [], found
        assert images.left_in_cache() >= {*images.numbers} - {*images.due}
        machine.wait_restarted(kill)
    machine.wait_active()
    machine.run("hmret sweep --yes")
    assert images.left() == {*images.numbers} - {*images.due}
    assert images.left_in_trash() == []
    assert machine.messages("-p err") == ""


@check
@noticed("KillSignal=SIGCONT: nobody tells it to stop", "KillSignal=SIGCONT")
@noticed(
    "an erase that does not ask whether to stop",
    lambda machine: machine.break_unit(machine.patch(DEAF, "deaf")),
)
def during_a_long_erase_it_stops_soon_and_goes_on_with_it_at_the_next_start(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 200, due_every=2)
    machine.configure(enabled=True)
    machine.drop_in(f"[Service]\nEnvironment=HMRET_NATIVE=0\n{machine.patch(SLOW)}")
    for turn in ("as it sweeps", "as it recovers"):
        machine.run("systemctl start --no-block hmret")
        left = len(images.left_in_trash())
        machine.wait_until(partial(_is_erasing, images, left), f"it erases {turn}")
        before = time.monotonic()
        machine.run("systemctl stop hmret")
        took = time.monotonic() - before
        assert took < _STOPS_WITHIN_SECONDS, f"{turn} it took {took:.1f} s"
        assert machine.show("Result") == "success", turn
        assert images.left_in_trash() != [], turn
    machine.drop_in("")
    machine.run("systemctl start hmret")
    machine.run("hmret sweep --yes")
    assert images.left() == {*images.numbers} - {*images.due}
    assert images.left_in_trash() == []
    assert machine.messages("-p err") == ""


def _is_erasing(images: Images, left: int) -> bool:
    """Tell whether there is something in the trash, and what was left there at the start gets less."""
    now = len(images.left_in_trash())
    return 0 < now < left if left else now > 1
