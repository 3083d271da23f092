"""The record of deletions that failed."""

from hmret.model.values import frozen


@frozen(kw_only=True)
class FailureRecord:
    """One image whose deletion failed, and when it may be tried again."""

    repository: str
    digest: str
    failures: int
    """The number of failures in a row."""
    boot_id: str
    again_boot_ns: int
    """When to try again, by the boot-time clock of that boot; in another boot it is tried at once."""
