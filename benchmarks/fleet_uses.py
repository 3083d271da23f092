"""How long `mark_used` takes on a host of a fleet, with etcd up, standing still and dead, beside a host of none.

`python benchmarks/fleet_uses.py [--images 2000] [--seconds 12] [--rounds 4] [--backend trio]` starts three members of
etcd itself. In each round the same images are marked used, one after another, in each of the four ways, in turn; what is
judged is the p99 of all calls of a way by that of all calls without a fleet. With `--sweeps` sweeps run back to back
meanwhile; then less is comparable, as sweeps that wait for etcd take nothing from the calls.
"""

import argparse
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


def _measure(options: argparse.Namespace, cluster: Cluster, tree: Tree, way: str) -> list[float]:
    """Open an engine, sweep once, then have images marked; returns the seconds of each call."""
    images = [image.name for image in tree.of("referenced")[:100]]
    images += [image.name for image in tree.of("tracked")[:100]]
    make = _WAYS[way]
    extra = [] if make is None else ["--fleet", _FLEET, "--endpoints", *cluster.endpoints]
    with Subject(tree.folder, backend=options.backend, options=extra) as subject:
        subject.do("sweep")
        if make is not None:
            subject.do("join")
        with nullcontext() if make is None else make(cluster):
            taken = subject.do("marks", seconds=options.seconds, images=images, sweeps=options.sweeps)
    return list(taken["values"])


def _run(options: argparse.Namespace, folder: Path, cluster: Cluster) -> bool:
    found_fleet(cluster, _FLEET)
    tree = generate_tree(folder / "uses", Shape(images=options.images), datetime.now(UTC))
    taken: dict[str, list[float]] = {way: [] for way in _WAYS}
    for number in range(options.rounds):
        # Each way is first, second and so on in turn.
        ways = [*_WAYS][number % len(_WAYS) :] + [*_WAYS][: number % len(_WAYS)]
        for way in ways:
            taken[way] += _measure(options, cluster, tree, way)
    alone = _at(taken["no fleet"], 0.99)
    print(f"{'':12} {'calls':>7} {'median':>10} {'p99':>10} {'longest':>10} {'p99 / no fleet':>15}")
    for way, values in taken.items():
        figures = " ".join(f"{_at(values, share) * 1000:7.2f} ms" for share in (0.5, 0.99, 1))
        print(f"{way:12} {len(values):7} {figures} {_at(values, 0.99) / alone:15.2f}")
    return all(_at(values, 0.99) <= _GOAL * alone for values in taken.values())


def _at(values: list[float], share: float) -> float:
    """Return the value below which a share of all lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> int:
    """Measure as the command line says; 1: a way takes more than 20 % longer than no fleet does."""
    parser = argparse.ArgumentParser(description="Time uses on a host of a fleet.")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sweeps", action="store_true", help="sweep back to back meanwhile")
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
