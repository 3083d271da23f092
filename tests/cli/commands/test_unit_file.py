"""The unit file: systemd takes it, and it keeps what it promises."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hmret.cli.commands.unit import unit_text
from hmret.settings.load import load_settings
from support.children import run_program

Call = Callable[..., tuple[int, str, str]]

UNIT = Path(__file__).parents[3] / "packaging" / "hmret.service"
LINES = [line for line in UNIT.read_text().splitlines() if line and not line.startswith("#")]

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def settings(name: str) -> list[str]:
    return [line.partition("=")[2] for line in LINES if line.startswith(f"{name}=")]


def analyze(unit: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_program(["systemd-analyze", *arguments, str(unit)])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/bin/hmret", sys.executable))
    return copy


@needs_systemd
def test_systemd_takes_every_line(unit: Path) -> None:
    found = analyze(unit, "verify", "--man=no")
    assert (found.returncode, found.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_a_mistake(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSytem=strict"))
    assert "ProtectSytem" in analyze(unit, "verify", "--man=no").stderr


@needs_systemd
def test_little_is_exposed(unit: Path) -> None:
    found = analyze(unit, "security", "--offline=true", "--threshold=25")
    if "unrecognized option" in found.stderr:
        pytest.skip("this systemd-analyze does not look at files")
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", found.stdout)
    assert level is not None
    assert float(level[1]) <= 2.5
    assert found.returncode == 0


def test_it_writes_to_the_data_directory_only() -> None:
    assert settings("ProtectSystem") == ["strict"]
    # The dash: one that is not there is reported by hmret, not by systemd with code 226.
    assert settings("ReadWritePaths") == ["-/var/lib/hypeman"]
    assert (settings("RuntimeDirectory"), settings("RuntimeDirectoryMode")) == (["hmret"], ["0700"])


def test_it_talks_to_this_host_only() -> None:
    assert (settings("IPAddressDeny"), settings("IPAddressAllow")) == (["any"], ["localhost"])


def test_it_has_the_few_rights_that_it_needs_and_gets_no_more() -> None:
    assert settings("NoNewPrivileges") == ["yes"]
    (rights,) = settings("CapabilityBoundingSet")
    assert set(rights.split()) == {"CAP_LEASE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"}
    guide = UNIT.parents[1] / "docs" / "INSTALL.md"
    assert set(re.findall(r"CAP_\w+", guide.read_text(encoding="utf-8"))) == set(rights.split())


def test_the_guard_of_the_clock_can_ask_the_kernel() -> None:
    # With it the kernel's answer is an error, which counts as synchronised.
    assert settings("ProtectClock") == []
    assert {"adjtimex", "clock_adjtime"} <= {
        name for line in settings("SystemCallFilter")[2:] for name in line.split()
    }


def test_systemd_hears_of_it() -> None:
    assert settings("Type") == ["notify"]
    assert settings("WatchdogSec") != []


def test_a_reload_tells_the_engine_and_fails_where_the_settings_cannot_be_used() -> None:
    # In this order: bad settings are the engine's to refuse, so that its status and its metrics say so.
    kill, check = settings("ExecReload")
    assert check == "/usr/bin/hmret check-config --quiet --log-format json"
    assert kill == "/bin/kill -HUP $MAINPID"


def test_it_is_started_again_until_what_is_missing_is_there() -> None:
    assert settings("Restart") == ["on-failure"]
    assert settings("RestartPreventExitStatus") == ["2"]
    assert settings("StartLimitIntervalSec") == ["0"]


def test_the_shipped_unit_is_what_the_command_prints() -> None:
    assert UNIT.read_text() == unit_text(["/usr/bin/hmret"], "/var/lib/hypeman")


@needs_systemd
@pytest.mark.parametrize("data_dir", ["/srv/hypeman", "/home/some one/100%/$data", "/var/tmp/x"])
def test_the_unit_for_another_data_directory_is_one_that_systemd_takes(data_dir: str, tmp_path: Path) -> None:
    unit = tmp_path / "hmret.service"
    program = tmp_path / "100% $HOME of hmret"
    program.symlink_to(sys.executable)
    unit.write_text(unit_text([str(program)], data_dir, is_one_file=True))
    found = analyze(unit, "verify", "--man=no")
    assert (found.returncode, found.stderr) == (0, "")


def test_the_unit_for_another_data_directory_names_it_wherever_it_matters() -> None:
    lines = unit_text(["/opt/hmret/bin/hmret"], "/home/x/data").splitlines()
    assert {
        "ExecStart=/opt/hmret/bin/hmret run --log-format json",
        "RequiresMountsFor=/home/x/data",
        "Environment=DATA_DIR=/home/x/data",
        "ReadWritePaths=-/home/x/data",
        "ProtectHome=no",
        "PrivateTmp=yes",
    } <= set(lines)
    assert not [line for line in lines if "/var/lib/hypeman" in line]


@pytest.mark.parametrize(
    ("folder", "lines"),
    [
        ("/opt", {"ProtectHome=yes", "PrivateTmp=yes"}),
        ("/home/x/venv/bin", {"ProtectHome=no", "PrivateTmp=yes"}),
        ("/tmp/venv/bin", {"ProtectHome=yes", "PrivateTmp=no"}),
    ],
)
def test_the_unit_hides_no_folder_that_holds_the_program(folder: str, lines: set[str]) -> None:
    assert lines <= set(unit_text([f"{folder}/hmret"], "/srv/data").splitlines())


def test_the_one_file_unpacks_itself_into_a_cache_of_its_own() -> None:
    lines = {"CacheDirectory=hmret", "Environment=PEX_ROOT=/var/cache/hmret"}
    program = ["/usr/local/bin/hmret.pyz"]
    assert lines <= set(unit_text(program, "/srv/data", is_one_file=True).splitlines())
    assert not lines & set(unit_text(program, "/srv/data").splitlines())


def test_the_unit_command_names_the_one_file_where_it_came_from_one(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEX", "/usr/local/bin/hmret.pyz")
    start = "ExecStart=/usr/local/bin/hmret.pyz run --log-format json"
    # The variable alone is that of another program, which has called this one.
    assert start not in call("unit", "--data-dir", "/srv/x")[1].splitlines()
    (tmp_path / "PEX-INFO").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    lines = call("unit", "--data-dir", "/srv/x")[1].splitlines()
    assert {start, "CacheDirectory=hmret"} <= set(lines)


GUIDE = (UNIT.parents[1] / "docs" / "HOW_TO.md").read_text(encoding="utf-8")
DROP_INS = re.findall(r"```ini\n(.*?)```", GUIDE, re.DOTALL)


@needs_systemd
@pytest.mark.parametrize("drop_in", DROP_INS)
def test_systemd_takes_the_drop_ins_that_the_guide_shows(unit: Path, drop_in: str) -> None:
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    (folder / "guide.conf").write_text(drop_in)
    found = analyze(unit, "verify", "--man=no")
    assert (found.returncode, found.stderr) == (0, "")
    # The variables in it are settings.
    for name, value in re.findall(r"^Environment=(\w+)=(.*)$", drop_in, re.MULTILINE):
        load_settings(config_file=None, environment={name: value}, flags={}, default_files=(), own_file=None)


def test_where_no_container_can_be_booted_the_trial_says_why_and_fails_nobody(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(UNIT.parents[1] / "tests")}
    ran = run_program([sys.executable, "-m", "systemd"], env=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.fullmatch(r"systemd-test: skipped: (needs systemd-nspawn, .*|only root .*)\n", ran.stdout)


def test_the_unit_command_prints_the_unit_of_this_very_installation(call: Call) -> None:
    code, output, complaints = call("unit", "--data-dir", "/srv/x")
    assert (code, complaints) == (0, "")
    (start,) = [line for line in output.splitlines() if line.startswith("ExecStart=")]
    program = start.removeprefix("ExecStart=").removesuffix(" run --log-format json")
    assert Path(program.split(maxsplit=1)[0]).parent == Path(sys.executable).parent
