"""Conditions that last until they are remedied: each is logged when it begins and when it ends, and not in between."""

import logging

import attrs

from hmret.disk.layout import IMAGES
from hmret.engine.log import log_event
from hmret.engine.surveyor import Survey, Surveyor
from hmret.engine.sweep.entries import Entry
from hmret.engine.sweep.ledger import SweepLedger, blocked_detail
from hmret.model.fleet import FleetLink
from hmret.model.plan.plan import Plan
from hmret.model.times import format_time, nanoseconds_of
from hmret.model.values import define, frozen


@frozen
class Condition:
    """Something that lasts until it is remedied."""

    event: str
    path: str
    detail: str = attrs.field(default="", eq=False)
    """What is wrong; the wording may change while the condition lasts."""
    cause: str = ""

    def facts(self) -> dict[str, object]:
        facts = {"cause": self.cause, "path": self.path, "detail": self.detail}
        return {name: value for name, value in facts.items() if value}


@define(eq=False)
class Conditions:
    """The conditions that the last sweep found."""

    _lasting: set[Condition] = attrs.field(factory=set, init=False)
    _unreadable: frozenset[str] = attrs.field(default=frozenset(), init=False)
    """The paths of the timers that could not be read; nearly always the sweep starts them again."""

    def report(self, surveyor: Surveyor, survey: Survey, plan: Plan, ledger: SweepLedger) -> None:
        """Enter which conditions are new since the last sweep, and which have ended."""
        for path, problem in survey.states.corrupt:
            if path not in self._unreadable:
                log_event(logging.WARNING, "state_unreadable", path=path, detail=problem)
        self._unreadable = frozenset(path for path, _ in survey.states.corrupt)
        scan = survey.scan
        lasting = {
            *(Condition("reference_ignored", path, problem) for path, problem in survey.ignored_references),
            *(Condition(event, path, detail) for event, path, detail in scan.oddities),
            *(Condition("not_deletable", one.path, one.detail) for one in plan.obstacles.values()),
            *(Condition("build_unreadable", path, problem) for path, problem in scan.builds.problems),
            *(Condition("deletion_suspended", one.path, one.detail, one.cause) for one in ledger.suspended),
            *(
                Condition(event, "", told)
                for event, told in (
                    ("brake_holds", surveyor.brake.announcement),
                    ("disk_stays_full", surveyor.disk.announcement),
                    ("reads_hold_back", surveyor.looks.announcement),
                    ("fleet_paused", _paused_detail(surveyor.fleet)),
                )
                if told
            ),
        }
        if ledger.blocked is not None:
            lasting.add(
                Condition("deletion_blocked", ledger.blocked.path, blocked_detail(ledger.blocked.error))
            )
        if scan.unknown_folders:
            names = ", ".join(f"{IMAGES}/{name}" for name in sorted(scan.unknown_folders))
            lasting.add(Condition("newer_layout_left_alone", names))
        for condition in sorted(lasting - self._lasting, key=str):
            ledger.enter(Entry(condition.event, facts=condition.facts()))
        for condition in sorted(self._lasting - lasting, key=str):
            where = {name: fact for name, fact in condition.facts().items() if name != "detail"}
            ledger.enter(Entry("no_longer", facts={"what": condition.event, **where}))
        self._lasting = lasting


def _paused_detail(fleet: FleetLink | None) -> str | None:
    """Say who has paused the fleet, since when, and why; None: nobody has, as far as is known here."""
    settings = None if fleet is None else fleet.view().settings
    paused = None if settings is None else settings.paused
    if paused is None:
        return None
    reason = f": {paused.reason}" if paused.reason else ""
    return f"by {paused.by or 'somebody'} since {format_time(nanoseconds_of(paused.at))}{reason}"
