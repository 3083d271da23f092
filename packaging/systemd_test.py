"""Tries the unit under a real systemd: installs hmret in a root of Debian 12, boots it in a container, and acts in it.

`make systemd-test`. Only root can, and systemd-nspawn and debootstrap must be there; elsewhere it says why not, and ends
with 0. The root is kept in $SYSTEMD_TEST_ROOT (/var/tmp/hmret-systemd-test), so that only the first time takes long.

Each check is a sentence; what it needs it makes itself. The first that fails ends the run, with what the journal says.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = Path(os.environ.get("SYSTEMD_TEST_ROOT", "/var/tmp/hmret-systemd-test"))
MIRROR = os.environ.get("SYSTEMD_TEST_MIRROR", "http://deb.debian.org/debian")
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,make,ca-certificates,procps,curl,iproute2"
TOOLS = ("systemd-nspawn", "debootstrap", "nsenter", "chroot")
IMAGES = int(os.environ.get("SYSTEMD_TEST_IMAGES", "2000"))
DEADLINE_SECONDS = 300

CONFIG = "images: {{auto_delete: {{enabled: {enabled}, allowed: ['*']}}}}\nhmret: {{{more}}}\n"
MAKE_IMAGES = """
import os, sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, "/src/tests")
from cli.caches import Cache
root = Path(sys.argv[1])
cache = object.__new__(Cache)
cache.root = root
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    days = timedelta(days=31) if number % 10 == 0 else None
    cache.image(f"ghcr.io/many/{number:06}", "a", "v1", unused=days)
    folder = root / f"images/ghcr.io/many/{number:06}" / ("a" * 64)
    if number % 20 == 0:
        for path in (*folder.iterdir(), folder):
            os.chown(path, 4242, 4242)
            path.chmod(0o700 if path.is_dir() else 0o600)
"""

_checks: list[Callable[["Machine"], None]] = []


def check(function: Callable[["Machine"], None]) -> Callable[["Machine"], None]:
    """Add a check; its name is its sentence."""
    _checks.append(function)
    return function


def why_not() -> str:
    """Return why this cannot be tried here; empty: it can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)} (apt install systemd-container debootstrap)"
    return ""


