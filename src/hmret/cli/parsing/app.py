"""The cyclopts application: the commands, their options and help, and its usage errors."""

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, UnknownCommandError, UnknownOptionError, UnusedCliTokensError

from hmret.cli.display.output import is_terminal
from hmret.cli.parsing.command_table import (
    COMMANDS,
    GROUPS,
    HELP,
    HELP_FLAGS,
    VERSION_FLAGS,
    WITH_VALUE,
    WITHOUT_VALUE,
    in_paragraphs,
)
from hmret.cli.parsing.suggestions import suggest
from hmret.cli.parsing.whole_help import wrap
from hmret.model.errors import ConfigError

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from cyclopts.help.formatters.plain import PlainFormatter
    from cyclopts.help.protocols import HelpFormatter
    from rich.console import Console, ConsoleOptions


_ENDLESS = 10_000
"""Columns; wide enough that nothing is wrapped."""


def call(words: Sequence[str]) -> int:
    """Run the command named by the first word; returns its exit code.

    Raises:
        ConfigError: invalid usage.
        HmretError, OSError: the command failed.
    """
    try:
        code = make_app()(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise ConfigError(_message_of(error)) from None
    return code if isinstance(code, int) else 0


def make_app() -> App:
    """Assemble the commands; none is imported."""
    app = _app_of("hmret", HELP, COMMANDS)
    for group, commands in GROUPS.items():
        app.command(_app_of(group, COMMANDS[group][1], commands))
    return app


def _app_of(name: str, text: str, commands: Mapping[str, tuple[str, str]]) -> App:
    """Assemble the program, or a group of commands."""
    formatter: HelpFormatter | str = "default" if is_terminal(sys.stdout) else _WrappedHelp()
    app = App(
        name=name,
        help=in_paragraphs(text),
        help_format="plaintext",
        help_flags=HELP_FLAGS,
        help_formatter=formatter,  # type: ignore[arg-type]  # the two words that it takes
        version=_version,
        version_flags=VERSION_FLAGS,
        result_action="return_value",
        verbose=False,
        suppress_keyboard_interrupt=False,
    )
    for command, (target, description) in commands.items():
        if target:
            app.command(target, name=command, help=in_paragraphs(description))
    return app


class _WrappedHelp:
    """Help as plain text, each paragraph wrapped once."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        _print_wrapped(console, lambda plain, wide: plain(wide, options, panel))

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: object) -> None:
        _print_wrapped(console, lambda plain, wide: plain.render_usage(wide, options, usage))

    def render_description(self, console: "Console", options: "ConsoleOptions", description: object) -> None:
        _print_wrapped(console, lambda plain, wide: plain.render_description(wide, options, description))


def _print_wrapped(console: "Console", write: "Callable[[PlainFormatter, Console], None]") -> None:
    """Print what `write` writes to a console of unlimited width, wrapped to the width of this one."""
    from cyclopts.help.formatters.plain import PlainFormatter  # noqa: PLC0415 - only needed for help
    from rich.console import Console  # noqa: PLC0415 - the same

    wide = Console(file=io.StringIO(), width=_ENDLESS, force_terminal=False, no_color=True)
    with wide.capture() as captured:
        write(PlainFormatter(), wide)
    for line in captured.get().splitlines():
        console.print(wrap(line, console.width), soft_wrap=True, highlight=False, markup=False)


def _version() -> str:
    import platform  # noqa: PLC0415 - rarely needed, and slow to load
    from importlib import metadata  # noqa: PLC0415 - the same

    from hmret.disk.filesystem import NATIVE  # noqa: PLC0415 - the same

    core = "native core" if NATIVE else "no native core"
    return f"hmret {metadata.version('hmret')} (Python {platform.python_version()}, {core})"


def _message_of(error: CycloptsError) -> str:
    match error:
        case UnusedCliTokensError():
            return f"unexpected: {' '.join(error.unused_tokens or ())}"
        case UnknownCommandError():
            name = (error.unused_tokens or [""])[0]
            group = (error.command_chain or ("",))[-1]
            remedy = suggest(name, GROUPS.get(group, COMMANDS)) or ". --help lists them"
            return f'unknown command "{" ".join(filter(None, (group, name)))}"{remedy}'
        case UnknownOptionError():
            given = (error.token.keyword or error.token.value).partition("=")[0]
            if given in (*WITH_VALUE, *WITHOUT_VALUE):
                return f"{' '.join(error.command_chain or ())} does not accept {given}"
            known = [
                name for argument in error.argument_collection if argument.parse for name in argument.names
            ]
            return f"unknown option: {given}{suggest(given, known)}"
    text = str(error)
    return f"{text[:1].lower()}{text[1:]}".rstrip(".")
