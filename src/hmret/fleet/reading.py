"""What a host reads from the store, and what follows from it: whether it may join, and whether a copy may go.

Pure: requests as operations, and what their results say. What cannot be read is never taken for absent.
"""

import enum
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Self

from hmret.fleet.keys import FleetKeys, all_below, generation_key
from hmret.fleet.settings import decode_settings
from hmret.fleet.store import KeyValue, Operation, Range, RangeResult, Result
from hmret.fleet.stored_values import read_holding, read_use
from hmret.model.fleet import CopyFacts, CopyRules, FleetSettings, ReleaseOutcome
from hmret.model.records.fleet import MarkAge
from hmret.model.values import frozen
from hmret.model.verdicts import Reason

ROLLED_BACK = "etcd was restored from a backup: run hmret fleet reset"
UNREADABLE = ReleaseOutcome(Reason.FLEET_UNREACHABLE, "the settings of the fleet in etcd cannot be read")

MOST_DIGESTS = 60
"""Digests in one reading."""
_MOST_HOLDERS = 64
"""Holders of one digest that are read, its last use included."""


@frozen
class HolderRead:
    """What the store has of one holder, before it joins."""

    session: str | None
    """The id of its session, whose lease has not ended; None: it has none."""
    session_revision: int
    mark: str | None
    """The last mark; None: it never joined, or was forgotten."""
    mark_revision: int
    is_rolled_back: bool
    """Whether a host has seen revisions go back."""
    settings: FleetSettings | None
    """None: they cannot be read."""

    @classmethod
    def of(cls, results: Sequence[Result]) -> Self:
        """Read the results of `holder_operations`."""
        session, mark, rolled_back, settings = (one(result) for result in results)
        return cls(
            None if session is None else session.value,
            _revision(session),
            None if mark is None else mark.value,
            _revision(mark),
            rolled_back is not None,
            settings_of(settings),
        )


def holder_operations(keys: FleetKeys, holder: str) -> tuple[Operation, ...]:
    """Return the requests for what the store has of a holder."""
    return (
        Range(keys.session(holder)),
        Range(keys.mark(holder)),
        Range(keys.rolled_back),
        Range(keys.settings),
    )


class JoinStep(enum.Enum):
    """What a host does, given what the store has of its holder."""

    JOIN = enum.auto()
    REGISTER_ALL = enum.auto()
    """It was forgotten: whatever is on record may be registered or not; then join."""
    NEW_HOLDER = enum.auto()
    """The store may count copies that this record does not know: take a new cache id, and begin again."""
    DUPLICATE = enum.auto()
    """A copy of this data directory has the session: have none while it lives."""
    ROLLED_BACK = enum.auto()
    """The store was restored from a backup: have no session until it is reset."""


def judge_join(
    found: HolderRead,
    *,
    age_of: Callable[[str], MarkAge],
    has_done_mark: bool,
) -> JoinStep:
    """Judge whose record this data directory has.

    Args:
        found: what stands in the store.
        age_of: how a mark relates to the record of this data directory.
        has_done_mark: whether the record knows of a mark of this generation that was written.
    """
    # guard(copied-directory-has-no-session): Two hosts with one record would take each other's copies for theirs.
    if found.session is not None and age_of(found.session) is MarkAge.UNKNOWN:
        return JoinStep.DUPLICATE
    if found.mark is None:
        # guard(forgotten-host-registers-all): What its record has as registered no longer is.
        return JoinStep.REGISTER_ALL if has_done_mark else JoinStep.JOIN
    # guard(unknown-mark-is-another-holder): The store counts what the host of this mark has registered since this
    # directory was copied, or the backup of it was made.
    if age_of(found.mark) is MarkAge.UNKNOWN:
        return JoinStep.NEW_HOLDER
    # guard(older-mark-is-a-restore): A copy that was released after the store's backup counts again.
    return JoinStep.ROLLED_BACK if age_of(found.mark) is MarkAge.OUTDATED else JoinStep.JOIN


@frozen
class FleetRead:
    """What was read about the fleet at one moment."""

    is_in_session: bool
    """Whether the generation and the session are still those of the reader."""
    settings: FleetSettings | None
    """None: they cannot be read."""
    settings_revision: int
    is_rolled_back: bool
    token: str | None
    """Who has the deletion token that was asked for; None: nobody."""
    live: frozenset[str]
    """The holders that are ready in a session; what they have registered counts unless they are drained."""
    drained: frozenset[str]
    """The holders that are to be emptied."""

    def counts(self, holder: str) -> bool:
        """Return whether what a holder has registered counts."""
        return holder in self.live and holder not in self.drained


