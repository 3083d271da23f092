"""How a command ends that a signal has interrupted."""

from signal import Signals

_SHELL = 128  # what shells add to the number of a signal


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM interrupted a command; what was in progress has been finished."""

    def __init__(self, number: Signals, done: str = "") -> None:
        super().__init__(number)
        self.number = number
        self.done = done
        """What was done until then; empty: nothing to tell."""

    @property
    def exit_code(self) -> int:
        """The exit code of the command, as shells have it: 130 for SIGINT, 143 for SIGTERM."""
        return _SHELL + self.number
