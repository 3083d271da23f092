"""`unit`: the systemd unit for this installation."""

import os
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hmret.cli.display.output import write_result
from hmret.cli.parsing.options import Place
from hmret.settings.load import load_settings

__all__ = ["unit", "unit_text"]

_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - only compared as names, nothing is written there
# Characters with a special meaning in a word of a unit file.
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$", "\n": "\\n"})


def unit(
    *,
    data_dir: Annotated[Place | None, Parameter(metavar="FOLDER", help="hypeman's data directory.")] = None,
) -> int:
    """Print the systemd unit that runs this very installation.

    Without --data-dir it is for the data directory that the settings name.
    """
    if data_dir is None:
        config = load_settings(config_file=None, environment=os.environ, flags={}).config
        data_dir = config.data_dir
    write_result(unit_text(_program(), os.path.abspath(data_dir)))  # noqa: PTH100 - keeps symlinks
    return 0


def unit_text(program: str, data_dir: str) -> str:
    """Return the unit file that runs a program (a path or a command line) on a data directory."""
    template = resources.files("hmret.cli").joinpath("hmret.service.in").read_text(encoding="utf-8")
    default = load_settings(config_file=None, environment={}, flags={}, default_files=(), own_file=None)
    is_default = data_dir == default.config.data_dir
    values = {
        "PROGRAM": program,
        "DATA_DIR": _word(data_dir),
        "ENVIRONMENT": "" if is_default else f"Environment={_word(f'DATA_DIR={data_dir}')}\n",
        "PROTECT_HOME": "no" if _is_below(data_dir, _HOMES) else "yes",
        "PRIVATE_TMP": "no" if _is_below(data_dir, _TEMPORARY) else "yes",
    }
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    # systemd does not accept a quoted path after the dash that makes it optional.
    return template.replace('=-"', '="-')


def _program() -> str:
    """Return how systemd starts this program: the script next to the interpreter, else the interpreter."""
    script = Path(sys.executable).with_name("hmret")
    words = _word(str(script)) if script.exists() else f"{_word(sys.executable)} -m hmret"
    return words.replace("$", "$$")


def _word(text: str) -> str:
    """Quote a text as one word of a unit file."""
    escaped = text.translate(_ESCAPES)
    return escaped if text.isascii() and not set(text) & set(" \t\n\"'\\;") else f'"{escaped}"'


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
