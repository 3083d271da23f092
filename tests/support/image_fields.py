"""The fields of an image in the JSON documents, in their order."""

__all__ = ["IMAGE_FIELDS"]

IMAGE_FIELDS = [
    "repository",
    "digest",
    "tags",
    "status",
    "size_bytes",
    "disk_bytes",
    "action",
    "reason",
    "referenced_by",
    "unused_since",
    "expires_at",
    "shared_with",
    "held_by",
    "copies_elsewhere",
]
