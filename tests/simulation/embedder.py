"""The server that hmret is embedded in: it asks before it uses an image, gives up at random, and believes the answer."""

import random
from collections.abc import Callable
from datetime import timedelta

import anyio
import trio

from hmret.engine.retention import Retention
from hmret.model.errors import EngineClosedError, ImageNotFoundError
from hmret.model.images import Key
from simulation.hypeman import Hypeman, Work
from simulation.truth import Pulled, Truth

__all__ = ["Embedder"]


class Embedder:
    """One task of that server.

    Args:
        begin: has hypeman begin some work.
        slow: seconds that it lets pass between two calls, on the average.
    """

    def __init__(
        self,
        truth: Truth,
        hypeman: Hypeman,
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
            await trio.sleep(self._rng.expovariate(1 / self._slow))
            patience = self._rng.choice((trio.CancelScope(), trio.CancelScope(deadline=trio.current_time() + 0.01)))
            try:
                with patience:
                    await self._rng.choice(calls)(retention)
            except EngineClosedError:
                return
            except OSError as error:
                if not self._truth.disturbed_at:
                    raise self._truth.chronicle.fail(f"a call failed with {error!r}") from error

    async def _mark(self, retention: Retention) -> None:
        text, digest = self._name()
        expected, began = self._expected(text, digest), self._truth.chronicle.now
        try:
            used = await retention.mark_used(text, digest)
        except ImageNotFoundError as error:
            self._check_refusal(expected, began, error)
            return
        image = self._told_yes((used.repository, used.digest))
        self._truth.mark(image)
        self._use(text, image)

    async def _lease(self, retention: Retention) -> None:
        text, digest = self._name()
        expected, began = self._expected(text, digest), self._truth.chronicle.now
        ttl = self._rng.choice((None, None, timedelta(seconds=self._slow)))
        try:
            async with retention.lease(text, digest, reason="start", ttl=ttl) as leased:
                expected = None
                image = self._told_yes((leased.repository, leased.digest))
                self._truth.mark(image)
                await self._hold(image, ttl)
                if self._truth.filesystem.inode(image.path) != image.inode:
                    return  # the lease has run out
                self._use(text, image)
        except ImageNotFoundError as error:
            self._check_refusal(expected, began, error)

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
        if self._truth.tags and self._rng.random() < 0.5:
            repository, tag = self._rng.choice(list(self._truth.tags))
            return f"{repository}:{tag}", None
        keys = list(self._truth.images)
        if not keys:
            return "alpine", None
        repository, digest = self._rng.choice(keys)
        return (f"{repository}@{digest}", None) if self._rng.random() < 0.5 else (repository, digest)

    def _expected(self, text: str, digest: str | None) -> Pulled | None:
        """Find the image that an answer must be about, if nothing changes until then."""
        repository, _, rest = text.rpartition(":") if digest is None else (text, "", digest)
        if digest is None and "@" in text:
            repository, _, found = text.partition("@")
        else:
            found = digest or self._truth.tags.get((repository, rest), ("", 0))[0]
        return self._truth.present((repository, found))

    def _check_refusal(self, image: Pulled | None, began: int, error: ImageNotFoundError) -> None:
        """Told not found, it is gone, or was not ready, or something stood in the way."""
        truth = self._truth
        truth.settle()
        if image is None or image.ready_at is None or not image.is_present:
            return
        moved = any(since >= began for key, (_, since) in truth.tags.items() if key[0] == image.key[0])
        linked = any((tag[0], digest) == image.key for tag, (digest, _) in truth.tags.items())
        disturbed = truth.disturbed_at >= began or truth.denied
        if image.ready_at < began and linked and not moved and not disturbed:
            raise truth.chronicle.fail(f"told not found, but {image.key} is here: {error}")

    def _told_yes(self, key: Key) -> Pulled:
        """Told yes, it is here, ready and whole."""
        image = self._truth.present(key)
        if image is None:
            raise self._truth.chronicle.fail(f"told yes, but {key} is not here")
        self._truth.chronicle.tell(f"embedder is told yes: {key[0]}@{key[1][7:11]}")
        return image

    def _use(self, text: str, image: Pulled) -> None:
        """Start a guest from an image that stays for its window."""
        if self._rng.random() < 0.5:
            repository, tag = image.key[0], text.rpartition(":")[2]
            tag = tag if "/" not in tag and "@" not in text else "latest"
            self._begin(self._hypeman.create_guest((repository, tag), image))
