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
        "hmret.model.fleet",
        "hmret.model.plan.fleet",
        "hmret.model.plan.fleet.judge",
        "hmret.model.plan.fleet.remarks",
        "hmret.model.plan.fleet.step",
        "hmret.model.policy.fleet",
    }


_WITHOUT_HTTPX2 = """
import sys
import anyio
import hmret

sys.modules["httpx2"] = None

async def main():
    fleet = hmret.FleetConfig(endpoints=("http://127.0.0.1:1",))
    config = hmret.RetentionConfig(data_dir=sys.argv[1], fleet=fleet)
    try:
        async with hmret.open_retention(config):
            pass
    except hmret.ConfigError as error:
        print(error)

anyio.run(main)
"""


def test_a_fleet_without_what_it_needs_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", _WITHOUT_HTTPX2, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ended.stdout == (
        "hmret.fleet.endpoints: a fleet needs httpx2, which is not installed; pip install 'hmret[fleet]'\n"
    )
