"""One seed: a host, some lives of an engine on it with crashes between them, and a quiet end where all must be well."""

import errno
import json
import logging
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import attrs
import trio
from trio.testing import MockClock

from hmret.actors.locks import Claimed
from hmret.disk.deletion.check_before_retire import BatchToCheck, find_protected
from hmret.disk.deletion.retirement import retire
from hmret.disk.layout import CONTENT, IMAGES, INSTALLING, OWN, RETENTION, TAG_STAGE, TRASH, hex_of
from hmret.disk.records.engine import save_clock_record
from hmret.disk.scans.references import look_at_references
from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from hmret.engine.retention import Retention
from hmret.model.clock.clock_guard import ClockRecord
from hmret.model.errors import ConfigError, DataDirMovedError
from hmret.model.images import Cause
from hmret.model.policy.config import AutoDelete, RetentionConfig
from hmret.model.references import Key
from hmret.model.report import SweepStatus
from hmret.model.times import SECOND
from simulation.chronicle import Breach, Chronicle
from simulation.clocks import VirtualClock
from simulation.disturbance import Disturbance, Weather
from simulation.embedder import Embedder
from simulation.hypeman import Hypeman
from simulation.landmarks import DATA, Pulled, Work
from simulation.schedule import SteppedThreads, decided_by
from simulation.today import REPOSITORIES, TodayHypeman
from simulation.truth import Truth
from simulation.volumes import Absence
from support.called import Called
from support.memory_filesystem import Crash, MemoryFilesystem, Tree

__all__ = ["Outcome", "run_seed"]

_LAYOUTS = ("legacy", "legacy", "content", "mixed")
_EMBEDDERS = 2
_LOST = (Cause.LOST_REFERENCES, Cause.LOST_IMAGES)
_HOLD_SECONDS = 3700  # how long a jump of the clock suspends, and a bit


@attrs.frozen(kw_only=True)
class Outcome:
    """What happened with one seed."""

    seed: int
    events: int
    checksum: int
    retired: int
    returned: int
    crashes: int
    sweeps: int


@attrs.define(eq=False)
class _Job:
    work: Work
    due: float


def run_seed(seed: int) -> Outcome:
    """Simulate one seed.

    Raises:
        Breach: a promise was broken.
    """
    rng = random.Random(seed)
    with decided_by(random.Random(rng.random())):
        clock = MockClock(autojump_threshold=0)
        run = _Run(seed, rng, clock)
        try:
            with _heard(run.chronicle):
                trio.run(run.main, clock=clock, strict_exception_groups=True)
        except BaseException:
            if run.chronicle.breach is not None:
                raise run.chronicle.breach from None
            raise
    if run.chronicle.breach is not None:
        raise run.chronicle.breach
    return run.outcome()


class _Ear(logging.Handler):
    """Puts what the engine logs among the events."""

    def __init__(self, chronicle: Chronicle) -> None:
        super().__init__(logging.INFO)
        self._chronicle = chronicle

    def emit(self, record: logging.LogRecord) -> None:
        self._chronicle.tell(f"  log: {record.getMessage()}")


@contextmanager
def _heard(chronicle: Chronicle) -> Iterator[None]:
    logger = logging.getLogger("hmret")
    ear, level, propagates = _Ear(chronicle), logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)
        logger.propagate = propagates


