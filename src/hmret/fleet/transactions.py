"""What a host writes into the store, as transactions: what each compares, and what it changes.

Pure: from what was read to a `Txn`. Every write of a session compares the generation and the id of the session
(`Session.fence`), so whatever an earlier session has sent and may still arrive is refused.
"""

from collections.abc import Collection, Mapping, Sequence

from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.reading import CopyRead, FleetRead, HolderRead, read_operations
from hmret.fleet.store import Compare, Delete, Operation, Put, Range, Txn, absent, exists, mod_is, value_is
from hmret.fleet.stored_values import encode_holding, encode_notice, encode_use
from hmret.model.values import frozen

MOST_HOLDINGS = 120
"""Copies in one transaction: a few less than the operations that etcd allows in one."""
MOST_USES = 60
"""Uses in one transaction: each is a transaction of its own in it."""


@frozen
class Session:
    """A holder's session: what it is known by in the store."""

    keys: FleetKeys
    holder: str
    id: str
    """The mark of its join."""
    lease: int = 0

    @property
    def fence(self) -> tuple[Compare, ...]:
        """The conditions of each own write: the generation and the session are still these."""
        # guard(own-writes-are-fenced): What an earlier session has sent may arrive at any later time, such as a
        # registration of a copy that was released since.
        return (_generation_stands(self.keys), value_is(self.keys.session(self.holder), self.id))

    @property
    def token_value(self) -> str:
        """What stands in a token that this session has taken."""
        return f"{self.holder} {self.id}"


def _generation_stands(keys: FleetKeys) -> Compare:
    return value_is(generation_key(keys.fleet), keys.generation)


def end_former_session(keys: FleetKeys, holder: str, found: HolderRead) -> Txn:
    """Build the transaction that ends the session of the holder that this data directory is giving up.

    Otherwise its copies would count for as long as its lease lasts.
    """
    return Txn(
        (_generation_stands(keys), mod_is(keys.session(holder), found.session_revision)),
        (Delete(keys.session(holder)), Delete(keys.live(holder))),
    )


def join(session: Session, found: HolderRead) -> Txn:
    """Build the transaction that begins a session, if the session and the mark in the store are still those read.

    What an earlier session made live is not live until this one has corrected what it has registered.
    """
    keys, holder = session.keys, session.holder
    compares = [_generation_stands(keys)]
    # guard(join-compares-session): A copy of this data directory may have begun a session since the read.
    compares.append(mod_is(keys.session(holder), found.session_revision))
    # guard(join-compares-mark): What that copy has registered since the read is on no record here.
    compares.append(mod_is(keys.mark(holder), found.mark_revision))
    begun: list[Operation] = [
        Put(keys.session(holder), session.id, session.lease),
        Put(keys.mark(holder), session.id),
    ]
    # guard(join-ends-live): What an earlier session has registered may be gone since.
    begun.append(Delete(keys.live(holder)))
    return Txn(tuple(compares), tuple(begun))


def go_live(session: Session, summary: str) -> Txn:
    """Build the transaction that ends a join: what is registered is here, so it counts."""
    keys, holder = session.keys, session.holder
    return Txn(
        session.fence,
        (Put(keys.live(holder), "1", session.lease), Put(keys.summary(holder), summary)),
    )


@frozen
class NewMark:
    """A mark that a session puts into the store in place of its last one."""

    mark: str
    """It is on record, durably."""
    last_mark: str
    """The one that this session put there before: when it joined, or changed what is registered."""


def _replace_mark(session: Session, marks: NewMark) -> tuple[Compare, Put]:
    """Return the condition and the operation by which a new mark is put into the store.

    The mark tells later whether a record knows of what was registered, taken out or released with it.
    """
    key = session.keys.mark(session.holder)
    # guard(mark-replaces-the-last): Another mark shows that the store was put back to an earlier state, with this
    # session alive in it. It stays there for the next join to find.
    stands = value_is(key, marks.last_mark)
    return stands, Put(key, marks.mark)


def register(session: Session, copies: Mapping[str, int], marks: NewMark, now_ns: int) -> Txn:
    """Build the transaction that registers up to `MOST_HOLDINGS` copies, by digest, with their bytes.

    They are on record, durably.
    """
    keys, holder = session.keys, session.holder
    puts = [
        Put(keys.holding(digest, holder), encode_holding(size, now_ns)) for digest, size in copies.items()
    ]
    stands, mark = _replace_mark(session, marks)
    return Txn((*session.fence, stands), (*puts, mark))


def take_out(session: Session, digests: Collection[str], marks: NewMark) -> Txn:
    """Build the transaction that takes up to `MOST_HOLDINGS` copies that are not here out of the count."""
    keys, holder = session.keys, session.holder
    stands, mark = _replace_mark(session, marks)
    return Txn(
        (*session.fence, stands), (*(Delete(keys.holding(digest, holder)) for digest in digests), mark)
    )


def settle_releases(session: Session, digests: Collection[str], marks: NewMark) -> Txn:
    """Build the transaction that marks up to `MOST_HOLDINGS` releases that have been granted, if none is undone.

    Until it has committed they stand on record as open, so that a join takes out what may have come back.
    """
    keys, holder = session.keys, session.holder
    stands, mark = _replace_mark(session, marks)
    # guard(undone-releases-stay-open): A store that was put back in between counts these copies again.
    gone = tuple(absent(keys.holding(digest, holder)) for digest in digests)
    return Txn((*session.fence, stands, *gone), (mark,))


