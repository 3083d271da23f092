"""The command line: `python -m hmret`, also installed as `hmret`."""

import gc
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from hmret.cli.display.output import keep_streams_apart

_NEEDED = ("anycorn", "cyclopts", "httpx2", "prometheus_client", "rich", "starlette", "structlog")


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; `argv` is without the program's name, None: as the process was started."""
    if argv is not None:
        return _carry_out(argv)
    if sys.argv[1:2] == ["--complete-images"]:
        return _complete_images(sys.argv[2:])
    keep_streams_apart()
    # hypeman reads and writes the timers as well, whatever a unit or a shell says. hmret's own folder is closed anyway.
    os.umask(0o022)
    # What is loaded stays: to look through it for garbage takes a fifth of a short command's time. An engine has it again.
    gc.disable()
    try:
        return _carry_out(sys.argv[1:])
    finally:
        gc.freeze()  # nor is it looked through once more when the process ends


def _complete_images(words: Sequence[str]) -> int:
    """Print names of images for a shell: its script calls `hmret --complete-images COMMAND BEGUN WORD...`."""
    from hmret.cli.image_names import print_names  # noqa: PLC0415 - and nothing else, since a shell is waiting

    command, begun, *rest = words
    print_names(command, begun, rest)
    return 0


def _carry_out(argv: Sequence[str]) -> int:
    if any(find_spec(package) is None for package in _NEEDED):
        remedy = "pip install '.[server]' in a checkout of hmret"
        print(f"hmret: error: the command line needs more than is installed: {remedy}", file=sys.stderr)  # noqa: T201 - what it is for
        return 2
    from hmret.cli.parsing.entry import carry_out  # noqa: PLC0415 - it needs what may not be installed

    return carry_out(argv)


if __name__ == "__main__":
    sys.exit(main())
