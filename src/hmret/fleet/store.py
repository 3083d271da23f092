"""What is asked of the store that the hosts of a fleet share, and what it answers.

The words are those of etcd's API, version 3: one transaction compares and changes several keys at once, each
change has a revision, and keys may be attached to a lease, with which they go. Keys and values are text.

```
StoreError
├── StoreUnreachableError   no answer, and nothing was changed: a read, or a write that was never sent
├── OutcomeUnknownError     a write was sent, and whether it was carried out, or will be, is not known
├── StoreRefusedError       a definite no: the request was not carried out and never will be
│   └── WrongCredentialsError   the user, the password or the role does not suffice
└── RevisionWentBackError   the answer is older than one before it, or another cluster's: it was restored
```
"""

from typing import Literal, Protocol, TypeAlias

from hmret.model.errors import HmretError
from hmret.model.records.fleet import Seen
from hmret.model.values import frozen

MOST_OPERATIONS = 128
"""How many comparisons, or operations of one branch, a transaction may have, those of nested ones included."""


class StoreError(HmretError):
    """The store did not do what it was asked; the message is one line with the endpoint and the remedy."""


class StoreUnreachableError(StoreError):
    """No endpoint answered, and nothing was changed: a read, or a write that was never sent."""


class OutcomeUnknownError(StoreError):
    """A write was sent, and no answer says whether it was carried out; it may still be carried out later."""


class StoreRefusedError(StoreError):
    """The request was not carried out and never will be: too many operations, too large, not well formed."""


class WrongCredentialsError(StoreRefusedError):
    """The user or the password is wrong, or the user's role does not allow the request."""


class RevisionWentBackError(StoreError):
    """An answer is older than one that was there before the request was sent, or is another cluster's.

    Answers of a store that was not restored from a backup never are. The answer is not believed; whether a
    write was carried out is unknown.
    """

    def __init__(self, message: str, *, is_another_cluster: bool) -> None:
        super().__init__(message)
        self.is_another_cluster = is_another_cluster


