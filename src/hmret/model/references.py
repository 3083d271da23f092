"""Image references: which repository a text names, and which tag or digest in it.

Source of the grammar and of the normalisation: github.com/distribution/reference v0.6, `ParseNormalizedNamed`
and then `TagNameOnly`; where there is a digest, the tag beside it is dropped.
"""

import re
from datetime import datetime
from functools import lru_cache

import msgspec

from hmret.model.errors import InvalidReferenceError, quoted

_PATH_MAX = 255

# No two parts of the grammar can match the same character at the same position, so a text that does not match
# costs at most one pass of backtracking. A digest uses one of the three algorithms that can be verified;
# other digests that the grammar allows are refused right after parsing.
_HOST = (
    r"(?:[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*(?:\.[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"((?:{_HOST}/)?({_COMPONENT}(?:/{_COMPONENT})*))"
    r"(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}))?"
)
_BARE_HEX = re.compile(r"[0-9a-f]{64}")


Key = tuple[str, str]
"""Identifies an image: its normalised repository and its digest (`sha256:` and 64 hex digits)."""


class ImageReference(msgspec.Struct, frozen=True, gc=False):
    """A normalised image reference, by tag or by digest: `parse_reference` sets exactly one of the two."""

    repository: str
    """The repository in full, with its host: `docker.io/library/alpine`."""
    tag: str | None
    """The tag; None where there is a digest."""
    digest: str | None
    """The digest, `sha256:` (or `sha384:`, `sha512:`) and lower-case hex; None where there is a tag."""

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}" if self.digest is None else f"{self.repository}@{self.digest}"


class Reference(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One reference of something on the host to an image that it needs.

    Embedders return these from their own reference sources; for hypeman's metadata files hmret makes them
    itself.
    """

    source: str
    """What needs the image: `instance/ID`, `snapshot/ID` or an embedder's own name; shown to people."""
    image: str = ""
    """The reference as the user typed it, by tag or digest; empty: none."""
    resolved_image: str = ""
    """The digest-pinned reference that really boots. Empty: unknown, and then past targets of the tag count."""
    created_at: datetime | None = None
    """When the guest, snapshot or other source was made; None: not known."""
    saved_state: tuple[str, ...] | None = None
    """The images whose disks its saved state opens, as references by digest; they are in use too. Empty: the
    saved state names none. None: there is no saved state. A source with a saved state may have been forked
    from an older one, so its `created_at` proves nothing about what its tag pointed to when it was started.
    """
    name: str = ""
    """The name that people use for the source; shown beside `source`, otherwise unused. Empty: unknown."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All image references in it."""
        named = (self.image, self.resolved_image, *(self.saved_state or ()))
        return tuple(text for text in named if text)


def parse_reference(text: str) -> ImageReference:
    """Read an image reference as people type it: `alpine`, `ghcr.io/kernel/x:v1`, `alpine@sha256:…`.

    Parsing the text of the result gives the same result again. The time is linear in the length of the text.

    Raises:
        InvalidReferenceError: the text is not an image reference.
    """
    first, slash, rest = text.partition("/")
    if not slash:
        if _BARE_HEX.fullmatch(text) is not None:
            raise InvalidReferenceError(f"a bare hex digest is no image reference: {text!r}")
        full = f"docker.io/library/{text}"
    elif first in ("docker.io", "index.docker.io"):
        full = f"docker.io/{rest}" if "/" in rest else f"docker.io/library/{rest}"
    elif "." in first or ":" in first or first == "localhost" or first.lower() != first:
        full = text
    else:
        full = f"docker.io/{text}"
    match = _REFERENCE.fullmatch(full)
    if match is None:
        hint = (
            ""
            if _REFERENCE.fullmatch(full.lower()) is None
            else ", upper case where only lower case is allowed"
        )
        raise InvalidReferenceError(f"not an image reference{hint}: {quoted(text)}")
    repository, path, tag, digest = match.groups()
    if len(path) > _PATH_MAX:
        raise InvalidReferenceError(
            f"not an image reference, the path is longer than {_PATH_MAX}: {quoted(text)}"
        )
    if digest is not None:
        return ImageReference(repository, None, digest)
    return ImageReference(repository, tag or "latest", None)


def digest_in(text: str) -> str | None:
    """Return the digest that a text names: as `sha256:` and hex, as hex alone, or in a reference; None: it names none."""
    hexadecimal = text.removeprefix("sha256:")
    if _BARE_HEX.fullmatch(hexadecimal) is not None:
        return f"sha256:{hexadecimal}"
    try:
        return parse_reference(text).digest
    except InvalidReferenceError:
        return None


# Sized for the references of a large host's guests; each entry costs some 400 bytes.
parsed = lru_cache(maxsize=32_768)(parse_reference)
"""`parse_reference` with a cache, for texts that recur."""


def forget_references() -> None:
    """Empty the cache of `parsed`: after days of operation, few of the texts in it are still in use."""
    parsed.cache_clear()


def is_repository(name: str) -> bool:
    """Whether a text is a normalised repository, in full, and with neither tag nor digest."""
    try:
        return parse_reference(name).repository == name
    except InvalidReferenceError:
        return False
