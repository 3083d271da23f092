"""A disk that erases slowly, for the service in the container: carried out by Python before hmret."""

__all__ = ["DEAF", "SLOW"]

SLOW = """
import os, time
unlink = os.unlink
def slow(path, *, dir_fd=None):
    if "rootfs" in str(path):
        time.sleep(0.5)
    return unlink(path, dir_fd=dir_fd)
os.unlink = slow
"""
"""Each disk takes half a second; only without the native core, which does not ask Python."""

DEAF = f"""{SLOW}
from hmret.disk.deletion.trash import erasing
carry_out = erasing.free_entries
def deaf(*given, **named):
    return carry_out(*given, **(named | {{"stopping": lambda: False}}))
erasing.free_entries = deaf
"""
"""The same, and an erase that does not ask whether it is to stop."""
