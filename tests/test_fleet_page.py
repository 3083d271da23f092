"""The page on fleets is true: every command that it shows runs, on real members of etcd, and it leaves nothing out."""

import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from cli.caches import Cache
from hmret.cli.parsing.command_table import GROUPS
from hmret.fleet.settings import SETTABLE
from hmret.model.fleet import FleetSettings, FleetState
from hmret.settings.load import load_settings
from hmret.settings.setting_table import SETTING_SCHEMAS
from support.bounds import IS_WHOLE
from support.children import child
from support.etcd import missing_etcd
from support.patience import PATIENCE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "FLEET.md").read_text(encoding="utf-8")

# What would need this host: an installation, systemd, another user.
APT_GET = 'shift 3; command -v dpkg-query > /dev/null || exit 0; exec dpkg-query -W "$@"'
CHOWN = "test -d $3"
HMRET = f'exec {sys.executable} -m hmret "$@"'
SYSTEMCTL = """
case "$1" in
  enable) test "$2" = etcd ;;
  stop) kill "$(cat "$MEMBER/pid")"; while kill -0 "$(cat "$MEMBER/pid")" 2> /dev/null; do sleep 0.05; done ;;
  start | restart) set -a; . "$MEMBER/etc/default/etcd"; etcd > "$MEMBER/log" 2>&1 & echo $! > "$MEMBER/pid" ;;
esac
"""


