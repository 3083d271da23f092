"""The metrics page: the engine's counters in Prometheus text format.

Five metrics have the names, labels and buckets of hypeman's own controller, so that existing dashboards keep
working. No label contains a repository or a digest: there may be 100,000 of them.
"""

import platform
from collections.abc import Iterator, Mapping

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from hmret.engine.counters import Counters, Histogram
from hmret.engine.platform import running_version
from hmret.engine.retention import Retention
from hmret.engine.statistics import Statistics
from hmret.model.images import Cause, DiskUsage
from hmret.model.plan.forecast import HORIZONS, Outlook, ReasonTotal
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import SECOND
from hmret.model.values import frozen
from hmret.model.verdicts import ACTIONS

_HYPEMAN = "hypeman_image_retention"


def render_metrics(retention: Retention) -> tuple[bytes, str]:
    """Render all metrics of an engine; returns the page and its content type.

    Never blocks: all values are read from counters in memory. May be called from any thread.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_EngineCollector(retention))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


@frozen(eq=False)
class _EngineCollector(Collector):
    """Exposes the counters of one engine to the Prometheus client library."""

    retention: Retention

    def collect(self) -> Iterator[Metric]:
        counters = self.retention.counters
        yield from _hypemans(counters)
        yield from _deletions(counters)
        yield _by_label(
            CounterMetricFamily,
            "hmret_timers_stopped",
            "Running timers that sweeps have stopped because the operator's patterns exclude their images.",
            "reason",
            {reason.value: count for reason, count in counters.stopped_timers.items()},
        )
        yield from _outlook(counters.outlook)
        yield _by_label(
            GaugeMetricFamily,
            "hmret_suspended",
            "Whether the last sweep found deletion suspended for this cause (0 or 1).",
            "cause",
            {cause.value: float(cause in counters.suspended) for cause in Cause},
        )
        yield GaugeMetricFamily(
            "hmret_trash_bytes",
            "Allocated size in bytes of what had left the cache but was not freed yet at the end of the last sweep.",
            value=counters.trash_bytes,
        )
        yield GaugeMetricFamily(
            "hmret_quarantined_images",
            "Deleted images that can be restored.",
            value=counters.quarantined_images,
        )
        yield GaugeMetricFamily(
            "hmret_quarantined_bytes",
            "Allocated size in bytes that is freed when those are erased.",
            value=counters.quarantined_bytes,
        )
        statistics = self.retention.statistics()
        yield from _limits(statistics)
        yield from _settings(self.retention.config, counters, statistics.disk)
        yield from _liveness(counters)
        yield GaugeMetricFamily(
            "hmret_leases", "Leases that keep an image until they end.", value=statistics.leases
        )
        yield _by_label(
            GaugeMetricFamily,
            "hmret_mailbox_messages",
            "Messages waiting in the mailbox of each actor.",
            "actor",
            statistics.waiting,
        )
        fleet = self.retention.fleet
        if fleet is not None:
            from hmret.api.fleet_metrics import fleet_metrics  # noqa: PLC0415 - only where there is a fleet

            yield from fleet_metrics(fleet, counters.outlook)
        yield _build()
        # Metrics of the serving process: an engine embedded in another server reports that server's.
        yield from ProcessCollector(registry=None).collect()


def _hypemans(counters: Counters) -> Iterator[Metric]:
    """Make the metrics that hypeman's own controller exposes."""
    yield _by_label(
        CounterMetricFamily,
        f"{_HYPEMAN}_sweeps",
        "Sweeps, by whether they completed.",
        "status",
        {status: sum(durations.counts) for status, durations in counters.sweeps.items()},
    )
    seconds = HistogramMetricFamily(
        f"{_HYPEMAN}_sweep_duration_seconds", "How long sweeps took.", labels=("status",)
    )
    for status, durations in counters.sweeps.items():
        seconds.add_metric((status,), _buckets(durations), durations.total_seconds)
    yield seconds
    yield _by_label(
        CounterMetricFamily,
        f"{_HYPEMAN}_deletes",
        "Deletion attempts by outcome; not_found: something else had already deleted the image.",
        "status",
        counters.deletes,
    )
    yield CounterMetricFamily(
        f"{_HYPEMAN}_stale_references",
        "References to images that are not in the cache, counted again by each sweep.",
        value=counters.stale_references,
    )
    outlook = counters.outlook
    if outlook is not None:
        yield _by_label(
            GaugeMetricFamily,
            f"{_HYPEMAN}_pending_images",
            "Images that fall due at some time if nothing changes, and those that are due.",
            "state",
            {"tracked": outlook.tracked, "expired": outlook.overdue},
        )


def _deletions(counters: Counters) -> Iterator[Metric]:
    yield _by_label(
        CounterMetricFamily,
        "hmret_deletes",
        "Images removed from the cache, by reason; recovered: an earlier run was interrupted while deleting them.",
        "reason",
        counters.deleted,
    )
    yield CounterMetricFamily(
        "hmret_deleted_bytes",
        "Allocated size in bytes that deletions have freed.",
        value=counters.deleted_bytes,
    )

    yield _by_label(
        CounterMetricFamily,
        "hmret_failed_deletes",
        "Deletions that failed, by the kind of error that the operating system reported.",
        "cause",
        counters.failed_deletes,
    )
    yield CounterMetricFamily("hmret_restores", "Images restored from quarantine.", value=counters.restores)


