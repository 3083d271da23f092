"""A second, slow and plain implementation of one sweep over a directory of both layouts; it shares nothing with the first.

`decide` reads a whole data directory and returns what a sweep over it has to do, and what it leaves. It changes
nothing. Nothing is leased or open, no deletion has failed lately, and the clock has not jumped. What tags have
pointed to is the only thing that one sweep hands to the next.

Written sentence by sentence from the rules, with loops where hmret has indexes. Times are whole nanoseconds.
"""

import pathlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from support import naive
from support.mixed_origins import is_pullable
from support.mixed_reading import (
    ABSENT,
    Folder,
    Tree,
    hex_of,
    is_locked,
    look_up,
    read_folder,
    read_tree,
    staged_links,
)
from support.mixed_references import Memory, Protection, protect
from support.mixed_rows import Row, Rows, make_rows
from support.mixed_values import Outcome, Rule, Settings, Verdict
from support.mixed_watch import Gap, Watch
from support.naive import Key, State

__all__ = ["decide", "rows_in_use"]

FUTURE = 5 * 60 * 10**9
JUST_NOW = 10 * 60 * 10**9
BLOCK = 512
CLEARING = ("not_ready", "broken", "referenced", "pinned", "not_allowed", "not_pullable")
UnitName = tuple[str, ...]
"""`content` and a digest, or `legacy`, a repository and a digest."""


