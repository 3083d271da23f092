"""The processes that tests start end with them, and a helper that hangs does not fail those that come after."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hmret.settings.load import load_settings
from proofs.mortal import Life, Mortals
from support.builders import make_image
from support.children import Child, child, children_here, hear_interrupts, run_program
from support.patience import wait_until
from support.pipes import wait_for_end, writing

SLEEPER = "import subprocess, sys; subprocess.Popen(['sleep', '1000']); print('begun', flush=True); sys.stdin.read()"
"""A program that has started another one, and ends only with its input."""

RUNNER = f"""
import os, sys
from support.children import KEEPER, child
KEEPER.start()
with child([sys.executable, "-c", {SLEEPER!r}], stdin=-1, stdout=-1) as process:
    print(process.stdout.readline().strip(), process.pid, flush=True)
    os.kill(os.getpid(), 9)
"""
"""A program that runs tests, and is killed in the midst of one."""


def is_over(group: int) -> bool:
    """Tell whether nothing of a group runs; what has ended and nobody has waited for is over."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(number) == group and state not in "ZX":
            return False
    return True


def fail_beside(begun: list[Child]) -> None:
    """Fail as a test does, beside a process that has begun."""
    with child([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        begun.append(process)
        raise AssertionError("the test fails")


def test_a_pipe_that_nobody_opens_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.patience.PATIENCE", 0)
    monkeypatch.setattr("support.pipes.PATIENCE", 0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(AssertionError, match="somebody reads"), writing(pipe):
        pass
    with pytest.raises(AssertionError, match="nobody has written"):
        wait_for_end(pipe)


def test_the_settings_of_the_host_that_tests_run_on_are_none_of_theirs() -> None:
    settings = load_settings(config_file=None, environment=os.environ, flags={})
    assert settings.config_files == {os.devnull: False}
    assert {setting.source for setting in settings.values.values()} == {"default"}


def test_programs_of_tests_hear_an_interrupt_also_where_the_tests_run_in_the_background() -> None:
    program = [
        sys.executable,
        "-c",
        "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)",
    ]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_program(program).stdout == "True\n"
        hear_interrupts()
        assert run_program(program).stdout == "False\n"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_and_what_it_has_started_end_with_the_block_that_fails() -> None:
    begun: list[Child] = []
    with pytest.raises(AssertionError, match="the test fails"):
        fail_beside(begun)
    (process,) = begun
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: is_over(process.pid), "the end of what it has started")
    assert process.pid not in children_here()


def test_a_process_that_does_not_come_to_its_end_is_killed_with_what_it_has_started() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_program(["sleep", "1000"], patience=0)


def test_where_what_runs_the_tests_is_killed_what_it_has_started_ends_too() -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = run_program([sys.executable, "-c", RUNNER], env=os.environ | {"PYTHONPATH": path})
    begun, group = ended.stdout.split()
    assert (begun, ended.returncode) == ("begun", -signal.SIGKILL)
    wait_until(lambda: is_over(int(group)), "the end of what a killed process has started")


def test_a_helper_that_hangs_fails_one_question_and_is_replaced_for_the_next(tmp_path: Path) -> None:
    make_image(tmp_path, "ghcr.io/kernel/one", "a")
    with Mortals() as mortals:
        with pytest.raises(TimeoutError, match="a process hangs"):
            mortals.live(Life(data_dir=str(tmp_path)), patience=0)
        assert mortals.live(Life(data_dir=str(tmp_path))).status == "success"
