"""Deletions as tests ask for them, and what became of them."""

import attrs

from hmret.disk.deletion.outcomes import Outcome, Retired
from hmret.disk.deletion.trash.intents import Copy, Intent, Link
from hmret.model.deletion import Deletion, DueRow
from hmret.model.references import Key

__all__ = ["deletion", "intent", "key_of", "plain", "tags_gone"]


def deletion(
    repository: str, digest: str, unused_since_ns: int, *others: DueRow, is_content: bool = False
) -> Deletion:
    """Return the deletion of an image, of which nothing but its timers matters."""
    return Deletion(digest, (DueRow(repository, unused_since_ns), *others), is_content)


def intent(
    repository: str,
    digest: str,
    unused_since_ns: int,
    name: str,
    *links: Link,
    copies: tuple[Copy, ...] = (),
    is_content: bool = False,
) -> Intent:
    """Return an intent; without `copies`, one of a repository's own folder as older releases wrote it."""
    asked = deletion(repository, digest, unused_since_ns, is_content=is_content)
    if not copies:
        return Intent.bare(asked, name, links)
    return Intent(digest, asked.rows, is_content, name, copies, links)


def key_of(outcome: Outcome) -> Key:
    """Return the key of the first row of an image."""
    return outcome.intent.key if isinstance(outcome, Retired) else outcome.deletion.key


def tags_gone(outcome: Retired) -> tuple[str, ...]:
    """List the tags of the first row of an image that went with it."""
    return outcome.intent.tags_of(outcome.intent.repository, outcome.links)


def plain(outcome: Outcome) -> Outcome:
    """Return an outcome with the deletion as it was asked for, if the image stays."""
    if isinstance(outcome, Retired):
        return outcome
    found = outcome.deletion
    return attrs.evolve(outcome, deletion=Deletion(found.digest, found.rows, found.is_content))