@frozen
class CopyRead:
    """What was read about one digest."""

    digest: str
    used: str | None
    used_revision: int
    """0: no use is noted."""
    holdings: Mapping[str, KeyValue]
    """By holder; of very many the first."""
    has_more: bool

    @classmethod
    def of(cls, keys: FleetKeys, digest: str, result: RangeResult) -> Self:
        """Read what was found below a digest."""
        used = next((found for found in result.key_values if keys.used_of(found.key) == digest), None)
        holdings = {
            holding[1]: found
            for found in result.key_values
            if (holding := keys.holding_of(found.key)) is not None and holding[0] == digest
        }
        return cls(digest, None if used is None else used.value, _revision(used), holdings, result.more)

    def revision_of(self, holder: str) -> int:
        """Return when a holder's copy was last registered, as a revision."""
        return self.holdings[holder].mod_revision

    def is_last(self, holder: str) -> bool:
        """Return whether no other holder has a copy, dead ones included."""
        return not self.has_more and not set(self.holdings) - {holder}

    def witnesses(self, read: FleetRead, holder: str) -> list[str]:
        """List the other holders whose copies count, in the order in which everyone names them."""
        others = [other for other in self.holdings if other != holder and read.counts(other)]
        return sorted(others, key=self._place)

    def facts(self, read: FleetRead, holder: str) -> CopyFacts:
        """Return what this means for the copy of a holder."""
        counted = self.witnesses(read, holder)
        times = [read_holding(found.value)[1] for found in self.holdings.values()]
        return CopyFacts(
            counted_elsewhere=len(counted),
            holders=tuple(sorted(counted)),
            uncounted=tuple(sorted({*self.holdings} - {*counted, holder})),
            last_used=read_use(self.used),
            newest_registered=max((time for time in times if time is not None), default=None),
        )

    def _place(self, holder: str) -> bytes:
        # All hosts name the same witnesses of a digest, so few transactions fail because of a copy that nobody
        # needed, and of different digests different ones.
        return hashlib.sha256(f"{self.digest}/{holder}".encode()).digest()


def read_operations(
    keys: FleetKeys, holder: str, digests: Iterable[str], *, token: int, hosts: bool = True
) -> tuple[Operation, ...]:
    """Return the requests for what is known of some digests, at most `MOST_DIGESTS`, and of the fleet.

    Args:
        keys: the names of the keys.
        holder: who asks.
        digests: the digests.
        token: the number of the deletion token that the session has, or any.
        hosts: whether the holders that are live and drained are asked for.
    """
    return (
        Range(generation_key(keys.fleet)),
        Range(keys.session(holder)),
        Range(keys.settings),
        Range(keys.rolled_back, keys_only=True),
        Range(keys.token(token)),
        *((all_below(keys.lives, keys_only=True), all_below(keys.drains, keys_only=True)) if hosts else ()),
        *(all_below(keys.copies(digest), limit=_MOST_HOLDERS) for digest in digests),
    )


def parse_reading(
    keys: FleetKeys,
    session: str,
    digests: Sequence[str],
    results: Sequence[Result],
    *,
    holder: str,
    hosts: FleetRead | None = None,
) -> tuple[FleetRead, dict[str, CopyRead]]:
    """Read the results of `read_operations`; `hosts`: the reading that has the holders, if these have not."""
    generation, mine, settings, rolled_back, token, *rest = (_found(result) for result in results)
    if hosts is None:
        live, drained = (_holders(keys, result) for result in rest[:2])
        rest = rest[2:]
    else:
        live, drained = hosts.live, hosts.drained
    found_generation = generation.value(generation_key(keys.fleet))
    read = FleetRead(
        found_generation == keys.generation and mine.value(keys.session(holder)) == session,
        settings_of(one(settings)),
        _revision(one(settings)),
        bool(rolled_back.key_values),
        None if (taken := one(token)) is None else taken.value,
        live,
        drained,
    )
    copies = {digest: CopyRead.of(keys, digest, result) for digest, result in zip(digests, rest, strict=True)}
    return read, copies


def judge_release(
    copy: CopyRead,
    read: FleetRead,
    rules: CopyRules,
    holder: str,
    now: datetime,
    *,
    is_for_space: bool = False,
) -> Sequence[str] | ReleaseOutcome:
    """Judge whether a copy may go: returns its witnesses, or why it stays.

    Args:
        copy: what was read about the digest.
        read: what was read about the fleet.
        rules: this host's settings.
        holder: who asks.
        now: the time.
        is_for_space: whether it goes early because a limit of the disk is exceeded.
    """
    settings = read.settings
    stop = _stop(read)
    if settings is None or stop is not None:
        return stop or UNREADABLE
    if is_for_space and rules.yields_to_pressure:
        return ()
    facts = copy.facts(read, holder)
    reason = next(rules.reasons(settings, facts, now), None)
    required = rules.copies_required(settings, facts, now)
    witnesses = copy.witnesses(read, holder)
    # guard(release-needs-witnesses): The last copies of an image stay.
    if reason is not None or required is None or len(witnesses) < required:
        return ReleaseOutcome(reason or Reason.LAST_COPY)
    return tuple(witnesses[:required])


def _stop(read: FleetRead) -> ReleaseOutcome | None:
    """Return why nothing at all may be released; None: something may."""
    # guard(unread-settings-release-nothing): A pause that cannot be read has not been ended.
    if read.settings is None:
        return UNREADABLE
    if read.is_rolled_back:
        return ReleaseOutcome(Reason.FLEET_UNREACHABLE, ROLLED_BACK)
    # guard(paused-fleet-releases-nothing): An operator has said stop.
    if read.settings.paused is not None:
        paused = read.settings.paused
        return ReleaseOutcome(Reason.FLEET_PAUSED, f"paused by {paused.by}: {paused.reason}")
    return None


def one(result: Result) -> KeyValue | None:
    """Return the one key that was asked for; None: it is not there."""
    found = _found(result).key_values
    return found[0] if found else None


def _found(result: Result) -> RangeResult:
    assert isinstance(result, RangeResult), result
    return result


def _revision(found: KeyValue | None) -> int:
    return 0 if found is None else found.mod_revision


def _holders(keys: FleetKeys, result: RangeResult) -> frozenset[str]:
    holders = (keys.holder_of(found.key) for found in result.key_values)
    return frozenset(holder for holder in holders if holder is not None)


def settings_of(found: KeyValue | None) -> FleetSettings | None:
    """Read the settings of the fleet, the defaults where there are none; None: they cannot be read."""
    try:
        return FleetSettings() if found is None else decode_settings(found.value)
    except ValueError:
        return None