class _Run:
    """The host of one seed."""

    def __init__(self, seed: int, rng: random.Random, mock: MockClock) -> None:
        self._seed = seed
        self._rng = rng
        self._interval = rng.choice((120.0, 300.0, 600.0))
        self._config = _config(rng, self._interval)
        if random.Random(f"window of {seed}").random() < 0.2:
            self._config = _with_a_long_window(self._config)
        self._clock = VirtualClock(mock)
        self.chronicle = Chronicle(seed, self._clock.true_ns)
        self._truth = Truth(self._config, self._clock, self.chronicle)
        self._truth.filesystem = MemoryFilesystem(self._clock.now_ns, order=rng)
        self._layout = random.Random(f"layout of {seed}").choice(_LAYOUTS)
        self._hypeman = _hypeman(self._layout, self._truth, rng, slow=self._interval * rng.choice((0.1, 1.0)))
        self._threads = SteppedThreads(rng, self._observe, self._wake)
        self._weather = _weather(rng)
        self._disturbance = Disturbance(self._truth, self._threads, self._weather, rng, self._step)
        self._lease_error = rng.choice((None,) * 9 + (errno.ENOLCK,))
        self._jobs: list[_Job] = []
        self._woken = trio.Event()
        self._is_quiet = False
        self._is_paused = False
        self._resumed = trio.Event()
        self._absences = random.Random(f"absences of {seed}")
        self._reloads = random.Random(f"reloads of {seed}")
        self._gaps = random.Random(f"gaps of {seed}")
        self._pace = self._interval / rng.choice((1, 3))
        self._looks: dict[trio.lowlevel.Task, int] = {}
        self._claim = Claimed(())
        """Of the batch that goes."""
        self._absent_ns = 0
        """How long no engine ran, the last time, as far as that counts as unwatched."""
        self._crashes = 0
        self._sweeps = 0
        self._truth.on_retired = self._pull_again

    def outcome(self) -> Outcome:
        """Sum up."""
        return Outcome(
            seed=self._seed,
            events=self.chronicle.now,
            checksum=self.chronicle.checksum,
            retired=self._truth.retirements,
            returned=self._truth.returned,
            crashes=self._crashes,
            sweeps=self._sweeps,
        )

    async def main(self) -> None:
        """Live through everything."""
        with self._threads.one_at_a_time():
            await self._live_through()

    async def _live_through(self) -> None:
        for folder in (IMAGES, "guests", "snapshots", "system"):
            self._truth.filesystem.make_folder(f"{DATA}/{folder}")
        if self._rng.random() < 0.2:
            self._truth.filesystem.mount(f"{DATA}/{IMAGES}")
        for _ in range(12):
            for _ in self._hypeman.anything():
                self._clock.tick()
            self._clock.tick()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._live)
            for _ in range(self._rng.randint(1, 3)):
                await self._one_life(self._interval * self._rng.randint(4, 14))
                await self._live_without_a_volume()
                self._live_without_an_engine()
            await self._end_quietly()
            nursery.cancel_scope.cancel()

    # The engine's lives.

    async def _one_life(self, seconds: float) -> None:
        self._truth.begin_life()
        disk = self._truth.filesystem
        disk.lease_error = self._lease_error
        self._disturbance.attach()
        self.chronicle.tell("an engine starts")
        try:
            await self._serve(seconds)
        except BaseException as error:  # noqa: BLE001 - what it may end with is sorted out there
            self._excuse(error)
        if self.chronicle.breach is not None:
            raise self.chronicle.breach
        if self._disturbance.has_crashed:
            await self._recover()
        else:
            self.chronicle.tell("the engine has stopped")
            self._truth.check_images()
            if disk.open_descriptors():
                raise self.chronicle.fail(f"descriptors leak: {disk.open_descriptors()}")
            await trio.sleep(self._rng.choice((0, 60)))

    async def _serve(self, seconds: float) -> None:
        async with (
            open_engine(self._config, self._surroundings(), scheduled=True) as retention,
            trio.open_nursery() as tasks,
        ):
            if not self._is_quiet:
                for _ in range(_EMBEDDERS):
                    embedder = Embedder(self._truth, self._hypeman, self._rng, self._begin, self._interval)
                    tasks.start_soon(embedder.run, retention)
            if not self._is_quiet and self._reloads.random() < 0.3:
                self._switch_off_after(self._reloads.randint(1, 3), retention)
            if self._is_quiet:
                tasks.start_soon(self._confirm_lost, retention)
            await trio.sleep(seconds)
            tasks.cancel_scope.cancel()
            report = retention.statistics().last_report
            calm = self._is_quiet or not (self._truth.disturbed_at or self._truth.denied)
            if calm and report is not None and (report.errors or report.status is SweepStatus.ERROR):
                raise self.chronicle.fail(f"a sweep failed though nothing did: {report}")

    async def _confirm_lost(self, retention: Retention) -> None:
        """Say that folders are right which seem to be lost, where the clock explains it.

        What was removed while the clock was behind leaves its folder with a time before that on record, as a mount point
        without its volume has. Only an operator can tell the two apart.
        """
        report = await retention.sweep()
        lost = sorted(one.path for one in report.suspended if one.cause in _LOST and one.path is not None)
        if lost and not self._clock.jumped_ns:
            raise self.chronicle.fail(f"told as lost, with a clock that was always right: {lost}")
        if lost:
            self.chronicle.tell(f"somebody confirms {lost}")
            await retention.confirm(*lost)
            await retention.sweep()

    def _switch_off_after(self, count: int, retention: Retention) -> None:
        """Reload settings that switch deletion off, in the midst of the sweep that deletes so many images from now on."""
        left = count

        def switch_off() -> None:
            off = attrs.evolve(self._config.auto_delete, enabled=False)
            retention.reconfigure(attrs.evolve(self._config, auto_delete=off, enabled=None))
            claim = self._claim
            self._truth.last_allowed = claim.digests - claim.waiting - claim.done
            self.chronicle.tell("deletion is switched off")

        def on_gone(_key: Key) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._threads.soon(switch_off)

        self._truth.on_gone = on_gone

    def _live_without_an_engine(self) -> None:
        """Let much time pass, perhaps, in which no engine runs: the host is up, off or asleep."""
        chance = self._gaps
        if chance.random() < 0.5:
            return
        by_ns = self._truth.apart_ns + round(chance.choice((0.01, 1, 5)) * self._truth.window_ns) + SECOND
        how = chance.choice(("up", "off", "asleep"))
        self._clock.leap(by_ns, asleep=how == "asleep")
        self._absent_ns = 0 if how == "asleep" else by_ns
        if how == "off":
            self._clock.reboot(chance)
            self._forgive_absence()
        self.chronicle.tell(f"no engine for {by_ns // SECOND} s, the host is {how}")

    def _forgive_absence(self) -> None:
        """Let the last absence count as watched where the clock was ahead before it, and it seems short by what that says."""
        path = f"{DATA}/{OWN}/looks.json"
        if not self._absent_ns or not self._truth.filesystem.exists(path):
            return
        last = json.loads(self._truth.filesystem.read_file(path))["last"]
        if last is not None and self._clock.now_ns() - last["wall_ns"] <= self._truth.apart_ns:
            self._clock.unwatched_ns -= self._absent_ns
            self._absent_ns = 0

    async def _live_without_a_volume(self) -> None:
        """Have something away for a while, or the data directory moved aside; nothing may come of that.

        Nothing else happens meanwhile, so that whatever is missing was taken by the engine.
        """
        truth = self._truth
        if self._absences.random() < 0.5 or truth.denied or truth.unreadable:
            return
        absence = Absence.choose(self._absences, truth.filesystem)
        if absence is None:
            return
        self._is_paused, self._resumed = True, trio.Event()
        was_calm, self._disturbance.is_calm = self._disturbance.is_calm, True
        self._disturbance.attach()
        self.chronicle.tell(f"{absence.folder or 'the data directory'} is away")
        if absence.folder:
            await self._wait_for_volume(absence)
        else:
            await self._move_aside(absence)
        self.chronicle.tell("all is back")
        self._disturbance.is_calm = was_calm
        self._is_paused = False
        self._resumed.set()

    async def _wait_for_volume(self, absence: Absence) -> None:
        retired = self._truth.retirements
        self._truth.begin_life()
        absence.begin()
        async with open_engine(self._config, self._surroundings(), scheduled=True) as retention:
            await trio.sleep(2.5 * self._interval)
            report = retention.statistics().last_report
        told = set() if report is None else {one.path for one in report.suspended}
        costs_nothing = absence.costs_nothing
        absence.end()
        if not costs_nothing or self._truth.retirements != retired:
            raise self.chronicle.fail(
                f"while {absence.folder} was away: timers or images went, or timers came"
            )
        if f"{DATA}/{absence.folder}" not in told:
            raise self.chronicle.fail(f"that {absence.folder} is away was not told: {told}")

    async def _move_aside(self, absence: Absence) -> None:
        retired = -1
        self._truth.begin_life()
        try:
            async with open_engine(self._config, self._surroundings(), scheduled=True):
                await trio.sleep(1.5 * self._interval)
                retired = self._truth.retirements
                absence.begin()
                await trio.sleep(10 * self._interval)
        except DataDirMovedError:
            absence.end()
        else:
            raise self.chronicle.fail("an engine has gone on in a data directory that was moved aside")
        if self._truth.retirements != retired:
            raise self.chronicle.fail("images went from a data directory that was moved aside")

    def _surroundings(self) -> Platform:
        return Platform(self._truth.filesystem, self._clock, self._threads, self._clock.boot_ns)

    def _excuse(self, error: BaseException) -> None:
        """Let pass what an engine may end with: a crash, or an error that its disk gave it at the start."""
        causes = list(_leaves(error))
        if self._disturbance.has_crashed and any(isinstance(cause, Crash) for cause in causes):
            return
        if self._truth.disturbed_at and all(isinstance(cause, (OSError, ConfigError)) for cause in causes):
            self.chronicle.tell(f"the engine has ended: {error!r}")
            return
        if any(isinstance(cause, (trio.Cancelled, Breach, KeyboardInterrupt)) for cause in causes):
            raise error
        raise self.chronicle.fail(f"the engine ended with {error!r}") from error

    async def _recover(self) -> None:
        """Go on with the disk that a crash, or a power cut, has left."""
        self._crashes += 1
        lost_power = self._rng.random() < 0.5
        old = self._truth.filesystem
        new = old.after_power_loss(self._rng) if lost_power else old.crashed_copy()
        if lost_power:
            self._jobs.clear()
            self._clock.reboot(self._rng)
        self._truth.resume(new, lost_power=lost_power)
        works = self._hypeman.resume(lost_power=lost_power)
        self.chronicle.tell("power was lost" if lost_power else "the engine was killed")
        self._truth.check_folders()
        for work in works:
            self._begin(work)
        await trio.sleep(self._rng.choice((0, 1, self._interval)))

    async def _end_quietly(self) -> None:
        """Let everything cease that stands in the way: then what is due goes, and nothing is left behind."""
        self._is_quiet = self._disturbance.is_calm = True
        self._jobs.clear()
        self._hypeman.leave(everything=self._rng.random() < 0.5)
        self._clock.correct()
        self._forgive_absence()
        self._truth.resume(self._truth.filesystem.crashed_copy(), lost_power=False)
        self.chronicle.tell("all is quiet")
        hold = _HOLD_SECONDS if self._clock.jumped_ns else 0
        window = self._config.auto_delete.unused_for.total_seconds()
        sweeps = 4 + (len(self._truth.images) if self._config.max_deletes_per_sweep else 0)
        windows = 2 if self._truth.has_spoilt_timers else 1
        await self._one_life(hold + windows * window + sweeps * self._interval)
        await self._one_life(1.5 * self._interval)
        self._check_end()

    def _check_end(self) -> None:
        """Check that what was due is gone, and that nothing is left of it.

        Known, and not held against it: on another file system, a retired folder that the recovery may not look at
        is forgotten; a half-written state with a time stamp in the future stays until its time has come.
        """
        truth = self._truth
        tree = truth.filesystem.tree(DATA)
        for image in truth.images.values():
            if image.is_present and self._is_due(image, tree):
                raise self.chronicle.fail(f"{image.path} is due and has not gone")
        left = truth.dangling()
        present = tuple(_state_of(image) for image in truth.images.values() if image.is_present)
        for path in tree:
            in_trash = path.startswith(f"{DATA}/{TRASH}/")
            beside = "/.hmret-" in path and not truth.disturbed_at
            is_state = path.startswith(f"{DATA}/{RETENTION}/") and path.endswith(".json")
            half_written = path.startswith(f"{DATA}/{RETENTION}/") and path.endswith(".tmp")
            if (
                in_trash
                or beside
                or (is_state and not path.endswith(present))
                or (half_written and not self._clock.jumped_ns)
            ):
                left.append(path)
        if left:
            raise self.chronicle.fail(f"left behind: {left}")

    def _is_due(self, image: Pulled, tree: Tree) -> bool:
        """Tell whether an image must be gone in the end: nobody needs it, and nobody else shares it who may keep it.

        Known, and not held against it: hypeman leaves a promotion or a staging folder behind, and what lies beside it
        stays.
        """
        truth, digest = self._truth, image.key[1]
        users = self._hypeman.named()
        if image.key[0] != CONTENT and self._layout == "legacy":
            return image.ready_at is not None and image.key[0] not in users and truth.may_go(image.key[0])
        if self._config.max_deletes_per_sweep and any(f"/{INSTALLING}" in path for path in tree):
            return False  # one that is kept at each last look takes the place of another
        if any(
            f"/{TAG_STAGE}" in path and str(target).endswith(hex_of(digest))
            for path, (_, target) in tree.items()
        ):
            return False  # by a clock that was wrong, a tag that was never set may have been staged just now
        folders = truth.folders_of(digest)
        owners = truth.owners_of(digest)
        if not any(digest == found for found, _ in truth.tags.values()):
            # It goes by its metadata's name, which may have been read before hypeman wrote another.
            owners |= {name for name in (*REPOSITORIES, *owners) if not truth.may_go(name)}
        return (
            all(folder.ready_at is not None for folder in folders)
            and not any(f"{folder.path}/{INSTALLING}" in path for folder in folders for path in tree)
            and all(owner not in users and truth.may_go(owner) for owner in owners)
            and not any(need.image.key[1] == digest for need in truth.needs.values())
        )

    # The world beside it.

    async def _live(self) -> None:
        """Have hypeman work on, at its own pace."""
        action = trio.current_time()
        while not self._is_quiet:
            if self._is_paused:
                await self._resumed.wait()
            self._woken = trio.Event()
            with trio.move_on_at(min([action, *(job.due for job in self._jobs)])):
                await self._woken.wait()
            now = trio.current_time()
            if self._is_paused:
                continue
            for job in [job for job in self._jobs if job.due <= now]:
                self._advance(job)
            if now >= action:
                self._begin(self._hypeman.anything())
                action = now + self._rng.expovariate(1 / self._pace)

    def _step(self, key: Key | None) -> None:
        """Have something happen in the middle of a call."""
        if self._is_paused:
            return
        if key is not None:
            self._begin(self._hypeman.around(key))
        elif self._jobs and self._rng.random() < 0.8:
            self._advance(self._rng.choice(self._jobs))
        else:
            self._begin(self._hypeman.anything())

    def _begin(self, work: Work) -> None:
        job = _Job(work, math.inf)
        self._jobs.append(job)
        self._advance(job)

    def _advance(self, job: _Job) -> None:
        if job not in self._jobs or self._is_quiet:
            return
        self._clock.tick()
        self._truth.settle()
        try:
            job.due = self._clock.seconds() + next(job.work)
        except StopIteration:
            self._jobs.remove(job)
        except OSError as error:
            raise self.chronicle.fail(f"the simulation itself is wrong: {error!r}") from error

    def _pull_again(self, key: Key) -> None:
        if not (self._is_quiet or self._is_paused) and self._rng.random() < 0.3:
            self._begin(self._hypeman.pull(key, self._rng.choice(("latest", "3.20"))))

    # What the engine is seen to do.

    def _observe(self, called: Called) -> None:
        """Learn from the functions that the engine runs where it is: they are those of its own modules."""
        task = trio.lowlevel.current_task()
        if called.function is look_at_references:
            self._looks[task] = self.chronicle.tick()
        elif called.function is save_clock_record:
            record = called.arguments[2]
            assert isinstance(record, ClockRecord)
            self._sweeps += 1
            self._truth.note_clocks(record)
            if not self._is_paused:
                self._truth.check_images()
        elif called.function is find_protected:
            batch = called.arguments[2]
            assert isinstance(batch, BatchToCheck)
            self._truth.note_look(batch.keys, self._looks[task])
        elif called.function is retire:
            candidates, claim = called.arguments[2], called.keywords["claim"]
            assert isinstance(candidates, tuple)
            assert isinstance(claim, Claimed)
            self.chronicle.tell(f"hmret begins to retire {len(candidates)}")
            self._claim = claim
            self._truth.note_retire(candidates)

    def _wake(self) -> None:
        self._truth.settle()
        self._woken.set()


