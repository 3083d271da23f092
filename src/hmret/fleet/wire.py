"""Requests to etcd's JSON gateway and its answers, as bytes.

Keys and values are base64, 64-bit numbers are text, and what is false, 0 or empty is left out of an answer.
"""

from collections.abc import Sequence
from typing import TypedDict

import msgspec

from hmret.fleet.store import (
    Compare,
    Delete,
    DeleteResult,
    Health,
    KeyValue,
    Operation,
    Put,
    PutResult,
    Range,
    RangeResult,
    Result,
    Txn,
    TxnResult,
)

encode = msgspec.json.encode
"""Make the bytes of a request from its document."""

_COMPARED = {"VALUE": "value", "MOD": "mod_revision", "CREATE": "create_revision", "VERSION": "version"}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def range_document(wanted: Range) -> dict[str, object]:
    """Make the document of a read; it is linearizable, as nothing says otherwise."""
    document: dict[str, object] = {"key": _bytes(wanted.key)}
    if wanted.range_end:
        document["range_end"] = _bytes(wanted.range_end)
    if wanted.limit:
        document["limit"] = str(wanted.limit)
    if wanted.keys_only:
        document["keys_only"] = True
    return document


def txn_document(txn: Txn) -> dict[str, object]:
    """Make the document of a transaction."""
    return {
        "compare": [_compare_document(compare) for compare in txn.compares],
        "success": [_operation_document(operation) for operation in txn.success],
        "failure": [_operation_document(operation) for operation in txn.failure],
    }


def _compare_document(compare: Compare) -> dict[str, object]:
    value = _bytes(str(compare.value)) if compare.target == "VALUE" else str(compare.value)
    return {
        "key": _bytes(compare.key),
        "target": compare.target,
        "result": compare.result,
        _COMPARED[compare.target]: value,
    }


def _operation_document(operation: Operation) -> dict[str, object]:
    if isinstance(operation, Txn):
        return {"request_txn": txn_document(operation)}
    if isinstance(operation, Range):
        return {"request_range": range_document(operation)}
    if isinstance(operation, Put):
        put: dict[str, object] = {"key": _bytes(operation.key), "value": _bytes(operation.value)}
        if operation.lease:
            put["lease"] = str(operation.lease)
        return {"request_put": put}
    delete: dict[str, object] = {"key": _bytes(operation.key)}
    if operation.range_end:
        delete["range_end"] = _bytes(operation.range_end)
    return {"request_delete_range": delete}


class _Answered(TypedDict):
    """The fields of `Answer`."""

    revision: int
    cluster_id: str


class _Header(msgspec.Struct):
    cluster_id: str = ""
    revision: int = 0

    def answered(self) -> _Answered:
        if not self.cluster_id:
            raise ValueError("the answer has no header")
        return {"revision": self.revision, "cluster_id": self.cluster_id}


class _KeyValue(msgspec.Struct):
    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


class _RangeAnswer(msgspec.Struct):
    header: _Header = msgspec.field(default_factory=_Header)
    kvs: list[_KeyValue] = []
    count: int = 0


class _DeleteAnswer(msgspec.Struct):
    deleted: int = 0


class _OperationAnswer(msgspec.Struct):
    response_range: _RangeAnswer | None = None
    response_put: dict[str, object] | None = None
    response_delete_range: _DeleteAnswer | None = None
    response_txn: "_TxnAnswer | None" = None


class _TxnAnswer(msgspec.Struct):
    header: _Header = msgspec.field(default_factory=_Header)
    succeeded: bool = False
    responses: list[_OperationAnswer] = []


class _GrantAnswer(msgspec.Struct):
    number: int = msgspec.field(default=0, name="ID")
    error: str = ""


class _KeepAliveResult(msgspec.Struct):
    seconds: int = msgspec.field(default=0, name="TTL")


class _KeepAliveAnswer(msgspec.Struct):
    result: _KeepAliveResult


class _Alarm(msgspec.Struct):
    alarm: str = "NONE"


class _AlarmAnswer(msgspec.Struct):
    alarms: list[_Alarm] = []


