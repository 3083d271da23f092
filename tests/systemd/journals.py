"""The journal: each line is JSON with the priority of its level, whatever happens."""

import json
import shutil

from systemd.caches import Images
from systemd.checks import check, noticed
from systemd.machine import DATA_DIR, Machine

__all__: list[str] = []

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}

# Carried out by Python before hmret. What nobody has foreseen: an error in a thread, and one in a destructor.
_UNCAUGHT = """
import threading, time
class Odd:
    def __del__(self):
        raise RuntimeError("an odd destructor")
def work():
    time.sleep(3)
    odd = Odd()
    del odd
    raise RuntimeError("an odd thread")
import sys
if "run" in sys.orig_argv:
    threading.Thread(target=work, daemon=True).start()
"""
# An error that ends the service as it starts, and once it is running.
_FATAL_AT_START = """
import hmret.cli.service.serving as serving
def fail(*_, **__):
    raise RuntimeError("an odd start")
serving.bound_socket = fail
"""
_FATAL_LATER = """
import anyio
import hmret.cli.service.serving as serving
async def fail(*_, **__):
    await anyio.sleep(1)
    raise RuntimeError("an odd end")
serving._keep_bound = fail
"""


@check
@noticed("no JOURNAL_STREAM: all lines have one priority", "UnsetEnvironment=JOURNAL_STREAM")
def errors_and_only_errors_are_found_by_their_priority(machine: Machine) -> None:
    Images(DATA_DIR, 0, 50)
    machine.configure(enabled=True, more="leases: when-offered")
    guest = DATA_DIR / "guests/vm-1/metadata.json"
    guest.parent.mkdir(parents=True)
    guest.write_text("{")
    machine.run("systemctl start hmret")
    machine.run("hmret sweep --yes", code=1)
    machine.wait_line("deletion_suspended")
    shutil.rmtree(guest.parent)
    machine.run("hmret sweep --yes")
    machine.write("/etc/hypeman/config.yaml", "hmret: {odd: 1}\n")
    machine.run("systemctl reload hmret", code=1)
    machine.wait_line("settings_refused")
    machine.run("systemctl restart hmret", code=1)
    machine.wait("systemctl is-active hmret", "failed\n")
    lines = machine.lines()
    assert {(line["level"], line["priority"]) for line in lines} <= set(_PRIORITIES.items())
    assert {line["level"] for line in lines} >= {"info", "warning", "error"}
    errors = [line for line in lines if line["level"] == "error"]
    assert {line["event"] for line in errors} == {"settings_refused", "command_failed"}
    found = [json.loads(line) for line in machine.messages("-p err").splitlines() if line.startswith("{")]
    assert found == [{key: value for key, value in line.items() if key != "priority"} for line in errors]


@check
@noticed("a log for people", "ExecStart=\nExecStart=hmret run --log-format console")
def a_traceback_is_one_line_of_json_with_the_priority_of_an_error(machine: Machine) -> None:
    (DATA_DIR / "images").mkdir(parents=True)
    machine.configure(enabled=True)
    for patch, told, ends in (
        (_UNCAUGHT, ("an odd thread", "an odd destructor"), False),
        (_FATAL_AT_START, ("an odd start",), True),
        (_FATAL_LATER, ("an odd end",), True),
    ):
        machine.drop_in(f"[Service]\n{machine.patch(patch)}")
        machine.run("systemctl start --no-block hmret")
        for text in told:
            line = machine.wait_traceback(text)
            assert line["priority"] == _PRIORITIES["error"], line
            assert "Traceback" in str(line["exception"]), line
        if ends:
            machine.wait("systemctl show hmret", "ExecMainStatus=1")
        else:
            machine.run("hmret status")  # it runs on
        machine.stop()
