"""The commands and their exit codes.

0: done, also when nothing was to do. 1: something failed or is suspended. 2: bad usage or config. 3: another engine
has the data directory. What went wrong is told in one line.
"""

import inspect
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnusedCliTokensError

from hmret.cli.logs import log_failure, wanted_format
from hmret.cli.output import escape_unprintable, is_terminal
from hmret.model.errors import ConfigError, DataDirLockedError, HmretError, InvalidReferenceError
from hmret.model.thread_refusal import NO_THREAD, is_thread_refusal

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

        The image in hand is finished first. SIGHUP reads the settings anew. Serves the control socket, and what can
        only be looked at on hmret.metrics_listen. Where retention is disabled it says so, sweeps nothing, and serves all else.""",
    ),
    "status": (
        "hmret.cli.status:status",
        """Tell how the running engine is.

        Exit code 1: no engine runs, or deletion is suspended.""",
    ),
    "sweep": (
        "hmret.cli.sweep:sweep",
        """Sweep once, and tell what was deleted.

        The bytes are free when this ends, but for what goes into quarantine. Where retention is disabled nothing is touched.
        Exit code 1: something failed, or deletion is suspended.""",
    ),
    "plan": (
        "hmret.cli.plan:plan",
        """Tell what a sweep would do, now or at another time; change nothing.

        Given --config, a running engine tells what that would change of what its own settings would do.
        Works where retention is disabled, too. Exit code 1: deletion is suspended.""",
    ),
    "forecast": (
        "hmret.cli.forecast:forecast",
        """Tell what falls due on each of the next days, if nothing is used or pulled meanwhile; change nothing.

        Given --config, it works by itself, by those settings.""",
    ),
    "explain": (
        "hmret.cli.explain:explain",
        """Tell why one image goes or stays, and until when; change nothing.

        Names every reason that holds. Exit code 1: the image is not here.""",
    ),
    "mark-used": (
        "hmret.cli.mark_used:mark_used",
        """Say that an image is about to be used: it stays for at least its window from now.

        Works where retention is disabled, too. Exit code 1: the image is not here, not ready or broken.""",
    ),
    "confirm": (
        "hmret.cli.confirm:confirm",
        """Say that what is there now is right, where deletion is suspended for a volume that is not mounted or the clock.

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
        """Tell the deleted images that can be brought back, and until when; change nothing.""",
    ),
    "lease": (
        "hmret.cli.leases:lease",
        """Keep an image from deletion for a while, over restarts too.

        Asks the running engine. Exit code 1: none runs, or the image is not here, not ready or broken.""",
    ),
    "leases": (
        "hmret.cli.leases:leases",
        """Tell the leases that were granted.

        Asks the running engine. Exit code 1: none runs.""",
    ),
    "unlease": (
        "hmret.cli.leases:unlease",
        """End a lease.

        Asks the running engine. Exit code 1: none runs, or there is no such lease.""",
    ),
    "events": (
        "hmret.cli.events:events",
        """Tell what the running engine has done lately and, to follow, does.

        Exit code 1: no engine runs.""",
    ),
    "check-config": (
        "hmret.cli.check_config:check_config",
        """Tell every setting and where it came from, and warn of what is probably not meant.""",
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

        bash: put it into /etc/bash_completion.d/hmret. fish: into /etc/fish/completions/hmret.fish.
        zsh: into _cyclopts_hmret, a name that it needs, in a folder of $fpath.""",
    ),
}
_HELP = """Delete images that nothing has used for long, and never what something needs.

Options of a command may also stand before it.

Where an engine runs on the data directory, sweep, plan, forecast, explain, mark-used, confirm, restore and quarantine ask it. Given
--enable, --unused-for or --allow, sweep, plan, forecast and explain work by themselves.

Exit codes: 0 done; 1 something failed or is suspended; 2 bad usage or config; 3 another engine has the data directory.
"""

# Common options, by whether a value follows; the help of all commands does not wait for what they mean.
WITH_VALUE = (
    "--config",
    "--data-dir",
    "--unused-for",
    "--allow",
    "--backend",
    "--log-format",
    "--log-level",
)
WITHOUT_VALUE = ("--enable", "--json")
_ALONE = ("--help", "-h", "--version")


def carry_out(tokens: Sequence[str]) -> int:
    """Carry out one command; returns the exit code."""
    escape_unprintable()
    try:
        return _call(tokens)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (CycloptsError, HmretError, OSError) as error:
        log_failure(wanted_format(tokens), _told(error))
        return _code_of(error)
    except Exception as error:  # noqa: BLE001 - the boundary: what nobody foresaw is told in the format that is asked for
        if isinstance(error, RuntimeError) and is_thread_refusal(error):
            log_failure(wanted_format(tokens), NO_THREAD)
        else:
            log_failure(wanted_format(tokens), f"{type(error).__name__}: {error}", error)
        return _FAILED


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
        if name in _ALONE:
            return [name]
        if name not in WITH_VALUE + WITHOUT_VALUE:
            raise ConfigError(f"unknown option: {tokens[position]}")
        position += 1 if equals or name in WITHOUT_VALUE else 2
    if position >= len(tokens):
        raise ConfigError("expected a command; --help lists them")
    return [tokens[position], *tokens[:position], *tokens[position + 1 :]]


def make_app() -> App:
    """Put the commands together; none is imported."""
    app = App(
        name="hmret",
        help=_HELP,
        help_format="plaintext",
        help_formatter="default" if is_terminal(sys.stdout) else "plain",
        version=_version,
        result_action="return_value",
        verbose=False,
        suppress_keyboard_interrupt=False,
    )
    for name, (target, text) in _COMMANDS.items():
        app.command(target, name=name, help=inspect.cleandoc(text))
    return app


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
