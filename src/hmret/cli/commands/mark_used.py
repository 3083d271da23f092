"""`mark-used`: records that an image is about to be used."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from hmret.api.wire.structs_outcomes import MarkedUsedDocument
from hmret.cli.display.output import printable
from hmret.cli.engine_or_disk import Asked, ask_or_do
from hmret.cli.engines import opened_engine
from hmret.cli.parsing.fewer_options import WITHOUT_POLICY, WithoutPolicy
from hmret.cli.parsing.options import Named
from hmret.model.errors import ImageNotFoundError, InvalidReferenceError
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import MarkedUsed


def mark_used(
    image: Named,
    /,
    *,
    digest: Annotated[str | None, Parameter(help="The image's digest; overrides the reference.")] = None,
    common: WithoutPolicy = WITHOUT_POLICY,
) -> int:
    """Mark an image used."""
    asked = Asked("POST", "/v1/mark-used", {"image": image, "digest": digest})
    used = ask_or_do(common, asked, MarkedUsedDocument, partial(_mark_used, image, digest))
    outcome = "cleared" if used.cleared else "nothing to clear"
    common.write(used, [printable(f"{used.repository}@{used.digest} {outcome}")])
    return 0


async def _mark_used(image: str, digest: str | None, config: RetentionConfig) -> MarkedUsed:
    async with opened_engine(config) as retention:
        try:
            return await retention.mark_used(image, digest)
        except (ImageNotFoundError, InvalidReferenceError):
            found = None if digest is not None else await retention.search(image)
            if found is None:
                raise
        return await retention.mark_used(found)
