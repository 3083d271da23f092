"""What a sweep enters into its ledger: journal, listeners, log and counters all say the same."""

import logging

import attrs
import pytest

from hmret.disk.deletion.outcomes import Retired
from hmret.disk.deletion.trash.intents import Copy, Link, entry_in_trash
from hmret.disk.layout import Layout
from hmret.engine.sweep.entries import Entry, Facts
from hmret.engine.sweep.ledger import SweepLedger
from hmret.model.deletion import Failed, Kept
from hmret.model.images import Inventory
from hmret.model.plan.decide import plan
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.times import datetime_of, format_time
from hmret.model.verdicts import Reason
from support.builders import DATA, START_NS, digest
from support.deletions import deletion, intent

ALPINE = "docker.io/library/alpine"
IMAGE = f"{ALPINE}@{digest('a')}"
TIME = format_time(START_NS)
LINK = Link(Layout.LEGACY, ALPINE, "latest", "a" * 64, 5)
GOING = intent(ALPINE, digest("a"), START_NS - 9, "batch.0", LINK, copies=(Copy(ALPINE, 0, "batch.0"),))
GONE = Retired(GOING, (entry_in_trash(GOING),), (LINK,))


class Told:
    """A ledger, and what it has told so far."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "hmret")
        self._caplog = caplog
        self.published: list[Facts] = []
        self.ledger = SweepLedger(START_NS, [], self.published.extend)

    @property
    def logged(self) -> list[tuple[int, str, Facts]]:
        return [(one.levelno, *getattr(one, "hmret_event")) for one in self._caplog.records]  # noqa: B009

    def counts(self) -> dict[str, int]:
        """Return the numbers of the report that are not 0."""
        empty = plan(
            Inventory(repositories={}), Policy.of(RetentionConfig(data_dir=DATA)), datetime_of(START_NS)
        )
        report = self.ledger.report(empty, 0.0)
        numbers = attrs.asdict(report, recurse=False)
        return {name: one for name, one in numbers.items() if isinstance(one, int) and one}


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_an_image_that_has_gone_is_told_alike_everywhere(told: Told) -> None:
    told.ledger.add_deleted(GONE, 4096)
    facts = {
        "reason": "expired",
        "bytes": 4096,
        "unused_since": format_time(START_NS - 9),
        "tags": ["latest"],
    }
    assert told.published == [{"time": TIME, "event": "delete", "image": IMAGE, **facts}]
    assert [*told.published[0]] == ["time", "event", "image", "reason", "bytes", "unused_since", "tags"]
    image = {"repository": ALPINE, "digest": digest("a")}
    assert told.logged == [(logging.INFO, "image_deleted", {**image, **facts})]
    order = ["repository", "digest", "reason", "unused_since", "bytes", "tags"]
    assert [*told.logged[0][2]] == order
    assert told.ledger.take_lines() == told.published
    assert told.ledger.take_lines() == []
    counters = told.ledger.counters
    assert (counters.deletes["success"], counters.deleted["expired"], counters.deleted_bytes) == (1, 1, 4096)
    assert told.counts() == {"deleted_images": 1, "deleted_bytes": 4096}


def test_an_image_that_is_held_frees_nothing_yet(told: Told) -> None:
    told.ledger.add_held(GONE, 4096, "2030-01-01T00:00:00Z")
    assert told.published[0]["quarantined_until"] == "2030-01-01T00:00:00Z"
    assert told.ledger.counters.deleted_bytes == 0
    assert told.counts() == {"deleted_images": 1, "quarantined_images": 1, "quarantined_bytes": 4096}


def test_an_image_that_is_kept_is_logged_and_not_written_down(told: Told) -> None:
    asked = deletion(ALPINE, digest("a"), START_NS)
    told.ledger.add_kept(Kept(asked, Reason.OPEN))
    told.ledger.add_kept(Kept(asked, Reason.BROKEN, "images/x"))
    told.ledger.add_kept(Kept(asked, None))
    assert told.published == []
    assert [(level, event, facts["reason"]) for level, event, facts in told.logged] == [
        (logging.INFO, "image_kept", "open"),
        (logging.WARNING, "image_kept", "broken"),
        (logging.INFO, "image_kept", "gone"),
    ]
    assert told.ledger.counters.deletes["not_found"] == 1
    assert told.counts() == {"open_images": 1}


def test_a_failure_is_logged_as_what_has_failed(told: Told) -> None:
    asked = deletion(ALPINE, digest("a"), START_NS)
    told.ledger.add_failed(Failed(asked, "images/x", PermissionError(13, "denied")))
    facts = {"path": "images/x", "error": "denied", "errno": 13}
    assert told.published == [
        {"time": TIME, "event": "failure", "image": IMAGE, "reason": "deletion_failed", **facts}
    ]
    image = {"repository": ALPINE, "digest": digest("a")}
    assert told.logged == [(logging.ERROR, "deletion_failed", {**image, **facts})]
    assert told.ledger.counters.deletes["error"] == 1
    assert told.counts() == {"failed_deletes": 1}


def test_what_lasts_is_a_warning_under_its_own_name(told: Told) -> None:
    told.ledger.enter(Entry("brake_holds", facts={"detail": "too many"}))
    assert told.published == [{"time": TIME, "event": "brake_holds", "detail": "too many"}]
    assert told.logged == [(logging.WARNING, "brake_holds", {"detail": "too many"})]
