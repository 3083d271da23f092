"""What all references of an inventory protect, without a plan."""

from collections.abc import Mapping

import attrs

from hmret.model.images import Inventory, Remembered
from hmret.model.protection import (
    StaleReference,
    protect_repository,
    protected_sources,
    stale_references,
)
from hmret.model.references import Key
from hmret.model.tag_history import TagName, put_together

__all__ = ["Protection", "protect"]


@attrs.frozen
class Protection:
    """The outcome of resolving all references."""

    sources: Mapping[Key, tuple[str, ...]]
    """The sources that need each protected image, sorted."""
    stale: tuple[StaleReference, ...]
    """References to images that are not in the cache, sorted."""
    remembered: Mapping[TagName, Remembered]
    """Input of the next plan, so that the past targets of a tag stay protected."""


def protect(inventory: Inventory, now_ns: int | None) -> Protection:
    """Resolve all references, by `protect_repository` for each repository that one of them names."""
    found = {name: protect_repository(inventory, name, now_ns) for name in inventory.references.by_repository}
    return Protection(
        {key: tuple(sorted(names)) for key, names in protected_sources(inventory, found).items()},
        stale_references(inventory, found),
        put_together(inventory, (protection.remembered for protection in found.values())),
    )
