"""The collector of garbage, which the process of a command does without until there can be some."""

import gc

__all__ = ["collect_from_now_on"]


def collect_from_now_on() -> None:
    """Switch it on again, for what comes to be from now on: what has been loaded stays as long as the process does.

    Where it was never switched off, in a process that is somebody else's, nothing happens.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
