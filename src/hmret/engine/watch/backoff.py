"""Failed deletions, and when each is retried."""

from collections.abc import Awaitable, Callable, Iterable

import attrs

from hmret.engine.watch.saving import try_to_save
from hmret.model.records.backoff import FailureRecord
from hmret.model.references import Key
from hmret.model.times import SECOND
from hmret.model.values import define

_FIRST_NS = 60 * SECOND
_LONGEST_NS = 3600 * SECOND


@define(eq=False)
class Backoff:
    """Images whose deletion failed, timed by the boot-time clock of one boot; on record for one-shot sweeps too."""

    boot_id: str
    save: Callable[[tuple[FailureRecord, ...]], Awaitable[None]]
    _failures: dict[Key, FailureRecord] = attrs.field(factory=dict, init=False)
    _saved: tuple[FailureRecord, ...] = attrs.field(default=(), init=False)

    def restore(self, failures: Iterable[FailureRecord]) -> None:
        """Continue from the record; from another boot, only how often each failed counts."""
        # guard(failures-outlast-restart): A failed deletion backs off across restarts too; otherwise each
        # one-shot sweep would retry it.
        self._failures = {(one.repository, one.digest): one for one in failures}
        self._saved = self._as_record()

    def fail(self, key: Key, now_ns: int) -> None:
        """Back off for a minute after the first failure, doubling each time, up to an hour."""
        known = self._failures.get(key)
        count = 1 if known is None else known.failures + 1
        wait_ns = min(_FIRST_NS << min(count - 1, 10), _LONGEST_NS)
        self._failures[key] = FailureRecord(
            repository=key[0],
            digest=key[1],
            failures=count,
            boot_id=self.boot_id,
            again_boot_ns=now_ns + wait_ns,
        )

    def succeed(self, key: Key) -> None:
        """Forget the failures of an image."""
        self._failures.pop(key, None)

    def waiting(self, now_ns: int) -> frozenset[Key]:
        """List the images that must not be retried yet."""
        return frozenset(
            key
            for key, one in self._failures.items()
            if one.boot_id == self.boot_id and one.again_boot_ns > now_ns
        )

    def forget_all_but(self, present: Callable[[Key], bool]) -> None:
        """Forget images that are gone."""
        self._failures = {key: failure for key, failure in self._failures.items() if present(key)}

    async def persist(self) -> None:
        """Record any changes; if that fails, a later sweep retries too early."""
        record = self._as_record()
        if record != self._saved and await try_to_save(self.save, record, "backoff_not_recorded"):
            self._saved = record

    def _as_record(self) -> tuple[FailureRecord, ...]:
        return tuple(self._failures[key] for key in sorted(self._failures))
