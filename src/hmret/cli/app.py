"""The commands and their exit codes.

0: done, also when nothing was to do. 1: something failed or is suspended. 2: bad usage or config. 3: another engine
has the data directory. 4: something would go, where plan was asked. What went wrong is told in one line.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, UnknownCommandError, UnknownOptionError, UnusedCliTokensError

from hmret.cli.logs import log_failure, wanted_format
from hmret.cli.output import complain, escape_unprintable, is_terminal
from hmret.model.errors import ConfigError, DataDirLockedError, HmretError, InvalidReferenceError
from hmret.model.thread_refusal import NO_THREAD, is_thread_refusal

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from cyclopts.help.protocols import HelpFormatter
    from rich.console import Console, ConsoleOptions

__all__ = ["WITHOUT_VALUE", "WITH_VALUE", "carry_out", "make_app"]

_FAILED = 1
_USAGE = 2
_LOCKED = 3
_INTERRUPTED = 130  # as a shell tells it: 128 and the number of SIGINT

# Each is imported only when it is called.
_COMMANDS = {
    "run": (
        "hmret.cli.run:run",
        """Sweep in the background until SIGTERM or SIGINT.

        The image in hand is finished first. SIGHUP reads the settings again. Serves the control socket, and what can
        only be looked at on hmret.metrics_listen. Where retention is disabled it says so, sweeps nothing, and serves all else.""",
    ),
    "status": (
        "hmret.cli.status:status",
        """Show the status of the running engine.

        Exit code 1: no engine runs, or deletion is suspended.""",
    ),
    "sweep": (
        "hmret.cli.sweep:sweep",
        """Sweep once, and show what was deleted.

        At a terminal it asks before anything is deleted. The bytes are free when this ends, but for what goes into
        quarantine. Where retention is disabled nothing is touched. Without a running engine, patterns that allow nothing
        that is here, while timers run, are refused: all of those would stop.

        Exit code 1: something failed, or deletion is suspended.""",
    ),
    "plan": (
        "hmret.cli.plan:plan",
        """Show what a sweep would do, now or at another time; change nothing.

        Lists what would be deleted and whose timers would stop or start; the rest is counted. Given --config, a running
        engine tells what that would change of what its own settings would do. Works where retention is disabled, too.

        Exit code 1: deletion is suspended. 4, with --detailed-exitcode: something would be deleted.""",
    ),
    "images": (
        "hmret.cli.images:images",
        """List every image: its size, last use, when it falls due, why, and who needs it.

        Exit code 1: deletion is suspended.""",
    ),
    "du": (
        "hmret.cli.du:du",
        """Show how many bytes the images occupy, by repository and by reason, and how full their disk is.""",
    ),
    "forecast": (
        "hmret.cli.forecast:forecast",
        """Show what falls due on each of the next days, if nothing is used or pulled until then; change nothing.

        Given --config, it works by itself, by those settings.""",
    ),
    "explain": (
        "hmret.cli.explain:explain",
        """Explain why one image goes or stays, and until when; change nothing.

        Names every reason that holds. Exit code 1: the image is not here.""",
    ),
    "mark-used": (
        "hmret.cli.mark_used:mark_used",
        """Mark an image used: it stays for at least its window from now.

        Works where retention is disabled, too. Exit code 1: the image is not here, not ready or broken.""",
    ),
    "confirm": (
        "hmret.cli.confirm:confirm",
        """Confirm that what is there now is right, where a volume that is not mounted or the clock suspends deletion.

        Takes over guests, snapshots or folders of images that are told as lost, and clock. With several, name those that
        are right. Exit code 0, also where there is nothing to confirm.""",
    ),
    "restore": (
        "hmret.cli.quarantine:restore",
        """Bring a deleted image back from quarantine, with those of its tags that are free, for a full window.

        Works where retention is disabled, too. Exit code 1: the image is not in quarantine, or here already.""",
    ),
    "quarantine": (
        "hmret.cli.quarantine:quarantine",
        """List the deleted images that can be brought back, and until when; change nothing.""",
    ),
    "lease": (
        "hmret.cli.leases:lease",
        """Keep an image from deletion for a while, over restarts too.

        Asks the running engine. Exit code 1: none runs, or the image is not here, not ready or broken.""",
    ),
    "leases": (
        "hmret.cli.leases:leases",
        """List the leases that were granted.

        Asks the running engine. Exit code 1: none runs.""",
    ),
    "unlease": (
        "hmret.cli.leases:unlease",
        """End a lease.

        Asks the running engine. Exit code 1: none runs, or there is no such lease.""",
    ),
    "events": (
        "hmret.cli.events:events",
        """Show what the running engine has done lately and, with --follow, does.

        Exit code 1: no engine runs.""",
    ),
    "check-config": (
        "hmret.cli.check_config:check_config",
        """Show every setting and where it came from, and warn of what is probably not meant.""",
    ),
    "unit": (
        "hmret.cli.unit:unit",
        """Print the systemd unit that runs this very installation.""",
    ),
    "demo": (
        "hmret.cli.demo_command:demo",
        """Show images come, go and be protected, on a small cache of its own.""",
    ),
    "completion": (
        "hmret.cli.completion:completion",
        """Print the script that lets a shell complete commands, options and their values.

        bash: put it into /etc/bash_completion.d/hmret.

        fish: into /etc/fish/completions/hmret.fish.

        zsh: into _cyclopts_hmret, a name that it needs, in a folder of $fpath.""",
    ),
}
_HELP = """Delete images that nothing has used for long, and never what something needs.

