"""Tries each way in from nothing: on a bare Debian, by the lines that README shows, to `hmret plan` on a data directory.

    python3 packaging/ways_in.py [WAY...]

It first builds what each needs (make wheel pyz deb-12 deb-13 image). Only root can, and debootstrap must be there;
elsewhere it says why not, and ends with 0. The lines are read from README itself: what it shows is what is tried.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from deb import copy_tree
from debian_root import Root, bare_root, why_not

__all__ = ["WAYS", "lines_of"]

HERE = Path(__file__).resolve().parent.parent
DIST = HERE / "dist"
# By way: the releases of Debian, and the targets that build what it needs.
WAYS: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "checkout": ((12,), ()),
    "wheel": ((12,), ("wheel",)),
    "pyz": ((12, 13), ("pyz",)),
    "deb": ((12, 13), ("deb-12", "deb-13")),
    "image": ((), ("image",)),
}
DATA_DIR = "/srv/hypeman"
GUEST = '{"Image": "ghcr.io/o/app:v1", "CreatedAt": "2026-01-01T00:00:00Z"}'
MAKE_DATA = f"""
folder={DATA_DIR}/images/content/{"a" * 64}
mkdir -p $folder {DATA_DIR}/images/repositories/ghcr.io/o/app {DATA_DIR}/guests/vm-1
echo '{{"name": "ghcr.io/o/app:v1", "digest": "sha256:{"a" * 64}", "status": "ready", "size_bytes": 1,' \
    '"created_at": "2026-01-01T00:00:00Z"}}' >$folder/metadata.json
echo disk >$folder/rootfs.erofs
ln -s ../../../../content/{"a" * 64} {DATA_DIR}/images/repositories/ghcr.io/o/app/v1
echo '{GUEST}' >{DATA_DIR}/guests/vm-1/metadata.json
"""


def lines_of(way: str) -> str:
    """Return the lines of shell that README shows for a way in."""
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- way in: {way} -->\n```sh\n(.*?)```", readme, re.DOTALL)
    if found is None:
        raise SystemExit(f"README shows no lines for {way}")
    return found[1].replace("\\\n", " ")


def try_way(way: str, release: int) -> None:
    """Take one way in on one release."""
    began = time.monotonic()
    with bare_root(release) as root:
        root.shell("apt-get update --quiet")
        root.install("ca-certificates")  # as each host has that fetches packages
        _bring(root, way, release)
        root.run("sh", "-ec", MAKE_DATA)
        for line in lines_of(way).splitlines():
            root.shell(f"cd /root/hmret && {line}")
        planned = root.run("hmret", "plan", "--all", "--data-dir", DATA_DIR)
        if not re.search(r"ghcr\.io/o/app .*referenced", planned):
            raise SystemExit(f"{way} on Debian {release}: {planned}")
        version = root.run("hmret", "--version").strip()
        unit = root.run("hmret", "unit", "--data-dir", DATA_DIR)
        (program,) = re.findall(r"^ExecStart=(\S+)", unit, re.MULTILINE)
        root.run(program, "check-config", "--quiet")
    _say(f"ok: {way} on Debian {release}: {version}, {program}, {time.monotonic() - began:.0f} s")


def _bring(root: Root, way: str, release: int) -> None:
    """Bring into a root what an operator would have carried to a host."""
    if way == "checkout":
        copy_tree(HERE, root.path / "root/hmret")
        return
    pattern = {"wheel": "*.whl", "pyz": "hmret.pyz", "deb": f"*~deb{release}_*.deb"}[way]
    (built,) = DIST.glob(pattern)
    root.copy(built, "/root/hmret")
    if way == "wheel":
        root.copy(HERE / "packaging/requirements.lock", "/root/hmret")


def _build(targets: tuple[str, ...]) -> None:
    for target in targets:
        _say(f"make {target}")
        subprocess.run(["make", "--quiet", "-C", str(HERE), target], check=True, stdout=subprocess.DEVNULL)


def main(ways: list[str]) -> None:
    """Take the ways that are named, or all."""
    reason = why_not()
    if reason:
        _say(f"ways-in: skipped: {reason}")
        return
    unknown = sorted(set(ways) - set(WAYS))
    if unknown:
        raise SystemExit(f"ways-in: expected some of {', '.join(WAYS)}, got {', '.join(unknown)}")
    for way in ways or WAYS:
        releases, targets = WAYS[way]
        if way == "image" and shutil.which("buildah") is None:
            _say("skipped: image: needs buildah (apt install buildah)")
            continue
        _build(targets)
        for release in releases:
            try_way(way, release)
        if way == "image":
            subprocess.run([sys.executable, str(HERE / "packaging/image.py"), "test"], check=True)
            _say("ok: image")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program prints


if __name__ == "__main__":
    main(sys.argv[1:])
