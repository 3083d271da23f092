"""Checks: what one is, how they are carried out two at a time, and how what came of them is told."""

# ruff: noqa: T201 - a program prints

import os
import re
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import attrs

__all__ = ["Check", "Outcome", "Skipped", "carry_out", "chosen", "summary_of"]


_LONGEST_SECONDS = 600 + int(float(os.environ.get("SOAK", "60")))
"""What one check may take before it counts as hanging."""


class Skipped(Exception):  # noqa: N818 - nothing is wrong
    """The kernel or a tool lacks what a check needs; says what."""


@attrs.frozen
class Check:
    """One promise, in one setting."""

    part: str
    sentence: str
    act: Callable[[Path], str]
    """Checks it in an empty folder; returns the figures that are worth telling. Raises `Skipped`, or whatever fails."""


@attrs.frozen
class Outcome:
    """What came of one check."""

    check: Check
    verdict: Literal["ok", "skipped", "FAILED"]
    note: str
    seconds: float

    def __str__(self) -> str:
        note = f": {self.note}" if self.note else ""
        return f"{self.verdict:7} {self.seconds:6.1f} s  {self.check.part}: {self.check.sentence}{note}"


_checks: list[Check] = []
"""For the processes of a pool, which are forks of this one: what a check does cannot be sent to them."""


def carry_out(checks: Sequence[Check], work: Path, *, jobs: int) -> list[Outcome]:
    """Carry out checks, each in a folder of its own, and print what came of each as it ends."""
    outcomes = []
    _checks[:] = checks
    # A check that dies of a signal ends the pool, so what had not begun then is told as failed.
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        futures = {
            pool.submit(_carry_out, number, work / f"check-{number}"): check
            for number, check in enumerate(checks)
        }
        for future in as_completed(futures):
            outcome = _outcome(future, futures[future])
            print(outcome, flush=True)
            outcomes.append(outcome)
    return outcomes


def _outcome(future: "Future[tuple[str, str, float]]", check: Check) -> Outcome:
    try:
        verdict, note, seconds = future.result()
    except Exception as error:  # noqa: BLE001 - the process is gone
        return Outcome(check, "FAILED", repr(error), 0.0)
    return Outcome(check, verdict, note, seconds)  # type: ignore[arg-type] # what is pickled has plain types


def _carry_out(number: int, folder: Path) -> tuple[str, str, float]:
    check = _checks[number]
    begin = time.monotonic()
    folder.mkdir()
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_LONGEST_SECONDS)
    try:
        verdict, note = "ok", check.act(folder)
    except Skipped as skipped:
        verdict, note = "skipped", str(skipped)
    except Exception:  # noqa: BLE001 - told; the other checks go on
        verdict, note = "FAILED", traceback.format_exc()
    finally:
        signal.alarm(0)
    seconds = time.monotonic() - begin
    shutil.rmtree(folder, ignore_errors=True)
    return verdict, note, seconds


def _give_up(_number: int, _frame: object) -> None:
    raise TimeoutError(f"it hangs for {_LONGEST_SECONDS} s")


def summary_of(outcomes: Iterable[Outcome]) -> str:
    """Sum up what came of checks."""
    counted = Counter(outcome.verdict for outcome in outcomes)
    return f"{counted['ok']} held, {counted['skipped']} skipped, {counted['FAILED']} failed"


def chosen(checks: Iterable[Check], parts: Sequence[str], words: Sequence[str]) -> list[Check]:
    """Choose checks by their part and by words of their sentences; none given: all."""
    return [
        check
        for check in checks
        if (not parts or check.part in parts)
        and (not words or any(re.search(word, check.sentence) for word in words))
    ]
