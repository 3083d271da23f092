"""Having a plan made, by the running engine or here, for whichever command shows it."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from hmret.api.wire.documents import plan_document
from hmret.api.wire.readings import PlanReading, read_plan
from hmret.cli.backend import run_on, until_interrupted
from hmret.cli.client import Engine, find_engine, say_who_answers
from hmret.cli.display.logs import log_warnings
from hmret.cli.engines import opened_inspection
from hmret.cli.parsing.options import Common
from hmret.model.plan.decide import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import format_time, nanoseconds_of
from hmret.model.values import frozen
from hmret.settings.load import Settings
from hmret.settings.policy_document import policy_settings

__all__ = ["Made", "make_plan"]


@frozen(eq=False)
class Made:
    """A plan, wherever it was made."""

    reading: PlanReading
    config: RetentionConfig
    """The settings of this command; those of a running engine may be others."""
    plan: Plan | None
    """The plan itself, where it was made here."""
    engine: Engine | None
    """Who has made it; None: this command."""
    _document: Mapping[str, Any] | None

    def document(self) -> dict[str, Any]:
        """Return the JSON document of the plan."""
        if self._document is not None:
            return dict(self._document)
        assert self.plan is not None
        return plan_document(self.plan, self.config)


def make_plan(common: Common, settings: Settings, at: datetime | None = None) -> Made:
    """Have the running engine make a plan, or make it here where none runs or options say what is to be deleted.

    Raises:
        HmretError: it cannot be made.
    """
    config = settings.config
    engine = None if common.names_policy else find_engine(config, common.timeout_seconds)
    if engine is not None:
        say_who_answers(engine, common)
        moment = None if at is None else format_time(nanoseconds_of(at))
        if common.config is None:
            document = engine.plan(moment)
        else:
            document = engine.compare(policy_settings(config), moment)
        return Made(engine.read(read_plan, document), config, None, engine, document)
    with common.logging():
        work = partial(until_interrupted, partial(_plan, settings, at))
        plan = run_on(common.backend, config.data_dir, work)
    return Made(PlanReading.of(plan, config), config, plan, None, None)


async def _plan(settings: Settings, at: datetime | None) -> Plan:
    async with opened_inspection(settings.config) as inspection:
        log_warnings(settings)
        return await inspection.plan(at)
