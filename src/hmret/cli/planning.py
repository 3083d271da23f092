"""Makes a plan, in the running engine or in this process, for any command that shows one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from hmret.api.wire.convert import image_document, plan_head, read_plan
from hmret.api.wire.structs import ComparisonDocument, PlanHead
from hmret.cli.client import Engine
from hmret.cli.display.logs import log_warnings
from hmret.cli.engine_or_disk import answering_engine, do_here
from hmret.cli.engines import opened_inspection
from hmret.cli.parsing.options import Common
from hmret.model.plan.plan import Plan
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import format_time, nanoseconds_of
from hmret.model.values import frozen
from hmret.model.verdicts import Verdict
from hmret.settings.load import Settings
from hmret.settings.policy_document import policy_settings


@frozen(eq=False)
class Made:
    """A plan, wherever it was made."""

    head: PlanHead
    verdicts: Sequence[Verdict]
    config: RetentionConfig
    """The settings of this command; a running engine's may differ."""
    plan: Plan | None = None
    """The plan itself, if it was made in this process."""
    engine: Engine | None = None
    """The engine that made the plan; None: this process did."""
    comparison: ComparisonDocument | None = None
    """The comparison with the engine's settings; None: the plan was made under those."""
    _document: Mapping[str, Any] | None = None
    """The document that the engine sent."""

    def document(self, some: Sequence[Verdict] | None = None) -> Mapping[str, object]:
        """Return the JSON document of the plan with some of its images; None: all of them."""
        if self._document is None:
            return {
                **msgspec.structs.asdict(self.head),
                "images": self.images(self.verdicts if some is None else some),
            }
        return self._document if some is None else {**self._document, "images": self.images(some)}

    def images(self, some: Sequence[Verdict]) -> Sequence[object]:
        """Return the JSON documents of some of the images."""
        if self._document is None:
            return list(map(image_document, some))
        images = {(image["repository"], image["digest"]): image for image in self._document["images"]}
        return [images[verdict.repository, verdict.digest] for verdict in some]


def make_plan(common: Common, settings: Settings, at: datetime | None = None) -> Made:
    """Make a plan: in the running engine, or in this process if none is running or options set the policy.

    Raises:
        HmretError: it cannot be made.
    """
    config = settings.config
    engine = None if common.names_policy else answering_engine(common, config)
    if engine is not None:
        parameters = {} if at is None else {"at": format_time(nanoseconds_of(at))}
        # Other settings are sent along, and compared with those in force.
        body = None if common.config is None else {"settings": policy_settings(config)}
        document = engine.ask("GET" if body is None else "POST", "/v1/plan", body=body, parameters=parameters)
        read, verdicts = engine.read(read_plan, document)
        comparison = None if read.comparison is UNSET else read.comparison
        return Made(read, verdicts, config, engine=engine, comparison=comparison, document=document)
    plan = do_here(common, config, partial(_plan, settings, at))
    return Made(plan_head(plan, config), plan.verdicts, config, plan)


async def _plan(settings: Settings, at: datetime | None) -> Plan:
    async with opened_inspection(settings.config) as inspection:
        log_warnings(settings)
        return await inspection.plan(at)
