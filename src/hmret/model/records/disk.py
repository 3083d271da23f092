"""The outcome of earlier pressure on the disk."""

from hmret.model.values import frozen


@frozen
class DiskRecord:
    """What is remembered of the disk from one sweep to the next."""

    is_pressed: bool = False
    """Whether the high mark was exceeded and the low one has not been reached since."""
    failures: int = 0
    """How many times in a row the low mark could not be reached."""
    ineffective_sweeps: int = 0
    """The number of sweeps in a row whose deletions freed little of what was expected."""
    boot_id: str = ""
    again_boot_ns: int = 0
    """When it is tried again, by the boot-time clock of that boot."""
    shortfall_bytes: int = 0
    """By how much the low mark was missed; 0: it was reached."""
