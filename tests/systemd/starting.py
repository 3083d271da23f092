"""Ready only when it is: what is missing at a start is told, and the service gets well without a hand."""

import os

from systemd.caches import Images, repository
from systemd.checks import check, noticed
from systemd.machine import DATA_DIR, Machine
from systemd.root import ROOT

__all__: list[str] = []

_METRICS = "metrics_listen: '127.0.0.1:9874'"


@check
@noticed("Type=simple: started is ready", "Type=simple")
def it_is_ready_when_it_answers_and_not_before(machine: Machine) -> None:
    (DATA_DIR / "images").mkdir(parents=True)
    # A config that comes late: its reader waits for the other end of the pipe.
    pipe = ROOT / "srv/config.yaml"
    os.mkfifo(pipe)
    machine.drop_in("[Service]\nEnvironment=CONFIG_PATH=/srv/config.yaml\n")
    starting = machine.start("systemctl start hmret && hmret status && curl -sf http://127.0.0.1:9874/readyz")
    machine.wait_until(lambda: machine.show("MainPID") != "0", "the process is there")
    assert machine.show("ActiveState") == "activating"
    machine.run("hmret status", code=1)
    pipe.write_text(f"hmret: {{{_METRICS}}}\n")
    assert starting.wait(machine.patience_seconds) == 0, "at once it answers on both sockets"
    assert machine.show("ActiveState") == "active"


@check
@noticed("Restart=no: nobody tries again", "Restart=no")
def a_missing_config_is_told_by_hmret_and_mends_itself(machine: Machine) -> None:
    (DATA_DIR / "images").mkdir(parents=True)
    machine.run("systemctl start --no-block hmret")
    line = machine.wait_line("command_failed")
    assert "/etc/hypeman/config.yaml" in str(line["error"]), line
    machine.wait("systemctl show hmret", "ExecMainStatus=1")
    machine.configure(enabled=False)
    machine.wait_active()


@check
@noticed(
    "ReadWritePaths without its dash: systemd ends it with 226",
    "ReadWritePaths=\nReadWritePaths=/var/lib/hypeman",
)
def a_missing_data_directory_is_told_by_hmret_and_mends_itself(machine: Machine) -> None:
    machine.configure(enabled=False)
    machine.run("systemctl start --no-block hmret")
    line = machine.wait_line("command_failed")
    assert "/var/lib/hypeman" in str(line["error"]), line
    machine.wait("systemctl show hmret", "ExecMainStatus=1")
    (DATA_DIR / "images").mkdir(parents=True)
    machine.wait_active()
    machine.run("hmret status")


@check
@noticed("RestartPreventExitStatus=1 2: what mends itself is not tried again", "RestartPreventExitStatus=1 2")
def a_taken_port_is_told_by_hmret_and_mends_itself(machine: Machine) -> None:
    (DATA_DIR / "images").mkdir(parents=True)
    machine.configure(enabled=False, more=_METRICS)
    machine.run("systemd-run --unit=taken python3 -m http.server --bind 127.0.0.1 9874")
    try:
        machine.wait("curl -s http://127.0.0.1:9874/", "Directory listing")
        machine.run("systemctl start --no-block hmret")
        assert "127.0.0.1:9874" in str(machine.wait_line("command_failed")["error"])
    finally:
        machine.run("systemctl stop taken")
    machine.wait_active()
    assert "hmret_enabled 0.0" in machine.run("curl -s http://127.0.0.1:9874/metrics")


@check
@noticed(
    "RestartPreventExitStatus=2 3: a locked data directory is not tried again", "RestartPreventExitStatus=2 3"
)
def another_engine_on_the_data_directory_is_told_and_waited_for(machine: Machine) -> None:
    (DATA_DIR / "images").mkdir(parents=True)
    machine.configure(enabled=False)
    machine.run(
        "systemd-run --unit=earlier -p Type=notify -p Environment=CONFIG_PATH=/etc/hypeman/config.yaml hmret run"
    )
    try:
        machine.run("systemctl start --no-block hmret")
        line = machine.wait_line("command_failed")
        assert "process" in str(line["error"]), line
        machine.wait("systemctl show hmret", "ExecMainStatus=3")
    finally:
        machine.run("systemctl stop earlier")
    machine.wait_active()


@check
@noticed("RestartPreventExitStatus= empty: wrong settings are tried for ever", "RestartPreventExitStatus=")
def settings_that_are_wrong_end_it_for_good(machine: Machine) -> None:
    (DATA_DIR / "images").mkdir(parents=True)
    machine.write("/etc/hypeman/config.yaml", "hmret: {odd: 1}\n")
    machine.run("systemctl start hmret", code=1)
    machine.wait("systemctl show hmret", "ExecMainStatus=2")
    machine.wait("systemctl is-active hmret", "failed\n")
    assert machine.show("NRestarts") == "0"
    assert "hmret.odd" in str(machine.wait_line("command_failed")["error"])


@check
@noticed("a variable that switches retention on", "Environment=HMRET__ENABLED=true")
def with_retention_off_it_serves_and_says_how_to_switch_it_on(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 20)
    machine.configure(enabled=False)
    machine.run("systemctl enable --now hmret")
    line = machine.wait_line("retention_disabled")
    assert line["priority"] == 4
    assert "hmret.enabled" in str(line["detail"])
    assert "disabled: nothing is swept" in machine.run("hmret status")
    assert "disabled: nothing is swept" in machine.run("systemctl status hmret")
    assert repository(10) in machine.run(f"hmret mark-used {repository(10)}:v1")
    assert images.left() == set(images.numbers)
    process = machine.show("MainPID")
    machine.configure(enabled=True)
    machine.run("systemctl reload hmret")
    machine.wait_line("sweep_ended", deleted=len(images.due) - 1)
    assert images.left() == {*images.numbers} - {*images.due} | {10}
    assert machine.show("MainPID") == process
    machine.run("systemctl disable hmret")
