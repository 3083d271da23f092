"""Releases: a copy leaves the count if enough others count at that very moment; only then may its image go.

The **witnesses** of a release are the other holders that its transaction names: each still has the copy, is live and is
not drained, at that very moment.

A release that is granted stays good for ever, since it is about this host's own copy only. One whose outcome is not
known counts as refused: the image stays, and the session is over, so whatever was sent and still arrives is refused.
"""

from collections.abc import Collection, Mapping, Sequence

import anyio

from hmret.actors.batches import batches
from hmret.actors.fleet.copy_lookup import Facts
from hmret.actors.fleet.holdings import Holdings
from hmret.actors.fleet.membership import Membership, SessionOverError
from hmret.actors.fleet.tokens import Token, Tokens
from hmret.fleet.reading import MOST_DIGESTS, CopyRead, FleetRead, judge_release
from hmret.fleet.store import OutcomeUnknownError, StoreError, TxnResult
from hmret.fleet.transactions import NewMark, Session, release, settle_releases
from hmret.model.fleet import FleetState, ReleaseOutcome
from hmret.model.records.fleet import Standing
from hmret.model.values import define, frozen
from hmret.model.verdicts import Reason

_AT_A_TIME = 8
"""Concurrent releases: a 3-node cluster completes about this many in the time of one."""

# An attempt that fails because something has changed is repeated with the current values; a few hosts that all release
# at the same time take 1.02 attempts on average, 1.4 with faults.
_TRIES = 4

_BRAKED = ReleaseOutcome(Reason.FLEET_BRAKE, "no deletion token is free")


@frozen
class _Chosen:
    """A copy that may go, by what was read."""

    copy: CopyRead
    read: FleetRead
    witnesses: Sequence[str]


@define(eq=False)
class _KnownOutcomes:
    """The known outcomes of a batch."""

    released: list[str]
    kept: list[str]


