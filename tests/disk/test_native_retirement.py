"""A folder that goes in one call: the native core does what the single calls do in the same order, whatever is wrong."""

import errno
import json
import os
import random
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from disk.test_native_core import ONE_BY_ONE, SingleCalls
from hmret.disk.filesystem import NATIVE, POSIX, Filesystem, Step
from support import in_one_call
from support.children import run_program
from support.going_folder import WRONG, GoingFolder, names_in, random_wrongs

pytestmark = pytest.mark.skipif(not NATIVE, reason="the native core is not built, or switched off")


ROOT = Path(__file__).parents[2]


class _Twin(SingleCalls):
    hold_folders = in_one_call.hold_folders
    retire_folder = in_one_call.retire_folder  # type: ignore[assignment]  # that takes whatever it is given


TWIN: Filesystem = _Twin()  # type: ignore[assignment]  # it has what `POSIX` has
FAR: dict[str, tuple[Step, int, int]] = {
    "nothing": (Step.DONE, 0, 2),
    "its disk is open": (Step.NOT_BEGUN, errno.EAGAIN, 0),
    "its metadata is written over": (Step.NOT_BEGUN, errno.ESTALE, 0),
    "a file comes into it": (Step.RENAMED, errno.ESTALE, 0),
    "another folder is in its place": (Step.NOT_BEGUN, errno.ESTALE, 0),
    "it has gone": (Step.NOT_BEGUN, errno.ENOENT, 0),
    "its name in the trash is taken by a folder with a file": (Step.LEASED, errno.ENOTEMPTY, 0),
    "its name in the trash is taken by a file": (Step.LEASED, errno.ENOTDIR, 0),
    "an owner has a folder of its own": (Step.CLOSED, errno.EEXIST, 0),
    "a file is where an owner's folder would be": (Step.DONE, 0, 2),
    "the way to an owner's folder goes in a circle": (Step.CLOSED, errno.ELOOP, 0),
    "a link that leads nowhere is in an owner's place": (Step.CLOSED, errno.EEXIST, 0),
    "the first tag leads elsewhere": (Step.LOOKED, errno.ENOENT, 0),
    "the last tag leads to the same": (Step.LOOKED, errno.ENOENT, 0),
    "the last tag is a file": (Step.LOOKED, errno.ENOENT, 0),
    "the last tag has gone": (Step.LOOKED, errno.ENOENT, 0),
    "a tag's name in the trash is taken by a folder": (Step.LOOKED, errno.EISDIR, 0),
    "the first timer is another": (Step.LOOKED, errno.ESTALE, 2),
    "the last timer is written over": (Step.LOOKED, errno.ESTALE, 2),
    "the last timer has gone": (Step.LOOKED, errno.ENOENT, 2),
    "the last timer is a folder": (Step.LOOKED, errno.ESTALE, 2),
}


@pytest.mark.parametrize("calls", [POSIX, TWIN], ids=["native", "single calls"])
@pytest.mark.parametrize("wrong", WRONG)
def test_it_stops_at_the_first_thing_that_is_not_as_expected(
    tmp_path: Path, calls: Filesystem, wrong: str
) -> None:
    going = GoingFolder(tmp_path, wrong=WRONG[wrong])
    going.make()
    answer, are_open = going.ask(calls)
    assert answer == FAR[wrong]
    assert are_open == [answer[0] < Step.CLOSED] * 3


@pytest.mark.parametrize("calls", [POSIX, TWIN], ids=["native", "single calls"])
@pytest.mark.parametrize(
    "recorded", ["../../content/" + "b" * 64, "../../content", "../../content/" + "a" * 65]
)
def test_a_tag_of_the_recorded_inode_that_leads_elsewhere_stays_aside(
    tmp_path: Path, calls: Filesystem, recorded: str
) -> None:
    going = GoingFolder(tmp_path, recorded=recorded)
    going.make()
    assert going.ask(calls)[0] == (Step.LOOKED, errno.ESTALE, 0)
    assert sorted(path.name for path in (tmp_path / "trash").iterdir()) == [
        "gone.0",
        "gone.tag0",
        "gone.tag1",
    ]