def _outlook(outlook: Outlook | None) -> Iterator[Metric]:
    """Make the metrics of what the last sweep left; none before a sweep has scanned the cache."""
    if outlook is None:
        return
    labels = ("action", "reason")
    images = GaugeMetricFamily("hmret_images", "Images in the cache, by action and reason.", labels=labels)
    disks = GaugeMetricFamily(
        "hmret_image_bytes",
        "Allocated size in bytes of the disks of these images; a disk shared by several images counts once.",
        labels=labels,
    )
    for reason, action in ACTIONS.items():
        # Reasons that apply to no image are exported as 0, so that their series do not come and go.
        holding = outlook.holdings.get((action, reason), ReasonTotal(0, 0))
        images.add_metric((action.value, reason.value), holding.images)
        disks.add_metric((action.value, reason.value), holding.disk_bytes)
    yield from (images, disks)
    yield _by_label(
        GaugeMetricFamily,
        "hmret_reclaimable_bytes",
        "Allocated size in bytes of images that expire within this time if not used, including overdue ones.",
        "within",
        {name: outlook.within[name] for name in HORIZONS},
    )


def _limits(statistics: Statistics) -> Iterator[Metric]:
    """Make the metrics of the disk limits and the brake."""
    disk, braking = statistics.disk, statistics.braking
    if statistics.disk_used_ratio is not None:
        yield GaugeMetricFamily(
            "hmret_disk_used_ratio",
            "Used share of the images' file system, whether or not a limit is set.",
            value=statistics.disk_used_ratio,
        )
    yield GaugeMetricFamily(
        "hmret_disk_pressure",
        "Whether images are deleted early because the disk is too full (0 or 1).",
        value=float(disk is not None and disk.is_pressed),
    )
    yield GaugeMetricFamily(
        "hmret_disk_shortfall_bytes",
        "By how many bytes the low mark is missed even if every eligible image is deleted; 0: it is in reach.",
        value=statistics.disk_shortfall_bytes,
    )
    yield GaugeMetricFamily(
        "hmret_brake_images",
        "Expired images that the brake holds because too many expired at once.",
        value=0 if braking is None or braking.is_released else braking.expired,
    )
    yield GaugeMetricFamily(
        "hmret_held_back_images",
        "Images that are kept beyond their window because their disks keep being read.",
        value=statistics.held_back_images,
    )


def _settings(config: RetentionConfig, counters: Counters, disk: DiskUsage | None) -> Iterator[Metric]:
    """Make the metrics of the configuration, for graphs and alerts, and of whether the last reload succeeded."""
    limits = config.disk
    total_bytes = disk.total_bytes if disk is not None else 0
    for name, documentation, value in (
        ("enabled", "Whether retention is on: images are marked and deleted (0 or 1).", config.active),
        (
            "config_last_reload_successful",
            "Whether the most recently read settings are in force (0 or 1).",
            counters.reload_succeeded,
        ),
        (
            "config_last_reload_success_timestamp_seconds",
            "When the current settings came into force, in seconds since the epoch.",
            (counters.settings_since_ns or 0) / SECOND,
        ),
        (
            "sweep_interval_seconds",
            "From the start of one sweep to the start of the next.",
            config.sweep_interval.total_seconds(),
        ),
        (
            "disk_high_watermark_ratio",
            "Used share of the file system above which images are deleted early; 0: off.",
            limits.high_watermark,
        ),
        ("disk_low_watermark_ratio", "Used share at which that stops; 0: off.", limits.low),
        (
            "disk_max_used_bytes",
            "Maximum size of the cache's disks; 0: no limit.",
            limits.max_used_bytes(total_bytes),
        ),
        (
            "max_deletes_per_sweep",
            "Maximum number of images that one sweep deletes; 0: no limit.",
            config.max_deletes_per_sweep,
        ),
        (
            "max_bytes_per_sweep",
            "Maximum bytes of images that one sweep deletes; 0: no limit.",
            config.max_bytes_per_sweep,
        ),
    ):
        yield GaugeMetricFamily(f"hmret_{name}", documentation, value=float(value))


def _liveness(counters: Counters) -> Iterator[Metric]:
    last_ns = counters.last_success_ns
    if last_ns is not None:
        yield GaugeMetricFamily(
            "hmret_last_success_timestamp_seconds",
            "When the last completed sweep ended, in seconds since the epoch.",
            value=last_ns / SECOND,
        )
        yield _by_label(
            GaugeMetricFamily,
            "hmret_sweep_phase_seconds",
            "How long each phase of the last completed sweep took.",
            "phase",
            counters.phase_seconds,
        )
    yield CounterMetricFamily(
        "hmret_record_errors",
        "Failed writes of hmret's own records below system/hmret, the journal included.",
        value=counters.record_errors,
    )
    yield HistogramMetricFamily(
        "hmret_mark_used_seconds",
        "How long callers of mark_used waited.",
        buckets=_buckets(counters.mark_used),
        sum_value=counters.mark_used.total_seconds,
    )


def _build() -> Metric:
    build = GaugeMetricFamily(
        "hmret_build_info", "The running version; always 1.", labels=("version", "python_version")
    )
    build.add_metric((running_version(), platform.python_version()), 1)
    return build


def _by_label(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    documentation: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    """Make a metric with one label."""
    metric = family(name, documentation, labels=(label,))
    for value, number in values.items():
        metric.add_metric((value,), number)
    return metric


def _buckets(durations: Histogram) -> list[tuple[str, float]]:
    """Return the buckets as Prometheus expects them: cumulative, each counting everything below its bound."""
    buckets: list[tuple[str, float]] = []
    total = 0
    names = [*(f"{bound:g}" for bound in durations.bounds), "+Inf"]
    for name, count in zip(names, durations.counts, strict=True):
        total += count
        buckets.append((name, total))
    return buckets
