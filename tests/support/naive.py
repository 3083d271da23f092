"""A second, slow and plain implementation of one sweep, which shares nothing with the first.

`decide` reads a whole data directory and tells what the first sweep over it has to do: nothing is remembered
from earlier sweeps, nothing is leased or open, the clock has not jumped, and no disk was read. It changes nothing.

Read off the contract sentence by sentence, with loops where hmret has indexes. Times are whole nanoseconds.
"""

import functools
import itertools
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

__all__ = ["Key", "Outcome", "Verdict", "decide", "instant", "matches", "parse"]

Key = tuple[str, str]
"""Repository and digest."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
HEX = set(DIGITS + "abcdef")
FUTURE = 5 * 60 * 10**9
DOUBT = FUTURE
SEARCHED = 1 << 20
ROOTFS = ("rootfs.ext4", "rootfs.erofs")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNSET = -62_135_596_800 * 10**9  # 0001-01-01T00:00:00Z


@dataclass(frozen=True)
class Verdict:
    """What becomes of one image."""

    action: str
    """`clear`, `mark`, `none` or `delete`."""
    reason: str
    referenced_by: list[str]
    """Sorted, `instance/ID` and `snapshot/ID`."""
    tags: list[str]
    """Sorted, the tags of its repository that point to it."""
    unused_since: int | None
    """What its state file says, in nanoseconds since the epoch, whatever becomes of that file; None where there
    is none, or an unset or unreadable one."""


@dataclass(frozen=True)
class Outcome:
    """The verdicts, and the data directory as it is afterwards."""

    verdicts: dict[Key, Verdict]
    unreadable: list[str]
    """Files with references that could not be read, relative to the data directory, sorted."""
    stale: set[str]
    """The texts of references to what is not here."""
    images: set[Key]
    """Left afterwards."""
    tags: dict[tuple[str, str], str]
    """Left afterwards: repository and tag to digest."""
    states: dict[Key, str]
    """Left afterwards: `unused_since` as the file has it, or `now` where this sweep has written it."""
    pruned: set[Key]
    removed_folders: set[str]
    """Folders under `images/` that the deletions leave empty and so take away; relative to `images/`."""
    ready_images: int
    protected_images: int
    marked_unused: int
    cleared_states: int
    deleted_images: int
    pruned_states: int
    stale_references: int
    is_hidden: bool = False
    """Whether a link hides what may be images, so that nothing goes."""


# Image references, as distribution/reference reads them.


def parse(text: str) -> tuple[str, str | None, str | None] | None:
    """Read an image reference: repository, tag (none beside a digest), digest; None where it is refused."""
    if is_hex(text):
        return None
    first, slash, rest = text.partition("/")
    if not slash:
        host, rest = "docker.io", "library/" + text
    else:
        if first == "index.docker.io":
            host = "docker.io"
        elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
            host = first
        else:
            host, rest = "docker.io", text
        if host == "docker.io" and "/" not in rest:
            rest = "library/" + rest
    named, at, digest = rest.partition("@")
    path, colon, tag = named.partition(":")
    if not (is_host(host) or is_component(host)) or len(path) > 255:
        return None
    if not all(is_component(component) for component in path.split("/")):
        return None
    if colon and not is_tag(tag):
        return None
    if at:
        return (f"{host}/{path}", None, digest) if is_digest(digest) else None
    return f"{host}/{path}", tag if colon else "latest", None


def is_hex(text: str) -> bool:
    return len(text) == 64 and set(text) <= HEX


def is_component(text: str) -> bool:
    """Lower-case letters and digits, between them one `.`, one or two `_`, or a run of `-`."""
    runs = [
        (known, "".join(run)) for known, run in itertools.groupby(text, lambda one: one in LETTERS + DIGITS)
    ]
    if not runs or not runs[0][0] or not runs[-1][0]:
        return False
    return all(known or run in (".", "_", "__") or set(run) == {"-"} for known, run in runs)


def is_host(text: str) -> bool:
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        if not bracket or not name or not set(name) <= set(DIGITS + "abcdefABCDEF:"):
            return False
        return not port or (port[0] == ":" and is_number(port[1:]))
    name, colon, port = text.partition(":")
    if colon and not is_number(port):
        return False
    return all(
        label
        and label[0] != "-"
        and label[-1] != "-"
        and set(label) <= set(LETTERS + LETTERS.upper() + DIGITS + "-")
        for label in name.split(".")
    )


def is_number(text: str) -> bool:
    return bool(text) and set(text) <= set(DIGITS)


def is_tag(text: str) -> bool:
    first = set(LETTERS + LETTERS.upper() + DIGITS + "_")
    return 0 < len(text) <= 128 and text[0] in first and set(text) <= first | {".", "-"}


def is_digest(text: str) -> bool:
    algorithm, _, rest = text.partition(":")
    return len(rest) == {"sha256": 64, "sha384": 96, "sha512": 128}.get(algorithm, -1) and set(rest) <= HEX


def is_repository(name: str) -> bool:
    """Tell whether a name is a repository as hypeman would write it, no more and no less."""
    return parse(name + ":x") == (name, "x", None)


def matches(pattern: str, text: str) -> bool:
    """Tell whether the whole text matches: `*` is any run of characters, `?` any one, all else itself."""
    pattern = pattern.strip()

    @functools.cache
    def match(i: int, j: int) -> bool:
        if i == len(pattern):
            return j == len(text)
        if pattern[i] == "*":
            return match(i + 1, j) or (j < len(text) and match(i, j + 1))
        return j < len(text) and pattern[i] in ("?", text[j]) and match(i + 1, j + 1)

    return match(0, 0)


# Times.


def instant(value: object) -> int | None:
    """Read an RFC 3339 time as nanoseconds since the epoch; None where it is none, or Go's unset one."""
    if not isinstance(value, str) or len(value) < 20:
        return None
    moment, rest, fraction = value[:19], value[19:], "0"
    if rest[0] == ".":
        fraction = "".join(itertools.takewhile(lambda one: one in DIGITS, rest[1:]))
        rest = rest[1 + len(fraction) :]
    offset = seconds_of_zone(rest)
    shape = "".join("0" if one in DIGITS else one for one in moment)
    if shape != "0000-00-00T00:00:00" or not fraction or offset is None:
        return None
    try:
        seconds = nanoseconds_since_epoch(datetime.fromisoformat(moment + "+00:00")) - offset * 10**9
    except ValueError:
        return None
    nanoseconds = seconds + int(fraction[:9].ljust(9, "0"))
    return None if nanoseconds == UNSET else nanoseconds


