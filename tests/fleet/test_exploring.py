"""The protocol of the fleet over every interleaving: it keeps its promises, and each mutant of it breaks one."""

import pytest

from fleet.exploring.mutants import MUTANTS
from fleet.exploring.scenarios import DEATHS, SMALL, mutated
from fleet.exploring.search import explore


@pytest.mark.parametrize("name", SMALL)
def test_no_interleaving_breaks_a_promise(name: str) -> None:
    found = explore(SMALL[name])
    assert found.problem is None, "\n".join((found.problem, *found.trace))
    assert found.is_whole
    assert found.steps > 40


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_of_the_protocol_breaks_a_promise(mutant: str) -> None:
    _, promise, steps = DEATHS[mutant]
    found = explore(mutated(mutant))
    assert found.problem is not None, f"{mutant} survives: {MUTANTS[mutant]}"
    assert found.problem.startswith(promise)
    assert len(found.trace) == steps, "\n".join((found.problem, *found.trace))