@frozen
class Compare:
    """A condition of a transaction on one key."""

    key: str
    target: Literal["VALUE", "MOD", "CREATE", "VERSION"]
    """What is compared: the value, the revision of its last change, that of its creation (0: the key is not
    there), or how often it was changed since."""
    result: Literal["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]
    value: str | int
    """Text for VALUE, else a number. A key that is not there has no value: no comparison with VALUE holds."""


def value_is(key: str, text: str) -> Compare:
    """Make the condition that a key is there with this value."""
    return Compare(key, "VALUE", "EQUAL", text)


def mod_is(key: str, revision: int) -> Compare:
    """Make the condition that a key was last changed at this revision; 0: it is not there."""
    return Compare(key, "MOD", "EQUAL", revision)


def absent(key: str) -> Compare:
    """Make the condition that a key is not there."""
    return Compare(key, "CREATE", "EQUAL", 0)


def exists(key: str) -> Compare:
    """Make the condition that a key is there."""
    return Compare(key, "CREATE", "GREATER", 0)


def prefix_end(prefix: str) -> str:
    """Return the end of the range of all keys with a prefix, which ends in an ASCII character."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


@frozen
class Put:
    """Write a key."""

    key: str
    value: str
    lease: int = 0
    """The lease that the key goes with; 0: it stays, whatever lease it had before."""


@frozen
class Delete:
    """Delete a key, or all keys of a range."""

    key: str
    range_end: str = ""
    """The first key behind the range; empty: the one key."""


@frozen
class Range:
    """Read a key, or the keys of a range in the order of their bytes."""

    key: str
    range_end: str = ""
    """The first key behind the range; empty: the one key."""
    limit: int = 0
    """How many keys at most; 0: all."""
    keys_only: bool = False
    """Without the values, which then are empty."""


@frozen
class Txn:
    """Compare, and by the outcome carry out one branch or the other, all of it at one revision.

    A branch must not write a key twice.
    """

    compares: "tuple[Compare, ...]"
    success: "tuple[Operation, ...]" = ()
    """Carried out if all comparisons hold."""
    failure: "tuple[Operation, ...]" = ()


Operation: TypeAlias = Put | Delete | Range | Txn


@frozen
class KeyValue:
    """A key as it is in the store."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    version: int = 1
    """How often it was written since it was created."""
    lease: int = 0
    """The lease that it goes with; 0: none."""


@frozen(kw_only=True)
class Answer:
    """What each answer says of the store."""

    revision: int
    """That of the store when it carried out the request; of a write, its own."""
    cluster_id: str


@frozen(kw_only=True)
class RangeResult(Answer):
    """What `Range` found."""

    key_values: tuple[KeyValue, ...]
    count: int
    """How many keys the range has, including those beyond the limit."""

    @property
    def more(self) -> bool:
        """Whether the limit has left keys out."""
        return self.count > len(self.key_values)

    def value(self, key: str) -> str | None:
        """Return the value of a key; None: it is not among those that were found."""
        return next((found.value for found in self.key_values if found.key == key), None)


@frozen(kw_only=True)
class PutResult(Answer):
    """`Put` was carried out."""


@frozen(kw_only=True)
class DeleteResult(Answer):
    """What `Delete` deleted."""

    deleted: int


@frozen(kw_only=True)
class TxnResult(Answer):
    """What a transaction did."""

    succeeded: bool
    """Whether all comparisons held."""
    results: "tuple[Result, ...]"
    """One for each operation of the branch that was carried out."""


Result: TypeAlias = RangeResult | PutResult | DeleteResult | TxnResult


@frozen
class Health:
    """The health of a member of the store."""

    version: str
    size_bytes: int
    """Of its database file."""
    quota_bytes: int | None
    """Where writes stop; None: it does not say."""
    alarms: tuple[str, ...]
    """What is active anywhere in the cluster, such as `NOSPACE`."""


class Store(Protocol):
    """The store; all calls may be made at once by several tasks, and each ends within some seconds."""

    @property
    def seen(self) -> Seen | None:
        """The newest of the answers; None: none yet."""

    def forget_seen(self) -> None:
        """Believe whatever comes next: after `RevisionWentBackError`, once that has been acted on."""

    async def range(
        self, key: str, range_end: str = "", *, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        """Read a key or a range as of now (linearizable).

        Raises:
            StoreUnreachableError: no endpoint answered; all were tried.
            StoreRefusedError: the request is not allowed.
            RevisionWentBackError: the answer is not to be believed.
        """

    async def transact(self, txn: Txn) -> TxnResult:
        """Carry out a transaction; what was sent is never sent again.

        Raises:
            StoreUnreachableError: nothing was sent.
            OutcomeUnknownError: it was sent, and whether it was carried out is not known.
            StoreRefusedError: it was not carried out and never will be.
            RevisionWentBackError: the answer is not to be believed.
        """

    async def grant(self, seconds: int) -> int:
        """Make a lease; it ends this long after the last `keep_alive`. One whose answer is lost ends by itself.

        Raises:
            StoreUnreachableError: no endpoint answered; all were tried.
            StoreRefusedError: the request is not allowed.
            RevisionWentBackError: the answer is not to be believed.
        """

    async def keep_alive(self, lease: int) -> int:
        """Start the time of a lease again; returns the seconds it now has, 0: it is over.

        Raises:
            StoreUnreachableError: no endpoint answered; all were tried.
            StoreRefusedError: the request is not allowed.
            RevisionWentBackError: the answer is not to be believed.
        """

    async def revoke(self, lease: int) -> None:
        """End a lease, and delete the keys that are attached to it; done too if it is over.

        Raises:
            StoreError: it may still be there, and ends by itself.
        """

    async def health(self) -> Health:
        """Read the health of the member that answers.

        Raises:
            StoreUnreachableError: no endpoint answered; all were tried.
            StoreRefusedError: the request is not allowed.
        """

    async def aclose(self) -> None:
        """Close the connections."""
