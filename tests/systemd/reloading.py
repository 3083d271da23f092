"""Settings that are read again: good ones are applied, bad ones change nothing and are told."""

from systemd.caches import Images
from systemd.checks import check, noticed
from systemd.machine import DATA_DIR, Machine

__all__: list[str] = []

_METRICS = "metrics_listen: '127.0.0.1:9874'"
_TOLD = "hmret_config_last_reload_successful "


@check
@noticed("ExecReload=/bin/true: nobody tells the engine", "ExecReload=\nExecReload=/bin/true")
def good_settings_are_applied_by_a_reload(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 50)
    machine.configure(enabled=True, more="pinned: ['ghcr.io/*']")
    machine.run("systemctl start hmret")
    machine.wait_line("sweep_ended", deleted=0)
    process = machine.show("MainPID")
    images = Images(DATA_DIR, 50, 100)
    machine.configure(enabled=True)
    machine.run("systemctl reload hmret")
    machine.wait_line("settings_reloaded")
    machine.run("hmret sweep --yes")
    assert images.left() == {*images.numbers} - {*images.due}
    assert machine.show("MainPID") == process


@check
@noticed("no check-config: the reload succeeds", "ExecReload=\nExecReload=/bin/kill -HUP $MAINPID")
@noticed(
    "check-config before the signal: the engine never hears of it",
    "ExecReload=\nExecReload=hmret check-config --quiet --log-format json\nExecReload=/bin/kill -HUP $MAINPID",
)
def bad_settings_fail_the_reload_and_the_old_ones_stay_and_the_status_says_so(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 50)
    machine.configure(enabled=True, more=f"max_deletes_per_sweep: 1, {_METRICS}")
    machine.run("systemctl start hmret")
    machine.wait_line("sweep_ended", deleted=1)
    machine.configure(enabled=True, more=f"max_deletes_per_sweep: many, {_METRICS}")
    machine.run("systemctl reload hmret", code=1)
    line = machine.wait_line("settings_refused")
    assert "hmret.max_deletes_per_sweep" in str(line["detail"]), line
    machine.wait("systemctl show -P StatusText hmret", "settings refused: ")
    assert f"{_TOLD}0.0" in machine.run("curl -s http://127.0.0.1:9874/metrics")
    # The old ones are in force, and the status goes on saying that they are old.
    machine.run("curl -sf -X POST --unix-socket /run/hmret/hmret.sock http://hmret/v1/sweeps")
    assert len(images.left()) == len(images.numbers) - 2
    status = machine.run("systemctl status hmret")
    assert "hmret.max_deletes_per_sweep" in status, status
    assert machine.run("systemctl is-active hmret") == "active\n"
    machine.configure(enabled=True, more=_METRICS)
    machine.run("systemctl reload hmret")
    machine.wait_line("settings_reloaded")
    assert f"{_TOLD}1.0" in machine.run("curl -s http://127.0.0.1:9874/metrics")
    machine.run("hmret sweep --yes")
    assert "refused" not in machine.show("StatusText")
    assert images.left() == {*images.numbers} - {*images.due}
