"""The parts, by name."""

from collections.abc import Callable, Iterator, Mapping

from realfs.checking import Check
from realfs.faults import faults
from realfs.filesystems import filesystems
from realfs.full_speed import full_speed
from realfs.open_disks import open_disks
from realfs.power_cuts import power_cuts

__all__ = ["PARTS"]

PARTS: Mapping[str, Callable[[], Iterator[Check]]] = {
    "file systems": filesystems,
    "faults": faults,
    "power cuts": power_cuts,
    "open disks": open_disks,
    "full speed": full_speed,
}
"""What lists the checks of each part."""
