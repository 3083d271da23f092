"""Who needed each image last, so that whoever reads that it has gone sees whose it was.

A timer runs for a month after nobody needs its image any more, and by then no guest is left to ask. Nothing is decided
by this: where it is lost, an image that goes is told without it.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs

from hmret.engine.log import log_event
from hmret.model.grouping import ReferenceIndex
from hmret.model.images import Inventory, Key, Repository
from hmret.model.planning import Plan
from hmret.model.users_record import UsersRecord
from hmret.model.values import define

__all__ = ["LastUsers"]

_NOBODY: Mapping[str, object] = {}


async def _save_nothing(_users: tuple[UsersRecord, ...]) -> None:
    pass


@define(eq=False)
class LastUsers:
    """Remembers of each image that is here who referred to it when last anyone did; on record now and then."""

    save: Callable[[tuple[UsersRecord, ...]], Awaitable[None]] = _save_nothing
    _users: dict[Key, UsersRecord] = attrs.field(factory=dict, init=False)
    _saved: tuple[UsersRecord, ...] = attrs.field(default=(), init=False)
    _noted: tuple[ReferenceIndex, Mapping[str, Repository]] | None = attrs.field(default=None, init=False)
    """What was last noted; where both are the same objects again, nothing is new."""
    _sources: dict[str, Mapping[str, tuple[str, ...]]] = attrs.field(factory=dict, init=False)
    """By repository: who needed its images then."""

    def restore(self, users: Iterable[UsersRecord]) -> None:
        """Go on from what is on record."""
        self._users = {(one.repository, one.digest): one for one in users}
        self._saved = self._as_record()

    def is_behind(self, plan: Plan, inventory: Inventory) -> bool:
        """Return whether a plan may know of users that are not noted."""
        noted = self._noted
        return noted is None or noted[0] is not plan.references or noted[1] is not inventory.repositories

    def note(self, plan: Plan, inventory: Inventory, pause: Callable[[], None]) -> None:
        """Note who needs which image by a plan; for a thread, as there may be many.

        `pause`: called now and then.
        """
        is_first = self._noted is None
        self._noted = plan.references, inventory.repositories
        sources = dict(plan.sources())
        for name, by_digest in sources.items():
            if self._sources.get(name) is not by_digest:
                for digest in by_digest:
                    self._note(plan, (name, digest))
                pause()
        self._sources = sources
        if is_first:
            # Of single sweeps, each is the first.
            self.forget_all_but(inventory)

    def _note(self, plan: Plan, key: Key) -> None:
        repository, digest = key
        named = plan.named_users(repository, digest)
        self._users[key] = UsersRecord(
            repository=repository,
            digest=digest,
            referenced_by=tuple(named),
            vm_names={source: name for source, name in named.items() if name},
        )

    def forget_all_but(self, inventory: Inventory) -> None:
        """Forget images that are gone; while part of the cache cannot be seen, none is known to be."""
        if not inventory.unlisted:
            self._users = {key: users for key, users in self._users.items() if inventory.holds(key)}

    def facts(self, key: Key) -> Mapping[str, object]:
        """Say who referred to an image when last anyone did; nothing where that is not known."""
        users = self._users.get(key)
        return _NOBODY if users is None else users.facts

    async def keep(self) -> None:
        """Write down what has changed; where that fails, a restart loses it."""
        record = self._as_record()
        if record == self._saved:
            return
        try:
            await self.save(record)
            self._saved = record
        except OSError as error:
            log_event(logging.WARNING, "last_users_not_recorded", error=error.strerror)

    def _as_record(self) -> tuple[UsersRecord, ...]:
        return tuple(self._users[key] for key in sorted(self._users))
