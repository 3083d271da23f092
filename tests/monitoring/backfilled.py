"""Half a day of a host's metrics, as a real Prometheus keeps them: names and labels are those of the metrics page."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["SPAN_SECONDS", "STEP_SECONDS", "backfill"]

STEP_SECONDS = 600
SPAN_SECONDS = 12 * 3600
_STEPS = SPAN_SECONDS // STEP_SECONDS
_WEEK_STEPS = 9 * 86_400 // STEP_SECONDS
# An engine that was just started has completed no sweep.
_LAST_SUCCESS = "hmret_last_success_timestamp_seconds"
_FRESH_STEPS = 12
_HOST = 'job="hmret",instance="host"'

# Gauges that do not come and go, and those whose values say something.
_CONSTANT = {
    "hmret_enabled": 1.0,
    "hmret_sweep_interval_seconds": 60.0,
    "hmret_disk_used_ratio": 0.95,
    "hmret_disk_high_watermark_ratio": 0.9,
    "hmret_disk_low_watermark_ratio": 0.8,
}


def backfill(page: str, storage: Path, end: int) -> None:
    """Write blocks for Prometheus, in which each counter grows, and each gauge is zero and then is not."""
    texts = storage.parent / "backfill.txt"
    texts.write_text("".join(_open_metrics(page, end)))
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(texts), str(storage)]
    subprocess.run(command, check=True, capture_output=True)


def _open_metrics(page: str, end: int) -> Iterator[str]:
    start = end - _STEPS * STEP_SECONDS
    for family in text_string_to_metric_families(page):
        yield f"# TYPE {family.name} {'unknown' if family.type == 'untyped' else family.type}\n"
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            labels = ",".join([_HOST, *(f'{name}="{value}"' for name, value in sample.labels.items())])
            grows = family.type in {"counter", "histogram"}
            steps = _WEEK_STEPS if family.name == "hmret_deletes" else _STEPS
            for number in range(steps + 1):
                moment = end - (steps - number) * STEP_SECONDS
                # A hundred are deleted in the last hour.
                burst = 100 * max(0, number - steps + 6) if family.name == "hmret_deletes" else 0
                value = number + burst if grows else _gauge(sample.name, number, start)
                if not (sample.name == _LAST_SUCCESS and number < _FRESH_STEPS):
                    yield f"{sample.name}{{{labels}}} {value} {moment}\n"
    yield "# TYPE up gauge\n"
    for number in range(_STEPS + 1):
        yield f"up{{{_HOST}}} {number // 6 % 2} {start + number * STEP_SECONDS}\n"
    yield "# EOF\n"


def _gauge(name: str, number: int, start: int) -> float:
    if name in _CONSTANT:
        return _CONSTANT[name]
    if name == "process_start_time_seconds" or name.endswith("_success_timestamp_seconds"):
        return start
    # With and without anything else that holds.
    return float(number // (3 if name == "hmret_disk_shortfall_bytes" else 6) % 2)
