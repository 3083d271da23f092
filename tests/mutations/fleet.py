"""Checks that keep what a host has told the fleet on record, taken away one at a time; and comparisons of the protocol
that the explorer of every interleaving misses.
"""

from mutations.mutation import DROP, NEVER, Become, Mutation, Swap, edit

__all__ = ["FLEET_MUTATIONS"]

RECORD = ("tests/disk/records/test_fleet_record.py",)
EXPLORER = ("tests/fleet/test_exploring.py",)
JOINING = ("tests/actors/fleet/test_joining.py",)

FLEET_MUTATIONS: tuple[Mutation, ...] = (
    edit("forget the last mark that is done", "last-done-mark-stays", NEVER, RECORD),
    edit(
        "take a mark of another record for one's own",
        "unknown-mark-is-another-record",
        Become("if mark not in marks:\n    return MarkAge.CURRENT"),
        RECORD,
    ),
    edit(
        "take an old mark for the current one",
        "old-mark-is-an-old-store",
        Become("if False and last_done is not None and marks:\n    return MarkAge.OUTDATED"),
        RECORD,
    ),
    edit("read a line that was cut off", "torn-line-is-none", Become("whole = content"), RECORD),
    edit("believe a record that cannot be read", "unreadable-record-is-not-believed", NEVER, RECORD),
    edit("ask etcd before the record is durable", "record-is-synced-before-requests", Become("pass"), RECORD),
    edit(
        "append to whatever file is there",
        "append-to-own-record-only",
        Become("if True:\n    return fd"),
        RECORD,
    ),
    edit("follow a link to the record", "no-links-for-the-record", Swap(" | os.O_NOFOLLOW", ""), RECORD),
    edit(
        "explored: carry out what an earlier session has sent",
        "own-writes-are-fenced",
        Swap(", value_is(self.keys.session(self.holder), self.id)", ","),
        EXPLORER,
    ),
    edit(
        "explored: join beside what was registered since",
        "join-compares-mark",
        DROP,
        EXPLORER,
    ),
    edit(
        "explored: put a mark over any other",
        "mark-replaces-the-last",
        Become("stands = session.fence[0]"),
        EXPLORER,
        JOINING,
    ),
    edit(
        "explored: settle releases that are undone",
        "undone-releases-stay-open",
        Become("gone = ()"),
        EXPLORER,
    ),
    edit("do not look at the mark", "look-notices-old-mark", NEVER, JOINING),
    edit("explored: count what an earlier session has registered", "join-ends-live", DROP, EXPLORER),
    edit("explored: release by a copy that was released", "release-compares-witness", DROP, EXPLORER),
    edit("explored: release by the copy of a dead host", "release-compares-live", DROP, EXPLORER),
    edit(
        "explored: believe a record that does not know the last mark",
        "unknown-mark-is-another-holder",
        NEVER,
        EXPLORER,
    ),
)
