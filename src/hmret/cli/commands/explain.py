"""`explain`: why an image is deleted or kept."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from urllib.parse import quote

from hmret.api.wire.convert import explain_document, explained_detail, read_explained
from hmret.cli.display.output import printable
from hmret.cli.display.reasons import describe_reason
from hmret.cli.display.tables import format_size, format_table, format_when, put_suspension
from hmret.cli.display.words import ENABLE, STOP, action_of
from hmret.cli.engine_or_disk import answering_engine, do_here
from hmret.cli.engines import opened_inspection
from hmret.cli.parsing.options import DEFAULTS, Common, Named
from hmret.engine.inspection import folders_of, names_of
from hmret.model.images import Suspension
from hmret.model.policy.config import RetentionConfig
from hmret.model.verdicts import Reason, Verdict

_UNTIL = {
    Reason.NEWLY_UNUSED: "the next sweep will start its timer; it will be deleted a full window after that",
    Reason.DEFERRED: "one of the next sweeps will delete it",
    Reason.OUTSIDE_WINDOW: "the first sweep within these hours will delete it",
    Reason.FLEET_BRAKE: "a sweep will delete it once this host has a deletion token",
}
"""What happens to an image that only this keeps."""


def explain(image: Named, /, *, common: Common = DEFAULTS) -> int:
    """Explain why an image is kept or deleted."""
    config = common.settings().config
    engine = None if common.names_policy else answering_engine(common, config)
    if engine is not None:
        document: object = engine.ask("GET", f"/v1/images/{quote(image, safe='')}")
        verdict, suspended, names = engine.read(read_explained, document)
        enabled = engine.read(itemgetter("enabled"), engine.ask("GET", "/v1/status"))
    else:
        verdict, causes, names, paths = do_here(common, config, partial(_explain, config, image))
        document = explain_document(verdict, causes, names, paths=paths)
        suspended, enabled = list(map(put_suspension, causes)), config.active
    common.write(document, _tell(verdict, suspended, config, names, enabled=enabled))
    return 0


async def _explain(
    config: RetentionConfig, image: str
) -> tuple[Verdict, Sequence[Suspension], Mapping[str, str], Sequence[str]]:
    async with opened_inspection(config) as inspection:
        verdict, made = await inspection.find(image)
        return verdict, made.suspended, names_of(verdict, made), folders_of(verdict, made, config.data_dir)


def _tell(
    verdict: Verdict,
    suspended: Sequence[str],
    config: RetentionConfig,
    names: Mapping[str, str],
    *,
    enabled: bool,
) -> Iterator[str]:
    yield printable(f"{verdict.repository}@{verdict.digest}")
    stops = action_of(verdict) == STOP
    facts = [
        ["tags", ", ".join(verdict.tags) or "-"],
        ["status", verdict.status],
        ["size", format_size(verdict.size_bytes)],
        ["on disk", format_size(verdict.disk_bytes)],
        ["unused since", format_when(verdict.unused_since_ns)],
        ["expires", "-" if stops else format_when(verdict.expires_at_ns)],
        ["verdict", f"{action_of(verdict)}, {verdict.reason.value}"],
    ]
    facts += (row for row in _tell_more(verdict) if row[1])
    yield format_table(facts)
    for blocker in verdict.blockers:
        for words in describe_reason(blocker, verdict, suspended, config, names):
            yield f"- {printable(words)}"
    if stops:
        yield "the next sweep stops its timer"
    yield _foretell(verdict)
    if not enabled:
        yield f"disabled: nothing is swept; {ENABLE}"


def _tell_more(verdict: Verdict) -> Iterator[list[str]]:
    yield ["shared with", ", ".join(verdict.shared_with)]
    holders = (f"{one.repository} ({one.reason.value})" for one in verdict.held_by)
    yield ["held by", ", ".join(holders)]
    elsewhere = verdict.copies_elsewhere
    yield ["copies elsewhere", "" if elsewhere is None else str(elsewhere)]
    yield ["detail", explained_detail(verdict) or ""]


def _foretell(verdict: Verdict) -> str:
    match verdict.blockers:
        case ():
            return "the next sweep will delete it"
        case (Reason.RETENTION_WINDOW,):
            return f"the first sweep after {format_when(verdict.expires_at_ns)} will delete it"
        case (only,) if only in _UNTIL:
            return _UNTIL[only]
    return "it is kept as long as any of this applies"