Options of a command may also stand before it. An image is named by a reference (alpine:3.20), by 12 digits or more of its
digest, or by the VM that runs from it.

Where an engine runs on the data directory, sweep, plan, images, du, forecast, explain, mark-used, confirm, restore and
quarantine ask it. Given --enable, --unused-for or --allow, sweep, plan, images, du, forecast and explain work by themselves.

Exit codes: 0 done; 1 something failed or is suspended; 2 bad usage or config; 3 another engine has the data directory;
4 plan --detailed-exitcode, and something would be deleted.
"""

# Common options, by whether a value follows; the help of all commands does not wait for what they mean.
WITH_VALUE = (
    "--config",
    "--data-dir",
    "--unused-for",
    "--allow",
    "--backend",
    "--timeout",
    "--log-format",
    "--log-level",
)
WITHOUT_VALUE = ("--enable", "--json")
_HELP_FLAGS = ("--help", "-h")
_VERSION_FLAGS = ("--version", "-V")

# A slip of the hand must not be helped to delete, to run, or to take away what keeps images.
_NEVER_SUGGESTED = (
    "run",
    "sweep",
    "confirm",
    "unlease",
    "--enable",
    "--unused-for",
    "--allow",
    "--yes",
    "--release-brake",
    "--stop-timers",
)
_KEY = re.compile(
    r"(?:^|[ :])((?:images\.auto_delete|registry|build|hmret)(?:\.\w+)*|data_dir|HMRET__\w+|IMAGES__\w+|--[a-z][a-z-]*)(?=[:,. ]|$)"
)
"""A key or an option in the words of an error."""


def carry_out(tokens: Sequence[str]) -> int:
    """Carry out one command; returns the exit code."""
    escape_unprintable()
    try:
        return _call(tokens)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (CycloptsError, HmretError, OSError) as error:
        told, code = _told(error), _code_of(error)
        _fail(tokens, told, key=_key_in(told) if code == _USAGE else None)
        return code
    except Exception as error:  # noqa: BLE001 - the boundary: what nobody foresaw is told in the format that is asked for
        if isinstance(error, RuntimeError) and is_thread_refusal(error):
            _fail(tokens, NO_THREAD)
        else:
            _fail(tokens, f"{type(error).__name__}: {error}", error=error)
        return _FAILED


def _fail(
    tokens: Sequence[str], message: str, *, key: str | None = None, error: Exception | None = None
) -> None:
    """Say why a command ends: as JSON where that is asked for, with the key or option at fault."""
    if _wants_json(tokens):
        complain(message, as_json=True, key=key)
    else:
        log_failure(wanted_format(tokens), message, error)


def _wants_json(tokens: Sequence[str]) -> bool:
    """Return whether JSON was asked for, so far as that can be told of what may not be understood."""
    joined = " ".join(tokens)
    return "--json" in tokens or any(
        way in f"{joined} " for way in ("-o json ", "--output json ", "--output=json ", "-o=json ")
    )


def _call(tokens: Sequence[str]) -> int:
    _refuse_no_text(tokens)
    code = make_app()(_command_first(tokens), exit_on_error=False, print_error=False)
    return code if isinstance(code, int) else 0


def _refuse_no_text(tokens: Sequence[str]) -> None:
    """Refuse arguments that are no UTF-8: no setting, image or lease has such a name, and no answer could repeat it.

    A config file may lie anywhere.

    Raises:
        ConfigError: one is none.
    """
    for before, token in zip(("", *tokens), tokens, strict=False):
        is_path = before == "--config" or token.startswith("--config=")
        if not is_path and any("\ud800" <= char <= "\udfff" for char in token):
            name = f"{before}: " if before.startswith("-") else ""
            raise ConfigError(f"{name}expected UTF-8, got {token!r}")


def _command_first(tokens: Sequence[str]) -> list[str]:
    """Move common options that stand before the command behind it.

    Raises:
        ConfigError: something else stands there, or there is no command.
    """
    position = 0
    while position < len(tokens) and tokens[position].startswith("-"):
        name, equals, _ = tokens[position].partition("=")
        if name in _HELP_FLAGS + _VERSION_FLAGS:
            return [name]
        if name not in WITH_VALUE + WITHOUT_VALUE:
            raise ConfigError(
                f"unknown option: {tokens[position]}{_suggest(name, WITH_VALUE + WITHOUT_VALUE)}"
            )
        position += 1 if equals or name in WITHOUT_VALUE else 2
    if not tokens:
        return ["--help"]
    if position >= len(tokens):
        raise ConfigError("expected a command; --help lists them")
    match tokens[position:]:
        case ["help", name, *_] if not name.startswith("-"):
            return [name, "--help"]
        case ["help", *_]:
            return ["--help"]
        case ["version", *rest] if not rest:
            return ["--version"]
    return [tokens[position], *tokens[:position], *tokens[position + 1 :]]


def make_app() -> App:
    """Put the commands together; none is imported."""
    formatter: HelpFormatter | str = "default" if is_terminal(sys.stdout) else _WrappedHelp()
    app = App(
        name="hmret",
        help=_unwrapped(_HELP),
        help_format="plaintext",
        help_flags=_HELP_FLAGS,
        help_formatter=formatter,  # type: ignore[arg-type]  # the two words that it takes
        version=_version,
        version_flags=_VERSION_FLAGS,
        result_action="return_value",
        verbose=False,
        suppress_keyboard_interrupt=False,
    )
    for name, (target, text) in _COMMANDS.items():
        app.command(target, name=name, help=_unwrapped(inspect.cleandoc(text)))
    return app


def _unwrapped(text: str) -> str:
    """Make one line of each paragraph, for whoever shows it to wrap."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


