"""The page on the control API: its shell runs against a real engine, and it names what there is."""

import json
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from cli.caches import Cache
from cli.services import running_service
from hmret.api.openapi import openapi_document

PAGE = (Path(__file__).parent.parent / "docs" / "CONTROL_API.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_shell_of_the_page_runs(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "data")
    cache.image("docker.io/library/alpine", "a", "3.20", unused=timedelta(hours=1))
    trace = "set -eu\n"
    calls = sum(block.count("hmret_api ") for block in SHELL)
    # Each answer on lines of its own, and none that is a problem.
    script = trace + "\n".join(SHELL).replace("curl -sS", "curl -sS --fail-with-body -w '\\n'")
    with running_service(cache.root, "--enable", "--allow", "*"):
        environment = {"SOCKET": str(cache.root / "system/hmret/hmret.sock"), "PATH": "/usr/bin:/bin"}
        found = subprocess.run(
            ["/bin/sh", "-c", script],
            env=environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert (found.returncode, found.stderr) == (0, "")
    documents = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    assert calls >= 11
    assert len(documents) >= calls - 2  # metrics and events are none
    assert documents[0]["digest"] == f"sha256:{'a' * 64}"
    assert any(document.get("owner") == "hypeman" for document in documents)
    assert "event: sweep" in found.stdout


def test_the_page_names_every_call() -> None:
    paths = openapi_document("0")["paths"]
    assert isinstance(paths, dict)
    for path, calls in paths.items():
        for method in calls:
            named = f"{method.upper()} {path}" in PAGE or f"`{path}`" in PAGE
            assert named, f"{method.upper()} {path}"


def test_the_page_names_every_problem() -> None:
    source = Path(__file__).parent.parent / "src" / "hmret" / "api"
    kinds = {
        kind
        for file in source.glob("*.py")
        for kind in re.findall(
            r'HTTPStatus\.[A-Z_]+, "([a-z-]+)"|^\s+"([a-z]+-[a-z-]+)",$', file.read_text(), re.MULTILINE
        )
        for kind in kind
        if kind
    }
    words = {kind for kind in kinds if re.fullmatch(r"[a-z]+(-[a-z]+)*", kind)}
    assert {"image-not-found", "slow-body", "busy"} <= words
    missing = {word for word in words - {"disconnected", "no-answer", "no-page"} if f"`{word}`" not in PAGE}
    assert missing == set()
