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
            metavar="FOLDER", help="Make the cache in this folder, empty or not there yet, and leave it."
        ),
    ] = None,
    serve: Annotated[
        bool, Parameter(help=f"Show it all at http://{_PAGE}/ too, until it is interrupted.", negative=())
    ] = False,
) -> int:
    """Show images come, go and be protected: a small cache in a temporary folder, with time sped up."""
    from hmret.cli.demo.running import run  # noqa: PLC0415 - only needed for this command

    return run(as_json=json, keep=None if keep is None else str(keep), serve=_PAGE if serve else None)
