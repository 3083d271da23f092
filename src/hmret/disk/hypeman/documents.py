"""The contents of hypeman's files: only the fields that matter are read, and states are written exactly as Go does.

Go matches the keys of a guest's metadata in any case, so here they are matched by their case-folded form.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec

from hmret.model.errors import InvalidReferenceError
from hmret.model.origins import LABEL
from hmret.model.references import Reference, parsed
from hmret.model.times import format_time, parse_time

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

# The limit of Go's own 64 bits, in bytes and in nanoseconds since the epoch (the years 1678 to 2261).
_MOST = 2**63 - 1
_SizeBytes = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]


class UnreadableError(Exception):
    """A file does not hold what it should; the message says what is wrong, in lower case."""


class _Labels(msgspec.Struct, gc=False):
    """The only label that matters; an image may have very many."""

    pullable: str | None = msgspec.field(name=LABEL, default=None)


class _Machine(msgspec.Struct, gc=False):
    """The only field that matters of a machine image's description."""

    base: str | None = None


class ImageMetadata(msgspec.Struct, gc=False):
    """The fields that matter of an image's metadata."""

    name: str = ""
    digest: str = ""
    status: str = ""
    size_bytes: _SizeBytes = 0
    created_at: str | None = None
    labels: _Labels | None = None
    machine: _Machine | None = None

    @property
    def base(self) -> str:
        """The image that this one needs, as a reference by digest; empty: none, or no valid reference."""
        text = "" if self.machine is None else self.machine.base or ""
        try:
            return text if text and parsed(text).digest is not None else ""
        except InvalidReferenceError:
            return ""

    @property
    def pullable(self) -> bool | None:
        """Whether it can be pulled again, by its label; None: the label is absent.

        A label that is neither `true` nor `false` counts as false: in doubt an image is kept.
        """
        label = None if self.labels is None else self.labels.pullable
        return None if label is None else label.lower() == "true"

    @property
    def created_ns(self) -> int | None:
        """`created_at` in nanoseconds; None where it is absent, unreadable, or out of range."""
        try:
            return None if self.created_at is None else _bounded(parse_time(self.created_at))
        except ValueError:
            return None


class _State(msgspec.Struct, gc=False):
    repository: str
    digest: str
    unused_since: str | None = None


class _Guest(msgspec.Struct, gc=False):
    Image: str | None = None
    ResolvedImage: str | None = None
    CreatedAt: str | None = None
    Name: str | None = None


class _Key(str):
    """A key that equals no other, so that a key that occurs twice in an object is not lost."""

    __slots__ = ()
    __hash__ = object.__hash__


# The lengths of the keys that are read; folding changes no key's length so that it could become one of them.
_LENGTHS = frozenset(map(len, ("Image", "ResolvedImage", "CreatedAt", "Name")))

# Longer than any name that is shown; every name is held in memory.
_LONGEST_NAME = 255

_GUEST_KEYS = (b'"image"', b'"resolvedimage"', b'"createdat"')
_QUOTED_KEYS = (*_GUEST_KEYS, b'"stored_metadata"')

_STATE_END = '"\n}'
_image_decoder = msgspec.json.Decoder(ImageMetadata)
_state_decoder = msgspec.json.Decoder(_State)
_guest_decoder = msgspec.json.Decoder(_Guest)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any_object_decoder = msgspec.json.Decoder(dict[_Key, msgspec.Raw], dec_hook=lambda _type, text: _Key(text))
_text_decoder = msgspec.json.Decoder(str | None)

FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises: RecursionError for deep nesting, and UnicodeDecodeError for text that is not UTF-8."""


def read_image_metadata(content: bytes) -> ImageMetadata:
    """Read an image's metadata.json; a field of another type than it should have counts as absent.

    Raises:
        UnreadableError: it is not a JSON object.
    """
    try:
        return _image_decoder.decode(content)
    except msgspec.ValidationError:
        return decode_by_field(content, ImageMetadata)
    except FAULTS as error:
        raise UnreadableError(fault_of(error)) from None


def decode_by_field(content: bytes, kind: type[S]) -> S:
    """Decode a JSON object in which fields have unexpected types; those count as absent, and all others count.

    Raises:
        UnreadableError: it is not a JSON object.
    """
    members = {str(key): value for key, value in _members(content)}
    made = kind()
    for field in msgspec.structs.fields(kind):
        if field.name in members:
            with suppress(msgspec.ValidationError):
                setattr(made, field.name, msgspec.json.decode(members[field.name], type=field.type))
    return made


def read_document(content: bytes, kind: type[T]) -> T:
    """Read a JSON document of a type.

    Raises:
        UnreadableError: it is none.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except FAULTS as error:
        raise UnreadableError(fault_of(error)) from None


def read_state(content: bytes, repository: str, digest: str) -> int | None:
    """Read a retention state; returns `unused_since` in nanoseconds, None where it is unset or out of range.

    Raises:
        UnreadableError: it does not parse, or names another image than its path does.
    """
    # The form in which hypeman and hmret write it.
    head = f'{{\n  "repository": "{repository}",\n  "digest": "{digest}",\n  "unused_since": "'
    text = content.decode("utf-8", "surrogateescape")
    if text.startswith(head) and text.endswith(_STATE_END):
        try:
            return _bounded(parse_time(text[len(head) : -len(_STATE_END)]))
        except ValueError:
            pass
    try:
        state = _state_decoder.decode(content)
        since_ns = None if state.unused_since is None else parse_time(state.unused_since)
    except FAULTS as error:
        raise UnreadableError(fault_of(error)) from None
    if (state.repository, state.digest) != (repository, digest):
        raise UnreadableError(f"it names {state.repository}@{state.digest}")
    return None if since_ns is None else _bounded(since_ns)


