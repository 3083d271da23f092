"""What a sweep reports."""

from hmret.model.report import MarkedUsed, SweepReport, SweepStatus
from support.builders import START


def test_a_report_of_nothing_counts_nothing() -> None:
    report = SweepReport(status=SweepStatus.DISABLED, started_at=START, duration_seconds=0.0)
    assert (report.deleted_images, report.deleted, report.errors, report.suspended) == (0, (), (), ())


def test_a_use_is_a_value() -> None:
    assert MarkedUsed("a", "b", cleared=True) == MarkedUsed("a", "b", cleared=True)