def make_root() -> None:
    """Make a root of Debian 12, if there is none, with hmret installed as the README says."""
    if not (ROOT / "etc/debian_version").exists():
        shutil.rmtree(ROOT, ignore_errors=True)
        ROOT.parent.mkdir(parents=True, exist_ok=True)
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(ROOT), MIRROR)
    for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copyfile(f"/{name}", ROOT / name)
    for name in (
        "src",
        "opt/hmret",
        "var/lib/hypeman",
        "srv",
        "etc/hypeman",
        "etc/systemd/system/hmret.service.d",
    ):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for name in ("var/log/journal", "etc/hmret"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    (ROOT / "src").mkdir()
    (ROOT / "srv").mkdir()
    listed = run("git", "-C", str(HERE), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (HERE / name).is_file():
            (ROOT / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, ROOT / "src" / name)
    install()


def install() -> None:
    """Have `make install` carried out in the root."""
    run("chroot", str(ROOT), "env", "-i", *ENVIRONMENT, "make", "-C", "/src", "install")


ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
)


def run(*command: str) -> str:
    """Run a command on the host; returns what it says."""
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


class Machine:
    """The container that is booted."""

    def __init__(self, leader: int) -> None:
        self._enter = (
            "nsenter",
            "-t",
            str(leader),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "-C",
            "env",
            "-i",
            *ENVIRONMENT,
        )

    def run(self, line: str, *, code: int | None = 0) -> str:
        """Run a line of shell in it; returns what it says. `code`: what it must end with; None: whatever."""
        done = subprocess.run(
            [*self._enter, "/bin/sh", "-c", line],
            text=True,
            capture_output=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
        said = done.stdout + done.stderr
        if code is not None and done.returncode != code:
            raise AssertionError(f"{line}: ended with {done.returncode}, expected {code}\n{said}")
        return said

    def wait(self, line: str, expected: str) -> str:
        """Run a line until it says something."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while expected not in (said := self.run(line, code=None)):
            if time.monotonic() > ends:
                raise AssertionError(f"{line}: never said {expected!r}\n{said}")
            time.sleep(0.2)
        return said

    def write(self, path: str, text: str) -> None:
        place = ROOT / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def configure(self, *, enabled: bool, more: str = "") -> None:
        self.write("/etc/hypeman/config.yaml", CONFIG.format(enabled=str(enabled).lower(), more=more))

    def drop_in(self, text: str) -> None:
        """Have a drop-in of this text, and no other; empty: none."""
        shutil.rmtree(ROOT / "etc/systemd/system/hmret.service.d", ignore_errors=True)
        if text:
            self.write("/etc/systemd/system/hmret.service.d/test.conf", text)
        self.run("systemctl daemon-reload")

    def stop(self) -> None:
        self.run("systemctl stop hmret; systemctl reset-failed hmret || true")

    def wait_active(self) -> None:
        self.wait("systemctl is-active hmret; journalctl -u hmret -n 3 -o cat", "active\n")
        self.wait("systemctl show -P ActiveState hmret", "active\n")

    def wait_line(self, event: str, **keys: object) -> dict[str, object]:
        """Wait until the journal has an event with such keys."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while True:
            for line in self.lines():
                if line.get("event") == event and all(line.get(key) == value for key, value in keys.items()):
                    return line
            if time.monotonic() > ends:
                raise AssertionError(f"{event} {keys} was not logged")
            time.sleep(0.2)

    def lines(self) -> list[dict[str, object]]:
        """What hmret has logged since the check began."""
        found = self.run(f"journalctl -u hmret -o json --no-pager --since=@{self.since}", code=None)
        entries = [json.loads(line) for line in found.splitlines() if line.startswith("{")]
        own = [
            entry
            for entry in entries
            if entry.get("_COMM") != "systemd" and entry.get("_TRANSPORT") == "stdout"
        ]
        lines = []
        for entry in own:
            line = json.loads(entry["MESSAGE"])  # each of them is JSON
            lines.append({**line, "priority": int(entry["PRIORITY"])})
        return lines

    since: str = "0"


@contextmanager
def booted() -> Iterator[Machine]:
    """Boot the container while the block lasts."""
    command = ("systemd-nspawn", "-q", "-D", str(ROOT), "--register=no", "--keep-unit", "--private-network")
    rights = ("--system-call-filter=bpf", "--capability=CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON")
    with subprocess.Popen(
        [*command, *rights, "-b", "--console=pipe"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
    ) as process:
        try:
            machine = Machine(leader_of(process))
            machine.wait("systemctl is-system-running", "running")
            yield machine
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def leader_of(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the first process of the container."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ends = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        for child in children.read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        time.sleep(0.1)
    raise SystemExit("systemd-test: skipped: this host cannot boot a container")


@check
def a_missing_config_is_told_by_hmret_and_mends_itself(machine: Machine) -> None:
    machine.run("systemctl start --no-block hmret")
    line = machine.wait_line("command_failed")
    assert "/etc/hypeman/config.yaml" in str(line["error"]), line
    assert "ExecMainStatus=1" in machine.wait("systemctl show hmret", "ExecMainStatus=1")
    (ROOT / "var/lib/hypeman/images").mkdir(parents=True)
    machine.configure(enabled=False)
    machine.wait_active()


@check
def a_missing_data_directory_is_told_by_hmret_and_mends_itself(machine: Machine) -> None:
    shutil.rmtree(ROOT / "var/lib/hypeman")
    machine.run("systemctl start --no-block hmret")
    line = machine.wait_line("command_failed")
    assert "/var/lib/hypeman" in str(line["error"]), line
    machine.wait("systemctl show hmret", "ExecMainStatus=1")  # and not 226
    (ROOT / "var/lib/hypeman/images").mkdir(parents=True)
    machine.wait_active()


@check
def a_taken_port_is_told_by_hmret_and_mends_itself(machine: Machine) -> None:
    machine.configure(enabled=False, more="metrics_listen: '127.0.0.1:9874'")
    machine.run("systemd-run --unit=taken python3 -m http.server --bind 127.0.0.1 9874")
    machine.wait("curl -s http://127.0.0.1:9874/", "Directory listing")
    machine.run("systemctl start --no-block hmret")
    assert "127.0.0.1:9874" in str(machine.wait_line("command_failed")["error"])
    machine.run("systemctl stop taken")
    machine.wait_active()
    assert "hmret_enabled 0.0" in machine.run("curl -s http://127.0.0.1:9874/metrics")


@check
def settings_that_are_wrong_end_it_for_good(machine: Machine) -> None:
    machine.write("/etc/hypeman/config.yaml", "hmret: {odd: 1}\n")
    machine.run("systemctl start hmret", code=1)
    machine.wait("systemctl show hmret", "ExecMainStatus=2")
    time.sleep(0.5)
    assert machine.run("systemctl is-active hmret", code=None) == "failed\n"
    assert "hmret.odd" in str(machine.wait_line("command_failed")["error"])


@check
def enabled_at_once_with_retention_off_it_serves_and_says_so(machine: Machine) -> None:
    machine.configure(enabled=False)
    machine.run(f"python3 -c '{MAKE_IMAGES}' /var/lib/hypeman 0 1")
    machine.run("systemctl enable --now hmret")
    assert machine.wait_line("retention_disabled")["priority"] == 4
    assert "disabled: nothing is swept" in machine.run("hmret status")
    assert "disabled: nothing is swept" in machine.run("systemctl status hmret")
    assert "ghcr.io/many/000000" in machine.run("hmret mark-used ghcr.io/many/000000:v1")


@check
def a_first_sweep_of_many_images_is_refused_nothing(machine: Machine) -> None:
    machine.configure(enabled=True)
    machine.run(f"python3 -c '{MAKE_IMAGES}' /var/lib/hypeman 1 {IMAGES}")
    open_disk = f"/var/lib/hypeman/images/ghcr.io/many/000010/{'a' * 64}/rootfs.ext4"
    machine.run(f"systemd-run --unit=reader tail -f {open_disk}")
    due = [number for number in range(1, IMAGES) if number % 10 == 0]
    machine.run("systemctl start hmret")
    swept = machine.wait_line("sweep_ended", deleted=len(due) - 1)
    assert swept["errors"] == 0, swept
    left = {path.name for path in (ROOT / "var/lib/hypeman/images/ghcr.io/many").iterdir()}
    assert {f"{number:06}" for number in due} & left == {"000010"}, "the open one stays, another user's go"
    assert not [line for line in machine.lines() if "exception" in line or "not permitted" in str(line)]
    machine.run("systemctl stop reader")
    timers = ROOT / "var/lib/hypeman/system/image-retention"
    modes = {
        (path.is_dir(), path.stat().st_mode & 0o777) for path in (timers / "ghcr.io/many/000011").rglob("*")
    }
    assert modes | {(True, timers.stat().st_mode & 0o777)} == {(False, 0o644), (True, 0o755)}, modes


@check
def a_reload_takes_good_settings_and_fails_on_bad_ones(machine: Machine) -> None:
    machine.configure(enabled=True)
    machine.run("systemctl start hmret")
    machine.configure(enabled=True, more="keep_latest: 3")
    machine.run("systemctl reload hmret")
    machine.wait_line("settings_reloaded")
    machine.configure(enabled=True, more="keep_latest: many")
    machine.run("systemctl reload hmret", code=1)
    line = machine.wait_line("command_failed")
    assert "keep_latest" in str(line["error"]), line
    assert machine.run("systemctl is-active hmret") == "active\n"
    assert '"hmret.keep_latest"' not in machine.run(
        "hmret status --data-dir /var/lib/hypeman --config /dev/null"
    )


@check
def every_line_is_json_and_has_the_priority_of_its_level(machine: Machine) -> None:
    machine.configure(enabled=True)
    machine.run("systemctl start hmret")
    guest = ROOT / "var/lib/hypeman/guests/vm-1/metadata.json"
    guest.parent.mkdir(parents=True)
    guest.write_text("{")
    machine.run("hmret sweep --yes || true", code=None)
    machine.wait_line("deletion_suspended")
    machine.write("/etc/hypeman/config.yaml", "hmret: {odd: 1}\n")
    machine.run("systemctl kill -s HUP hmret")
    machine.wait_line("settings_refused")
    shutil.rmtree(guest.parent)
    machine.run("systemctl stop hmret")
    priorities = {"debug": 7, "info": 6, "warning": 4, "error": 3}
    lines = machine.lines()
    assert {(line["level"], line["priority"]) for line in lines} <= set(priorities.items())
    errors = machine.run(f"journalctl -u hmret -p err -o cat --since=@{machine.since}")
    assert "settings_refused" in errors
    assert '"level":"info"' not in errors.replace(" ", "")


@check
def the_group_of_the_socket_may_ask_and_others_are_told_what_to_do(machine: Machine) -> None:
    machine.configure(enabled=True)
    machine.run(
        "getent group operators || groupadd operators; id asker || useradd -G operators asker; id other || useradd other"
    )
    machine.drop_in(
        "[Service]\nEnvironment=HMRET__CONTROL_SOCKET_GROUP=operators\nSupplementaryGroups=operators\n"
    )
    machine.run("systemctl start hmret")
    as_user = "setpriv --reuid={0} --regid={0} --init-groups hmret {1} --data-dir /var/lib/hypeman"
    assert "process" in machine.run(as_user.format("asker", "status"))
    refused = machine.run(as_user.format("asker", "mark-used ghcr.io/many/000011:v1"), code=1)
    assert "control_socket_group_writes" in refused, refused
    refused = machine.run(as_user.format("other", "status"), code=1)
    assert refused.count("\n") == 1, refused
    assert "control_socket_group" in refused, refused
    machine.run("hmret mark-used ghcr.io/many/000011:v1")


@check
def another_host_scrapes_by_the_drop_in_of_the_guide_and_not_without(machine: Machine) -> None:
    machine.run(
        "ip netns add other; ip link add near type veth peer name far netns other; ip addr add 192.0.2.10/24 dev near; "
        "ip link set near up; ip -n other addr add 192.0.2.7/24 dev far; ip -n other link set far up"
    )
    scrape = "ip netns exec other curl -s -m 3 http://192.0.2.10:9874/metrics"
    machine.configure(enabled=True)
    listen = "[Service]\nEnvironment=HMRET__METRICS_LISTEN=192.0.2.10:9874\n"
    machine.drop_in(listen)
    machine.run("systemctl start hmret")
    assert "hmret_enabled" not in machine.run(scrape, code=None), (
        "the IP filter of systemd does not work here"
    )
    machine.stop()
    guide = (HERE / "docs/OPERATING.md").read_text(encoding="utf-8")
    shown = f"{listen}IPAddressAllow=192.0.2.7\n"
    assert shown in guide
    machine.drop_in(shown)
    machine.run("systemctl start hmret")
    assert "hmret_enabled 1.0" in machine.run(scrape)


@check
def another_data_directory_by_a_drop_in_and_by_a_unit_of_its_own(machine: Machine) -> None:
    machine.configure(enabled=True)
    guide = (HERE / "docs/OPERATING.md").read_text(encoding="utf-8")
    shown = (
        "[Unit]\nRequiresMountsFor=/srv/hypeman\n[Service]\nEnvironment=DATA_DIR=/srv/hypeman\n"
        "ReadWritePaths=-/srv/hypeman\n"
    )
    assert shown in guide
    (ROOT / "srv/hypeman/images").mkdir(parents=True)
    # As on a host that has no other.
    (ROOT / "var/lib/hypeman").rename(ROOT / "var/lib/kept")
    machine.drop_in(shown)
    machine.run("systemctl start hmret")
    assert machine.wait_line("engine_started")["data_dir"] == "/srv/hypeman"
    machine.stop()
    machine.drop_in("")
    unit = machine.run("hmret unit --data-dir '/srv/an other'")
    (ROOT / "srv/an other/images").mkdir(parents=True)
    machine.write("/etc/systemd/system/hmret-other.service", unit)
    machine.run("systemctl daemon-reload; systemctl start hmret-other")
    assert "/srv/an other" in machine.run("journalctl -u hmret-other -o cat")
    machine.run(
        "systemctl stop hmret-other; rm /etc/systemd/system/hmret-other.service; systemctl daemon-reload"
    )
    (ROOT / "var/lib/kept").rename(ROOT / "var/lib/hypeman")


@check
def an_operators_first_day_goes_as_the_readme_and_the_guide_say(machine: Machine) -> None:
    guide = (HERE / "docs/OPERATING.md").read_text(encoding="utf-8")
    shutil.rmtree(ROOT / "var/lib/hypeman")
    (ROOT / "etc/hypeman/config.yaml").unlink()
    machine.run(f"python3 -c '{MAKE_IMAGES}' /var/lib/hypeman 0 40")
    # Before anything is set: nothing would go, and no page has to say why.
    assert "retention is disabled" in machine.run("hmret check-config")
    looked = machine.run("hmret plan")
    assert "no image of 40 would be deleted" in looked, looked
    assert "set images.auto_delete.enabled" in looked, looked
    assert "no pattern of images.auto_delete.allowed matches" in machine.run(
        "hmret explain ghcr.io/many/000010:v1"
    )
    # Beside hypeman's own controller, with a limit of one.
    assert "run it with `hmret.max_deletes_per_sweep: 1`" in guide
    machine.write(
        "/etc/hypeman/config.yaml",
        "images: {auto_delete: {enabled: false, allowed: ['ghcr.io/many/*']}}\n",
    )
    machine.write("/etc/hmret/config.yaml", "hmret: {enabled: true, max_deletes_per_sweep: 1}\n")
    checked = machine.run("hmret check-config")
    assert "retention is enabled" in checked, checked
    assert "warning" not in checked, checked
    assert "1 image of 40 would be deleted" in machine.run("hmret plan")
    machine.run("systemctl enable --now hmret")
    machine.wait_line("sweep_ended", deleted=1)
    assert machine.run("systemctl show -P StatusText hmret") == "last sweep: success, 40 images, 1 deleted\n"
    assert "deleted images    1," in machine.run("hmret status")
    # Trusted by now.
    machine.write("/etc/hmret/config.yaml", "hmret: {enabled: true}\n")
    machine.run("systemctl reload hmret")
    machine.wait_line("settings_reloaded")
    machine.run("hmret sweep")
    assert "deleted images    4," in machine.run("hmret status")
    assert "the same in the newer checkout, then `systemctl restart hmret`" in " ".join(guide.split())
    install()  # from outside: the container has no network
    machine.run("systemctl daemon-reload; systemctl restart hmret")
    assert "deleted images    0" in machine.run("hmret status")
    documents = machine.run("systemctl show -P Documentation hmret").split()
    assert [machine.run(f"head -c 2 {page.removeprefix('file://')}") for page in documents] == ["# "] * 2
    assert machine.run(f"journalctl -u hmret -p warning -o cat --since=@{machine.since}", code=None) in (
        "",
        "-- No entries --\n",
    )
    (ROOT / "etc/hmret/config.yaml").unlink()


@check
def installed_again_and_removed_it_leaves_settings_and_data(machine: Machine) -> None:
    machine.configure(enabled=True)
    machine.run("systemctl enable --now hmret")
    machine.run("make -C /src uninstall")
    assert "could not be found" in machine.run("systemctl status hmret", code=4)
    assert machine.run("pgrep -f '[h]mret run'", code=1) == ""
    assert not (ROOT / "opt/hmret").exists()
    assert not (ROOT / "usr/local/bin/hmret").is_symlink()
    assert (ROOT / "etc/hypeman/config.yaml").exists()
    assert (ROOT / "var/lib/hypeman/system/hmret").is_dir()


def main() -> int:
    """Carry out all checks; returns the exit code."""
    reason = why_not()
    if reason:
        print(f"systemd-test: skipped: {reason}")
        return 0
    make_root()
    with booted() as machine:
        for number, one in enumerate(_checks, start=1):
            machine.since = machine.run("date +%s.%N").strip()
            machine.drop_in("")
            try:
                one(machine)
            except AssertionError as error:
                print(f"FAILED {one.__name__}: {error}")
                print(machine.run(f"journalctl --no-pager --since=@{machine.since} | tail -60", code=None))
                return 1
            if one is not _checks[-1]:
                machine.stop()
            print(f"ok {number:2} {one.__name__.replace('_', ' ')}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
