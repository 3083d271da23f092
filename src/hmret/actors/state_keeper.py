"""The state keeper: it reads and writes the retention states, and the record of the clocks."""

from collections.abc import Iterable, Mapping, Set as AbstractSet
from types import MappingProxyType
from typing import assert_never

import attrs

from hmret.actors.known_tree import KnownTree
from hmret.actors.mailbox import Actor, Request
from hmret.actors.threads import Threads
from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import open_data_folder, opened
from hmret.disk.hypeman.lookup import find_image, has_tag_to
from hmret.disk.hypeman.scan import OddTagError, resolve_tag
from hmret.disk.hypeman.states import StateFolder, clear_state, remove_strays, scan_states, write_states
from hmret.disk.image_claim import UNCONTESTED, Claim
from hmret.disk.layout import IMAGES, RETENTION, hex_of
from hmret.disk.records.engine import load_clock_record, save_clock_record
from hmret.disk.scans.checkpoints import CacheRecord
from hmret.disk.scans.packing import pack_states, read_states, unpack_states, weigh
from hmret.model.clock.clock_guard import ClockRecord
from hmret.model.grouping import Timers
from hmret.model.images import Image, Key, Repository
from hmret.model.values import frozen

__all__ = [
    "Clear",
    "Confirm",
    "Confirmed",
    "KeepStates",
    "LoadClock",
    "LoadStates",
    "Mark",
    "RemoveStrays",
    "SaveClock",
    "StateFault",
    "StateKeeper",
    "StatesLoaded",
]

_RECORD: CacheRecord[StateFolder] = CacheRecord("states.snapshot", pack_states, unpack_states)

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
    """All states; what has not changed since they were last loaded is the very same object."""

    states: Timers
    corrupt: tuple[tuple[str, str], ...]
    """Paths of states that could not be read, and why."""
    strays: tuple[str, ...] = ()
    """What a crash left behind, below `image-retention/`."""


@frozen(eq=False, kw_only=True)
class LoadStates(Request[StatesLoaded]):
    """Asks for all states."""

    repositories: Mapping[str, Repository] = attrs.field(factory=dict)
    """What is here: states are named by the very texts that name their images, of which there may be very many."""


@frozen
class Confirmed:
    """What was found of an image whose use is to be confirmed."""

    is_named: bool
    """Whether the tag still points to it."""
    image: Image | None = None
    """As it is now; None: not here."""
    cleared: bool = False
    """Whether it had a timer, which is gone, durably."""
    fault: StateFault | None = None
    """Why its timer could not be cleared."""
    needs_owners: bool = False
    """Whether it is content that others own: only its own timer was cleared, for want of knowing who they are."""


@frozen(eq=False, kw_only=True)
class Confirm(Request[Confirmed]):
    """Asks to look at an image and, where it is ready and whole, to clear its timer; the asker has its use."""

    key: Key
    tag: str | None
    owners: tuple[str, ...] | None = ()


@frozen(eq=False, kw_only=True)
class KeepStates(Request[None]):
    """Asks to write down what is known, for the next start."""


@frozen(eq=False, kw_only=True)
class InvalidateStates(Request[None]):
    """Says that what is known of some repositories is not so."""

    repositories: frozenset[str]


@frozen(eq=False, kw_only=True)
class Mark(Request[tuple[StateFault, ...]]):
    """Asks to start the timers of some images, as far as the claim that the asker has of them allows."""

    keys: tuple[Key, ...]
    unused_since_ns: int
    earlier: Mapping[Key, int] = attrs.field(factory=dict)
    """Of those that begin earlier: when."""
    claim: Claim = UNCONTESTED


@frozen(eq=False, kw_only=True)
class Clear(Request[tuple[int, tuple[StateFault, ...]]]):
    """Asks to remove the states of some images; answers how many there were."""

    keys: tuple[Key, ...]
    durable: bool = False


@frozen(eq=False, kw_only=True)
class RemoveStrays(Request[None]):
    """Asks to remove what a crash left behind."""

    strays: tuple[str, ...]


