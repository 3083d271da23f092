"""Who may ask: a group, another host; and where the data directory is."""

from collections.abc import Iterator
from contextlib import contextmanager

from systemd.caches import Images, repository
from systemd.checks import check, noticed
from systemd.machine import DATA_DIR, Machine
from systemd.root import CHECKOUT, ROOT

__all__: list[str] = []

_AS_USER = "setpriv --reuid={0} --regid={0} --init-groups hmret {1} --data-dir /var/lib/hypeman"


def _shown(text: str) -> str:
    """Return a drop-in that HOW_TO shows.

    Raises:
        AssertionError: it does not show it.
    """
    assert f"```ini\n{text}```" in (CHECKOUT / "docs/HOW_TO.md").read_text(encoding="utf-8"), text
    return text


@check
@noticed("chown taken out of the filter", "SystemCallFilter=~@chown")
@noticed("a socket for everybody's eyes only: no group", "Environment=HMRET__CONTROL_SOCKET_GROUP=root")
def the_group_of_the_socket_may_ask_and_others_are_told_what_to_do(machine: Machine) -> None:
    Images(DATA_DIR, 0, 20, due_every=50)
    machine.configure(enabled=True)
    machine.run(
        "getent group operators || groupadd operators; id asker || useradd -G operators asker; id other || useradd other"
    )
    machine.drop_in(
        _shown(
            "[Service]\nEnvironment=HMRET__CONTROL_SOCKET_GROUP=operators\nSupplementaryGroups=operators\n"
        )
    )
    machine.run("systemctl start hmret")
    for asked in ("status", "plan", "images", "leases"):
        machine.run(_AS_USER.format("asker", asked))
    mark = f"mark-used {repository(11)}:v1"
    refused = machine.run(_AS_USER.format("asker", mark), code=1)
    assert refused.count("hmret: error") == 1, refused
    assert "control_socket_group_writes" in refused, refused
    for asked in ("status", mark):
        refused = machine.run(_AS_USER.format("other", asked), code=1)
        assert refused.count("\n") == 1, refused
        assert "control_socket_group" in refused, refused
    machine.run(f"hmret {mark}")
    machine.configure(enabled=True, more="control_socket_group_writes: true")
    machine.run("systemctl reload hmret")
    machine.wait_line("settings_reloaded")
    # systemd has closed the runtime directory by carrying out the reload; the engine opens it again.
    machine.wait("stat -c '%a %G' /run/hmret", "710 operators\n")
    machine.run(_AS_USER.format("asker", mark))


@contextmanager
def _another_host(machine: Machine) -> Iterator[str]:
    """Have another host beside this one while the block lasts; gives what a command on it begins with."""
    machine.run(
        "ip netns add other; ip link add near type veth peer name far netns other; ip addr add 192.0.2.10/24 dev near; "
        "ip link set near up; ip -n other addr add 192.0.2.7/24 dev far; ip -n other link set far up"
    )
    try:
        yield "ip netns exec other"
    finally:
        machine.run("ip netns delete other; ip link delete near", code=None)


@check
@noticed("no filter of addresses", "IPAddressDeny=\nIPAddressAllow=any")
@noticed("the guide's drop-in does not count", "IPAddressAllow=\nIPAddressAllow=localhost")
def another_host_scrapes_by_the_drop_in_of_the_guide_and_not_without(machine: Machine) -> None:
    (DATA_DIR / "images").mkdir(parents=True)
    listen = "[Service]\nEnvironment=HMRET__METRICS_LISTEN=192.0.2.10:9874\n"
    shown = _shown(f"{listen}IPAddressAllow=192.0.2.7\n")
    machine.configure(enabled=True)
    with _another_host(machine) as on_it:
        scrape = f"{on_it} curl -s -m 3 http://192.0.2.10:9874/metrics"
        machine.drop_in(listen)
        machine.run("systemctl start hmret")
        assert "hmret_enabled" not in machine.run(scrape, code=None), "without the drop-in"
        machine.stop()
        machine.drop_in(shown)
        machine.run("systemctl start hmret")
        assert "hmret_enabled 1.0" in machine.run(scrape)


@check
@noticed("nothing of it may be written", "ReadWritePaths=")
def another_data_directory_by_the_drop_in_of_the_guide(machine: Machine) -> None:
    machine.configure(enabled=True)
    images = Images(ROOT / "srv/hypeman", 0, 20)
    machine.drop_in(
        _shown(
            "[Unit]\nRequiresMountsFor=/srv/hypeman\n[Service]\nEnvironment=DATA_DIR=/srv/hypeman\n"
            "ReadWritePaths=-/srv/hypeman\n"
        )
    )
    machine.run("systemctl start hmret")
    assert machine.wait_line("engine_started")["data_dir"] == "/srv/hypeman"
    machine.wait_line("sweep_ended", deleted=len(images.due))
    assert images.left() == {*images.numbers} - {*images.due}


def _forbid_writing(machine: Machine) -> None:
    machine.write("/etc/systemd/system/hmret-other0.service.d/broken.conf", "[Service]\nReadWritePaths=\n")


@check
@noticed("nothing of it may be written", _forbid_writing)
def another_data_directory_by_a_unit_of_its_own(machine: Machine) -> None:
    machine.configure(enabled=True)
    for number, folder in enumerate(("/srv/an other", "/home/hypeman")):
        images = Images(ROOT / folder.lstrip("/"), 0, 20)
        unit = f"hmret-other{number}"
        machine.write(f"/etc/systemd/system/{unit}.service", machine.run(f"hmret unit --data-dir '{folder}'"))
        try:
            machine.run(f"systemctl daemon-reload; systemctl start {unit}")
            machine.wait(f"journalctl -u {unit} -o cat", f'"deleted": {len(images.due)}')
            assert images.left() == {*images.numbers} - {*images.due}
            assert machine.lines(unit)[0]["data_dir"] == folder
        finally:
            machine.run(
                f"systemctl stop {unit}; rm /etc/systemd/system/{unit}.service; systemctl daemon-reload; rm -rf '{folder}'"
            )
