"""The names of a fleet's keys, written and read: `/hmret/1/<fleet>/generation`, and all others below a generation.

A **holder** is `<host>.<cache id>`: a host's name, and the 8 hexadecimal digits of its data directory. Keys
are ASCII, so that `etcdctl` can show them; their names are for others to read, too, and do not change.
"""

import re

from hmret.fleet.store import Range, prefix_end
from hmret.model.values import frozen

_ROOT = "/hmret/1"
_USED = "!used"
_HOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.[0-9a-f]{8}")
_TOKEN = re.compile(r"[0-9]{2}")


def is_holder(text: str) -> bool:
    """Return whether a text can be the name of a holder."""
    return _HOLDER.fullmatch(text) is not None


def make_holder(host: str, cache_id: str) -> str:
    """Return the name of the holder that a data directory is."""
    return f"{host}.{cache_id}"


def host_of(holder: str) -> str:
    """Return the name of the host of a holder."""
    return holder.rpartition(".")[0]


def generation_key(fleet: str) -> str:
    """Return the key that holds the fleet's generation."""
    return f"{_ROOT}/{fleet}/generation"


@frozen
class FleetKeys:
    """The keys of one generation of a fleet.

    Properties are prefixes of keys or single keys; methods make the key of a holder, a digest, a token or a
    policy. Those named `…_of` read a key, and return None for one of another kind.
    """

    fleet: str
    generation: str

    @property
    def root(self) -> str:
        """The prefix of all of them."""
        return f"{_ROOT}/{self.fleet}/{self.generation}/"

    @property
    def settings(self) -> str:
        """What the operator has set."""
        return f"{self.root}settings"

    @property
    def rolled_back(self) -> str:
        """Present once a host has seen revisions go back."""
        return f"{self.root}rolled_back"

    @property
    def sessions(self) -> str:
        return f"{self.root}s/"

    @property
    def marks(self) -> str:
        return f"{self.root}e/"

    @property
    def lives(self) -> str:
        return f"{self.root}l/"

    @property
    def summaries(self) -> str:
        return f"{self.root}i/"

    @property
    def holdings(self) -> str:
        return f"{self.root}d/"

    @property
    def drains(self) -> str:
        return f"{self.root}drain/"

    @property
    def tokens(self) -> str:
        return f"{self.root}t/"

    def session(self, holder: str) -> str:
        """The id of a holder's session, under its lease."""
        return f"{self.sessions}{holder}"

    def mark(self, holder: str) -> str:
        """The last mark that a holder has put on record."""
        return f"{self.marks}{holder}"

    def live(self, holder: str) -> str:
        """Present, under the lease of the session, while what the holder has registered counts."""
        return f"{self.lives}{holder}"

    def summary(self, holder: str) -> str:
        """What a holder tells of itself."""
        return f"{self.summaries}{holder}"

    def drain(self, holder: str) -> str:
        """Present while the copies of a holder do not count because it is to be emptied."""
        return f"{self.drains}{holder}"

    def copies(self, digest: str) -> str:
        """The prefix of what is known of one digest: its last use, then its holders."""
        return f"{self.holdings}{digest}/"

    def holding(self, digest: str, holder: str) -> str:
        """One copy."""
        return f"{self.copies(digest)}{holder}"

    def used(self, digest: str) -> str:
        """The last use of a digest anywhere."""
        return f"{self.copies(digest)}{_USED}"

    def token(self, number: int) -> str:
        """A deletion token, under a lease while it is taken."""
        return f"{self.tokens}{number:02}"

    def policy(self, fingerprint: str) -> str:
        """The first holder that had a policy."""
        return f"{self.root}p/{fingerprint}"

    def young(self, fingerprint: str) -> str:
        """Present, under a lease, while a policy is new to the fleet."""
        return f"{self.policy(fingerprint)}/young"

    def holder_of(self, key: str) -> str | None:
        """Return the holder of a key in `s/`, `e/`, `l/`, `i/` or `drain/`."""
        for prefix in (self.sessions, self.marks, self.lives, self.summaries, self.drains):
            if key.startswith(prefix):
                return _holder(key.removeprefix(prefix))
        return None

    def holding_of(self, key: str) -> tuple[str, str] | None:
        """Return the digest and the holder of a copy."""
        digest, _, holder = key.removeprefix(self.holdings).partition("/")
        if not key.startswith(self.holdings) or _holder(holder) is None:
            return None
        return digest, holder

    def used_of(self, key: str) -> str | None:
        """Return the digest of a last use."""
        digest, _, name = key.removeprefix(self.holdings).partition("/")
        return digest if key.startswith(self.holdings) and name == _USED else None

    def token_of(self, key: str) -> int | None:
        """Return the number of a token."""
        number = key.removeprefix(self.tokens)
        return int(number) if key.startswith(self.tokens) and _TOKEN.fullmatch(number) else None


def _holder(text: str) -> str | None:
    return text if is_holder(text) else None


def all_below(prefix: str, *, limit: int = 0, keys_only: bool = False) -> Range:
    """Return the request for all keys with a prefix."""
    return Range(prefix, prefix_end(prefix), limit=limit, keys_only=keys_only)
