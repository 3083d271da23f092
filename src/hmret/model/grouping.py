"""Timers and references, grouped by repository, so that unchanged groups are recognised by identity.

Timers, references and their groups are never changed once made: the same object always has the same contents.
A plan relies on that to evaluate again only the repositories for which some object is new.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Self, overload

from hmret.model.references import Key, Reference, parsed

_NO_TIMERS: Mapping[str, int | None] = {}


class Timers(Mapping[Key, int | None]):
    """The `unused_since` of each image that has a state file, in nanoseconds; None: unset or unreadable."""

    __slots__ = ("by_repository",)

    def __init__(self, by_repository: Mapping[str, Mapping[str, int | None]]) -> None:
        self.by_repository = by_repository
        """By repository, then by digest."""

    def of_repository(self, name: str) -> Mapping[str, int | None]:
        """Return the timers of a repository, by digest: the same object each time, also where it has none."""
        return self.by_repository.get(name, _NO_TIMERS)

    @classmethod
    def of(cls, timers: Mapping[Key, int | None]) -> "Timers":
        """Group timers by repository."""
        if isinstance(timers, cls):
            return timers
        by_repository: dict[str, dict[str, int | None]] = {}
        for (repository, digest), since_ns in timers.items():
            by_repository.setdefault(repository, {})[digest] = since_ns
        return cls(by_repository)

    def __getitem__(self, key: Key) -> int | None:
        return self.by_repository[key[0]][key[1]]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and key[1] in self.by_repository.get(key[0], ())

    def __iter__(self) -> Iterator[Key]:
        for repository, timers in self.by_repository.items():
            for digest in timers:
                yield repository, digest

    def __len__(self) -> int:
        return sum(map(len, self.by_repository.values()))


class ReferenceIndex(Sequence[Reference]):
    """All references, and for each repository those that name it."""

    __slots__ = ("_all", "_digests", "_names", "by_repository")

    def __init__(
        self, references: Sequence[Reference], by_repository: Mapping[str, tuple[Reference, ...]]
    ) -> None:
        self._all = references
        self.by_repository = by_repository
        """Maps a repository to the references that name it; a reference is listed under each repository that
        it names.
        """
        self._digests: frozenset[str] | None = None
        self._names: Mapping[str, str] | None = None

    @property
    def names(self) -> Mapping[str, str]:
        """The display names of the sources that have one, in the order of their sources; computed on first use."""
        if self._names is None:
            named = {reference.source: reference.name for reference in self._all if reference.name}
            self._names = dict(sorted(named.items()))
        return self._names

    @property
    def digests(self) -> frozenset[str]:
        """The digests that references name, under any repository; computed on first use."""
        if self._digests is None:
            images = (parsed(text) for reference in self._all for text in reference.texts)
            self._digests = frozenset(image.digest for image in images if image.digest is not None)
        return self._digests

    def naming(self, repository: str) -> tuple[Reference, ...]:
        """Return the references that name a repository."""
        return self.by_repository.get(repository, ())

    @classmethod
    def of(cls, references: Iterable[Reference]) -> "ReferenceIndex":
        """Group references by repository.

        Raises:
            InvalidReferenceError: one does not parse.
        """
        if isinstance(references, cls):
            return references
        return cls((), {}).changed((), references)

    def changed(self, gone: Iterable[Reference], come: Iterable[Reference]) -> Self:
        """Return an index with some references replaced; groups that are not affected stay the same objects.

        What has gone is recognised by identity.

        Raises:
            InvalidReferenceError: one does not parse.
        """
        left_out = {id(reference): reference for reference in gone}
        added = tuple(come)
        new: dict[str, list[Reference]] = {}
        for reference in added:
            for name in _repositories(reference):
                new.setdefault(name, []).append(reference)
        groups = dict(self.by_repository)
        touched = set(new).union(*map(_repositories, left_out.values()))
        for name in touched:
            kept = (one for one in groups.get(name, ()) if id(one) not in left_out)
            group = tuple(chain(kept, new.get(name, ())))
            if group:
                groups[name] = group
            else:
                groups.pop(name, None)
        kept_all = (one for one in self._all if id(one) not in left_out)
        return type(self)((*kept_all, *added), groups)

    @overload
    def __getitem__(self, index: int) -> Reference: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Reference]: ...
    def __getitem__(self, index: int | slice) -> "Reference | Sequence[Reference]":
        return self._all[index]

    def __iter__(self) -> Iterator[Reference]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


def _repositories(reference: Reference) -> set[str]:
    """List the repositories that a reference names."""
    return {parsed(text).repository for text in reference.texts}
