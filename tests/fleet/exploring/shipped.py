"""What hosts write and how they judge, by the functions of the product; what they make is put into the explorer's form.

The answers are remembered, so that a step costs little more than to carry out what it sends.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

from fleet.exploring.worlds import Compare, Operation, Sent, Value
from hmret.fleet import store
from hmret.fleet.keys import FleetKeys, generation_key, make_holder
from hmret.fleet.reading import CopyRead, FleetRead, HolderRead, JoinStep, judge_join, judge_release
from hmret.fleet.store import KeyValue, Txn
from hmret.fleet.transactions import (
    NewMark,
    Session,
    end_former_session,
    go_live,
    join,
    register,
    release,
    settle_releases,
    take_out,
    take_token,
)
from hmret.model.fleet import CopyRules, FleetSettings, Paused, ReleaseOutcome
from hmret.model.records.fleet import MarkAge

__all__ = [
    "GENERATION",
    "PAUSED",
    "SET",
    "USED",
    "View",
    "digest",
    "end_former",
    "holder_of",
    "join_session",
    "judge_found",
    "key_of",
    "live",
    "register_copies",
    "release_copy",
    "settle_release",
    "take_copies_out",
    "taken_token",
]

_ROOT = "/hmret/1/f/"
GENERATION = generation_key("f").removeprefix(_ROOT)
SET, PAUSED = "set", "paused"
"""Values of the settings' key."""
NOW = datetime(2030, 1, 1, tzinfo=UTC)
USED = f"{int(NOW.timestamp()):010}"
"""A use a moment ago."""
_FRESH = 1000
"""The revision of whatever is there when it is read."""
_MARK = re.compile(r"[0-9a-f]{16}")
_TOKEN = re.compile(r"(.+) ([0-9a-f]{16})")


def digest(number: int) -> str:
    """Return the digest of this number."""
    return f"sha256:{number:064x}"


def holder_of(host: str, cache_id: int) -> str:
    """Return the name of a holder."""
    return make_holder(host, f"{cache_id:08x}")


@cache
def _keys(generation: str) -> FleetKeys:
    return FleetKeys("f", generation)


@cache
def key_of(generation: str, kind: str, *names: str | int) -> str:
    """Return the explorer's name of a key: the product's, without what all have in front."""
    key: str = getattr(_keys(generation), kind)
    if callable(key):
        key = key(*names)
    return key.removeprefix(_ROOT)


def _session(generation: str, holder: str, mark: int) -> Session:
    return Session(_keys(generation), holder, f"{mark:016x}", mark)


def _read(key: str, value: str = "", *, is_there: bool = True) -> KeyValue | None:
    return KeyValue(key, value, _FRESH, _FRESH) if is_there else None


@cache
def judge_found(session: str, mark: str, has_done_mark: bool) -> JoinStep:
    """Judge what was found of a holder: `session` and `mark` are `absent`, or the age of a mark."""
    found = HolderRead(
        None if session == "absent" else session, 0, None if mark == "absent" else mark, 0, False, None
    )
    return judge_join(found, age_of=MarkAge, has_done_mark=has_done_mark)


def _holder_read(has_session: bool, has_mark: bool) -> HolderRead:
    return HolderRead(
        "x" if has_session else None,
        _FRESH if has_session else 0,
        "x" if has_mark else None,
        _FRESH if has_mark else 0,
        False,
        None,
    )


@cache
def join_session(
    place: int, generation: str, holder: str, mark: int, has_session: bool, has_mark: bool
) -> Sent:
    """Make the begin of a session, by whether a session and a mark were there when this was read."""
    txn = join(_session(generation, holder, mark), _holder_read(has_session, has_mark))
    return _compile("join", place, (), txn)


@cache
def end_former(place: int, generation: str, holder: str) -> Sent:
    """Make the end of the session of a holder that this place will no longer be."""
    return _compile(
        "former", place, (), end_former_session(_keys(generation), holder, _holder_read(True, True))
    )


@cache
def live(place: int, generation: str, holder: str, mark: int) -> Sent:
    """Make the end of a join."""
    return _compile("live", place, (), go_live(_session(generation, holder, mark), "{}"))


@cache
def register_copies(
    place: int,
    generation: str,
    holder: str,
    session: int,
    numbers: tuple[int, ...],
    mark: int,
    last_mark: int,
) -> Sent:
    """Make the registration of copies; `last_mark`: the last that is done."""
    copies = {digest(number): 1 for number in numbers}
    txn = register(_session(generation, holder, session), copies, _marks(mark, last_mark), 0)
    return _compile("register", place, numbers, txn)


