"""A fleet in a store in memory, as it is written by hand."""

from datetime import datetime, timedelta

from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.reading import (
    CopyRead,
    FleetRead,
    HolderRead,
    holder_operations,
    parse_reading,
    read_operations,
)
from hmret.fleet.settings import encode_settings
from hmret.fleet.store import Delete, Put, Txn
from hmret.fleet.stored_values import encode_drain, encode_holding
from hmret.fleet.transactions import Session
from hmret.model.fleet import FleetSettings
from hmret.model.times import SECOND
from support.builders import START, START_NS
from support.memory_store import MemoryStore

__all__ = ["ELSEWHERE", "KEYS", "ME", "WrittenFleet"]

KEYS = FleetKeys("default", "g1")
ME = "a.00000001"
ELSEWHERE = ("b.00000002", "c.00000003", "d.00000004")


class WrittenFleet:
    """A fleet whose keys a test writes, on a clock that stands still unless a test sets it."""

    def __init__(self, settings: FleetSettings | None = None) -> None:
        self.seconds = 0.0
        self.store = MemoryStore(lambda: self.seconds)
        self.put(generation_key(KEYS.fleet), KEYS.generation)
        self.set_settings(settings or FleetSettings())

    def put(self, key: str, value: str, *, lease: int = 0) -> None:
        """Write a key."""
        self.store.carry_out(Txn((), (Put(key, value, lease),)))

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.store.carry_out(Txn((), (Delete(key),)))

    def has(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self.store.items()

    def set_settings(self, settings: FleetSettings) -> None:
        """Write the settings."""
        self.put(KEYS.settings, encode_settings(settings))

    def begin(self, holder: str = ME, session: str = "5e55104") -> Session:
        """Give a holder a session whose copies count."""
        lease = self.store.grant(60)
        self.put(KEYS.session(holder), session, lease=lease)
        self.put(KEYS.mark(holder), session)
        self.put(KEYS.live(holder), "1", lease=lease)
        return Session(KEYS, holder, session, lease)

    def hold(self, digest: str, *holders: str, since: datetime = START) -> None:
        """Have holders hold a digest; those that have no session count for nobody."""
        for holder in holders:
            since_ns = START_NS + (since - START) // timedelta(seconds=1) * SECOND
            self.put(KEYS.holding(digest, holder), encode_holding(4096, since_ns))

    def drain(self, holder: str) -> None:
        """Drain a holder."""
        self.put(KEYS.drain(holder), encode_drain("operator", START, "maintenance"))

    def take_token(self, session: Session, number: int = 0) -> int:
        """Give a session a token; returns its lease."""
        lease = self.store.grant(3600)
        self.put(KEYS.token(number), session.token_value, lease=lease)
        return lease

    def holders(self, digest: str) -> set[str]:
        """List who holds a digest."""
        found = (KEYS.holding_of(key) for key in self.store.items(KEYS.copies(digest)))
        return {each[1] for each in found if each is not None}

    def read(self, session: Session, digest: str, *, token: int = 0) -> tuple[FleetRead, CopyRead]:
        """Read what a session reads about a digest."""
        operations = read_operations(KEYS, session.holder, (digest,), token=token)
        results = self.store.carry_out(Txn((), operations)).results
        read, copies = parse_reading(KEYS, session.id, (digest,), results, holder=session.holder)
        return read, copies[digest]

    def found(self, holder: str = ME) -> HolderRead:
        """Read what a holder reads before it joins."""
        return HolderRead.of(self.store.carry_out(Txn((), holder_operations(KEYS, holder))).results)
