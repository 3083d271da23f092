"""What a fleet has done, looked up in etcd's history: every key as it was at each revision."""

import json
from base64 import b64decode, b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import httpx2

from hmret.fleet.keys import FleetKeys
from hmret.fleet.store import KeyValue, prefix_end
from hmret.model.values import frozen
from support.memory_store import Change
from support.patience import PATIENCE

__all__ = ["Release", "judge_releases", "read_history", "releases_in"]


def read_history(endpoint: str, prefix: str, until: int) -> list[Change]:
    """Read all changes of the keys with a prefix, up to a revision at which one of them was changed."""

    def encoded(text: str) -> str:
        return b64encode(text.encode()).decode()

    request = {"key": encoded(prefix), "range_end": encoded(prefix_end(prefix)), "start_revision": "1"}
    changes: list[Change] = []
    with (
        httpx2.Client(timeout=PATIENCE, trust_env=False) as client,
        client.stream("POST", f"{endpoint}/v3/watch", json={"create_request": request}) as response,
    ):
        for line in response.iter_lines():
            result = json.loads(line)["result"]
            assert not result.get("canceled"), result
            changes.extend(map(_change, result.get("events", ())))
            if changes and changes[-1].revision >= until:
                return [change for change in changes if change.revision <= until]
    raise AssertionError("etcd ended its history")


def _change(event: Mapping[str, Any]) -> Change:
    found = event["kv"]
    key, revision = b64decode(found["key"]).decode(), int(found["mod_revision"])
    if event.get("type") == "DELETE":
        return Change(revision, key, None)
    value = b64decode(found.get("value", "")).decode()
    created, lease = int(found["create_revision"]), int(found.get("lease", "0"))
    return Change(revision, key, KeyValue(key, value, created, revision, int(found["version"]), lease))


@frozen
class Release:
    """A copy that was taken out of the count by a release."""

    revision: int
    key: str
    has_changed: bool = True
    """Whether the copy counted until then; one that was not registered yet is released without a change."""


def releases_in(changes: Iterable[Change], log: Iterable[Mapping[str, object]]) -> list[Release]:
    """Find the releases that were carried out: those that were answered, and those whose answer nobody has heard.

    Args:
        changes: of the whole fleet.
        log: what its hosts have noted, as `support.field_hosts` has it.
    """
    answered: set[tuple[str, int]] = set()
    open_of: Counter[object] = Counter()
    for line in log:
        match line["event"]:
            case "asked":
                open_of[line["key"]] += 1
            case "released":
                open_of[line["key"]] -= 1
                answered.add((str(line["key"]), int(str(line["revision"]))))
            case "refused":
                open_of[line["key"]] -= 1
    releases = []
    for change in changes:
        if change.now is not None:
            continue
        if (change.key, change.revision) in answered or open_of[change.key] > 0:
            answered.discard((change.key, change.revision))
            releases.append(Release(change.revision, change.key))
    releases += [Release(revision, key, has_changed=False) for key, revision in answered]
    return releases


def judge_releases(
    changes: Sequence[Change], releases: Sequence[Release], keys: FleetKeys, least: int
) -> Iterator[str]:
    """List what is wrong with releases, by what etcd held right before each.

    Args:
        changes: of the whole fleet, from the first on.
        releases: those to judge.
        keys: of the fleet's generation.
        least: how many counted copies each host wants elsewhere.
    """
    due = {(release.revision, release.key) for release in releases if release.has_changed}
    without_change = sorted(
        ((release.revision, release.key) for release in releases if not release.has_changed), reverse=True
    )
    state: dict[str, KeyValue] = {}
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for revision, group in groupby(changes, key=lambda change: change.revision):
        # What changed nothing saw the store as it was after the last change.
        while without_change and without_change[-1][0] < revision:
            seen_at, key = without_change.pop()
            yield from _judge(state, holders, keys, key, seen_at, least)
        at_once = list(group)
        for change in at_once:
            if (revision, change.key) in due:
                yield from _judge(state, holders, keys, change.key, revision, least)
        for change in at_once:
            if change.now is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.now
            held = keys.holding_of(change.key)
            if held is not None:
                digest, holder = held
                (holders[digest].discard if change.now is None else holders[digest].add)(holder)
    for revision, key in without_change:
        yield from _judge(state, holders, keys, key, revision, least)


def _judge(
    state: Mapping[str, KeyValue],
    holders: Mapping[str, set[str]],
    keys: FleetKeys,
    key: str,
    revision: int,
    least: int,
) -> Iterator[str]:
    held = keys.holding_of(key)
    assert held is not None
    digest, holder = held
    settings = json.loads(state[keys.settings].value)
    counted = [
        other
        for other in holders[digest] - {holder}
        if keys.live(other) in state and keys.drain(other) not in state
    ]
    wanted = max(least, settings["min_copies"])
    if len(counted) < wanted:
        yield f"revision {revision}: {holder} released {digest}, and {len(counted)} others count, not {wanted}"
    if settings["paused"] is not None:
        yield f"revision {revision}: {holder} released {digest} while the fleet was paused"
    if keys.rolled_back in state:
        yield f"revision {revision}: {holder} released {digest} after a restore was noticed"
    session = state.get(keys.session(holder))
    token = f"{holder} {session.value if session is not None else '?'}"
    if not any(found.value == token for name, found in state.items() if keys.token_of(name) is not None):
        yield f"revision {revision}: {holder} released {digest} without a token of its session"
