"""`demo`: the command-line interface of the demonstration."""

from typing import Annotated

from cyclopts import Parameter

from hmret.cli.parsing.options import Place

__all__ = ["demo"]

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
) -> int:
    """Show images being pulled, protected and deleted: a small cache in a temporary folder, with time sped up."""
    from hmret.cli.demo.running import run  # noqa: PLC0415 - only needed for this command

    return run(as_json=json, keep=None if keep is None else str(keep), serve=_PAGE if serve else None)