def _bounded(moment_ns: int) -> int | None:
    """Return a time that is plausible, else None; Go's zero time, the year 1, stands for no time."""
    return moment_ns if abs(moment_ns) <= _MOST else None


def encode_state(repository: str, digest: str, unused_since_ns: int) -> bytes:
    """Write a retention state, byte for byte as Go's `json.MarshalIndent` does."""
    state = _State(repository=repository, digest=digest, unused_since=format_time(unused_since_ns))
    return msgspec.json.format(msgspec.json.encode(state), indent=2)


def read_guest(content: bytes | msgspec.Raw, source: str) -> tuple[Reference, ...]:
    """Read the references of a guest's metadata.

    Keys are matched in any case; if one occurs in several spellings, each value protects.

    Raises:
        UnreadableError: it is not a JSON object, or `Image` or `ResolvedImage` is not a string or not a reference.
    """
    reference = _read_usual_guest(bytes(content), source)
    return _read_any_guest(content, source) if reference is None else (reference,)


def _read_usual_guest(text: bytes, source: str) -> Reference | None:
    """Read metadata as hypeman writes it, in a tenth of the time; None where it may have another form.

    Each key must occur at most once, in whatever spelling, and in the place where hypeman writes it.
    """
    lowered = text.lower()
    counts = [lowered.count(key) for key in _GUEST_KEYS]
    if max(counts) > 1 or not lowered.isascii() or b"\\u" in lowered:
        return None
    try:
        guest = _guest_decoder.decode(text)
    except FAULTS:
        return None
    if [guest.Image is not None, guest.ResolvedImage is not None, guest.CreatedAt is not None] != counts:
        return None
    image, resolved = guest.Image or "", guest.ResolvedImage or ""
    if not image and not resolved:
        return None
    try:
        for named in filter(None, (image, resolved)):
            parsed(named)
    except InvalidReferenceError:
        return None
    return Reference(
        source,
        image,
        resolved,
        _moment_of(guest.CreatedAt),
        name=_shortened_name(guest.Name),
    )


def _read_any_guest(content: bytes | msgspec.Raw, source: str) -> tuple[Reference, ...]:
    images: list[str] = []
    resolved: list[str] = []
    created_at = None
    name = ""
    for key, value in _members(content):
        if len(key) not in _LENGTHS:
            continue
        match key.casefold():
            case "image":
                images += _reference_text(key, value)
            case "resolvedimage":
                resolved += _reference_text(key, value)
            case "createdat":
                created_at = _moment_of(_text_in(value))
            case "name":
                name = _shortened_name(_text_in(value)) or name
    if not images and not resolved:
        return ()
    return tuple(
        Reference(source, image, pinned, created_at, name=name)
        for image in images or [""]
        for pinned in resolved or [""]
    )


def read_snapshot(content: bytes, source: str) -> tuple[Reference, ...]:
    """Read the references of a snapshot: those of the guest's metadata that it stores, if it does.

    Raises:
        UnreadableError: as `read_guest`.
    """
    references: tuple[Reference, ...] = ()
    for key, value in _members(content):
        if key.casefold() == "stored_metadata" and bytes(value).strip() != b"null":
            references += read_guest(value, source)
    return references


def _members(content: bytes | msgspec.Raw) -> list[tuple[str, msgspec.Raw]]:
    text = bytes(content)
    decoder = _object_decoder if _has_each_key_once(text) else _any_object_decoder
    try:
        return list(decoder.decode(text).items())
    except FAULTS as error:
        raise UnreadableError(fault_of(error)) from None


def _has_each_key_once(text: bytes) -> bool:
    """Return quickly whether no key that is read can occur twice, in any spelling."""
    lowered = text.lower()
    return (
        lowered.isascii() and b"\\u" not in lowered and all(lowered.count(key) <= 1 for key in _QUOTED_KEYS)
    )


def _reference_text(key: str, value: msgspec.Raw) -> list[str]:
    try:
        text = _text_decoder.decode(value)
    except FAULTS:
        raise UnreadableError(f"{key} is not a string") from None
    if not text:
        return []
    try:
        parsed(text)
    except InvalidReferenceError as error:
        raise UnreadableError(f"{key}: {error}") from None
    return [text]


def _text_in(value: msgspec.Raw) -> str | None:
    """Read a text on which no reference depends; None: it is anything else."""
    try:
        text: str | None = _text_decoder.decode(value)
    except FAULTS:
        return None
    return text


def _shortened_name(name: str | None) -> str:
    return (name or "")[:_LONGEST_NAME]


def _moment_of(text: str | None) -> datetime | None:
    try:
        return None if text is None else _aware(datetime.fromisoformat(text))
    except ValueError:
        return None


def _aware(moment: datetime) -> datetime | None:
    """Return a time that has a zone and exists in UTC, else None; Go's zero time, the year 1, stands for none."""
    if moment.utcoffset() is None or moment.year == 1:
        return None
    with suppress(OverflowError):
        moment.astimezone(UTC)
        return moment
    return None


def fault_of(error: Exception) -> str:
    """Return in one line why a document cannot be read."""
    return " ".join(str(error).split()) or type(error).__name__