def check_registered(session: Session, digests: Collection[str]) -> Txn:
    """Build the transaction that checks which of up to `MOST_HOLDINGS` copies are registered."""
    keys, holder = session.keys, session.holder
    return Txn((), tuple(Range(keys.holding(digest, holder), keys_only=True) for digest in digests))


def release(session: Session, copy: CopyRead, read: FleetRead, witnesses: Sequence[str], token: int) -> Txn:
    """Build the transaction that releases a copy: it no longer counts, if all that was read about it still holds.

    Args:
        session: the session that releases.
        copy: what was read about the digest.
        read: what was read about the fleet.
        witnesses: other holders of the digest, as many as there must be.
        token: the deletion token that the session has taken.

    If it is refused, the answer has the same reading as it is now (`read_operations`).
    """
    keys, digest = session.keys, copy.digest
    compares = [*session.fence]
    # guard(release-compares-settings): Once `pause` has returned, nothing more is released anywhere.
    compares.append(mod_is(keys.settings, read.settings_revision))
    # guard(release-compares-rolled-back): What a store that was restored from a backup counts may be gone.
    compares.append(absent(keys.rolled_back))
    # guard(release-compares-use): A use that another host tells in between may make the image hot.
    compares.append(mod_is(keys.used(digest), copy.used_revision))
    # guard(release-compares-token): A token that is over stands for another host's releases by now.
    compares.append(value_is(keys.token(token), session.token_value))
    for witness in witnesses:
        # guard(release-compares-witness): Of two hosts that release at the same time only one may succeed.
        compares.append(mod_is(keys.holding(digest, witness), copy.revision_of(witness)))
        # guard(release-compares-live): What a host that is dead has registered may be lost with it.
        compares.append(exists(keys.live(witness)))
        # guard(release-compares-drain): A host that is to be emptied keeps nothing.
        compares.append(absent(keys.drain(witness)))
    gone: list[Operation] = [Delete(keys.holding(digest, session.holder))]
    if copy.is_last(session.holder):
        gone.append(Delete(keys.used(digest)))
    return Txn(
        tuple(compares), tuple(gone), read_operations(session.keys, session.holder, (digest,), token=token)
    )


def tell_uses(session: Session, uses: Mapping[str, int], resolution: int) -> Txn:
    """Build the transaction that records up to `MOST_USES` last uses, each only where it is news.

    Args:
        session: the session that tells.
        uses: by digest, in seconds since the epoch.
        resolution: by how many seconds a use must be later than the one recorded, so that many hosts with
            one image write it once.
    """
    return Txn(
        session.fence, tuple(_tell_use(session.keys, digest, at, resolution) for digest, at in uses.items())
    )


def _tell_use(keys: FleetKeys, digest: str, at: int, resolution: int) -> Txn:
    # With no use recorded yet, no comparison of its value holds, so the other branch writes.
    threshold = max(at - resolution, 0)
    known = Compare(keys.used(digest), "VALUE", "GREATER", encode_use(max(threshold - 1, 0)))
    return Txn((known,), (), (Put(keys.used(digest), encode_use(at)),))


def take_token(session: Session, number: int, lease: int, policy: str) -> Txn:
    """Build the transaction that takes a free deletion token, under a lease that nobody renews.

    A policy that is new to the fleet may only take token 0.
    """
    keys = session.keys
    compares = [*session.fence]
    # guard(token-is-free): No two hosts delete under one token.
    compares.append(absent(keys.token(number)))
    # guard(young-policy-takes-token-zero): A new setting meets one host first.
    if number:
        compares += [exists(keys.policy(policy)), absent(keys.young(policy))]
    return Txn(tuple(compares), (Put(keys.token(number), session.token_value, lease),))


def introduce_policy(session: Session, policy: str, lease: int) -> Txn:
    """Build the transaction that records a new policy; it is young while the lease lasts (0: it is never young)."""
    keys = session.keys
    young = (Put(keys.young(policy), session.holder, lease),) if lease else ()
    return Txn(
        (*session.fence, absent(keys.policy(policy))), (Put(keys.policy(policy), session.holder), *young)
    )


def tell_summary(session: Session, summary: str) -> Txn:
    """Build the transaction that writes what a holder tells of itself."""
    return Txn(session.fence, (Put(session.keys.summary(session.holder), summary),))


def note_rolled_back(keys: FleetKeys, host: str, now_ns: int) -> Txn:
    """Build the transaction that records that revisions went back: all hosts stop deleting until `hmret fleet reset`."""
    return Txn(
        (_generation_stands(keys), absent(keys.rolled_back)),
        (Put(keys.rolled_back, encode_notice(host, now_ns)),),
    )


def is_dead(session: Session, holder: str, summary_revision: int) -> tuple[Compare, ...]:
    """Return the conditions of forgetting a holder: it has not come back, nor told anything, since it was read."""
    keys = session.keys
    # guard(forget-dead-only): A host that has come back would have to register everything again.
    away = (
        absent(keys.live(holder)),
        absent(keys.session(holder)),
        mod_is(keys.summary(holder), summary_revision),
    )
    return (*session.fence, *away)
