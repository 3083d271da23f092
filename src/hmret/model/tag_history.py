"""What tags that guests and snapshots run from have pointed to, since the first such thing was seen.

A tag has one history for all things that name it. Two kinds of evidence go into it: the tag's target at each
look, and, for each thing that is seen for the first time, what the tag may have pointed to before that look.
A thing that is new at a look may have been made while the tag pointed to something that no look has seen,
whatever else is known of the tag; so a thing counts as seen by its own identity, never by its age alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from hmret.model.images import Image, Inventory, Remembered, Repository, Thing
from hmret.model.references import ImageReference, Reference, parsed
from hmret.model.times import SECOND, nanoseconds_of
from hmret.model.values import frozen

TagName = tuple[str, str]
"""A repository and a tag in it."""

_DOUBT_NS = 300 * SECOND
"""Times that lie no further apart may be in either order, since the clocks that made them need not agree."""
_HEX_DIGITS = 64
_NOTHING: frozenset[str] = frozenset()


@frozen
class TagHistory:
    """What the tags of one repository have pointed to."""

    remembered: Mapping[TagName, Remembered]
    """Input of the next plan."""
    undecided: Mapping[Reference, frozenset[str]]
    """Things that cannot be judged yet, with the digests that they may run from; the next look treats them as
    new again.
    """

    def digests(self, reference: Reference, tag: TagName) -> frozenset[str]:
        """Return the digests that a thing may run from, by a tag whose past targets count for it."""
        memory = self.remembered.get(tag)
        known = _NOTHING if memory is None else memory.digests
        return known | self.undecided.get(reference, _NOTHING)


@frozen
class _Sight:
    """The result of seeing a thing for the first time."""

    digests: frozenset[str] = _NOTHING
    """The digests that it may run from, beside those known of its tag."""
    is_final: bool = True


_NOT_SEEN = _Sight(is_final=False)


def recall(
    inventory: Inventory, name: str, *, is_hidden: bool, is_partial: bool, now_ns: int | None
) -> TagHistory:
    """Return what the tags of a repository have pointed to, up to now.

    Args:
        inventory: everything that is known of the cache.
        name: the repository.
        is_hidden: whether lookups in the repository follow a tag of another one, so that their targets are
            unknown.
        is_partial: whether some of the repository may not have been seen.
        now_ns: the time of the look, in nanoseconds; None: unknown, and then no age proves anything.
    """
    repository = inventory.repositories.get(name)
    remembered: dict[TagName, Remembered] = {}
    undecided: defaultdict[Reference, frozenset[str]] = defaultdict(frozenset)
    things = _by_tag(inventory.references.naming(name), name)
    for tag, references in things.items():
        before = inventory.remembered.get((name, tag))
        seen: set[Thing] = set() if before is None else {*before.seen & references.keys()}
        # guard(moved-tag-keeps-old-image): A guest still runs from what its tag pointed to before it moved,
        # so that image stays.
        digests = _NOTHING if before is None else before.digests
        if not is_hidden and not is_unreadable_tag(repository, tag):
            current = current_digest(repository, tag)
            digests |= current
            linked_ns = inventory.link_times.get((name, tag))
            for thing, reference in references.items():
                # guard(new-guest-judged-itself): A new guest may run from what its tag pointed to earlier, so
                # it is judged by its own age, whatever is already on record for the tag.
                if thing in seen:
                    continue
                sight = _first_sight(repository, reference, bool(current), linked_ns, now_ns)
                if sight.is_final:
                    # guard(part-settles-nothing): What a guest may run from is not all known while part of
                    # the repository cannot be seen, so the guest is judged again once it can.
                    if not is_partial:
                        seen.add(thing)
                    # guard(each-guest-adds-its-past): Guests with the same tag may run from different images;
                    # what each may run from stays.
                    digests |= sight.digests
                elif sight.digests:
                    undecided[reference] |= sight.digests
        if before is not None or digests:
            memory = Remembered(digests, frozenset(seen))
            remembered[name, tag] = before if before is not None and before == memory else memory
    return TagHistory(remembered, undecided)


def _by_tag(references: Iterable[Reference], name: str) -> Mapping[str, Mapping[Thing, Reference]]:
    """List the things that name each tag of a repository, and whose past targets count."""
    found: defaultdict[str, dict[Thing, Reference]] = defaultdict(dict)
    for reference in references:
        for image, is_open_ended in named_images(reference):
            if is_open_ended and image.repository == name and image.tag is not None:
                thing = _thing(reference)
                known = found[image.tag].get(thing)
                if known is None or known.saved_state is None:
                    found[image.tag][thing] = reference
    return found


def _first_sight(
    repository: Repository | None,
    reference: Reference,
    is_there: bool,
    linked_ns: int | None,
    now_ns: int | None,
) -> _Sight:
    """Return what a thing that is seen for the first time may run from.

    A tag that is absent, if only while it is being moved, proves nothing yet; but a thing with a saved state
    opens the disk that it had, whatever has happened to the tag.
    """
    everything = digests_in(repository)
    if repository is None or not (is_there or (reference.saved_state is not None and everything)):
        return _NOT_SEEN
    # guard(fork-age-proves-nothing): A fork carries the time of its forking as its age, so a guest with a
    # saved state keeps every digest of its repository.
    if reference.saved_state is not None or reference.created_at is None or now_ns is None:
        return _Sight(everything)
    created_ns = nanoseconds_of(reference.created_at)
    # guard(future-age-proves-nothing): A guest dated in the future tells nothing about the image it boots, so
    # every digest of its repository stays.
    if created_ns > now_ns:
        # The guest may have been made during this very look; if so, the next look can judge it.
        return _Sight(everything, is_final=created_ns > now_ns + _DOUBT_NS)
    # guard(age-before-every-image): The age of a guest that predates every image of its repository rules
    # nothing out, so every digest stays.
    if _is_before_all(repository, created_ns):
        return _Sight(everything)
    # guard(link-clearly-older): A link less than five minutes older than the guest may have replaced the one
    # it was started from, so all digests of that time stay.
    if linked_ns is None or linked_ns > created_ns - _DOUBT_NS:
        # guard(unseen-tag-move-keeps-all): A tag set since its guest was made may have led elsewhere before,
        # so every digest that may be older than the guest stays.
        return _Sight(_made_before(repository, created_ns + _DOUBT_NS))
    return _Sight()


def _is_before_all(repository: Repository, moment_ns: int) -> bool:
    """Return whether a moment lies before every image of a repository whose age is known was made."""
    folders = (folder for image in _images_of(repository) for folder in image.folders)
    ages = [folder.created_ns for folder in folders if folder.created_ns is not None]
    return bool(ages) and moment_ns < min(ages)


def _made_before(repository: Repository, moment_ns: int) -> frozenset[str]:
    """List the digests of a repository that were made before a moment, or may have been."""
    return frozenset(
        image.digest
        for image in _images_of(repository)
        if any(folder.created_ns is None or folder.created_ns < moment_ns for folder in image.folders)
    )


def digests_in(repository: Repository | None) -> frozenset[str]:
    """List the digests of a repository, including content whose metadata names this repository."""
    return _NOTHING if repository is None else frozenset((*repository.images, *repository.named))


def _images_of(repository: Repository) -> Iterator[Image]:
    return chain(repository.images.values(), repository.named.values())


def current_digest(repository: Repository | None, tag: str | None) -> frozenset[str]:
    """Return the digest that a tag points to now; empty where the tag is absent."""
    target = repository.tags.get(tag) if repository is not None and tag is not None else None
    return _NOTHING if target is None else frozenset((target,))


def is_unreadable_tag(repository: Repository | None, tag: str | None) -> bool:
    """Return whether a tag exists but is not a valid link; a tag named like a digest's folder counts as such."""
    if repository is None or tag is None:
        return False
    # guard(odd-tag-target-unknown): The target of a tag that is not a valid link is unknown, so a guest that
    # names it keeps every digest of the repository.
    return (
        tag in repository.odd_tags
        or tag in repository.folder_tags
        or (tag not in repository.tags and len(tag) == _HEX_DIGITS and f"sha256:{tag}" in repository.images)
    )


