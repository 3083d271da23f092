"""`fleet status`, `holdings`, `plan`: what there is in a fleet, and what would go."""

import platform
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from hmret.api.wire import structs_fleet as structs
from hmret.cli.commands.fleet.display import tell_holdings, tell_plan, tell_status
from hmret.cli.commands.fleet.on_etcd import ask_fleet, own_holder
from hmret.cli.engine_or_disk import Asked
from hmret.cli.engines import opened_inspection
from hmret.cli.parsing.fewer_options import WITHOUT_POLICY, WithoutPolicy
from hmret.model.errors import FleetError, ImageNotFoundError
from hmret.model.fleet import FleetState
from hmret.model.policy.config import RetentionConfig
from hmret.model.references import digest_in

if TYPE_CHECKING:
    from hmret.fleet.operating import FleetOperator

_Image = Annotated[
    str,
    Parameter(
        name="IMAGE",
        help="A reference by tag (alpine:3.20) if the image is in this cache, or by digest; or a digest alone.",
    ),
]


def status(*, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Show the hosts of the fleet."""
    document = ask_fleet(common, Asked("GET", "/v1/fleet"), structs.FleetDocument, _read_status)
    common.write(document, tell_status(document))
    return 0 if document.state is FleetState.JOINED else 1


def holdings(image: _Image, /, *, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Show which hosts hold a copy of an image."""

    async def on_etcd(operator: "FleetOperator", config: RetentionConfig) -> structs.FleetHoldingsDocument:
        from hmret.api.wire.convert_fleet import holdings_document  # noqa: PLC0415 - only if no engine runs

        digest = digest_in(image) or await _digest_here(image, config)
        found = await operator.holdings(digest, config.fleet.min_copies)
        return holdings_document(found, own_holder(config))

    asked = Asked("GET", "/v1/fleet/holdings", parameters={"image": image})
    document = ask_fleet(common, asked, structs.FleetHoldingsDocument, on_etcd)
    common.write(document, tell_holdings(document))
    return 0 if document.holders else 1


def plan(*, common: WithoutPolicy = WITHOUT_POLICY) -> int:
    """Show what the hosts would delete."""

    async def on_etcd(operator: "FleetOperator", config: RetentionConfig) -> structs.FleetPlanDocument:
        from hmret.api.wire.convert_fleet import fleet_plan_document  # noqa: PLC0415 - only if no engine runs

        status = await operator.status()
        async with opened_inspection(config) as inspection:
            return fleet_plan_document(await inspection.plan(), status, holder=own_holder(config))

    document = ask_fleet(common, Asked("GET", "/v1/fleet/plan"), structs.FleetPlanDocument, on_etcd)
    common.write(document, tell_plan(document))
    return 0


async def _read_status(operator: "FleetOperator", config: RetentionConfig) -> structs.FleetDocument:
    """Read the fleet without an engine; whatever is wrong is told with what is known all the same."""
    from hmret.api.wire.convert_fleet import fleet_document  # noqa: PLC0415 - only if no engine runs
    from hmret.fleet.overview import LocalStatus  # noqa: PLC0415 - the same
    from hmret.fleet.store import StoreError  # noqa: PLC0415 - the same

    detail = f"no engine runs on {config.data_dir}: its copies do not count; to start one: hmret run"
    status = None
    try:
        status = await operator.status()
    except (StoreError, FleetError) as error:
        detail = str(error)
    local = LocalStatus(
        fleet=operator.fleet,
        state=FleetState.STOPPED,
        detail=detail,
        host=config.fleet.host_on(platform.node()),
        holder=own_holder(config),
    )
    return fleet_document(local, status)


async def _digest_here(image: str, config: RetentionConfig) -> str:
    """Return the digest of an image in this cache.

    Raises:
        ImageNotFoundError, InvalidReferenceError: there is none of that name.
    """
    async with opened_inspection(config) as inspection:
        try:
            verdict, _, _ = await inspection.explain(image)
        except ImageNotFoundError as error:
            raise ImageNotFoundError(f"{error}; elsewhere it is found by its digest") from None
    return verdict.digest
