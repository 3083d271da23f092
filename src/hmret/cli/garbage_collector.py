"""The garbage collector, which stays off while a command starts, as there is no garbage yet."""

import gc


def collect_from_now_on() -> None:
    """Turn the collector on for objects created from now on; what is already loaded stays for good.

    Does nothing if it was never turned off, as in an embedding process.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