class _WrappedHelp:
    """Help as plain text, each paragraph wrapped once."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        from hmret.cli.plain_help import PLAIN, print_wrapped  # noqa: PLC0415 - only those who ask for help wait for it

        print_wrapped(console, lambda wide: PLAIN(wide, options, panel))

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: object) -> None:
        from hmret.cli.plain_help import PLAIN, print_wrapped  # noqa: PLC0415 - the same

        print_wrapped(console, lambda wide: PLAIN.render_usage(wide, options, usage))

    def render_description(self, console: "Console", options: "ConsoleOptions", description: object) -> None:
        from hmret.cli.plain_help import PLAIN, print_wrapped  # noqa: PLC0415 - the same

        print_wrapped(console, lambda wide: PLAIN.render_description(wide, options, description))


def _version() -> str:
    import platform  # noqa: PLC0415 - seldom asked for, and slow to load
    from importlib import metadata  # noqa: PLC0415 - the same

    from hmret.disk.filesystem import NATIVE  # noqa: PLC0415 - the same

    core = "native core" if NATIVE else "no native core"
    return f"hmret {metadata.version('hmret')} (Python {platform.python_version()}, {core})"


def _told(error: Exception) -> str:
    match error:
        case UnusedCliTokensError():
            return f"unexpected: {' '.join(error.unused_tokens or ())}"
        case UnknownCommandError():
            name = (error.unused_tokens or [""])[0]
            return f'unknown command "{name}"{_suggest(name, _COMMANDS) or ". --help lists them"}'
        case UnknownOptionError():
            given = error.token.keyword or error.token.value
            known = [name for argument in error.argument_collection for name in argument.names]
            return f"unknown option: {given}{_suggest(given, known)}"
        case CycloptsError():
            text = str(error)
            return f"{text[:1].lower()}{text[1:]}".rstrip(".")
        case OSError():
            return f"{error.filename}: {error.strerror}"
    return str(error)


def _key_in(told: str) -> str | None:
    """Find the setting or option that an error names; None: it names none."""
    found = None if told.startswith("unknown command") else _KEY.search(told)
    return None if found is None else found[1]


def _suggest(given: str, known: Iterable[str]) -> str:
    """Suggest what was probably meant, so far as that does no harm where it was not; empty: nothing."""
    import difflib  # noqa: PLC0415 - most commands are typed as they are

    harmless = [name for name in known if name not in _NEVER_SUGGESTED and len(name) > len("-o")]
    nearest = difflib.get_close_matches(given.partition("=")[0][:60], harmless, n=1)
    return f". Did you mean {nearest[0]}?" if nearest else ""


def _code_of(error: Exception) -> int:
    match error:
        case CycloptsError() | ConfigError() | InvalidReferenceError():
            return _USAGE
        case DataDirLockedError():
            return _LOCKED
    return _FAILED
