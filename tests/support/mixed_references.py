"""What the references of a host protect, in a directory of both layouts.

A reference names a repository and a digest, by itself or by way of a tag. It protects the row of the two, and the
content of that digest under whatever repository it is kept, since hypeman boots content by its digest alone.
"""

import pathlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import naive
from naive import Key, Reference
from support.mixed_reading import ODD, Tree, is_locked, look_up
from support.mixed_rows import Rows

__all__ = ["History", "Memory", "Protection", "protect"]

Tag = tuple[str, str]
"""A repository, and a tag in it."""


@dataclass(frozen=True)
class History:
    """What a tag has pointed to for as long as somebody has referred to it by nothing but the tag."""

    digests: frozenset[str]
    since: int | None
    """Whoever was made then or later ran from one of these; None: so did everybody."""

    def covers(self, created: int | None) -> bool:
        return self.since is None or (created is not None and created >= self.since)


Memory = dict[Tag, History]


@dataclass
class Protection:
    """What all references come to."""

    sources: defaultdict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By row: who needs it."""
    stale: set[tuple[str, str]] = field(default_factory=set)
    """Source and text of each reference of a guest or a snapshot that leads nowhere."""
    memory: Memory = field(default_factory=dict)
    """What is to be handed to the next sweep."""
    unreadable: list[str] = field(default_factory=list)
    """Files that hold references nobody can read, relative to the data directory."""


def protect(tree: Tree, rows: Rows, before: Memory) -> Protection:
    """Follow every reference there is; `before` is the memory that the last sweep left."""
    references, unreadable = read_references(tree.root)
    found = Protection(unreadable=unreadable)
    found.memory = remember(tree, rows, references, before, forgets=not unreadable)
    for reference in references:
        leads = {text: follow(tree, rows, reference, text, found.memory) for text in texts_of(reference)}
        for key in set().union(*leads.values()):
            for row in rows.needed_for(key):
                found.sources[row].add(reference.source)
        # One text that leads to an image is enough for a healthy guest.
        if not any(rows.is_here(key) for keys in leads.values() for key in keys):
            found.stale.update((reference.source, text) for text in leads)
    for folder in tree.folders:
        machine = folder.fields.get("machine")
        base = dict(machine).get("base") if isinstance(machine, naive.Pairs) else None
        parsed = naive.parse(base) if isinstance(base, str) else None
        if parsed is not None and parsed[2] is not None:
            for row in rows.needed_for((parsed[0], parsed[2])):
                found.sources[row].add(f"image/{folder.digest}")
    return found


def read_references(root: pathlib.Path) -> tuple[list[Reference], list[str]]:
    """Read what guests and snapshots refer to; also gives the files that hold references nobody can read."""
    references, unreadable = naive.read_references(root)
    locked = {
        path.relative_to(root).as_posix()
        for pattern in ("guests/*/metadata.json", "snapshots/*/snapshot.json")
        for path in root.glob(pattern)
        if is_locked(path)
    }
    files = {"instance": "guests/{}/metadata.json", "snapshot": "snapshots/{}/snapshot.json"}
    readable = []
    for reference in references:
        word, _, name = reference.source.partition("/")
        if files[word].format(name) not in locked:
            readable.append(reference)
    whole = [name for name in ("guests", "snapshots") if is_locked(root / name)]
    single = [path for path in {*unreadable, *locked} if path.partition("/")[0] not in whole]
    return readable, sorted([*whole, *single])


def texts_of(reference: Reference) -> list[str]:
    return reference.images + reference.resolved


def open_tags(reference: Reference) -> Iterator[Tag]:
    """Give the tags that a reference names without saying what it boots: what they led to earlier counts too."""
    for text in reference.resolved or reference.images:
        repository, tag, _ = naive.parse(text) or ("", None, None)
        if tag is not None:
            yield repository, tag


def remember(tree: Tree, rows: Rows, references: list[Reference], before: Memory, *, forgets: bool) -> Memory:
    """Say what each tag that is named openly has pointed to, up to now."""
    named: dict[Tag, list[int | None]] = {}
    for reference in references:
        for tag in open_tags(reference):
            named.setdefault(tag, []).append(reference.created)
    memory: Memory = {} if forgets else dict(before)
    for tag, ages in named.items():
        known = before.get(tag)
        digests = set() if known is None else set(known.digests)
        unknown = [age for age in ages if known is None or not known.covers(age)]
        current, made = look_up(tree.root / "images", *tag)
        if naive.is_digest(current):
            digests.add(current)
            for age in unknown:
                digests |= first_sight(rows, tag[0], made, age)
        else:
            unknown = []
        sinces = unknown if known is None else [*unknown, known.since]
        if digests:
            dated = [since for since in sinces if since is not None]
            memory[tag] = History(frozenset(digests), min(dated) if len(dated) == len(sinces) else None)
    return memory


def first_sight(rows: Rows, repository: str, made: int, created: int | None) -> set[str]:
    """Say what a guest may run from whose tag was moved, perhaps, before anybody looked."""
    if created is not None and made <= created:
        return set()
    return {
        digest
        for digest in rows.digests_in(repository)
        if created is None or any(age is None or age < created for age in rows.ages(repository, digest))
    }


def follow(tree: Tree, rows: Rows, reference: Reference, text: str, memory: Memory) -> set[Key]:
    """Tell what a text leads to, here or not."""
    repository, tag, digest = naive.parse(text) or ("", None, None)
    if digest is not None or tag is None:
        return {(repository, digest or "")}
    found, _ = look_up(tree.root / "images", repository, tag)
    digests: set[str] = set()
    if found == ODD:
        digests |= rows.digests_in(repository)
    elif naive.is_digest(found):
        digests.add(found)
    if (repository, tag) in open_tags(reference) and (repository, tag) in memory:
        digests |= memory[repository, tag].digests
    return {(repository, one) for one in digests}