def _hypeman(layout: str, truth: Truth, rng: random.Random, slow: float) -> Hypeman | TodayHypeman:
    """Make the server that the host has."""
    if layout == "legacy":
        return Hypeman(truth, rng, slow)
    return TodayHypeman(truth, rng, slow, is_mixed=layout == "mixed")


def _state_of(image: Pulled) -> str:
    """Say how the path of each timer of an image ends; content has one for each repository."""
    repository = "" if image.key[0] == CONTENT else image.key[0]
    return f"{repository}/{hex_of(image.key[1])}.json"


def _config(rng: random.Random, interval: float) -> RetentionConfig:
    return RetentionConfig(
        data_dir=DATA,
        auto_delete=AutoDelete(
            enabled=True,
            unused_for=timedelta(seconds=interval * rng.choice((0.2, 1, 3))),
            allowed=rng.choice((("*",), ("*",), ("docker.io/*", "registry.local*"))),
        ),
        sweep_interval=timedelta(seconds=interval),
        pinned=rng.choice(((), (), ("ghcr.io/*",))),
        max_deletes_per_sweep=rng.choice((0, 0, 1, 3)),
    )


def _with_a_long_window(config: RetentionConfig) -> RetentionConfig:
    """Have images wait for longer than one life of an engine lasts."""
    auto_delete = attrs.evolve(config.auto_delete, unused_for=15 * config.sweep_interval)
    return attrs.evolve(config, auto_delete=auto_delete)


def _weather(rng: random.Random) -> Weather:
    errors = rng.random() < 0.4
    crashes = rng.random() < 0.4
    return Weather(
        error=rng.choice((0.0005, 0.005, 0.02)) if errors else 0.0,
        crash=rng.choice((0.00003, 0.0002)) if crashes else 0.0,
        pause=rng.choice((0.0, 0.01, 0.05)),
        step=rng.choice((0.0, 0.005, 0.02, 0.05)),
        short=rng.choice((0.0, 0.0, 0.2)),
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for below in error.exceptions:
            yield from _leaves(below)
    else:
        yield error
