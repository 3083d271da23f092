"""Beginning a session, after finding out whose record this data directory holds.

    read `generation`; read `s/` and `e/` of this holder
    ── by what they say: no session, a new cache id, or an empty record ──
    grant a lease; put a mark on record, durably
    one transaction: nothing has changed since; put the mark into `s/` and `e/`, delete `l/`
    note on record that the mark is done

A crash after any of these leaves a lease that ends by itself, or a session of this record, which the next
join takes over.

The keys (`hmret.fleet.keys`) lie below the **generation**, which an operator replaces to start the fleet afresh.
A **holder** is one data directory of a host. `s/` has the id of its session, under the lease; `l/` is there
while its copies count; `e/` has its last **mark**: random digits, new with each join and whenever copies were
registered, taken out or released, which are on record here before they are in the store. So a mark in the
store that this record does not know comes from a copy of this data directory, or from its time before it was
put back from a backup.
"""

from contextlib import suppress

from hmret.actors.fleet.membership import Membership
from hmret.disk.records.fleet import FleetRecord
from hmret.fleet.keys import FleetKeys, generation_key, make_holder
from hmret.fleet.reading import ROLLED_BACK, HolderRead, JoinStep, holder_operations, judge_join
from hmret.fleet.store import RangeResult, StoreError
from hmret.fleet.transactions import Session, end_former_session, join, note_rolled_back
from hmret.model.fleet import FleetState
from hmret.model.policy.fleet import is_fleet_name
from hmret.model.records.fleet import Seen

# If the holder or the record was replaced, look again; if that keeps happening, somebody else is at work on it.
_ROUNDS = 4


class CannotJoinError(Exception):
    """This host cannot join now; has the state that follows from that."""

    def __init__(self, state: FleetState, detail: str) -> None:
        super().__init__(detail)
        self.state = state
        self.detail = detail


class Joining:
    """Begins sessions."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._contact = membership.contact
        self._store = membership.contact.store
        self._async_record = membership.async_record
        self._options = membership.options

    async def join(self) -> Session:
        """Begin a session.

        Raises:
            CannotJoinError: something is in the way that has to end first.
            StoreError: the store did not answer, or refused; this can be tried again.
            OSError: the record cannot be written.
        """
        record = await self._async_record.load()
        keys = await self._keys(record)
        for _ in range(_ROUNDS):
            if record.needs_cache_id:
                await self._renew(keys, record)
            if record.generation != keys.generation:
                await self._async_record.start(keys.generation)
            holder = make_holder(self._options.host, record.cache_id)
            found = await self._read(keys, holder)
            if found.is_rolled_back:
                raise CannotJoinError(FleetState.ROLLED_BACK, ROLLED_BACK)
            step = judge_join(found, age_of=record.age_of, has_done_mark=record.last_done_mark is not None)
            match step:
                case JoinStep.JOIN | JoinStep.REGISTER_ALL:
                    if step is JoinStep.REGISTER_ALL:
                        # guard(forgotten-copies-are-doubted): The `forget` may have been cut off halfway, so what has
                        # gone from here since may still be registered.
                        await self._async_record.doubt()
                    self._membership.settings = found.settings
                    return await self._begin(keys, holder, found)
                case JoinStep.NEW_HOLDER:
                    await self._end_former(keys, holder, found)
                    await self._async_record.renew()
                case JoinStep.DUPLICATE:
                    detail = f"another host runs on a copy of this data directory, as {holder}: stop one of the two"
                    raise CannotJoinError(FleetState.DUPLICATE_HOST, detail)
                case JoinStep.ROLLED_BACK:
                    await self._tell_rolled_back(keys)
        raise CannotJoinError(FleetState.JOINING, "what etcd has of this host keeps changing: joining again")

    async def _keys(self, record: FleetRecord) -> FleetKeys:
        """Read the generation, and check that the store is still the one seen before.

        Raises:
            CannotJoinError: there is none, or the store was restored from a backup.
            StoreError: the store did not answer.
        """
        # Whether the store went back is judged here, by the record and by what answers have shown.
        self._store.forget_seen()
        found = await self._look_generation()
        generation = found.value(generation_key(self._options.fleet))
        if generation is None or not is_fleet_name(generation):
            detail = f"etcd has no fleet named {self._options.fleet}: run hmret fleet init"
            raise CannotJoinError(FleetState.NOT_INITIALISED, detail)
        keys = FleetKeys(self._options.fleet, generation)
        if record.generation != generation:
            # Nothing of another generation is registered here, so what was seen of it says nothing.
            self._contact.has_shown_restore = False
            return keys
        if self._contact.has_shown_restore:
            await self._tell_rolled_back(keys)
        # guard(revision-below-seen-is-a-restore): A copy that was released after the store's backup counts again.
        if _is_older(found, record.seen):
            # A member that lags behind would answer better the second time.
            found = await self._look_generation()
            if _is_older(found, record.seen):
                await self._tell_rolled_back(keys)
        return keys

    async def _look_generation(self) -> RangeResult:
        # Not through `Contact.read`, which would record the revision of this answer as seen.
        return await self._store.range(generation_key(self._options.fleet))

    async def _tell_rolled_back(self, keys: FleetKeys) -> None:
        """Tell all hosts that the store was restored from a backup, and do not join.

        Raises:
            CannotJoinError: always.
        """
        # If it fails, the next try to join tells it.
        with suppress(StoreError):
            await self._store.transact(note_rolled_back(keys, self._options.host, self._membership.now_ns()))
        raise CannotJoinError(FleetState.ROLLED_BACK, ROLLED_BACK)

    async def _read(self, keys: FleetKeys, holder: str) -> HolderRead:
        return HolderRead.of(await self._contact.read(holder_operations(keys, holder)))

    async def _renew(self, keys: FleetKeys, record: FleetRecord) -> None:
        """Become another holder: the data directory is new, or its record cannot be read."""
        if record.cache_id:
            holder = make_holder(self._options.host, record.cache_id)
            await self._end_former(keys, holder, await self._read(keys, holder))
        await self._async_record.renew()

    async def _end_former(self, keys: FleetKeys, holder: str, found: HolderRead) -> None:
        """End the session of a holder that this data directory is about to give up.

        Raises:
            StoreError: it is not known to have ended.
            CannotJoinError: it has changed since it was read.
        """
        # guard(former-holder-ends-first): Both holders would count the copies of this one data directory.
        if found.session is None:
            return
        result = await self._contact.write(end_former_session(keys, holder, found))
        if not result.succeeded:
            raise CannotJoinError(FleetState.JOINING, "another session began: joining again")

    async def _begin(self, keys: FleetKeys, holder: str, found: HolderRead) -> Session:
        lease = await self._contact.grant(self._options.session_seconds)
        try:
            # guard(mark-is-on-record-first): A mark in the store that is on no record is taken for another host's.
            mark = await self._async_record.note_request(with_mark=True)
            session = Session(keys, holder, mark, lease)
            result = await self._contact.write(join(session, found))
            if result.succeeded:
                await self._async_record.note_outcomes(done=mark)
        except BaseException:
            await self._contact.drop(lease)
            raise
        if not result.succeeded:
            await self._contact.drop(lease)
            detail = "another session of this holder, or another generation, began: joining again"
            raise CannotJoinError(FleetState.JOINING, detail)
        self._membership.begin(session)
        return session


def _is_older(found: RangeResult, seen: Seen | None) -> bool:
    return seen is not None and seen.is_contradicted_by(found.cluster_id, found.revision)
