"""What the part of a plan about one repository is made from."""

from collections.abc import Collection, Mapping, Set as AbstractSet

import msgspec

from hmret.model.images import Image, Inventory, Repository
from hmret.model.origins import Builds
from hmret.model.protection import RepositoryProtection

_NO_DIGESTS: AbstractSet[str] = frozenset()
_NEVER_READ: Mapping[str, int] = {}
_NO_FOREIGN: Mapping[str, frozenset[str]] = {}
_NO_IMAGES: Mapping[str, Image] = {}
_NO_SHARES: Mapping[str, tuple[str, ...]] = {}
_NO_NOTES: Mapping[str, str] = {}


class RepositoryInputs(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The inputs of a part of a plan, except the context and the time."""

    repository: Repository | None
    timers: Mapping[str, int | None]
    protection: RepositoryProtection
    """What the references to this repository protect."""
    foreign: Mapping[str, frozenset[str]]
    """The sources that need its content under the name of a repository that does not own it; by digest."""
    leased: AbstractSet[str]
    backing_off: AbstractSet[str]
    is_unlisted: bool
    """Whether some of its contents may not have been seen."""
    builds: Builds
    built: AbstractSet[str]
    """Digests that were built on this host."""
    accessed: Mapping[str, int]
    """When disks were last read unseen, by digest."""

    @property
    def images(self) -> Mapping[str, Image]:
        """The images in the cache, by digest."""
        return _NO_IMAGES if self.repository is None else self.repository.images

    @property
    def shared(self) -> Mapping[str, tuple[str, ...]]:
        """The digests whose content other repositories own too, each with all its owners."""
        return _NO_SHARES if self.repository is None else self.repository.shared

    @property
    def unready(self) -> Mapping[str, str]:
        """Digests that are not ready because of another folder of theirs, and why."""
        return _NO_NOTES if self.repository is None else self.repository.unready

    def match_inventory(self, inventory: Inventory, name: str, protection: RepositoryProtection) -> bool:
        """Return whether an inventory holds the very same inputs for a repository.

        Only in the simple case in which nothing in it is leased, backing off, unlisted, needed under a
        foreign name or was read unseen.
        """
        # guard(changed-inputs-new-verdict): A guest, timer or lease that is new in a repository counts at
        # once: earlier decisions on its images do not stand.
        return (
            self.repository is inventory.repositories.get(name)
            and self.timers is inventory.states.of_repository(name)
            and self.protection is protection
            and self.builds is inventory.builds
            and not (self.leased or self.backing_off or self.is_unlisted or self.foreign or self.accessed)
        )

    def match(self, other: "RepositoryInputs") -> bool:
        """Return whether two sets of inputs are the same: the large ones the very same objects, the others equal."""
        return (
            self.repository is other.repository
            and self.timers is other.timers
            and self.protection is other.protection
            and self.foreign == other.foreign
            and self.built == other.built
            and self.leased == other.leased
            and self.backing_off == other.backing_off
            and self.is_unlisted == other.is_unlisted
            and self.accessed == other.accessed
        )

    def sources(self) -> Mapping[str, tuple[str, ...]]:
        """Return which sources need each image of a repository, by its own name or by that of another."""
        images, sources = self.images, self.protection.sources
        if not self.foreign and sources.keys() <= images.keys():
            return sources
        found = {digest: names for digest, names in sources.items() if digest in images}
        for digest, names in self.foreign.items():
            # Where the row stands for the repository's own folder, the content is not what was named.
            if digest in images and images[digest].is_content:
                found[digest] = tuple(sorted(names.union(found.get(digest, ()))))
        return found


def inputs_of(
    inventory: Inventory,
    name: str,
    protection: RepositoryProtection,
    *,
    foreign: Mapping[str, frozenset[str]] | None,
    leased: AbstractSet[str] | None,
    backing_off: AbstractSet[str] | None,
    accessed: Mapping[str, int] | None = None,
) -> RepositoryInputs:
    """Collect the inputs of the part of a plan about one repository."""
    repository = inventory.repositories.get(name)
    return RepositoryInputs(
        repository=repository,
        timers=inventory.states.of_repository(name),
        protection=protection,
        foreign=foreign or _NO_FOREIGN,
        leased=leased or _NO_DIGESTS,
        backing_off=backing_off or _NO_DIGESTS,
        is_unlisted=inventory.is_partial(name),
        builds=inventory.builds,
        built=_NO_DIGESTS if repository is None else built_in(repository, inventory.builds),
        accessed=accessed or _NEVER_READ,
    )


def built_in(repository: Repository, builds: Builds) -> AbstractSet[str]:
    """List the digests of a repository's images that were built on this host."""
    if not builds.digests and repository.name not in builds.named and repository.name not in builds.tags:
        return _NO_DIGESTS
    images = repository.images
    # guard(build-digests-count): A digest in the build records was made on this host, whatever repository
    # it is kept under, and cannot be pulled again.
    found = _common(builds.digests, images.keys())
    if repository.name in builds.named:
        found |= _common(builds.named[repository.name], images.keys())
    # guard(build-tags-count): A tag that a build has given leads to an image made on this host, which
    # cannot be pulled again.
    if repository.name in builds.tags:
        targets = (repository.tags.get(tag) for tag in builds.tags[repository.name])
        found |= {target for target in targets if target is not None and target in images}
    return found


def _common(one: AbstractSet[str], other: Collection[str]) -> set[str]:
    few, many = (one, other) if len(one) <= len(other) else (other, one)
    return {digest for digest in few if digest in many}
