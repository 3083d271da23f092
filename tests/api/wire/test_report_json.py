"""A report as JSON, as an embedder gets it."""

import json
import subprocess
import sys
from pathlib import Path

import hmret
from hmret.api.wire.convert_outcomes import sweep_document
from hmret.api.wire.structs import encode_document
from support.builders import make_image


async def test_a_report_becomes_the_document_that_every_front_end_has(tmp_path: Path) -> None:
    make_image(tmp_path, "docker.io/library/alpine", "a", tags=("3.20",))
    config = hmret.RetentionConfig(
        data_dir=tmp_path, auto_delete=hmret.AutoDelete(enabled=True, allowed=("*",))
    )
    async with hmret.open_retention(config) as retention:
        report = await retention.sweep()
    text = hmret.report_json(report)
    assert text == encode_document(sweep_document(report))
    assert b"\n" not in text
    document = json.loads(text)
    assert (document["status"], document["marked_unused"]) == ("success", 1)
    assert document["started_at"].endswith("Z")


def test_it_needs_nothing_of_the_servers_libraries() -> None:
    code = (
        "import sys, hmret; hmret.report_json; "
        "print([name for name in ('starlette', 'anycorn', 'httpx2', 'cyclopts') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
