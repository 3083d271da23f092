"""What came of earlier pressure on the disk."""

from hmret.model.values import frozen

__all__ = ["DiskRecord"]


@frozen
class DiskRecord:
    """What must be known of it from one sweep to the next."""

    is_pressed: bool = False
    """Whether the high mark was exceeded and the low one has not been reached since."""
    failures: int = 0
    """How often in a row the low mark was out of reach."""
    ineffective_sweeps: int = 0
    """After how many sweeps in a row little has come free of what went."""
    boot_id: str = ""
    again_boot_ns: int = 0
    """From when on, by the boot-time clock of that boot, it is tried again."""
    shortfall_bytes: int = 0
    """By how much the low mark was out of reach; 0: it was not."""
