"""Opens an engine inside a command if none runs; commands that use a running engine do not import one.

The garbage collector stays off until then, as there is no garbage while a command starts.
"""

import gc
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from hmret.model.policy.config import RetentionConfig

if TYPE_CHECKING:
    from hmret.engine.inspection import Inspection
    from hmret.engine.retention import Retention
    from hmret.engine.sweep.quarantine import Quarantine


def collect_from_now_on() -> None:
    """Turn the collector on for objects created from now on; what is already loaded stays for good.

    Does nothing if it was never turned off, as in an embedding process.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def opened_engine(config: RetentionConfig) -> AbstractAsyncContextManager["Retention"]:
    """Open an engine on this host's platform that sweeps only on request; raises as `open_engine` does."""
    from hmret.engine.opening import open_engine  # noqa: PLC0415 - see above
    from hmret.engine.platform import Platform  # noqa: PLC0415 - the same

    collect_from_now_on()
    return open_engine(config, Platform(), scheduled=False)


def opened_inspection(config: RetentionConfig) -> AbstractAsyncContextManager["Inspection"]:
    """Open a data directory for inspection only; raises as `open_inspection` does."""
    from hmret.engine.opening_inspection import open_inspection  # noqa: PLC0415 - see above
    from hmret.engine.platform import Platform  # noqa: PLC0415 - the same

    collect_from_now_on()
    return open_inspection(config, Platform())


def opened_quarantine(config: RetentionConfig) -> AbstractAsyncContextManager["Quarantine"]:
    """Open a data directory for its quarantine only; raises as `open_quarantine` does."""
    from hmret.engine.opening import open_quarantine  # noqa: PLC0415 - see above
    from hmret.engine.platform import Platform  # noqa: PLC0415 - the same

    collect_from_now_on()
    return open_quarantine(config, Platform())