def blocks_below(heading: str, language: str = "sh") -> list[str]:
    """Return the blocks of a section, those of its own subsections included."""
    level = heading.partition(" ")[0]
    section = PAGE.partition(f"\n{heading}\n")[2]
    section = re.split(rf"^#{{1,{len(level)}}} ", section, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


class Host:
    """A folder that stands for `/`, and addresses of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        numbers = random.SystemRandom()
        self.network = f"127.{numbers.randrange(128, 250)}.{numbers.randrange(256)}."
        for folder in ("bin", "home", "etc/hmret/fleet"):
            (root / folder).mkdir(parents=True)
        stubs = {"apt-get": APT_GET, "chown": CHOWN, "hmret": HMRET, "systemctl": SYSTEMCTL}
        for name, line in stubs.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (root / "bin" / name).chmod(0o755)
        self.environment = {
            "PATH": f"{root}/bin:/usr/bin:/bin",
            "HOME": str(root / "home"),
            "HMRET_CONFIG": str(root / "etc/hmret/config.yaml"),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }

    def here(self, text: str, member: str = "") -> str:
        """Return what the page shows with the places and addresses of this host, or of one of its members."""
        places = {"/etc/hmret/": "", "/etc/default/": member, "/etc/etcd/": member, "/var/lib/etcd/": member}
        for place, folder in places.items():
            text = text.replace(place, f"{self.root}{f'/{folder}' if folder else ''}{place}")
        return text.replace("10.0.0.", self.network).replace("127.0.0.1", f"{self.network}9")

    def of_member(self, block: str, number: int) -> str:
        """Return a block as it is carried out on one of the members."""
        text = self.here(re.sub(r"^N=1\b", f"N={number}", block, flags=re.MULTILINE), f"m{number}")
        return f"export MEMBER={self.root}/m{number}\n{text}"

    def run(self, blocks: Sequence[str]) -> list[str]:
        """Carry blocks out in one shell; returns what each says."""
        marks = [f"echo '=== {number}'\n{block}" for number, block in enumerate(blocks)]
        output = self.root / "output"
        with (
            output.open("w") as said,
            child(
                ["/bin/sh", "-euc", "\n".join(marks)],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            ) as process,
        ):
            process.wait(PATIENCE)
        assert process.returncode == 0, output.read_text()[-3000:] + self.logs()
        return re.split(r"^=== \d+\n", output.read_text(), flags=re.MULTILINE)[1:]

    def logs(self) -> str:
        """Return the ends of the logs that there are."""
        logs = itertools.chain(self.root.glob("m*/log"), self.root.glob("try-fleet/*.log"))
        return "".join(f"\n--- {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


@pytest.fixture
def host() -> Iterator[Host]:
    reason = missing_etcd() or ("" if shutil.which("openssl") else "openssl is not installed")
    if reason:
        pytest.skip(reason)
    # The path of a socket is short; members keep their data in memory.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="hmret-page-", dir=memory, ignore_cleanup_errors=True) as folder:
        yield Host(Path(folder))


def test_a_newcomer_comes_to_a_working_fleet_on_one_machine(host: Host) -> None:
    blocks = blocks_below("## Try it on one machine")
    assert len(blocks) == 8
    said = host.run([host.here(block) for block in blocks])
    looked, left, drained = said[4], said[5], said[6]
    assert re.search(r"^hosts +3: 3 live$", looked, re.MULTILINE)
    assert re.search(r"^deletion +paused by .*: a first look$", looked, re.MULTILINE)
    assert re.search(r"^counted +3 copies, 2 to spare$", looked, re.MULTILINE)
    assert "this host: 1 expired, 0 would be deleted" in looked
    assert "not paused" in left
    assert "last_copy" in left
    assert re.search(r"^drained: ([abc])\.[0-9a-f]{8}\n1 last copy, ", drained, re.MULTILINE)
    assert re.search(r"^[abc]\.[0-9a-f]{8}: no longer drained$", drained, re.MULTILINE)
    assert not (host.root / "try-fleet").exists()


def test_every_block_of_the_page_is_run_by_one_of_the_two() -> None:
    sections = ("## Try it on one machine", "## Setting up etcd", "## Metrics and alerts")
    run = [block for section in sections for block in blocks_below(section)]
    run += blocks_below("## When etcd was restored from a backup")
    assert len(run) == PAGE.count("```sh\n")


@pytest.mark.skipif(not IS_WHOLE, reason="takes a minute; make prove")
def test_etcd_is_set_up_with_tls_and_users_and_put_back_from_a_backup(host: Host) -> None:
    (install,) = blocks_below("## Setting up etcd")[:1]
    (certificates,) = blocks_below("### TLS")
    (member,) = blocks_below("### Members")
    (users,) = blocks_below("### Users and roles")
    (first_look,) = blocks_below("### Hosts")
    (care,) = blocks_below("### Care")
    runbooks = blocks_below("## Metrics and alerts")
    assert len(runbooks) == 5
    restore, after = blocks_below("## When etcd was restored from a backup")
    copies = [
        f"mkdir -p m{n}/etc/etcd/tls m{n}/etc/default m{n}/var/lib/etcd; chmod 700 m{n}/var/lib/etcd\n"
        f"cp {tls}/ca.pem m{n}/etc/etcd/tls/; cp {tls}/{host.network}{n}.pem m{n}/etc/etcd/tls/member.pem\n"
        f"cp {tls}/{host.network}{n}.key m{n}/etc/etcd/tls/member.key"
        for tls in ("etc/hmret/fleet-ca",)
        for n in (1, 2, 3)
    ]
    home = f"cd {host.root}"
    wait = f'{home}\nuntil hmret fleet status --json | grep \'"version": "3\'; do sleep 0.1; done'
    settings = yaml.safe_load(host.here(blocks_below("### Hosts", "yaml")[0]))
    cache = Cache(host.root / "data")
    settings |= {"data_dir": str(cache.root)}
    settings["hmret"] |= {"enabled": True, "sweep_interval": "1s"}
    (host.root / "etc/hmret/config.yaml").write_text(yaml.safe_dump(settings))
    start = "hmret run 2> m1/engine.log & echo $! > engine"
    joined = "until hmret fleet status > /dev/null; do sleep 0.1; done"
    own = "ca.pem client.pem client.key hmret.password"
    said = host.run(
        [
            host.here(install),
            # Here all members come from one address.
            host.here(certificates).replace("=IP:$name", "=IP:$name,IP:127.0.0.1"),
            home,
            *copies,
            *(host.of_member(member, n) for n in (1, 2, 3)),
            f"for n in 1 2 3; do until test -s {host.root}/m$n/pid; do sleep 0.1; done; done",
            host.here(f"until ({users.partition('for user')[0]}) > /dev/null 2>&1; do sleep 0.1; done"),
            host.here(users),
            f"{home}; (cd etc/hmret/fleet-ca; cp {own} ../fleet/)",
            first_look.splitlines()[0],
            f"{start}; {joined}",
            first_look.splitlines()[1],
            "hmret fleet set tokens 7",
            *runbooks,
            host.here(care),
            home,
            *(f"MEMBER={host.root}/m{n} systemctl stop etcd" for n in (1, 2, 3)),
            *(host.of_member(restore, n) for n in (1, 2, 3)),
            wait,
            after.splitlines()[0],
            joined,
            after.splitlines()[1],
            "kill $(cat engine)",
            *(f"MEMBER={host.root}/m{n} systemctl stop etcd" for n in (1, 2, 3)),
        ]
    )
    everything = "\n".join(said)
    assert everything.count("is healthy") >= 3
    assert "Authentication Enabled" in everything
    assert everything.count("Finished defragmenting") == 3
    assert len(re.findall(r"^fleet default, generation [0-9a-f]{16}$", everything, re.MULTILINE)) == 2
    assert len(re.findall(r"^settings +.*tokens 7", everything, re.MULTILINE)) >= 1
    # First, by the runbooks, and after the restore.
    assert len(re.findall(r"^this host +\S+: joined$", everything, re.MULTILINE)) >= 6


# Nothing is left out.


@pytest.mark.parametrize("command", GROUPS["fleet"])
def test_the_page_names_every_command_of_a_fleet(command: str) -> None:
    assert re.search(rf"`hmret fleet {command}\b|^hmret fleet {command}\b", PAGE, re.MULTILINE)


@pytest.mark.parametrize("key", SETTABLE)
def test_the_page_has_every_setting_in_etcd_with_its_default(key: str) -> None:
    default = getattr(FleetSettings(), key)
    shown = {"canary": "1h", "forget_after": "720h"}.get(key, str(default))
    assert re.search(rf"^\| `{key}` \| .+ \| `{re.escape(shown)}` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    "reason",
    ["duplicate_host", "fleet_unreachable", "fleet_paused", "last_copy", "used_in_fleet", "fleet_brake"],
)
def test_the_page_says_of_every_reason_what_to_do(reason: str) -> None:
    assert re.search(rf"^\| `{reason}` \| .+ \| .+ \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("state", FleetState)
def test_the_page_has_every_state(state: FleetState) -> None:
    assert re.search(rf"^\| `{state}` \| .+ \| .*\|$", PAGE, re.MULTILINE)


def test_the_settings_of_a_host_that_the_page_shows_are_some(tmp_path: Path) -> None:
    (shown,) = blocks_below("### Hosts", "yaml")
    config = tmp_path / "config.yaml"
    config.write_text(shown)
    config_read = load_settings(config_file=str(config), environment={}, flags={}).config.fleet
    assert len(config_read.endpoints) == 3
    assert (config_read.user, config_read.name) == ("hmret", "default")


def test_the_page_names_settings_that_there_are() -> None:
    named = set(re.findall(r"`(hmret\.fleet\.[a-z_]+)`", PAGE))
    assert named <= {setting.key for setting in SETTING_SCHEMAS}
    assert "hmret.fleet.endpoints" in named
