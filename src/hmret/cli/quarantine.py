"""`quarantine` and `restore`: deleted images that can be brought back."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from hmret.api.documents import quarantine_document, restored_document
from hmret.api.readings import read_quarantine, read_restored
from hmret.cli.either import Asked, ask_or_do
from hmret.cli.options import DEFAULTS, Common, Named
from hmret.cli.output import printable, write_json, write_result
from hmret.cli.tables import format_size, format_table, format_when, shorten_digest
from hmret.engine.opening import open_engine, open_inspection
from hmret.engine.surroundings import Surroundings
from hmret.model.config import RetentionConfig
from hmret.model.report import Quarantined, Restored
from hmret.model.times import nanoseconds_of

__all__ = ["quarantine", "restore"]

_TITLES = ("repository", "digest", "tags", "on disk", "deleted", "until")
_ON_DISK = 3


def restore(
    image: Named,
    /,
    *,
    digest: Annotated[str | None, Parameter(help="Counts instead of what the reference says.")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Bring a deleted image back from quarantine."""
    asked = Asked("POST", "/v1/restore", {"image": image, "digest": digest})
    restored = ask_or_do(common, asked, read_restored, partial(_restore, image, digest))
    if common.json:
        write_json(restored_document(restored))
    else:
        write_result(printable(_tell(restored)))
    return 0


def quarantine(*, common: Common = DEFAULTS) -> int:
    """Tell the deleted images that can be brought back."""
    images: Sequence[Quarantined] = ask_or_do(common, Asked("GET", "/v1/quarantine"), read_quarantine, _look)
    if common.json:
        write_json(quarantine_document(images))
    elif images:
        write_result(format_table(map(_row, images), titles=_TITLES, right=[_ON_DISK]))
    else:
        write_result("nothing is in quarantine")
    return 0


async def _restore(image: str, digest: str | None, config: RetentionConfig) -> Restored:
    async with open_engine(config, Surroundings(), scheduled=False) as retention:
        return await retention.restore(image, digest)


async def _look(config: RetentionConfig) -> tuple[Quarantined, ...]:
    async with open_inspection(config, Surroundings()) as inspection:
        held = inspection.sweeping.deleting.quarantine
        await held.look()
        return held.images()


def _tell(restored: Restored) -> str:
    tags = f" ({', '.join(restored.tags)})" if restored.tags else ""
    taken = f", without {', '.join(restored.taken_tags)}, taken meanwhile" if restored.taken_tags else ""
    return f"{restored.repository}@{restored.digest}{tags} restored{taken}"


def _row(image: Quarantined) -> list[str]:
    return [
        image.repository,
        shorten_digest(image.digest),
        ", ".join(image.tags) or "-",
        format_size(image.disk_bytes),
        format_when(nanoseconds_of(image.retired_at)),
        format_when(nanoseconds_of(image.until)),
    ]
