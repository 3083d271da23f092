"""What an operator asks of a fleet, straight at its store: whether or not an engine runs here."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

import attrs

from hmret.fleet.forgetting import forget_holder
from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.operator_reads import OperatorReader, changed_meanwhile, is_current
from hmret.fleet.scanning import scan_keys
from hmret.fleet.settings import change_setting, encode_settings
from hmret.fleet.store import (
    Compare,
    Delete,
    Operation,
    OutcomeUnknownError,
    Put,
    RangeResult,
    Txn,
    absent,
    mod_is,
    prefix_end,
    value_is,
)
from hmret.fleet.stored_values import encode_drain
from hmret.model.errors import FleetError
from hmret.model.fleet import FleetSettings, Paused
from hmret.model.values import frozen

_TRIES = 20
"""For a change that others overtake."""
_BATCH = 100


@frozen(eq=False)
class FleetOperator(OperatorReader):
    """One fleet, as an operator deals with it: also what changes it.

    Every call may raise `StoreError`, and, but for `init`, `FleetError` where there is no such fleet. A change
    whose outcome etcd did not tell is looked up; each may be repeated.
    """

    # Generations.

    async def init(self) -> str:
        """Make the fleet, with the default settings; returns its generation.

        Raises:
            FleetError: there is one.
        """
        generation = _new_generation()
        key, keys = generation_key(self.fleet), FleetKeys(self.fleet, generation)
        made = await self._change(
            (absent(key),),
            (Put(key, generation), Put(keys.settings, encode_settings(FleetSettings()))),
            partial(self._has, key, generation),
        )
        if not made:
            raise FleetError(
                f"the fleet {self.fleet!r} exists already; to begin anew, after etcd was restored: hmret fleet reset"
            )
        return generation

    async def reset(self) -> str:
        """Start a new generation, with the settings and drains of the one before; returns it.

        What the old one left is deleted. If that is cut off, a later reset goes on with it.

        Raises:
            FleetError: there is no fleet, or others change it all the time.
        """
        for _ in range(_TRIES):
            old = await self.current_keys()
            settings = await self.store.range(old.settings)
            text = settings.value(old.settings) or encode_settings(FleetSettings())
            new = FleetKeys(self.fleet, _new_generation())
            # Nobody looks below a generation that is not yet there.
            await self._copy_drains(old, new, ())
            key = generation_key(self.fleet)
            begun = await self._change(
                (value_is(key, old.generation), mod_is(old.settings, _revision_of(settings, old.settings))),
                (Put(key, new.generation), Put(new.settings, text)),
                partial(self._has, key, new.generation),
            )
            if begun:
                # Those that were drained since; nobody changes the old ones any more.
                await self._copy_drains(old, new, (value_is(key, new.generation),))
                await self._delete_others(new)
                return new.generation
        raise changed_meanwhile(self.fleet)

    async def _copy_drains(self, old: FleetKeys, new: FleetKeys, conditions: tuple[Compare, ...]) -> None:
        found = (await self.store.range(old.drains, prefix_end(old.drains))).key_values
        copies = [(f"{new.drains}{one.key.removeprefix(old.drains)}", one.value) for one in found]
        for start in range(0, len(copies), _BATCH // 2):
            each = tuple(
                Txn((absent(key),), (Put(key, value),)) for key, value in copies[start : start + _BATCH // 2]
            )
            await self.store.transact(Txn(conditions, each))

    async def _delete_others(self, kept: FleetKeys) -> None:
        """Delete what is below any generation but one."""
        root = kept.root.removesuffix(f"{kept.generation}/")
        is_kept = value_is(generation_key(self.fleet), kept.generation)
        async for page in scan_keys(self.store, root):
            first: str | None = None
            last = ""
            for key in (*(one.key for one in page), ""):
                is_old = key not in ("", generation_key(self.fleet)) and not key.startswith(kept.root)
                if is_old:
                    first, last = first or key, key
                elif first is not None:
                    await self.store.transact(Txn((is_kept,), (Delete(first, f"{last}\0"),)))
                    first = None

    # Changing.

    async def change(self, key: str, text: str) -> FleetSettings:
        """Set one of the settings to a value as an operator writes it; returns all of them.

        Raises:
            ConfigError: there is no such setting, or the value is not usable.
        """
        return await self._change_settings(lambda settings: change_setting(settings, key, text))

    async def pause(self, by: str, at: datetime, reason: str) -> FleetSettings:
        """Pause all deletions; once it returns no copy is released any more. A pause that is on stays as it is."""
        paused = Paused(by, at, reason)
        return await self._change_settings(
            lambda settings: settings if settings.paused else attrs.evolve(settings, paused=paused)
        )

    async def resume(self) -> FleetSettings:
        """End a pause."""
        return await self._change_settings(lambda settings: attrs.evolve(settings, paused=None))

    async def drain(self, host: str, by: str, at: datetime, reason: str) -> tuple[str, ...]:
        """Stop counting the copies of a host, or of one holder; returns the holders.

        Raises:
            HostNotFoundError: there is no such host.
        """
        keys = await self.current_keys()
        holders = await self.find_holders(keys, host)
        value = encode_drain(by, at, reason)
        for holder in holders:
            key = keys.drain(holder)
            await self._change((is_current(keys), absent(key)), (Put(key, value),), partial(self._has, key))
        return holders

    async def undrain(self, host: str) -> tuple[str, ...]:
        """Count the copies of a host, or of one holder, again; returns the holders.

        Raises:
            HostNotFoundError: there is no such host.
        """
        keys = await self.current_keys()
        holders = await self.find_holders(keys, host)
        for holder in holders:
            key = keys.drain(holder)
            await self._change((is_current(keys),), (Delete(key),), partial(self._lacks, key))
        return holders

    async def forget(self, host: str) -> tuple[str, ...]:
        """Delete all that there is of a host, or of one holder; returns the holders. Reads all copies of the fleet.

        Raises:
            HostNotFoundError: there is no such host.
        """
        keys = await self.current_keys()
        holders = await self.find_holders(keys, host)
        for holder in holders:
            if await forget_holder(self.store, keys, holder) is None:
                raise changed_meanwhile(self.fleet)
        return holders

    # Parts of these.

    async def _change_settings(self, change: Callable[[FleetSettings], FleetSettings]) -> FleetSettings:
        for _ in range(_TRIES):
            keys = await self.current_keys()
            settings, revision = await self.read_settings(keys)
            changed = change(settings)
            if changed == settings and revision:
                return settings
            text = encode_settings(changed)
            if await self._change(
                (is_current(keys), mod_is(keys.settings, revision)),
                (Put(keys.settings, text),),
                partial(self._has, keys.settings, text),
            ):
                return changed
        raise changed_meanwhile(self.fleet)

    async def _change(
        self,
        compares: tuple[Compare, ...],
        success: tuple[Operation, ...],
        has_happened: Callable[[], Awaitable[bool]],
    ) -> bool:
        """Carry out a transaction; returns whether its conditions held, or what it should bring about is so.

        Raises:
            OutcomeUnknownError: it is not known, and not so yet.
        """
        try:
            answer = await self.store.transact(Txn(compares, success))
        except OutcomeUnknownError:
            if await has_happened():
                return True
            raise
        return answer.succeeded or await has_happened()

    async def _has(self, key: str, value: str | None = None) -> bool:
        found = (await self.store.range(key)).value(key)
        return found is not None and value in (None, found)

    async def _lacks(self, key: str) -> bool:
        return not await self._has(key)


def _new_generation() -> str:
    return secrets.token_hex(8)


def _revision_of(found: RangeResult, key: str) -> int:
    return next((one.mod_revision for one in found.key_values if one.key == key), 0)
