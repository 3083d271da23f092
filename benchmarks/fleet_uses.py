"""How long `mark_used` takes on a host of a fleet, with etcd up, standing still and dead, beside a host of none.

`python benchmarks/fleet_uses.py [--images 2000] [--seconds 5] [--rounds 5] [--backend trio]` starts three members of
etcd itself. In each round the same images are marked used, one after another, while sweeps run back to back, in each of
the four ways; what is judged is the p99 of a way by that of no fleet in the same round, at the median of the rounds.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# A program has its own folder on the path, not the one that it lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

from benchmarks.generate_tree import generate_tree
from benchmarks.measure import Subject, choose_folder, describe_machine, temporary_folder
from benchmarks.trees import Shape, Tree

from support.etcd import Cluster, missing_etcd, start_etcd
from support.field_processes import found_fleet

_GOAL = 1.2
_FLEET = "uses"


@contextmanager
def _frozen(cluster: Cluster) -> Iterator[None]:
    for member in cluster.members:
        member.freeze()
    try:
        yield
    finally:
        for member in cluster.members:
            member.thaw()
        cluster.wait()


@contextmanager
def _killed(cluster: Cluster) -> Iterator[None]:
    cluster.kill()
    try:
        yield
    finally:
        for member in cluster.members:
            member.start()
        cluster.wait()


_WAYS: dict[str, Callable[[Cluster], Any] | None] = {
    "no fleet": None,
    "etcd up": lambda _: nullcontext(),
    "etcd frozen": _frozen,
    "etcd killed": _killed,
}


def _measure(options: argparse.Namespace, cluster: Cluster, tree: Tree, way: str) -> dict[str, Any]:
    """Open an engine, sweep once, then have images marked."""
    images = [image.name for image in tree.of("referenced")[:100]]
    images += [image.name for image in tree.of("tracked")[:100]]
    make = _WAYS[way]
    extra = [] if make is None else ["--fleet", _FLEET, "--endpoints", *cluster.endpoints]
    with Subject(tree.folder, backend=options.backend, options=extra) as subject:
        subject.do("sweep")
        if make is None:
            return subject.do("marks", seconds=options.seconds, images=images)
        subject.do("join")
        with make(cluster):
            return subject.do("marks", seconds=options.seconds, images=images)


def _run(options: argparse.Namespace, folder: Path, cluster: Cluster) -> bool:
    found_fleet(cluster, _FLEET)
    tree = generate_tree(folder / "uses", Shape(images=options.images), datetime.now(UTC))
    taken: dict[str, list[dict[str, Any]]] = {way: [] for way in _WAYS}
    for number in range(options.rounds):
        # Each way is first, second and so on in turn.
        ways = [*_WAYS][number % len(_WAYS) :] + [*_WAYS][: number % len(_WAYS)]
        for way in ways:
            taken[way].append(_measure(options, cluster, tree, way))
    print(f"{'':12} {'calls':>7} {'median':>9} {'p99':>9} {'longest':>9} {'p99 / no fleet':>15}")
    is_good = True
    for way, rounds in taken.items():
        ratio = statistics.median(
            each["p99_seconds"] / alone["p99_seconds"]
            for each, alone in zip(rounds, taken["no fleet"], strict=True)
        )
        is_good &= ratio <= _GOAL
        figures = [
            statistics.median(each[name] for each in rounds) * 1000
            for name in ("median_seconds", "p99_seconds", "max_seconds")
        ]
        calls = sum(each["count"] for each in rounds)
        print(
            f"{way:12} {calls:7} " + " ".join(f"{figure:6.2f} ms" for figure in figures) + f" {ratio:15.2f}"
        )
    return is_good


def main() -> int:
    """Measure as the command line says; 1: a way takes more than 20 % longer than no fleet does."""
    parser = argparse.ArgumentParser(description="Time uses on a host of a fleet.")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    options = parser.parse_args()
    if missing_etcd():
        raise SystemExit(missing_etcd())
    print(", ".join(f"{name} {value}" for name, value in describe_machine().items()))
    parent, _ = choose_folder(options.images, "legacy")
    with temporary_folder(parent) as folder, start_etcd(3) as cluster:
        return 0 if _run(options, folder, cluster) else 1


if __name__ == "__main__":
    sys.exit(main())
