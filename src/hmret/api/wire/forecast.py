"""What the cache holds and what falls due when, as a document: `GET /v1/forecast`."""

from hmret.api.wire.documents import Document
from hmret.model.plan.forecast import Outlook
from hmret.model.times import format_time, nanoseconds_of

__all__ = ["MOST_DAYS", "forecast_document"]

MOST_DAYS = 366
"""Of a forecast that somebody asks for."""


def forecast_document(outlook: Outlook) -> Document:
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
