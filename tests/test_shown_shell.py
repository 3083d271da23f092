"""The shell that the README and the guide for operators show runs, line by line, on a host of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli.caches import Cache
from cli.services import running_service

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")

# What is there is asked for by name only: it would change the host, or take as long as all tests.
STOOD_FOR = ("pip", "systemctl")
# How a line ends that has no end of its own, and its code then.
ENDLESS = {"hmret run": (signal.SIGTERM, 0), "hmret events --follow": (signal.SIGINT, 130)}
FOLDERS = (
    "etc/bash_completion.d",
    "etc/fish/completions",
    "etc/systemd/system",
    "usr/local/share/zsh/site-functions",
)


class Host:
    """A folder that stands for `/`, with `hmret` installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (*FOLDERS, "bin"):
            (root / folder).mkdir(parents=True)
        self.cache = Cache(root / "var/lib/hypeman")
        self.cache.image("docker.io/library/alpine", "a", "3.20", unused=timedelta(days=31))
        self.cache.image("ghcr.io/kernel/x", "b", unused=timedelta(days=31))
        programs = dict.fromkeys(STOOD_FOR, "exit 0") | {"hmret": f'exec "{sys.executable}" -m hmret "$@"'}
        for name, line in programs.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (root / "bin" / name).chmod(0o755)

    def run(self, line: str) -> str:
        """Carry out a line as the page has it; returns what it says."""
        place = re.sub(r"/(?=(?:etc|usr/local|var/lib)/)", f"{self.root}/", line)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HMRET")}
        environment |= {
            "PATH": f"{self.root}/bin:/usr/bin:/bin",
            "DATA_DIR": str(self.cache.root),
            "HMRET_CONFIG": os.devnull,
            "HMRET__ENABLED": "true",
        }
        ending = ENDLESS.get(line.partition("#")[0].strip())
        with subprocess.Popen(
            ["/bin/sh", "-euc", f"exec {place}" if ending else place],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            said = ""
            if ending is not None:
                said = process.stdout.readline()
                process.send_signal(ending[0])
            said += process.stdout.read()
        assert process.returncode == (0 if ending is None else ending[1]), f"{line}\n{said}"
        return said


@pytest.fixture
def host() -> Iterator[Host]:
    # The path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="hmret-") as folder:
        yield Host(Path(folder))


def lines_below(page: str, heading: str) -> list[str]:
    """Return the lines of shell in a section."""
    section = re.split(rf"^## {re.escape(heading)}\n", page, flags=re.MULTILINE)[1]
    blocks = re.findall(r"```sh\n(.*?)```", re.split(r"^## ", section, flags=re.MULTILINE)[0], re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip()]


def test_the_readme_goes_from_two_commands_to_ones_own_data_a_service_and_a_server() -> None:
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    wanted = ["Try it", "On your own data directory", "As a service", "In your own server"]
    assert headings[:4] == wanted


def test_the_two_commands_are_there() -> None:
    commands = [line.partition("#")[0].split() for line in lines_below(README, "Try it")]
    assert commands == [["make", "demo"], ["make", "test"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}: \$\(READY\)$", makefile, re.MULTILINE) for _, target in commands)


def test_what_is_to_be_installed_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"pip install\s+'?hmret(?:\[(\w+)\])?'?", README + OPERATING)
    assert set(named) <= {"", *extras["optional-dependencies"]}
    assert named.count("server") == 2


def test_the_readme_on_ones_own_data_directory(host: Host) -> None:
    said = {line: host.run(line) for line in lines_below(README, "On your own data directory")}
    assert len(said) == 9
    swept = next(text for line, text in said.items() if line.startswith("hmret sweep"))
    assert "ghcr.io/kernel/x" in swept
    assert not host.cache.has("ghcr.io/kernel/x", "b")
    assert host.cache.has("docker.io/library/alpine", "a")
    assert not host.cache.state_path("docker.io/library/alpine", "a").exists()


def test_the_readme_on_a_service(host: Host) -> None:
    lines = lines_below(README, "As a service")
    with running_service(host.cache.root, "--enable") as service:
        said = {line: host.run(line) for line in lines}
        assert f"process {service.process.pid}" in next(
            text for line, text in said.items() if line.startswith("hmret status")
        )
        assert '"cleared":' in next(text for line, text in said.items() if line.startswith("curl"))
        assert service.stop() == 0
    assert any(line.startswith("hmret lease") for line in lines)
    assert (host.root / "etc/systemd/system/hmret.service").read_text().startswith("# hmret")


def test_the_guide_for_operators_on_installing(host: Host) -> None:
    for line in lines_below(OPERATING, "Install"):
        host.run(line)
    for script in (
        "etc/bash_completion.d/hmret",
        "etc/fish/completions/hmret.fish",
        "usr/local/share/zsh/site-functions/_cyclopts_hmret",
    ):
        assert "check-config" in (host.root / script).read_text()


def test_no_code_is_shown_that_no_test_runs() -> None:
    run = {
        "README.md": {"sh": 3, "python": 1},  # here, and test_docs.py
        "docs/OPERATING.md": {
            "sh": 2,
            "yaml": 2,
            "ini": 3,
        },  # here, test_guides.py, and cli/test_unit_file.py
        "docs/POLICY.md": {"yaml": 1},  # test_timelapse.py
        "docs/EMBEDDING.md": {"python": 11},  # test_guides.py
        "docs/CONTROL_API.md": {"sh": 2, "python": 1, "go": 1},  # test_control_api_page.py
    }
    shown: dict[str, dict[str, int]] = {}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^\s*```(.*)\n(?:.*\n)*?\s*```$", page.read_text(encoding="utf-8"), re.MULTILINE)
        if blocks:
            shown[str(page.relative_to(ROOT))] = {language: blocks.count(language) for language in blocks}
    assert shown == run
