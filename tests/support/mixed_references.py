"""What the references of a host protect, in a directory of both layouts.

A reference names a repository and a digest, by itself or by way of a tag. It protects the row of the two, and the
content of that digest under whatever repository it is kept, since hypeman boots content by its digest alone.
"""

import pathlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from support import naive
from support.mixed_reading import ODD, Tree, is_locked, look_up
from support.mixed_rows import Rows
from support.naive import Key, Reference

__all__ = ["History", "Memory", "Protection", "protect"]

Tag = tuple[str, str]
"""A repository, and a tag in it."""


@dataclass(frozen=True)
class History:
    """What a tag has pointed to for as long as somebody has referred to it by nothing but the tag."""

    digests: frozenset[str]
    seen: frozenset[tuple[str, int | None]]
    """Who is known to run from one of these: its name, and when it was made."""


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


def protect(tree: Tree, rows: Rows, before: Memory, now: int) -> Protection:
    """Follow every reference there is; `before` is the memory that the last sweep left."""
    references, unreadable = read_references(tree.root)
    found = Protection(unreadable=unreadable)
    found.memory, own = remember(tree, rows, references, before, now, forgets=not unreadable)
    for reference in references:
        leads = {text: follow(tree, rows, reference, text, found.memory) for text in texts_of(reference)}
        needed = {*opened_by(reference)}.union(*leads.values())
        for tag in open_tags(reference):
            needed |= {(tag[0], digest) for digest in own.get((tag, reference.thing), ())}
        for key in needed:
            for row in rows.needed_for(key):
                found.sources[row].add(reference.source)
        # One text that leads to an image is enough for a healthy guest, and so is its saved state.
        if not any(rows.is_here(key) for key in needed):
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


def opened_by(reference: Reference) -> Iterator[Key]:
    """Give what a saved state opens; content by the name of a repository that has none."""
    for name, digest in reference.opens or ():
        yield ("of nobody/content" if name == "content" else name), digest


def remember(
    tree: Tree, rows: Rows, references: list[Reference], before: Memory, now: int, *, forgets: bool
) -> tuple[Memory, dict[tuple[Tag, tuple[str, int | None]], set[str]]]:
    """Say what each tag that is named openly has pointed to, up to now.

    Also gives what is true of single guests only, since it may turn out otherwise soon.
    """
    named: dict[Tag, list[Reference]] = {}
    for reference in references:
        for tag in open_tags(reference):
            named.setdefault(tag, []).append(reference)
    memory: Memory = {} if forgets else dict(before)
    own: dict[tuple[Tag, tuple[str, int | None]], set[str]] = {}
    for tag, things in named.items():
        known = before.get(tag, History(frozenset(), frozenset()))
        digests = set(known.digests)
        seen = {thing for thing in known.seen if not forgets or thing in {one.thing for one in things}}
        current, made = look_up(tree.root / "images", *tag)
        if current != ODD:
            is_there = naive.is_digest(current)
            digests |= {current} if is_there else set()
            ages = {digest: rows.ages(tag[0], digest) for digest in rows.digests_in(tag[0])}
            for thing in things:
                if thing.thing not in known.seen:
                    may_be, lasts = naive.first_sight(thing, made if is_there else None, ages, now)
                    if lasts:
                        digests |= may_be
                        # What cannot be seen may be what it runs from: it is asked again.
                        if not tree.may_hide(tag[0]):
                            seen.add(thing.thing)
                    else:
                        own.setdefault((tag, thing.thing), set()).update(may_be)
        if digests or tag in before:
            memory[tag] = History(frozenset(digests), frozenset(seen))
    return memory, own


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