@frozen(eq=False, kw_only=True)
class LoadClock(Request[ClockRecord | None]):
    """Asks what the clocks said at the last sweep."""


@frozen(eq=False, kw_only=True)
class SaveClock(Request[None]):
    """Asks to record what the clocks say."""

    record: ClockRecord


_Requests = (
    LoadStates | Confirm | KeepStates | InvalidateStates | Mark | Clear | RemoveStrays | LoadClock | SaveClock
)


class _NotClearedError(Exception):
    def __init__(self, fault: StateFault) -> None:
        super().__init__(fault.error)
        self.fault = fault


class StateKeeper(Actor[_Requests]):
    """The state keeper actor."""

    def __init__(self, filesystem: Filesystem, data_fd: int, threads: Threads) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._data_fd = data_fd
        self._threads = threads
        self._repositories: Mapping[str, Repository] = {}
        self._started: list[tuple[Key, ...]] = []
        """Images whose timers were started here since the last look at all, a batch each."""
        self._tree = KnownTree(
            filesystem,
            data_fd,
            threads,
            RETENTION,
            _RECORD,
            self._look,
            weigh,
            _put_together,
            share=self._share,
        )

    async def run(self) -> None:
        """Serve until closed."""
        await self._mailbox.serve(self._answer)

    async def load(self, repositories: Mapping[str, Repository] | None = None) -> StatesLoaded:
        """Read all states; with `repositories`, named by the very texts that name the images in them."""
        return await self._mailbox.ask(LoadStates(repositories=repositories or {}))

    async def keep(self) -> None:
        """Write down what is known, for the next start.

        Raises:
            OSError: it could not be written.
        """
        await self._mailbox.ask(KeepStates())

    async def invalidate(self, repositories: AbstractSet[str]) -> None:
        """Say that what is known of some repositories is not so: they are read afresh the next time."""
        await self._mailbox.ask(InvalidateStates(repositories=frozenset(repositories)))

    async def confirm(self, key: Key, tag: str | None, owners: tuple[str, ...] | None = ()) -> Confirmed:
        """Look at an image and, where it is ready and whole and a tag still points to it, clear its timer, durably.

        The caller has the use of the image. In one step, because somebody waits to start a machine.

        Args:
            key: the image: what hypeman would boot by that name, be it content of other repositories.
            tag: the tag by which it was found; None: by its digest.
            owners: the repositories that own its content, as far as is known: where that of `key` is none of them, their
                timers are cleared too, as theirs are what the content goes by. None: nothing has been scanned yet; the
                answer says whether it must be.
        """
        return await self._mailbox.ask(Confirm(key=key, tag=tag, owners=owners))

    async def mark(
        self,
        keys: Iterable[Key],
        unused_since_ns: int,
        claim: Claim = UNCONTESTED,
        earlier: Mapping[Key, int] = MappingProxyType({}),
    ) -> tuple[StateFault, ...]:
        """Start the timers of those images that the claim leaves to us; returns those that could not be written.

        Those that begin `earlier`, each at a time of its own, are on the disk when this returns.
        """
        return await self._mailbox.ask(
            Mark(keys=tuple(keys), unused_since_ns=unused_since_ns, earlier=earlier, claim=claim)
        )

    async def clear(
        self, keys: Iterable[Key], *, durable: bool = False
    ) -> tuple[int, tuple[StateFault, ...]]:
        """Remove states; returns how many there were, and those that could not be removed."""
        chosen = tuple(keys)
        if not chosen:
            return 0, ()
        return await self._mailbox.ask(Clear(keys=chosen, durable=durable))

    async def remove_strays(self, strays: tuple[str, ...]) -> None:
        """Remove what a crash left behind."""
        if strays:
            await self._mailbox.ask(RemoveStrays(strays=strays))

    async def load_clock(self) -> ClockRecord | None:
        """Read what the clocks said at the last sweep."""
        return await self._mailbox.ask(LoadClock())

    async def save_clock(self, record: ClockRecord) -> None:
        """Record what the clocks say.

        Raises:
            OSError: it could not be written.
        """
        await self._mailbox.ask(SaveClock(record=record))

    async def _answer(self, request: _Requests) -> object:
        match request:
            case LoadStates():
                return await self._load(request.repositories)
            case Confirm():
                return await self._threads.run(self._confirm, request)
            case Mark():
                return await self._mark(request)
            case Clear():
                return await self._clear(request)
            case LoadClock():
                return await self._threads.run(load_clock_record, self._filesystem, self._data_fd)
            case _:
                await self._do(request)
                return None

    async def _do(self, request: KeepStates | InvalidateStates | RemoveStrays | SaveClock) -> None:
        match request:
            case KeepStates():
                await self._tree.keep()
            case InvalidateStates():
                await self._tree.invalidate(request.repositories)
            case RemoveStrays():
                await self._threads.run(remove_strays, self._filesystem, self._data_fd, request.strays)
            case SaveClock():
                await self._threads.run(save_clock_record, self._filesystem, self._data_fd, request.record)
            case _:
                assert_never(request)

    async def _load(self, repositories: Mapping[str, Repository]) -> StatesLoaded:
        def begin() -> None:
            self._repositories = repositories

        # By identity: another look may have taken some of them meanwhile.
        started = {id(keys): keys for keys in self._started}
        loaded = await self._tree.look_through(begin)
        self._started = [keys for keys in self._started if id(keys) not in started]
        return loaded

    def write_record(self) -> None:
        """Write down what is known, for the next start; while this actor runs, nobody else calls this.

        Raises:
            OSError: it could not be written.
        """
        self._tree.write_record()

    def _look(self, paths: list[str]) -> tuple[list[StateFolder], list[str]]:
        return read_states(self._filesystem, self._data_fd, paths, self._look_at_folder)

    def _look_at_folder(self, retention_fd: int, path: str) -> tuple[StateFolder, int]:
        self._threads.pause()
        known = self._tree.cache.still(retention_fd, path)
        if known is not None:
            return known, 0
        before = self._tree.cache.known_in_part(path)
        folder = self._share(scan_states(self._filesystem, retention_fd, path, self._threads.pause, before))
        return folder, 1 + weigh(folder)

    def _share(self, folder: StateFolder) -> StateFolder:
        """Name the states by the very texts that name their images."""
        repository = self._repositories.get(folder.path)
        if repository is None or not folder.timers:
            return folder
        images = repository.images
        timers = {
            image.digest if (image := images.get(digest)) is not None else digest: since_ns
            for digest, since_ns in folder.timers.items()
        }
        return attrs.evolve(folder, timers=timers)

    def _confirm(self, request: Confirm) -> Confirmed:
        key, tag = request.key, request.tag
        repository, digest = key
        try:
            with opened(
                self._filesystem, open_data_folder(self._filesystem, self._data_fd, IMAGES)
            ) as images_fd:
                if tag is not None and self._resolve(images_fd, repository, tag) != digest:
                    return Confirmed(is_named=False)
                image = find_image(self._filesystem, images_fd, repository, digest)
                if image is None or image.broken is not None or image.status != "ready":
                    return Confirmed(is_named=True, image=image)
                # guard(own-timer-first): A tag can move while a use is recorded; the own timer is cleared before
                # ownership is checked, so none is overlooked.
                cleared = self._clear_own(key)
                # After that: whoever is untied from it by now has nothing that holds it but the timers of others.
                # guard(use-clears-every-timer): Content marked as used is used for all its owners; a timer left
                # running would make it due for one of them.
                if image.is_content and not self._is_owner(images_fd, request):
                    if request.owners is None:
                        return Confirmed(is_named=True, image=image, cleared=cleared, needs_owners=True)
                    others = {*request.owners, *self._with_timer(digest)} - {repository}
                    for owner in sorted(others):
                        cleared |= self._clear_own((owner, digest))
        except (FileNotFoundError, NotADirectoryError):
            return Confirmed(is_named=tag is None)
        except _NotClearedError as error:
            return Confirmed(is_named=True, image=image, fault=error.fault)
        return Confirmed(is_named=True, image=image, cleared=cleared)

    def _clear_own(self, key: Key) -> bool:
        try:
            # guard(cleared-timer-stays-cleared): A use that was confirmed holds after a power loss: the old timer
            # does not return and make the image due.
            return clear_state(self._filesystem, self._data_fd, key, durable=True)
        except OSError as error:
            raise _NotClearedError(_fault(key, error)) from error

    def _is_owner(self, images_fd: int, request: Confirm) -> bool:
        """Tell whether content is that of the repository that it was asked for by, now and at the last look.

        Where there has been none yet, a tag of today's layout says so: the sweep that is to look first deletes nothing that
        is used while it runs, and the next one sees the tag, or else that what was used is not that repository's.
        """
        repository, digest = request.key
        if request.owners is not None:
            if repository not in request.owners:
                return False
            # By a tag that leads to it, it is the repository's; by its digest it may have been that only.
            if request.tag is not None and self._resolve(images_fd, repository, request.tag) == digest:
                return True
        # guard(ownership-needs-a-tag): Before the first scan only a tag proves an owner; taken on trust, a use would
        # leave the true owners' timers running.
        return has_tag_to(self._filesystem, images_fd, repository, digest)

    def _with_timer(self, digest: str) -> list[str]:
        """List the repositories in which a digest has a timer, by the last look and by what was started since.

        They may have come to own its content, or come to do so later.
        """
        known = {} if self._tree.last is None else self._tree.last.states.by_repository
        started = (repository for keys in self._started for repository, other in keys if other == digest)
        # guard(fresh-timers-cleared-too): A timer started since the last scan counts as well; left running, it would
        # delete content that has just been used.
        return [*(repository for repository, timers in known.items() if digest in timers), *started]

    def _resolve(self, images_fd: int, repository: str, tag: str) -> str | None:
        try:
            return resolve_tag(self._filesystem, images_fd, repository, tag)
        except OddTagError:
            return None

    async def _mark(self, request: Mark) -> tuple[StateFault, ...]:
        self._started.append(request.keys)
        return await self._threads.run(self._mark_batch, request)

    def _mark_batch(self, request: Mark) -> tuple[StateFault, ...]:
        failed = write_states(
            self._filesystem,
            self._data_fd,
            request.keys,
            request.unused_since_ns,
            earlier=request.earlier,
            claim=request.claim,
            pause=self._threads.pause,
        )
        return tuple(_fault(key, error) for key, error in failed)

    async def _clear(self, request: Clear) -> tuple[int, tuple[StateFault, ...]]:
        cleared = 0
        faults: list[StateFault] = []
        for start in range(0, len(request.keys), _BATCH):
            batch = request.keys[start : start + _BATCH]
            removed, failed = await self._threads.run(self._clear_batch, batch, request.durable)
            cleared += removed
            faults.extend(failed)
        return cleared, tuple(faults)

    def _clear_batch(self, keys: tuple[Key, ...], durable: bool) -> tuple[int, list[StateFault]]:
        cleared = 0
        faults: list[StateFault] = []
        for key in keys:
            try:
                cleared += clear_state(self._filesystem, self._data_fd, key, durable=durable)
            except OSError as error:
                faults.append(_fault(key, error))
        return cleared, faults


def _fault(key: Key, error: OSError) -> StateFault:
    repository, digest = key
    return StateFault(key, f"{RETENTION}/{repository}/{hex_of(digest)}.json", error.strerror or str(error))


def _put_together(folders: Mapping[str, StateFolder]) -> StatesLoaded:
    corrupt: list[tuple[str, str]] = []
    strays: list[str] = []
    for folder in folders.values():
        corrupt.extend(folder.corrupt)
        strays.extend(folder.strays)
    timers = {path: folder.timers for path, folder in folders.items() if folder.timers}
    return StatesLoaded(Timers(timers), tuple(sorted(corrupt)), tuple(sorted(strays)))
