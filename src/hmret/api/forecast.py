"""What the cache holds and what falls due when, as a document: `GET /v1/forecast`."""

from hmret.actors.threads import Threads
from hmret.engine.retention import Retention
from hmret.model.forecast import Outlook, summarize
from hmret.model.times import format_time, nanoseconds_of

__all__ = ["forecast_document", "take_outlook"]


async def take_outlook(retention: Retention, threads: Threads) -> Outlook:
    """Return the forecast of the last sweep; where none has come that far, as where none happen, makes one of a plan.

    Raises:
        EngineClosedError: the engine has stopped.
    """
    outlook = retention.counters.outlook
    return await threads.run(summarize, await retention.plan()) if outlook is None else outlook


def forecast_document(outlook: Outlook) -> dict[str, object]:
    """Write a forecast: UTC days from that of `at` on, what is overdue on the first; sizes are blocks, in bytes."""
    return {
        "at": format_time(nanoseconds_of(outlook.at)),
        "images": outlook.images,
        "bytes": outlook.disk_bytes,
        "days": [
            {"date": due.day.isoformat(), "images": due.images, "bytes": due.disk_bytes}
            for due in outlook.days
        ],
        "within": dict(outlook.within),
        "holdings": [
            {
                "action": action.value,
                "reason": reason.value,
                "images": holding.images,
                "bytes": holding.disk_bytes,
            }
            for (action, reason), holding in outlook.holdings.items()
        ],
    }
