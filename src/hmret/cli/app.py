"""The commands and their exit codes.

0: done, also when nothing was to do. 1: something failed or is suspended. 2: bad usage or config. 3: another engine
has the data directory. What went wrong is told in one line.
"""

import sys
from collections.abc import Sequence
from importlib import metadata

from cyclopts import App, CycloptsError, UnusedCliTokensError

from hmret.cli.options import command_first
from hmret.cli.output import complain, escape_unprintable, is_terminal
from hmret.model.errors import ConfigError, DataDirLockedError, HmretError, InvalidReferenceError

__all__ = ["carry_out"]

_FAILED = 1
_USAGE = 2
_LOCKED = 3
_INTERRUPTED = 130  # as a shell tells it: 128 and the number of SIGINT

# Imported only when they are called; the help of all commands needs none of them.
_COMMANDS = {
    "run": ("hmret.cli.run:run", "Sweep in the background until SIGTERM or SIGINT."),
    "sweep": ("hmret.cli.sweep:sweep", "Sweep once, and tell what was deleted."),
    "plan": ("hmret.cli.plan:plan", "Tell what a sweep would do, now or at another time; change nothing."),
    "explain": ("hmret.cli.explain:explain", "Tell why one image goes or stays, and until when."),
    "mark-used": (
        "hmret.cli.mark_used:mark_used",
        "Say that an image is about to be used; its window starts anew.",
    ),
    "check-config": ("hmret.cli.check_config:check_config", "Tell every setting and where it came from."),
    "demo": (
        "hmret.cli.demo_command:demo",
        "Show images come, go and be protected, on a small cache of its own.",
    ),
}
_HELP = """Delete images that nothing has used for long, and never what something needs.

Options of a command may also stand before it. Exit codes: 0 done, 1 something failed or is suspended,
2 bad usage or config, 3 another engine has the data directory."""


def carry_out(tokens: Sequence[str]) -> int:
    """Carry out one command; returns the exit code."""
    escape_unprintable()
    try:
        return _call(tokens)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (CycloptsError, HmretError, OSError) as error:
        complain(_told(error))
        return _code_of(error)


def _call(tokens: Sequence[str]) -> int:
    code = _app()(command_first(tokens), exit_on_error=False, print_error=False)
    return code if isinstance(code, int) else 0


def _app() -> App:
    app = App(
        name="hmret",
        help=_HELP,
        help_format="plaintext",
        help_formatter="default" if is_terminal(sys.stdout) else "plain",
        version=lambda: metadata.version("hmret"),
        result_action="return_value",
        verbose=False,
    )
    for name, (target, summary) in _COMMANDS.items():
        app.command(target, name=name, help=summary)
    return app


def _told(error: Exception) -> str:
    match error:
        case UnusedCliTokensError():
            return f"unexpected: {' '.join(error.unused_tokens or ())}"
        case CycloptsError():
            text = str(error)
            return f"{text[:1].lower()}{text[1:]}".rstrip(".")
        case OSError():
            return f"{error.filename}: {error.strerror}"
    return str(error)


def _code_of(error: Exception) -> int:
    match error:
        case CycloptsError() | ConfigError() | InvalidReferenceError():
            return _USAGE
        case DataDirLockedError():
            return _LOCKED
    return _FAILED
