"""Whole engines of a fleet that race: some seeds, and that a fault of the protocol is caught by them."""

import os
from collections.abc import Iterable

import pytest

from hmret.actors.fleet import releasing
from hmret.fleet.store import Txn
from hmret.fleet.transactions import release
from simulation.chronicle import Breach
from simulation.fleet_run import FleetOutcome, run_fleet_seed

SEEDS = range(60) if os.environ.get("HMRET_PROVE") else (0, 2)


def run_all(seeds: Iterable[int]) -> list[FleetOutcome]:
    return [run_fleet_seed(seed) for seed in seeds]


def test_what_counts_is_there_and_enough_copies_stay_in_each_seed() -> None:
    outcomes = run_all(SEEDS)
    assert sum(outcome.releases for outcome in outcomes) >= sum(outcome.deletions for outcome in outcomes) > 0
    assert sum(outcome.kills for outcome in outcomes) > len(SEEDS)
    assert sum(outcome.copies for outcome in outcomes) > 0
    assert outcomes[0] == run_fleet_seed(SEEDS[0]), "a seed is the same run each time"


def test_releases_that_compare_no_witness_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_witnesses(*arguments: object, **named: object) -> Txn:
        txn: Txn = release(*arguments, **named)  # type: ignore[arg-type]  # whatever it is called with
        kept = tuple(each for each in txn.compares if not {"d", "l", "drain"} & set(each.key.split("/")[5:6]))
        return Txn(kept, txn.success, txn.failure)

    monkeypatch.setattr(releasing, "release", without_witnesses)
    with pytest.raises(Breach, match=r"count|left"):
        run_all(range(20))
