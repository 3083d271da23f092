"""Runs one command, from its arguments to its exit code.

0: done, even if nothing was to be done. 1: something failed or is suspended. 2: bad usage or config. 3:
another engine holds the data directory. 4: `plan --detailed-exitcode` found something to delete. 130, 143:
interrupted by SIGINT, SIGTERM. Errors are reported in one line.
"""

import re
import sys
from collections.abc import Sequence

from hmret.cli.display.output import complain, escape_unprintable, is_terminal, say, write_result
from hmret.cli.interrupted import Interrupted
from hmret.cli.parsing.command_table import GROUPS, HELP_FLAGS, VERSION_FLAGS, WITH_VALUE, WITHOUT_VALUE
from hmret.cli.parsing.suggestions import suggest
from hmret.cli.parsing.whole_help import pipe_width, whole_help
from hmret.model.errors import ConfigError, DataDirLockedError, HmretError, InvalidReferenceError
from hmret.model.unavailable import NO_THREAD, is_thread_refusal

_FAILED = 1
_USAGE = 2
_LOCKED = 3
_INTERRUPTED = 130  # as in shells: 128 + SIGINT

_KEY = r"(?:^|[ :])((?:images\.auto_delete|registry|build|hmret)(?:\.\w+)*|data_dir|HMRET__\w+|IMAGES__\w+|--[a-z][a-z-]*)(?=[:,. ]|$)"
"""Matches a key or an option in an error message."""


def carry_out(tokens: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    escape_unprintable()
    try:
        return _call(tokens)
    except Interrupted as interrupted:
        if interrupted.done:
            _tell_done(tokens, f"interrupted: {interrupted.done}")
        return interrupted.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (HmretError, OSError) as error:
        message, code = _message_of(error), _code_of(error)
        _fail(tokens, message, key=_key_in(message) if code == _USAGE else None)
        return code
    except Exception as error:  # noqa: BLE001 - the boundary: unexpected errors are reported in the requested format
        if isinstance(error, RuntimeError) and is_thread_refusal(error):
            _fail(tokens, NO_THREAD)
        else:
            _fail(tokens, f"{type(error).__name__}: {error}", error=error)
        return _FAILED


def _fail(
    tokens: Sequence[str], message: str, *, key: str | None = None, error: Exception | None = None
) -> None:
    """Report why a command ends; as JSON if requested, with the key or option at fault."""
    from hmret.cli.display.logs import log_failure, wanted_format  # noqa: PLC0415 - only needed for errors

    if _wants_json(tokens):
        complain(message, as_json=True, key=key)
    else:
        log_failure(wanted_format(tokens), message, error)


def _tell_done(tokens: Sequence[str], message: str) -> None:
    """Tell what a command had done when it was interrupted; as JSON if requested."""
    if _wants_json(tokens):
        complain(message, as_json=True)
    else:
        say(message)


def _wants_json(tokens: Sequence[str]) -> bool:
    """Return whether JSON was requested, as far as that is clear from arguments that may be invalid."""
    joined = " ".join(tokens)
    return "--json" in tokens or any(
        way in f"{joined} " for way in ("-o json ", "--output json ", "--output=json ", "-o=json ")
    )


def _call(tokens: Sequence[str]) -> int:
    _refuse_no_text(tokens)
    words = _command_first(tokens)
    if words[0] in HELP_FLAGS and not is_terminal(sys.stdout):
        write_result(whole_help(pipe_width()))
        return 0
    from hmret.cli.parsing.app import call  # noqa: PLC0415 - not needed for help in a pipe

    return call(words)


def _refuse_no_text(tokens: Sequence[str]) -> None:
    """Reject arguments that are not UTF-8: nothing has such a name, and no output could show it.

    The path of a config file may be any bytes.

    Raises:
        ConfigError: an argument is not UTF-8.
    """
    for before, token in zip(("", *tokens), tokens, strict=False):
        is_path = before == "--config" or token.startswith("--config=")
        if not is_path and any("\ud800" <= char <= "\udfff" for char in token):
            name = f"{before}: " if before.startswith("-") else ""
            raise ConfigError(f"{name}expected UTF-8, got {token!r}")


def _command_first(tokens: Sequence[str]) -> list[str]:
    """Move common options that precede the command, or precede its group, behind it.

    Raises:
        ConfigError: something else precedes it, or there is no command.
    """
    options, words = _split_options(tokens)
    if options and options[-1] in HELP_FLAGS + VERSION_FLAGS:
        return options[-1:]
    if not tokens:
        return ["--help"]
    if not words:
        raise ConfigError("expected a command; --help lists them")
    match words:
        case ["help", *names]:
            known = names[: 2 if names[0] in GROUPS else 1] if names else []
            return [*(name for name in known if not name.startswith("-")), "--help"]
        case ["version"]:
            return ["--version"]
    name, *rest = words
    if name not in GROUPS:
        return [name, *options, *rest]
    more, rest = _split_options(rest)
    # Of the group itself there is nothing but help.
    return [name, *rest[:1], *options, *more, *rest[1:]] if rest else [name, *more]


def _split_options(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off the common options in front; a flag for help or the version is the last of them.

    Raises:
        ConfigError: another option is in front.
    """
    position = 0
    while position < len(tokens) and tokens[position].startswith("-"):
        name, equals, _ = tokens[position].partition("=")
        if name in HELP_FLAGS + VERSION_FLAGS:
            return [*tokens[:position], name], []
        if name not in WITH_VALUE + WITHOUT_VALUE:
            known = WITH_VALUE + WITHOUT_VALUE + HELP_FLAGS + VERSION_FLAGS
            raise ConfigError(f"unknown option: {tokens[position]}{suggest(name, known)}")
        position += 1 if equals or name in WITHOUT_VALUE else 2
    return [*tokens[:position]], [*tokens[position:]]


def _message_of(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _key_in(message: str) -> str | None:
    """Return the setting or option that an error message names; None: it names none."""
    match = None if message.startswith("unknown command") else re.search(_KEY, message)
    return None if match is None else match[1]


def _code_of(error: Exception) -> int:
    match error:
        case ConfigError() | InvalidReferenceError():
            return _USAGE
        case DataDirLockedError():
            return _LOCKED
    return _FAILED
