"""Run seeds: `python -m simulation --seeds 0:5000`, or one of them again: `--seeds 4711`."""

import argparse
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from simulation.chronicle import Breach
from simulation.run import Outcome, run_seed

__all__ = ["main"]


def main() -> int:
    """Run the seeds that are asked for; returns 1 if one of them broke a promise."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:300", help="FIRST:END, or one seed (default: 0:300)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--keep-going", action="store_true", help="go on after a seed that failed")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    seeds = range(int(first), int(end) if end else int(first) + 1)
    begin = time.monotonic()
    outcomes: list[Outcome] = []
    failed: list[int] = []
    with ProcessPoolExecutor(min(arguments.jobs, len(seeds)), get_context("fork")) as pool:
        for seed, result in zip(seeds, pool.map(_run, seeds, chunksize=4), strict=True):
            if isinstance(result, Outcome):
                outcomes.append(result)
                continue
            failed.append(seed)
            print(result if not arguments.keep_going else result.rpartition("\n")[2], flush=True)  # noqa: T201
            if not arguments.keep_going:
                pool.shutdown(cancel_futures=True)
                break
    print(  # noqa: T201
        f"{len(outcomes)} seeds held, {len(failed)} failed {failed or ''}: "
        f"{sum(outcome.sweeps for outcome in outcomes)} sweeps, "
        f"{sum(outcome.retired for outcome in outcomes)} images retired, "
        f"{sum(outcome.returned for outcome in outcomes)} put back, "
        f"{sum(outcome.crashes for outcome in outcomes)} crashes, "
        f"{time.monotonic() - begin:.1f} s, checksum {sum(outcome.checksum for outcome in outcomes):x}"
    )
    return 1 if failed else 0


def _run(seed: int) -> Outcome | str:
    try:
        return run_seed(seed)
    except Breach as breach:
        return str(breach)
    except Exception as error:  # noqa: BLE001 - the simulation itself is wrong: the other seeds still run
        return f"{traceback.format_exc()}\nseed {seed}: {error!r}"


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of texts is drawn anew in each process; with it fixed, a seed is the same everywhere.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
