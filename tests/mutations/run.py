"""Takes away one safety check after the other, and shows that some test then fails.

`python tests/mutations/run.py [WORD …]` works on copies of `src` and `tests`; with words, on the mutations whose names
hold one of them. It exits with 1 where a mutation survives, or no longer finds the text that it replaces.
"""

# ruff: noqa: T201 - a program prints

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

__all__ = ["main"]

ROOT = Path(__file__).parent.parent.parent
AT_A_TIME = 2
LONGEST_SECONDS = 400

MODEL = ("tests/model/test_planning.py", "tests/model/test_judging.py", "tests/model/test_protection.py")
POLICY = (
    *("tests/model/test_terms.py", "tests/model/test_selection.py", "tests/model/test_pressure.py"),
    *("tests/model/test_judging.py", "tests/model/test_origins.py", "tests/model/test_policy_properties.py"),
)
LIMITS = ("tests/engine/test_disk_and_brake.py",)
CLOCK = ("tests/model/test_clock_watch.py", "tests/engine/test_clock_guard.py")
STATEFUL = ("tests/proofs/test_stateful.py",)
RETIREMENT = ("tests/disk/test_retirement.py", "tests/disk/test_trash.py", "tests/actors/test_deleter.py")
QUARANTINE = (
    "tests/disk/test_quarantine.py",
    "tests/actors/test_deleter.py",
    "tests/engine/test_quarantined_images.py",
)
KILLS = ("tests/proofs/test_kills.py",)
RACES = ("tests/proofs/test_races.py",)
FUZZ = ("tests/proofs/test_fuzz.py",)
REFERENCES = ("tests/disk/test_reference_files.py", "tests/actors/test_reference_collector.py")
SCAN = ("tests/disk/test_image_scan.py", "tests/actors/test_scanner.py")
CACHES = (
    "tests/actors/test_cached_looks.py",
    "tests/disk/test_folder_cache.py",
    "tests/disk/test_signatures.py",
)
LOCKS = ("tests/actors/test_locks.py",)
ENGINE = (
    *("tests/engine/test_retention.py", "tests/engine/test_suspension.py", "tests/engine/test_faults.py"),
    *("tests/engine/test_moved_tags.py", "tests/proofs/test_last_look.py"),
)
VIEWS = (
    *("tests/disk/test_signatures.py", "tests/disk/test_folder_cache.py", "tests/disk/test_snapshots.py"),
    *("tests/actors/test_cached_looks.py", "tests/proofs/test_cached_views.py"),
)
CACHED = ("tests/engine/test_cached_sweeps.py",)
FOLDERS = ("tests/disk/test_folders.py", "tests/disk/test_own_files.py", "tests/disk/test_journal.py")


