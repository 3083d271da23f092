"""What comes in the midst of a deletion: another process's step, the end of the process, a caller who must wait."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.from_thread
import attrs

from hmret.model.references import Reference
from support.content_trees import Host
from support.memory_filesystem import Call, MemoryFilesystem
from support.patience import PATIENCE

__all__ = ["Between", "Halt", "Interruption", "disk_of", "killed_when", "when"]


def disk_of(host: Host) -> MemoryFilesystem:
    """Return the disk of a host in memory."""
    assert isinstance(host.place, MemoryFilesystem)
    return host.place


@attrs.define(eq=False)
class Interruption:
    """Something that happens once."""

    has_happened: bool = False


def when(host: Host, condition: Callable[[], bool], act: Callable[[], object]) -> Interruption:
    """Act once, right before the first call of the file system at which the condition holds."""
    disk = disk_of(host)
    interruption = Interruption()

    def look(call: Call) -> None:
        if condition():
            disk.before = None
            interruption.has_happened = True
            act()

    disk.before = look
    return interruption


async def killed_when(host: Host, condition: Callable[[], bool], **settings: Any) -> Host:
    """Sweep, and return the host as it would be had the process been killed when the condition first held."""
    disk = disk_of(host)
    copies: list[MemoryFilesystem] = []
    when(host, condition, lambda: copies.append(disk.crashed_copy()))
    await host.sweep(**settings)
    assert copies, "it never came to that"
    return host.on(copies[0])


@attrs.define(eq=False)
class Between:
    """An embedder's source, at whose second question something happens: after the scan, before images are locked.

    It is asked a first time when a sweep begins to look at everything, and then before each batch of deletions.
    """

    act: Callable[[], object]
    asked: int = 0

    async def references(self) -> Iterable[Reference]:
        self.asked += 1
        if self.asked == 2:
            self.act()
        return ()


@attrs.define(eq=False)
class Halt:
    """Holds up a worker thread once, right before the first call at which a condition holds."""

    host: Host
    condition: Callable[[Call], bool]
    arrived: anyio.Event = attrs.field(factory=anyio.Event)
    opened: anyio.Event = attrs.field(factory=anyio.Event)
    _loop_thread: int = attrs.field(factory=threading.get_ident, init=False)

    def __attrs_post_init__(self) -> None:
        disk_of(self.host).before = self._stop

    def _stop(self, call: Call) -> None:
        # Opening and closing an engine calls on the event loop's own thread, which must not stand still.
        if threading.get_ident() != self._loop_thread and self.condition(call):
            disk_of(self.host).before = None
            anyio.from_thread.run(self._stand)

    async def _stand(self) -> None:
        self.arrived.set()
        # Bounded, so that a test that fails before it opens the halt ends.
        with anyio.move_on_after(PATIENCE, shield=True):
            await self.opened.wait()
