"""The server that hmret is embedded in: it asks before it uses an image, gives up at random, and believes the answer."""

import random
from collections.abc import Callable
from datetime import timedelta

import anyio
import attrs
import trio

from hmret.engine.retention import Retention
from hmret.model.errors import EngineClosedError, ImageNotFoundError
from hmret.model.references import Key
from simulation.hypeman import Hypeman
from simulation.landmarks import Pulled, Tag, Work, content_of, repository_of
from simulation.today import TodayHypeman
from simulation.truth import Truth

__all__ = ["Embedder"]


_RACES = 0.1
"""How often it asks just when images are about to be deleted."""


@attrs.frozen
class Expected:
    """What an answer must be about, as long as this stays as it is."""

    image: Pulled
    key: Key
    """The repository and the digest that were meant."""
    tag: Tag
    link: tuple[str, int] | None
    """What the tag was, where one was named."""
    began: int


class Embedder:
    """One task of that server.

    Args:
        begin: has hypeman begin some work.
        slow: seconds that it lets pass between two calls, on the average.
    """

    def __init__(
        self,
        truth: Truth,
        hypeman: Hypeman | TodayHypeman,
        rng: random.Random,
        begin: Callable[[Work], None],
        slow: float,
    ) -> None:
        self._truth = truth
        self._hypeman = hypeman
        self._rng = rng
        self._begin = begin
        self._slow = slow
        self._leases = 0

    async def run(self, retention: Retention) -> None:
        """Ask one thing after the other, until the engine has stopped."""
        calls = (self._mark, self._mark, self._lease, self._lease, self._ask)
        while True:
            await self._wait()
            patience = self._rng.choice(
                (trio.CancelScope(), trio.CancelScope(deadline=trio.current_time() + 0.01))
            )
            try:
                with patience:
                    await self._rng.choice(calls)(retention)
            except EngineClosedError:
                return
            except OSError as error:
                if not self._truth.disturbed_at:
                    raise self._truth.chronicle.fail(f"a call failed with {error!r}") from error

    async def _wait(self) -> None:
        """Wait for a while, or until images are about to be deleted: to ask for one of those is a race."""
        with trio.move_on_after(self._rng.expovariate(1 / self._slow)):
            while True:
                if self._truth.stirred.is_set():
                    self._truth.stirred = trio.Event()
                await self._truth.stirred.wait()
                if self._rng.random() < _RACES:
                    await trio.sleep(self._rng.choice((0, 0.0005, 0.01)))
                    return

    async def _mark(self, retention: Retention) -> None:
        text, digest = self._name()
        expected, began = self._expected(text, digest), self._truth.chronicle.now
        try:
            used = await retention.mark_used(text, digest)
        except ImageNotFoundError as error:
            self._check_refusal(expected, error)
            return
        key = used.repository, used.digest
        image = self._told_yes(key, began)
        if image is not None:
            self._truth.mark(key, image, began)
            self._use(text, key[0], image)

    async def _lease(self, retention: Retention) -> None:
        text, digest = self._name()
        expected, began = self._expected(text, digest), self._truth.chronicle.now
        ttl = self._rng.choice((None, None, timedelta(seconds=self._slow)))
        try:
            async with retention.lease(text, digest, reason="start", ttl=ttl) as leased:
                expected = None
                key = leased.repository, leased.digest
                image = self._told_yes(key, began)
                if image is None:
                    return
                self._truth.mark(key, image, began)
                await self._hold(image, ttl)
                if self._truth.filesystem.inode(image.path) != image.inode:
                    return  # the lease has run out
                self._use(text, key[0], image)
        except ImageNotFoundError as error:
            self._check_refusal(expected, error)

    async def _hold(self, image: Pulled, ttl: timedelta | None) -> None:
        """Keep a lease for a while; one with a `ttl` ends by itself, whatever its block does."""
        self._leases += 1
        number = self._rng.getrandbits(64)
        self._truth.leases[number] = image
        try:
            with anyio.move_on_after(None if ttl is None else ttl.total_seconds() * 0.999):
                await trio.sleep(self._rng.choice((0, 0.01, 1, 3)) * self._slow)
        finally:
            self._truth.leases.pop(number, None)

    async def _ask(self, retention: Retention) -> None:
        match self._rng.randrange(4):
            case 0:
                await retention.sweep()
            case 1:
                await retention.plan()
            case 2:
                retention.statistics()
            case _:
                try:
                    await retention.explain(*self._name())
                except ImageNotFoundError:
                    return

    def _name(self) -> tuple[str, str | None]:
        """Choose what to ask for: most often something that is here."""
        if self._truth.claimed and self._rng.random() < 0.5:
            repository, digest = self._rng.choice(self._truth.claimed)
            return repository, digest
        if self._truth.tags and self._rng.random() < 0.5:
            tag = self._rng.choice(list(self._truth.tags))
            return f"{repository_of(tag)}:{tag[1]}", None
        keys = list(self._truth.images)
        if not keys:
            return "alpine", None
        repository, digest = self._rng.choice(keys)
        if (repository, digest) == content_of(digest):
            # Content is found under any repository.
            repository = self._rng.choice(sorted(self._truth.owners_of(digest) | {"ghcr.io/kernel/x"}))
        return (f"{repository}@{digest}", None) if self._rng.random() < 0.5 else (repository, digest)

    def _expected(self, text: str, digest: str | None) -> Expected | None:
        """Find the image that an answer must be about, if nothing changes until then."""
        truth = self._truth
        if digest is None and "@" in text:
            text, _, digest = text.partition("@")
        link, name = None, text
        if digest is None:
            text, _, name = text.rpartition(":")
            link = truth.resolve(text, name)
            digest = "" if link is None else link[0]
        image = truth.present(text, digest)
        if image is None:
            return None
        return Expected(image, (text, digest), (text, name), link, truth.chronicle.now)

    def _check_refusal(self, expected: Expected | None, error: ImageNotFoundError) -> None:
        """Told not found, it is gone, or was not ready, or something stood in the way."""
        truth = self._truth
        if expected is None or truth.disturbed_at >= expected.began or truth.denied:
            return
        image = truth.present(*expected.key)
        if image is not None and not truth.names_itself(image):
            # A tag call of hypeman's that read content before it went has written that into the folder beside it.
            return
        is_same = image is expected.image and (image.ready_at or 0) < expected.began
        if is_same and (expected.link is None or truth.resolve(*expected.tag) == expected.link):
            raise truth.chronicle.fail(f"told not found, but {expected.key} is here: {error}")

    def _told_yes(self, key: Key, began: int) -> Pulled | None:
        """Told yes, it is here, whole, and ready, unless hypeman has taken it back or deleted it in the meantime."""
        self._truth.settle()
        image = self._truth.find(*key)
        is_ready = image is not None and (image.ready_at is not None or image.unready_at >= began)
        if not is_ready and self._truth.deleted_at.get(key[1], 0) < began:
            raise self._truth.chronicle.fail(f"told yes, but {key} is not here: {image}")
        if image is None:
            return None
        self._truth.chronicle.tell(f"embedder is told yes: {key[0]}@{key[1][7:11]}")
        return image

    def _use(self, text: str, repository: str, image: Pulled) -> None:
        """Start a guest from an image that stays for its window."""
        if self._rng.random() < 0.5:
            tag = text.rpartition(":")[2]
            tag = tag if "/" not in tag and "@" not in text else "latest"
            self._begin(self._hypeman.start_guest((repository, tag), image))
