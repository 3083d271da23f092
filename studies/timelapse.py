"""A time-lapse of a host under one policy after the other: `python studies/timelapse.py --days 90 --seed 1`.

Every policy meets the same stream of VM creations; what goes is decided by the engine's own `plan`. The host is a model,
as docs/POLICY.md tells. The same arguments give the same numbers, to the last byte.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

# A program has its own folder on the path, not the one that it lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from studies.candidates import CANDIDATES, Candidate
from studies.model_host import Host, Ledger
from studies.timelapse_plot import draw
from studies.timelapse_table import put_into_page, show
from studies.vm_stream import GIB, HOUR, Creation, Shape, creations

__all__ = ["Hardware", "compare", "main", "run"]

MARK = 0.85
"""The share of the disk above which time is counted, whatever the policy."""


@attrs.frozen(kw_only=True)
class Hardware:
    """What the host has, and how often it sweeps."""

    disk_gib: int = 3072
    base_gib: int = 100
    """Of something else on that disk, which stays."""
    sweep_minutes: int = 30
    """Windows are days long: more frequent sweeps tell much the same, and take longer here."""


@attrs.frozen
class _Run:
    """One policy on one stream."""

    name: str
    seed: int
    shape: Shape
    hardware: Hardware


def run(candidate: Candidate, stream: Iterable[Creation], shape: Shape, hardware: Hardware) -> Host:
    """Take a host with a policy through a stream."""
    host = Host(
        config=candidate.config,
        capacity=0 if candidate.is_boundless else hardware.disk_gib * GIB,
        base_bytes=hardware.base_gib * GIB,
        sweep_every=hardware.sweep_minutes * HOUR // 60,
        mark=MARK,
    )
    host.live(stream, shape.warm_up, shape.end)
    return host


def compare(
    names: Sequence[str], seeds: Sequence[int], shape: Shape, hardware: Hardware, jobs: int = 1
) -> Mapping[str, Any]:
    """Take every policy through the stream of every seed; returns the document that `--json` writes."""
    runs = [_Run(name, seed, shape, hardware) for seed in seeds for name in names]
    ledgers = dict(zip(((one.name, one.seed) for one in runs), _carry_out(runs, jobs), strict=True))
    return {
        "seeds": list(seeds),
        "shape": attrs.asdict(shape),
        "host": attrs.asdict(hardware),
        "mark": MARK,
        "policies": [
            {
                "name": name,
                "kind": CANDIDATES[name].kind,
                "runs": [_figures(ledgers[name, seed]) for seed in seeds],
            }
            for name in names
        ],
    }


def _carry_out(runs: Sequence[_Run], jobs: int) -> Iterator[Ledger]:
    if jobs == 1:
        yield from map(_one, runs)
        return
    # No fork: whoever calls this may have threads.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for number, ledger in enumerate(pool.imap(_one, runs), 1):
            print(f"{number} of {len(runs)} runs", end="\r", file=sys.stderr)
            yield ledger


def _one(one: _Run) -> Ledger:
    return run(CANDIDATES[one.name], _stream(one.shape, one.seed), one.shape, one.hardware).ledger


@lru_cache(maxsize=1)
def _stream(shape: Shape, seed: int) -> Sequence[Creation]:
    return list(creations(shape, seed))


def _figures(ledger: Ledger) -> Mapping[str, int]:
    figures: dict[str, int] = attrs.asdict(ledger)
    # A product of bytes and nanoseconds is more than a number of JSON holds for everybody.
    del figures["held_byte_ns"]
    return figures | {"mean_bytes": round(ledger.mean_bytes)}


def _parse() -> argparse.Namespace:
    shape, hardware = Shape(), Hardware()
    parser = argparse.ArgumentParser(description="Compare policies on a model of a host.")
    parser.add_argument("--days", type=int, default=shape.days, help="how long is measured")
    parser.add_argument("--warm-up", type=int, default=shape.warm_up_days, help="days before that")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--runs", type=int, default=5, help="how many seeds, one after the other")
    parser.add_argument(
        "--creations", type=float, default=shape.creations_a_day, help="of VMs, on a mean day"
    )
    parser.add_argument("--repositories", type=int, default=shape.repositories)
    parser.add_argument("--disk-gib", type=int, default=hardware.disk_gib, help="size of the file system")
    parser.add_argument("--sweep-minutes", type=int, default=hardware.sweep_minutes, help="between sweeps")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--only", choices=CANDIDATES, action="append", metavar="POLICY", help="these only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table into this page")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as SVG")
    parser.add_argument("--stored", type=Path, metavar="FILE", help="show what --json wrote; nothing is run")
    return parser.parse_args()


def main() -> None:
    """Compare what the command line asks for, and show it."""
    options = _parse()
    begin = time.perf_counter()
    if options.stored is not None:
        document = json.loads(options.stored.read_text(encoding="utf-8"))
    else:
        document = compare(
            options.only or list(CANDIDATES),
            range(options.seed, options.seed + options.runs),
            Shape(
                days=options.days,
                warm_up_days=options.warm_up,
                repositories=options.repositories,
                creations_a_day=options.creations,
            ),
            Hardware(disk_gib=options.disk_gib, sweep_minutes=options.sweep_minutes),
            options.jobs,
        )
        print(f"{time.perf_counter() - begin:.0f} s           ", file=sys.stderr)
    print(show(document), end="")
    if options.json is not None:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.markdown is not None:
        page = options.markdown.read_text(encoding="utf-8")
        options.markdown.write_text(put_into_page(page, document), encoding="utf-8")
    if options.plot is not None:
        options.plot.write_text(draw(document), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
