"""The JSON documents that clients send: one class each, for both decoding and the schema.

Unknown fields are rejected. Constraints that are only part of the schema are checked where the field is used.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

_LONGEST_TEXT = 1024

GivenImage = Annotated[
    str,
    Meta(
        description="A reference by tag or digest, as typed by people: `alpine:3.20`.",
        examples=["alpine:3.20"],
        extra_json_schema={"minLength": 1},
    ),
]
_Ttl = Annotated[
    Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": 9_223_372_036})]
    | Annotated[str, Meta(extra_json_schema={"pattern": r"^([1-9][0-9]{0,5}(s|m|h)|[1-9][0-9]{0,4}d)$"})],
    Meta(
        description="The duration of the lease from now: seconds as a number, or a text such as `10m` or `7d`.",
        examples=["10m", 600],
    ),
]
_Text = Annotated[str, Meta(extra_json_schema={"maxLength": _LONGEST_TEXT})]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A JSON object that a client sends."""


def has_required_fields(kind: type[msgspec.Struct]) -> bool:
    """Return whether a body of this kind must be sent: one that may be `{}` need not."""
    return any(field.required for field in msgspec.structs.fields(kind))


class MarkUsedBody(Body):
    """`POST /v1/mark-used`."""

    image: GivenImage
    digest: Annotated[
        Annotated[str, Meta(extra_json_schema={"pattern": "^(sha256:)?[0-9a-f]{64}$"})] | None,
        Meta(description="The image's digest; overrides the reference."),
    ] = None


class RestoreBody(MarkUsedBody):
    """`POST /v1/restore`."""


class ConfirmBody(Body):
    """`POST /v1/confirm`."""

    what: list[str] = []


class CandidateBody(Body):
    """`POST /v1/plan`."""

    settings: Annotated[
        dict[str, Any],
        Meta(
            description="Settings of the policy by dotted key, as check-config shows them; those in force apply otherwise."
        ),
    ]


class GrantLeaseBody(MarkUsedBody, kw_only=True):
    """`POST /v1/leases`."""

    ttl: _Ttl
    owner: _Text = ""
    reason: _Text = ""

    def __post_init__(self) -> None:
        for name in ("owner", "reason"):
            if len(getattr(self, name)) > _LONGEST_TEXT:
                raise ValueError(f"{name}: expected at most {_LONGEST_TEXT} characters")


class RenewLeaseBody(Body):
    """`PUT /v1/leases/{id}`."""

    ttl: _Ttl
