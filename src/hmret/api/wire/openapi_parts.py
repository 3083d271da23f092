"""The parts that schemas of the control API are made of."""

from collections.abc import Mapping, Sequence

from hmret.api.wire.documents import Document
from hmret.model.images import Cause
from hmret.model.plan.decide import Action, Reason
from hmret.model.report import SweepStatus

__all__ = [
    "COUNT",
    "DIGEST",
    "FLAG",
    "GIVEN_DIGEST",
    "IMAGE",
    "SECONDS",
    "TEXT",
    "TEXTS",
    "TIME",
    "TIME_OR_NONE",
    "TTL",
    "body_of",
    "object_of",
    "one_of",
    "ref",
]

TEXT: Document = {"type": "string"}
FLAG: Document = {"type": "boolean"}
COUNT: Document = {"type": "integer", "minimum": 0}
SECONDS: Document = {"type": "number", "minimum": 0}
TIME: Document = {"type": "string", "format": "date-time"}
TIME_OR_NONE: Document = {"type": ["string", "null"], "format": "date-time"}
TEXTS: Document = {"type": "array", "items": TEXT}
DIGEST: Document = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
IMAGE: Document = {
    "type": "string",
    "minLength": 1,
    "description": "A reference by tag or digest, as people type it: `alpine:3.20`.",
    "examples": ["alpine:3.20"],
}
GIVEN_DIGEST: Document = {
    "type": ["string", "null"],
    "pattern": "^(sha256:)?[0-9a-f]{64}$",
    "description": "Counts instead of what the reference says.",
}
TTL: Document = {
    "description": "How long the lease lasts from now: seconds as a number, or a duration as text, such as `10m` or `7d`.",
    "oneOf": [
        {"type": "number", "minimum": 0.001, "maximum": 9_000_000_000},
        {"type": "string", "pattern": r"^[1-9][0-9]{0,5}(s|m|h)$"},
    ],
    "examples": ["10m", 600],
}


def object_of(properties: Mapping[str, object], description: str = "") -> Document:
    """Describe an object of which every property is always there."""
    document: Document = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
    }
    return {**document, "description": description} if description else document


def body_of(properties: Mapping[str, object], required: Sequence[str]) -> Document:
    """Describe what a client sends: some properties are required, and there are no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def one_of(
    words: "Mapping[str, object] | Sequence[str] | type[Action | Reason | Cause | SweepStatus]",
) -> Document:
    """Describe a text that is one of some words."""
    return {"type": "string", "enum": [str(word) for word in words]}


def ref(schema: str) -> Document:
    """Point to a schema."""
    return {"$ref": f"#/components/schemas/{schema}"}
