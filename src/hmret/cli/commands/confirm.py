"""`confirm`: accepts the present state as correct."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from hmret.api.wire.structs_outcomes import ConfirmedDocument
from hmret.cli.display.output import printable
from hmret.cli.engine_or_disk import Asked, ask_or_do
from hmret.cli.engines import opened_engine
from hmret.cli.parsing.fewer_options import WITHOUT_POLICY, WithoutPolicy
from hmret.model.errors import ConfigError
from hmret.model.policy.config import RetentionConfig


def confirm(
    *what: Annotated[str, Parameter(help="Folders that are reported as lost, or clock.")],
    common: WithoutPolicy = WITHOUT_POLICY,
) -> int:
    """Confirm that the present state is correct."""
    asked = Asked("POST", "/v1/confirm", {"what": list(what)})
    document = ask_or_do(common, asked, ConfirmedDocument, partial(_confirm, what))
    common.write(document, _tell(document.confirmed, what))
    return 0


def _tell(confirmed: tuple[str, ...], what: tuple[str, ...]) -> Iterator[str]:
    yield from (printable(f"{name}: confirmed") for name in confirmed)
    if not (confirmed or what):
        yield "nothing to confirm"
    for name in what:
        # A folder may have been given by its full path.
        if not any(f"/{name.rstrip('/')}".endswith(f"/{folder}") for folder in confirmed):
            yield printable(f"{name}: nothing to confirm")
    if confirmed:
        # Until then, status shows what suspended the last one.
        yield "deletion resumes with the next sweep, unless something else suspends it"


async def _confirm(what: tuple[str, ...], config: RetentionConfig) -> ConfirmedDocument:
    async with opened_engine(config) as retention:
        try:
            return ConfirmedDocument(await retention.confirm(*what))
        except ValueError as error:
            raise ConfigError(f"confirm: {error}") from None
