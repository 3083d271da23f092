"""Today's hypeman on the simulated host: its calls step by step, stops in the midst of them, and its starts."""

import random
from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from itertools import count

from hmret.disk.layout import CONTENT, IMAGES, hex_of
from hmret.model.references import Key
from simulation.guests import Guests
from simulation.landmarks import DATA, QUICK, Pulled, Tag, Work, short
from simulation.mishaps import Mishaps
from simulation.told_disk import ToldDisk
from simulation.truth import Truth
from support.hypeman_retention import sweep_as_hypeman
from support.hypeman_today import Call, Hypeman as Server, Outcome, is_waiting

__all__ = ["REPOSITORIES", "TodayHypeman"]

REPOSITORIES = ("docker.io/library/alpine", "ghcr.io/kernel/x", "registry.local:5000/ci")
_TAGS = ("latest", "3.20")
_DIGESTS = tuple(f"sha256:{letter * 64}" for letter in "abcd")


class TodayHypeman:
    """Everything that happens on the host beside hmret.

    Args:
        truth: told of all that it does.
        rng: decides what it does.
        slow: seconds that its longer works may pause for.
        is_mixed: whether older servers have been at work here too, and still are after a rollback.
    """

    def __init__(self, truth: Truth, rng: random.Random, slow: float, *, is_mixed: bool) -> None:
        self._truth = truth
        self._rng = rng
        self._slow = slow
        self._is_mixed = is_mixed
        self._clock_jumps = rng.random() < 0.3
        self._disk = ToldDisk(truth)
        self._server = Server(self._disk, truth.clock.now, count(1).__next__)
        self._guests = Guests(truth, rng, is_today=True)
        self._mishaps = Mishaps(truth, rng, self._guests.documents, slow)
        self._locked: set[str] = set()
        """Digests that a call works on: the server keeps others away from them."""
        self._calls: list[Call] = []

    # What there is to do.

    def anything(self) -> Work:
        """Begin some work."""
        works: tuple[tuple[int, Callable[[], Work]], ...] = (
            (12, lambda: self.pull(self._some_key(), self._rng.choice(_TAGS))),
            (2, lambda: self.pull(self._some_key(), None)),
            (5, lambda: self.tag(self._some_digest())),
            (2, self.delete),
            (1, lambda: self.sweep(timedelta(days=365))),
            (1, self.stop_in_the_midst),
            (4 if self._is_mixed else 0, self.pull_as_older_server),
            (3 if self._is_mixed else 0, self.promote),
            (5, lambda: self._guests.create(self._some_tag())),
            (4, self._guests.delete),
            (3, self._guests.update),
            (2, self._guests.fork),
            (2, self._guests.snapshot),
            (2, self._guests.delete_snapshot),
            (3, self._mishaps.open_disk),
            (1, self._mishaps.corrupt),
            (1, self._mishaps.deny),
            (1 if self._clock_jumps else 0, self._mishaps.jump),
        )
        return self._rng.choices([work for _, work in works], [weight for weight, _ in works])[0]()

    def around(self, key: Key) -> Work:
        """Begin some work on an image that hmret has in hand."""
        digest = key[1]
        image = self._truth.images.get(key)
        if image is None or not image.is_present or image.ready_at is None:
            return self.pull((self._rng.choice(REPOSITORIES), digest), self._rng.choice(_TAGS))
        works: tuple[Callable[[], Work], ...] = (
            lambda: self._mishaps.open_disk(image),
            lambda: self._mishaps.open_disk(image),
            lambda: self._guests.create(self._tag_near(image), image),
            lambda: self.tag(digest),
            lambda: self.tag(digest),
            lambda: self.pull((self._rng.choice(REPOSITORIES), digest), self._rng.choice(_TAGS)),
            lambda: self.pull((self._rng.choice(REPOSITORIES), self._other(digest)), "latest"),
        )
        return self._rng.choice(works)()

    def start_guest(self, tag: Tag, image: Pulled) -> Work:
        """Create a guest from an image that hmret has said yes to."""
        return self._guests.create(tag, image)

    # Calls.

    def pull(self, key: Key, tag: str | None) -> Work:
        """Pull an image, or only tag it where it is here."""
        repository, digest = key
        if repository == CONTENT:
            repository = self._rng.choice(REPOSITORIES)
        keys = ("team",) if self._rng.random() < 0.2 else ()
        call = self._server.pull(repository, tag, hex_of(digest), keys)
        return self._make(
            call, [digest, *self._digests_of(repository, tag)], f"pulls {short((repository, digest))}"
        )

    def pull_as_older_server(self) -> Work:
        """Pull an image as a server of the spring does, which knows nothing of content."""
        repository, digest = self._some_key()
        tag = self._rng.choice(_TAGS)
        call = self._server.pull_as_older_server(repository, tag, hex_of(digest))
        return self._make(
            call,
            [digest, *self._digests_of(repository, tag)],
            f"pulls {short((repository, digest))} as of old",
        )

    def tag(self, digest: str) -> Work:
        """Give an image another tag, perhaps in another repository, perhaps one that led elsewhere."""
        owners = sorted(self._truth.owners_of(digest)) or [self._rng.choice(REPOSITORIES)]
        source, target = self._rng.choice(owners), self._rng.choice(REPOSITORIES)
        tag = self._rng.choice(_TAGS)
        call = self._server.tag(source, digest, target, tag)
        return self._make(
            call,
            [digest, *self._digests_of(target, tag)],
            f"tags {short((source, digest))} as {target}:{tag}",
        )

    def promote(self) -> Work:
        """Give an image of the older layout its place in content."""
        older = self._server.ready_older_images()
        if not older:
            return iter(())
        repository, hexadecimal = self._rng.choice(older)
        is_august = self._rng.random() < 0.7
        call = self._server.promote(repository, hexadecimal, is_august=is_august)
        return self._make(call, [f"sha256:{hexadecimal}"], f"promotes {repository}@{hexadecimal[:4]}")

    def delete(self) -> Work:
        """Delete a digest of a repository, where nobody uses it."""
        repository, digest = self._some_key()
        if any(need.image.key[1] == digest for need in self._truth.needs.values()):
            return iter(())
        call = self._server.delete(repository, hex_of(digest))
        return self._make(call, [digest], f"deletes {short((repository, digest))}")

    def sweep(self, unused_for: timedelta) -> Work:
        """Have hypeman's own retention sweep, which somebody has left on; with a long window it only keeps timers."""
        call = sweep_as_hypeman(self._server, self._truth.clock.now(), unused_for, lambda repository: True)
        return self._make(call, _DIGESTS, "sweeps by itself")

    def stop_in_the_midst(self) -> Work:
        """Stop the server in the midst of a call; it goes on with its pulls some time later, and with nothing else."""
        if not self._calls:
            return
        call = self._rng.choice(self._calls)
        call.close()
        self._tell("stops in the midst of a call")
        yield self._pause()
        yield from self._start()

    def _start(self) -> Work:
        """Take up pulls that were cut off."""
        for folder in self._server.unfinished():
            digest = f"sha256:{folder.rpartition('/')[2]}"
            yield from self._make(self._server.resume(folder), [digest], f"goes on with {folder[:60]}")

    def _make(self, call: Call, digests: Sequence[str], what: str) -> Work:
        """Make a call, while no other works on these digests."""
        if self._locked & set(digests) or self._truth.clock.is_behind:
            return
        self._locked |= set(digests)
        self._calls.append(call)
        self._tell(what)
        try:
            outcome = yield from self._steps(call)
        finally:
            self._locked -= set(digests)
            if call in self._calls:
                self._calls.remove(call)
        if outcome is not None:
            self._tell(f"{what}: {outcome.kind}")

    def _steps(self, call: Call) -> Generator[float, None, Outcome | None]:
        """Take the steps of a call, several at once or with a pause between."""
        pace = self._rng.choice((0.1, 0.4, 0.8))
        while True:
            try:
                step = next(call)
            except StopIteration as stop:
                outcome = stop.value
                # One that was stopped in the midst has none.
                return outcome if isinstance(outcome, Outcome) else None
            if is_waiting(step):
                yield QUICK
            elif self._rng.random() < pace:
                yield self._pause()

    # Crashes.

    def resume(self, *, lost_power: bool) -> list[Work]:
        """Go on with the disk that a crash has left; returns what the server has to do when it starts again."""
        truth = self._truth
        holds, truth.holds[:] = list(truth.holds), []
        if not lost_power:
            self._disk.outlive(truth.filesystem)
            for hold in holds:
                path = f"{hold.image.path}/{hold.file_name}"
                if hold.opened.is_open and hold.image.path and truth.filesystem.exists(path):
                    hold.opened = truth.filesystem.hold_open(path)
                    truth.holds.append(hold)
            return []
        for call in self._calls:
            call.close()
        self._calls.clear()
        self._locked.clear()
        self._disk.use(truth.filesystem)
        self._guests.resume()
        self._forget_links()
        truth.filesystem.sync()
        return [self._start()]

    def _forget_links(self) -> None:
        """See which tags a loss of power has left; what hmret has set aside comes back."""
        tree = self._truth.filesystem.tree(DATA)
        aside = [str(about) for path, (kind, about) in tree.items() if kind == "link" and "hmret" in path]
        for tag, (digest, _) in list(self._truth.tags.items()):
            path = f"{DATA}/{IMAGES}/{tag[0]}/{tag[1]}"
            kind, target = tree.get(path, ("", None))
            is_there = kind == "link" and str(target).endswith(hex_of(digest))
            if not is_there and not any(target.endswith(hex_of(digest)) for target in aside):
                self._truth.unlink(tag)

    def leave(self, *, everything: bool) -> None:
        """Stop using things: finish all calls, close all disks, and with `everything` delete all guests and snapshots."""
        for hold in self._truth.holds:
            hold.opened.close()
        self._truth.holds.clear()
        for call in self._calls:
            for step in call:
                assert not is_waiting(step), "no engine runs"
                self._truth.clock.tick()
        self._calls.clear()
        self._locked.clear()
        for _ in self._start():
            self._truth.clock.tick()
        self._guests.leave(everything=everything)

    def named(self) -> set[str]:
        """List the repositories that a guest or a snapshot names."""
        return self._guests.named()

    # Choices.

    def _tell(self, event: str) -> None:
        self._truth.chronicle.tell(f"hypeman {event}")

    def _pause(self) -> float:
        return self._rng.choice((QUICK, QUICK, self._slow * self._rng.random()))

    def _digests_of(self, repository: str, tag: str | None) -> list[str]:
        """List what a tag leads to now: a call that moves it may delete that."""
        found = None if tag is None else self._server.reading().hex_of_tag(repository, tag)
        return [] if found is None else [f"sha256:{found}"]

    def _some_key(self) -> Key:
        return self._rng.choice(REPOSITORIES), self._rng.choice(_DIGESTS)

    def _some_digest(self) -> str:
        present = [image.key[1] for image in self._truth.images.values() if image.ready_at is not None]
        return self._rng.choice(present) if present else self._rng.choice(_DIGESTS)

    def _other(self, digest: str) -> str:
        return self._rng.choice([one for one in _DIGESTS if one != digest])

    def _tag_near(self, image: Pulled) -> Tag:
        """Choose a tag by whose repository a digest leads to an image, most often."""
        repository = image.key[0] if image.key[0] != CONTENT else self._rng.choice(REPOSITORIES)
        return repository, self._rng.choice(_TAGS)

    def _some_tag(self) -> Tag:
        if self._truth.tags and self._rng.random() < 0.8:
            return self._rng.choice(list(self._truth.tags))
        return self._rng.choice(REPOSITORIES), self._rng.choice(_TAGS)