def _marks(mark: int, last_mark: int) -> NewMark:
    return NewMark(f"{mark:016x}", f"{last_mark:016x}")


@cache
def take_copies_out(
    place: int,
    generation: str,
    holder: str,
    session: int,
    numbers: tuple[int, ...],
    mark: int,
    last_mark: int,
) -> Sent:
    """Make the removal of copies that are not there."""
    digests = [digest(number) for number in numbers]
    return _compile(
        "out",
        place,
        numbers,
        take_out(_session(generation, holder, session), digests, _marks(mark, last_mark)),
    )


@cache
def settle_release(
    place: int, generation: str, holder: str, session: int, number: int, mark: int, last_mark: int
) -> Sent:
    """Make the mark of a release that was granted."""
    marks = _marks(mark, last_mark)
    txn = settle_releases(_session(generation, holder, session), [digest(number)], marks)
    return _compile("settle", place, (number,), txn)


@cache
def taken_token(place: int, generation: str, holder: str, session: int, number: int, lease: int) -> Sent:
    """Make the taking of a deletion token."""
    txn = take_token(_session(generation, holder, session), number, lease, "policy")
    return _compile("token", place, (), txn)


class View(NamedTuple):
    """What one reads before a release."""

    holders: tuple[str, ...]
    """Who has the copy registered."""
    live: tuple[str, ...]
    drained: tuple[str, ...]
    settings: str
    is_rolled_back: bool
    used: str | None


class Terms(NamedTuple):
    """The settings of all hosts."""

    min_copies: int = 1
    hot_copies: int = 0
    """0: nothing is ever hot."""


@cache
def release_copy(
    place: int, generation: str, holder: str, session: int, number: int, token: int, view: View, terms: Terms
) -> Sent | None:
    """Make the release of a copy by what was read; None: the product judges that it stays."""
    keys = _keys(generation)
    name = digest(number)
    holdings = {
        each: _read(keys.holding(name, each), '{"b":1,"t":"2029-12-31T00:00:00Z"}') for each in view.holders
    }
    copy = CopyRead(
        name,
        view.used,
        0 if view.used is None else _FRESH,
        {each: found for each, found in holdings.items() if found is not None},
        False,
    )
    read = FleetRead(
        is_in_session=True,
        settings=FleetSettings(paused=Paused("x", NOW, "x") if view.settings == PAUSED else None),
        settings_revision=_FRESH,
        is_rolled_back=view.is_rolled_back,
        token=None,
        live=frozenset(view.live),
        drained=frozenset(view.drained),
    )
    rules = CopyRules(
        min_copies=terms.min_copies,
        hot_for=timedelta(hours=1) if terms.hot_copies else timedelta(0),
        hot_copies=terms.hot_copies or 1,
    )
    judged = judge_release(copy, read, rules, holder, NOW)
    if isinstance(judged, ReleaseOutcome):
        return None
    txn = release(_session(generation, holder, session), copy, read, judged, token)
    return _compile("release", place, (number,), txn)


def _compile(kind: str, place: int, about: tuple[int, ...], txn: Txn) -> Sent:
    compares = tuple(_compiled_compare(compare) for compare in txn.compares)
    operations = [_compiled_operation(operation) for operation in txn.success]
    return Sent(kind, place, about, compares, tuple(each for each in operations if each is not None))


def _compiled_compare(compare: store.Compare) -> Compare:
    key = compare.key.removeprefix(_ROOT)
    match compare:
        case store.Compare(target="VALUE", result="EQUAL"):
            return "VALUE", key, _value(str(compare.value))
        case store.Compare(target="MOD" | "CREATE", result="EQUAL", value=0):
            return "ABSENT", key, ""
        case store.Compare(target="MOD", result="EQUAL", value=1000):
            return "FRESH", key, ""
        case store.Compare(target="CREATE", result="GREATER", value=0):
            return "EXISTS", key, ""
    raise ValueError(f"the explorer does not know this comparison: {compare}")


def _compiled_operation(operation: store.Operation) -> Operation | None:
    match operation:
        case store.Put(key, value, lease):
            key = key.removeprefix(_ROOT)
            kind = key.split("/")[1]
            # What a host tells of itself is read by people only.
            return None if kind == "i" else ("PUT", key, "" if kind == "d" else _value(value), lease)
        case store.Delete(key, ""):
            return "DELETE", key.removeprefix(_ROOT), "", 0
    raise ValueError(f"the explorer does not know this operation: {operation}")


def _value(text: str) -> Value:
    if _MARK.fullmatch(text):
        return int(text, 16)
    token = _TOKEN.fullmatch(text)
    return text if token is None else (token[1], int(token[2], 16))
