"""`quarantine` and `restore`: deleted images that can be restored."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from hmret.api.wire.convert_outcomes import quarantine_document
from hmret.api.wire.structs_outcomes import QuarantinedDocument, QuarantineDocument, RestoredDocument
from hmret.cli.display.columns import REPOSITORY, Column, format_columns, shorten_list
from hmret.cli.display.listing import TABLE, Shown, named_lines, write_csv
from hmret.cli.display.output import printable, write_json, write_result
from hmret.cli.display.tables import format_minute, format_size, format_when, shorten_digest
from hmret.cli.engine_or_disk import Asked, ask_or_do
from hmret.cli.engines import opened_engine, opened_quarantine
from hmret.cli.parsing.fewer_options import WITHOUT_POLICY, WithoutPolicy
from hmret.model.errors import ImageNotFoundError, InvalidReferenceError
from hmret.model.policy.config import RetentionConfig
from hmret.model.report import Restored
from hmret.model.times import parse_time

_Deleted = Annotated[
    str,
    Parameter(
        name="IMAGE",
        help="A reference by tag or digest (alpine:3.20) to a deleted image, or 12 or more digits of its digest.",
    ),
]
"""The image to restore; no VM leads to it, since none ran from it when it was deleted."""

_COLUMNS = (
    REPOSITORY,
    Column(title="digest", worth=8),
    Column(title="tags", worth=5, least=8, shorten=shorten_list),
    Column(title="on disk", worth=6, is_right=True),
    Column(title="deleted", worth=4),
    Column(title="until", worth=7),
)


def restore(
    image: _Deleted,
    /,
    *,
    digest: Annotated[str | None, Parameter(help="The image's digest; overrides the reference.")] = None,
    common: WithoutPolicy = WITHOUT_POLICY,
) -> int:
    """Restore a deleted image from quarantine."""
    asked = Asked("POST", "/v1/restore", {"image": image, "digest": digest})
    restored = ask_or_do(common, asked, RestoredDocument, partial(_restore, image, digest))
    common.write(restored, [printable(_tell(restored))])
    return 0


def quarantine(*, shown: Shown = TABLE, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """List the deleted images that can be restored."""
    document = ask_or_do(common, Asked("GET", "/v1/quarantine"), QuarantineDocument, _look)
    images = document.images
    match output := shown.as_output(as_json=common.json):
        case "json":
            write_json(document)
        case "csv":
            write_result(write_csv(QuarantinedDocument, images))
        case "name":
            write_result(named_lines(images))
        case "table" | "wide" if not images:
            write_result("nothing is in quarantine")
        case "table" | "wide":
            is_wide = output == "wide"
            rows = [_row(image, is_wide=is_wide) for image in images]
            write_result(format_columns(_COLUMNS, rows, whole=is_wide))
    return 0


async def _restore(image: str, digest: str | None, config: RetentionConfig) -> Restored:
    async with opened_engine(config) as retention:
        try:
            return await retention.restore(image, digest)
        except (ImageNotFoundError, InvalidReferenceError):
            found = None if digest is not None else retention.search_quarantine(image)
            if found is None:
                raise
        return await retention.restore(found)


async def _look(config: RetentionConfig) -> QuarantineDocument:
    async with opened_quarantine(config) as held:
        await held.look()
        return quarantine_document(held.images(), config.data_dir)


def _tell(restored: RestoredDocument) -> str:
    tags = f" ({', '.join(restored.tags)})" if restored.tags else ""
    taken = (
        f", without {', '.join(restored.taken_tags)}, now used for another image"
        if restored.taken_tags
        else ""
    )
    return f"{restored.repository}@{restored.digest}{tags} restored{taken}"


def _row(image: QuarantinedDocument, *, is_wide: bool) -> list[str]:
    put_time = format_when if is_wide else format_minute
    return [
        image.repository,
        image.digest if is_wide else shorten_digest(image.digest),
        ",".join(image.tags) or "-",
        format_size(image.disk_bytes),
        put_time(parse_time(image.retired_at)),
        put_time(parse_time(image.until)),
    ]