@pytest.mark.parametrize("seed", range(100))
def test_both_come_as_far_and_leave_the_same(tmp_path: Path, seed: int) -> None:
    found: list[object] = []
    for calls in (POSIX, TWIN):
        rng = random.Random(seed)
        top = tmp_path / str(len(found))
        going = GoingFolder(
            top,
            syncs=rng.random() < 0.7,
            leases=rng.random() < 0.7,
            tags=rng.choice(((), ("latest",), ("latest", "3.20"), ("3.20", "latest", "x\udcff"))),
            timers=rng.choice((("one",), ("one", "two"))),
            wrong=random_wrongs(rng),
        )
        going.make()
        found.append((going.ask(calls), names_in(top)))
    assert found[0] == found[1]


def test_a_descriptor_that_is_none_changes_nothing(tmp_path: Path) -> None:
    for calls in (POSIX, TWIN):
        told = calls.retire_folder(
            (-1, -1, -1, 9998, 9999),
            ("a", "b"),
            (1, 1, 1, False, False),
            [],
            [],
            ([], [], [], [], []),
            ([], [], []),
        )
        assert told == (Step.NOT_BEGUN, errno.EBADF, 0)
    assert ONE_BY_ONE.retire_folder() == (Step.NOT_BEGUN, 0, 0)  # type: ignore[call-arg]  # nothing is looked at


@pytest.mark.parametrize(
    "changed",
    [
        {0: (1, 2, 3)},
        {1: ("a\0b", "c")},
        {3: (1,)},
        {4: ["a", 1]},
        {5: ([], ["a"], [1], ["b"], ["c"])},
        {5: ([1], ["a"], [], ["b"], ["c"])},
        {5: ([1], ["a"], [1], [], ["c"])},
        {5: ([1], ["a"], [1], ["b"], [])},
        {6: ([1], [], [])},
        {6: ([1], ["a"], [1] * 5)},
        {6: ([1], ["a"], ["1"] * 6)},
    ],
)
def test_what_does_not_belong_together_is_refused(changed: dict[int, object]) -> None:
    asked: list[object] = [
        (-1, -1, -1, -1, -1),
        ("a", "b"),
        (1, 1, 1, False, False),
        [],
        [],
        ([], [], [], [], []),
        ([], [], []),
    ]
    for place, value in changed.items():
        asked[place] = value
    with pytest.raises((TypeError, ValueError, OverflowError)):
        POSIX.retire_folder(*asked)  # type: ignore[arg-type]  # that is the point


def test_folders_are_held_each_in_its_own_or_told_why_not(tmp_path: Path) -> None:
    for name in ("a/x", "b/y"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(b"")
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in ("a", "b")]
    before = set(Path("/proc/self/fd").iterdir())
    for calls in (POSIX, TWIN):
        one, gone, other = calls.hold_folders([fds[0], fds[0], fds[1]], ["x", "y", "y"], "file", 10)
        assert gone == errno.ENOENT
        for held, path in ((one, "a/x"), (other, "b/y")):
            assert not isinstance(held, int)
            assert (held[1], [file[0] for file in held[3]]) == ((tmp_path / path).stat().st_ino, ["file"])
            assert held[3][0][9] == (tmp_path / path / "file").stat().st_ctime_ns
            calls.close_all([held[0], held[3][0][1]])
    for parents, names, most in (([1], [], 1), ([], ["a"], 1), ([1], ["a"], -1)):
        with pytest.raises((TypeError, ValueError)):
            POSIX.hold_folders(parents, names, "file", most)
    assert set(Path("/proc/self/fd").iterdir()) == before
    POSIX.close_all(fds)


