"""A stream of VM creations as a host may see it, from a seed: who starts what, when, and for how long.

The same shape and seed always give the same stream; it knows nothing of a cache or a policy. All times are in
nanoseconds from the beginning of the stream, which is a Monday at midnight.
"""

import hashlib
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, count

import attrs

__all__ = ["CI", "DAY", "GIB", "HOUR", "Creation", "Publisher", "Shape", "catalogue", "creations"]

HOUR = 3600 * 10**9
DAY = 24 * HOUR
GIB = 1 << 30
CI = "ghcr.io/acme/ci"
"""Below it are the repositories to which every build goes."""

# Tags that somebody pins are this old at most when the stream begins.
_HISTORY_DAYS = 120


@attrs.frozen(kw_only=True)
class Shape:
    """What the stream is like."""

    days: int = 90
    """How long it is measured."""
    warm_up_days: int = 30
    """How long it runs before."""
    repositories: int = 400
    zipf: float = 1.0
    """The repository of rank r is asked for as often as 1 / r to the power of this."""
    creations_a_day: float = 300.0
    night: float = 0.6
    """How far the rate swings about its mean over a day; highest at 15:00."""
    weekend: float = 0.4
    """What remains of the rate on Saturday and Sunday."""
    ci_every: int = 20
    """One in so many repositories is one of CI: every build is a new image, which is used for hours."""
    ci_release_hours: float = 4.0
    release_days: float = 14.0
    """Median over repositories of how often `latest` moves; lognormal."""
    release_sigma: float = 1.0
    pinned_repositories: float = 0.3
    """Share of the repositories that have users who pin a tag for some weeks."""
    pinned_creations: float = 0.4
    """Share of the creations there that name the pinned tag."""
    passing: float = 0.4
    """Share of the repositories that are only asked for during some weeks."""
    passing_days: float = 30.0
    """Median of how long; lognormal, sigma 0.7."""
    image_gib: float = 2.0
    """Median size over repositories; lognormal."""
    image_sigma: float = 0.8
    life_hours: float = 0.75
    """Median life of a VM; lognormal."""
    life_sigma: float = 2.2
    longest_life_days: float = 42.0
    vm_disk_gib: float = 4.0
    """Median of what a VM writes on its own disk, taken when it is created; lognormal."""
    vm_disk_sigma: float = 0.9

    @property
    def warm_up(self) -> int:
        """When measuring begins."""
        return self.warm_up_days * DAY

    @property
    def end(self) -> int:
        """When the stream ends."""
        return (self.warm_up_days + self.days) * DAY


@attrs.frozen
class Publisher:
    """A repository in its registry: what it offers, when, and who asks for it."""

    name: str
    weight: float
    image_bytes: float
    """About what each of its images occupies."""
    released: Sequence[int]
    """When each version became `latest`, ascending."""
    begin: int
    """From when on it is asked for."""
    end: int
    pins_every: int
    """After how long who pins a tag goes on to a newer one; 0: nobody pins."""
    pins_shift: int

    def latest(self, at: int) -> int:
        """Tell the number of the version that `latest` names."""
        return max(bisect_right(self.released, at) - 1, 0)

    def pinned(self, at: int) -> int:
        """Tell the number of the version that is pinned."""
        since = (at + self.pins_shift) // self.pins_every * self.pins_every - self.pins_shift
        return self.latest(since)


@attrs.frozen
class Creation:
    """A VM is created."""

    number: int
    at: int
    repository: str
    tag: str
    digest: str
    """What the registry says that the tag names then."""
    image_bytes: int
    life: int
    vm_disk_bytes: int


def catalogue(shape: Shape, seed: int) -> Sequence[Publisher]:
    """Make the repositories, the most popular first."""
    chance = random.Random(f"{seed}/catalogue")
    return [_publisher(rank, shape, chance) for rank in range(1, shape.repositories + 1)]


def creations(shape: Shape, seed: int) -> Iterator[Creation]:
    """Make the stream."""
    publishers = catalogue(shape, seed)
    weights = list(accumulate(publisher.weight for publisher in publishers))
    chance = random.Random(f"{seed}/creations")
    numbers = count(1)
    for at in _moments(shape, chance):
        publisher = chance.choices(publishers, cum_weights=weights)[0]
        while not publisher.begin <= at < publisher.end:
            publisher = chance.choices(publishers, cum_weights=weights)[0]
        is_pinned = chance.random() < shape.pinned_creations and publisher.pins_every > 0
        version = publisher.pinned(at) if is_pinned else publisher.latest(at)
        name = f"{seed}/{publisher.name}/{version}"
        life = chance.lognormvariate(math.log(shape.life_hours * HOUR), shape.life_sigma)
        yield Creation(
            number=next(numbers),
            at=at,
            repository=publisher.name,
            tag=f"v{version}" if is_pinned else "latest",
            digest=f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
            # Versions of one repository differ by a tenth or so; each always has the same size.
            image_bytes=_blocks(publisher.image_bytes * random.Random(name).uniform(0.9, 1.1)),
            life=int(min(life, shape.longest_life_days * DAY)),
            vm_disk_bytes=_blocks(_size(shape.vm_disk_gib, shape.vm_disk_sigma, chance)),
        )


def _publisher(rank: int, shape: Shape, chance: random.Random) -> Publisher:
    # The third is the first of CI, so that it is one of the busy ones.
    is_ci = rank % shape.ci_every == 3 % shape.ci_every
    every = (
        shape.ci_release_hours * HOUR
        if is_ci
        else chance.lognormvariate(math.log(shape.release_days * DAY), shape.release_sigma)
    )
    begin, end = 0, shape.end
    if chance.random() < shape.passing and not is_ci:
        span = int(chance.lognormvariate(math.log(shape.passing_days * DAY), 0.7))
        begin = int(chance.uniform(-span, shape.end))
        end = begin + span
    has_pins = chance.random() < shape.pinned_repositories and not is_ci
    pins_every = int(chance.uniform(20, 60) * DAY)
    return Publisher(
        name=f"{CI}/job-{rank}" if is_ci else f"docker.io/acme/app-{rank}",
        weight=rank**-shape.zipf,
        image_bytes=_size(shape.image_gib, shape.image_sigma, chance),
        released=list(_releases(every, shape.end, chance)),
        begin=begin,
        end=end,
        pins_every=pins_every if has_pins else 0,
        pins_shift=int(chance.uniform(0, pins_every)),
    )


def _releases(every: float, end: int, chance: random.Random) -> Iterator[int]:
    at = -float(_HISTORY_DAYS * DAY)
    while at < end:
        yield int(at)
        at += chance.expovariate(1 / every)


def _moments(shape: Shape, chance: random.Random) -> Iterator[int]:
    """A Poisson stream whose rate has the rhythm of days and weeks, made by thinning one of the highest rate."""
    weekly_mean = (5 + 2 * shape.weekend) / 7
    usual = shape.creations_a_day / weekly_mean
    highest = usual * (1 + shape.night) / DAY
    at = 0.0
    while (at := at + chance.expovariate(highest)) < shape.end:
        day, of_day = divmod(at, DAY)
        rate = 1 + shape.night * math.cos(math.tau * (of_day / DAY - 15 / 24))
        if int(day) % 7 >= 5:
            rate *= shape.weekend
        if chance.random() * (1 + shape.night) < rate:
            yield int(at)


def _size(median_gib: float, sigma: float, chance: random.Random) -> float:
    return chance.lognormvariate(math.log(median_gib * GIB), sigma)


def _blocks(size: float) -> int:
    return max(int(size) // 4096, 1) * 4096
