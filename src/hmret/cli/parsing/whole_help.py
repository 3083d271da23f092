"""The program's help in a pipe, printed quickly, without loading the argument parser."""

import os
import textwrap
from collections.abc import Iterator

from hmret.cli.parsing.command_table import COMMANDS, HELP, HELP_FLAGS, VERSION_FLAGS, in_paragraphs

_WIDTH = 80
_INDENT = "  "
_HANGING = "    "
_PARAGRAPH = "\n\n"


def whole_help(width: int) -> str:
    """Return the program's help as the argument parser would print it, in lines of at most `width`."""
    return "\n".join(wrap(line, width) for line in _lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from ("Usage: hmret COMMAND", "")
    yield from (*in_paragraphs(HELP).rstrip().splitlines(), "")
    yield "Commands:"
    for name, (_, text) in sorted(COMMANDS.items()):
        yield f"{_INDENT}{name}: {in_paragraphs(text).partition(_PARAGRAPH)[0]}"
    yield f"{_INDENT}{', '.join(HELP_FLAGS)}: Display this message and exit."
    yield f"{_INDENT}{', '.join(VERSION_FLAGS)}: Display application version."
    yield ""


def wrap(line: str, width: int) -> str:
    """Wrap a line of help; indented lines get a hanging indent."""
    text = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        text,
        width=width,
        initial_indent=indent,
        subsequent_indent=indent + (_HANGING if indent else ""),
        break_long_words=False,
        break_on_hyphens=False,
    )


def pipe_width() -> int:
    """Return the width for a reader of a pipe: of a terminal on another stream, or COLUMNS; else 80."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit():
        return int(columns) or _WIDTH
    for number in (0, 1, 2):
        try:
            return os.get_terminal_size(number).columns or _WIDTH
        except OSError:
            continue
    return _WIDTH
