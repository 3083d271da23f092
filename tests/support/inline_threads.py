"""Threads that are none: everything runs in place."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, TypeVarTuple

import anyio.lowlevel

__all__ = ["InlineThreads"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class InlineThreads:
    """Runs functions in place: for disks in memory, with a clock that must not run ahead of a thread."""

    lanes = lanes_of_a_cold_disk = 1

    @staticmethod
    def pause() -> None:
        """Do nothing: there is no thread to yield to."""

    @staticmethod
    def urgent() -> AbstractContextManager[None]:
        """Do nothing: there is no bulk work to hold back."""
        return nullcontext()

    @staticmethod
    def bulk() -> AbstractContextManager[None]:
        """Leave the garbage collector alone."""
        return nullcontext()

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await anyio.lowlevel.checkpoint()
        return function(*arguments)

    async def read(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(function, *arguments)

    async def run_alone(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(function, *arguments)
