"""The native core under AddressSanitizer and UndefinedBehaviorSanitizer, and what it keeps when it is done."""

import os
import resource
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from hmret.disk.filesystem import NATIVE, POSIX
from hmret.disk.folders import CHUNK
from hmret.disk.layout import METADATA, ROOTFS_NAMES
from support.children import run_program

ROOT = Path(__file__).parents[2]
FLAGS = ("-O1", "-g", "-fPIC", "-shared", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def runtime_of(compiler: str) -> str:
    """Find the sanitizer's library, which has to be loaded before the interpreter; empty: there is none."""
    done = run_program([compiler, "-print-file-name=libasan.so"])
    path = Path(done.stdout.strip()).resolve()
    # A linker script of that name says where it is.
    return str(path) if done.returncode == 0 and path.is_absolute() and path.exists() else ""


def test_it_touches_no_memory_that_is_not_its_own(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    runtime = runtime_of(compiler) if compiler else ""
    if not compiler or not runtime:
        pytest.skip("no compiler with an address sanitizer")
    package = tmp_path / "src"
    shutil.copytree(ROOT / "src", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    source = package / "hmret/disk/_native.c"
    include = f"-I{sysconfig.get_path('include')}"
    built = str(source.with_name("_native.abi3.so"))
    run_program([compiler, *FLAGS, include, str(source), "-o", built], check=True)
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        # The interpreter itself leaves memory behind at its end.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(package),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("HMRET_NATIVE", None)
    names = ("test_native_core.py", "test_native_retirement.py")
    tests = [str(Path(__file__).with_name(name)) for name in names]
    # What is compiled there is another core.
    chosen = ["-k", "not killed"]
    done = run_program(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen, *tests],
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "skipped" not in done.stdout


@pytest.mark.skipif(not NATIVE, reason="the native core is not built, or switched off")
def test_it_keeps_no_memory(tmp_path: Path) -> None:
    names = [f"{number:064x}" for number in range(64)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / METADATA).write_bytes(bytes(1000))
        (tmp_path / f"{name}.link").symlink_to("x" * 500)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    def work(times: int) -> int:
        for _ in range(times):
            POSIX.look_at_images(fd, names, METADATA, list(ROOTFS_NAMES), CHUNK)
            POSIX.read_files(fd, [f"{name}/{METADATA}" for name in names], CHUNK)
            POSIX.stat_files(fd, [*names, "gone"])
            POSIX.read_links(fd, [*(f"{name}.link" for name in names), "gone"])
            POSIX.list_folder(fd)
            POSIX.read_folders(fd, [".", names[0], "gone"], ".link", CHUNK, 100)
            POSIX.read_folders(fd, names, METADATA, CHUNK, 1)
            for name in names:
                folder_fd, _, _, files, _, _ = POSIX.hold_folder(fd, name, METADATA, CHUNK)
                fds = [folder_fd, *(file[1] for file in files)]
                [held] = POSIX.hold_folders([fd], [name], METADATA, CHUNK)
                assert not isinstance(held, int)
                POSIX.retire_folder(
                    (fd, -1, fd, held[0], held[3][0][1]),
                    (name, "x"),
                    (1, 1, 1, True, False),
                    [held[3][0][1]],
                    names,
                    ([fd], [name], [1], [name], [name]),
                    ([fd], [name], [1, 2, 3, 4, 5, 6]),
                )
                POSIX.close_all([held[0], held[3][0][1]])
                POSIX.take_leases(fds[1:])
                POSIX.are_leased(fds[1:])
                POSIX.close_all(fds)
                POSIX.set_aside(fd, [f"{name}.link"], [0], fd, ["x"])
                POSIX.erase_folder(fd, "gone", [METADATA], list(ROOTFS_NAMES))
                POSIX.close_all([POSIX.hold_file(fd, f"{name}/{METADATA}", CHUNK)[0]])
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = work(20)
    after = work(500)
    os.close(fd)
    # One answer that was forgotten each time would come to 30 MiB and more.
    assert after - before < 4096
