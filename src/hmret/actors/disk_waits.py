"""How often a thread has waited for a disk, told apart from its waits for the interpreter and from its rests."""

import resource
import threading
import time

from hmret.model.values import frozen

# Below this share of processor time the process counts as idle, which is to say waiting for the disk.
_BUSY_SHARE = 0.7


class _Rests(threading.local):
    number = 0


_rests = _Rests()


def rest(seconds: float) -> None:
    """Sleep, which does not count as a wait for the disk."""
    time.sleep(seconds)
    _rests.number += 1


@frozen
class DiskWaits:
    """The waits of the thread that made it, from then on."""

    switches: int
    blocks: int
    rests: int
    seconds: float
    processor_seconds: float

    @classmethod
    def begin(cls) -> "DiskWaits":
        """Begin to count."""
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        return cls(usage.ru_nvcsw, usage.ru_inblock, _rests.number, time.perf_counter(), time.process_time())

    def count(self) -> int:
        """Count the waits so far; 0 if they were for the interpreter, as far as can be told.

        A thread gives the processor up voluntarily for either (`ru_nvcsw`). It was for the disk if blocks were read for
        this thread (`ru_inblock`, getrusage(2)). File systems over a network count none, so it also was if the process
        did little meanwhile: had this thread waited for the interpreter, another one would have been running.
        """
        now = DiskWaits.begin()
        waits = now.switches - self.switches - (now.rests - self.rests)
        processor_seconds = now.processor_seconds - self.processor_seconds
        is_idle = processor_seconds < _BUSY_SHARE * (now.seconds - self.seconds)
        return waits if now.blocks > self.blocks or is_idle else 0
