"""The shell that the README and the page on installing show runs, line by line, on a host of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli.caches import Cache
from cli.services import running_service
from hmret.settings.load import load_settings
from support.children import child, run_program
from support.patience import PATIENCE

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = (ROOT / "docs" / "INSTALL.md").read_text(encoding="utf-8")
RUNBOOKS = (ROOT / "docs" / "ALERTS.md").read_text(encoding="utf-8")

# How a line ends that has no end of its own, and its code then.
ENDLESS = {"hmret run": (signal.SIGTERM, 0), "hmret events --follow": (signal.SIGINT, 130)}

# What would need this host: to be root, and systemd (`make systemd-test` has a real one). The unit must be there for it.
SUDO = 'exec "$@"'
SYSTEMCTL = 'for unit; do :; done; test -s "$ROOT/etc/systemd/system/${unit%daemon-reload}"*.service'
JOURNALCTL = 'test "$1 $2" = "-u hmret"'
NO_INDEX = ("NewConnectionError", "No matching distribution found", "Could not find a version")


class Host:
    """A folder that stands for `/`, in which hmret is installed as the pages say."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            "PATH": f"{root}/bin:{root}/usr/local/bin:/usr/bin:/bin",
            "HOME": str(root / "home"),
            "ROOT": str(root),
            "PYTHON": sys.executable,
            "DATA_DIR": str(root / "var/lib/hypeman"),
            "HMRET_CONFIG": os.devnull,
            "HMRET__ENABLED": "true",
            **{
                name: value
                for name, value in os.environ.items()
                if name.startswith("PIP_") or "_proxy" in name.lower()
            },
        }
        for folder in ("bin", "home"):
            (root / folder).mkdir(parents=True)
        for name, line in (("sudo", SUDO), ("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
            (root / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (root / "bin" / name).chmod(0o755)

    def fill(self) -> None:
        """Begin with a fresh cache."""
        shutil.rmtree(self.root / "var", ignore_errors=True)
        self.cache = Cache(self.root / "var/lib/hypeman")
        self.cache.image("docker.io/library/alpine", "a", "3.20", unused=timedelta(days=31))
        self.cache.image("ghcr.io/kernel/x", "b", unused=timedelta(days=31))

    def run(self, line: str) -> str:
        """Carry out a line as the page has it; returns what it says."""
        place = re.sub(r"/(?=(?:etc|usr/local|var/lib)/)", f"{self.root}/", line)
        ending = ENDLESS.get(line.partition("#")[0].strip())
        with child(
            ["/bin/sh", "-euc", f"exec {place}" if ending else place],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            said = ""
            if ending is not None:
                said = process.stdout.readline()
                process.send_signal(ending[0])
            said += process.stdout.read()
            process.wait(PATIENCE)
        assert process.returncode == (0 if ending is None else ending[1]), f"{line}\n{said}"
        return said


@pytest.fixture(scope="module")
def installed() -> Iterator[Host]:
    # The path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="hmret-") as folder:
        host = Host(Path(folder))
        (line,) = [line for line in README.splitlines() if line.startswith("sudo make install ")]
        try:
            host.run(line)
        except AssertionError as error:
            if any(text in str(error) for text in NO_INDEX):
                pytest.skip("pip reaches no package index")
            raise
        settings = host.root / "etc/hmret/config.yaml"
        settings.write_text("")
        yield host
        # As the page on installing says; whatever test comes last.
        host.fill()
        host.run("make uninstall")
        folders = [host.root / name for name in ("opt", "etc", "usr")]
        left = {path for folder in folders for path in folder.rglob("*") if not path.is_dir()}
        assert left == {settings}
        assert host.cache.has("ghcr.io/kernel/x", "b")


@pytest.fixture
def host(installed: Host) -> Host:
    installed.fill()
    return installed


def lines_below(page: str, heading: str) -> list[str]:
    """Return the lines of shell in a section."""
    section = re.split(rf"^## {re.escape(heading)}\n", page, flags=re.MULTILINE)[1]
    blocks = re.findall(r"```sh\n(.*?)```", re.split(r"^## ", section, flags=re.MULTILINE)[0], re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip()]


def test_the_readme_begins_with_what_one_can_try_and_goes_on_to_ones_own_data_a_service_and_a_server() -> (
    None
):
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert headings[:4] == [
        "Is it for you?",
        "On your own data directory",
        "As a service",
        "In your own server",
    ]
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert first is not None
    assert first.start() < README.index("\n## ")
    commands = [line.partition("#")[0].split() for line in first[1].splitlines()]
    assert commands == [["make", "demo"], ["sudo", "make", "install"]]


def test_nothing_is_to_be_had_from_a_registry_that_does_not_have_it() -> None:
    program = (ROOT / "src/hmret/__main__.py").read_text(encoding="utf-8")
    for page in (
        README,
        program,
        *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")),
    ):
        named = re.findall(r"pipx? install '?([^'\s`]+)", page)
        # From a checkout, or from files that are there: options say so.
        assert {name for name in named if not name.startswith("-")} <= {".", ".[server]"}


def test_another_server_that_writes_what_the_readme_shows_is_understood(host: Host) -> None:
    section = README.partition("## Is it for you?")[2].partition("```\n")[2].partition("```")[0]
    digest_hex = "c" * 64
    files = re.findall(r"^  (\S+\.json)[^{\n]*(\{.*?\})$", section, re.MULTILINE | re.DOTALL)
    assert len(files) == 3
    for path, content in files:
        place = host.cache.root / path.replace("<hex>", digest_hex).replace("<id>", "vm-1")
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(json.loads(content.replace("<hex>", digest_hex))))
    (host.cache.root / "images/content" / digest_hex / "rootfs.erofs").write_bytes(b"disk")
    ((tag, target),) = re.findall(r"^  (images/repositories/\S+) .*a link to (\S+)$", section, re.MULTILINE)
    (host.cache.root / tag).parent.mkdir(parents=True)
    (host.cache.root / tag).symlink_to(target.replace("<hex>", digest_hex))
    (explained,) = [json.loads(host.run("hmret explain ghcr.io/o/app:v1 --json"))]
    assert (explained["reason"], explained["referenced_by"]) == (
        "referenced",
        ["instance/vm-1", "snapshot/vm-1"],
    )
    assert explained["digest"] == f"sha256:{digest_hex}"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_variable_in_shown_shell_is_set_where_it_is_used(page: Path) -> None:
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        code = re.sub(r"'[^']*'|\s#.*", "", block)
        used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", code))
        assert used <= set(re.findall(r"^ *(?:for )?([A-Za-z_]\w*)(?:=| in )", block, re.MULTILINE))


def test_the_readme_on_ones_own_data_directory(host: Host) -> None:
    said = {line: host.run(line) for line in lines_below(README, "On your own data directory")}
    assert len(said) == 8
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


SCRIPTS = (
    "etc/bash_completion.d/hmret",
    "etc/fish/completions/hmret.fish",
    "usr/local/share/zsh/site-functions/_cyclopts_hmret",
)


def test_what_make_install_puts_where(host: Host) -> None:
    program = host.root / "opt/hmret/bin/hmret"
    assert (host.root / "usr/local/bin/hmret").readlink() == program
    unit = (host.root / "etc/systemd/system/hmret.service").read_text()
    assert f"ExecStart={program} run --log-format json" in unit.splitlines()
    example = (host.root / "etc/hmret/config.yaml.example").read_text()
    assert example == (ROOT / "packaging/config.example.yaml").read_text()
    for script in SCRIPTS:
        assert "check-config" in (host.root / script).read_text()
    pages = re.findall(r"file://(/\S+)", unit)
    assert len(pages) == 2
    for page in pages:
        assert "<!doctype html>" in (host.root / page.lstrip("/")).read_text()


def test_the_page_on_installing_on_completion(host: Host) -> None:
    lines = [line for line in lines_below(INSTALL, "Install") if line.startswith("hmret completion")]
    for script in SCRIPTS:
        (host.root / script).write_text("")
    for line in lines:
        host.run(line)
    assert len(lines) == len(SCRIPTS)
    assert all("check-config" in (host.root / script).read_text() for script in SCRIPTS)


def test_the_page_on_installing(host: Host) -> None:
    lines = [line for line in lines_below(INSTALL, "Install") if not line.startswith("hmret completion")]
    assert lines[0].partition("#")[0].strip() == "make install"
    said = {line.partition("#")[0].strip(): host.run(line) for line in lines[1:]}
    assert list(said) == [
        "hmret check-config",
        "hmret plan",
        "hmret unit > /etc/systemd/system/hmret.service",
        "systemctl daemon-reload",
        "hmret --version",
    ]
    assert "2 not_allowed" in said["hmret plan"]


def test_nothing_is_removed_from_where_nothing_was_installed(host: Host) -> None:
    assert "`make uninstall`" in INSTALL
    precious = host.root / "elsewhere/precious"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("x")
    for target in ("install", "uninstall"):
        refused = run_program(
            ["make", target], cwd=ROOT, env={**host.environment, "PREFIX": str(precious.parent)}
        )
        assert (refused.returncode, "no installation of hmret" in refused.stderr) == (2, True)
    assert precious.read_text() == "x"


def test_the_example_of_the_settings_has_each_with_its_default(tmp_path: Path) -> None:
    example = (ROOT / "packaging/config.example.yaml").read_text(encoding="utf-8")
    assert not [line for line in example.splitlines() if line and not line.startswith("#")]
    config = tmp_path / "config.yaml"
    config.write_text(re.sub(r"^#(?! )|^#(?=  )", "", example, flags=re.MULTILINE))
    found = load_settings(config_file=str(config), environment={}, flags={})
    defaults = load_settings(config_file=None, environment={}, flags={}, default_files=(), own_file=None)
    assert found.config == defaults.config
    assert {key for key, setting in found.values.items() if setting.source == "default"} == {
        "hmret.enabled",
        "hmret.disk.low_watermark",
    }
    assert {key: setting.value for key, setting in found.values.items()} == {
        key: setting.value for key, setting in defaults.values.items()
    }


def test_no_code_is_shown_that_no_test_runs() -> None:
    run = {
        "README.md": {
            "sh": 8,
            "": 1,
            "python": 1,
            "text": 1,
        },  # here, test_docs.py, cli/commands/test_plan_in_readme.py, and packaging/ways_in.py
        "docs/INSTALL.md": {"sh": 4},  # here
        "docs/COMMANDS.md": {"sh": 1},  # test_shown_pages.py, as those that follow
        "docs/HOW_TO.md": {"sh": 9, "yaml": 2, "ini": 3},  # and test_guides.py, cli/test_unit_file.py
        "docs/FIRST_DAY.md": {"sh": 8},
        "docs/METRICS.md": {"sh": 1},
        "docs/OPERATING.md": {"sh": 5},
        "docs/PURPOSE.md": {"sh": 1, "text": 1},
        "docs/REASONS.md": {"sh": 1},
        "docs/SETTINGS.md": {"sh": 2, "yaml": 1},  # and test_guides.py
        "docs/ALERTS.md": {"sh": 15},  # here
        "docs/POLICY.md": {"sh": 1, "yaml": 1},  # and test_timelapse.py
        "docs/EMBEDDING.md": {"python": 13},  # test_guides.py
        "docs/FLEET.md": {"sh": 21, "yaml": 1},  # test_fleet_page.py
        "docs/CONTROL_API.md": {"sh": 3, "python": 1, "go": 1},  # test_control_api_page.py
    }
    shown: dict[str, dict[str, int]] = {}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^\s*```(.*)\n(?:.*\n)*?\s*```$", page.read_text(encoding="utf-8"), re.MULTILINE)
        if blocks:
            shown[str(page.relative_to(ROOT))] = {language: blocks.count(language) for language in blocks}
    assert shown == run


def test_the_first_command_of_each_runbook_runs(host: Host) -> None:
    lines = re.findall(r"```sh\n(.*?)\n```", RUNBOOKS, re.DOTALL)
    assert len(lines) == len(re.findall(r"^## ", RUNBOOKS, re.MULTILINE))
    with running_service(host.cache.root, "--enable", "--allow", "*") as service:
        service.wait_event("sweep_ended")
        for line in dict.fromkeys(lines):
            host.run(line)
        assert service.stop() == 0
