"""What all tasks of the fleet keeper share: the session, the state of this host in its fleet, and its parts."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime

import anyio

from hmret.actors.fleet.async_record import AsyncFleetRecord
from hmret.actors.fleet.contact import Contact
from hmret.fleet.reading import ROLLED_BACK, CopyRead, FleetRead, parse_reading, read_operations
from hmret.fleet.store import OutcomeUnknownError, Range, RangeResult, Result, Txn, TxnResult
from hmret.fleet.transactions import Session
from hmret.model.fleet import CopyRules, FleetSettings, FleetState
from hmret.model.times import datetime_of
from hmret.model.values import frozen

LOST = "the session is over: joining again"

_HOSTS_SECONDS = 60.0
_NO_HOSTS = FleetRead(
    is_in_session=True,
    settings=None,
    settings_revision=0,
    is_rolled_back=False,
    token=None,
    live=frozenset(),
    drained=frozenset(),
)


@frozen(kw_only=True)
class MemberOptions:
    """What a host joins a fleet with: its name, the fleet, which copies it keeps, and how long it waits."""

    fleet: str
    host: str
    rules: CopyRules
    session_seconds: int
    """The time of a session's lease."""
    timeout_seconds: float
    """How long an answer of the store may take."""
    version: str
    """The version of hmret."""


class SessionOverError(Exception):
    """A session is over.

    It has ended, a reading shows that it is no longer valid, or a write in it was refused or has an unknown outcome.
    """