def seconds_of_zone(text: str) -> int | None:
    if text == "Z":
        return 0
    sign, hours, colon, minutes = text[:1], text[1:3], text[3:4], text[4:]
    if len(text) != 6 or sign not in ("+", "-") or colon != ":" or not is_number(hours + minutes):
        return None
    if hours > "23" or minutes > "59":
        return None
    return (int(hours) * 3600 + int(minutes) * 60) * (1 if sign == "+" else -1)


def nanoseconds_since_epoch(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


# Files.


class Pairs(list[tuple[str, Any]]):
    """A JSON object with every key that it has, in its order, twice where it is there twice."""


def refuse(constant: str) -> Any:
    raise ValueError(f"not JSON: {constant}")


def read_object(path: pathlib.Path) -> Pairs | None:
    """Read a JSON object; None where there is something, but no such thing.

    Raises:
        FileNotFoundError: there is nothing.
    """
    try:
        content = json.loads(path.read_bytes().decode(), object_pairs_hook=Pairs, parse_constant=refuse)
    except FileNotFoundError:
        raise
    except (OSError, ValueError):
        return None
    return content if isinstance(content, Pairs) else None


def read_fields(path: pathlib.Path) -> dict[str, Any] | None:
    """Read a JSON object with its keys as they are written; None where there is none, or it is unreadable."""
    try:
        pairs = read_object(path)
    except FileNotFoundError:
        return None
    return None if pairs is None else dict(pairs)


def spellings(pairs: Pairs, key: str) -> list[Any]:
    """Every value of a key, in whatever case it is written, that is not null."""
    return [value for name, value in pairs if name.casefold() == key and value is not None]


def entries(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def kind(path: pathlib.Path) -> str:
    """Tell `file`, `folder`, `link`, `other` or `nothing`, without following a link."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return "nothing"
    names = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return names.get(stat.S_IFMT(mode), "other")


# The cache.


@dataclass(frozen=True)
class Image:
    folder: pathlib.Path
    status: str
    """Empty where it could not be read."""
    named: bool
    """The metadata names this digest and this repository."""
    whole: bool
    """There is a disk."""
    created: int | None


@dataclass(frozen=True)
class Tag:
    link: pathlib.Path
    digest: str
    made: int
    """When the link was made, in nanoseconds."""


@dataclass(frozen=True)
class State:
    text: str
    unused_since: int | None


@dataclass(frozen=True)
class Reference:
    source: str
    images: list[str]
    resolved: list[str]
    created: int | None
    opens: set[tuple[str, str]] | None = None
    """What its saved state opens: repository (or `content`) and digest. None: it has none, or says what it boots."""

    @property
    def thing(self) -> tuple[str, int | None]:
        return self.source, self.created


def is_image(folder: pathlib.Path) -> bool:
    return is_hex(folder.name) and any(
        kind(folder / name) in ("file", "link") for name in ("metadata.json", *ROOTFS)
    )


def read_image(repository: str, folder: pathlib.Path) -> Image:
    fields = read_fields(folder / "metadata.json") or {}
    status, name = fields.get("status"), fields.get("name")
    reference = parse(name) if isinstance(name, str) else None
    return Image(
        folder=folder,
        status=status if isinstance(status, str) else "",
        named=fields.get("digest") == f"sha256:{folder.name}"
        and reference is not None
        and reference[0] == repository,
        whole=any(kind(folder / name) == "file" for name in ROOTFS),
        created=instant(fields.get("created_at")),
    )


def hides_images(entry: pathlib.Path) -> bool:
    """Tell whether a link that is no tag leads to a folder, where a host's or a repository's could be."""
    return (
        kind(entry) == "link"
        and not is_hex(os.path.basename(os.readlink(entry).rstrip("/")))  # noqa: PTH115, PTH119 - as it stands there
        and entry.name[0] not in "._-"
        and entry.is_dir()
    )


def is_registry(name: str) -> bool:
    """Tell whether a folder's name can be the first component of a repository; `content` and its like cannot."""
    return name == "localhost" or any(one in ".:" or one.isupper() for one in name)


def read_cache(images: pathlib.Path) -> tuple[dict[Key, Image], dict[tuple[str, str], Tag]]:
    found: dict[Key, Image] = {}
    tags: dict[tuple[str, str], Tag] = {}
    levels = [
        entry
        for entry in entries(images)
        if kind(entry) == "folder" and not entry.name.startswith(".") and is_registry(entry.name)
    ]
    while levels:
        level = levels.pop()
        repository = level.relative_to(images).as_posix()
        for entry in entries(level):
            if entry.name.startswith("."):
                continue
            if kind(entry) == "folder":
                if not is_image(entry):
                    levels.append(entry)
                elif is_repository(repository):
                    found[repository, f"sha256:{entry.name}"] = read_image(repository, entry)
            elif kind(entry) == "link" and is_repository(repository) and is_tag(entry.name):
                target = str(entry.readlink())
                if is_hex(target):
                    tags[repository, entry.name] = Tag(entry, f"sha256:{target}", entry.lstat().st_mtime_ns)
    return found, tags


def read_states(folder: pathlib.Path) -> dict[Key, State]:
    states: dict[Key, State] = {}
    levels = [folder]
    while levels:
        level = levels.pop()
        repository = level.relative_to(folder).as_posix()
        for entry in entries(level):
            if kind(entry) == "folder":
                levels.append(entry)
            elif entry.suffix == ".json" and is_hex(entry.stem) and is_repository(repository):
                digest = f"sha256:{entry.stem}"
                fields = read_fields(entry) or {}
                names = fields.get("repository"), fields.get("digest")
                unused_since = instant(fields.get("unused_since")) if names == (repository, digest) else None
                states[repository, digest] = State(str(fields.get("unused_since")), unused_since)
    return states


def unwatched_before(
    timers: pathlib.Path, now: int, shortest_window: int, interval: int
) -> tuple[int, int] | None:
    """Tell from when to when nobody watched, before the first look of all: the newest file of a timer stands for the last one."""
    last = newest_timer(timers, now)
    if last is None or not is_far_apart(last, now, shortest_window, interval):
        return None
    return last, now


def newest_timer(timers: pathlib.Path, now: int) -> int | None:
    """Tell when a file of a timer was last written, up to now; None where none was."""
    files = [path for path in timers.rglob("*.json") if kind(path) != "folder"]
    written = [path.lstat().st_mtime_ns for path in files]
    return max((moment for moment in written if moment <= now), default=None)


def is_far_apart(last: int, now: int, shortest_window: int, interval: int) -> bool:
    """Tell whether two looks lie so far apart that the time between them does not count."""
    hour = 3600 * 10**9
    return now - last > min(hour, shortest_window // 10) and now - last > 10 * interval


def watched_from(since: int, gap: tuple[int, int] | None) -> int:
    """Tell since when something has lasted, in time that was watched, that began at some time."""
    if gap is None or since >= gap[1]:
        return since
    return gap[1] - max(gap[0] - since, 0)


# References.


def read_references(root: pathlib.Path) -> tuple[list[Reference], list[str]]:
    references: list[Reference] = []
    unreadable: list[str] = []
    for word, files in (
        ("instance", [folder / "metadata.json" for folder in entries(root / "guests") if folder.is_dir()]),
        ("snapshot", [folder / "snapshot.json" for folder in entries(root / "snapshots") if folder.is_dir()]),
    ):
        for path in files:
            try:
                pairs = read_object(path)
            except FileNotFoundError:
                continue
            found = None if pairs is None else references_of(f"{word}/{path.parent.name}", word, pairs)
            if found is None:
                unreadable.append(path.relative_to(root).as_posix())
            else:
                references += with_saved_state(path.parent, word, found)
    return references, sorted(unreadable)


def with_saved_state(folder: pathlib.Path, word: str, references: list[Reference]) -> list[Reference]:
    """Add to what a guest or a snapshot refers to what its saved state does, where it does not say what it boots."""
    if references and all(
        reference.resolved and all("@" in text for text in reference.resolved) for reference in references
    ):
        return references
    place = folder / ("snapshots" if word == "instance" else "guest")
    opens: set[tuple[str, str]] = set()
    is_saved_state = False
    for path in files_below(place):
        is_saved_state |= word == "instance" or "snapshots" in path.relative_to(place).parts[:-1]
        if kind(path) == "file" and path.lstat().st_size <= SEARCHED:
            opens |= images_named_in(path.read_bytes())
    if not is_saved_state and not opens:
        return references
    source = f"{word}/{folder.name}"
    return [
        Reference(one.source, one.images, one.resolved, one.created, opens)
        for one in references or [Reference(source, [], [], None)]
    ]


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give all that is below a folder and is no folder; no link is followed."""
    for entry in entries(folder) if kind(folder) == "folder" else []:
        if kind(entry) == "folder":
            yield from files_below(entry)
        else:
            yield entry


def images_named_in(content: bytes) -> set[tuple[str, str]]:
    """Find the paths of images in some bytes, however a slash and the characters are written."""
    found: set[tuple[str, str]] = set()
    for form in (content, content.replace(b"\0", b"")):
        text = form.decode("latin-1")
        for slash in ("\\u002f", "\\u002F", "%2f", "%2F", "\\/"):
            text = text.replace(slash, "/")
        for rest in text.split("images/")[1:]:
            parts = rest.split("/")
            for place, part in enumerate(parts):
                name = "/".join(parts[:place])
                if is_hex(part[:64]):
                    if name == "content" or is_repository(name):
                        found.add((name, f"sha256:{part[:64]}"))
                    break
    return found


def references_of(source: str, word: str, pairs: Pairs) -> list[Reference] | None:
    """Tell what one file refers to; None where any of it cannot be read."""
    metadata: list[Any] = [pairs] if word == "instance" else spellings(pairs, "stored_metadata")
    references: list[Reference] = []
    for guest in metadata:
        if not isinstance(guest, Pairs):
            return None
        images = [text for text in spellings(guest, "image") if text != ""]
        resolved = [text for text in spellings(guest, "resolvedimage") if text != ""]
        for text in images + resolved:
            if not isinstance(text, str) or parse(text) is None:
                return None
        created = [instant(value) for value in spellings(guest, "createdat")]
        references.append(Reference(source, images, resolved, created[-1] if created else None))
    return references


def open_tags(reference: Reference) -> Iterator[tuple[str, str]]:
    """Give the tags that a reference names without saying what it boots: what they led to earlier counts too."""
    for text in reference.resolved or reference.images:
        repository, tag, _ = parse(text) or ("", None, None)
        if tag is not None:
            yield repository, tag


def first_sight(
    reference: Reference, link: int | None, ages: dict[Any, list[int | None]], now: int
) -> tuple[set[Any], bool]:
    """Tell which images something may run from that was never seen before, and whether that is for good.

    `link`: when the link of the tag was made; None: there is no such tag. `ages`: the images of the repository, and when
    each may have been made.
    """
    everything = set(ages)
    if reference.opens is not None:
        return everything, bool(everything)
    if link is None:
        return set(), False
    if reference.created is None or reference.created > now:
        return everything, reference.created is None or reference.created > now + DOUBT
    dated = [age for made in ages.values() for age in made if age is not None]
    if dated and reference.created < min(dated):
        return everything, True
    if link > reference.created - DOUBT:
        limit = reference.created + DOUBT
        return {key for key, made in ages.items() if any(age is None or age < limit for age in made)}, True
    return set(), True


def led_to(
    references: list[Reference], images: dict[Key, Image], tags: dict[tuple[str, str], Tag], now: int
) -> tuple[dict[tuple[str, str], set[Key]], dict[tuple[str, str, int | None], set[Key]]]:
    """Say what the tags that are named openly may have led to: one answer for all guests that name the same tag.

    Also gives what is true of single guests only, by tag and guest, since it may turn out otherwise soon.
    """
    found: dict[tuple[str, str], set[Key]] = {}
    own: dict[tuple[str, str, int | None], set[Key]] = {}
    for reference in references:
        for place in open_tags(reference):
            ages = {key: [image.created] for key, image in images.items() if key[0] == place[0]}
            keys, lasts = first_sight(reference, tags[place].made if place in tags else None, ages, now)
            if place in tags:
                found.setdefault(place, set()).add((place[0], tags[place].digest))
            if lasts:
                found.setdefault(place, set()).update(keys)
            else:
                own.setdefault((":".join(place), *reference.thing), set()).update(keys)
    return found, own


def protected_by(
    reference: Reference,
    images: dict[Key, Image],
    tags: dict[tuple[str, str], Tag],
    past: dict[tuple[str, str], set[Key]],
    own: dict[tuple[str, str, int | None], set[Key]],
) -> Iterator[tuple[str, set[Key]]]:
    """Give each text of a reference with the images here that it protects; an empty text stands for its saved state."""
    for text in reference.images + reference.resolved:
        parsed = parse(text)
        assert parsed is not None
        repository, tag, digest = parsed
        keys: set[Key] = set()
        if digest is not None:
            keys.add((repository, digest))
        elif tag is not None:
            if (repository, tag) in tags:
                keys.add((repository, tags[repository, tag].digest))
            if (repository, tag) in open_tags(reference):
                keys |= past.get((repository, tag), set())
                keys |= own.get((f"{repository}:{tag}", *reference.thing), set())
        yield text, {key for key in keys if key in images}
    yield "", {key for key in reference.opens or () if key in images}


# The sweep.


def decide(
    root: pathlib.Path,
    *,
    now: datetime,
    unused_for: timedelta,
    allowed: list[str],
    pinned: list[str] | None = None,
    max_deletes: int = 0,
    unreadable: Literal["suspend", "ignore"] = "suspend",
) -> Outcome:
    """Tell what the first sweep over a data directory has to do, and what it leaves."""
    if not (root / "images").is_dir():
        return Outcome({}, [], set(), set(), {}, {}, set(), set(), 0, 0, 0, 0, 0, 0, 0)
    moment = nanoseconds_since_epoch(now)
    images, tags = read_cache(root / "images")
    states = read_states(root / "system" / "image-retention")
    references, torn = read_references(root)
    is_hidden = any(map(hides_images, (root / "images").rglob("*")))

    sources: dict[Key, set[str]] = {key: set() for key in images}
    past, own = led_to(references, images, tags, moment)
    texts: dict[str, set[str]] = {}
    here: set[str] = set()
    for reference in references:
        for text, keys in protected_by(reference, images, tags, past, own):
            if text:
                texts.setdefault(reference.source, set()).add(text)
            # One text that leads to an image is enough.
            here |= {reference.source for _ in keys}
            for key in keys:
                sources[key].add(reference.source)

    window = unused_for // timedelta(microseconds=1) * 1000
    gap = unwatched_before(root / "system" / "image-retention", moment, window, 60 * 10**9)
    decided: dict[Key, tuple[str, str]] = {}
    due: list[tuple[int, Key]] = []
    for key, image in images.items():
        repository = key[0]
        unused_since = states[key].unused_since if key in states else None
        pulled_again = unused_since is not None and unused_since < (image.created or 0) <= moment
        if image.status not in ("", "ready"):
            decided[key] = "clear", "not_ready"
        elif image.status == "" or not image.named or not image.whole:
            decided[key] = "clear", "broken"
        elif sources[key]:
            decided[key] = "clear", "referenced"
        elif any(matches(pattern, repository) for pattern in pinned or []):
            decided[key] = "clear", "pinned"
        elif not any(matches(pattern, repository) for pattern in allowed):
            decided[key] = "clear", "not_allowed"
        elif unused_since is None or unused_since > moment + FUTURE or pulled_again:
            decided[key] = "mark", "newly_unused"
        elif watched_from(unused_since, gap) + window > moment:
            decided[key] = "none", "retention_window"
        else:
            due.append((unused_since, key))
    for place, (_, key) in enumerate(sorted(due)):
        if is_hidden or (torn and unreadable == "suspend"):
            decided[key] = "none", "suspended"
        elif max_deletes and place >= max_deletes:
            decided[key] = "none", "deferred"
        else:
            decided[key] = "delete", "expired"

    deleted = {key for key, (action, _) in decided.items() if action == "delete"}
    marked = {key for key, (action, _) in decided.items() if action == "mark"}
    cleared = {key for key, (action, _) in decided.items() if action == "clear" and key in states}
    pruned = set(states) - set(images)
    stale = {text for source, named in texts.items() if source not in here for text in named}
    kept_states = {key: state.text for key, state in states.items() if key not in deleted | cleared | pruned}
    return Outcome(
        verdicts={
            key: Verdict(
                action=action,
                reason=reason,
                referenced_by=sorted(sources[key]),
                tags=sorted(
                    tag for (repository, tag), link in tags.items() if (repository, link.digest) == key
                ),
                unused_since=states[key].unused_since if key in states else None,
            )
            for key, (action, reason) in sorted(decided.items())
        },
        unreadable=torn,
        stale=stale,
        images=set(images) - deleted,
        tags={place: link.digest for place, link in tags.items() if (place[0], link.digest) not in deleted},
        states=kept_states | dict.fromkeys(marked, "now"),
        pruned=pruned,
        removed_folders=removed_folders(
            root / "images",
            {images[key].folder for key in deleted}
            | {link.link for (repository, _), link in tags.items() if (repository, link.digest) in deleted},
        ),
        ready_images=sum(
            image.status == "ready" and image.named and image.whole for image in images.values()
        ),
        protected_images=len({digest for (_, digest), found in sources.items() if found}),
        marked_unused=len(marked),
        cleared_states=len(cleared),
        deleted_images=len(deleted),
        pruned_states=len(pruned),
        stale_references=len(stale),
        is_hidden=is_hidden,
    )


def removed_folders(images: pathlib.Path, removed: set[pathlib.Path]) -> set[str]:
    """Tell which folders are left with nothing in them once these paths are gone."""
    folders: set[str] = set()
    level = {path.parent for path in removed}
    while level:
        emptied = {folder for folder in level if folder != images and set(folder.iterdir()) <= removed}
        removed = removed | emptied
        folders |= {folder.relative_to(images).as_posix() for folder in emptied}
        level = {folder.parent for folder in emptied}
    return folders
