"""A start that is cut off."""

import anyio
import pytest

from hmret.engine.opening import open_engine
from hmret.engine.platform import Platform
from support.builders import DATA, GatedThreads, make_config, settle
from support.memory_filesystem import MemoryFilesystem
from support.patience import patiently

STRAY = f"{DATA}/system/hmret/trash/stray/rootfs.ext4"


@pytest.mark.parametrize("is_cut_off", [True, False])
async def test_told_to_stop_while_it_recovers_it_leaves_the_rest_for_the_next_start(
    platform: Platform, filesystem: MemoryFilesystem, threads: GatedThreads, is_cut_off: bool
) -> None:
    filesystem.write_file(STRAY, bytes(4096))
    gate = threads.hold("_recover")
    with patiently():
        async with anyio.create_task_group() as tasks:

            async def start() -> None:
                async with open_engine(make_config(filesystem), platform, scheduled=False):
                    pass

            tasks.start_soon(start)
            await gate.arrived.wait()
            if is_cut_off:
                tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await settle()
                gate.opened.set()
    assert filesystem.exists(STRAY) is is_cut_off
