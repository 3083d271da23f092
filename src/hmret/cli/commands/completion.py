"""`completion`: scripts for shell completion of commands and options."""

from typing import Annotated, Literal

from cyclopts import Parameter

from hmret.cli.display.output import write_result
from hmret.cli.parsing.app import make_app

__all__ = ["Shell", "completion"]

Shell = Literal["bash", "zsh", "fish"]
"""A shell that can be given completion."""

# The bash script offers paths as plain words; with `-o filenames`, folders get a slash and no space.
_PATHS = "COMPREPLY=( $(compgen -f "
_PATHS_AS_SUCH = f"compopt -o filenames; {_PATHS}"


def completion(
    shell: Annotated[Shell, Parameter(name="SHELL", help="The shell that is to complete.")], /
) -> int:
    """Print the script that lets a shell complete commands, options and their values."""
    script = make_app().generate_completion(shell=shell)
    write_result(script.replace(_PATHS, _PATHS_AS_SUCH))
    return 0
