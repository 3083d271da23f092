"""Run in the container: kills a process in the midst of deleting.

kill_in_deletion.py PID DATA_DIR: waits until something more lies in the trash than at its start, and kills at once.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

GIVES_UP_SECONDS = 120


def trash(data_dir: Path) -> set[str]:
    with suppress(OSError):
        return {path.name for path in (data_dir / "system/hmret/trash").iterdir()}
    return set()


def main() -> int:
    """Kill it; returns the exit code."""
    process, data_dir = int(sys.argv[1]), Path(sys.argv[2])
    ends = time.monotonic() + GIVES_UP_SECONDS
    before = trash(data_dir)
    seen = 0
    while time.monotonic() < ends:
        seen += bool(trash(data_dir) - before)
        # Not the very first one: some deletions are through by then.
        if seen == 20:
            os.kill(process, signal.SIGKILL)
            print(f"killed; {len(trash(data_dir))} entries in the trash")
            return 0
        time.sleep(0.001)
    print("nothing was deleted")
    return 1


if __name__ == "__main__":
    sys.exit(main())
