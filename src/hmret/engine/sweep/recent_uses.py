"""What has been used since the last sweep looked."""

from collections.abc import Iterator

import attrs

from hmret.model.images import Key
from hmret.model.values import define

__all__ = ["RecentUses"]

# More than a host marks used between two sweeps. Where none happens, as with retention switched off, it is what bounds
# the memory: some 8 MiB.
_MOST = 32_768


@define(eq=False)
class RecentUses:
    """The images that were used, by the names that they were used by; of very many, the latest."""

    _most: int = _MOST
    _used: dict[Key, None] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._used)

    def __iter__(self) -> Iterator[Key]:
        """Give what was used, the latest last."""
        return iter(self._used)

    def add(self, key: Key) -> None:
        """Note that an image was used just now."""
        self._used.pop(key, None)
        self._used[key] = None
        if len(self._used) > self._most:
            del self._used[next(iter(self._used))]

    def take(self) -> frozenset[Key]:
        """Hand over what was used, and begin again with nothing."""
        used, self._used = frozenset(self._used), {}
        return used
