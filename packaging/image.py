"""Builds the image of hmret for containers by buildah, without a network, and tries it.

    python3 packaging/image.py build [BASE]    localhost/hmret from dist/hmret.pyz, and dist/hmret-VERSION-image.tar of it
    python3 packaging/image.py test            a plan, a sweep, and a disk that a process outside has open

BASE is an image that buildah has or can pull; without one it is made of a root of Debian 12 that debootstrap makes. Where
that cannot be, it says why, and ends with 0.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import debian_root

__all__ = ["build", "try_image"]

HERE = Path(__file__).resolve().parent.parent
NAME = "localhost/hmret"
OWN_BASE = "localhost/hmret-base"
RIGHTS = ("CAP_LEASE", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE")
# As root of a container that has no daemon and no storage of its own.
ENVIRONMENT = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot", **os.environ}


def build(base: str | None) -> Path:
    """Build the image; returns the path of its archive."""
    version = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if base is None:
        base = _make_base()
    _buildah(
        *("build", "--network", "none", "--build-arg", f"BASE={base}", "--timestamp", "0"),
        *(
            "-t",
            f"{NAME}:{version}",
            "-t",
            f"{NAME}:latest",
            "-f",
            str(HERE / "packaging/Containerfile"),
            str(HERE),
        ),
    )
    archive = HERE / f"dist/hmret-{version}-image.tar"
    archive.unlink(missing_ok=True)
    _buildah("push", f"{NAME}:{version}", f"oci-archive:{archive}:{NAME}:{version}")
    return archive


def try_image() -> None:
    """Try the image: what it says, what it deletes, and what it keeps."""
    with TemporaryDirectory(prefix="hmret-image-") as name, _container() as container:
        data = Path(name, "data")
        kept, gone = _make_image(data, "kept", "a"), _make_image(data, "gone", "b")

        def hmret(*arguments: str) -> dict[str, object]:
            said = _buildah(
                *("run", "--cap-drop", "all", *(word for right in RIGHTS for word in ("--cap-add", right))),
                *("--volume", f"{data}:/var/lib/hypeman", container, "--", "/opt/hmret/bin/hmret"),
                *(*arguments, "--enable", "--allow", "*", "--json"),
            )
            found: dict[str, object] = json.loads(said)
            return found

        with (kept / "rootfs.erofs").open("rb"):
            plan = hmret("plan")
            _expect("plan", plan["summary"]["delete"], 2)  # type: ignore[index]
            report = hmret("sweep", "--yes")
            _expect("status", report["status"], "success")
            _expect("open images", report["open_images"], 1)
            _expect("deleted", [one["repository"] for one in report["deleted"]], ["ghcr.io/o/gone"])  # type: ignore[attr-defined]
            _expect("what an outside process has open", kept.is_dir(), True)
            _expect("what is due", gone.exists(), False)


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise SystemExit(f"image: {what}: expected {expected}, got {found}")
    _say(f"ok: {what}: {found}")


def _make_image(data: Path, name: str, digit: str) -> Path:
    """Make an image that has been unused for long; returns its folder."""
    digest, long_ago = digit * 64, datetime.now(UTC) - timedelta(days=40)
    repository = data / "images/ghcr.io/o" / name
    folder = repository / digest
    folder.mkdir(parents=True)
    (folder / "rootfs.erofs").write_bytes(b"\0" * 4096)
    metadata = {
        "name": f"ghcr.io/o/{name}:v1",
        "digest": f"sha256:{digest}",
        "status": "ready",
        "size_bytes": 4096,
        "created_at": long_ago.isoformat().replace("+00:00", "Z"),
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (repository / "v1").symlink_to(digest)
    state = data / "system/image-retention/ghcr.io/o" / name / f"{digest}.json"
    state.parent.mkdir(parents=True)
    unused = {
        "repository": f"ghcr.io/o/{name}",
        "digest": metadata["digest"],
        "unused_since": metadata["created_at"],
    }
    state.write_text(json.dumps(unused))
    return folder


def _make_base() -> str:
    with debian_root.bare_root(12) as root:
        root.install("python3")
        root.shell("apt-get clean; rm -rf /var/lib/apt/lists/* /etc/resolv.conf")
        container = _buildah("from", "scratch").strip()
        mounted = _buildah("mount", container).strip()
        subprocess.run(["cp", "-a", f"{root.path}/.", mounted], check=True)
        _buildah("umount", container)
        _buildah("commit", "--quiet", container, OWN_BASE)
        _buildah("rm", container)
    return OWN_BASE


@contextmanager
def _container() -> Iterator[str]:
    container = _buildah("from", "--pull=never", NAME).strip()
    try:
        yield container
    finally:
        _buildah("rm", container)


def _buildah(*arguments: str) -> str:
    done = subprocess.run(
        ["buildah", *arguments], text=True, capture_output=True, env=ENVIRONMENT, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"buildah {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def _why_not() -> str:
    if shutil.which("buildah") is None:
        return "needs buildah (apt install buildah)"
    return debian_root.why_not()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program prints


if __name__ == "__main__":
    match sys.argv[1:]:
        case _ if reason := _why_not():
            _say(f"image: skipped: {reason}")
        case ["build", *bases]:
            _say(str(build(bases[0] if bases else None)))
        case ["test"]:
            try_image()
        case _:
            raise SystemExit(__doc__)
