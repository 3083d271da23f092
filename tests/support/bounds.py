"""How much of a long proof is played: a part of it by itself, all of it where `HMRET_PROVE` is set (`make prove`).

What is left out of a part is of the same kinds as what is in it: every n-th place, the first examples of the same
sequence, the first seeds.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["IS_WHOLE", "bound", "part"]

T = TypeVar("T")

IS_WHOLE = os.environ.get("HMRET_PROVE", "") not in ("", "0")
"""Whether all of each long proof is played."""


def bound(few: int, many: int) -> int:
    """Tell how many are played."""
    return many if IS_WHOLE else few


def part(items: Sequence[T], every: int, first: int = 0) -> Sequence[T]:
    """Give every n-th of some, from the one at `first` on; all of them where the whole is played."""
    return items if IS_WHOLE else items[first::every]