class Releasing:
    """Releases copies."""

    def __init__(self, membership: Membership, holdings: Holdings, tokens: Tokens, facts: Facts) -> None:
        self._membership = membership
        self._contact = membership.contact
        self._rules = membership.options.rules
        self._async_record = membership.async_record
        self._holdings = holdings
        self._tokens = tokens
        self._facts = facts

    async def release(
        self, digests: Sequence[str], for_space: Collection[str]
    ) -> Mapping[str, ReleaseOutcome]:
        """Release copies, as `FleetLink.release` says."""
        outcomes: dict[str, ReleaseOutcome] = {}
        async with self._holdings.lock:
            for batch in batches(digests, MOST_DIGESTS):
                try:
                    await self._release_batch(batch, for_space, outcomes)
                except SessionOverError:
                    # The state of the membership says why, see below.
                    pass
                except StoreError as error:
                    _fill(outcomes, batch, ReleaseOutcome(Reason.FLEET_UNREACHABLE, str(error)))
                except OSError as error:
                    detail = f"the record of this host cannot be written: {error.strerror or error}"
                    _fill(outcomes, batch, ReleaseOutcome(Reason.FLEET_UNREACHABLE, detail))
                _fill(outcomes, batch, outcome_unless_joined(self._membership))
        return outcomes

    async def _release_batch(
        self, digests: Sequence[str], for_space: Collection[str], outcomes: dict[str, ReleaseOutcome]
    ) -> None:
        # guard(release-in-live-session): Nothing is released before the registrations are correct.
        session = self._membership.joined
        if session is None:
            return
        read, copies = await self._membership.read(session, digests, token=self._tokens.number)
        chosen: list[_Chosen] = []
        for digest, copy in copies.items():
            self._facts.take(digest, copy, read)
            judged = self._judge(session, copy, read, for_space)
            if isinstance(judged, ReleaseOutcome):
                outcomes[digest] = judged
            else:
                chosen.append(judged)
        while chosen:
            token = await self._tokens.take(session)
            # guard(no-token-no-release): In any token period at most the budget goes.
            if token is None:
                _fill(outcomes, [each.copy.digest for each in chosen], _BRAKED)
                return
            # guard(token-is-used-up): Each token is good for its share of the budget.
            part = chosen[: token.left(self._membership.settings)]
            chosen = chosen[len(part) :]
            if not part:
                _fill(outcomes, digests, _BRAKED)
                return
            await self._release_by(session, token, part, for_space, outcomes)

    def _judge(
        self, session: Session, copy: CopyRead, read: FleetRead, for_space: Collection[str]
    ) -> _Chosen | ReleaseOutcome:
        judged = judge_release(
            copy,
            read,
            self._rules,
            session.holder,
            self._membership.now(),
            is_for_space=copy.digest in for_space,
        )
        return judged if isinstance(judged, ReleaseOutcome) else _Chosen(copy, read, judged)

    async def _release_by(
        self,
        session: Session,
        token: Token,
        chosen: Sequence[_Chosen],
        for_space: Collection[str],
        outcomes: dict[str, ReleaseOutcome],
    ) -> None:
        """Release some copies under a token."""
        record = await self._async_record.load()
        before = {each.copy.digest: record.standing(each.copy.digest) for each in chosen}
        # guard(release-is-on-record-first): If the answer is lost, the copy may not be registered any more, and the
        # next join finds out.
        marks = await self._holdings.new_mark(session, before)
        token.spent += len(chosen)
        known = _KnownOutcomes([], [])
        limiter = anyio.CapacityLimiter(_AT_A_TIME)

        async def release_one(each: _Chosen) -> None:
            async with limiter:
                outcome = await self._release_one(session, token, each, for_space, known)
                if outcome is not None:
                    outcomes[each.copy.digest] = outcome

        async with anyio.create_task_group() as tasks:
            for each in chosen:
                tasks.start_soon(release_one, each)
        token.spent -= len(known.kept)
        for digest in known.released:
            self._holdings.released(digest)
            self._facts.forget(digest)
        registered = [digest for digest in known.kept if before[digest] is Standing.REGISTERED]
        unregistered = [digest for digest in known.kept if before[digest] is None]
        is_settled = await self._settle(session, known.released, marks)
        if is_settled:
            unregistered += known.released
        elif known.released:
            # They stay open on the record; what is not here by then is taken out.
            self._holdings.request_reconcile()
        try:
            await self._async_record.note_outcomes(
                done=marks.mark if is_settled else "", registered=registered, unregistered=unregistered
            )
        except OSError:
            # On the disk their outcome stays open (`Standing.ASKED`); the next join resolves them.
            return

    async def _settle(self, session: Session, released: Collection[str], marks: NewMark) -> bool:
        """Mark releases that have been granted; returns whether that is done."""
        if not released:
            return False
        try:
            self._membership.require(session)
            await self._membership.write(session, settle_releases(session, released, marks))
        except (SessionOverError, StoreError):
            return False
        return True

    async def _release_one(
        self,
        session: Session,
        token: Token,
        chosen: _Chosen,
        for_space: Collection[str],
        known: _KnownOutcomes,
    ) -> ReleaseOutcome | None:
        """Release one copy; returns None if the state of the membership explains the outcome."""
        digest = chosen.copy.digest
        try:
            for _ in range(_TRIES):
                self._membership.require(session)
                txn = release(session, chosen.copy, chosen.read, chosen.witnesses, token.number)
                result = await self._contact.write(txn)
                if result.succeeded:
                    known.released.append(digest)
                    return ReleaseOutcome()
                judged = self._look_again(session, token, result, digest, for_space)
                if isinstance(judged, ReleaseOutcome):
                    known.kept.append(digest)
                    return judged
                chosen = judged
        except OutcomeUnknownError as error:
            # guard(unknown-release-is-none): The image stays; whether its copy still counts, the next join finds out.
            self._membership.end(session, str(error))
            return None
        except SessionOverError:
            known.kept.append(digest)
            return None
        except StoreError as error:
            known.kept.append(digest)
            return ReleaseOutcome(Reason.FLEET_UNREACHABLE, str(error))
        known.kept.append(digest)
        return ReleaseOutcome(Reason.LAST_COPY, "other hosts release copies of it at the same time")

    def _look_again(
        self,
        session: Session,
        token: Token,
        refused: TxnResult,
        digest: str,
        for_space: Collection[str],
    ) -> _Chosen | ReleaseOutcome:
        """Judge a copy by the current values, after something has changed since it was read.

        Raises:
            SessionOverError: the session is over.
        """
        read, copies = self._membership.take_reading(session, [digest], refused.results)
        copy = copies[digest]
        self._facts.take(digest, copy, read)
        judged = self._judge(session, copy, read, for_space)
        if not isinstance(judged, ReleaseOutcome) and read.token != session.token_value:
            self._tokens.lose(token)
            return _BRAKED
        return judged


def outcome_unless_joined(membership: Membership) -> ReleaseOutcome:
    """Return why a copy stays for as long as this host has not joined."""
    if membership.state is FleetState.DUPLICATE_HOST:
        return ReleaseOutcome(Reason.DUPLICATE_HOST, membership.detail)
    return ReleaseOutcome(Reason.FLEET_UNREACHABLE, membership.detail)


def _fill(outcomes: dict[str, ReleaseOutcome], digests: Sequence[str], outcome: ReleaseOutcome) -> None:
    for digest in digests:
        outcomes.setdefault(digest, outcome)
