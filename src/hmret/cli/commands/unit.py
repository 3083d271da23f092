"""`unit`: the systemd unit for this installation."""

import os
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hmret.cli.display.output import write_result
from hmret.cli.parsing.options import Place
from hmret.settings.load import load_settings

_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - only compared as names, nothing is written there
_COMMAND = "/usr/bin/hmret"
_CACHE = """\
# This file unpacks itself there, once.
CacheDirectory=hmret
Environment=PEX_ROOT=/var/cache/hmret
"""
# Characters with a special meaning in a word of a unit file. A dollar has none in the path of a program, nor
# in a variable.
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n"})


def unit(
    *,
    data_dir: Annotated[Place | None, Parameter(metavar="FOLDER", help="hypeman's data directory.")] = None,
) -> int:
    """Print the systemd unit that runs this installation.

    Without --data-dir it is for the data directory in the settings.
    """
    if data_dir is None:
        config = load_settings(config_file=None, environment=os.environ, flags={}).config
        data_dir = config.data_dir
    one_file = _one_file()
    program = [one_file] if one_file is not None else _installed_program()
    write_result(unit_text(program, os.path.abspath(data_dir), is_one_file=one_file is not None))  # noqa: PTH100 - keeps symlinks
    return 0


def unit_text(program: Sequence[str], data_dir: str, *, is_one_file: bool = False) -> str:
    """Return the unit file that runs a program on a data directory.

    Args:
        program: the words of its command line; the first is an absolute path.
        data_dir: an absolute path.
        is_one_file: whether the program unpacks itself: it then gets a cache of its own to do so.
    """
    template = resources.files("hmret.cli").joinpath("hmret.service.in").read_text(encoding="utf-8")
    default = load_settings(config_file=None, environment={}, flags={}, default_files=(), own_file=None)
    is_default = data_dir == default.config.data_dir
    needed = (data_dir, *program)
    values = {
        "PROGRAM": " ".join(map(_word, program)),
        "DATA_DIR": _word(data_dir),
        "ENVIRONMENT": "" if is_default else f"Environment={_word(f'DATA_DIR={data_dir}')}\n",
        "CACHE": _CACHE if is_one_file else "",
        "PROTECT_HOME": "no" if any(_is_below(path, _HOMES) for path in needed) else "yes",
        "PRIVATE_TMP": "no" if any(_is_below(path, _TEMPORARY) for path in needed) else "yes",
    }
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    # systemd does not accept a quoted path after the dash that makes it optional.
    return template.replace('=-"', '="-')


def _one_file() -> str | None:
    """Return the path of the single file from which this program was unpacked; None: it was installed otherwise."""
    # The variable alone may be that of another program, which has called this one.
    path = os.environ.get("PEX", "")
    return os.path.abspath(path) if path and Path(sys.prefix, "PEX-INFO").exists() else None  # noqa: PTH100 - keeps symlinks


def _installed_program() -> list[str]:
    """Return how systemd starts this program: the command, the script next to the interpreter, else the interpreter."""
    script = Path(sys.executable).with_name("hmret")
    # A package's command leads to the script of its environment.
    if script.exists() and os.path.realpath(_COMMAND) == os.path.realpath(script):
        return [_COMMAND]
    return [str(script)] if script.exists() else [sys.executable, "-m", "hmret"]


def _word(text: str) -> str:
    """Quote a text as one word of a unit file."""
    escaped = text.translate(_ESCAPES)
    return escaped if text.isascii() and not set(text) & set(" \t\n\"'\\;") else f'"{escaped}"'


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
