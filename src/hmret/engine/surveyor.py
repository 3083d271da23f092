"""Taking the inventory: everything that a plan decides on, asked of the actors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import islice

import anyio
import attrs

from hmret.actors.locks import Lease
from hmret.actors.reference_collector import Collected, Protected, ReferenceCollector
from hmret.actors.scanner import Scanner, ScanResult
from hmret.actors.state_keeper import StateKeeper, StatesLoaded
from hmret.actors.threads import Threads
from hmret.disk.hypeman.images import forget_repositories
from hmret.disk.layout import CONTENT, IMAGES, OWN, REPOSITORIES
from hmret.engine.groups import first_error
from hmret.engine.leases import REMEDY
from hmret.engine.watch.folders import FoldersFound, FolderWatch
from hmret.model.clock.looks import Watched
from hmret.model.clock.unwatched import NO_GAPS
from hmret.model.grouping import ReferenceIndex, Timers
from hmret.model.images import (
    Cause,
    ContentOwners,
    DiskUsage,
    Image,
    Inventory,
    Key,
    Reference,
    Suspension,
)
from hmret.model.plan.decide import Plan, plan
from hmret.model.plan.selection import Choice
from hmret.model.plan.undeletable import with_obstacles
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.records.folders import FolderSeen, LostFolder
from hmret.model.references import forget_references
from hmret.model.times import SECOND
from hmret.model.values import define, frozen
from hmret.model.verdicts import Verdict

__all__ = ["LEASES_BROKEN", "Survey", "Surveyor"]

_YOUNG_NS = 600 * SECOND
"""How long before a sweep a guest may have been made whose tag has not been seen yet, since it is moved time and again."""


@frozen(eq=False)
class Survey:
    """An inventory, and what was odd about it."""

    inventory: Inventory
    is_remembered: bool
    """Whether what the inventory says of tags is on record."""
    scan: ScanResult
    corrupt_states: tuple[tuple[str, str], ...]
    stray_states: tuple[str, ...]
    """What a crash left behind where the states are."""
    ignored_references: tuple[tuple[str, str], ...]
    """Unreadable references that the operator told to ignore."""
    folders: FoldersFound
    """The folders that can be volumes of their own, and those that are lost."""


@define(eq=False)
class Surveyor:
    """Asks the actors for all that there is."""

    config: RetentionConfig
    scanner: Scanner
    references: ReferenceCollector
    states: StateKeeper
    threads: Threads
    folders: FolderWatch
    leases_break: bool = False
    """Whether a rename breaks the kernel's leases here."""
    policy: Policy = attrs.field(init=False)
    _scan: ScanResult | None = attrs.field(default=None, init=False)
    """What the last survey saw."""
    _joined: tuple[ReferenceIndex, tuple[Reference, ...], ReferenceIndex] | None = attrs.field(
        default=None, init=False
    )

    @policy.default
    def _policy_of_config(self) -> Policy:
        return Policy.of(self.config)

    def reconfigure(self, config: RetentionConfig) -> None:
        """Go by other settings from now on."""
        self.config = config
        self.policy = Policy.of(config)

    async def survey(
        self,
        *,
        leases: Sequence[Lease] = (),
        uses: Iterable[Key] = (),
        lease_fault: tuple[str, str] | None = None,
        clock_fault: str | None = None,
        backing_off: AbstractSet[Key] = frozenset(),
        disk: DiskUsage | None = None,
        brake_released_images: int = 0,
        watched: Watched = Watched(NO_GAPS),  # noqa: B008 - a frozen value
        now_ns: int = 0,
    ) -> Survey:
        """Take the inventory of everything, as it is `now_ns`, after what was `watched` of the time before.

        `uses`: what was used since the last one. Content is that of all its owners, so where one of them was no owner
        when its use was confirmed, or is none any more, it is as if a lease covered it.
        """
        scans: list[ScanResult] = []
        loads: list[StatesLoaded] = []

        # A volume may come or go while it is scanned.
        before = await self.folders.look_at_cache()

        async def scan_images() -> None:
            scans.append(await self.scanner.scan())
            loads.append(await self.states.load(scans[0].repositories))

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(scan_images)
                collected = await self.references.collect()
        except ExceptionGroup as group:
            raise first_error(group) from None
        scan, states = scans[0], loads[0]
        self._scan = scan
        link_times = await self.scanner.link_times(collected.unseen_tags)
        found = await self._compare_folders(before, scan, states, collected.folders)
        accessed = await self._look_for_reads(scan, states, watched, now_ns)
        ignoring = self.config.unreadable_references == "ignore"
        # guard(lost-guests-keep-history): Guests on a missing volume may name any tag, so what tags have pointed to
        # is remembered until they are back.
        return Survey(
            inventory=Inventory(
                repositories=scan.repositories,
                states=states.states,
                references=self._with_bases(collected.references, scan.bases),
                contents=scan.contents,
                details=scan.details,
                builds=scan.builds.builds,
                remembered=collected.remembered,
                link_times=link_times,
                leased=frozenset(
                    (*(lease.key for lease in leases), *_used_by_others(uses, scan.contents, states.states))
                ),
                suspensions=tuple(self._suspensions(scan, collected, found.lost, lease_fault, clock_fault)),
                unlisted=("",) if found.lost else scan.unpruned,
                # Who is missing may name any tag.
                unread_sources=collected.unread_sources.union(one.name for one in found.lost),
                backing_off=backing_off,
                disk=disk,
                brake_released_images=brake_released_images,
                gaps=watched.gaps,
                accessed=accessed,
            ),
            scan=scan,
            corrupt_states=states.corrupt,
            stray_states=states.strays,
            is_remembered=collected.is_remembered,
            ignored_references=tuple(
                (path, problem) for path, problem in collected.unreadable if ignoring and not _is_source(path)
            ),
            folders=found,
        )

    def asks_reads(self, watched: Watched) -> bool:
        """Return whether a survey asks when disks were last read."""
        mode = self.config.access_time
        return mode == "always" or (mode == "gaps" and watched.unseen_since_ns is not None)

    async def _look_for_reads(
        self, scan: ScanResult, states: StatesLoaded, watched: Watched, now_ns: int
    ) -> Mapping[Key, int]:
        """Find out which disks were read while nobody watched, or ever since their timers began."""
        if not self.asks_reads(watched):
            return {}
        after_ns = 0 if self.config.access_time == "always" else watched.unseen_since_ns or 0
        return await self.scanner.last_reads(scan.repositories, states.states, after_ns, now_ns)

    async def _compare_folders(
        self,
        before: Mapping[str, FolderSeen],
        scan: ScanResult,
        states: StatesLoaded,
        references: Mapping[str, FolderSeen],
    ) -> FoldersFound:
        """Find out which folders are lost, by how those of images were before the scan or are after it."""
        after = await self.folders.look_at_cache()
        seen = {**after, **references}
        compare = partial(self.folders.compare, scan=scan, timers=states.states)
        found = await self.threads.run_alone(compare, seen)
        lost = {one.name: one for one in found}
        if before != after:
            lost = {one.name: one for one in await self.threads.run_alone(compare, before)} | lost
        return FoldersFound(seen, tuple(lost[name] for name in sorted(lost)))

    def _with_bases(self, references: ReferenceIndex, bases: tuple[Reference, ...]) -> ReferenceIndex:
        """Add what images need of each other; the same object where nothing of that is new."""
        if not bases:
            return references
        if self._joined is None or self._joined[0] is not references or self._joined[1] is not bases:
            self._joined = references, bases, references.changed((), bases)
        return self._joined[2]

    async def decide(
        self, survey: Survey, now: datetime, previous: Plan | None = None, policy: Policy | None = None
    ) -> Plan:
        """Make the plan, in a thread: at 100,000 images it takes too long for an event loop.

        What goes by it has been looked at once more, whether a deletion would be refused: a plan does not promise that.

        `policy`: another one than that in force.
        """
        inventory, policy = survey.inventory, policy or self.policy
        looked_at: set[Key] = set()
        further = 0
        while True:
            made = await self.threads.run_alone(plan, inventory, policy, now, previous, self.threads.pause)
            choices = [*made.choices, *islice(_in_stead(made), further)]
            fresh = [choice for choice in choices if choice.keys[0] not in looked_at]
            obstacles = await self.scanner.find_obstacles(fresh) if fresh else {}
            if not obstacles:
                return made
            looked_at.update(choice.keys[0] for choice in fresh)
            chosen = {choice: obstacles[key] for choice in fresh if (key := choice.keys[0]) in obstacles}
            # What is in a folder the scan will see by itself then.
            await self.scanner.invalidate(
                {
                    key
                    for choice, obstacle in chosen.items()
                    if obstacle.is_broken or obstacle.will_pass
                    for key in choice.keys
                }
            )
            inventory = with_obstacles(inventory, chosen)
            previous = made
            # Where there are many, each round looks at twice as many.
            further = max(2 * further, _FURTHER)

    async def confirm_newest(
        self, made: Plan, units: Sequence[tuple[Verdict, ...]]
    ) -> tuple[list[tuple[Verdict, ...]], set[Key]]:
        """Look afresh at the newest images, for which older ones may go; returns what of some units may go, and what is otherwise.

        An image that has become unusable without its folder's having changed would be seen hours later.
        """
        if not self.policy.keeps_latest:
            return list(units), set()
        otherwise: set[Key] = set()
        for name in sorted({verdict.repository for rows in units for verdict in rows}):
            for image in made.newest(name):
                found = await self.scanner.inspect_image((name, image.digest), is_content=image.is_content)
                # guard(newest-still-usable): Older images go only because newer ones stay; if one of those is
                # unusable by now, the older ones stay, too.
                if found is None or _rank(found) != _rank(image):
                    otherwise.add((name, image.digest))
                    break
        changed = {name for name, _ in otherwise}
        return [rows for rows in units if not any(row.repository in changed for row in rows)], otherwise

    async def recheck(self, keys: Sequence[Key], began_ns: int) -> Protected:
        """Look which of some rows are referenced now; content is needed by whatever name means it.

        `began_ns`: when the sweep began, by the wall clock.
        """
        content: dict[str, str] = {}
        for name, digest in keys:
            repository = self._scan.repositories.get(name) if self._scan is not None else None
            image = None if repository is None else repository.images.get(digest)
            if image is not None and image.content_name is not None:
                content[digest] = image.content_name
        bases = () if self._scan is None else self._scan.bases
        return await self.references.recheck(keys, content, bases, began_ns - _YOUNG_NS)

    async def invalidate(self, keys: AbstractSet[Key]) -> None:
        """Have some images read afresh by the next survey: the last look found them otherwise."""
        if keys:
            await self.scanner.invalidate(keys)
            await self.states.invalidate({repository for repository, _ in keys})

    async def keep(self) -> None:
        """Write down what is known of the cache, for the next start; where that fails, that start takes longer.

        What texts mean is forgotten: in the long run most of them are those of guests and images that are gone.
        """
        forget_references()
        forget_repositories()
        with suppress(OSError):
            await self.scanner.keep()
            await self.states.keep()
            await self.references.keep()

    def reference_suspensions(self, unreadable: Sequence[tuple[str, str]]) -> list[Suspension]:
        """Say why unreadable references suspend deletion.

        Those of files are left out where they are to be ignored. A source of the embedder's is never ignored: what it
        would name is anybody's guess, and may be everything.
        """
        ignoring = self.config.unreadable_references == "ignore"
        # guard(failing-source-suspends): A source of the embedder's that fails may have named any image: it suspends
        # deletion even where unreadable files are ignored.
        return [
            Suspension(
                Cause.UNREADABLE_REFERENCE, self._absolute(path), f"{problem}; {_reference_remedy(path)}"
            )
            for path, problem in unreadable
            if not ignoring or _is_source(path)
        ]

    def lost_suspensions(self, lost: Iterable[LostFolder]) -> list[Suspension]:
        """Say why lost folders suspend deletion."""
        return [Suspension(one.cause, self._absolute(one.name), one.detail) for one in lost]

    def suspensions_of(self, again: Protected) -> list[Suspension]:
        """Say why a last look at the references suspends deletion."""
        lost = self.lost_suspensions(self.folders.compare(again.folders))
        # guard(lost-volume-at-last-look): A volume that goes away between the plan and the deletion takes its guests
        # out of sight, so the sweep stops.
        return [*self.reference_suspensions(again.unreadable), *lost]

    def _suspensions(
        self,
        scan: ScanResult,
        collected: Collected,
        lost: Sequence[LostFolder],
        lease_fault: tuple[str, str] | None,
        clock_fault: str | None,
    ) -> list[Suspension]:
        causes = [*self.reference_suspensions(collected.unreadable), *self.lost_suspensions(lost)]
        if lease_fault is not None:
            path, problem = lease_fault
            where = self._absolute(path)
            causes.append(Suspension(Cause.UNREADABLE_REFERENCE, where, f"{problem}; {REMEDY}"))
        if self.leases_break and self.config.leases == "suspend":
            causes.append(Suspension(Cause.LEASES_BROKEN, self._absolute(OWN), LEASES_BROKEN))
        if clock_fault is not None:
            remedy = "check the time; deletion resumes by itself one hour after the clock has settled"
            causes.append(Suspension(Cause.CLOCK_JUMP, "", f"{clock_fault}; {remedy}"))
        for link in scan.hidden:
            if link.problem:
                where = self._absolute(f"{IMAGES}/{link.path}")
                causes.append(Suspension(Cause.UNREADABLE_CACHE, where, f"{link.problem}; {_BIND_MOUNT}"))
        # guard(unlisted-part-suspends): A part of the cache that cannot be listed may hold tags and images that
        # depend on others, so all deletion waits.
        for path, problem in scan.unlisted:
            where = self._absolute(f"{IMAGES}/{path}".rstrip("/"))
            remedy = _remedy(path)
            causes.append(Suspension(Cause.UNREADABLE_CACHE, where, f"{problem}; {remedy}"))
        return causes

    def _absolute(self, path: str) -> str:
        return f"{self.config.data_dir.rstrip('/')}/{path}" if "/" in path or path in _FOLDERS else path


