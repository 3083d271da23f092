"""The JSON documents that displays of an engine ask for beside its plan; one class each, as in `structs`."""

import datetime as dt
from typing import Annotated, Any, Literal

from msgspec import Meta

from hmret.api.wire.structs import Count, Digest, Document, Seconds, Texts, Time
from hmret.engine.overview.space import SpaceState
from hmret.model.verdicts import Reason

LARGEST_LIST = 1000
"""Maximum number of repositories or users in one page."""

MOST_PAST_DAYS = 366
"""Maximum number of days of the past that a client may ask for."""


class WentDocument(Document, frozen=True):
    """The images of one UTC day to which the same happened for the same reason."""

    date: dt.date
    event: Literal["delete", "release", "restore", "recover"]
    reason: Annotated[str, Meta(description="Why they were deleted; empty: it is not known.")]
    images: Count
    bytes: Annotated[Count, Meta(description="Blocks that came free; 0 for what went into quarantine.")]


class HistoryDocument(Document, frozen=True):
    """What went, by the journal, over restarts too; `begins_at`: of the oldest entry, null: there is none."""

    at: Time
    journal: Annotated[bool, Meta(description="Whether a journal is written.")]
    begins_at: Time | None
    days: Annotated[tuple[WentDocument, ...], Meta(description="The newest first.")]
    events: Annotated[
        tuple[dict[str, Any], ...],
        Meta(max_length=100, description="The latest events, oldest first, without sweeps that did nothing."),
    ]
    last_event_id: Annotated[str, Meta(description="The value of `after` for the events after these.")]
    unreadable: Annotated[Texts, Meta(description="The files of the journal that cannot be read.")]


class SpaceDocument(Document, frozen=True):
    """The disk of the images, its limits, and what they would have go; null: there is none, or it is not known."""

    at: Time
    state: SpaceState
    detail: str
    total_bytes: Count | None
    used_bytes: Count | None
    available_bytes: Count | None
    images_bytes: Count
    quarantine_bytes: Count
    trash_bytes: Count
    other_bytes: Count | None
    high_watermark: Annotated[str | None, Meta(description="As a percentage.")]
    low_watermark: str | None
    max_used: Annotated[str | None, Meta(description="As a percentage, or bytes.")]
    high_bytes: Count | None
    low_bytes: Count | None
    max_used_bytes: Count | None
    excess_bytes: Annotated[Count, Meta(description="What has to come free; 0: no limit is exceeded.")]
    going_images: Annotated[Count, Meta(description="Images that the last plan deletes to free space.")]
    retry_seconds: Seconds | None


class UsedImageDocument(Document, frozen=True):
    """An image that somebody needs."""

    repository: str
    digest: Digest
    tags: Texts
    disk_bytes: Count


class UserDocument(Document, frozen=True):
    """Who needs images: `instance/ID`, `snapshot/ID` or an embedder's own name; `name`: of the VM, null: it has none."""

    user: str
    name: str | None
    images: Annotated[tuple[UsedImageDocument, ...], Meta(max_length=100)]
    total: Annotated[Count, Meta(description="All images that it keeps; `images` lists a hundred at most.")]
    missing: Annotated[Texts, Meta(description="Images that it names and that are not here.")]


class UsersDocument(Document, frozen=True):
    """Who needs which images, by id; `next` is the value of `after` for the next page, null: this is the last."""

    at: Time
    total: Count
    matched: Count
    users: Annotated[tuple[UserDocument, ...], Meta(max_length=LARGEST_LIST)]
    next: str | None


class NextDocument(Document, frozen=True):
    """The image that goes next."""

    digest: Digest
    tags: Texts
    reason: Reason
    expires_at: Time | None


class RepositoryDocument(Document, frozen=True):
    """The images of a repository; `next` is null if none of them goes by what is known now."""

    repository: str
    images: Count
    bytes: Annotated[Count, Meta(description="Blocks; shared content counts for each repository.")]
    shared_bytes: Annotated[Count, Meta(description="What of it others share.")]
    newest: Annotated[Time | None, Meta(description="When its newest image was made; null: not known.")]
    rules: Annotated[
        tuple[int, ...], Meta(description="The numbers of the rules that apply to its images, from 1.")
    ]
    unruled_images: Annotated[Count, Meta(description="Images to which no rule applies.")]
    next: NextDocument | None


class RepositoriesDocument(Document, frozen=True):
    """The repositories; `next` is the value of `after` for the next page, null: this is the last."""

    at: Time
    total: Count
    matched: Count
    repositories: Annotated[tuple[RepositoryDocument, ...], Meta(max_length=LARGEST_LIST)]
    next: str | None


class SettingDocument(Document, frozen=True):
    """A setting in force; `program`: a server that embeds the engine has set it."""

    key: str
    value: Annotated[Any, Meta(description="Durations are seconds, sizes bytes, shares percentages as text.")]
    text: Annotated[
        str, Meta(description="The value as a config file has it, a line for each rule; empty: unset.")
    ]
    source: Literal["default", "file", "environment", "flag", "program"]
    where: Annotated[str | None, Meta(description="The file and line, the variable or the option.")]
    description: str
    is_policy: Annotated[bool, Meta(description="Whether it decides what is deleted.")]


class PolicyDocument(Document, frozen=True):
    """The settings in force, and what of those read last is not."""

    since: Time | None
    refused: Annotated[
        str | None, Meta(description="Why the settings read last are not in force; null: they are.")
    ]
    restart_needed: Annotated[
        Texts, Meta(description="Settings whose new value takes effect after a restart.")
    ]
    config_files: Texts
    warnings: Texts
    settings: tuple[SettingDocument, ...]
