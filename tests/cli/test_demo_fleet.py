"""The demonstration of a fleet: on a real etcd it goes as told, and without one it says what is missing."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.children import run_program
from support.etcd import missing_etcd

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.skipif(bool(missing_etcd()), reason=missing_etcd() or "etcd is there")
def test_of_three_copies_two_go_and_the_last_one_stays(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    ran = run_program([sys.executable, "-m", "hmret", "demo", "--fleet", "--json"], env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    document = json.loads(ran.stdout)
    assert document["faults"] == []
    assert len(document["left"]) == 1
    before, after = document["holdings"]
    assert ([one["host"] for one in before["holders"]], before["spare"]) == (["a", "b", "c"], 2)
    assert ([one["host"] for one in after["holders"]], after["spare"]) == (document["left"], 0)
    texts = [event["text"] for event in document["events"]]
    assert texts.count("deleted its copy") == 2
    assert texts[-2] == "keeps its copy: last_copy"
    assert any(text.endswith("and stays: fleet_paused") for text in texts)
    assert list(temporary.iterdir()) == []


def test_without_etcd_it_says_what_to_install(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("etcd") is None
    code, output, complaints = call("demo", "--fleet", "--json")
    assert (code, output) == (1, "")
    assert json.loads(complaints)["error"].endswith("apt-get install --no-install-recommends etcd-server")


@pytest.mark.parametrize("options", [("--serve",), ("--keep", "x")])
def test_what_does_not_go_with_it_is_refused(options: tuple[str, ...], call: Call) -> None:
    code, output, complaints = call("demo", "--fleet", *options)
    assert (code, output) == (2, "")
    assert f"--fleet: expected neither --serve nor --keep beside it, got {options[0]}" in complaints
