"""The state keeper: reads and writes the retention states and the record of the clocks."""

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from types import MappingProxyType

import msgspec

from hmret.actors.batches import batches
from hmret.actors.threads import Threads
from hmret.actors.tree_actor import TreeActor
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders_ahead import FolderAhead
from hmret.disk.hypeman.lookup import find_image, has_tag_to
from hmret.disk.hypeman.retention_states.scanning import StateFolder, remove_strays, scan_states
from hmret.disk.hypeman.retention_states.timer_index import TimerIndex
from hmret.disk.hypeman.retention_states.writing import clear_state, write_states
from hmret.disk.hypeman.scan import OddTagError, resolve_tag
from hmret.disk.image_claim import UNCONTESTED, Claim
from hmret.disk.layout import IMAGES, RETENTION, hex_of
from hmret.disk.records.engine import load_clock_record, save_clock_record
from hmret.disk.scans.checkpoints import CacheRecord
from hmret.disk.scans.packing import pack, read_states, unpack_states, weigh
from hmret.model.clock.clock_guard import ClockRecord
from hmret.model.grouping import Timers
from hmret.model.images import Image, Repository
from hmret.model.references import Key
from hmret.model.values import frozen

_RECORD: CacheRecord[StateFolder] = CacheRecord("states.snapshot", pack, unpack_states)

# States removed in one thread hop: a few milliseconds of work.
_BATCH = 250


@frozen
class StateFault:
    """A state that could not be written or removed."""

    key: Key
    path: str
    error: str


@frozen
class StatesLoaded:
    """All states; whatever has not changed since the last load is the same object."""

    states: Timers
    corrupt: tuple[tuple[str, str], ...]
    """Paths of states that could not be read, and why."""
    strays: tuple[str, ...] = ()
    """Leftovers of a crash below `image-retention/`."""


@frozen
class Confirmed:
    """The state of an image that is to be marked used."""

    is_named: bool
    """Whether the tag still points to it."""
    image: Image | None = None
    """The image as it is now; None: not here."""
    cleared: bool = False
    """Whether it had a timer, which has been removed durably."""
    fault: StateFault | None = None
    """Why its timer could not be cleared."""
    needs_owners: bool = False
    """Whether it is content of owners that are unknown until a scan, so that only its own timer was cleared."""


class _NotClearedError(Exception):
    def __init__(self, fault: StateFault) -> None:
        super().__init__(fault.error)
        self.fault = fault