def named_images(reference: Reference) -> Iterator[tuple[ImageReference, bool]]:
    """List the images that a reference names, each with whether past targets of its tag count too."""
    if reference.image:
        yield parsed(reference.image), not reference.resolved_image
    if reference.resolved_image:
        yield parsed(reference.resolved_image), True
    # guard(saved-state-disks-stay): A restore opens the disk path written in the saved state; that image
    # stays, wherever its tag points today.
    for text in reference.saved_state or ():
        yield parsed(text), False


def named_tags(references: Iterable[Reference], *, open_ended: bool = False) -> Iterator[TagName]:
    """List the tags that references name.

    With `open_ended`, only those whose past targets count too.
    """
    for reference in references:
        for image, is_open_ended in named_images(reference):
            if image.tag is not None and (is_open_ended or not open_ended):
                yield image.repository, image.tag


def unseen_tags(
    references: Iterable[Reference], remembered: Mapping[TagName, Remembered]
) -> Iterator[TagName]:
    """List the tags whose link times a plan needs: those named by something that is seen for the first time."""
    for reference in references:
        # Past targets count for the reference that really boots; for the one that was typed, only where that
        # is unknown.
        text = reference.resolved_image or reference.image
        image = parsed(text) if text else None
        if image is not None and image.tag is not None:
            memory = remembered.get((image.repository, image.tag))
            if memory is None or _thing(reference) not in memory.seen:
                yield image.repository, image.tag


def put_together(
    inventory: Inventory, histories: Iterable[Mapping[TagName, Remembered]]
) -> dict[TagName, Remembered]:
    """Combine the histories of all tags into what is remembered for the next plan.

    While some sources could not be read, everything known so far is kept: such a source may name any tag, and
    may be a thing that has been seen.
    """
    remembered = dict(inventory.remembered) if inventory.unread_sources else {}
    for history in histories:
        for tag, memory in history.items():
            before = remembered.get(tag)
            if before is not None and not before.seen <= memory.seen:
                memory = Remembered(memory.digests, memory.seen | before.seen)
            remembered[tag] = memory
    return remembered


def _thing(reference: Reference) -> Thing:
    return reference.source, reference.created_at
