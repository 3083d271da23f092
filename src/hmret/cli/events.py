"""`events`: what the running engine does."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from hmret.cli.client import need_engine
from hmret.cli.options import DEFAULTS, Common
from hmret.cli.output import printable, say, write_result

__all__ = ["events"]


def events(
    *,
    follow: Annotated[
        bool, Parameter(help="Go on with what happens, until interrupted.", negative=())
    ] = False,
    common: Common = DEFAULTS,
) -> int:
    """Tell what the running engine has done lately, and does."""
    engine = need_engine(common.settings().config)
    for event in engine.events(follow=follow):
        # A document each, on a line each: there is no end to wait for.
        if not write_result(json.dumps(event) if common.json else engine.read(_tell, event)):
            return 0
    if follow:
        say("the engine has stopped")
    return 0


def _tell(event: Mapping[str, Any]) -> str:
    rest = [f"{key}={value}" for key, value in event.items() if key not in ("time", "event")]
    return printable(" ".join([event.get("time", "-"), event["event"], *rest]))
