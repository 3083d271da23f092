"""Comparisons and judgements of the fleet's protocol, taken away one at a time."""

from mutations.mutation import DROP, NEVER, Become, Mutation, Swap, edit

__all__ = ["PROTOCOL_MUTATIONS"]

TRANSACTIONS = ("tests/fleet/test_transactions.py",)
READING = ("tests/fleet/test_reading.py",)

PROTOCOL_MUTATIONS: tuple[Mutation, ...] = (
    edit(
        "carry out what an earlier session has sent",
        "own-writes-are-fenced",
        Swap(", value_is(self.keys.session(self.holder), self.id)", ","),
        TRANSACTIONS,
    ),
    edit("join beside a session that has begun since", "join-compares-session", DROP, TRANSACTIONS),
    edit("join beside what was registered since", "join-compares-mark", DROP, TRANSACTIONS),
    edit("count what an earlier session has registered", "join-ends-live", DROP, TRANSACTIONS),
    edit("release though the fleet was paused", "release-compares-settings", DROP, TRANSACTIONS),
    edit("release by what a restored store counts", "release-compares-rolled-back", DROP, TRANSACTIONS),
    edit("release what was used in between", "release-compares-use", DROP, TRANSACTIONS),
    edit("release by a token that is over", "release-compares-token", DROP, TRANSACTIONS),
    edit("release by a copy that was released", "release-compares-witness", DROP, TRANSACTIONS),
    edit("release by the copy of a dead host", "release-compares-live", DROP, TRANSACTIONS),
    edit("release by the copy of a drained host", "release-compares-drain", DROP, TRANSACTIONS),
    edit("take a token that is taken", "token-is-free", DROP, TRANSACTIONS),
    edit("let a young policy take any token", "young-policy-takes-token-zero", NEVER, TRANSACTIONS),
    edit("forget a host that has come back", "forget-dead-only", Become("away = ()"), TRANSACTIONS),
    edit("have a session beside that of a copy", "copied-directory-has-no-session", NEVER, READING),
    edit(
        "believe the record of a host that was forgotten",
        "forgotten-host-registers-all",
        Swap("has_done_mark", "False"),
        READING,
    ),
    edit(
        "believe a record that does not know the last mark", "unknown-mark-is-another-holder", NEVER, READING
    ),
    edit(
        "believe a store that has an old mark",
        "older-mark-is-a-restore",
        Swap("age_of(found.mark) is MarkAge.OUTDATED", "False"),
        READING,
    ),
    edit("release by settings that cannot be read", "unread-settings-release-nothing", NEVER, READING),
    edit("release in a fleet that is paused", "paused-fleet-releases-nothing", NEVER, READING),
    edit("release a last copy", "release-needs-witnesses", NEVER, READING),
)
