"""A keeper does its steps in the order that the explorer goes through: what it sends, and what is on record by then."""

from collections.abc import Sequence
from typing import TypeGuard

import anyio

from fleet.exploring.mutants import Program
from fleet.exploring.search import Setup, next_steps
from fleet.exploring.worlds import World
from hmret.fleet.store import Delete, Put, Txn
from hmret.model.records.fleet import MarkAge
from support.builders import digest
from support.fleet_hosts import Fleet, Host
from support.fleet_keys import KEYS
from support.memory_client import Fate, Request

D = digest("d")

Sending = tuple[str, str, bool]
"""What is sent, what is on record of the digest by then, and whether the mark that is put is on record."""


class Witness:
    """Writes down what a host sends, and what is on its disk at that moment."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.sendings: list[Sending] = []

    async def look(self, request: Request) -> Fate:
        kind = kind_of(request)
        if kind is not None:
            assert isinstance(request, Txn)
            with self._host.record() as record:
                standing = record.standing(D)
                marks = [each.value for each in request.success if is_put_below(each, KEYS.marks)]
                known = all(record.age_of(mark) is not MarkAge.UNKNOWN for mark in marks)
            self.sendings.append((kind, "" if standing is None else standing.value, known))
        return Fate.DONE


def is_put_below(operation: object, prefix: str) -> TypeGuard[Put]:
    return isinstance(operation, Put) and operation.key.startswith(prefix)


def kind_of(request: Request) -> str | None:
    """Tell what a request is to the explorer; None: nothing that it knows, or a read."""
    if not isinstance(request, Txn):
        return None
    for kind, prefix in (("join", KEYS.sessions), ("live", KEYS.lives), ("register", KEYS.holdings)):
        if any(is_put_below(each, prefix) for each in request.success):
            return kind
    if any(isinstance(each, Delete) and KEYS.holding_of(each.key) for each in request.success):
        return "release" if any(each.key == KEYS.settings for each in request.compares) else "out"
    return "settle" if any(is_put_below(each, KEYS.marks) for each in request.success) else None


def explored(labels: Sequence[str]) -> list[Sending]:
    """Have the explorer's first host take the steps that begin so, and those between that have no choice."""
    setup = Setup(((1,), (1,)), {"losses": 1}, Program(releasing=frozenset((0,))), joined=frozenset((1,)))
    world, sendings = setup.begin(), []
    for label in labels:
        for _ in range(20):
            steps = [each for each in next_steps(world, setup) if each.label.startswith("place 0: ")]
            chosen = [each for each in steps if each.label == f"place 0: {label}"]
            if chosen or not steps:
                break
            sendings += sending_of(world)
            world = steps[0].world
        assert chosen, (label, [each.label for each in steps])
        sendings += sending_of(world)
        world = chosen[0].world
    return sendings


def sending_of(world: World) -> list[Sending]:
    """Tell what the first host is about to send, if that is its next step."""
    place = world.places[0]
    assert place is not None
    mind, record = place.mind, place.record
    if mind is None or mind.sent is None or mind.step.startswith("note_"):
        return []
    assert record is not None
    marks = [value for _, key, value, _ in mind.sent.operations if key.split("/")[1] == "e"]
    on_record = [mark for mark, _ in record.marks]
    return [(mind.sent.kind, record.digests[0], all(mark in on_record for mark in marks))]


async def test_a_keeper_sends_what_is_explored_when_the_record_says_what_is_explored(fleet: Fleet) -> None:
    async with fleet.host("a").running() as host, fleet.host("b").running() as other:
        witness = Witness(host)
        host.client.fate = witness.look
        await other.join(D)
        await host.join(D)
        (outcome,) = (await host.keeper.release([D])).values()
        assert outcome.is_released
        await host.keeper.give_back([D])
        await anyio.sleep(1)
        host.images.clear()
        await host.sweep()
        with host.record() as record:
            assert record.digests == {}
    assert witness.sendings == [
        ("join", "", True),
        ("register", "?", True),
        ("live", "+", True),
        ("release", "?", True),
        ("settle", "?", True),
        ("register", "?", True),
        ("out", "+", True),
    ]
    assert witness.sendings == explored(
        (
            "starts",
            "goes live: done",
            "reads that D may go",
            "notes that D is released",
            "keeps D after all",
            "notes that D is registered",
            "somebody deletes",
            "notes that D is out",
        )
    )
