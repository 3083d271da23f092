"""The steps of a plan in which a fleet keeps copies.

They only ever hold images back. A fleet has a say in those after whose deletion no whole image of their digest is
left in this data directory.
"""

from hmret.model.plan.fleet.judge import FleetJudge, last_units
from hmret.model.plan.selection import Choice, Selection
from hmret.model.values import frozen
from hmret.model.verdicts import Reason

_BY_FACTS = frozenset((Reason.LAST_COPY, Reason.USED_IN_FLEET))
"""The reasons that follow from what others have, which may change at any time."""


@frozen(eq=False)
class FleetStep:
    """Holds back images that have expired and that the fleet keeps, as far as that is known.

    Also keeps the disk limits, which are applied later, from taking what the fleet keeps, so that they take other
    images.
    """

    judge: FleetJudge

    def apply(self, selection: Selection) -> None:
        judge = self.judge
        selection.hold_back(
            {
                choice: reason
                for choice in last_units(selection.going, judge.repeated if selection.going else {})
                if (reason := judge.first_reason(choice.digest)) is not None
            }
        )
        going = {choice.digest for choice in selection.going}

        def may_go_early(choice: Choice) -> bool:
            digest = choice.digest
            # Of several with this digest another may be the last; then `FleetLimitStep` decides.
            if digest not in going and judge.repeated.get(digest, 1) > 1:
                return True
            reason = judge.first_reason(digest, for_space=True)
            if reason in _BY_FACTS:
                selection.kept_from_pressure.add(digest)
            return reason is None

        selection.may_go_early = may_go_early


@frozen(eq=False)
class FleetLimitStep:
    """Holds back what the fleet keeps, once the disk limits took images too: together they may remove a last copy."""

    judge: FleetJudge

    def apply(self, selection: Selection) -> None:
        if not selection.taken_for_space:
            return
        # guard(fleet-last-for-space-stays): Of two images with one digest the disk may take both; then the last of
        # them is a copy of the fleet.
        selection.hold_back(
            {
                choice: reason
                for choice in last_units(selection.going, self.judge.repeated)
                if (
                    reason := self.judge.first_reason(
                        choice.digest, for_space=choice in selection.taken_for_space
                    )
                )
            }
        )


@frozen(eq=False)
class UnaskedStep:
    """Holds back images that would go until the fleet has been asked about them.

    A plan is made again once it has been asked, so anything still held back here in the final plan is an image about
    which etcd did not answer in time; hence `FLEET_UNREACHABLE`, even if etcd is up.
    """

    judge: FleetJudge

    def apply(self, selection: Selection) -> None:
        judge = self.judge
        kept = {choice.digest for choice, reason in selection.postponed.items() if reason in _BY_FACTS}
        selection.to_ask = tuple(sorted(kept | selection.kept_from_pressure))
        if not selection.going:
            return
        last = list(last_units(selection.going, judge.repeated))
        asked = [one for one in last if judge.depends_on_facts(for_space=one in selection.taken_for_space)]
        unasked = [choice for choice in asked if choice.digest not in judge.view.facts]
        # guard(fleet-asks-before-deleting): What etcd has not been asked about may be the last copy, so it stays.
        selection.hold_back(dict.fromkeys(unasked, Reason.FLEET_UNREACHABLE))
        selection.unasked = tuple(choice.digest for choice in unasked)
        selection.to_ask += tuple(choice.digest for choice in asked)
        selection.to_release = len(last) - len(unasked)
