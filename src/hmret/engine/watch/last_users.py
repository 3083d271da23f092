"""Remembers who last needed each image, so that the report of its deletion shows whose it was.

A timer may run for a month after the last user is gone, and by then no guest is left to tell. Nothing is
decided by this: if it is lost, deletions are reported without it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs

from hmret.engine.watch.saving import try_to_save
from hmret.model.grouping import ReferenceIndex
from hmret.model.images import Inventory, Repository
from hmret.model.plan.plan import USERS_SHOWN, Plan
from hmret.model.records.users import UsersRecord
from hmret.model.references import Key
from hmret.model.values import define


@define(eq=False)
class LastUsers:
    """Remembers who last referred to each image in the cache; recorded periodically."""

    save: Callable[[tuple[UsersRecord, ...]], Awaitable[None]]
    _past: dict[Key, UsersRecord] = attrs.field(factory=dict, init=False)
    """For images that were unreferenced at the last look, and those on record."""
    _saved: tuple[UsersRecord, ...] = attrs.field(default=(), init=False)
    _noted: tuple[ReferenceIndex, Mapping[str, Repository]] | None = attrs.field(default=None, init=False)
    """What was last noted; if both are the same objects again, nothing has changed."""
    _sources: Mapping[str, Mapping[str, tuple[str, ...]]] = attrs.field(factory=dict, init=False)
    """By repository and digest: who needed the image then."""

    def restore(self, users: Iterable[UsersRecord]) -> None:
        """Continue from the record."""
        self._past = {(one.repository, one.digest): one for one in users}
        self._saved = self._as_record()

    def is_behind(self, plan: Plan, inventory: Inventory) -> bool:
        """Return whether a plan may contain users that are not noted yet."""
        noted = self._noted
        return noted is None or noted[0] is not plan.references or noted[1] is not inventory.repositories

    def note(self, plan: Plan, inventory: Inventory, pause: Callable[[], None]) -> None:
        """Note who needs which image according to a plan; to be called in a thread, as there may be many.

        `pause`: called now and then.
        """
        before, names = self._sources, self._names
        now = dict(plan.sources())
        for repository, by_digest in before.items():
            if now.get(repository) is not by_digest:
                left = now.get(repository, {})
                for digest, sources in by_digest.items():
                    if digest not in left:
                        self._past[repository, digest] = _record((repository, digest), sources, names)
                pause()
        self._noted, self._sources = (plan.references, inventory.repositories), now
        self.forget_all_but(inventory)

    def forget_all_but(self, inventory: Inventory) -> None:
        """Forget images that are gone; does nothing while part of the cache is unreadable."""
        if not inventory.unlisted:
            self._past = {key: users for key, users in self._past.items() if inventory.holds(key)}

    def facts(self, key: Key) -> Mapping[str, object]:
        """Return who last referred to an image; empty if unknown."""
        repository, digest = key
        sources = self._sources.get(repository, {}).get(digest)
        users = self._past.get(key) if sources is None else _record(key, sources, self._names)
        return {} if users is None else users.facts

    def unsaved(self) -> tuple[UsersRecord, ...] | None:
        """Return what needs to be recorded, None: nothing; to be called in a thread, as there may be many."""
        record = self._as_record()
        return None if record == self._saved else record

    async def persist(self, record: tuple[UsersRecord, ...] | None) -> None:
        """Record any changes; if that fails, a restart loses them."""
        if record is not None and await try_to_save(self.save, record, "last_users_not_recorded"):
            self._saved = record

    @property
    def _names(self) -> Mapping[str, str]:
        return {} if self._noted is None else self._noted[0].names

    def _as_record(self) -> tuple[UsersRecord, ...]:
        names = self._names
        current = {
            (repository, digest): _record((repository, digest), sources, names)
            for repository, by_digest in self._sources.items()
            for digest, sources in by_digest.items()
        }
        users = self._past | current
        return tuple(users[key] for key in sorted(users))


def _record(key: Key, sources: tuple[str, ...], names: Mapping[str, str]) -> UsersRecord:
    repository, digest = key
    shown = sources[:USERS_SHOWN]
    named = {source: names[source] for source in shown if source in names}
    return UsersRecord(repository=repository, digest=digest, referenced_by=shown, vm_names=named)
