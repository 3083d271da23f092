"""The JSON documents of a fleet, and what clients send to change it; one class each, as in `structs`.

Null stands for what is not known.
"""

from typing import Annotated

from msgspec import Meta

from hmret.api.wire.structs import Count, Digest, Document, ImageDocument, Texts, Time
from hmret.api.wire.structs_requests import Body
from hmret.model.fleet import FleetState

_LONGEST_TEXT = 1024
_Text = Annotated[str, Meta(max_length=_LONGEST_TEXT)]
_By = Annotated[_Text, Meta(description="Who does this, for other operators to see.")]
_Host = Annotated[
    str,
    Meta(description="The name of a host, or of one of its holders.", min_length=1, max_length=_LONGEST_TEXT),
]
_Holder = Annotated[str, Meta(description="A host's name and the id of its data directory.")]


class PausedDocument(Document, frozen=True):
    """Who has paused all deletions."""

    by: str
    at: Time
    reason: str


class FleetSettingsDocument(Document, frozen=True):
    """The settings that all hosts of a fleet share."""

    min_copies: Count
    budget: Annotated[
        str, Meta(description="Releases in a token period: a share of all copies as `5%`, or a number.")
    ]
    tokens: Count
    canary: Annotated[str, Meta(description="A duration as `1h`.")]
    forget_after: Annotated[str, Meta(description="A duration as `720h`; `0s`: never.")]
    paused: PausedDocument | None


class FleetSettingsChangedDocument(Document, frozen=True):
    """The settings after a change."""

    settings: FleetSettingsDocument


class DrainedDocument(Document, frozen=True):
    """Who has drained a host."""

    by: str
    at: Time | None
    reason: str


class TakenTokenDocument(Document, frozen=True):
    """A deletion token, and who has it."""

    token: str
    holder: _Holder


class EtcdDocument(Document, frozen=True):
    """The member of etcd that answered."""

    version: str | None
    size_bytes: Count | None
    quota_bytes: Count | None
    alarms: Texts
    warnings: Annotated[Texts, Meta(description="What to do something about, each with its remedy.")]


class FleetHostDocument(Document, frozen=True):
    """A host, as far as it has told of itself."""

    host: str
    holder: _Holder
    live: Annotated[bool, Meta(description="Whether it has a session, so that its copies count.")]
    last_seen: Annotated[Time | None, Meta(description="When its last sweep was.")]
    drained: DrainedDocument | None
    copies: Count | None
    bytes: Count | None
    due: Annotated[Count | None, Meta(description="Images that are due now.")]
    due_24h: Annotated[Count | None, Meta(description="Images that are due within a day, those included.")]
    policy: Annotated[str | None, Meta(description="The fingerprint of its policy.")]
    version: str | None
    last_sweep: Time | None


class FleetDocument(Document, frozen=True):
    """The fleet of this host; without a contact to etcd what this host knows of it."""

    fleet: str
    generation: str | None
    state: FleetState
    detail: Annotated[str | None, Meta(description="What is wrong, with the remedy; null: nothing.")]
    host: str
    holder: _Holder | None
    last_contact: Annotated[Time | None, Meta(description="When etcd last answered this host's engine.")]
    settings: FleetSettingsDocument | None
    tokens_taken: tuple[TakenTokenDocument, ...]
    etcd: EtcdDocument
    hosts: tuple[FleetHostDocument, ...]


class HeldCopyDocument(Document, frozen=True):
    """A host's copy of an image."""

    host: str
    holder: _Holder
    here: Annotated[bool, Meta(description="Whether it is the one in this data directory.")]
    since: Time | None
    bytes: Count | None
    counted: bool
    not_counted: Annotated[str | None, Meta(description="`dead` or `drained`; null: it counts.")]


class FleetHoldingsDocument(Document, frozen=True):
    """Who holds an image."""

    digest: Digest
    min_copies: Count
    counted: Annotated[Count, Meta(description="All copies that count.")]
    spare: Annotated[Count, Meta(description="How many of them are above `min_copies`.")]
    last_used: Annotated[Time | None, Meta(description="The last use on any host.")]
    holders: tuple[HeldCopyDocument, ...]


class FleetBudgetDocument(Document, frozen=True):
    """How many copies may go in one token period, and for how many of them tokens are taken."""

    releases: Count
    taken: Count


class FleetPlanDocument(Document, frozen=True):
    """What would go where; `braked`: no deletion token is free for this host."""

    at: Time
    budget: FleetBudgetDocument
    braked: bool
    hosts: tuple[FleetHostDocument, ...]
    images: Annotated[
        tuple[ImageDocument, ...], Meta(description="Those of this host that have expired, as in a plan.")
    ]


class LastCopyDocument(Document, frozen=True):
    """A copy on a drained host without which too few would count."""

    holder: _Holder
    digest: Digest
    bytes: Count | None


class DrainDocument(Document, frozen=True):
    """The holders that are drained, and what must be copied from them before they may go."""

    holders: Texts
    last_copies: tuple[LastCopyDocument, ...]


class FleetHoldersDocument(Document, frozen=True):
    """The holders that a call was about."""

    holders: Texts


class FleetGenerationDocument(Document, frozen=True):
    """A fleet that was made, or begun anew."""

    fleet: str
    generation: str


class PauseBody(Body):
    """`POST /v1/fleet/pause`."""

    by: _By = ""
    reason: _Text = ""


class SetBody(Body):
    """`POST /v1/fleet/set`."""

    key: Annotated[_Text, Meta(examples=["budget"])]
    value: Annotated[_Text, Meta(examples=["5%"])]


class DrainBody(Body):
    """`POST /v1/fleet/drain`."""

    host: _Host
    by: _By = ""
    reason: _Text = ""


class HostBody(Body):
    """`POST /v1/fleet/undrain` and `POST /v1/fleet/forget`."""

    host: _Host
