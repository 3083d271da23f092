"""The benchmarks: `python benchmarks/run.py --images 20000`; with `--full` the whole table.

Every figure is measured beside a C program that does the same to the same files, in turn, several times; what is
judged is the ratio of the medians. docs/BENCHMARKS.md says what each row means.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

# A program has its own folder on the path, not the one that it lies in.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import CORES, Core, Floor, Row, choose_folder, describe_machine, temporary_folder
from benchmarks.report import show, show_side_by_side
from benchmarks.rows import (
    Bench,
    measure_cold,
    measure_contestants,
    measure_crowd,
    measure_deletion,
    measure_growth,
    measure_holdup,
    measure_marks,
    measure_one_change,
    measure_start,
    measure_sweeps,
)
from benchmarks.trees import LAYOUTS, Layout

_MEMORY_GOALS_MIB = {100_000: 130.0, 1_000_000: 700.0}

Part = Callable[[Bench, argparse.Namespace], list[Row]]


def _sweeps(bench: Bench, _options: argparse.Namespace) -> list[Row]:
    return measure_sweeps(bench)


def _one_change(bench: Bench, _options: argparse.Namespace) -> list[Row]:
    return measure_one_change(replace(bench, runs=min(bench.runs, 3)))


def _marks(bench: Bench, _options: argparse.Namespace) -> list[Row]:
    return measure_marks(replace(bench, runs=min(bench.runs, 3)))


def _holdup(bench: Bench, _options: argparse.Namespace) -> list[Row]:
    return measure_holdup(replace(bench, runs=min(bench.runs, 3)))


def _deletion(bench: Bench, options: argparse.Namespace) -> list[Row]:
    # How long a sweep takes decides how far ahead the images are made to fall due.
    [first, *_] = measure_sweeps(replace(bench, runs=1))
    return measure_deletion(
        replace(bench, runs=min(bench.runs, 5 if options.full else 2)), statistics.median(first.ours)
    )


def _crowd(bench: Bench, options: argparse.Namespace) -> list[Row]:
    return measure_crowd(replace(bench, runs=min(bench.runs, 5 if options.full else 2)))


def _growth(bench: Bench, options: argparse.Namespace) -> list[Row]:
    """Growth and memory: at the size itself, and with `--full` at the largest."""
    bench = replace(bench, runs=min(bench.runs, 3))
    rows = measure_growth(bench, bench.images // 10, bench.images, _MEMORY_GOALS_MIB.get(bench.images))
    if options.full:
        parent, place = choose_folder(options.large, bench.layout, blocks=False)
        print(f"{options.large} images: {place}", file=sys.stderr)
        with temporary_folder(parent) as folder:
            goal = _MEMORY_GOALS_MIB.get(options.large)
            rows += measure_growth(replace(bench, folder=folder), 10_000, options.large, goal)
    return rows


def _contest(bench: Bench, _options: argparse.Namespace) -> list[Row]:
    return measure_contestants(bench)


def _start(bench: Bench, _options: argparse.Namespace) -> list[Row]:
    return measure_start(bench)


def _cold(bench: Bench, options: argparse.Namespace) -> list[Row]:
    if not options.full or os.geteuid():
        return []
    with temporary_folder(Path(tempfile.gettempdir())) as disk:
        return measure_cold(bench, disk)


PARTS: dict[str, Part] = {
    "sweeps": _sweeps,
    "one": _one_change,
    "marks": _marks,
    "holdup": _holdup,
    "deletion": _deletion,
    "crowd": _crowd,
    "growth": _growth,
    "contest": _contest,
    "start": _start,
    "cold": _cold,
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure hmret beside C on the same files.")
    parser.add_argument("--images", type=int, default=20_000, help="size of the trees")
    parser.add_argument("--runs", type=int, default=5, help="how often each figure is measured")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--layout",
        choices=(*LAYOUTS, "both"),
        default="legacy",
        help="how the images lie; both: side by side",
    )
    parser.add_argument(
        "--images-each",
        type=int,
        default=0,
        metavar="N",
        help="images in each repository; 0: 100 in the legacy layout, 20 in content",
    )
    parser.add_argument(
        "--core",
        choices=(*CORES, "both"),
        default="native",
        help="with the native core, or without; both: in one table",
    )
    parser.add_argument(
        "--full", action="store_true", help="also the largest tree and, as root, a cold cache"
    )
    parser.add_argument("--large", type=int, default=1_000_000, help="size of the largest tree of --full")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts only")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything, every run of it, as JSON"
    )
    return parser.parse_args()


def main() -> None:
    """Measure what the command line asks for."""
    options = _parse()
    begin = time.perf_counter()
    machine = describe_machine()
    layouts: Sequence[Layout] = LAYOUTS if options.layout == "both" else (options.layout,)
    cores: Sequence[Core] = CORES if options.core == "both" else (options.core,)
    parent, place = choose_folder(options.images * 2, layouts[-1])
    rows: list[Row] = []
    with temporary_folder(parent) as folder:
        bench = Bench(
            folder, Floor(folder), options.images, options.runs, options.seed, images_each=options.images_each
        )
        for name in options.only or PARTS:
            for layout, core in product(layouts, cores):
                part_begin = time.perf_counter()
                measured = PARTS[name](replace(bench, layout=layout, core=core), options)
                rows += [replace(row, layout=layout, core=core) for row in measured]
                print(f"{name}, {layout}, {core}: {time.perf_counter() - part_begin:.0f} s", file=sys.stderr)
    (show if len(layouts) == len(cores) == 1 else show_side_by_side)(rows)
    print()
    for key, value in machine.items():
        print(f"{key}: {value}")
    print(
        f"{options.images} images, {options.layout}, {options.core} core, {options.runs} runs, seed {options.seed}; {place}"
    )
    if options.json is not None:
        document: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": time.perf_counter() - begin,
            "images": options.images,
            "layout": options.layout,
            "images_each": options.images_each,
            "core": options.core,
            "runs": options.runs,
            "seed": options.seed,
            "place": place,
            "machine": machine,
            "rows": [row.document() for row in rows],
        }
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
