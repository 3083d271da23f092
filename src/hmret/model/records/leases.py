"""Leases, and what is on record of those that survive a restart."""

from hmret.model.references import Key
from hmret.model.values import frozen


@frozen(kw_only=True)
class Lease:
    """Keeps an image in use for longer than one call."""

    id: str
    repository: str
    digest: str
    owner: str
    reason: str
    expires_at_ns: int | None = None
    """By the wall clock, in nanoseconds since the epoch; None: the lease ends with its block."""

    @property
    def key(self) -> Key:
        """The image that it covers."""
        return self.repository, self.digest


@frozen(kw_only=True)
class LeaseRecord(Lease):
    """A lease that survives a restart."""

    ttl_ns: int
    """The duration of its last grant, in nanoseconds."""
    expires_at_ns: int
