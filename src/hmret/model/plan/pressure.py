"""Images deleted before their window ends, because a limit of the disk is exceeded."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import attrs

from hmret.model.clock.unwatched import NO_GAPS, Gaps
from hmret.model.images import DiskUsage, Inventory
from hmret.model.plan.selection import BytesFreed, Choice, Pressure, Selection, Substitute, apparent_bytes
from hmret.model.policy.compiled import Policy
from hmret.model.policy.limits import DiskLimits
from hmret.model.times import timedelta_nanoseconds
from hmret.model.values import frozen

Disk = tuple[int, int]
"""Identifies a disk, whichever of its links is meant."""


class _Group(NamedTuple):
    """Images whose disks are links of one: their bytes are freed only if all of them go; longest unused first."""

    since_ns: int
    """When the last of them was last in use, in nanoseconds."""
    choices: tuple[Choice, ...]
    freed_bytes: int

    @property
    def sizes_bytes(self) -> int:
        """Their apparent sizes."""
        return apparent_bytes(self.choices)


@frozen
class PressureStep:
    """Adds the images that must go to free disk space, longest unused first."""

    limits: DiskLimits
    usage: DiskUsage
    is_suspended: bool
    yields: bool
    """Whether images may be deleted at any hour to free space."""
    gaps: Gaps = NO_GAPS
    """Time that no sweep watched, which does not count as unused."""

    def apply(self, selection: Selection) -> None:
        cache_bytes = selection.cache_bytes() + self.usage.quarantined_bytes
        excess = self._excess()
        over_cap = self._over_cap(selection, cache_bytes)
        if not (excess or over_cap):
            return
        is_held_up = self.is_suspended or (selection.is_closed and not self.yields)
        groups = [] if is_held_up else self._groups(selection)
        quarantined = 0 if self.is_suspended else self.usage.quarantined_bytes
        going = BytesFreed.by(selection.going).total_bytes
        is_out_of_reach = (
            not is_held_up and quarantined + going + sum(group.freed_bytes for group in groups) < excess
        )
        if is_out_of_reach and self.usage.is_backing_off:
            excess = 0
        # Blocks are what the file system lacks; sizes are another count, which no quarantine is in.
        # guard(only-the-fair-share): If other data fills the disk, the cache gives up its proportional share
        # only, and is not emptied for it.
        asked = self._share_of(excess, cache_bytes) if is_out_of_reach else excess
        asked_sizes = 0
        if self._counts_sizes:
            asked_sizes = over_cap
        else:
            asked = max(asked, over_cap)
        if not (asked or asked_sizes):
            return
        projected, sizes = going, apparent_bytes(selection.going) if asked_sizes else 0
        left = []
        for group in groups:
            lacks_blocks, lacks_sizes = quarantined + projected < asked, sizes < asked_sizes
            if not lacks_blocks and not (lacks_sizes and group.sizes_bytes):
                left.append(group)
                continue
            projected += group.freed_bytes
            sizes += group.sizes_bytes
            selection.take_for_space(group.choices)
        selection.substitutes = [Substitute(group.choices, for_space=True) for group in left]
        selection.going.sort()
        selection.pressure = Pressure(
            wanted_bytes=max(excess, over_cap),
            asked_bytes=asked,
            quarantined_bytes=min(quarantined, asked),
            projected_bytes=projected,
            is_watermark=excess > 0,
            asked_sizes_bytes=asked_sizes,
            is_out_of_reach=is_out_of_reach and excess > 0,
        )

    @property
    def _counts_sizes(self) -> bool:
        return self.limits.count == "apparent"

    def _over_cap(self, selection: Selection, cache_bytes: int) -> int:
        """Return by how much the cache exceeds `max_used`, as that is counted."""
        most = self.limits.max_used_bytes(self.usage.total_bytes)
        if not most:
            return 0
        return max((selection.cache_sizes() if self._counts_sizes else cache_bytes) - most, 0)

    def _excess(self) -> int:
        """Return how much is in use above the low mark, while pressure applies."""
        high, total, used = self.limits.high_watermark, self.usage.total_bytes, self.usage.used_bytes
        if not high or self.usage.is_futile:
            return 0
        if used > high * total or self.usage.is_pressed:
            return max(used - int(self.limits.low * total), 0)
        return 0

    def _share_of(self, excess: int, cache_bytes: int) -> int:
        """Return the cache's share of an excess, where other data fills the disk too.

        The cache gives up what it holds above its proportional share of the low mark: the share that it has
        of the space in use. Data that fills the disk again and again must not empty the cache.
        """
        return excess * min(cache_bytes, self.usage.used_bytes) // self.usage.used_bytes if excess else 0

    def _groups(self, selection: Selection) -> list[_Group]:
        """List the groups of images that may be deleted to free space, longest unused first.

        Disks with links that stay are left out: their bytes would not be freed.
        """
        # guard(pressure-in-watched-time): Even on a full disk an image goes only after its minimum unused
        # time, counted in time that was watched.
        since_ns = self.gaps.latest_moved_to(
            selection.now_ns - timedelta_nanoseconds(self.limits.min_unused_for)
        )
        going = BytesFreed.by(selection.going)
        # guard(recent-use-beats-pressure): Even on a full disk, an image that was used within the shortest
        # unused time stays.
        may_go = (
            choice
            for choice in (*selection.evictable(), *selection.postponed)
            if choice.since_ns <= since_ns and selection.may_go_early(choice)
        )
        return sorted(_groups_of(may_go, going))


def _groups_of(  # noqa: C901 - two passes over all disks
    choices: Iterable[Choice], going: BytesFreed
) -> Iterator[_Group]:
    """Group images by the disks that they share; those with links elsewhere, which stay, are left out."""
    grouped: dict[Disk, list[Choice]] = {}
    for choice in choices:
        disks = {folder.shared_disk.identity for folder in choice.folders if folder.shared_disk is not None}
        if not disks:
            yield _Group(choice.since_ns, (choice,), BytesFreed.by((choice,)).total_bytes)
            continue
        together = [choice]
        for disk in disks:
            for other in grouped.get(disk, ()):
                if other not in together:
                    together.append(other)
        for other in together:
            for folder in other.folders:
                if folder.shared_disk is not None:
                    grouped[folder.shared_disk.identity] = together
    for group in {id(group): group for group in grouped.values()}.values():
        freed = BytesFreed(links=going.links.copy())
        for choice in group:
            freed.add(choice)
        links_of = {
            folder.shared_disk.identity: folder.shared_disk.links
            for choice in group
            for folder in choice.folders
            if folder.shared_disk is not None
        }
        # guard(pressed-bytes-come-free): A disk with a hard link that stays frees no space, so its image
        # would be lost for nothing.
        if all(freed.links[disk] == links for disk, links in links_of.items()):
            yield _Group(max(choice.since_ns for choice in group), tuple(sorted(group)), freed.total_bytes)


def without_state_of_other_policy(candidate: Policy, in_force: Policy, inventory: Inventory) -> Inventory:
    """Return an inventory for a candidate, without what belongs to the policy in force alone.

    That is the pressure on the disk, where the limits differ, and the release of the brake, where that differs.
    """
    usage = inventory.disk
    if usage is not None and candidate.disk != in_force.disk:
        usage = attrs.evolve(usage, is_pressed=False, is_backing_off=False, is_futile=False)
    released = inventory.brake_released_images if candidate.brake == in_force.brake else 0
    return attrs.evolve(inventory, disk=usage, brake_released_images=released)
