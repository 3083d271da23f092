"""A process that opens disks while somebody deletes them: a program.

It takes the data directory, the size of every disk and a seed, prints a line when it has begun, opens disks until its
input is closed, and prints what it has seen.
"""

import glob
import json
import os
import random
import select
import sys
import time
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Open disks, read them whole, hold them for a moment."""
    root, size_bytes, seed = Path(sys.argv[1]) / "images", int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    seen = {"opened": 0, "absent": 0, "torn": 0, "longest": 0.0}
    print("begun", flush=True)  # noqa: T201 - the answer
    while not select.select([sys.stdin], [], [], 0)[0]:
        disks = sorted(glob.glob(f"{root}/ghcr.io/kernel/team/*/*/rootfs.ext4"))  # noqa: PTH207 - passes over what goes meanwhile
        for disk in rng.sample(disks, min(len(disks), 8)):
            begin = time.monotonic()
            try:
                fd = os.open(disk, os.O_RDONLY)
            except FileNotFoundError:
                seen["absent"] += 1
                continue
            finally:
                seen["longest"] = max(seen["longest"], time.monotonic() - begin)
            try:
                seen["opened"] += 1
                time.sleep(rng.choice((0, 0, 0.001)))
                seen["torn"] += len(os.read(fd, 2 * size_bytes)) != size_bytes
            finally:
                os.close(fd)
    print(json.dumps(seen), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
