"""Which copies a fleet keeps here, and why, by what is known of the other copies."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property

from hmret.model.fleet import FleetState, FleetView
from hmret.model.images import Image, Repository
from hmret.model.plan.selection import Choice
from hmret.model.values import frozen
from hmret.model.verdicts import Reason

_IS_KNOWN = frozenset((FleetState.JOINED, FleetState.STOPPED))
"""The states in which the facts count; where no engine runs, nothing is deleted by them."""


def is_whole(image: Image) -> bool:
    """Return whether an image, or the folder that its repository has beside content, is ready and whole."""
    return image.is_plain or (image.copy is not None and image.copy.is_plain)


def repeated_units(repositories: Iterable[Repository]) -> Mapping[str, int]:
    """Return the digests with more than one whole, independent image here, and how many each has."""
    counts: Counter[str] = Counter()
    contents: set[str] = set()
    for repository in repositories:
        for digest, image in repository.images.items():
            # guard(fleet-only-whole-units-stand): Another image with this digest that does not boot is not a copy, so
            # it does not make this one spare.
            if not is_whole(image) or (image.is_content and digest in contents):
                continue
            if image.is_content:
                contents.add(digest)
            counts[digest] += 1
    return {digest: count for digest, count in counts.items() if count > 1}


def last_units(choices: Iterable[Choice], repeated: Mapping[str, int]) -> Iterator[Choice]:
    """Yield the images whose deletion leaves no whole image of their digest here: the fleet has a say in these.

    Of several images with one digest that all go, it is the one that is deleted last.
    """
    if not repeated:
        yield from choices
        return
    several: dict[str, list[Choice]] = {}
    for choice in choices:
        if choice.digest in repeated:
            several.setdefault(choice.digest, []).append(choice)
        else:
            yield choice
    for digest, units in several.items():
        if len(units) >= repeated[digest]:
            # Content is deleted before the own folders of repositories, those by name.
            yield max(units, key=lambda unit: (not unit.image.is_content, unit.repository))


@frozen(eq=False)
class FleetJudge:
    """Says of each copy whether the fleet keeps it, at one time."""

    view: FleetView
    now: datetime
    repositories: Mapping[str, Repository]

    @cached_property
    def repeated(self) -> Mapping[str, int]:
        """The digests with more than one whole image here, and how many each has."""
        return repeated_units(self.repositories.values())

    @cached_property
    def against_all(self) -> tuple[Reason, ...]:
        """The reasons that hold for every copy, in the order of reasons."""
        return tuple(self._against_all())

    def _against_all(self) -> Iterator[Reason]:
        view = self.view
        # guard(fleet-one-session-for-a-directory): Two hosts on copies of one data directory count as one holder; the
        # one without the session deletes nothing.
        if view.state is FleetState.DUPLICATE_HOST:
            yield Reason.DUPLICATE_HOST
        # guard(fleet-unreachable-keeps): Without a session it is not known what others have, so everything stays.
        elif view.state not in _IS_KNOWN or view.settings is None:
            yield Reason.FLEET_UNREACHABLE
        # guard(fleet-pause-keeps): While the fleet is paused, nothing that has expired goes.
        if view.settings is not None and view.settings.paused is not None:
            yield Reason.FLEET_PAUSED

    def depends_on_facts(self, *, for_space: bool) -> bool:
        """Return whether the fleet's answer on an image depends on its other copies."""
        if self.against_all or self.view.token_free is False:
            return False
        return not (for_space and self.view.rules.yields_to_pressure)

    def reasons(self, digest: str, *, for_space: bool = False) -> Iterator[Reason]:
        """List why the fleet keeps a copy, as far as that is known, in the order of reasons.

        `for_space`: whether it would go early because a limit of the disk is exceeded.
        """
        yield from self.against_all
        view = self.view
        facts, settings = view.facts.get(digest), view.settings
        # guard(fleet-pressure-takes-copies): Last copies go for space only where the operator of this host said so.
        if facts is not None and settings is not None and not (for_space and view.rules.yields_to_pressure):
            yield from view.rules.reasons(settings, facts, self.now)
        # guard(fleet-token-keeps): Without a deletion token a host deletes nothing, so a wrong setting meets few at once.
        if view.token_free is False:
            yield Reason.FLEET_BRAKE

    def first_reason(self, digest: str, *, for_space: bool = False) -> Reason | None:
        """Return the first of these reasons; None: none is known."""
        return next(self.reasons(digest, for_space=for_space), None)
