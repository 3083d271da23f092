"""Help as plain text for a pipe: each paragraph is wrapped once."""

import io
from collections.abc import Callable

from cyclopts.help.formatters.plain import PlainFormatter
from rich.console import Console

from hmret.cli.parsing.whole_help import wrap

PLAIN = PlainFormatter()
"""Writes each help entry."""

_ENDLESS = 10_000
"""Columns; wide enough that nothing is wrapped."""


def print_wrapped(console: Console, write: Callable[[Console], None]) -> None:
    """Print what `write` writes to a console of unlimited width, wrapped to the width of this one."""
    wide = Console(file=io.StringIO(), width=_ENDLESS, force_terminal=False, no_color=True)
    with wide.capture() as captured:
        write(wide)
    for line in captured.get().splitlines():
        console.print(wrap(line, console.width), soft_wrap=True, highlight=False, markup=False)
