"""A fleet for one who only reads: a plan without an engine. Nothing is joined, nothing written."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from hmret.fleet.keys import FleetKeys, all_below, generation_key, make_holder
from hmret.fleet.reading import MOST_DIGESTS, ROLLED_BACK, FleetRead, parse_reading, read_operations
from hmret.fleet.store import OutcomeUnknownError, RangeResult, Result, Store, StoreError, Txn
from hmret.model.fleet import (
    CopyFacts,
    CopyRules,
    FleetSettings,
    FleetState,
    FleetSummary,
    FleetView,
    ReleaseOutcome,
    WholeCopy,
)
from hmret.model.verdicts import Reason

# A member that fails is not asked again at once, so a second try reaches another one.
_TRIES = 2
_ANY_TOKEN = 0
_NO_CACHE_ID = "00000000"


class FleetReader:
    """Satisfies `FleetLink`; releases nothing.

    Args:
        store: the store.
        fleet: the name of the fleet.
        host: that of this host.
        cache_id: the id of its data directory; empty: it has none yet.
        rules: which copies it keeps.
    """

    def __init__(self, store: Store, fleet: str, host: str, cache_id: str, rules: CopyRules) -> None:
        self._store = store
        self._fleet = fleet
        self._holder = make_holder(host, cache_id or _NO_CACHE_ID)
        self._rules = rules
        self._state = FleetState.JOINING
        self._detail: str | None = None
        self._settings: FleetSettings | None = None
        self._facts: dict[str, CopyFacts] = {}
        self._token_free: bool | None = None

    @property
    def state(self) -> FleetState:
        """`joining` before the first question, then `stopped`, or what is wrong."""
        return self._state

    def view(self) -> FleetView:
        """Return what is known now."""
        return FleetView(
            state=self._state,
            rules=self._rules,
            detail=self._detail,
            settings=self._settings,
            facts=dict(self._facts),
            token_free=self._token_free,
        )

    async def ask(self, digests: Collection[str], *, asks_all: bool = False) -> None:  # noqa: ARG002 - it is asked once
        """Read about the copies of some images."""
        try:
            keys = await self._keys()
            wanted = list(digests)
            hosts: FleetRead | None = None
            for start in range(0, max(len(wanted), 1), MOST_DIGESTS):
                hosts = await self._ask(keys, wanted[start : start + MOST_DIGESTS], hosts)
        except StoreError as error:
            self._turn(FleetState.UNREACHABLE, str(error))

    async def take_token(self, count: int) -> bool:  # noqa: ARG002 - whoever reads takes none
        """Return whether one could be taken, as far as known."""
        return self._token_free is not False

    async def release(
        self,
        digests: Sequence[str],
        *,
        for_space: Collection[str] = (),  # noqa: ARG002 - nothing goes
    ) -> Mapping[str, ReleaseOutcome]:
        """Refuse."""
        return dict.fromkeys(digests, ReleaseOutcome(Reason.FLEET_UNREACHABLE, self._detail))

    async def give_back(self, digests: Collection[str]) -> None:
        """Do nothing: nothing was released."""

    async def saw(self, copies: Collection[WholeCopy]) -> None:
        """Do nothing: whoever reads registers nothing."""

    def use_policy(self, fingerprint: str) -> None:
        """Do nothing: whoever reads takes no token."""

    def tell_use(self, digests: Collection[str], at: datetime) -> None:
        """Do nothing: whoever reads tells nothing."""

    async def tell_summary(self, summary: FleetSummary) -> None:
        """Do nothing: whoever reads tells nothing."""

    async def _keys(self) -> FleetKeys | None:
        key = generation_key(self._fleet)
        generation = (await self._store.range(key)).value(key)
        return None if generation is None else FleetKeys(self._fleet, generation)

    async def _ask(
        self, keys: FleetKeys | None, digests: Sequence[str], hosts: FleetRead | None
    ) -> FleetRead | None:
        if keys is None:
            self._turn(
                FleetState.NOT_INITIALISED, f"etcd has no fleet named {self._fleet}: run hmret fleet init"
            )
            return None
        asked = read_operations(keys, self._holder, digests, token=_ANY_TOKEN, hosts=hosts is None)
        tokens, *results = await self._read(Txn((), (all_below(keys.tokens, keys_only=True), *asked)))
        read, copies = parse_reading(keys, "", digests, results, holder=self._holder, hosts=hosts)
        self._settings = read.settings
        if read.is_rolled_back:
            self._turn(FleetState.ROLLED_BACK, ROLLED_BACK)
        else:
            self._turn(FleetState.STOPPED)
        self._facts.update({digest: copy.facts(read, self._holder) for digest, copy in copies.items()})
        if read.settings is not None and isinstance(tokens, RangeResult):
            self._token_free = len(tokens.key_values) < read.settings.tokens
        return read

    async def _read(self, txn: Txn) -> Sequence[Result]:
        for tries in range(1, _TRIES + 1):
            try:
                return (await self._store.transact(txn)).results
            except OutcomeUnknownError:
                if tries == _TRIES:
                    raise
        raise AssertionError("the last try returns or raises")

    def _turn(self, state: FleetState, detail: str | None = None) -> None:
        self._state, self._detail = state, detail
