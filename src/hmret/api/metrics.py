"""The engine in numbers, as Prometheus reads them."""

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from hmret.engine.retention import Retention

__all__ = ["render_metrics"]


def render_metrics(retention: Retention) -> tuple[bytes, str]:
    """Write the numbers of an engine; returns the body and its content type."""
    registry = CollectorRegistry()
    statistics = retention.statistics()
    Gauge("hmret_sweeping", "Whether a sweep runs now.", registry=registry).set(statistics.sweeping)
    return generate_latest(registry), CONTENT_TYPE_LATEST
