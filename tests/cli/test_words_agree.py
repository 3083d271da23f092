"""Help, documents, the description of the control API and completions say the same of what there is."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from hmret.__main__ import main
from hmret.cli.commands.completion import Shell
from hmret.cli.parsing.command_table import COMMANDS, GROUPS, HELP

Call = Callable[..., tuple[int, str, str]]

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHER_PROGRAMS = {
    "BENCHMARKS.md",
    "POLICY.md",
    "PROOFS.md",
    "TESTING.md",
}  # these name options of other programs
EVERYWHERE = {"--help", "-h", "--version", "-V"}


PATHS = [(name,) for name in COMMANDS] + [(group, name) for group in GROUPS for name in GROUPS[group]]
_OPTIONS: dict[tuple[str, ...], set[str]] = {}


def options_of(call: Call, *command: str) -> set[str]:
    """Return the options that the help of a command shows."""
    if command not in _OPTIONS:
        _, output, _ = call(*command, "--help")
        heads = re.findall(r"^  (-[^:\n]*)", output, re.MULTILINE)
        _OPTIONS[command] = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", " ".join(heads)))
    return _OPTIONS[command]


def proposed(script: str, shell: str, command: str) -> set[str]:
    """Return the options that a script proposes behind a command."""
    match shell:
        case "bash":
            listed = re.search(rf'^        "{command}"\)\n.*\n +local -a _c=\((.*)\)$', script, re.MULTILINE)
            assert listed is not None
            return set(re.findall(r'"(-[^"]+)"', listed[1]))
        case "fish":
            lines = re.findall(
                rf"^complete -c hmret -n '__fish_hmret_using_command {command}' -([ls]) (\S+)",
                script,
                re.MULTILINE,
            )
            return {f"--{name}" if kind == "l" else f"-{name}" for kind, name in lines}
        case _:
            section = re.split(rf"^        {command}\)$", script, flags=re.MULTILINE)[1]
            # Behind a group come its commands.
            words = re.split(r"\n          ;;\n|'1: :->cmds'", section)[0].partition("_arguments")[2]
            return set(re.findall(r"""^ +['"]\*?(--?[A-Za-z][a-z-]*)""", words, re.MULTILINE))


@pytest.mark.parametrize("shell", get_args(Shell))
def test_completions_propose_the_options_that_help_shows(call: Call, shell: str) -> None:
    _, script, _ = call("completion", shell)
    for command in COMMANDS:
        assert proposed(script, shell, command) == options_of(call, command) | EVERYWHERE, command


def pieces_of(page: Path) -> tuple[list[str], list[str]]:
    """Return the lines of shell that a page shows, and what it sets as code within its text."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    words = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return lines, [" ".join(word.split()) for word in re.findall(r"`([^`]+)`", words)]


def calls_in(page: Path) -> Iterator[tuple[str, ...]]:
    """Find the calls of the command line that a page shows, as words."""
    lines, spans = pieces_of(page)
    for text in (*lines, *(span for span in spans if span.startswith("hmret "))):
        if text.lstrip().startswith("etcdctl"):  # in etcd, hmret is a user and a role
            continue
        called = re.search(r"(?:^|[\s$(])(?<!-u )hmret ([a-z-][^#|;&<>)]*)", text)
        if called:
            yield tuple(word.strip(",.") for word in called[1].split())


SHOWN = sorted({(page.name, words) for page in PAGES for words in calls_in(page)})
NAMED = {span for page in PAGES for span in pieces_of(page)[1]}


def test_what_documents_call_is_there_and_has_its_options(call: Call) -> None:
    assert len(SHOWN) > 50
    wrong: list[str] = []
    for page, (command, *words) in SHOWN:
        if command in EVERYWHERE | {"version", "help", "COMMAND"}:
            continue
        options = {word.partition("=")[0].strip("'\"[].,:") for word in words if word.startswith(("-", "[-"))}
        path = (command, words[0]) if command in GROUPS and words and words[0] != "COMMAND" else (command,)
        if path not in PATHS or not options <= options_of(call, *path) | EVERYWHERE:
            wrong.append(f"{page}: hmret {' '.join((command, *words))}")
    assert wrong == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_told_of_in_the_documents(command: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    # The demonstration is shown as `make demo`.
    assert command in NAMED or f"make {command} " in readme or any(words[0] == command for _, words in SHOWN)


def test_every_option_that_a_document_names_is_one_of_some_command(call: Call) -> None:
    known = EVERYWHERE.union(*(options_of(call, *path) for path in PATHS))
    named = set()
    for page in PAGES:
        if page.name not in OTHER_PROGRAMS:
            named |= set(re.findall(r"`(--[a-z][a-z-]*)[` =]", page.read_text(encoding="utf-8")))
    assert named
    assert named - known == set()


def test_the_help_names_commands_and_options_that_there_are(call: Call) -> None:
    texts = [HELP, *(text for commands in (COMMANDS, *GROUPS.values()) for _, text in commands.values())]
    known = EVERYWHERE.union(*(options_of(call, *path) for path in PATHS))
    assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", " ".join(texts))) <= known


DESCRIBED = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))["paths"]
PAGE = (ROOT / "docs/CONTROL_API.md").read_text(encoding="utf-8")


def test_readme_and_help_have_the_same_exit_codes() -> None:
    texts = [
        (ROOT / "README.md").read_text(encoding="utf-8").split("Exit codes: ")[1],
        HELP.split("Exit codes: ")[1],
    ]
    codes = [re.findall(r"\b(\d+) ", text.partition(".")[0]) for text in texts]
    assert codes[0] == codes[1] == ["0", "1", "2", "3", "4", "130", "143"]


def test_the_page_on_the_control_api_has_every_call_with_its_parameters_and_no_other() -> None:
    rows = [row for row in PAGE.splitlines() if re.match(r"\| `(GET|POST|PUT|DELETE) /", row)]
    shown = {
        (method, path): set(re.findall(r"(\w+)=", query))
        for row in rows
        for method, path, query in re.findall(
            r"`(GET|POST|PUT|DELETE) ([^?`\s]+)\??([^`\s]*)`", row.split("|")[1]
        )
    }
    described = {
        (method.upper(), path): {one["name"] for one in call.get("parameters", ()) if one["in"] == "query"}
        for path, calls in DESCRIBED.items()
        for method, call in calls.items()
        # The page, and the description itself, are told of in words.
        if path not in ("/", "/openapi.json")
    }
    assert shown.keys() == described.keys()
    for call, parameters in described.items():
        told = {
            name for name in parameters if name in shown[call] or f"`{name}" in PAGE or f"{name}=" in PAGE
        }
        assert told == parameters, call
        assert shown[call] <= parameters, call


def test_what_the_description_refers_to_of_the_command_line_is_there() -> None:
    text = json.dumps(DESCRIBED)
    named = re.findall(r"hmret ([a-z][a-z-]+)", text)
    assert set(named) <= set(COMMANDS)


def test_the_program_is_called_by_the_commands_that_it_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output, _ = capsys.readouterr()
    assert re.findall(r"^  ([a-z][a-z-]*): ", output, re.MULTILINE) == sorted(COMMANDS)
