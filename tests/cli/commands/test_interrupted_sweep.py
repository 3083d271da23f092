"""`sweep`, interrupted while it deletes: what it has done is told, and on record."""

import json
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from cli.caches import Cache
from support.children import child
from support.patience import PATIENCE

DUE = timedelta(days=31)
COUNT = 1200
"""So many that their log lines do not fit into a pipe that nobody reads."""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_went_is_told_and_in_the_journal(
    cache: Cache, backend: str, number: signal.Signals, code: int
) -> None:
    for image in range(COUNT):
        cache.image(f"ghcr.io/many/{image}", "a", unused=DUE)
    command = [sys.executable, "-m", "hmret", "sweep", "--enable", "--allow", "*", "--backend", backend]
    command += ["--data-dir", str(cache.root), "--log-level", "info"]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while "image_deleted" not in process.stderr.readline():
            assert process.poll() is None
        # Whoever is impatient asks again, which changes nothing.
        process.send_signal(number)
        process.send_signal(number)
        output, complaints = process.communicate(timeout=PATIENCE)
    deleted = sum(not cache.has(f"ghcr.io/many/{image}", "a") for image in range(COUNT))
    assert (process.returncode, output) == (code, "")
    assert 0 < deleted < COUNT
    assert complaints.endswith(
        f"\nhmret: interrupted: {deleted} images deleted; the next sweep finishes the rest\n"
    )
    assert "sweep_failed" not in complaints
    journal = (cache.root / "system/hmret/journal.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["event"] == "delete" for line in journal) == deleted
