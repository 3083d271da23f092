"""The parts, by name."""

from collections.abc import Callable, Iterator, Mapping

from realfs.checking import Check
from realfs.filesystems import filesystems
from realfs.power_cuts import power_cuts

__all__ = ["PARTS"]

PARTS: Mapping[str, Callable[[], Iterator[Check]]] = {
    "file systems": filesystems,
    "power cuts": power_cuts,
}
"""What lists the checks of each part."""
