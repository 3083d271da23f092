"""The JSON documents of images and plans: one class each, for encoding, decoding and the schema.

Every field is always present, except those that are `UNSET`; times are RFC 3339 in UTC with nanoseconds, or
null. Defaults stand for fields that an engine started before an upgrade does not write. Constraints that are
only part of the schema are not checked.
"""

import json
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hmret.model.images import Cause
from hmret.model.verdicts import Action, Reason

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Time = Annotated[
    str,
    Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$", extra_json_schema={"format": "date-time"}),
]
Digest = Annotated[str, Meta(extra_json_schema={"pattern": "^sha256:[0-9a-f]{64}$"})]
Texts = tuple[str, ...]
VmNames = Annotated[dict[str, str], Meta(description="The names of those in `referenced_by` that have one.")]

_encode = msgspec.json.Encoder().encode


class Document(msgspec.Struct, frozen=True, gc=False):
    """A JSON object in a response; gc=False: there may be 100,000, and none is part of a cycle."""


def encode_document(document: Document | Mapping[str, object]) -> bytes:
    """Encode a document as JSON on one line; file names that are not valid UTF-8 are escaped."""
    try:
        return _encode(document)
    except UnicodeEncodeError:
        return json.dumps(document, default=msgspec.to_builtins).encode()


class SuspensionDocument(Document, frozen=True):
    """Why nothing is deleted; `detail` includes the remedy."""

    cause: Cause
    path: str
    detail: str


class HolderDocument(Document, frozen=True):
    """A repository that keeps an image that it shares."""

    repository: str
    reason: Reason


class ImageDocument(Document, frozen=True):
    """An image with its verdict."""

    repository: str
    digest: Digest
    tags: Texts
    status: str
    size_bytes: int
    disk_bytes: Count
    action: Action
    reason: Reason
    referenced_by: Texts
    unused_since: Time | None
    expires_at: Time | None
    shared_with: Annotated[Texts, Meta(description="Other repositories that have the same content.")] = ()
    held_by: Annotated[
        tuple[HolderDocument, ...],
        Meta(description="Those of them that keep this image although it is due here."),
    ] = ()
    copies_elsewhere: Annotated[
        Count | None,
        Meta(
            description="How many other live hosts of the fleet have it; null: not asked, not known, no fleet."
        ),
    ] = None


class CoveringLeaseDocument(Document, frozen=True):
    """A lease that keeps an image; `expires_at` is null if it ends with its holder."""

    owner: str
    reason: str
    expires_at: Time | None


class ExplainedDocument(ImageDocument, frozen=True, kw_only=True):
    """An image with every reason that applies."""

    blockers: tuple[Reason, ...]
    detail: Annotated[
        str | None, Meta(description="What is wrong or unusual, with the remedy; null: nothing.")
    ]
    rule: Annotated[
        int | None, Meta(description="The number of the rule that applies, from 1; null: none.")
    ] = None
    vm_names: VmNames = {}
    paths: Annotated[Texts, Meta(description="Its folders: the content, and the repository's own.")] = ()
    leases: Annotated[tuple[CoveringLeaseDocument, ...], Meta(description="The leases that cover it.")] = ()


class DifferenceDocument(ImageDocument, frozen=True, kw_only=True):
    """An image that only one of two policies would delete; `reason` is the candidate's."""

    reason_in_force: Reason


class SummaryDocument(Document, frozen=True):
    """A plan's totals."""

    images: Count
    delete: Count
    delete_bytes: Count
    mark: Count
    clear: Count
    keep: Count
    prune: Count


class ComparisonDocument(Document, frozen=True):
    """What a candidate policy would change."""

    in_force: SummaryDocument
    newly_go: tuple[DifferenceDocument, ...]
    newly_stay: tuple[DifferenceDocument, ...]


class StaleReferenceDocument(Document, frozen=True):
    """A reference to an image that is not here."""

    source: str
    image: str


class PlanHead(Document, frozen=True):
    """A plan without its images; `enabled`: whether a sweep would actually follow it."""

    at: Time
    data_dir: str
    enabled: bool
    suspended: tuple[SuspensionDocument, ...]
    stale_references: tuple[StaleReferenceDocument, ...]
    summary: SummaryDocument
    vm_names: VmNames = {}


class PlanDocument(PlanHead, frozen=True, kw_only=True):
    """What a sweep would do; `enabled`: whether it would actually do so."""

    images: tuple[ImageDocument, ...]


class CandidatePlanDocument(PlanDocument, frozen=True, kw_only=True):
    """With a comparison if the settings differ from those in force."""

    comparison: ComparisonDocument | UnsetType = UNSET


def cell_text(value: object) -> str:
    """Return a value of a document as a cell of CSV.

    Null is empty; elements of a list are separated by blanks, those of an object by colons.
    """
    match value:
        case None:
            return ""
        case tuple():
            return " ".join(map(cell_text, value))
        case Document():
            return ":".join(map(cell_text, msgspec.structs.astuple(value)))
    return str(value)
