"""Without a fleet nothing of one is imported, and nothing is different."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import anyio
import hmret

async def main():
    config = hmret.RetentionConfig(
        data_dir=sys.argv[1], auto_delete=hmret.AutoDelete(enabled=True, allowed=("*",))
    )
    async with hmret.open_retention(config) as retention:
        await retention.sweep()
        await retention.plan()

anyio.run(main, backend=sys.argv[2])
print(*sorted(name for name in sys.modules if name.startswith(("hmret.", "httpx"))))
"""


def test_an_engine_without_a_fleet_imports_nothing_of_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    loaded = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), "asyncio"], capture_output=True, text=True, check=True
    ).stdout.split()

    # What a plan and the settings know of a fleet are values.
    of_fleets = {name for name in loaded if "fleet" in name or "httpx" in name}
    assert of_fleets == {
        "hmret.engine.fleet",
        "hmret.engine.fleet.membership",
        "hmret.engine.sweep.fleet_questions",
        "hmret.model.fleet",
        "hmret.model.plan.fleet",
        "hmret.model.plan.fleet.judge",
        "hmret.model.plan.fleet.remarks",
        "hmret.model.plan.fleet.step",
        "hmret.model.policy.fleet",
    }
