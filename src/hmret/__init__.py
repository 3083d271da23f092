"""Image retention for hypervisor hosts: deletes what nothing has used for long, and never what something needs."""

from hmret.actors.reference_collector import ReferenceSource
from hmret.engine.opening import open_retention
from hmret.engine.retention import Leased, Retention, Statistics
from hmret.model.config import AutoDelete, RetentionConfig
from hmret.model.errors import (
    ConfigError,
    DataDirLockedError,
    EngineClosedError,
    HmretError,
    ImageNotFoundError,
    InvalidReferenceError,
)
from hmret.model.images import (
    Cause,
    Image,
    Inventory,
    Reference,
    Remembered,
    Repository,
    SharedDisk,
    Suspension,
)
from hmret.model.patterns import Patterns, compile_patterns
from hmret.model.planning import Action, Plan, Reason, Summary, Verdict, plan
from hmret.model.policy import Policy
from hmret.model.protection import StaleReference
from hmret.model.references import ImageReference, parse_reference
from hmret.model.report import DeletedImage, MarkedUsed, SweepError, SweepReport, SweepStatus

__all__ = [
    "Action",
    "AutoDelete",
    "Cause",
    "ConfigError",
    "DataDirLockedError",
    "DeletedImage",
    "EngineClosedError",
    "HmretError",
    "Image",
    "ImageNotFoundError",
    "ImageReference",
    "InvalidReferenceError",
    "Inventory",
    "Leased",
    "MarkedUsed",
    "Patterns",
    "Plan",
    "Policy",
    "Reason",
    "Reference",
    "ReferenceSource",
    "Remembered",
    "Repository",
    "Retention",
    "RetentionConfig",
    "SharedDisk",
    "StaleReference",
    "Statistics",
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
]
