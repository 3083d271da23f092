"""What operators are shown of a fleet, read from its store: hosts, holders of an image, last copies."""

from collections.abc import Collection, Iterator, Sequence

from hmret.fleet.keys import FleetKeys, all_below, generation_key, host_of
from hmret.fleet.overview import (
    EtcdStatus,
    FleetStatus,
    HeldCopy,
    HoldersOfImage,
    LastCopy,
    TakenToken,
)
from hmret.fleet.scanning import scan_copies
from hmret.fleet.settings import decode_settings
from hmret.fleet.store import (
    Compare,
    Health,
    KeyValue,
    OutcomeUnknownError,
    Range,
    RangeResult,
    Store,
    StoreError,
    Txn,
    value_is,
)
from hmret.fleet.stored_values import read_drain, read_holding, read_summary, read_use
from hmret.model.errors import FleetError, HostNotFoundError
from hmret.model.fleet import FleetSettings
from hmret.model.values import frozen

_OLD_VERSIONS = {(3, 4): 22, (3, 5): 6}
"""Of each release the first patch that loses no acknowledged data."""
_TRIES = 3
_LITTLE_LEFT = 0.8
"""Share of the quota from which on an operator is warned."""


def is_current(keys: FleetKeys) -> Compare:
    """Return the condition that no other generation has begun."""
    return value_is(generation_key(keys.fleet), keys.generation)


def changed_meanwhile(fleet: str) -> FleetError:
    """Return the error of an operation that others overtook."""
    return FleetError(f"others are changing the fleet {fleet!r} at the same time: try it again")


@frozen(eq=False)
class OperatorReader:
    """One fleet, as it stands in its store.

    Every call may raise `StoreError`, and `FleetError` where there is no such fleet or its settings are not readable.
    """

    store: Store
    fleet: str

    async def settings(self) -> FleetSettings:
        """Read the fleet's shared settings."""
        return (await self.read_settings(await self.current_keys()))[0]

    async def status(self) -> FleetStatus:
        """Read the hosts, the settings, the tokens, and how etcd is."""
        keys = await self.current_keys()
        prefixes = (keys.sessions, keys.lives, keys.summaries, keys.drains, keys.tokens)
        settings, *found, rolled_back = await self._read(
            keys, Range(keys.settings), *map(all_below, prefixes), Range(keys.rolled_back)
        )
        sessions, lives, summaries, drains, tokens = (one.key_values for one in found)
        told = {keys.holder_of(one.key): one.value for one in summaries}
        drained = {keys.holder_of(one.key): read_drain(one.value) for one in drains}
        live = _holders_in(keys, lives)
        hosts = {*told, *drained, *live, *_holders_in(keys, sessions)} - {None}
        return FleetStatus(
            fleet=self.fleet,
            generation=keys.generation,
            settings=_settings_in(keys, settings)[0],
            tokens_taken=tuple(
                TakenToken(one.key.removeprefix(keys.tokens), one.value.partition(" ")[0]) for one in tokens
            ),
            etcd=await self._read_etcd(),
            hosts=tuple(
                read_summary(holder, told.get(holder), live=holder in live, drained=drained.get(holder))
                for holder in sorted(filter(None, hosts))
            ),
            rolled_back=bool(rolled_back.key_values),
        )

    async def holdings(self, digest: str, min_copies: int = 0) -> HoldersOfImage:
        """Read who holds an image; `min_copies`: this host's own, which counts where it is larger."""
        keys = await self.current_keys()
        settings, copies, lives, drains = await self._read(
            keys,
            Range(keys.settings),
            all_below(keys.copies(digest)),
            all_below(keys.lives, keys_only=True),
            all_below(keys.drains, keys_only=True),
        )
        live, drained = _holders_in(keys, lives.key_values), _holders_in(keys, drains.key_values)
        held: list[HeldCopy] = []
        for one in copies.key_values:
            _, holder = keys.holding_of(one.key) or ("", None)
            if holder is not None:
                disk_bytes, since = read_holding(one.value)
                why_not = "dead" if holder not in live else "drained" if holder in drained else None
                held.append(HeldCopy(holder=holder, since=since, disk_bytes=disk_bytes, not_counted=why_not))
        return HoldersOfImage(
            digest=digest,
            min_copies=max(min_copies, _settings_in(keys, settings)[0].min_copies),
            last_used=read_use(copies.value(keys.used(digest))),
            holders=tuple(held),
        )

    async def last_copies(self, holders: Collection[str], min_copies: int = 0) -> tuple[LastCopy, ...]:
        """List the copies of some holders without which fewer than `min_copies`, or the fleet's own, would count.

        Reads all copies of the fleet.
        """
        keys = await self.current_keys()
        settings, lives, drains = await self._read(
            keys,
            Range(keys.settings),
            all_below(keys.lives, keys_only=True),
            all_below(keys.drains, keys_only=True),
        )
        enough = max(min_copies, _settings_in(keys, settings)[0].min_copies)
        counting = _holders_in(keys, lives.key_values) - _holders_in(keys, drains.key_values) - {*holders}
        found: list[LastCopy] = []
        async for group in scan_copies(self.store, keys):
            if sum(holder in counting for holder, _ in group.copies) < enough:
                found += (
                    LastCopy(holder=holder, digest=group.digest, disk_bytes=read_holding(copy.value)[0])
                    for holder, copy in group.copies
                    if holder in holders
                )
        return tuple(found)

    async def find_holders(self, keys: FleetKeys, host: str) -> tuple[str, ...]:
        """Return the holders of a host, or the one of that name.

        Raises:
            HostNotFoundError: there is none.
        """
        prefixes = (keys.sessions, keys.marks, keys.lives, keys.summaries, keys.drains)
        found = await self._read(keys, *(all_below(prefix, keys_only=True) for prefix in prefixes))
        holders = set[str | None]().union(*(_holders_in(keys, one.key_values) for one in found))
        meant = sorted(holder for holder in holders if holder and host in (holder, host_of(holder)))
        if not meant:
            raise HostNotFoundError(
                f"{host}: the fleet {keys.fleet!r} has no such host; hmret fleet status lists them"
            )
        return tuple(meant)

    async def current_keys(self) -> FleetKeys:
        """Return the keys of the generation that there is."""
        key = generation_key(self.fleet)
        generation = (await self.store.range(key)).value(key)
        if generation is None:
            raise FleetError(f"etcd has no fleet {self.fleet!r}; to create it: hmret fleet init")
        return FleetKeys(self.fleet, generation)

    async def read_settings(self, keys: FleetKeys) -> tuple[FleetSettings, int]:
        """Return what the hosts have in common, and the revision of its last change; 0: it was never set."""
        return _settings_in(keys, await self.store.range(keys.settings))

    async def _read(self, keys: FleetKeys, *ranges: Range) -> Sequence[RangeResult]:
        """Read some ranges as of one moment.

        Raises:
            FleetError: another generation has begun.
            StoreError: etcd did not answer, several times; another endpoint is asked each time.
        """
        for tries in range(_TRIES):
            try:
                found = await self.store.transact(Txn((is_current(keys),), ranges))
            except OutcomeUnknownError:
                if tries + 1 == _TRIES:
                    raise
            else:
                break
        if not found.succeeded:
            raise changed_meanwhile(keys.fleet)
        return [one for one in found.results if isinstance(one, RangeResult)]

    async def _read_etcd(self) -> EtcdStatus:
        try:
            health = await self.store.health()
        except StoreError as error:
            return EtcdStatus(warnings=(str(error),))
        return EtcdStatus(
            version=health.version,
            size_bytes=health.size_bytes,
            quota_bytes=health.quota_bytes,
            alarms=health.alarms,
            warnings=tuple(_warnings(health)),
        )


