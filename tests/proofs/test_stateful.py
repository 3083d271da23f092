"""Anything that can happen to a host, in any order, against a simple model of what may go and what must."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import ClassVar, TypeVar

import attrs
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hmret import ImageExistsError, ImageNotFoundError, Leased, Retention, SweepReport
from hmret.actors import reference_collector
from hmret.disk.layout import hex_of
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.model.references import Key
from hmret.model.times import parse_time, timedelta_nanoseconds
from support.bounds import IS_WHOLE, bound
from support.builders import (
    DATA,
    FakeClock,
    digest,
    has_image,
    make_config,
    make_guest,
    make_image,
    set_tag,
    state_of,
)
from support.inline_threads import InlineThreads
from support.memory_filesystem import MemoryFilesystem

T = TypeVar("T")

WINDOW = timedelta(days=10)
WINDOW_NS = timedelta_nanoseconds(WINDOW)
HOUR_NS = timedelta_nanoseconds(timedelta(hours=1))
TOLERANCE_NS = timedelta_nanoseconds(timedelta(minutes=5))

REPOSITORIES = ("docker.io/library/alpine", "ghcr.io/kernel/one")
LETTERS = ("a", "b", "c")
TAGS = ("latest", "edge")

PHASES = (Phase.explicit, Phase.generate, Phase.target)

keys = st.tuples(st.sampled_from(REPOSITORIES), st.sampled_from([digest(letters) for letters in LETTERS]))


@attrs.define(eq=False)
class Guest:
    """What the model knows of a guest."""

    name: str
    repository: str
    tag: str = ""
    """Empty: it names its digest."""
    digests: set[str] = attrs.field(factory=set)
    """What it surely needs."""
    named_tag: str = ""
    """The tag that its image is named by beside the digest that boots; what it points to now is needed too."""
    is_torn: bool = False

    def may_need(self, key: Key, tags: Mapping[tuple[str, str], str]) -> bool:
        """Tell whether it can be said to need an image, by the most careful reading."""
        named = tags.get((self.repository, self.named_tag))
        return self.repository == key[0] and (bool(self.tag) or key[1] in self.digests or key[1] == named)


class Host(RuleBasedStateMachine):
    """A host with an engine on it."""

    backend: ClassVar[str]
    quarantine: ClassVar[timedelta]
    guests = Bundle("guests")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal: BlockingPortal = self.stack.enter_context(start_blocking_portal(self.backend))
        self.clock = FakeClock()
        self.filesystem = MemoryFilesystem(self.clock.now_ns)
        self.filesystem.make_folder(f"{DATA}/images")
        self.tags: dict[tuple[str, str], str] = {}
        self.alive: list[Guest] = []
        self.leases_held: list[tuple[Key, AbstractContextManager[Leased]]] = []
        self.needed: dict[Key, tuple[int, int]] = {}
        self.deleted: dict[Key, tuple[int, int]] = {}
        """When what has not come back since was deleted, by both clocks."""
        self.drift_ns = 0
        self.skips: list[tuple[int, int]] = []
        """Each time that the wall clock was set forward: to when, and by how much."""
        self.held_until_ns = 0
        self.has_swept = False
        self.count = 0
        self.open()

    def open(self) -> None:
        platform = Platform(
            filesystem=self.filesystem, clock=self.clock, threads=InlineThreads(), monotonic_ns=lambda: 0
        )
        config = make_config(self.filesystem, unused_for=WINDOW, quarantine=self.quarantine)
        self.engine: AbstractContextManager[Retention] = self.portal.wrap_async_context_manager(
            open_engine(config, platform, scheduled=False)
        )
        self.retention = self.engine.__enter__()

    def close(self) -> None:
        self.engine.__exit__(None, None, None)

    def teardown(self) -> None:
        for _, lease in self.leases_held:
            lease.__exit__(None, None, None)
        self.close()
        self.stack.close()
        assert self.filesystem.open_descriptors() == {}

    def ask(self, call: Callable[..., Awaitable[T]], *arguments: object) -> T:
        return self.portal.call(call, *arguments)

    def tick(self) -> None:
        """Let a second pass, so that no two things happen at one instant."""
        self.clock.advance(timedelta(seconds=1))

    def is_here(self, key: Key) -> bool:
        return has_image(self.filesystem, key)

    def need(self, key: Key) -> None:
        self.needed[key] = self.clock.now_ns(), self.clock.read().boot_ns

    # What hypeman does.

    @rule(key=keys, tag=st.sampled_from(TAGS))
    def pull(self, key: Key, tag: str) -> None:
        self.tick()
        if not self.is_here(key):
            make_image(self.filesystem, key[0], key[1][-1], tags=())
            self.need(key)
        self.tags[key[0], tag] = key[1]
        set_tag(self.filesystem, key[0], tag, key[1][-1])

    @rule(
        target=guests,
        repository=st.sampled_from(REPOSITORIES),
        tag=st.sampled_from(TAGS),
        kind=st.sampled_from(["tag", "digest", "resolved"]),
    )
    def start_guest(self, repository: str, tag: str, kind: str) -> object:
        found = self.tags.get((repository, tag))
        if found is None or not self.is_here((repository, found)):
            return multiple()
        self.tick()
        self.count += 1
        guest = Guest(
            f"vm-{self.count}",
            repository,
            tag if kind == "tag" else "",
            {found},
            TAGS[0] if kind == "resolved" else "",
        )
        self.alive.append(guest)
        self.write_guest(guest, kind)
        return guest

    def write_guest(self, guest: Guest, kind: str) -> None:
        by_digest = f"{guest.repository}@{min(guest.digests)}"
        make_guest(
            self.filesystem,
            guest.name,
            by_digest if kind == "digest" else f"{guest.repository}:{guest.tag or TAGS[0]}",
            resolved_image=by_digest if kind == "resolved" else "",
            created_at=self.clock.now(),
        )

    @rule(guest=consumes(guests))
    def remove_guest(self, guest: Guest) -> None:
        self.tick()
        self.alive.remove(guest)
        self.filesystem.remove(f"{DATA}/guests/{guest.name}")

    @rule(guest=guests)
    def tear_guest(self, guest: Guest) -> None:
        self.tick()
        path = f"{DATA}/guests/{guest.name}/metadata.json"
        if not guest.is_torn:
            self.filesystem.write_file(path, self.filesystem.read_file(path)[:-1])
        guest.is_torn = True

    @rule(guest=guests)
    def mend_guest(self, guest: Guest) -> None:
        self.tick()
        path = f"{DATA}/guests/{guest.name}/metadata.json"
        if guest.is_torn:
            self.filesystem.write_file(path, self.filesystem.read_file(path) + b"}")
        guest.is_torn = False

    # What an embedder does.

    @rule(key=keys)
    def mark_used(self, key: Key) -> None:
        self.tick()
        try:
            self.ask(self.retention.mark_used, *key)
        except ImageNotFoundError:
            assert not self.is_here(key)
        else:
            assert self.is_here(key)
            assert state_of(self.filesystem, key) is None
            self.need(key)

    @rule(target=leases, key=keys)
    def begin_lease(self, key: Key) -> object:
        self.tick()
        lease: AbstractContextManager[Leased] = self.portal.wrap_async_context_manager(
            self.retention.lease(*key, reason="test")
        )
        try:
            lease.__enter__()
        except ImageNotFoundError:
            assert not self.is_here(key)
            return multiple()
        self.leases_held.append((key, lease))
        return key, lease

    @rule(held=consumes(leases))
    def end_lease(self, held: tuple[Key, AbstractContextManager[Leased]]) -> None:
        self.tick()
        self.leases_held.remove(held)
        held[1].__exit__(None, None, None)
        self.need(held[0])

    @precondition(lambda self: self.deleted)
    @rule(place=st.integers(0, len(REPOSITORIES) * len(LETTERS) - 1))
    def restore_any(self, place: int) -> None:
        self.restore(sorted(self.deleted)[place % len(self.deleted)])

    @precondition(lambda self: self.retention.quarantined())
    @rule()
    def restore_the_last(self) -> None:
        last = self.retention.quarantined()[-1]
        self.restore((last.repository, last.digest))

    def restore(self, key: Key) -> None:
        self.tick()
        try:
            restored = self.ask(self.retention.restore, *key)
        except ImageExistsError:
            assert self.is_here(key)
        except ImageNotFoundError:
            assert not self.is_held(key)
            assert self.since_ns(self.deleted[key]) >= timedelta_nanoseconds(self.quarantine)
        else:
            assert self.is_here(key)
            assert self.since(key) == self.clock.now_ns()
            assert not {(key[0], tag) for tag in restored.tags} & self.tags.keys()
            self.tags |= {(key[0], tag): key[1] for tag in restored.tags}
            del self.deleted[key]
            self.need(key)

    # What time does.

    @rule(hours=st.sampled_from([1, 12, 100, 239, 240, 500]))
    def let_time_pass(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))

    @rule(hours=st.sampled_from([-1000, -2, 2, 1000]))
    def jump(self, hours: int) -> None:
        by_ns = hours * HOUR_NS
        self.clock.wall_ns += by_ns
        self.drift_ns += by_ns
        if by_ns > 0:
            self.skips.append((self.clock.wall_ns, by_ns))

    @precondition(lambda self: not self.leases_held)
    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    # What hmret does.

    @rule()
    def sweep(self) -> None:
        self.tick()
        before = {key: self.since(key) for key in self.all_here()}
        is_held = self.watch_clock()
        is_torn = any(guest.is_torn for guest in self.alive)
        for guest in self.alive:
            current = self.tags.get((guest.repository, guest.tag))
            if current is not None and not guest.is_torn:
                guest.digests.add(current)
        report: SweepReport = self.ask(self.retention.sweep)
        assert report.status == ("suspended" if is_held or is_torn else "success")
        for key, since_ns in before.items():
            is_needed = key in self.leased or self.is_needed(key)
            if not self.is_here(key):
                assert not is_held, "deleted by a clock that jumped"
                assert not is_torn, "deleted while a reference was unreadable"
                assert not is_needed, "deleted what is needed"
                assert self.unneeded_ns(key) >= WINDOW_NS, "deleted before its time"
                self.tags = {place: to for place, to in self.tags.items() if (place[0], to) != key}
                self.deleted[key] = self.clock.now_ns(), self.clock.read().boot_ns
                assert self.is_held(key) == (self.quarantine > timedelta(0))
                continue
            is_due = since_ns is not None and self.is_surely_due(since_ns)
            # A lease keeps sweeps from its digest, whatever repository has it.
            is_locked = key[1] in {name for _, name in self.leased}
            may_be_needed = is_locked or any(guest.may_need(key, self.tags) for guest in self.alive)
            assert is_held or is_torn or may_be_needed or not is_due, "kept what was to go"
            if key in self.leased or self.is_needed(key, readably=True):
                self.need(key)
                assert self.since(key) is None
            elif not may_be_needed and not is_held:
                assert self.since(key) is not None, "nobody needs it, and it has no timer"

    @rule(days=st.sampled_from([1, 2, 11]))
    def live_on(self, days: int) -> None:
        """Let days pass with a sweep on each: what nobody needs then comes to its time."""
        for _ in range(days):
            self.clock.advance(timedelta(days=1))
            self.sweep()

    @property
    def leased(self) -> set[Key]:
        return {key for key, _ in self.leases_held}

    def all_here(self) -> list[Key]:
        every = [(repository, digest(letters)) for repository in REPOSITORIES for letters in LETTERS]
        return [key for key in every if self.is_here(key)]

    def since(self, key: Key) -> int | None:
        text = state_of(self.filesystem, key)
        return None if text is None else parse_time(text)

    def is_needed(self, key: Key, *, readably: bool = False) -> bool:
        """Tell whether a guest needs an image, or one that can be read: timers go on where none can be."""
        return any(
            guest.repository == key[0] and key[1] in guest.digests and not (readably and guest.is_torn)
            for guest in self.alive
        )

    def is_surely_due(self, since_ns: int) -> bool:
        """Tell whether the window of a timer has passed, whatever of it the clock has skipped."""
        # A timer can begin after a jump and before the sweep that finds it, which comes within days.
        skipped_ns = sum(by_ns for to_ns, by_ns in self.skips if to_ns + 12 * 24 * HOUR_NS > since_ns)
        return since_ns + WINDOW_NS + skipped_ns <= self.clock.now_ns()

    def unneeded_ns(self, key: Key) -> int:
        """Tell for how long nobody has needed an image, by the clock that nobody sets."""
        return self.since_ns(self.needed[key])

    def since_ns(self, moment: tuple[int, int]) -> int:
        """Tell how long ago something was, by the clock that nobody sets: what the wall clock skips counts in no window."""
        return self.clock.read().boot_ns - moment[1]

    def is_held(self, key: Key) -> bool:
        """Tell whether a deleted image can be brought back."""
        return any((held.repository, held.digest) == key for held in self.retention.quarantined())

    def watch_clock(self) -> bool:
        """Tell whether the clock is distrusted at a sweep now."""
        boot_ns = self.clock.read().boot_ns
        if self.has_swept and abs(self.drift_ns) > TOLERANCE_NS:
            self.held_until_ns = boot_ns + HOUR_NS
        self.drift_ns = 0
        self.has_swept = True
        return boot_ns < self.held_until_ns

    @invariant()
    def what_lies_in_the_trash_is_held(self) -> None:
        trash = f"{DATA}/system/hmret/trash"
        files = self.filesystem.tree(trash) if self.filesystem.exists(trash) else {}
        disks = [path for path in files if path.endswith("/rootfs.ext4")]
        assert len(disks) == len(self.retention.quarantined())

    @invariant()
    def every_image_is_whole_with_its_tags(self) -> None:
        for repository, name in self.all_here():
            folder = f"{DATA}/images/{repository}/{hex_of(name)}"
            assert set(self.filesystem.tree(folder)) == {f"{folder}/metadata.json", f"{folder}/rootfs.ext4"}
        links = {
            path: found[1]
            for path, found in self.filesystem.tree(f"{DATA}/images").items()
            if found[0] == "link"
        }
        assert links == {
            f"{DATA}/images/{repository}/{tag}": hex_of(to) for (repository, tag), to in self.tags.items()
        }


# One thing happens at a time here, and the two backends share the work.
@pytest.mark.parametrize(
    ("backend", "quarantine"),
    [("asyncio", timedelta(0)), ("trio", timedelta(days=6))]
    + [("trio", timedelta(0)), ("asyncio", timedelta(days=6))] * IS_WHOLE,
)
def test_whatever_happens_nothing_needed_goes_and_what_is_due_does(
    backend: str, quarantine: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_collector, "_TORN_PAUSE", 0.0)  # what is torn here stays torn
    machine = type("HostOn" + backend.title(), (Host,), {"backend": backend, "quarantine": quarantine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=bound(20, 400),
            phases=PHASES,
            stateful_step_count=40,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