class Membership:
    """The session, if there is one, and what is known of the fleet.

    Everything here is used on one event loop; what is read is consistent between two awaits.
    """

    def __init__(
        self,
        options: MemberOptions,
        contact: Contact,
        async_record: AsyncFleetRecord,
        now_ns: Callable[[], int],
        on_state: Callable[[FleetState, str | None], None],
    ) -> None:
        self.options = options
        self.contact = contact
        self.async_record = async_record
        self.now_ns = now_ns
        self._on_state = on_state
        self.state = FleetState.JOINING
        self.detail: str | None = None
        self.session: Session | None = None
        """None: there is none, and nothing is written."""
        self.holder: str | None = None
        """The name under which this host last joined."""
        self.is_live = False
        """Whether what this session has registered counts."""
        self.settings: FleetSettings | None = None
        self._hosts: FleetRead | None = None
        """The last reading that has the hosts."""
        self._hosts_read = -math.inf
        """When they were read, in the time of the event loop."""
        self._session_ended = anyio.Event()
        self._state_changed = anyio.Event()
        contact.on_went_back = self._went_back

    @property
    def joined(self) -> Session | None:
        """The session, if what it has registered counts, as far as known, so that it may release."""
        return self.session if self.is_live and self.state is FleetState.JOINED else None

    def enter(self, state: FleetState, detail: str | None = None) -> None:
        """Enter a state; a change of the state is reported, a change of the details alone is not."""
        before, self.state, self.detail = self.state, state, detail
        if state is before:
            return
        self._on_state(state, detail)
        changed, self._state_changed = self._state_changed, anyio.Event()
        changed.set()

    def begin(self, session: Session) -> None:
        """Begin a session."""
        self.session, self.holder, self.is_live = session, session.holder, False
        self._session_ended = anyio.Event()

    def come_live(self, session: Session) -> None:
        """Note that what is registered counts from now on."""
        if self.session is session:
            self.is_live = True
            self.enter(FleetState.JOINED)

    def end(self, session: Session, detail: str, state: FleetState = FleetState.UNREACHABLE) -> None:
        """End a session, if it is the present one."""
        # guard(unknown-outcome-ends-session): What was sent may arrive after a later write of this host, and undo
        # it, unless the session that it names is another one by then.
        if self.session is session:
            self.session, self.is_live = None, False
            self.enter(state, detail)
            self._session_ended.set()

    async def wait_ended(self, session: Session) -> None:
        """Return once a session has ended."""
        if self.session is session:
            await self._session_ended.wait()

    async def wait_joined(self, seconds: float) -> None:
        """Return once this host has joined, or cannot, or the time is up."""
        with anyio.move_on_after(seconds):
            while self.state is FleetState.JOINING:
                await self._state_changed.wait()

    async def look(self, session: Session) -> None:
        """Read the settings, whether the session is still the present one, and whether the store was put back.

        Raises:
            as `read`.
        """
        record = await self.async_record.load()
        last_mark = record.last_done_mark
        operations = read_operations(session.keys, session.holder, (), token=0, hosts=False)
        key = session.keys.mark(session.holder)
        *results, found = await self.contact.read((*operations, Range(key)))
        self.take_reading(session, (), results, hosts=_NO_HOSTS)
        assert isinstance(found, RangeResult)
        mark = found.value(key)
        # guard(look-notices-old-mark): A store that was put back below this session counts copies that have gone since.
        # The next join finds the same, and tells all hosts.
        if mark is not None and last_mark is not None and record.is_older(mark, last_mark):
            self.end(session, LOST, FleetState.JOINING)
            raise SessionOverError(LOST)

    async def read(
        self, session: Session, digests: Sequence[str], *, token: int = 0, reads_hosts: bool = False
    ) -> tuple[FleetRead, dict[str, CopyRead]]:
        """Read about some digests, at most `MOST_DIGESTS`, and about the fleet.

        Which hosts are live and drained is read if `reads_hosts`, or if it was read some time ago: in a large fleet
        that is most of what is read. A release compares it anyway.

        Raises:
            StoreError: it could not be read.
            SessionOverError: the session has ended.
        """
        is_fresh = anyio.current_time() - self._hosts_read < _HOSTS_SECONDS
        hosts = self._hosts if is_fresh and not reads_hosts else None
        operations = read_operations(session.keys, session.holder, digests, token=token, hosts=hosts is None)
        results = await self.contact.read(operations)
        return self.take_reading(session, digests, results, hosts=hosts)

    def take_reading(
        self,
        session: Session,
        digests: Sequence[str],
        results: Sequence[Result],
        *,
        hosts: FleetRead | None = None,
    ) -> tuple[FleetRead, dict[str, CopyRead]]:
        """Record what was read, and return what it says.

        Raises:
            SessionOverError: the session has ended.
        """
        read, copies = parse_reading(
            session.keys, session.id, digests, results, holder=session.holder, hosts=hosts
        )
        if hosts is None:
            self._hosts, self._hosts_read = read, anyio.current_time()
        if read.is_rolled_back:
            self.end(session, ROLLED_BACK, FleetState.ROLLED_BACK)
            raise SessionOverError(ROLLED_BACK)
        if not read.is_in_session:
            self.end(session, LOST, FleetState.JOINING)
            raise SessionOverError(LOST)
        self.settings = read.settings
        return read, copies

    def require(self, session: Session) -> None:
        """Refuse to send anything more for a session that has ended.

        Raises:
            SessionOverError: it has.
        """
        if self.session is not session:
            raise SessionOverError("the session has ended")

    async def transact(self, session: Session, txn: Txn) -> TxnResult:
        """Carry out one of a session's transactions; returns whether its conditions held, and what it read.

        Raises:
            StoreError: it was not carried out and never will be.
            SessionOverError: its outcome is not known.
        """
        try:
            return await self.contact.write(txn)
        except OutcomeUnknownError as error:
            self.end(session, str(error))
            raise SessionOverError(str(error)) from error

    async def write(self, session: Session, txn: Txn) -> None:
        """Carry out one of a session's transactions that only its fence can refuse.

        Raises:
            StoreError: it was not carried out and never will be.
            SessionOverError: it was refused, or its outcome is not known.
        """
        result = await self.transact(session, txn)
        if not result.succeeded:
            self.end(session, LOST, FleetState.JOINING)
            raise SessionOverError(LOST)

    def _went_back(self, detail: str) -> None:
        # guard(went-back-ends-session): What the store says is older than what it has said; the next join finds out.
        if self.session is not None:
            self.end(self.session, detail)

    def now(self) -> datetime:
        """Return the wall clock."""
        return datetime_of(self.now_ns())
