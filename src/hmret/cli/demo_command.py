"""`demo`: how the command line calls the demonstration."""

from typing import Annotated

from cyclopts import Parameter

from hmret.cli.demo import main

__all__ = ["demo"]


def demo(*, json: Annotated[bool, Parameter(help="Print one JSON document.", negative=())] = False) -> int:
    """Show images come, go and be protected: a small cache in a temporary folder, with time sped up."""
    return main(as_json=json)
