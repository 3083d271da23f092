"""The page on the control API: its code runs against a real engine, and it names what there is."""

import json
import os
import re
import shutil
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette

import hmret
from cli.caches import Cache
from cli.services import running_service
from hmret.api.http.requests import BODY_SECONDS, LARGEST_BODY
from hmret.api.http.server import Limits
from hmret.api.openapi import openapi_document
from support.children import run_program

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
    script = script.replace("/run/hmret/hmret.sock", str(cache.root / "system/hmret/hmret.sock"))
    with running_service(cache.root, "--enable", "--allow", "*"):
        environment = {"PATH": "/usr/bin:/bin"}
        found = run_program(["/bin/sh", "-c", script], env=environment)
    assert (found.returncode, found.stderr) == (0, "")
    documents = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    assert calls >= 11
    assert len(documents) >= calls - 3  # metrics, events and a file of CSV are none
    (used,) = (document for document in documents if "cleared" in document)
    assert used["digest"] == f"sha256:{'a' * 64}"
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
        for file in source.rglob("*.py")
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


async def test_the_python_of_the_page_runs(tmp_path: Path, anyio_backend: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "images").mkdir()
    app = Starlette()
    async with hmret.open_retention(hmret.RetentionConfig(data_dir=tmp_path)) as retention:
        exec(code, {"app": app, "retention": retention})
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as client:
            assert (await client.get("/retention/healthz")).status_code == 200


# What stands around the code of the page in a program; it ends with 4 where the image is to be pulled again.
GO = """
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
)

var ErrNotFound = errors.New("not found")

func markUsed() error {
%s
}

func main() {
	err := markUsed()
	if errors.Is(err, ErrNotFound) {
		os.Exit(4)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
"""


@pytest.mark.skipif(shutil.which("go") is None, reason="needs go")
def test_the_go_of_the_page_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```go\n(.*?)```", PAGE, re.DOTALL)
    cache = Cache(tmp_path / "data")
    cache.image("docker.io/library/alpine", "a", "3.20", unused=timedelta(hours=1))
    code = code.replace("/var/lib/hypeman", str(cache.root))
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "CGO_ENABLED": "0"}
    for name, image in (("here", "alpine:3.20"), ("gone", "alpine:3.19")):
        (tmp_path / f"{name}.go").write_text(GO % code.replace("alpine:3.20", image))
        command = ["go", "build", "-o", str(tmp_path / name), str(tmp_path / f"{name}.go")]
        built = run_program(command, env=environment)
        assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    with running_service(cache.root, "--enable"):
        ended = [run_program([tmp_path / name]) for name in ("here", "gone")]
    assert [process.returncode for process in ended] == [0, 4]
    assert not cache.state_path("docker.io/library/alpine", "a").exists()


def test_the_page_tells_the_limits_that_there_are() -> None:
    limits = Limits()
    text = " ".join(PAGE.split())
    assert f"Requests have {limits.request_seconds:g} s for their head" in text
    assert f"{limits.send_seconds:g} s to take each piece of an answer" in text
    assert limits.clients == 400
    assert "Four hundred clients are served at once" in text
    assert f"bodies must come within {BODY_SECONDS:g} s" in text
    assert f"more than {LARGEST_BODY // 1024} KiB" in text
