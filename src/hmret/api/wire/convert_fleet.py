"""Converts what is known of a fleet to JSON documents."""

from collections.abc import Collection, Iterable
from datetime import timedelta

from hmret.api.wire import structs_fleet as structs
from hmret.api.wire.convert import document_of, documents_of, image_document
from hmret.fleet.overview import (
    EtcdStatus,
    FleetStatus,
    HoldersOfImage,
    HostStatus,
    LastCopy,
    LocalStatus,
)
from hmret.model.durations import format_duration, go_duration
from hmret.model.fleet import FleetSettings
from hmret.model.plan.plan import Plan
from hmret.model.times import nanoseconds_of, timedelta_nanoseconds
from hmret.model.verdicts import Action, Verdict


def fleet_document(local: LocalStatus, status: FleetStatus | None) -> structs.FleetDocument:
    """Convert the state of a host in its fleet, and the fleet; None: etcd did not tell."""
    settings = local.settings if status is None else status.settings
    return document_of(
        structs.FleetDocument,
        local,
        generation=None if status is None else status.generation,
        settings=None if settings is None else settings_document(settings),
        tokens_taken=() if status is None else documents_of(structs.TakenTokenDocument, status.tokens_taken),
        etcd=document_of(structs.EtcdDocument, EtcdStatus() if status is None else status.etcd),
        hosts=() if status is None else tuple(map(_host, status.hosts)),
    )


def settings_document(settings: FleetSettings) -> structs.FleetSettingsDocument:
    """Convert the settings that all hosts of a fleet share."""
    paused = settings.paused
    return document_of(
        structs.FleetSettingsDocument,
        settings,
        canary=_duration(settings.canary),
        forget_after=_duration(settings.forget_after),
        paused=None if paused is None else document_of(structs.PausedDocument, paused),
    )


def holdings_document(holdings: HoldersOfImage, here: str | None) -> structs.FleetHoldingsDocument:
    """Convert who holds an image; `here`: the holder that this data directory is."""
    copies = tuple(
        document_of(structs.HeldCopyDocument, copy, here=copy.holder == here, bytes=copy.disk_bytes)
        for copy in holdings.holders
    )
    return document_of(structs.FleetHoldingsDocument, holdings, holders=copies)


def fleet_plan_document(plan: Plan, status: FleetStatus, *, holder: str | None) -> structs.FleetPlanDocument:
    """Convert what the hosts of a fleet would delete, with the images of a host's plan that have expired."""
    now_ns = nanoseconds_of(plan.at)
    settings, copies = status.settings, status.copies
    taken = len(status.tokens_taken) * settings.releases_per_token(copies)
    has_token = holder is not None and any(one.holder == holder for one in status.tokens_taken)
    return document_of(
        structs.FleetPlanDocument,
        plan,
        budget=structs.FleetBudgetDocument(settings.releases(copies), taken),
        braked=not has_token and len(status.tokens_taken) >= settings.tokens,
        hosts=tuple(map(_host, status.hosts)),
        images=tuple(image_document(verdict) for verdict in plan.verdicts if _has_expired(verdict, now_ns)),
    )


def drain_document(holders: Collection[str], last_copies: Iterable[LastCopy]) -> structs.DrainDocument:
    """Convert which holders are drained, and the last copies on them."""
    return structs.DrainDocument(
        tuple(holders),
        tuple(structs.LastCopyDocument(one.holder, one.digest, one.disk_bytes) for one in last_copies),
    )


def _has_expired(verdict: Verdict, now_ns: int) -> bool:
    """Return whether an image goes, or only stays for a reason that does not stop its timer."""
    expires_ns = verdict.expires_at_ns
    return verdict.action is Action.DELETE or (
        verdict.action is Action.NONE and expires_ns is not None and expires_ns <= now_ns
    )


def _host(host: HostStatus) -> structs.FleetHostDocument:
    drained = None if host.drained is None else document_of(structs.DrainedDocument, host.drained)
    return document_of(structs.FleetHostDocument, host, drained=drained, bytes=host.disk_bytes)


def _duration(duration: timedelta) -> str:
    return go_duration(format_duration(timedelta_nanoseconds(duration)))
