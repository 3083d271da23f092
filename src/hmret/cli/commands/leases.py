"""`lease`, `leases` and `unlease`: images that the running engine protects for a while."""

from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from hmret.api.wire.structs_outcomes import LeaseDocument, LeasesDocument
from hmret.cli.client import need_engine
from hmret.cli.display.columns import Column, format_columns, last_part, shorten_repository
from hmret.cli.display.listing import TABLE, Shown, named_lines, write_csv
from hmret.cli.display.output import printable, write_json, write_result
from hmret.cli.display.tables import cut_to_minute, shorten_digest
from hmret.cli.parsing.fewer_options import ASKING, Asking
from hmret.cli.parsing.options import Named, read_span

Id = Annotated[str, Parameter(name="ID", help="The id of a lease, as shown by lease and leases.")]


def lease(
    image: Named,
    /,
    *,
    ttl: Annotated[str, Parameter(help="How long the lease lasts, such as 10m or 7d.")] = "1h",
    owner: Annotated[str, Parameter(help="Who holds the lease.")] = "command line",
    reason: Annotated[str, Parameter(help="What the lease is for.")] = "",
    digest: Annotated[str | None, Parameter(help="The image's digest; overrides the reference.")] = None,
    common: Asking = ASKING,
) -> int:
    """Protect an image from deletion for a while."""
    read_span("--ttl", ttl)
    body = {"image": image, "digest": digest, "ttl": ttl, "owner": owner, "reason": reason}
    engine = need_engine(common)
    document = engine.ask("POST", "/v1/leases", body=body)
    if common.json:
        write_json(document)
    else:
        granted = engine.read_as(LeaseDocument, document)
        line = f"{granted.id} {granted.repository}@{granted.digest} until {granted.expires_at}"
        write_result(printable(line))
    return 0


def leases(*, shown: Shown = TABLE, common: Asking = ASKING) -> int:
    """List the leases in force."""
    engine = need_engine(common)
    document = engine.ask("GET", "/v1/leases")
    match output := shown.as_output(as_json=common.json):
        case "json":
            write_json(document)
        case "csv":
            write_result(write_csv(LeaseDocument, engine.read_as(LeasesDocument, document).leases))
        case "name":
            write_result(named_lines(engine.read_as(LeasesDocument, document).leases))
        case "table" | "wide":
            is_wide = output == "wide"
            rows = [_row(one, is_wide=is_wide) for one in engine.read_as(LeasesDocument, document).leases]
            write_result(format_columns(_COLUMNS, rows, whole=is_wide) if rows else "no leases")
    return 0


def unlease(lease_id: Id, /, *, common: Asking = ASKING) -> int:
    """End a lease."""
    need_engine(common).ask("DELETE", f"/v1/leases/{quote(lease_id, safe='')}")
    if common.json:
        write_json({"id": lease_id})
    return 0


_COLUMNS = (
    Column(title="id", worth=9),
    Column(title="repository", worth=8, least=16, least_of=last_part, shorten=shorten_repository),
    Column(title="digest", worth=6),
    Column(title="owner", worth=7, least=8),
    Column(title="reason", worth=4, least=8),
    Column(title="expires", worth=5),
)


def _row(lease: LeaseDocument, *, is_wide: bool) -> list[str]:
    return [
        lease.id,
        lease.repository,
        lease.digest if is_wide else shorten_digest(lease.digest),
        lease.owner or "-",
        lease.reason or "-",
        (lease.expires_at or "-") if is_wide else cut_to_minute(lease.expires_at),
    ]
