"""`mark-used`: an image is about to be used."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from hmret.api.documents import mark_used_document
from hmret.api.readings import read_mark_used
from hmret.cli.backend import run_on, until_interrupted
from hmret.cli.client import find_engine, say_who_answers
from hmret.cli.options import DEFAULTS, Common, Named
from hmret.cli.output import printable, write_json, write_result
from hmret.engine.opening import open_engine
from hmret.engine.surroundings import Surroundings
from hmret.model.config import RetentionConfig
from hmret.model.report import MarkedUsed

__all__ = ["mark_used"]


def mark_used(
    image: Named,
    /,
    *,
    digest: Annotated[str | None, Parameter(help="Counts instead of what the reference says.")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Say that an image is about to be used."""
    config = common.settings().config
    engine = find_engine(config)
    if engine is not None:
        say_who_answers(engine)
        answer = engine.ask("POST", "/v1/mark-used", body={"image": image, "digest": digest})
        used = engine.read(read_mark_used, answer)
    else:
        with common.logging():
            work = partial(until_interrupted, partial(_mark_used, config, image, digest))
            used = run_on(common.backend, config.data_dir, work)
    if common.json:
        write_json(mark_used_document(used))
    else:
        outcome = "cleared" if used.cleared else "nothing to clear"
        write_result(printable(f"{used.repository}@{used.digest} {outcome}"))
    return 0


async def _mark_used(config: RetentionConfig, image: str, digest: str | None) -> MarkedUsed:
    async with open_engine(config, Surroundings(), scheduled=False) as retention:
        return await retention.mark_used(image, digest)
