"""A real process that reads for another one."""

import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import digest, make_guest, make_image
from disk.hosts import Host
from hmret.disk.reader_process import ReaderProcess
from hmret.disk.reading import Kind, answer, ask, understand_images

ALPINE = "docker.io/library/alpine"


@pytest.fixture
def process(real: Host) -> Iterator[ReaderProcess]:
    process = ReaderProcess(real.data_fd)
    yield process
    process.close()


def pid_of(process: ReaderProcess) -> int:
    return process._process.pid


def test_it_answers_what_is_read_at_first_hand(process: ReaderProcess, real: Host) -> None:
    make_image(real.place, ALPINE, "a")
    make_guest(real.place, "vm", "alpine")
    for kind, names in ((Kind.IMAGES, ["", ALPINE]), (Kind.STATES, [""]), (Kind.REFERENCES, ["instance/vm"])):
        question = ask(kind, names)
        assert process.ask(question) == answer(real.filesystem, real.data_fd, question)


def test_it_sees_what_has_come_since_it_was_started(process: ReaderProcess, real: Host) -> None:
    question = ask(Kind.IMAGES, [ALPINE])
    assert understand_images(process.ask(question))[0][0].repository is None
    make_image(real.place, ALPINE, "a")
    repository = understand_images(process.ask(question))[0][0].repository
    assert repository is not None
    assert repository.images.keys() == {digest("a")}


@pytest.mark.parametrize("question", [b"\xc1", b"nonsense", ask(Kind.REFERENCES, ["instance/vm"])])
def test_what_it_cannot_answer_is_an_error_and_it_goes_on(
    process: ReaderProcess, real: Host, question: bytes
) -> None:
    with pytest.raises(OSError, match="no answer"):
        process.ask(question)
    assert process.ask(ask(Kind.IMAGES, [""]))


def test_one_that_was_killed_gives_no_answer(process: ReaderProcess) -> None:
    process.ask(ask(Kind.IMAGES, [""]))
    os.kill(pid_of(process), signal.SIGKILL)
    os.waitid(os.P_PID, pid_of(process), os.WEXITED | os.WNOWAIT)
    with pytest.raises(BrokenPipeError):
        process.ask(ask(Kind.IMAGES, [""]))


def test_one_that_is_killed_while_it_is_asked_gives_no_answer(process: ReaderProcess, real: Host) -> None:
    process.ask(ask(Kind.IMAGES, [""]))
    os.kill(pid_of(process), signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (pid_of(process), signal.SIGKILL))
    killer.start()
    with pytest.raises(OSError, match="no answer"):
        process.ask(ask(Kind.IMAGES, [""]))
    killer.join()


def test_closed_it_has_ended(real: Host) -> None:
    process = ReaderProcess(real.data_fd)
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid_of(process), 0)


def test_closed_while_it_stands_still_it_has_ended(real: Host) -> None:
    process = ReaderProcess(real.data_fd)
    os.kill(pid_of(process), signal.SIGSTOP)
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid_of(process), 0)


def test_an_interrupt_from_the_keyboard_does_not_end_it(process: ReaderProcess) -> None:
    process.ask(ask(Kind.IMAGES, [""]))
    os.kill(pid_of(process), signal.SIGINT)
    assert process.ask(ask(Kind.IMAGES, [""]))


def program(data_fd: int) -> list[str]:
    start = (
        f"import sys; sys.path[:] = {sys.path!r}; from hmret.disk.reader_process import main; main({data_fd})"
    )
    return [sys.executable, "-I", "-S", "-c", start]


@pytest.mark.parametrize("sent", [b"", b"\0\0", struct.pack("!I", 100) + b"cut"])
def test_it_ends_when_whoever_asks_has_ended(real: Host, sent: bytes) -> None:
    done = subprocess.run(
        program(real.data_fd),
        input=sent,
        pass_fds=(real.data_fd,),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_one_that_cannot_be_started_is_an_error(
    real: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        ReaderProcess(real.data_fd)
