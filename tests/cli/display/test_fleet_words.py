"""What people are shown of a fleet: the copies elsewhere, and why an image stays for its sake."""

import re
from typing import Any

import attrs
import pytest

from hmret.api.wire.convert_fleet import fleet_document
from hmret.cli.commands import explain as explain_command
from hmret.cli.commands.fleet.display import tell_status
from hmret.cli.display.columns import Column
from hmret.cli.display.listing import beside_fleet
from hmret.cli.display.reasons import describe_reason
from hmret.fleet.overview import EtcdStatus, FleetStatus, LocalStatus, TakenToken
from hmret.model.fleet import FleetSettings, FleetState
from hmret.model.policy.config import RetentionConfig
from hmret.model.verdicts import ACTIONS, Reason, Verdict

COLUMNS = (Column(title="digest", worth=8),)
OF_THE_FLEET = {
    Reason.DUPLICATE_HOST: "copy of this data directory",
    Reason.FLEET_UNREACHABLE: "no session",
    Reason.FLEET_PAUSED: "hmret fleet resume",
    Reason.LAST_COPY: "min_copies",
    Reason.USED_IN_FLEET: "hmret.fleet.hot_for",
    Reason.FLEET_BRAKE: "token",
}


def verdict_with(reason: Reason, **fields: Any) -> Verdict:
    return Verdict(
        **{
            "repository": "docker.io/library/alpine",
            "digest": f"sha256:{'a' * 64}",
            "tags": (),
            "status": "ready",
            "size_bytes": 1,
            "disk_bytes": 1,
            "action": ACTIONS[reason],
            "reason": reason,
            "blockers": (reason,),
            "referenced_by": (),
            "unused_since_ns": 0,
            "expires_at_ns": 0,
            **fields,
        }
    )


@pytest.mark.parametrize(("reason", "words"), OF_THE_FLEET.items())
def test_a_reason_of_the_fleet_is_told_with_what_it_is_about(reason: Reason, words: str) -> None:
    (told,) = describe_reason(reason, verdict_with(reason), (), RetentionConfig(), {})
    assert words in told


def test_where_nothing_is_known_of_a_fleet_a_table_has_no_column_for_it() -> None:
    verdicts = [verdict_with(Reason.EXPIRED), verdict_with(Reason.LATEST)]
    assert beside_fleet(COLUMNS, [["a"], ["b"]], verdicts) == (COLUMNS, [["a"], ["b"]])
    assert beside_fleet(COLUMNS, [], []) == (COLUMNS, [])


def test_a_table_has_the_copies_elsewhere_of_those_of_which_they_are_known() -> None:
    verdicts = [verdict_with(Reason.LAST_COPY, copies_elsewhere=0), verdict_with(Reason.LATEST)]
    columns, rows = beside_fleet(COLUMNS, [["a"], ["b"]], verdicts)
    assert [column.title for column in columns] == ["digest", "elsewhere"]
    assert rows == [["a", "0"], ["b", "-"]]


def test_an_explanation_tells_the_copies_elsewhere_and_the_detail() -> None:
    verdict = verdict_with(
        Reason.LAST_COPY, copies_elsewhere=0, detail="no other live host has a copy; 1 must"
    )
    told = "\n".join(explain_command._tell(verdict, (), RetentionConfig(), {}, enabled=True))
    assert "copies elsewhere  0" in told
    assert "no other live host has a copy; 1 must" in told
    alone = "\n".join(
        explain_command._tell(
            attrs.evolve(verdict, copies_elsewhere=None), (), RetentionConfig(), {}, enabled=True
        )
    )
    assert "copies elsewhere" not in alone


def test_what_only_the_tokens_hold_goes_once_there_is_one() -> None:
    verdict = verdict_with(Reason.FLEET_BRAKE)
    told = list(explain_command._tell(verdict, (), RetentionConfig(), {}, enabled=True))
    assert told[-1] == "a sweep will delete it once this host has a deletion token"


@pytest.mark.parametrize(
    ("is_reached", "words"),
    [(True, "1 of 20 taken"), (False, "20; how many are taken is not known")],
)
def test_a_fleet_whose_etcd_does_not_answer_has_no_number_of_tokens(is_reached: bool, words: str) -> None:
    settings = FleetSettings()
    local = LocalStatus(
        fleet="x", state=FleetState.JOINED, detail=None, host="a", holder=None, settings=settings
    )
    status = FleetStatus(
        fleet="x",
        generation="g",
        settings=settings,
        tokens_taken=(TakenToken(token="03", holder="a"),),
        etcd=EtcdStatus(),
        hosts=(),
        rolled_back=False,
    )
    told = "\n".join(tell_status(fleet_document(local, status if is_reached else None)))
    assert re.findall(r"^tokens +(.*)$", told, re.MULTILINE) == [words]