DYING = """
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static int dying(int failed)
{
    static int calls;
    if (failed == 0 && ++calls == atoi(getenv("DIE_AT")))
        _exit(9);
    return failed;
}
static int dying_rename(int from, const char *name, int to, const char *other)
{
    int failed = renameat(from, name, to, other);
    char path[512];
    snprintf(path, sizeof path, "%s/rootfs.ext4", other);
    if (failed == 0 && getenv("OPENS"))
        openat(to, path, O_RDONLY | O_NONBLOCK); /* would have to wait, and is told to the holder of the lease */
    if (failed == 0 && getenv("COMES") && strstr(other, ".tag"))
        mkdir(getenv("COMES"), 0700); /* as a pull does while the tags are set aside */
    return dying(failed);
}
static int dying_unlink(int folder, const char *name, int flags) { return dying(unlinkat(folder, name, flags)); }
static int dying_fsync(int fd) { return dying(fsync(fd)); }
#define renameat dying_rename
#define unlinkat dying_unlink
#define fsync dying_fsync
"""
"""Ends the process right after one of the core's calls that change anything, or opens the disk when it has been renamed, or
makes an owner's folder while tags are set aside."""

LIVES = """
import importlib.util, json, os, sys
from pathlib import Path
from disk.test_native_core import SingleCalls
from support.going_folder import NAME, GoingFolder, names_in
spec = importlib.util.spec_from_file_location("_native", sys.argv[1])
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
calls = type("Core", (SingleCalls,), {name: staticmethod(getattr(core, name)) for name in ("hold_folders", "retire_folder")})()
left, ended = [], 9
while ended:
    top = Path(sys.argv[2], str(len(left)))
    GoingFolder(top).make()
    if not (pid := os.fork()):
        os.environ["DIE_AT"] = str(len(left) + 1)
        GoingFolder(top).ask(calls)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left.append(names_in(top))
os.environ |= {"DIE_AT": "0", "OPENS": "1"}
top = Path(sys.argv[2], "opened")
GoingFolder(top).make()
told = [left, *GoingFolder(top).ask(calls)]
del os.environ["OPENS"]
top = Path(sys.argv[2], "come")
GoingFolder(top).make()
os.environ["COMES"] = str(top / "own" / NAME)
print(json.dumps([*told, GoingFolder(top).ask(calls)[0]]))
"""


class _End(BaseException):
    pass


class _Dying(_Twin):
    """Ends right after one of its calls that change anything."""

    def __init__(self, at: int) -> None:
        self._left = at

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            raise _End

    def rename(self, *what: Any, **where: Any) -> None:
        POSIX.rename(*what, **where)
        self._count()

    def unlink(self, *what: Any, **where: Any) -> None:
        POSIX.unlink(*what, **where)
        self._count()

    def fsync(self, fd: int) -> None:
        POSIX.fsync(fd)
        self._count()


def test_killed_after_any_of_its_calls_it_leaves_what_the_single_calls_leave(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("no compiler")
    (tmp_path / "dying.h").write_text(DYING)
    built = tmp_path / "_native.abi3.so"
    source = ROOT / "src/hmret/disk/_native.c"
    flags = ["-O0", "-w", "-fPIC", "-shared", "-D_GNU_SOURCE", "-include", str(tmp_path / "dying.h")]
    include = f"-I{sysconfig.get_path('include')}"
    run_program([compiler, *flags, include, str(source), "-o", str(built)], check=True)
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "src")])
    program = [sys.executable, "-c", LIVES, str(built), str(tmp_path / "core")]
    told = run_program(program, check=True, env=os.environ | {"PYTHONPATH": path})
    left: list[dict[str, str]] = []
    ended = False
    while not ended:
        going = GoingFolder(tmp_path / "twin" / str(len(left)))
        going.make()
        try:
            going.ask(_Dying(len(left) + 1))  # type: ignore[arg-type]  # it has what `POSIX` has
        except _End:
            pass
        else:
            ended = True
        left.append(names_in(going.top))
    core_left, when_opened, are_open, when_come = json.loads(told.stdout)
    assert core_left == left
    # The rename, two folders synced, two tags set aside and removed, two timers: after each, and without an end.
    assert len(left) == 10
    assert (when_opened, are_open) == ([Step.RENAMED, errno.EBUSY, 0], [True, True, True])
    assert when_come == [Step.LOOKED, errno.EEXIST, 0]
