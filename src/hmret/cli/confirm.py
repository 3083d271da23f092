"""`confirm`: what is there now is right."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from hmret.api.documents import confirmed_document
from hmret.api.readings import read_confirmed
from hmret.cli.either import Asked, ask_or_do
from hmret.cli.options import DEFAULTS, Common
from hmret.cli.output import printable, write_json, write_result
from hmret.engine.opening import open_engine
from hmret.engine.surroundings import Surroundings
from hmret.model.config import RetentionConfig
from hmret.model.errors import ConfigError

__all__ = ["confirm"]


def confirm(
    *what: Annotated[str, Parameter(help="Folders as they are told to be lost, or clock.")],
    common: Common = DEFAULTS,
) -> int:
    """Say that what is there now is right."""
    asked = Asked("POST", "/v1/confirm", {"what": list(what)})
    confirmed = ask_or_do(common, asked, read_confirmed, partial(_confirm, what))
    if common.json:
        write_json(confirmed_document(confirmed))
        return 0
    for name in dict.fromkeys((*confirmed, *what)):
        outcome = "confirmed" if name in confirmed else "nothing to confirm"
        write_result(printable(f"{name}: {outcome}"))
    if not (confirmed or what):
        write_result("nothing to confirm")
    return 0


async def _confirm(what: tuple[str, ...], config: RetentionConfig) -> tuple[str, ...]:
    async with open_engine(config, Surroundings(), scheduled=False) as retention:
        try:
            return await retention.confirm(*what)
        except ValueError as error:
            raise ConfigError(f"confirm: {error}") from None
