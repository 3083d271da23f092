"""Which images have been used since the last sweep."""

from collections.abc import Iterator

import attrs

from hmret.model.references import Key
from hmret.model.values import define

# More than a host marks used between two sweeps. Where no sweep happens, as with retention switched off, this bounds
# the memory to some 8 MiB.
_MOST = 32_768


@define(eq=False)
class RecentUses:
    """The images that were used, by the names under which they were used; of very many, the latest."""

    _most: int = _MOST
    _used: dict[Key, None] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._used)

    def __iter__(self) -> Iterator[Key]:
        """Yield the images that were used, the latest last."""
        return iter(self._used)

    def add(self, key: Key) -> None:
        """Record that an image was used just now."""
        self._used.pop(key, None)
        self._used[key] = None
        if len(self._used) > self._most:
            del self._used[next(iter(self._used))]

    def take(self) -> frozenset[Key]:
        """Return the images that were used, and start again with none."""
        used, self._used = frozenset(self._used), {}
        return used