def _settings_in(keys: FleetKeys, found: RangeResult) -> tuple[FleetSettings, int]:
    if not found.key_values:
        return FleetSettings(), 0
    (stored,) = found.key_values
    try:
        return decode_settings(stored.value), stored.mod_revision
    except ValueError as error:
        raise FleetError(
            f"the settings of the fleet, in etcd's key {keys.settings}, are not readable: {error}; "
            f"to begin with the defaults: etcdctl del {keys.settings}"
        ) from None


def _holders_in(keys: FleetKeys, key_values: Sequence[KeyValue]) -> set[str | None]:
    return {keys.holder_of(one.key) for one in key_values}


def _warnings(health: Health) -> Iterator[str]:
    """Return what an operator has to do something about."""
    try:
        major, minor, patch = (int(part) for part in health.version.partition("-")[0].split("."))
    except ValueError:
        pass
    else:
        if (major, minor) < min(_OLD_VERSIONS) or patch < _OLD_VERSIONS.get((major, minor), 0):
            yield f"etcd {health.version} can lose data: run 3.4.22 or later, or 3.5.6 or later"
    if "NOSPACE" in health.alarms:
        yield "etcd is full and refuses writes: compact, defragment, raise its quota, then etcdctl alarm disarm"
    elif health.quota_bytes and health.size_bytes > _LITTLE_LEFT * health.quota_bytes:
        share = 100 * health.size_bytes // health.quota_bytes
        yield f"etcd has used {share}% of its quota: compact and defragment, or raise the quota"
    if "CORRUPT" in health.alarms:
        yield "a member of etcd is corrupt: replace it"
