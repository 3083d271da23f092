"""Writes the manual pages: hmret(1), one for each command, and hmret.yaml(5).

    python packaging/man_pages.py FOLDER

They are made from the texts of --help and from the schema of the settings, so they say what this version does. Run it with
a Python that has hmret installed; FOLDER gets man1/ and man5/. The same version gives the same bytes.
"""

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

from hmret.__main__ import main as call
from hmret.cli.parsing.command_table import COMMANDS, GROUPS
from hmret.model.policy.config import RetentionConfig
from hmret.settings.config_files import HYPEMAN_FILES, OWN_FILE
from hmret.settings.setting_table import RULE_SCHEMAS, SETTING_SCHEMAS, SettingSchema
from hmret.settings.writing import show_value, write_value

__all__ = ["help_of", "man_pages"]

_WIDE = "100000"  # columns: help that is not wrapped
_SUMMARY = "delete images that nothing has used for long"
_FILES = (
    (HYPEMAN_FILES[0], "hypeman's config file, with hmret's settings below the key hmret."),
    (HYPEMAN_FILES[1], "The same, of the user who calls hmret."),
    (OWN_FILE, "hmret's own config file, read in addition: see hmret.yaml(5)."),
    ("DATA_DIR/images, DATA_DIR/guests, DATA_DIR/snapshots", "What hypeman keeps, in its data directory."),
    (
        "DATA_DIR/system/image-retention",
        "Since when each image has been unused; hypeman reads and writes it, too.",
    ),
    ("DATA_DIR/system/hmret", "hmret's own records: journal, leases, quarantine, control socket."),
)
_VARIABLES = (
    ("HMRET_CONFIG", "The one config file that is read; no other is then."),
    ("CONFIG_PATH", "hypeman's config file."),
    ("HMRET_NATIVE", "0: work without the native core."),
)
_SOURCES = """\
Options win over the environment, the environment over config files, and those over the defaults.

Without --config and $HMRET_CONFIG two files are read: hypeman's, which $CONFIG_PATH names, or the first of
{hypeman} that exists; and, if it exists, {own}. A key may be in one of the two; one that is in both is an error, which names
both files and lines. Unknown keys below hmret and below images.auto_delete are errors; in {own} all unknown keys are. Elsewhere
they are hypeman's own.

Each setting has an environment variable as well: its key in capitals, with two underscores for each dot. A variable that is
empty counts as not set. "hmret check-config" shows every setting in force, and from which file, variable or option it is.

Durations are written 30d, 720h, 1h30m; hypeman's own keys take hours, minutes and seconds only. Sizes are written 500GiB, and
shares 85%. In a repository pattern * is any run of characters, / too, and ? is any one; the whole repository must match."""
_EXAMPLE = """\
images:
  auto_delete:
    unused_for: 720h
    allowed: ["ghcr.io/kernel/*"]
hmret:
  enabled: true
  pinned: ["*/base"]
  rules:
    - {match: ["ghcr.io/kernel/ci-*"], unused_for: 24h}"""


def man_pages() -> Iterator[tuple[str, str]]:
    """Return the name of each page with its text."""
    yield "man1/hmret.1", _page_of_program()
    for name in COMMANDS:
        yield f"man1/hmret-{name}.1", _page_of_command(name)
    for group, commands in GROUPS.items():
        for name in commands:
            yield f"man1/hmret-{group}-{name}.1", _page_of_command(group, name)
    yield "man5/hmret.yaml.5", _page_of_settings()


def _page_of_program() -> str:
    _, paragraphs, _ = help_of()
    names = sorted(COMMANDS)
    return _page(
        ("hmret", 1, _SUMMARY),
        ("SYNOPSIS", [f".B hmret\n{_escape('COMMAND [OPTIONS] [ARGUMENTS]')}"]),
        ("DESCRIPTION", map(_paragraph, paragraphs)),
        ("COMMANDS", (_entry(f"hmret-{name}(1)", help_of(name)[1][0]) for name in names)),
        ("FILES", (_entry(*one) for one in _FILES)),
        (
            "ENVIRONMENT",
            (
                _entry(*one)
                for one in (*_VARIABLES, ("HMRET__*, IMAGES__AUTO_DELETE__*", "Settings: see hmret.yaml(5)."))
            ),
        ),
        ("SEE ALSO", [_paragraph(", ".join([*(f"hmret-{name}(1)" for name in names), "hmret.yaml(5)"]))]),
    )


