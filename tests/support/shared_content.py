"""Inventories in which several repositories have the same content, made of a few words."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hmret.model.images import Cause, ContentOwners, Image, Inventory, Repository, Suspension
from hmret.model.plan.plan import Plan
from hmret.model.references import Key
from hmret.model.verdicts import Reason, Verdict
from model.inventories import ALPINE, DUE_NS, NOW_NS, A, make_image

__all__ = [
    "BASE",
    "BOTH_DUE",
    "HOUR",
    "TOOL",
    "TORN",
    "WAITING",
    "Rows",
    "content",
    "host",
    "reasons",
    "units",
    "verdict",
]

BASE, TOOL = "ghcr.io/kernel/base", "quay.io/team/tool"
HOUR = 3600 * 10**9
WAITING = NOW_NS - 9 * HOUR
Rows = Mapping[Key, int | None]
TORN = Suspension(Cause.UNREADABLE_REFERENCE, "guests/x/metadata.json", "torn")


def content(digest: str = A, **fields: Any) -> Image:
    return make_image(digest, content_name=ALPINE, **fields)


BOTH_DUE = {(ALPINE, A): DUE_NS, (BASE, A): DUE_NS}


def host(states: Rows, images: Mapping[Key, Image] | None = None, **fields: Any) -> Inventory:
    """Make a cache of content alone, unless `images` say otherwise, of the rows for which there are states; -1: there is none."""
    rows = {key: (images or {}).get(key, content(key[1])) for key in states}
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for name, digest in sorted(rows):
        if rows[name, digest].is_content:
            owners[digest].append(name)
    repositories = {
        name: Repository(
            name,
            {key[1]: image for key, image in rows.items() if key[0] == name},
            fields.get("tags", {}).get(name, {}),
            shared={
                digest: tuple(names) for digest, names in owners.items() if len(names) > 1 and name in names
            },
            unready=fields.get("unready", {}).get(name, {}),
        )
        for name, _ in rows
    }
    return Inventory(
        repositories=repositories,
        states={key: since_ns for key, since_ns in states.items() if since_ns != -1},
        contents=ContentOwners({digest: tuple(names) for digest, names in owners.items()}),
        **{name: value for name, value in fields.items() if name not in ("tags", "unready")},
    )


def reasons(found: Plan, digest: str = A) -> dict[str, Reason]:
    return {one.repository: one.reason for one in found.verdicts if one.digest == digest}


def verdict(found: Plan, name: str, digest: str = A) -> Verdict:
    one = found.verdict(name, digest)
    assert one is not None
    return one


def units(found: Plan) -> list[list[Key]]:
    return [[(one.repository, one.digest) for one in rows] for rows in found.units]