class StateKeeper(TreeActor[StateFolder, StatesLoaded]):
    """The state keeper actor.

    `write_record` bypasses the mailbox: it is called after the actor has ended, when nothing else reads or
    changes what it writes.
    """

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads) -> None:
        super().__init__(filesystem, data_fd, threads, RETENTION, _RECORD)
        self._repositories: Mapping[str, Repository] = {}
        self._started: list[tuple[Key, ...]] = []
        """Images whose timers were to be started since the last full scan of states, one tuple per batch, whether or not
        they were.
        """
        self._early_timers: TimerIndex | None = None
        """Where timers are, by names alone; made for a use that comes before the first scan has ended."""

    async def load(self, repositories: Mapping[str, Repository] | None = None) -> StatesLoaded:
        """Read all states; with `repositories`, keys reuse the string objects that name the images in them."""
        return await self._ask(self._load, repositories or {})

    async def invalidate(self, repositories: AbstractSet[str]) -> None:
        """Make the next load read some repositories again, since what is cached of them is wrong."""
        await self._ask(self._invalidate, frozenset(repositories))

    async def confirm(self, key: Key, tag: str | None, owners: tuple[str, ...] | None = ()) -> Confirmed:
        """Check an image and, if it is ready and whole and the tag still points to it, clear its timer durably.

        The caller has the image in use. Everything is done in one call, because a client is waiting to start
        a VM.

        Args:
            key: the image that hypeman would boot by that name, even if it is content owned by other
                repositories.
            tag: the tag by which it was found; None: it was found by digest.
            owners: the repositories known to own its content. If the repository of `key` is not among them,
                their timers are cleared too, since these decide when the content is deleted. None: nothing
                has been scanned yet; then every timer of that digest is cleared, whosever it is, and the answer
                says that a scan is needed if the timers could not be listed.
        """
        return await self._ask(self._threads.run, self._confirm, key, tag, owners)

    async def mark(
        self,
        keys: Iterable[Key],
        unused_since_ns: int,
        claim: Claim = UNCONTESTED,
        earlier: Mapping[Key, int] = MappingProxyType({}),
    ) -> tuple[StateFault, ...]:
        """Start the timers of those images that the claim still covers; returns the failures.

        Timers in `earlier`, each with its own start time, are durable when this returns.
        """
        return await self._ask(self._mark, tuple(keys), unused_since_ns, claim, earlier)

    async def clear(self, keys: Iterable[Key]) -> tuple[int, tuple[StateFault, ...]]:
        """Remove states; returns how many existed, and which could not be removed."""
        chosen = tuple(keys)
        return await self._ask(self._clear, chosen) if chosen else (0, ())

    async def remove_strays(self, strays: tuple[str, ...]) -> None:
        """Remove leftovers of a crash."""
        if strays:
            await self._ask(self._on_disk, remove_strays, strays)

    async def load_clock(self) -> ClockRecord | None:
        """Read the clocks' recorded readings at the last sweep; None: none are on record."""
        return await self._ask(self._on_disk, load_clock_record)

    async def save_clock(self, record: ClockRecord) -> None:
        """Record the clocks' current readings.

        Raises:
            OSError: it could not be written.
        """
        await self._ask(self._on_disk, save_clock_record, record)

    async def _load(self, repositories: Mapping[str, Repository]) -> StatesLoaded:
        def begin() -> None:
            self._repositories = repositories

        # By identity: a concurrent load may have taken some of them.
        started = {id(keys): keys for keys in self._started}
        loaded = await self._look_through(begin)
        self._started = [keys for keys in self._started if id(keys) not in started]
        return loaded

    def _look(self, paths: list[str]) -> tuple[list[StateFolder], list[str]]:
        return read_states(self._filesystem, self._data_fd, paths, self._look_at_folder, self._cache.is_new)

    def _look_at_folder(
        self, retention_fd: int, path: str, ahead: FolderAhead | None
    ) -> tuple[StateFolder, int]:
        self._threads.pause()
        known = self._cache.still(retention_fd, path)
        if known is not None:
            return known, 0
        before = self._cache.known_in_part(path)
        found = scan_states(self._filesystem, retention_fd, path, self._threads.pause, before, ahead=ahead)
        folder = self._share(found)
        return folder, 1 + weigh(folder)

    def _put_together(self, folders: Mapping[str, StateFolder]) -> StatesLoaded:
        """Combine all folders into one value, reused until something in them changes."""
        corrupt: list[tuple[str, str]] = []
        strays: list[str] = []
        for folder in folders.values():
            corrupt.extend(folder.corrupt)
            strays.extend(folder.strays)
        timers = {path: folder.timers for path, folder in folders.items() if folder.timers}
        return StatesLoaded(Timers(timers), tuple(sorted(corrupt)), tuple(sorted(strays)))

    def _read_record(self) -> None:
        super()._read_record()
        self._cache.restore([(self._share(folder), until_ns) for folder, until_ns in self._cache.export()])

    def _share(self, folder: StateFolder) -> StateFolder:
        """Key the states by the same string objects that name their images."""
        repository = self._repositories.get(folder.path)
        if repository is None or not folder.timers:
            return folder
        images = repository.images
        timers = {
            image.digest if (image := images.get(digest)) is not None else digest: since_ns
            for digest, since_ns in folder.timers.items()
        }
        return msgspec.structs.replace(folder, timers=timers)

    def _confirm(self, key: Key, tag: str | None, owners: tuple[str, ...] | None) -> Confirmed:
        repository, digest = key
        try:
            with self._opened(IMAGES) as images_fd:
                if tag is not None and self._resolve(images_fd, repository, tag) != digest:
                    return Confirmed(is_named=False)
                image = find_image(self._filesystem, images_fd, repository, digest)
                if image is None or image.broken is not None or image.status != "ready":
                    return Confirmed(is_named=True, image=image)
                # guard(own-timer-first): A tag can move while a use is recorded; the image's own timer is
                # cleared before ownership is checked, so that none is missed.
                cleared = self._clear_own(key)
                # Afterwards: if this repository's tag is gone by now, only the owners' timers can keep the
                # content.
                # guard(use-clears-every-timer): Content that is marked used is used for all its owners; a
                # timer left running would make it due for one of them.
                if image.is_content and not self._is_owner(images_fd, key, tag, owners):
                    with_timer = self._with_timer(digest, owners)
                    if with_timer is None:
                        return Confirmed(is_named=True, image=image, cleared=cleared, needs_owners=True)
                    for owner in sorted({*(owners or ()), *with_timer} - {repository}):
                        cleared |= self._clear_own((owner, digest))
        except (FileNotFoundError, NotADirectoryError):
            return Confirmed(is_named=tag is None)
        except _NotClearedError as error:
            return Confirmed(is_named=True, image=image, fault=error.fault)
        return Confirmed(is_named=True, image=image, cleared=cleared)

    def _clear_own(self, key: Key) -> bool:
        try:
            # guard(cleared-timer-stays-cleared): A confirmed use survives a power loss: the old timer does
            # not come back and make the image due.
            return clear_state(self._filesystem, self._data_fd, key, durable=True)
        except OSError as error:
            raise _NotClearedError(_fault(key, error)) from error

    def _is_owner(self, images_fd: int, key: Key, tag: str | None, owners: tuple[str, ...] | None) -> bool:
        """Return whether content belongs to the requested repository, both now and at the last scan.

        Before the first scan, a tag below `repositories/` decides: the first sweep deletes nothing that is
        used while it runs, and the next one sees either the tag, or that the repository does not own what was
        used.
        """
        repository, digest = key
        if owners is not None:
            if repository not in owners:
                return False
            # A tag that points to it makes it the repository's; a digest alone may only have done so in the
            # past.
            if tag is not None and self._resolve(images_fd, repository, tag) == digest:
                return True
        # guard(ownership-needs-a-tag): Before the first scan only a tag proves ownership; if it were assumed,
        # a use would leave the real owners' timers running.
        return has_tag_to(self._filesystem, images_fd, repository, digest)

    def _with_timer(self, digest: str, owners: tuple[str, ...] | None) -> list[str] | None:
        """List the repositories in which a digest has a timer, from the last scan and from timers started since.

        They may own its content now, or later. Before the first scan they are listed by name; None: they cannot
        be.
        """
        started = [repository for keys in self._started for repository, other in keys if other == digest]
        if owners is None:
            early = self._early()
            if early is None:
                return None
            known = early.repositories_of(digest)
        else:
            last = self._last
            timers_in = {} if last is None else last.states.by_repository
            known = (repository for repository, timers in timers_in.items() if digest in timers)
        # guard(fresh-timers-cleared-too): A timer started since the last scan counts too; left running, it
        # would delete content that has just been used.
        return [*known, *started]

    def _early(self) -> TimerIndex | None:
        """List all timers by name, once; None: one of their folders cannot be listed."""
        if self._early_timers is None:
            try:
                self._early_timers = TimerIndex.build(self._filesystem, self._data_fd)
            except OSError:
                # guard(early-use-clears-every-timer): Before the first scan any repository may own the content,
                # so every timer of its digest is cleared; where one may be missed, the caller waits for the
                # scan.
                return None
        return self._early_timers

    def _resolve(self, images_fd: int, repository: str, tag: str) -> str | None:
        try:
            return resolve_tag(self._filesystem, images_fd, repository, tag)
        except OddTagError:
            return None

    async def _mark(
        self, keys: tuple[Key, ...], unused_since_ns: int, claim: Claim, earlier: Mapping[Key, int]
    ) -> tuple[StateFault, ...]:
        self._started.append(keys)
        failed = await self._on_disk(
            write_states, keys, unused_since_ns, earlier=earlier, claim=claim, pause=self._threads.pause
        )
        return tuple(_fault(key, error) for key, error in failed)

    async def _clear(self, keys: tuple[Key, ...]) -> tuple[int, tuple[StateFault, ...]]:
        cleared = 0
        faults: list[StateFault] = []
        for batch in batches(keys, _BATCH):
            removed, failed = await self._threads.run(self._clear_batch, batch)
            cleared += removed
            faults.extend(failed)
        return cleared, tuple(faults)

    def _clear_batch(self, keys: Sequence[Key]) -> tuple[int, list[StateFault]]:
        cleared = 0
        faults: list[StateFault] = []
        for key in keys:
            try:
                cleared += clear_state(self._filesystem, self._data_fd, key)
            except OSError as error:
                faults.append(_fault(key, error))
        return cleared, faults


def _fault(key: Key, error: OSError) -> StateFault:
    repository, digest = key
    return StateFault(key, f"{RETENTION}/{repository}/{hex_of(digest)}.json", error.strerror or str(error))