class _StatusAnswer(msgspec.Struct):
    header: _Header
    version: str
    size: int = msgspec.field(default=0, name="dbSize")
    quota: int = msgspec.field(default=0, name="dbSizeQuota")


class _TokenAnswer(msgspec.Struct):
    token: str


class _ErrorAnswer(msgspec.Struct):
    message: str = ""
    error: str = ""


_range_decoder = msgspec.json.Decoder(_RangeAnswer, strict=False)
_txn_decoder = msgspec.json.Decoder(_TxnAnswer, strict=False)


def read_range(content: bytes) -> RangeResult:
    """Read the answer to a read.

    Raises:
        ValueError: it is none; so do all functions here that read.
    """
    answer = _range_decoder.decode(content)
    return _range_result(answer, answer.header.answered())


def _range_result(found: _RangeAnswer, answered: _Answered) -> RangeResult:
    key_values = tuple(
        KeyValue(_text(kv.key), _text(kv.value), kv.create_revision, kv.mod_revision, kv.version, kv.lease)
        for kv in found.kvs
    )
    return RangeResult(key_values=key_values, count=found.count, **answered)


def read_txn(content: bytes, txn: Txn) -> TxnResult:
    """Read the answer to a transaction."""
    found = _txn_decoder.decode(content)
    return _txn_result(found, txn, found.header.answered())


def _txn_result(found: _TxnAnswer, txn: Txn, answered: _Answered) -> TxnResult:
    operations: Sequence[Operation] = txn.success if found.succeeded else txn.failure
    if len(operations) != len(found.responses):
        raise ValueError(f"{len(found.responses)} results of {len(operations)} operations")
    results = tuple(
        _result(operation, response, answered)
        for operation, response in zip(operations, found.responses, strict=True)
    )
    return TxnResult(succeeded=found.succeeded, results=results, **answered)


def _result(operation: Operation, found: _OperationAnswer, answered: _Answered) -> Result:
    if isinstance(operation, Txn) and found.response_txn is not None:
        return _txn_result(found.response_txn, operation, answered)
    if isinstance(operation, Range) and found.response_range is not None:
        return _range_result(found.response_range, answered)
    if isinstance(operation, Put) and found.response_put is not None:
        return PutResult(**answered)
    if isinstance(operation, Delete) and found.response_delete_range is not None:
        return DeleteResult(deleted=found.response_delete_range.deleted, **answered)
    raise ValueError(f"no result of {type(operation).__name__}")


def read_grant(content: bytes) -> int:
    """Read the number of a lease that was granted."""
    answer = msgspec.json.decode(content, type=_GrantAnswer, strict=False)
    if not answer.number:
        raise ValueError(answer.error or "no lease")
    return answer.number


def read_keep_alive(content: bytes) -> int:
    """Read how many seconds a lease has; 0: it is over, for which etcd leaves the number out."""
    return msgspec.json.decode(content, type=_KeepAliveAnswer, strict=False).result.seconds


def read_alarms(content: bytes) -> tuple[str, ...]:
    """Read which alarms are active, each once."""
    answer = msgspec.json.decode(content, type=_AlarmAnswer, strict=False)
    return tuple(sorted({alarm.alarm for alarm in answer.alarms}))


def read_status(content: bytes) -> Health:
    """Read how a member is, but for the alarms; the quota is told by etcd 3.6 and newer."""
    answer = msgspec.json.decode(content, type=_StatusAnswer, strict=False)
    return Health(answer.version, answer.size, answer.quota or None, alarms=())


def read_quota(metrics: bytes) -> int | None:
    """Read the quota from what a member measures; None: it does not say, or has none."""
    for line in metrics.splitlines():
        if line.startswith(b"etcd_server_quota_backend_bytes "):
            return int(float(line.split()[1])) or None
    return None


def read_token(content: bytes) -> str:
    """Read the token that further requests are to have."""
    return msgspec.json.decode(content, type=_TokenAnswer).token


def read_error(content: bytes) -> str:
    """Read what is wrong from an answer that is not a 200, in one line of at most 200 characters."""
    try:
        answer = msgspec.json.decode(content, type=_ErrorAnswer)
        text = answer.message or answer.error
    except ValueError:
        text = content[:1000].decode("utf-8", "replace")
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:200]