def _page_of_command(*path: str) -> str:
    usage, paragraphs, sections = help_of(*path)
    first = paragraphs[0].rstrip(".")
    name = " ".join(path)
    words = usage.removeprefix(f"hmret {name}")
    related = [f"hmret-{path[0]}-{one}(1)" for one in GROUPS.get(path[0], ()) if one != path[-1]]
    if len(path) > 1:
        related.append(f"hmret-{path[0]}(1)")
    return _page(
        (f"hmret-{'-'.join(path)}", 1, f"{first[:1].lower()}{first[1:]}"),
        ("SYNOPSIS", [f".B hmret {_escape(name)}\n{_escape(words.strip())}".rstrip()]),
        ("DESCRIPTION", map(_paragraph, paragraphs)),
        *((title, (_entry(*entry) for entry in entries)) for title, entries in sections),
        ("SEE ALSO", [_paragraph(", ".join(["hmret(1)", *sorted(related), "hmret.yaml(5)"]))]),
    )


def _page_of_settings() -> str:
    sources = _SOURCES.format(hypeman=" and ".join(HYPEMAN_FILES), own=OWN_FILE).split("\n\n")
    return _page(
        ("hmret.yaml", 5, "settings of hmret"),
        ("DESCRIPTION", map(_paragraph, sources)),
        ("SETTINGS", map(_setting, SETTING_SCHEMAS)),
        (
            "RULES",
            [
                _paragraph("Each rule of hmret.rules has some of these keys:"),
                *(_rule_key(one) for one in RULE_SCHEMAS),
            ],
        ),
        ("EXAMPLE", [f".nf\n{_lines(_EXAMPLE)}\n.fi"]),
        ("FILES", (_entry(*one) for one in _FILES[:3])),
        ("SEE ALSO", [_paragraph("hmret(1), hmret-check-config(1)")]),
    )


def _setting(one: SettingSchema) -> str:
    given = one.given_in(RetentionConfig())
    default = "unset" if one.may_be_unset else write_value(one, show_value(one, given))
    restart = (
        " A running engine takes a new value when it is started again." if one.declared.needs_restart else ""
    )
    kind = " or ".join(one.kind.choices) or one.kind.name
    return _entry(
        f"{one.key} ({kind}; default: {default})",
        f"{one.description}{restart} ${one.variable}".replace("`", ""),
    )


def _rule_key(one: SettingSchema) -> str:
    return _entry(f"{one.field.name} ({one.kind.name})", one.description.replace("`", ""))


def help_of(*command: str) -> tuple[str, list[str], list[tuple[str, list[tuple[str, str]]]]]:
    """Return the usage, the paragraphs, and the sections with their entries of a text of help."""
    text = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDE
    try:
        with redirect_stdout(text):
            code = call([*command, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    assert code == 0
    usage, *lines = text.getvalue().splitlines()
    paragraphs: list[str] = []
    sections: list[tuple[str, list[tuple[str, str]]]] = []
    for line in filter(None, lines):
        if line.startswith("  "):
            name, _, meaning = line.strip().partition(": ")
            sections[-1][1].append((name, meaning))
        elif line in ("Arguments:", "Parameters:", "Commands:"):
            title = "OPTIONS" if line == "Parameters:" else line.rstrip(":").upper()
            sections.append((title, []))
        else:
            paragraphs.append(line)
    return usage.removeprefix("Usage: "), paragraphs, sections


def _page(head: tuple[str, int, str], *sections: tuple[str, Iterable[str]]) -> str:
    name, section, summary = head
    parts = [
        f'.TH "{_escape(name.upper())}" {section} "" "hmret {version("hmret")}" "Image retention"',
        ".nh",  # names of files, options and settings are not broken
        f".SH NAME\n{_escape(name)} \\- {_escape(summary)}",
        *(part for title, body in sections for part in (f'.SH "{title}"', *body)),
    ]
    return "\n".join(parts) + "\n"


def _paragraph(text: str) -> str:
    return f".PP\n{_lines(' '.join(text.split()))}"


def _entry(name: str, meaning: str) -> str:
    return f".TP\n.B {_escape(name)}\n{_lines(meaning) or chr(92) + '&'}"


def _lines(text: str) -> str:
    r"""Escape a text of several lines; one that begins with a dot or a quote would be a request."""
    return "\n".join(f"\\&{line}" if line[:1] in {".", "'"} else line for line in _escape(text).splitlines())


def _escape(text: str) -> str:
    for char, escaped in (
        ("\\", "\\e"),
        ("-", "\\-"),
        ('"', "\\(dq"),
        ("~", "\\(ti"),
        ("^", "\\(ha"),
        ("`", "\\(ga"),
        ("'", "\\(aq"),
    ):
        text = text.replace(char, escaped)
    return text


def write_pages(folder: Path) -> Sequence[Path]:
    """Write all pages below a folder; returns their paths."""
    paths = []
    for name, text in man_pages():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
