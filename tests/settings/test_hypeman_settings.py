"""Settings that do not get along with hypeman's own, and how that is told."""

from pathlib import Path

import pytest

from settings.loading import Load

CLASH = "hmret.metrics_listen: hypeman serves its {what} on port {port} of that address ({key})"


def warned(load: Load, root: Path, content: str, **environment: str) -> list[str]:
    """What is told of how a config gets along with hypeman's settings."""
    (root / "images").mkdir(exist_ok=True)
    loaded = load(content, environment=environment, flags={"data_dir": str(root)})
    return [warning for warning in loaded.warnings if "hypeman" in warning and "/" not in warning[:20]]


@pytest.mark.parametrize(
    ("listen", "hypeman", "key"),
    [
        ("127.0.0.1:9464", "", "metrics.port"),
        ("localhost:9464", "metrics: {listen_address: 127.0.0.1, port: 9464}", "metrics.port"),
        ("0.0.0.0:9464", "", "metrics.port"),
        ("127.0.0.1:9100", "metrics: {port: 9100}", "metrics.port"),
        ("127.0.0.1:9100", "metrics: {port: '9100'}", "metrics.port"),
        ("10.0.0.5:9100", "metrics: {port: 9100, listen_address: 0.0.0.0}", "metrics.port"),
        ("10.0.0.5:9100", "metrics: {port: 9100, listen_address: ''}", "metrics.port"),
        ("127.0.0.1:8080", "", "port"),
        ("10.0.0.5:4973", "port: 4973", "port"),
    ],
)
def test_an_address_on_which_hypeman_listens_is_pointed_out(
    load: Load, tmp_path: Path, listen: str, hypeman: str, key: str
) -> None:
    (warning,) = warned(load, tmp_path, f"hmret: {{metrics_listen: '{listen}'}}\n{hypeman}\n")
    what = "metrics" if key == "metrics.port" else "API"
    port = listen.rpartition(":")[2]
    assert warning.startswith(CLASH.format(what=what, port=port, key=key))


@pytest.mark.parametrize(
    ("listen", "hypeman"),
    [
        ("127.0.0.1:9874", ""),
        ("", ""),
        ("10.0.0.5:9464", "metrics: {listen_address: 127.0.0.1}"),
        ("127.0.0.1:9464", "metrics: {port: 9100}"),
        ("127.0.0.1:9464", "metrics: {port: 9100, port: 9200}"),
    ],
)
def test_an_address_of_our_own_is_not(load: Load, tmp_path: Path, listen: str, hypeman: str) -> None:
    content = f"hmret: {{metrics_listen: '{listen}'}}\n{hypeman}\n"
    assert not [one for one in warned(load, tmp_path, content) if "metrics_listen: hypeman" in one]


def test_a_variable_of_hypemans_wins_over_its_file_and_an_empty_one_does_not(
    load: Load, tmp_path: Path
) -> None:
    content = "hmret: {metrics_listen: '127.0.0.1:9100'}\nmetrics: {port: 9200}\n"
    assert len(warned(load, tmp_path, content, METRICS__PORT="9100")) == 1
    assert warned(load, tmp_path, content, METRICS__PORT="") == []


@pytest.mark.parametrize(
    "hypeman",
    [
        "metrics: 5",
        "metrics: [port]",
        "metrics: {port: {a: b}}",
        "limits: {max_image_storage: lots}",
        "limits:",
    ],
)
def test_what_makes_no_sense_there_is_hypemans_to_refuse(load: Load, tmp_path: Path, hypeman: str) -> None:
    assert warned(load, tmp_path, f"{hypeman}\nhmret: {{metrics_listen: '127.0.0.1:9874'}}\n") == []


@pytest.mark.parametrize(
    ("disk", "limits", "key"),
    [
        ("high_watermark: 85%", "", "high_watermark"),
        ("high_watermark: 85%", "limits: {max_image_storage: 0.2}", "high_watermark"),
        ("max_used: 20%, count: apparent", "", "max_used"),
        ("max_used: 30%, count: apparent", "limits: {max_image_storage: 0.3}", "max_used"),
        ("max_used: 900000TB, count: apparent", "", "max_used"),
        ("max_used: 18%", "", "count"),
        ("max_used: 1MB", "", "count"),
    ],
)
def test_marks_that_come_after_hypeman_refuses_pulls_are_pointed_out(
    load: Load, tmp_path: Path, disk: str, limits: str, key: str
) -> None:
    (warning,) = warned(load, tmp_path, f"hmret: {{disk: {{{disk}}}}}\n{limits}\n")
    assert warning.startswith(f"hmret.disk.{key}: hypeman refuses pulls once images take ")
    assert "limits.max_image_storage" in warning


@pytest.mark.parametrize(
    ("disk", "limits"),
    [
        ("max_used: 18%, count: apparent", ""),
        ("max_used: 18%, count: apparent, high_watermark: 85%", ""),
        ("max_used: 1MB, count: apparent", ""),
        ("max_used: 50%, count: apparent", "limits: {max_image_storage: 0.6}"),
        ("high_watermark: 85%", "limits: {max_image_storage: 1}"),
        ("high_watermark: 85%", "limits: {max_image_storage: 0}"),
        ("min_unused_for: 1h", ""),
    ],
)
def test_marks_that_come_before_are_not(load: Load, tmp_path: Path, disk: str, limits: str) -> None:
    assert warned(load, tmp_path, f"hmret: {{disk: {{{disk}}}}}\n{limits}\n") == []
