"""The unit file: systemd takes it, and it keeps what it promises."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parent.parent / "packaging" / "hmret.service"
LINES = [line for line in UNIT.read_text().splitlines() if line and not line.startswith("#")]

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def settings(name: str) -> list[str]:
    return [line.partition("=")[2] for line in LINES if line.startswith(f"{name}=")]


def analyze(unit: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemd-analyze", *arguments, str(unit)], text=True, capture_output=True, check=False, timeout=60
    )


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
    assert settings("ReadWritePaths") == ["/var/lib/hypeman"]
    assert (settings("RuntimeDirectory"), settings("RuntimeDirectoryMode")) == (["hmret"], ["0700"])


def test_it_talks_to_this_host_only() -> None:
    assert (settings("IPAddressDeny"), settings("IPAddressAllow")) == (["any"], ["localhost"])


def test_it_has_the_few_rights_that_it_needs_and_gets_no_more() -> None:
    assert settings("NoNewPrivileges") == ["yes"]
    (rights,) = settings("CapabilityBoundingSet")
    assert set(rights.split()) == {"CAP_LEASE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"}
    guide = UNIT.parent.parent / "docs" / "OPERATING.md"
    assert set(re.findall(r"CAP_\w+", guide.read_text(encoding="utf-8"))) == set(rights.split())


def test_the_guard_of_the_clock_can_ask_the_kernel() -> None:
    # With it the kernel's answer is an error, which counts as synchronised.
    assert settings("ProtectClock") == []
    assert settings("SystemCallFilter")[-1].split() == ["adjtimex", "clock_adjtime"]


def test_systemd_hears_of_it() -> None:
    assert settings("Type") == ["notify"]
    assert settings("WatchdogSec") != []
    assert settings("ExecReload") == ["/bin/kill -HUP $MAINPID"]