def _is_source(path: str) -> bool:
    """Return whether a reference that could not be had is that of a source of the embedder's, which has no path."""
    return "/" not in path and path not in _FOLDERS


def _reference_remedy(path: str) -> str:
    """Say what helps where a reference cannot be read, and gives up nothing that it may protect."""
    if _is_source(path):
        return "deletion resumes by itself once this source of references answers"
    if path in _FOLDERS:
        return "give hmret the right to list it, or repair the file system"
    return (
        "repair it, or remove its folder where the guest or snapshot is gone, "
        "or set hmret.unreadable_references: ignore"
    )


_BIND_MOUNT = "to have it on another disk, use a bind mount in the place of the link"
LEASES_BROKEN = (
    "a rename breaks the kernel's leases on this file system (sshfs, say), so nobody can tell whether a disk is open; "
    "have the data directory on another one, or set hmret.leases: when-offered to go by references alone"
)
"""Why deletion is suspended there, and what remedies it."""

_FURTHER = 32
"""How many images are looked at that may go in place of others."""

_FOLDERS = frozenset((IMAGES, "guests", "snapshots"))


def _in_stead(made: Plan) -> Iterator[Choice]:
    return (choice for substitute in made.substitutes for choice in substitute.choices)


def _used_by_others(uses: Iterable[Key], contents: ContentOwners, states: Timers) -> Iterator[Key]:
    """List the rows of content that was used by the name of a repository that does not own it, where they have timers."""
    for name, digest in uses:
        owners = contents.get(digest, ())
        # guard(foreign-use-counts): Content used under the name of a repository that does not own it was in use for
        # all its owners.
        if name not in owners:
            yield from ((owner, digest) for owner in owners if (owner, digest) in states)


def _remedy(path: str) -> str:
    if path in (CONTENT, REPOSITORIES):
        return f"it must be a folder that hmret may list; {_BIND_MOUNT}"
    return "give hmret the right to list it, or repair the file system"


def _rank(image: Image) -> tuple[object, ...]:
    """Tell what makes an image one of the newest."""
    return image.status, image.broken, image.created_ns
