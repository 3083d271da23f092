"""`lease`, `leases` and `unlease`: images that are kept for a while, by the running engine."""

from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from hmret.cli.client import need_engine
from hmret.cli.options import DEFAULTS, Common, Named
from hmret.cli.output import printable, write_json, write_result
from hmret.cli.tables import format_table
from hmret.model.durations import parse_duration
from hmret.model.errors import ConfigError

__all__ = ["lease", "leases", "unlease"]

Id = Annotated[str, Parameter(name="ID", help="Of a lease, as lease and leases tell it.")]


def lease(
    image: Named,
    /,
    *,
    ttl: Annotated[str, Parameter(help="How long it lasts from now, as a Go duration: 10m.")] = "1h",
    owner: Annotated[str, Parameter(help="Who wants it.")] = "command line",
    reason: Annotated[str, Parameter(help="What for.")] = "",
    digest: Annotated[str | None, Parameter(help="Counts instead of what the reference says.")] = None,
    common: Common = DEFAULTS,
) -> int:
    """Keep an image from deletion for a while."""
    _check_ttl(ttl)
    body = {"image": image, "digest": digest, "ttl": ttl, "owner": owner, "reason": reason}
    engine = need_engine(common.settings().config)
    document = engine.ask("POST", "/v1/leases", body=body)
    if common.json:
        write_json(document)
    else:
        write_result(printable(engine.read(_tell, document)))
    return 0


def leases(*, common: Common = DEFAULTS) -> int:
    """Tell the leases that were granted."""
    engine = need_engine(common.settings().config)
    document = engine.ask("GET", "/v1/leases")
    if common.json:
        write_json(document)
        return 0
    rows = engine.read(_rows, document)
    if rows:
        write_result(format_table(rows, titles=("id", "repository", "digest", "owner", "reason", "expires")))
    else:
        write_result("no leases")
    return 0


def unlease(lease_id: Id, /, *, common: Common = DEFAULTS) -> int:
    """End a lease."""
    need_engine(common.settings().config).ask("DELETE", f"/v1/leases/{quote(lease_id, safe='')}")
    if common.json:
        write_json({"id": lease_id})
    return 0


def _check_ttl(ttl: str) -> None:
    try:
        nanoseconds = parse_duration(ttl)
    except ValueError as error:
        raise ConfigError(f"--ttl: {error}") from None
    if nanoseconds <= 0:
        raise ConfigError(f"--ttl: expected a duration of more than zero, got {ttl!r}")


def _tell(document: Any) -> str:
    return "{id} {repository}@{digest} until {expires_at}".format_map(document)


def _rows(document: Any) -> list[list[str]]:
    names = ("id", "repository", "digest", "owner", "reason", "expires_at")
    return [[one[name] or "-" for name in names] for one in document["leases"]]
