"""Content that several repositories share: it is deleted with all its rows, or not at all."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from hmret.model.images import ContentOwners
from hmret.model.plan.repository_plan import RepositoryPlan
from hmret.model.plan.selection import Choice
from hmret.model.values import frozen
from hmret.model.verdicts import ORDER, Reason

Rows = Mapping[str, tuple[int, Reason]]
"""By repository: since when its row has been unused, and what else keeps it; `EXPIRED`: nothing."""


@frozen
class DueShared:
    """The rows of shared content whose own time has come."""

    by_digest: Mapping[str, Rows]
    finals: Mapping[str, Mapping[str, Reason]]
    """The reasons of those that do not go, in place of their repositories' own, by repository and digest."""
    shifts: Mapping[Reason, int]
    """By how much that changes the number of rows for each reason."""
    _all_due: tuple[str, ...]
    """The digests of which every row goes."""

    @classmethod
    def of(cls, parts: Iterable[tuple[str, RepositoryPlan]], contents: ContentOwners) -> "DueShared":
        """Decide on shared content: where one row keeps it, the others get the reason `shared`.

        A host-wide reason or a failed attempt that stops one row stops all of them.
        """
        by_digest: defaultdict[str, dict[str, tuple[int, Reason]]] = defaultdict(dict)
        for name, part in parts:
            for since_ns, digest, reason in part.due_shared:
                by_digest[digest][name] = since_ns, reason
        finals: defaultdict[str, dict[str, Reason]] = defaultdict(dict)
        shifts: Counter[Reason] = Counter()
        all_due: list[str] = []
        for digest, rows in by_digest.items():
            # guard(every-owner-lets-go): Shared content is deleted only when it is due in every repository
            # that owns it; otherwise a tag would lead nowhere.
            if all(owner in rows for owner in contents.get(digest, ())):
                # guard(one-veto-stops-all): What stops deletion for one owner, a suspension or a failed
                # attempt, stops it for all that share the content.
                first = min((reason for _, reason in rows.values()), key=ORDER.__getitem__)
                if first is Reason.EXPIRED:
                    all_due.append(digest)
                    continue
            else:
                first = Reason.SHARED
            for name, (_, reason) in rows.items():
                if reason is not first:
                    finals[name][digest] = first
                    shifts[first] += 1
                    shifts[reason] -= 1
        return cls(by_digest, finals, shifts, tuple(all_due))

    def units(self, parts: Mapping[str, RepositoryPlan]) -> Iterator[Choice]:
        """List the shared content that goes, with all its rows."""
        for digest in self._all_due:
            yield _choice(
                parts, digest, {name: since_ns for name, (since_ns, _) in self.by_digest[digest].items()}
            )


def evictable_units(
    parts: Mapping[str, RepositoryPlan], contents: ContentOwners, due_shared: DueShared
) -> Iterator[Choice]:
    """List images that only their window keeps; shared content if that holds for each row not yet due."""
    shared: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, part in parts.items():
        for since_ns, image in part.evictable:
            if part.owners(image.digest) == 1:
                yield Choice(since_ns, name, image.digest, image)
            else:
                shared[image.digest][name] = since_ns
    for digest, rows in shared.items():
        rows.update(
            (name, since_ns)
            for name, (since_ns, reason) in due_shared.by_digest.get(digest, {}).items()
            if reason is Reason.EXPIRED
        )
        # guard(every-owner-can-spare): A full disk is no exception: shared content goes only if every
        # repository that owns it can spare it.
        if all(owner in rows for owner in contents.get(digest, ())):
            yield _choice(parts, digest, rows)


def _choice(parts: Mapping[str, RepositoryPlan], digest: str, rows: Mapping[str, int]) -> Choice:
    names = sorted(rows)
    return Choice(
        max(rows.values()),
        names[0],
        digest,
        parts[names[0]].image(digest),
        tuple((name, parts[name].image(digest)) for name in names[1:]),
    )
