"""Who needs which images: the sources of a plan's references, and in pages."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import attrs

from hmret.model.plan.plan import Plan
from hmret.model.references import Key
from hmret.model.values import define, frozen

MOST_IMAGES = 100
"""How many images of one user are listed."""


@frozen
class UserRow:
    """A source of references: a VM, a snapshot, or an embedder's own."""

    user: str
    name: str | None
    """The name of the VM; None: it has none."""
    images: tuple[Key, ...]
    """Images that it keeps, sorted."""
    total: int
    """How many those are in all."""
    missing: tuple[str, ...]
    """What it names that is not here."""


@define(eq=False)
class UserTable:
    """All sources of a plan; an image deleted since is none that anybody needs."""

    _names: Mapping[str, str]
    _pause: Callable[[], None]
    _images: Mapping[str, Sequence[Key]]
    _missing: Mapping[str, Sequence[str]]
    _order: Sequence[str] = attrs.field(init=False)

    @_order.default
    def _sorted(self) -> Sequence[str]:
        return sorted({*self._images, *self._missing})

    @classmethod
    def of(cls, plan: Plan, pause: Callable[[], None]) -> "UserTable":
        """Collect the sources of a plan."""
        images: defaultdict[str, list[Key]] = defaultdict(list)
        missing: defaultdict[str, list[str]] = defaultdict(list)
        for repository, by_digest in plan.sources():
            for digest, sources in by_digest.items():
                for source in sources:
                    images[source].append((repository, digest))
                pause()
        for stale in plan.stale_references:
            missing[stale.source].append(stale.image)
        return cls(plan.vm_names, pause, images, missing)

    def __len__(self) -> int:
        return len(self._order)

    def matching(self, part: str) -> list[str]:
        """List the sources that have a text in their id or name, in any case."""
        found, wanted = [], part.lower()
        for user in self._order:
            self._pause()
            if wanted in user.lower() or wanted in self._names.get(user, "").lower():
                found.append(user)
        return found

    def row(self, user: str) -> UserRow:
        """Return one of the sources."""
        images = self._images.get(user, ())
        return UserRow(
            user=user,
            name=self._names.get(user),
            images=tuple(islice(sorted(images), MOST_IMAGES)),
            total=len(images),
            missing=tuple(sorted(self._missing.get(user, ()))),
        )
