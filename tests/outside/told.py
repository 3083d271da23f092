"""Commands carried out in this process, and what is recorded of their answers and of others."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from hmret.__main__ import main
from outside.recorded import Masks, answer_of, shape_of
from outside.recorded_hosts import RecordedHost

__all__ = ["Told", "call", "set_to", "timers_of", "written_files"]


def masks_of(host: RecordedHost) -> Masks:
    """Mask paths, versions, numbers of processes, random names, and the hashes of the page's script and style."""
    return Masks(
        texts={str(host.root): "/DATA", str(host.config): "/CONFIG", metadata.version("hmret"): "VERSION"},
        patterns={
            r"\(process \d+": "(process N",
            r"process \d+ has": "process N has",
            r"\b[0-9a-f]{16}\b": "ID",
            # How images fall into batches depends on how fast the machine is.
            r"\bID\.\d+": "ID.N",
            r"'sha256-[^']*'": "'sha256-…'",
        },
        shares=host.shares,
    )


def call(*tokens: str) -> tuple[int, str, str]:
    """Carry out a command in this process; returns its exit code, its output and its complaints."""
    output, complaints = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(complaints):
        code = main([*tokens])
    return code, output.getvalue(), complaints.getvalue()


class Told:
    """What is recorded of one subject, in order."""

    def __init__(self, host: RecordedHost) -> None:
        self.masks = masks_of(host)
        self.seen: dict[str, Any] = {}

    def command(self, *tokens: str, masked: tuple[str, ...] = (), name: str = "") -> None:
        """Record what a command answers as JSON."""
        code, output, complaints = call(*tokens, "--json", "--log-format", "json")
        told: dict[str, Any] = {"exit": code}
        if output:
            told |= answer_of(output, self.masks, *masked)
        errors = [line for line in complaints.splitlines(keepends=True) if '"timestamp": ' not in line]
        logged = [json.loads(line) for line in complaints.splitlines() if '"timestamp": ' in line]
        if errors:
            told["error"] = answer_of("".join(errors), self.masks)
        if logged:
            told["logged"] = [f"{line['level']} {line['event']}: {' '.join(sorted(line))}" for line in logged]
        self.put(name or " ".join(tokens), told)

    def put(self, name: str, told: Any) -> None:
        """Record something; what comes again has a number."""
        name = self.masks.text(name)
        again = sum(one == name or one.startswith(f"{name} #") for one in self.seen)
        self.seen[f"{name} #{again + 1}" if again else name] = told


@contextmanager
def set_to(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[None]:
    """Set variables of the environment while the block lasts."""
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def written_files(root: Path, masks: Masks) -> dict[str, Any]:
    """List the files that hmret keeps, with the keys of those that are JSON; those with random names as one."""
    found: dict[str, list[Any]] = {}
    for path in sorted((root / "system/hmret").rglob("*")):
        if not path.is_file():
            continue
        name = masks.text(str(path.relative_to(root / "system/hmret")))
        lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
        try:
            found.setdefault(name, []).extend(json.loads(line) for line in lines)
        except ValueError:
            found[name] = ["binary"] if path.stat().st_size else []
    return {
        name: documents if documents == ["binary"] else shape_of(documents, masks)
        for name, documents in sorted(found.items())
    }


def timers_of(root: Path) -> dict[str, list[str]]:
    """Read the timers' files."""
    folder = root / "system/image-retention"
    return {
        str(path.relative_to(folder)): path.read_bytes().decode().splitlines(keepends=True)
        for path in sorted(folder.rglob("*.json"))
    }
