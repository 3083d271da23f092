"""`demo`: the command-line interface of the demonstration."""

from typing import Annotated

from cyclopts import Parameter

from hmret.cli.parsing.options import Place
from hmret.model.errors import ConfigError

_PAGE = "127.0.0.1:9874"


def demo(
    *,
    json: Annotated[bool, Parameter(help="Print one JSON document.", negative=())] = False,
    keep: Annotated[
        Place | None,
        Parameter(
            metavar="FOLDER",
            help="Create the cache in this folder, which must be empty or absent, and keep it.",
        ),
    ] = None,
    serve: Annotated[
        bool, Parameter(help=f"Also serve the web page at http://{_PAGE}/ until interrupted.", negative=())
    ] = False,
    fleet: Annotated[
        bool,
        Parameter(
            help="Show three hosts that keep the last copy of an image; starts etcd, which must be installed.",
            negative=(),
        ),
    ] = False,
) -> int:
    """Show images being pulled, protected and deleted: a small cache in a temporary folder, with time sped up."""
    if fleet:
        if serve or keep is not None:
            raise ConfigError(
                f"--fleet: expected neither --serve nor --keep beside it, got {'--serve' if serve else '--keep'}"
            )
        from hmret.cli.demo.fleet import run_fleet  # noqa: PLC0415 - only needed for this option

        return run_fleet(as_json=json)
    from hmret.cli.demo.running import run  # noqa: PLC0415 - only needed for this command

    return run(as_json=json, keep=None if keep is None else str(keep), serve=_PAGE if serve else None)
