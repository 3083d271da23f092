"""`events`: the events of the running engine."""

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from hmret.cli.client import need_engine
from hmret.cli.display.columns import output_width, shorten_end
from hmret.cli.display.output import is_terminal, printable, say, write_result
from hmret.cli.display.tables import shorten_digest
from hmret.cli.display.words import name_source
from hmret.cli.engines import collect_from_now_on
from hmret.cli.parsing.fewer_options import ASKING, Asking

_SECOND = len("2026-12-24T00:00:00")
_FIRST = ("time", "event", "image", "vm_names")
_LONG_EVENT = 14
"""Characters; most event names are shorter, so that what follows is aligned."""


def events(
    *,
    follow: Annotated[
        bool,
        Parameter(name=("--follow", "-f"), help="Keep showing new events until interrupted.", negative=()),
    ] = False,
    output: Annotated[
        Literal["table", "wide", "json"],
        Parameter(name=("--output", "-o"), help="One line per event, one with all details, or JSON."),
    ] = "table",
    common: Asking = ASKING,
) -> int:
    """Show the running engine's recent events and, if asked, new ones."""
    engine = need_engine(common)
    collect_from_now_on()
    for event in engine.events(follow=follow):
        # One document a line: the stream has no end to wait for.
        if common.json or output == "json":
            line = json.dumps(event)
        else:
            line = engine.read(_tell_all if output == "wide" else _tell, event)
        if not write_result(line):
            return 0
    if follow:
        say("the engine has stopped")
    return 0


def _tell_all(event: Mapping[str, Any]) -> str:
    rest = [f"{key}={value}" for key, value in event.items() if key not in ("time", "event")]
    return printable(" ".join([event.get("time", "-"), event["event"], *rest]))


def _tell(event: Mapping[str, Any]) -> str:
    """Format an event for a terminal line: its first facts in full, others as far as they fit."""
    time, image = event.get("time", ""), event.get("image", "")
    repository, at, digest = image.partition("@")
    if at:
        image = f"{repository}@{shorten_digest(digest)}"
    head = [f"{time[:_SECOND]}Z" if time else "-", event["event"].ljust(_LONG_EVENT), image]
    names = event.get("vm_names", {})
    facts = [
        f"{key}={_put(value, names)}"
        for key, value in event.items()
        if key not in _FIRST and value not in ("", [])
    ]
    line = printable(" ".join(filter(None, (*head, *facts))))
    return shorten_end(line, output_width()) if is_terminal(sys.stdout) else line


def _put(value: object, names: Mapping[str, str]) -> str:
    if isinstance(value, list):
        return ",".join(name_source(str(one), names) for one in value)
    return str(value)