@attrs.frozen
class Mutation:
    """One safety check that is taken away."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    """A file below `src/hmret`, a text that stands in it exactly once, and what takes its place."""
    tests: tuple[str, ...]
    """The files of which one test at least must fail."""


@attrs.frozen
class Outcome:
    """What became of one mutation."""

    mutation: Mutation
    verdict: str
    """`red`, `SURVIVED`, `NOT FOUND`, or `BROKEN` where the tests could not even run."""
    seconds: float
    detail: str


def edit(name: str, file: str, old: str, new: str, *tests: tuple[str, ...]) -> Mutation:
    """Make a mutation of one place."""
    return Mutation(name, ((file, old, new),), tuple(one for group in tests for one in group))


MUTATIONS = (
    # The kernel's word.
    edit(
        "take no lease on an open disk",
        "disk/digest_folder.py",
        "for name, fd in self.descriptors.items():\n            try:\n                self.filesystem.take_lease",
        "for name, fd in ():\n            try:\n                self.filesystem.take_lease",
        RETIREMENT,
        RACES,
    ),
    edit(
        "go on where a lease is refused for an opener",
        "disk/digest_folder.py",
        "except BlockingIOError:\n                return False",
        "except BlockingIOError:\n                continue",
        RETIREMENT,
        RACES,
    ),
    edit(
        "do not ask the lease again after the rename",
        "disk/digest_folder.py",
        "return name not in self.leased or self.filesystem.ask_lease(fd) == Lease.HELD",
        "return True",
        RETIREMENT,
    ),
    edit(
        "do not look what is in the folder after the rename",
        "disk/digest_folder.py",
        "return names == self.descriptors.keys() and all(",
        "return all(",
        RETIREMENT,
    ),
    edit(
        "do not put back after a broken lease",
        "disk/retirement.py",
        "is_back = self._came_between(folder, place, place_fd) and self._put_back(\n"
        "                    intent, place_fd, place.name\n                )",
        "is_back = False",
        RETIREMENT,
    ),
    edit(
        "do not put back in recovery",
        "disk/retirement.py",
        "is_open = folder.is_complete and not self._lease(folder)",
        "is_open = False",
        RETIREMENT,
    ),
    edit(
        "let an opener kill us by SIGIO",
        "disk/filesystem.py",
        "fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)",
        "pass",
        ("tests/disk/test_filesystem.py",),
        RACES,
    ),
    # The last look.
    edit(
        "skip the look again at the references",
        "engine/deleting.py",
        "look = LastLook(again.keys,",
        "look = LastLook(frozenset(),",
        ENGINE,
    ),
    edit(
        "ignore the references in the last look",
        "disk/retirement.py",
        "if key in self.look.protected:",
        "if False:",
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "go on where a reference became unreadable since the scan",
        "engine/deleting.py",
        "tally.suspended.extend(self.overlook.reference_suspensions(again.unreadable))",
        "pass",
        ENGINE,
    ),
    edit(
        "do not read the state again at the last look",
        "disk/retirement.py",
        "since_ns = state.unused_since_ns\n",
        "since_ns = intent.unused_since_ns\n",
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "do not read the metadata again at the last look",
        "disk/retirement.py",
        "reason = folder.judge(key[0], hex_of(key[1]))",
        "reason = None",
        RETIREMENT,
    ),
    edit(
        "do not compare the digest in the metadata",
        "disk/image_scan.py",
        "if digest != digest_of(hexadecimal):",
        "if False:",
        SCAN,
        RETIREMENT,
    ),
    edit(
        "do not compare the repository in the metadata",
        "disk/image_scan.py",
        'return "" if named == repository else',
        'return "" if named else',
        SCAN,
        RETIREMENT,
    ),
    edit(
        "take a link for a disk",
        "disk/image_scan.py",
        "if not stat.S_ISREG(found.st_mode):",
        "if False:",
        SCAN,
    ),
    # References and suspension.
    Mutation(
        "drop the suspension",
        (
            ("model/judging.py", "if self.is_suspended:", "if False:"),
            (
                "engine/sweeping.py",
                "if not tally.suspended:\n                await self._free",
                "if True:\n                await self._free",
            ),
        ),
        (*MODEL, *ENGINE, *STATEFUL),
    ),
    edit(
        "take what cannot be read for absent",
        "disk/reference_files.py",
        "except UnreadableError as error:\n        return ReferenceFile(path, problem=str(error))",
        "except UnreadableError as error:\n        return None",
        REFERENCES,
        STATEFUL,
    ),
    edit(
        "let a part of the cache that cannot be listed suspend nothing",
        "engine/overlook.py",
        "for path, problem in scan.unlisted:",
        "for path, problem in ():",
        ENGINE,
        FUZZ,
    ),
    edit(
        "prune in spite of folders that could not be listed",
        "model/repository_plan.py",
        'not folder or name == folder or name.startswith(f"{folder}/") for folder in folders',
        "False for folder in folders",
        MODEL,
        ENGINE,
    ),
    edit(
        "forget what a moved tag has pointed to",
        "model/protection.py",
        "return Remembered(memory.digests | current,",
        "return Remembered(current,",
        MODEL,
        STATEFUL,
    ),
    edit(
        "forget moved tags over a restart",
        "actors/reference_collector.py",
        "self._remembered = self._written = loaded",
        "self._remembered = self._written = {}",
        REFERENCES,
        ENGINE,
        STATEFUL,
    ),
    edit(
        "trust a tag that moved before its guest was first seen",
        "model/protection.py",
        "current |= _made_before(repository, created_ns)",
        "pass",
        MODEL,
        STATEFUL,
    ),
    edit(
        "ignore what is pinned",
        "model/judging.py",
        "self._grounds[policy.pinned.matches(repository), ",
        "self._grounds[False, ",
        MODEL,
    ),
    edit(
        "delete what is not allowed",
        "model/judging.py",
        "policy.allowed.matches(repository)]",
        "True]",
        MODEL,
    ),
    # What is not read again.
    edit(
        "trust what has changed a moment ago",
        "disk/signatures.py",
        "if max(found.st_mtime_ns, found.st_ctime_ns) > looked_ns - SETTLING_NS:",
        "if False:",
        REFERENCES,
        CACHES,
    ),
    edit(
        "trust a guest that was written anew",
        "disk/reference_files.py",
        "if found.st_ctime_ns == signature[4] and found.st_ino == signature[1]:",
        "if found.st_ino == signature[1]:",
        REFERENCES,
        CACHES,
    ),
    edit(
        "trust a folder of which others have changed something",
        "disk/signatures.py",
        "found.st_ctime_ns == signature[4]\n        and found.st_mtime_ns == signature[3]\n        and",
        "",
        CACHES,
    ),
    edit(
        "leave what was not ready as it was",
        "disk/image_scan.py",
        "if repository is None or not known.unsettled:",
        "if True:",
        CACHES,
    ),
    edit(
        "let a part of a plan stand though its references have changed",
        "model/repository_plan.py",
        "and self.references is inventory.references.by_repository.get(name, ())\n",
        "",
        MODEL,
    ),
    edit(
        "let a part of a plan stand though its time has come",
        "model/planning.py",
        "is_due = part is None or part.until_ns <= now_ns",
        "is_due = part is None",
        MODEL,
    ),
    edit(
        "let parts of a plan stand though something else is remembered",
        "model/planning.py",
        "and inventory.remembered == self.remembered",
        "and True",
        MODEL,
    ),
    # Clocks and timers.
    edit(
        "skip the guard of the clock",
        "model/clock_watch.py",
        "fault = None if record is None else _fault(record, reading)",
        "fault = None",
        CLOCK,
        STATEFUL,
    ),
    edit(
        "mark while the clock is distrusted",
        "model/judging.py",
        "if not self.clock_jumped:",
        "if True:",
        MODEL,
        CLOCK,
    ),
    edit(
        "call an image due one nanosecond late",
        "model/grounds.py",
        "since_ns + window_ns > timetable.now_ns",
        "since_ns + window_ns >= timetable.now_ns",
        MODEL,
    ),
    Mutation(
        "ignore the window",
        (
            (
                "model/grounds.py",
                "since_ns + window_ns > timetable.now_ns",
                "since_ns > timetable.now_ns",
            ),
            ("model/repository_plan.py", "and after_ns < since_ns <= now_ns", "and False"),
        ),
        (*MODEL, *STATEFUL),
    ),
    edit(
        "trust a timer in the future",
        "model/timetable.py",
        "if since_ns is None or since_ns > self.now_ns + _FUTURE_TOLERANCE_NS:",
        "if since_ns is None:",
        MODEL,
    ),
    # Rules and limits.
    edit(
        "delete what a rule keeps",
        "model/grounds.py",
        "return here.timetable.terms.of(image.digest).window_ns == NEVER",
        "return False",
        POLICY,
    ),
    edit(
        "let any rule count, not the first",
        "model/terms.py",
        "by_digest[digest] = terms\n                break",
        "by_digest[digest] = terms",
        POLICY,
    ),
    edit(
        "delete one of the newest",
        "model/grounds.py",
        "return image.digest in here.latest",
        "return False",
        POLICY,
    ),
    edit(
        "count what is not whole among the newest",
        "model/terms.py",
        'if image.status == "ready" and image.broken is None',
        "if True",
        POLICY,
    ),
    edit(
        "take what states no age for old",
        "model/terms.py",
        "yield from (image.digest for image in images if image.created_ns is None)",
        "yield from ()",
        POLICY,
    ),
    edit(
        "delete what is too young",
        "model/grounds.py",
        "return here.timetable.grown_at(image) > here.timetable.now_ns",
        "return False",
        POLICY,
    ),
    edit(
        "delete what cannot be pulled again",
        "model/judging.py",
        "if policy.keeps_unpullable:\n            yield NotPullable()",
        "if False:\n            yield NotPullable()",
        POLICY,
        ("tests/model/test_judging.py",),
    ),
    edit(
        "pass by what cannot be pulled again where nothing else is to tell",
        "model/repository_plan.py",
        "and image.pullable is not False",
        "and True",
        POLICY,
    ),
    edit("never brake", "model/selection.py", "if not is_released:", "if False:", POLICY, LIMITS),
    edit(
        "release the brake at once",
        "engine/brake_watch.py",
        "return _reach(record) if self._remaining_ns(record, reading) <= 0 else 0",
        "return _ALL",
        LIMITS,
    ),
    edit(
        "count another boot's time for the brake",
        "engine/brake_watch.py",
        "if record.boot_id != reading.boot_id:\n            return hold_ns",
        "if False:\n            return hold_ns",
        LIMITS,
    ),
    edit(
        "delete at any hour",
        "model/selection.py",
        "if not self.window.is_open(self.now):",
        "if False:",
        POLICY,
        LIMITS,
    ),
    edit(
        "press what was in use lately",
        "model/pressure.py",
        "if choice.since_ns <= since_ns)",
        "if True)",
        POLICY,
        LIMITS,
    ),
    edit(
        "press what else holds against",
        "model/repository_plan.py",
        "if reason is Reason.RETENTION_WINDOW and tuple(judge.reasons(image)) == (reason,):",
        "if reason is Reason.RETENTION_WINDOW:",
        POLICY,
    ),
    edit(
        "empty the cache for somebody else",
        "model/pressure.py",
        "self._share_of(excess, cache_bytes) if is_out_of_reach else excess",
        "excess",
        POLICY,
        LIMITS,
    ),
    edit(
        "never back off from a disk that others fill",
        "engine/disk_watch.py",
        "waits = record.boot_id == reading.boot_id and reading.boot_ns < record.again_boot_ns",
        "waits = False",
        LIMITS,
    ),
    edit(
        "forget between the marks that others fill the disk",
        "engine/disk_watch.py",
        "if not high or used <= self.limits.low * total:",
        "if not high or used <= high * total:",
        LIMITS,
    ),
    edit(
        "go on though nothing comes free",
        "engine/disk_watch.py",
        "is_futile=waits and record.in_vain >= _IN_VAIN",
        "is_futile=False",
        LIMITS,
    ),
    edit(
        "release more than was announced",
        "engine/brake_watch.py",
        "return record.announced_images * 3 // 2",
        "return _ALL",
        LIMITS,
    ),
    edit(
        "delete after the hours have ended",
        "engine/deleting.py",
        "while candidates and may_go_on():",
        "while candidates:",
        LIMITS,
    ),
    edit(
        "go by tags that an earlier batch has read",
        "disk/retirement.py",
        "tags = self._tags_of(repository, hexadecimals, afresh=decide)",
        "tags = self._tags_of(repository, hexadecimals, afresh=False)",
        LIMITS,
    ),
    edit(
        "go by what metadata once said",
        "disk/retirement.py",
        "return None if chosen.is_still(folder.image) else Reason.RETENTION_WINDOW",
        "return None",
        LIMITS,
    ),
    edit(
        "take the newest for usable",
        "engine/overlook.py",
        "if found is None or _rank(found) != _rank(image):",
        "if False:",
        LIMITS,
    ),
    edit(
        "press disks whose bytes would not come free",
        "model/pressure.py",
        "if disk is not None and len(group) + going.links[identity] == disk.links:",
        "if disk is not None:",
        POLICY,
    ),
    edit(
        "delete what has other tags than it was chosen with",
        "disk/retirement.py",
        "or key in self._retagged",
        "or False",
        LIMITS,
    ),
    # Locks.
    edit(
        "let mark_used pass a claim",
        "actors/locks.py",
        "while (claim := self._claims.get(request.key)) is not None and not request.ended.is_set():",
        "while (claim := None) is not None:",
        LOCKS,
        RACES,
    ),
    edit(
        "claim what was used since the sweep began",
        "actors/locks.py",
        "if key not in self._claims and key not in self._used)",
        "if key not in self._claims and key not in self._users)",
        LOCKS,
        RACES,
    ),
    edit(
        "claim what is in use",
        "actors/locks.py",
        "if key not in self._claims and key not in self._used)",
        "if key not in self._claims)",
        LOCKS,
        RACES,
    ),
    edit(
        "grant an image that is being worked on",
        "actors/locks.py",
        "return key not in self._in_hand",
        "return True",
        LOCKS,
        RACES,
    ),
    edit(
        "work on an image that was withdrawn",
        "actors/locks.py",
        "if key not in self._waiting:\n                return False",
        "if key not in self._waiting:\n                return True",
        LOCKS,
        RACES,
    ),
    edit(
        "delete what was withdrawn from the claim",
        "disk/retirement.py",
        "if not grip.begin(key):\n                        continue",
        "grip.begin(key)",
        RETIREMENT,
    ),
    edit(
        "mark what was withdrawn from the claim",
        "disk/state_files.py",
        "if not grip.begin(key):\n            continue",
        "grip.begin(key)",
        ENGINE,
    ),
    edit(
        "recover while some of it is in use",
        "engine/deleting.py",
        "if given.keys == keys and given.begin_all():",
        "if given.begin_all():",
        ENGINE,
    ),
    edit(
        "go by an old look at the references",
        "actors/deleter.py",
        "return self._is_stopping or now_ns - first_ns > within_ns",
        "return self._is_stopping",
        ENGINE,
    ),
    edit(
        "go by what guests referred to before",
        "actors/reference_collector.py",
        "if after is before and self.is_indexed:",
        "if self.is_indexed:",
        REFERENCES,
    ),
    edit(
        "take a fresh timer for the one that was read",
        "disk/state_files.py",
        "return found.st_ino == self.inode and",
        "return",
        ("tests/disk/test_state_files.py",),
    ),
    edit(
        "take a timer that was written over for the one that was read",
        "disk/state_files.py",
        "return found.st_ino == self.inode and self.filesystem.pread(self.fd, size_bytes, 0) == self.content",
        "return found.st_ino == self.inode",
        ("tests/disk/test_state_files.py",),
    ),
    edit(
        "do not look again for tags at the end of many batches",
        "disk/tags.py",
        "for hexadecimal, tags in find_tags(filesystem, repository_fd, all_gone).items():",
        "for hexadecimal, tags in ():",
        ("tests/disk/test_tags.py",),
    ),
    # What is not given is refused twice: by who asks, and by the grip of the thread that works.
    Mutation(
        "mark without a claim",
        (
            (
                "engine/sweeping.py",
                "keys = [key for key in batch if key in given.keys]",
                "keys = list(batch)",
            ),
            ("disk/state_files.py", "if not grip.begin(key):\n            continue", "grip.begin(key)"),
        ),
        (*ENGINE, *RACES),
    ),
    Mutation(
        "delete without a claim",
        (
            (
                "engine/deleting.py",
                "chosen = [candidate for key, candidate in by_key.items() if key in given.keys]",
                "chosen = list(by_key.values())",
            ),
            (
                "disk/retirement.py",
                "if not grip.begin(key):\n                        continue",
                "grip.begin(key)",
            ),
        ),
        (*ENGINE, *RACES),
    ),
    edit(
        "give up the claim before the thread has ended",
        "engine/deleting.py",
        "with anyio.CancelScope(shield=True):\n                retired",
        "with anyio.CancelScope():\n                retired",
        ENGINE,
    ),
    edit(
        "tell that a broken image is here",
        "engine/retention.py",
        "if image.broken is not None:",
        "if False:",
        ENGINE,
    ),
    edit(
        "tell that an image which is not ready is here",
        "engine/retention.py",
        'if image.status != "ready":',
        "if False:",
        ENGINE,
    ),
    # Crashes.
    edit(
        "write no intents before the rename",
        "disk/retirement.py",
        "write_intents(self.filesystem, self.data_fd, token, intents)",
        "pass",
        KILLS,
        RETIREMENT,
    ),
    edit(
        "do not force the intents to the disk",
        "disk/trash.py",
        "msgspec.json.encode(list(intents)), fd, durable=True)",
        "msgspec.json.encode(list(intents)), fd, durable=False)",
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "do not force a cleared timer to the disk",
        "actors/state_keeper.py",
        "cleared = clear_state(self._filesystem, self._data_fd, key, durable=True)",
        "cleared = clear_state(self._filesystem, self._data_fd, key)",
        ENGINE,
    ),
    edit(
        "leave the old timer to a fresh pull",
        "disk/retirement.py",
        "self._remove_state(intent, held)",
        "pass",
        KILLS,
        RETIREMENT,
    ),
    edit(
        "do not compare the timer before it goes in recovery",
        "disk/retirement.py",
        "elif look_at_state(self.filesystem, self.data_fd, key) == intent.unused_since_ns:",
        "else:",
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "remove tags without looking whether the folder is back",
        "disk/tags.py",
        "if exists(filesystem, repository_fd, hexadecimal):\n                break",
        "if False:\n                break",
        RETIREMENT,
        KILLS,
    ),
    edit(
        "do not look again whether the folder came back",
        "disk/tags.py",
        "if removed and exists(filesystem, repository_fd, hexadecimal):",
        "if False:",
        RETIREMENT,
        KILLS,
    ),
    edit(
        "remove a tag that moved while it was set aside",
        "disk/tags.py",
        "if not goes:",
        "if False:",
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "touch a tag that points elsewhere by now",
        "disk/tags.py",
        "if filesystem.readlink(tag, dir_fd=repository_fd) != hexadecimal:",
        "if False:",
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "leave the metadata of what stays on its own file system",
        "disk/retirement.py",
        "if not is_back and place.is_beside:",
        "if False:",
        RETIREMENT,
    ),
    edit(
        "never recover",
        "disk/recovery.py",
        "for intent in intents:\n            for place",
        "for intent in ():\n            for place",
        KILLS,
        RETIREMENT,
    ),
    # Quarantine.
    edit(
        "do not force the record of what is held to the disk",
        "disk/quarantine.py",
        "msgspec.json.encode(record), fd, durable=True)",
        "msgspec.json.encode(record), fd, durable=False)",
        QUARANTINE,
    ),
    edit(
        "trust the records of what is held",
        "disk/quarantine.py",
        "if not names or len(names) != len(record) or not all(",
        "if False and not all(",
        QUARANTINE,
    ),
    edit(
        "erase what is held as if no record named it",
        "disk/recovery.py",
        "and not records.covers(name)",
        "",
        QUARANTINE,
        KILLS,
    ),
    edit(
        "take a record that cannot be listed for none",
        "disk/recovery.py",
        "self._note_trash(error)\n            return None",
        "self._note_trash(error)\n            return HeldRecords({}, ())",
        QUARANTINE,
    ),
    edit(
        "finish what is held already",
        "disk/recovery.py",
        "if intent.name in held_names:",
        "if False:",
        QUARANTINE,
        KILLS,
    ),
    edit(
        "hold what was being erased",
        "disk/recovery.py",
        "if is_whole(self.filesystem, self.data_fd, place)",
        "if True",
        QUARANTINE,
    ),
    edit(
        "forget what is held before it is back for good",
        "disk/restoring.py",
        "filesystem.fsync(repository_fd)\n                filesystem.fsync(place_fd)",
        "pass",
        QUARANTINE,
    ),
    edit(
        "restore whatever stands in its place",
        "disk/restoring.py",
        "if folder.judge(held.repository, hex_of(held.digest), metadata) is None:",
        "if True:",
        QUARANTINE,
    ),
    edit(
        "restore without a timer",
        "disk/restoring.py",
        "        self._write_state()\n        with",
        "        with",
        QUARANTINE,
    ),
    edit(
        "leave what a restore that was cut off has made",
        "disk/restoring.py",
        "                _undo_restore(filesystem, data_fd, held)\n        except",
        "                pass\n        except",
        QUARANTINE,
        KILLS,
    ),
    edit(
        "take the timer that is made first away first",
        "disk/restoring.py",
        "        _remove_empty_folders(filesystem, data_fd, held.repository)\n        clear_state(",
        "        clear_state(filesystem, data_fd, held.key)\n"
        "        _remove_empty_folders(filesystem, data_fd, held.repository)\n        clear_state(",
        QUARANTINE,
    ),
    edit(
        "release what is being restored",
        "engine/quarantine.py",
        "if self._take(held):\n                    return",
        "if held.name in self._held:\n                    return",
        QUARANTINE,
    ),
    edit(
        "let a restore and a recovery write records at once",
        "actors/deleter.py",
        "async with self._records:\n                    return",
        "if True:\n                    return",
        QUARANTINE,
    ),
    edit(
        "empty the quarantine though the deletions found a reason to stop",
        "engine/sweeping.py",
        "if not tally.suspended:\n                    await self.deleting.quarantine",
        "if True:\n                    await self.deleting.quarantine",
        QUARANTINE,
    ),
    edit(
        "hold what was retired in the future until then",
        "engine/quarantine.py",
        "await self._redate(tally)\n        due",
        "due",
        QUARANTINE,
    ),
    # Containment.
    edit(
        "follow a link into a folder",
        "disk/folders.py",
        "_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW",
        "_STEP = os.O_RDONLY | os.O_DIRECTORY",
        FOLDERS,
        FUZZ,
    ),
    edit(
        "follow a link where a file is read",
        "disk/folders.py",
        "READ = _FOLLOW | os.O_NOFOLLOW",
        "READ = _FOLLOW",
        FOLDERS,
        FUZZ,
    ),
    edit(
        "follow a link where a file is written",
        "disk/folders.py",
        "flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW",
        "flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC",
        FUZZ,
    ),
    edit(
        "follow a link where the journal is written",
        "disk/journal.py",
        "os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK",
        "os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK",
        FUZZ,
    ),
    edit(
        "take a link in a digest folder for a file",
        "disk/digest_folder.py",
        "_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY",
        "_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY",
        RETIREMENT,
        FUZZ,
    ),
    edit(
        "trust the intents on record",
        "disk/trash.py",
        "return [intent for intent in intents if is_ours(intent, token)]",
        "return intents",
        FUZZ,
    ),
    edit(
        "walk upwards",
        "disk/folders.py",
        'if name in ("", ".", ".."):',
        "if False:",
        FOLDERS,
    ),
    edit(
        "let two engines work on one data directory",
        "disk/own_files.py",
        "filesystem.lock(fd)",
        "pass",
        FOLDERS,
        ENGINE,
    ),
    # What was read before.
    edit(
        "trust a folder for ever",
        "disk/folder_cache.py",
        "return 0 < rest_ns <= _LONGEST_TRUST_NS",
        "return True",
        VIEWS,
    ),
    edit(
        "trust a folder that changes often for ever",
        "disk/folder_cache.py",
        "if path not in self._built_upon:",
        "if True:",
        VIEWS,
    ),
    edit(
        "take metadata of the same inode for the same",
        "disk/image_scan.py",
        "== inode and found.st_ctime_ns == changed_ns",
        "== inode",
        VIEWS,
    ),
    edit(
        "know a timer that could not be read",
        "disk/state_files.py",
        "if corrupt or (not found and path):",
        "if not found and path:",
        VIEWS,
    ),
    edit(
        "read a damaged record",
        "disk/snapshots.py",
        "or crc32(content) != checksum",
        "",
        VIEWS,
    ),
    edit(
        "keep the guests that were there when others are put in their place",
        "disk/reference_files.py",
        "known.signature == signature",
        "known.names",
        REFERENCES,
        VIEWS,
    ),
    edit(
        "keep the parts of a plan though something else is remembered",
        "model/planning.py",
        " and inventory.remembered == self.remembered",
        "",
        MODEL,
    ),
    edit(
        "forget what the first of two things of one name ran from",
        "model/protection.py",
        "= _both(memory, others)",
        "= memory",
        MODEL,
    ),
    edit(
        "trust what was known of guests before a power loss",
        "disk/cache_records.py",
        'load_snapshot(filesystem, data_fd, _REFERENCES, _head(f"{_REFERENCES} {boot_id}"))',
        'load_snapshot(filesystem, data_fd, _REFERENCES, _head(f"{_REFERENCES} first-boot"))',
        REFERENCES,
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Run the mutations and print a table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only the mutations whose names hold one of these")
    words = parser.parse_args(arguments).words
    chosen = [one for one in MUTATIONS if not words or any(word in one.name for word in words)]
    tests = tuple(dict.fromkeys(test for mutation in chosen for test in mutation.tests))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        untouched = make_copy(ROOT, place / "untouched")
        status, failed = run_tests(untouched, tests)
        if status != 0:
            print(f"the tests fail before anything is mutated: {failed}")
            return 1
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            outcomes = []
            copies = [place / str(number) for number in range(len(chosen))]
            for outcome in pool.map(lambda mutation, copy: mutate(untouched, copy, mutation), chosen, copies):
                line = f"{outcome.verdict:9} {outcome.seconds:5.1f} s  {outcome.mutation.name:58} {outcome.detail}"
                print(line.rstrip(), flush=True)
                outcomes.append(outcome)
    bad = [outcome for outcome in outcomes if outcome.verdict != "red"]
    print(f"{len(outcomes)} mutations, {len(outcomes) - len(bad)} caught, {len(bad)} not")
    return 1 if bad else 0


def make_copy(tree: Path, place: Path) -> Path:
    """Copy what the tests need."""
    place.mkdir()
    shutil.copy(tree / "pyproject.toml", place)
    for name in ("src", "tests"):
        shutil.copytree(
            tree / name, place / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis")
        )
    return place


def mutate(untouched: Path, place: Path, mutation: Mutation) -> Outcome:
    """Apply one mutation to a copy, and run its tests."""
    begin = time.monotonic()
    copy = make_copy(untouched, place)
    for file, old, new in mutation.edits:
        path = copy / "src/hmret" / file
        text = path.read_text()
        if text.count(old) != 1:
            return Outcome(
                mutation, "NOT FOUND", 0.0, f"{file}: stands there {text.count(old)} times: {old[:60]!r}"
            )
        path.write_text(text.replace(old, new))
    status, failed = run_tests(copy, mutation.tests)
    shutil.rmtree(place)
    # Below zero it was killed by a signal; above one pytest itself could not work.
    verdict = "SURVIVED" if status == 0 else "red" if status <= 1 else "BROKEN"
    return Outcome(mutation, verdict, time.monotonic() - begin, failed)


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests on a copy until one fails; returns the exit status (0: none did) and what failed."""
    path = os.pathsep.join([str(copy / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    program = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    # A test that is killed, or hangs, has failed too.
    program += ["--timeout=100", "--tb=no", *[test for test in tests if (copy / test).exists()]]
    try:
        ended = subprocess.run(
            program,
            cwd=copy,
            env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "it hangs"
    match = re.search(r"^(?:FAILED|ERROR) tests/(.+?)(?: - .*)?$", ended.stdout, re.MULTILINE)
    failed = match[1] if match else f"exit status {ended.returncode}" if ended.returncode else ""
    # A file that cannot even be imported shows nothing.
    return (2 if ended.returncode == 1 and "::" not in failed else ended.returncode), failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