def decide(
    root: pathlib.Path,
    settings: Settings,
    now: datetime,
    memory: Memory | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Tell what a sweep has to do, with the memory that the sweep before it left, and what is known of looks."""
    moment = naive.nanoseconds_since_epoch(now)
    tree = read_tree(root, moment)
    if watch is None:
        watch = Watch()
        watch.begin(root, moment)
    gap = watch.unwatched(settings, moment)
    outcome = _Sweep(tree, make_rows(tree), settings, moment, memory or {}, gap).decide()
    if not outcome.suspended:
        watch.note(settings, moment)
    return outcome


def rows_in_use(root: pathlib.Path, settings: Settings, text: str, now: datetime) -> set[Key] | None:
    """Tell which rows a use of an image by some text is a use of; None where hypeman would not boot it."""
    moment = naive.nanoseconds_since_epoch(now)
    tree = read_tree(root, moment)
    # What lies beside a disk keeps an image from deletion, and not from being booted.
    sweep = _Sweep(tree, make_rows(tree), replace(settings, looks_inside=False), moment, {})
    repository, tag, digest = naive.parse(text) or ("", None, None)
    if tag is not None:
        digest, _ = look_up(root / "images", repository, tag)
    key = repository, digest or ""
    content, own = tree.contents.get(key[1]), tree.legacy.get(key)
    if content is not None and content.status == "ready":
        # It is what boots, or fails to, whatever its owners have of their own beside it.
        if sweep.trouble(content, "") is not None:
            return None
        if repository in sweep.rows.owners(content.digest):
            return {key}
        return {row.key for row in sweep.rows.of_content(content.digest)} | ({key} & sweep.rows.by_key.keys())
    return {key} if own is not None and sweep.trouble(own, repository) is None else None


def read_states(folder: pathlib.Path) -> dict[Key, State]:
    """Read the timers; one that nobody may read is unset."""
    states = naive.read_states(folder)
    for (repository, digest), state in states.items():
        if is_locked(folder / repository / f"{hex_of(digest)}.json"):
            states[repository, digest] = State(state.text, None)
    return states


def nanoseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1000


class _Sweep:
    def __init__(
        self,
        tree: Tree,
        rows: Rows,
        settings: Settings,
        now: int,
        memory: Memory,
        gap: Gap | None = None,
    ) -> None:
        self.gap = gap
        self.tree = tree
        self.rows = rows
        self.settings = settings
        self.now = now
        self.protection: Protection = protect(tree, rows, memory, now)
        self.states = read_states(tree.root / "system" / "image-retention")
        self.suspended: set[str] = set()
        if tree.hidden:
            self.suspended.add("unreadable_cache")
        if self.protection.unreadable and settings.unreadable == "suspend":
            self.suspended.add("unreadable_reference")

    # Each row by itself.

    def timer(self, key: Key) -> int | None:
        """Tell the timer of a row; none that is from the future, or from before its image was made."""
        since = self.states[key].unused_since if key in self.states else None
        if since is None or since > self.now + FUTURE:
            return None
        return None if since < (self.rows.by_key[key].standing.created or 0) <= self.now else since

    def condition(self, row: Row) -> str | None:
        """Tell whether a row is `not_ready` or `broken`; None where it is ready and whole."""
        content = self.tree.contents.get(row.digest)
        if row.legacy is not None:
            if content is not None and content.is_unfinished:
                return "not_ready"
            if row.legacy.is_unfinished:
                return "not_ready"
        found = {self.trouble(row.standing, row.repository)}
        if row.is_of_content and row.copy is not None:
            found.add(self.trouble(row.copy, row.repository))
        if content is not None and content.hides_all:
            found.add("broken")
        if row.legacy is not None and row.legacy.is_unreadable:
            found.add("broken")
        for reason in ("not_ready", "holds more", "busy", "broken"):
            if reason in found:
                return "not_ready" if reason in ("not_ready", "busy") else "broken"
        return None

    def trouble(self, folder: Folder, repository: str) -> str | None:
        is_content = folder.digest in self.tree.contents and self.tree.contents[folder.digest] is folder
        if folder.status == "unknown":
            return "broken"
        if folder.status != "ready":
            return "not_ready"
        if self.settings.looks_inside and folder.holds_more:
            return "holds more"
        if self.settings.looks_inside and folder.is_busy:
            return "busy"
        if not folder.is_named or folder.disk is None:
            return "broken"
        return None if is_content or folder.repository == repository else "broken"

    def judgements(self, row: Row) -> list[Rule | None]:
        """Give for each tag of a row the first rule that matches that tag, None: none; for a row without tags likewise."""
        found: list[Rule | None] = []
        for tag in row.tags or [None]:
            chosen = None
            for rule in self.settings.rules:
                named = any(naive.matches(pattern, row.repository) for pattern in rule.match)
                tagged = tag is not None and any(naive.matches(pattern, tag) for pattern in rule.tags)
                if named and (tagged or not rule.tags):
                    chosen = rule
                    break
            found.append(chosen)
        return found

    def window(self, row: Row) -> int | None:
        """Tell for how long a row must have been unused by what its tags say; None: it never goes."""
        longest = 0
        for rule in self.judgements(row):
            window = self.settings.unused_for if rule is None or rule.unused_for is None else rule.unused_for
            if window == "never":
                return None
            longest = max(longest, nanoseconds(window))
        return longest

    def is_latest(self, row: Row) -> bool:
        """Tell whether a row is among those of its repository that stay for being the newest, by any of its tags."""
        whole = [
            one
            for one in self.rows.by_key.values()
            if one.repository == row.repository and self.condition(one) is None
        ]
        for rule in self.judgements(row):
            count, peers = self.settings.keep_latest, whole
            if rule is not None and rule.keep_latest is not None:
                count = rule.keep_latest
                peers = [one for one in whole if any(other is rule for other in self.judgements(one))]
            if count and self.newer(row, peers) < count:
                return True
        return False

    def newer(self, row: Row, peers: list[Row]) -> int:
        """Count the rows that are newer; none is newer than one of which nobody knows, or not yet, how old it is."""
        created = row.standing.created
        if created is None or created > self.now:
            return 0
        found = 0
        for one in peers:
            other = one.standing.created
            if other is not None and other <= self.now:
                found += (other, one.digest) > (created, row.digest)
        return found

    def reasons(self, row: Row) -> Iterator[str]:
        """Go down the table, for a row alone."""
        settings = self.settings
        since = self.timer(row.key)
        window = self.window(row)
        created = row.standing.created
        min_age = nanoseconds(settings.min_age)
        condition = self.condition(row)
        if condition is not None:
            yield condition
        if self.protection.sources[row.key]:
            yield "referenced"
        if any(naive.matches(pattern, row.repository) for pattern in settings.pinned):
            yield "pinned"
        if not any(naive.matches(pattern, row.repository) for pattern in settings.allowed):
            yield "not_allowed"
        if not settings.delete_unpullable and not is_pullable(self.tree, row):
            yield "not_pullable"
        if since is None:
            yield "newly_unused"
        if window is None:
            yield "kept_by_rule"
        elif naive.watched_from(since or 0, self.gap) + window > self.now:
            yield "retention_window"
        if self.is_latest(row):
            yield "latest"
        if min_age and (created is None or created + min_age > self.now):
            yield "too_young"
        yield "due"

    # What goes together.

    def unit(self, row: Row) -> UnitName:
        content = row.content
        if content is not None and content.is_ready:
            return "content", row.digest
        return "legacy", row.repository, row.digest

    def members(self, unit: UnitName) -> list[Row]:
        return [row for row in self.rows.by_key.values() if self.unit(row) == unit]

    def contents_of(self, unit: UnitName) -> list[Folder]:
        return [self.tree.contents[unit[1]]] if unit[0] == "content" else []

    def copies_of(self, unit: UnitName) -> list[Folder]:
        return [
            row.copy for row in sorted(self.members(unit), key=lambda row: row.key) if row.copy is not None
        ]

    def folders_of(self, unit: UnitName) -> list[Folder]:
        """List what is deleted with a unit: content and the copies of its owners, or one copy alone."""
        return self.contents_of(unit) + self.copies_of(unit)

    def disk_bytes(self, row: Row) -> int:
        unit = self.unit(row)
        folders = self.folders_of(unit) if unit[0] == "content" else [row.standing]
        disks = {}
        for folder in folders:
            if folder.disk is not None:
                found = folder.disk.lstat()
                disks[found.st_dev, found.st_ino] = found.st_blocks * BLOCK
        return sum(disks.values())

    def freed_bytes(self, units: Iterable[UnitName], *, only_first: bool = False) -> int:
        """Add up the blocks of the disks of which the last link goes; of two in one folder, a plan knows the first."""
        links: Counter[tuple[int, int]] = Counter()
        total = 0
        for unit in units:
            for folder in self.folders_of(unit):
                for disk in folder.disks[:1] if only_first else folder.disks:
                    found = disk.lstat()
                    links[found.st_dev, found.st_ino] += 1
                    if links[found.st_dev, found.st_ino] == found.st_nlink:
                        total += found.st_blocks * BLOCK
        return total

    # The decision.

    def decide(self) -> Outcome:
        rows = self.rows.by_key
        own = {key: next(self.reasons(row)) for key, row in rows.items()}
        reasons = dict(own)
        held: dict[Key, tuple[tuple[str, str], ...]] = {}
        due: list[tuple[int, list[Key], UnitName]] = []
        for unit in sorted({self.unit(row) for row in rows.values()}):
            members = sorted(row.key for row in self.members(unit))
            holders = tuple((key[0], own[key]) for key in members if own[key] != "due")
            for key in members:
                if own[key] == "due" and holders:
                    reasons[key] = "shared"
                    held[key] = holders
            if not holders:
                youngest = max(self.timer(key) or 0 for key in members)
                due.append((youngest, members, unit))
        for place, (_, members, _unit) in enumerate(sorted(due)):
            for key in members:
                if self.suspended:
                    reasons[key] = "suspended"
                elif self.settings.max_deletes and place >= self.settings.max_deletes:
                    reasons[key] = "deferred"
                else:
                    reasons[key] = "expired"
        queue = [unit for _, _, unit in sorted(due)]
        going = [unit for unit in queue if reasons[self.members(unit)[0].key] == "expired"]
        outcome = Outcome(
            verdicts={
                key: self.verdict(row, reasons[key], held.get(key, ())) for key, row in sorted(rows.items())
            },
            suspended=self.suspended,
            unreadable=self.protection.unreadable,
            stale=self.protection.stale,
            pruned={key for key in self.states if key not in rows and not self.tree.may_hide(key[0])},
            marked={key for key, reason in reasons.items() if reason == "newly_unused"},
            cleared={key for key, reason in reasons.items() if reason in CLEARING and key in self.states},
            delete_bytes=self.freed_bytes(going, only_first=True),
            ready_images=sum(self.condition(row) is None for row in rows.values()),
            protected_images=len({digest for (_, digest), names in self.protection.sources.items() if names}),
            memory=self.protection.memory,
            owners={key for key, row in rows.items() if row.is_of_content},
        )
        self.sweep(outcome, [] if self.suspended else queue)
        return outcome

    def verdict(self, row: Row, reason: str, held_by: tuple[tuple[str, str], ...]) -> Verdict:
        action = {"newly_unused": "mark", "expired": "delete"}.get(reason, "none")
        sharing = self.rows.owners(row.digest) if row.is_of_content else set()
        return Verdict(
            action="clear" if reason in CLEARING else action,
            reason=reason,
            status=row.standing.status,
            tags=tuple(sorted(row.tags)),
            size_bytes=row.standing.size_bytes,
            disk_bytes=self.disk_bytes(row),
            referenced_by=tuple(sorted(self.protection.sources[row.key])),
            shared_with=tuple(sorted(sharing - {row.repository})),
            held_by=held_by,
            unused_since=self.timer(row.key),
        )

    # What is left.

    def sweep(self, outcome: Outcome, queue: list[UnitName]) -> None:
        """Say what the sweep deletes: the first units of the queue, but for those that turn out not to go."""
        limit = self.settings.max_deletes or len(queue)
        units: list[UnitName] = []
        broken: set[Key] = set()
        for place, unit in enumerate(queue):
            if (len(units) if self.settings.makes_room else place) >= limit:
                break
            behind = self.behind_a_link(unit)
            if self.is_being_tagged(unit) or (behind is not None and behind.is_unfinished):
                continue
            if self.may_boot_a_newcomer(unit):
                continue
            faults = [self.fault(folder) for folder in [*self.copies_of(unit), *self.contents_of(unit)]]
            fault = next(filter(None, faults), "broken" if behind is not None and behind.hides_all else None)
            if fault == "broken":
                # It is cleared as that, also where only the last look finds it so.
                broken |= {row.key for row in self.members(unit)}
            elif fault == "locked":
                outcome.failed += 1
            elif fault is None:
                units.append(unit)
        # A tag that is being set anew where it is counts once it has gone: what it leads to is put back.
        back = [unit for unit in units if self.is_being_tagged(unit, anew=True)]
        units = [unit for unit in units if unit not in back]
        members = [row for unit in back for row in self.members(unit)]
        outcome.remade |= {path for row in members for path in self.links_of(row)}
        images = self.tree.root / "images"
        spared: set[Key] = set()
        for unit in sorted(units):  # content before what the older layout has of the same digest
            outcome.removed |= {folder.path for folder in self.folders_of(unit)}
            members = self.members(unit)
            for row in members:
                if not self.stands(outcome, row):
                    outcome.removed |= self.links_of(row)
                elif unit[0] == "legacy" and self.lives_on(outcome, row):
                    spared.add(row.key)
            outcome.deleted |= {row.key for row in members}
        outcome.deleted_bytes = self.freed_bytes(units)
        outcome.removed |= {
            images / folder
            for folder in naive.removed_folders(
                images, {path for path in outcome.removed if self.is_in_older_layout(path)}
            )
        }
        outcome.cleared |= broken & self.states.keys()
        going = (outcome.deleted - spared) | outcome.cleared | outcome.pruned
        going |= {row.key for unit in back for row in self.members(unit)}
        outcome.states = {key: state.text for key, state in self.states.items() if key not in going}
        outcome.states |= dict.fromkeys(outcome.marked, "now")

    def may_boot_a_newcomer(self, unit: UnitName) -> bool:
        """Return whether something that was made just now names a repository of a unit by a tag that is absent."""
        names = {row.repository for row in self.members(unit)}
        for content in self.contents_of(unit):
            names |= {(naive.parse(str(content.fields.get("name") or "")) or ("",))[0]}
        for reference in naive.read_references(self.tree.root)[0]:
            if reference.created is None or not -JUST_NOW < reference.created - self.now <= FUTURE:
                continue
            for text in reference.resolved or reference.images:
                repository, tag, _ = naive.parse(text) or ("", None, None)
                if tag is None or repository not in names:
                    continue
                if look_up(self.tree.root / "images", repository, tag)[0] == ABSENT:
                    return True
        return False

    def fault(self, folder: Folder) -> str | None:
        """Say why a folder stays at the last look, though it was to go."""
        if folder.is_busy:
            return "busy"
        if folder.holds_more:
            return "broken"
        return "locked" if any(map(is_locked, folder.disks)) else None

    def behind_a_link(self, unit: UnitName) -> Folder | None:
        """Read what lies behind a link in the place of content, where hypeman looks."""
        place = self.tree.root / "images/content" / hex_of(unit[-1])
        is_link = naive.kind(place) == "link" and place.is_dir()
        return read_folder(place, self.now) if is_link else None

    def is_being_tagged(self, unit: UnitName, *, anew: bool = False) -> bool:
        """Tell whether hypeman has staged a tag to a unit within the minute: content by anybody, else by its owners.

        With `anew`: one that is there already, and is being set to the same digest.
        """
        owners = {row.repository for row in self.members(unit)}
        return any(
            digest == unit[-1]
            and (repository in owners or (unit[0] == "content" and not is_legacy))
            and anew
            == any(
                (link.repository, link.tag, link.digest, link.is_legacy)
                == (repository, tag, digest, is_legacy)
                for link in self.tree.links
            )
            for repository, tag, digest, is_legacy in staged_links(self.tree.root, self.now)
        )

    def stands(self, outcome: Outcome, row: Row) -> bool:
        """Tell whether any folder of a row's digest is left to which its repository's links lead."""
        images = self.tree.root / "images"
        places = (images / "content" / hex_of(row.digest), images / row.repository / hex_of(row.digest))
        return any(naive.kind(place) != "nothing" and place not in outcome.removed for place in places)

    def lives_on(self, outcome: Outcome, row: Row) -> bool:
        """Tell whether a legacy folder that goes leaves its repository an owner of ready content."""
        content = self.tree.contents.get(row.digest)
        return (
            content is not None
            and content.is_ready
            and content.path not in outcome.removed
            and bool(row.tags)
        )

    def links_of(self, row: Row) -> set[pathlib.Path]:
        """List the links of a repository to a digest, and the links that those of today's layout shadow."""
        own = [link for link in self.tree.links if (link.repository, link.digest) == row.key]
        names = {link.tag for link in own if not link.is_legacy}
        return {
            link.path
            for link in self.tree.links
            if link in own or (link.is_legacy and link.repository == row.repository and link.tag in names)
        }

    def is_in_older_layout(self, path: pathlib.Path) -> bool:
        top = path.relative_to(self.tree.root / "images").parts[0]
        return top not in ("content", "repositories")
