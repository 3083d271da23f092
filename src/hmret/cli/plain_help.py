"""Help as plain text for a pipe: each paragraph is wrapped once."""

import io
import textwrap
from collections.abc import Callable

from cyclopts.help.formatters.plain import PlainFormatter
from rich.console import Console

__all__ = ["PLAIN", "print_wrapped"]

PLAIN = PlainFormatter()
"""What writes each entry."""

_ENDLESS = 10_000
"""Columns; wide enough that nothing is wrapped there."""
_HANGING = "    "


def print_wrapped(console: Console, write: Callable[[Console], None]) -> None:
    """Print what is written to a console without an edge, wrapped to the width of this one."""
    wide = Console(file=io.StringIO(), width=_ENDLESS, force_terminal=False, no_color=True)
    with wide.capture() as captured:
        write(wide)
    for line in captured.get().splitlines():
        text = line.strip()
        indent = line[: len(line) - len(line.lstrip())]
        wrapped = textwrap.fill(
            text,
            width=console.width,
            initial_indent=indent,
            subsequent_indent=indent + (_HANGING if indent else ""),
            break_long_words=False,
            break_on_hyphens=False,
        )
        console.print(wrapped, soft_wrap=True, highlight=False, markup=False)
