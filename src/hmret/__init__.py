"""Image retention for hypervisor hosts: deletes what nothing has used for long, and never what something needs.

Names are loaded when they are first used: a command line that only prints its help need not load an engine.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hmret.actors.reference_collector import ReferenceSource
    from hmret.api.wire.convert_outcomes import report_json
    from hmret.engine.events import Event, Listener
    from hmret.engine.opening import open_retention
    from hmret.engine.retention import Retention
    from hmret.engine.statistics import Statistics
    from hmret.model.errors import (
        AmbiguousImageError,
        ConfigError,
        DataDirLockedError,
        DataDirMovedError,
        EngineClosedError,
        FleetError,
        HmretError,
        HostNotFoundError,
        ImageExistsError,
        ImageNotFoundError,
        InvalidReferenceError,
        StopsTimersError,
    )
    from hmret.model.fleet import FleetState
    from hmret.model.images import (
        Cause,
        DiskUsage,
        Image,
        Inventory,
        Remembered,
        Repository,
        SharedDisk,
        Suspension,
    )
    from hmret.model.plan.decide import plan
    from hmret.model.plan.plan import Plan
    from hmret.model.plan.selection import Pressure
    from hmret.model.policy.brake import Braking
    from hmret.model.policy.compiled import Policy
    from hmret.model.policy.config import AutoDelete, RetentionConfig
    from hmret.model.policy.fleet import FleetConfig
    from hmret.model.policy.limits import DiskLimits
    from hmret.model.policy.patterns import Patterns, compile_patterns
    from hmret.model.policy.rules import Rule
    from hmret.model.policy.window import DeletionWindow
    from hmret.model.protection import StaleReference
    from hmret.model.references import ImageReference, Reference, parse_reference
    from hmret.model.report import (
        DeletedImage,
        Leased,
        MarkedUsed,
        Quarantined,
        Restored,
        SweepError,
        SweepReport,
        SweepStatus,
    )
    from hmret.model.verdicts import Action, Reason, Summary, Verdict

__all__ = [
    "Action",
    "AmbiguousImageError",
    "AutoDelete",
    "Braking",
    "Cause",
    "ConfigError",
    "DataDirLockedError",
    "DataDirMovedError",
    "DeletedImage",
    "DeletionWindow",
    "DiskLimits",
    "DiskUsage",
    "EngineClosedError",
    "Event",
    "FleetConfig",
    "FleetError",
    "FleetState",
    "HmretError",
    "HostNotFoundError",
    "Image",
    "ImageExistsError",
    "ImageNotFoundError",
    "ImageReference",
    "InvalidReferenceError",
    "Inventory",
    "Leased",
    "Listener",
    "MarkedUsed",
    "Patterns",
    "Plan",
    "Policy",
    "Pressure",
    "Quarantined",
    "Reason",
    "Reference",
    "ReferenceSource",
    "Remembered",
    "Repository",
    "Restored",
    "Retention",
    "RetentionConfig",
    "Rule",
    "SharedDisk",
    "StaleReference",
    "Statistics",
    "StopsTimersError",
    "Summary",
    "Suspension",
    "SweepError",
    "SweepReport",
    "SweepStatus",
    "Verdict",
    "compile_patterns",
    "open_retention",
    "parse_reference",
    "plan",
    "report_json",
]

_HOMES = {
    "ReferenceSource": "hmret.actors.reference_collector",
    "Event": "hmret.engine.events",
    "Listener": "hmret.engine.events",
    "open_retention": "hmret.engine.opening",
    "Leased": "hmret.model.report",
    "Retention": "hmret.engine.retention",
    "Statistics": "hmret.engine.statistics",
    "Braking": "hmret.model.policy.brake",
    "AutoDelete": "hmret.model.policy.config",
    "RetentionConfig": "hmret.model.policy.config",
    "AmbiguousImageError": "hmret.model.errors",
    "ConfigError": "hmret.model.errors",
    "DataDirLockedError": "hmret.model.errors",
    "DataDirMovedError": "hmret.model.errors",
    "EngineClosedError": "hmret.model.errors",
    "FleetError": "hmret.model.errors",
    "HmretError": "hmret.model.errors",
    "HostNotFoundError": "hmret.model.errors",
    "ImageExistsError": "hmret.model.errors",
    "ImageNotFoundError": "hmret.model.errors",
    "InvalidReferenceError": "hmret.model.errors",
    "StopsTimersError": "hmret.model.errors",
    "DeletionWindow": "hmret.model.policy.window",
    "Cause": "hmret.model.images",
    "DiskUsage": "hmret.model.images",
    "Image": "hmret.model.images",
    "Inventory": "hmret.model.images",
    "Reference": "hmret.model.images",
    "Remembered": "hmret.model.images",
    "Repository": "hmret.model.images",
    "SharedDisk": "hmret.model.images",
    "Suspension": "hmret.model.images",
    "FleetState": "hmret.model.fleet",
    "FleetConfig": "hmret.model.policy.fleet",
    "DiskLimits": "hmret.model.policy.limits",
    "Patterns": "hmret.model.policy.patterns",
    "compile_patterns": "hmret.model.policy.patterns",
    "Action": "hmret.model.verdicts",
    "Plan": "hmret.model.plan.plan",
    "Reason": "hmret.model.verdicts",
    "Summary": "hmret.model.verdicts",
    "Verdict": "hmret.model.verdicts",
    "plan": "hmret.model.plan.decide",
    "report_json": "hmret.api.wire.convert_outcomes",
    "Policy": "hmret.model.policy.compiled",
    "StaleReference": "hmret.model.protection",
    "ImageReference": "hmret.model.references",
    "parse_reference": "hmret.model.references",
    "DeletedImage": "hmret.model.report",
    "MarkedUsed": "hmret.model.report",
    "Quarantined": "hmret.model.report",
    "Restored": "hmret.model.report",
    "SweepError": "hmret.model.report",
    "SweepReport": "hmret.model.report",
    "SweepStatus": "hmret.model.report",
    "Rule": "hmret.model.policy.rules",
    "Pressure": "hmret.model.plan.selection",
}


def __getattr__(name: str) -> object:
    """Load a name from the module where it lives, once."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return [*globals(), *(name for name in __all__ if name not in globals())]
