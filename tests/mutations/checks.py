"""Checks that images of any layout rest on, each taken away."""

from mutations.mutation import ALWAYS, DROP, NEVER, Become, Mutation, Swap, edit

__all__ = ["MUTATIONS"]

MODEL = (
    "tests/model/plan/test_decide.py",
    "tests/model/plan/test_evaluate.py",
    "tests/model/test_protection.py",
)
POLICY = (
    *(
        "tests/model/plan/test_effective_rules.py",
        "tests/model/plan/test_selection.py",
        "tests/model/plan/test_pressure.py",
    ),
    *(
        "tests/model/plan/test_evaluate.py",
        "tests/model/test_origins.py",
        "tests/model/plan/test_policy_properties.py",
    ),
)
RULES_OF_TAGS = ("tests/model/plan/test_effective_rules.py",)
SETTINGS = ("tests/settings/test_config_files.py", "tests/settings/test_rule_warnings.py")
TAG_RULES = ("tests/content/test_rules_for_tags.py",)
LIMITS = ("tests/engine/test_disk_and_brake.py",)
CLOCK = ("tests/model/clock/test_clock_guard_of_model.py", "tests/engine/test_clock_guard.py")
STATEFUL = ("tests/proofs/test_stateful.py",)
RETIREMENT = (
    "tests/disk/deletion/test_retirement.py",
    "tests/disk/deletion/trash/test_trash.py",
    "tests/actors/test_deleter.py",
)
QUARANTINE = (
    "tests/disk/deletion/recovery/test_quarantine.py",
    "tests/actors/test_deleter.py",
    "tests/engine/test_quarantined_images.py",
)
HELD = ("tests/disk/deletion/recovery/test_quarantine.py",)
KILLS = ("tests/proofs/test_kills.py",)
RACES = ("tests/proofs/test_races.py",)
FUZZ = ("tests/proofs/test_fuzz.py",)
REFERENCES = ("tests/disk/scans/test_reference_files.py", "tests/actors/test_reference_collector.py")
FIRST_SIGHTS = ("tests/model/test_protection.py", "tests/content/test_forks_and_odd_ages.py")
SAVED_STATES = ("tests/disk/hypeman/test_saved_states.py", "tests/content/test_forks_and_odd_ages.py")
SCAN = ("tests/disk/hypeman/test_image_scan.py", "tests/actors/test_scanner.py")
CACHES = (
    "tests/actors/test_cached_looks.py",
    "tests/disk/scans/test_folder_cache.py",
    "tests/disk/test_fingerprints.py",
)
TAGS = ("tests/disk/deletion/tags/test_taken_links.py",)
LOOKS = ("tests/actors/test_cached_looks.py",)
LOCKS = ("tests/actors/test_locks.py",)
ENGINE = (
    *("tests/engine/test_retention.py", "tests/engine/test_suspension.py", "tests/engine/test_faults.py"),
    *("tests/engine/test_moved_tags.py", "tests/proofs/test_last_look.py"),
)
VIEWS = (
    *(
        "tests/disk/test_fingerprints.py",
        "tests/disk/scans/test_folder_cache.py",
        "tests/disk/scans/test_checkpoint_file.py",
    ),
    *("tests/actors/test_cached_looks.py", "tests/proofs/test_cached_views.py"),
)
CACHED = ("tests/engine/test_cached_sweeps.py",)
FOLDERS = (
    "tests/disk/test_folders.py",
    "tests/disk/records/test_own_files.py",
    "tests/disk/records/test_journal.py",
)

MUTATIONS = (
    # The kernel's word.
    edit(
        "take no lease on an open disk",
        "ask-about-every-file",
        Become("answers = [0 for _ in self.descriptors]"),
        RETIREMENT,
        RACES,
    ),
    edit(
        "go on where a lease is refused for an opener",
        "open-file-keeps-image",
        Become("continue"),
        RETIREMENT,
        RACES,
    ),
    edit(
        "do not ask the lease again after the rename",
        "leases-survive-the-move",
        Become("return True"),
        RETIREMENT,
    ),
    edit("do not look what is in the folder after the rename", "only-known-files-go", NEVER, RETIREMENT),
    edit(
        "take a folder in which something has just changed for one in which nothing does",
        "fresh-folder-is-relisted",
        Swap(" if changed_ns <= looked_ns - SETTLING_NS else None", ""),
        RETIREMENT,
    ),
    edit(
        "do not see by its time stamp what came into a folder",
        "new-files-show-in-the-stamp",
        Swap("moved.st_mtime_ns != self.stable_mtime_ns", "self.stable_mtime_ns is None"),
        RETIREMENT,
    ),
    edit(
        "do not put back after a broken lease",
        "opener-gets-image-back",
        Swap("came_between", "False"),
        RETIREMENT,
    ),
    edit("do not put back in recovery", "crash-spares-open-disk", Swap("not is_free", "False"), RETIREMENT),
    edit(
        "let an opener kill us by SIGIO",
        "opener-cannot-kill-service",
        DROP,
        ("tests/disk/test_filesystem.py",),
        RACES,
    ),
    # The last look.
    edit(
        "skip the look again at the references",
        "references-read-under-claim",
        Swap("again.keys", "frozenset()"),
        ENGINE,
    ),
    edit("ignore the references in the last look", "newly-referenced-stays", NEVER, RETIREMENT, ENGINE),
    edit(
        "go on where a reference became unreadable since the scan", "late-doubt-stops-deletion", DROP, ENGINE
    ),
    edit(
        "do not read the state again at the last look",
        "timer-is-unchanged",
        Swap(
            "since_ns == row.unused_since_ns and is_due",
            "row.unused_since_ns + self.look.unused_for_ns <= self.look.now_ns",
        ),
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "do not read the metadata again at the last look",
        "metadata-right-before-move",
        Become("reason = None"),
        RETIREMENT,
    ),
    edit("do not compare the digest in the metadata", "metadata-names-the-digest", NEVER, SCAN, RETIREMENT),
    edit(
        "do not compare the repository in the metadata",
        "metadata-names-its-owner",
        Swap("== repository ", ""),
        SCAN,
        RETIREMENT,
    ),
    edit("take a link for a disk", "disk-is-a-plain-file", NEVER, SCAN),
    # References and suspension.
    Mutation(
        "drop the suspension",
        (
            ("suspension-keeps-everything", NEVER),
            ("doubt-ends-the-sweep", Swap(" bool(self.ledger.suspended) or", "")),
            ("suspended-sweep-frees-none", ALWAYS),
        ),
        (*MODEL, *ENGINE, *STATEFUL),
    ),
    edit(
        "take what cannot be read for absent",
        "unreadable-is-not-absent",
        Become("return None"),
        REFERENCES,
        STATEFUL,
    ),
    edit(
        "let a part of the cache that cannot be listed suspend nothing",
        "unlisted-part-suspends",
        Swap("scan.unlisted", "()"),
        ENGINE,
        FUZZ,
    ),
    edit(
        "prune in spite of folders that could not be listed",
        "unlisted-timers-stay",
        Swap('not folder or name == folder or name.startswith(f"{folder}/")', "False"),
        MODEL,
        ENGINE,
    ),
    edit(
        "trust a tag that is absent while something comes by it",
        "newcomer-by-absent-tag",
        Become("doubtful = set[str]()"),
        REFERENCES,
    ),
    edit(
        "trust a tag that is absent where something has come by it right before the scan",
        "newcomer-before-the-scan",
        Become("is_newcomer = False"),
        REFERENCES,
    ),
    edit(
        "forget what a moved tag has pointed to",
        "moved-tag-keeps-old-image",
        Swap(" if before is None else before.digests", ""),
        MODEL,
        STATEFUL,
    ),
    edit(
        "forget moved tags over a restart",
        "tag-memory-over-restart",
        Swap("loaded", "{}"),
        REFERENCES,
        ENGINE,
        STATEFUL,
    ),
    edit(
        "trust a tag that moved before its guest was first seen",
        "unseen-tag-move-keeps-all",
        Swap("_made_before(repository, created_ns + _DOUBT_NS)", ""),
        MODEL,
        STATEFUL,
    ),
    edit(
        "ignore what is pinned",
        "operator-patterns-hold",
        Swap("policy.pinned.matches(repository)", "False"),
        MODEL,
    ),
    edit(
        "delete what is not allowed",
        "operator-patterns-hold",
        Swap("policy.allowed.matches(repository)", "True"),
        MODEL,
    ),
    # What is not read again.
    edit("trust what has changed a moment ago", "recent-change-is-unknown", NEVER, REFERENCES, CACHES),
    edit(
        "trust a guest that was written anew",
        "rewritten-guest-is-read",
        Swap("st_ctime_ns != fingerprint[4] or status.", ""),
        REFERENCES,
        CACHES,
    ),
    edit(
        "trust a folder of which others have changed something",
        "changed-stamp-is-reread",
        Swap(
            "status.st_ctime_ns == fingerprint[4]\n        and status.st_mtime_ns == fingerprint[3]\n        and",
            "",
        ),
        CACHES,
    ),
    edit("leave what was not ready as it was", "unready-is-checked-again", ALWAYS, CACHES),
    edit(
        "let a part of a plan stand though its references have changed",
        "changed-inputs-new-verdict",
        Swap("and self.protection is protection\n            ", "            "),
        MODEL,
    ),
    edit(
        "let a whole plan stand though its states may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.states is inventory.states\n        ", "\n        "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a whole plan stand though its references may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.references is inventory.references\n        ", "\n        "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a whole plan stand though its contents may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.contents is inventory.contents\n        ", "\n        "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a whole plan stand though its builds may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.builds is inventory.builds\n        ", "\n        "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a whole plan stand though its leased may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.leased == inventory.leased\n        ", "\n        "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a whole plan stand though its backing_off may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.backing_off == inventory.backing_off\n        ", "\n        "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a whole plan stand though its accessed may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.accessed == inventory.accessed\n        ", "\n        "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a whole plan stand though its unlisted may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.unlisted == inventory.unlisted\n        ", "\n        "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a whole plan stand though its unread_sources may be others",
        "whole-plan-needs-same-facts",
        Swap("\n        and earlier.unread_sources == inventory.unread_sources\n    ", "\n    "),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/test_builds.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a slip in the patterns of a single sweep stop every timer",
        "pattern-slip-keeps-timers",
        NEVER,
        ("tests/engine/test_stopped_timers.py",),
    ),
    edit(
        "refuse a single sweep only after it has changed something",
        "refuse-before-any-change",
        Swap("stopped ", "await self.surveyor.states.clear(dict(plan.clears))\n        stopped "),
        ("tests/engine/test_stopped_timers.py",),
    ),
    edit(
        "let a whole plan stand though its time has come",
        "time-ends-the-whole-plan",
        Swap(" < self._gathered.until_ns", ""),
        (
            "tests/model/plan/test_decide.py",
            "tests/model/plan/test_evaluate.py",
            "tests/model/plan/test_whole_plans.py",
        ),
    ),
    edit(
        "let a part of a plan stand though its time has come",
        "time-ends-a-verdict",
        Swap(" or part.until_ns <= now_ns", ""),
        MODEL,
    ),
    edit(
        "let parts of a plan stand though something else is remembered",
        "tag-memory-renews-plan",
        Swap("inventory.remembered == self.remembered", "True"),
        MODEL,
    ),
    # Clocks and timers.
    edit(
        "skip the guard of the clock",
        "jumping-clock-suspends",
        Swap(" if record is None else _fault(record, reading)", ""),
        CLOCK,
        STATEFUL,
    ),
    edit("mark while the clock is distrusted", "doubt-starts-no-timer", ALWAYS, MODEL, CLOCK),
    edit("call an image due one nanosecond late", "whole-window-passes", Swap("> ", ">= "), MODEL),
    Mutation(
        "ignore the window",
        (
            ("whole-window-passes", Swap("expiry.runs_out_at(image, since_ns)", "since_ns")),
            ("shortcut-only-keeps", Swap("after_ns < since_ns <= before_ns", "False")),
        ),
        (*MODEL, *STATEFUL),
    ),
    edit(
        "trust a timer in the future",
        "future-timer-restarts",
        Swap(" or since_ns > self.now_ns + _FUTURE_TOLERANCE_NS", ""),
        MODEL,
    ),
    # Rules and limits.
    edit("delete what a rule keeps", "rule-keeps-for-ever", Become("return False"), POLICY),
    edit("let any rule count, not the first", "first-rule-decides", Swap("return", "usual ="), RULES_OF_TAGS),
    edit(
        "delete one of the newest",
        "newest-images-stay",
        Swap("image.digest in evaluator.latest", "False"),
        POLICY,
    ),
    edit(
        "take an empty variable for an empty list",
        "empty-variable-not-given",
        Swap("not environment[variable]", "environment[variable] is None"),
        SETTINGS,
    ),
    edit("go on with a config file that has become empty", "emptied-config-is-refused", NEVER, SETTINGS),
    edit("go on without a config file that has gone", "lost-config-is-refused", NEVER, SETTINGS),
    edit(
        "read at a reload what may keep a reader waiting",
        "reload-reads-plain-files",
        Swap("earlier is not None", "False"),
        SETTINGS,
    ),
    edit(
        "say nothing of tags that can never match",
        "impossible-tag-is-reported",
        Swap("rule.tags", "()"),
        SETTINGS,
    ),
    edit(
        "say nothing of a rule in the shadow of a wider one",
        "shadowed-rule-is-reported",
        Swap("_all_covered", "other.match == match and _all_covered"),
        SETTINGS,
    ),
    edit(
        "say nothing of a misspelt section, whose pins are not read",
        "misspelt-section-is-reported",
        NEVER,
        ("tests/settings/test_unread_keys.py",),
    ),
    edit(
        "press all images out of a disk that cannot be measured",
        "unknown-disk-sets-no-limit",
        Swap("and total_bytes ", ""),
        POLICY,
    ),
    edit(
        "ignore an embedder's source of references that fails",
        "failing-source-suspends",
        Swap(" or is_source(path)", ""),
        ("tests/engine/test_suspension.py",),
    ),
    edit(
        "judge an image by the tag that lets it go first",
        "longest-keeping-tag-decides",
        Swap("-", ""),
        POLICY,
        TAG_RULES,
    ),
    edit(
        "ask only one tag of an image whether it is among the newest",
        "newest-for-any-tag",
        Swap(":", "[:1]:"),
        POLICY,
    ),
    edit(
        "take what was made in the future for the newest",
        "odd-age-displaces-none",
        Swap(" or image.created_ns > now_ns", ""),
        POLICY,
        TAG_RULES,
    ),
    edit(
        "go on with a plan when what was made in the future has come of age",
        "future-date-ends-plan",
        Become("until_ns = NEVER"),
        POLICY,
    ),
    edit(
        "count what is not whole among the newest",
        "newest-are-bootable",
        Swap("image.is_plain", "True"),
        POLICY,
    ),
    edit(
        "take what states no age for old",
        "odd-age-displaces-none",
        Swap("None or", "not None and"),
        RULES_OF_TAGS,
    ),
    edit("delete what is too young", "minimum-age-is-respected", Become("return False"), POLICY),
    edit(
        "delete what cannot be pulled again",
        "unpullable-stays",
        NEVER,
        POLICY,
        ("tests/model/plan/test_evaluate.py",),
    ),
    edit(
        "pass by what cannot be pulled again where nothing else is to tell",
        "shortcut-only-keeps",
        Swap("image.pullable is not False", "True"),
        POLICY,
    ),
    edit("never brake", "brake-holds-mass-expiry", NEVER, POLICY, LIMITS),
    edit("release the brake at once", "brake-needs-full-notice", Become("return _ALL"), LIMITS),
    edit("count another boot's time for the brake", "reboot-restarts-notice", NEVER, LIMITS),
    edit("delete at any hour", "only-at-allowed-hours", NEVER, POLICY, LIMITS),
    edit(
        "press what was in use lately",
        "recent-use-beats-pressure",
        Swap("choice.since_ns <= since_ns", "True"),
        POLICY,
        LIMITS,
    ),
    edit(
        "press what else holds against",
        "pressure-takes-only-waiting",
        Swap(" and tuple(evaluator.reasons(image)) == (reason,)", ""),
        POLICY,
    ),
    edit(
        "empty the cache for somebody else", "only-the-fair-share", Become("asked = excess"), POLICY, LIMITS
    ),
    edit(
        "never back off from a disk that others fill",
        "pause-while-others-fill-disk",
        Become("waits = False"),
        LIMITS,
    ),
    edit(
        "forget between the marks that others fill the disk",
        "pause-until-low-mark",
        Swap("self.limits.low", "high"),
        LIMITS,
    ),
    edit(
        "go on though nothing comes free",
        "stop-where-none-comes-free",
        Swap("waits and record.ineffective_sweeps >= _MOST_INEFFECTIVE", "False"),
        LIMITS,
    ),
    edit("release more than was examined", "release-fits-the-notice", Become("return _ALL"), LIMITS),
    edit("delete after the hours have ended", "stop-at-end-of-hours", Swap(" may_go_on() and", ""), LIMITS),
    edit("go by what metadata once said", "same-age-and-origin", NEVER, LIMITS),
    edit("take the newest for usable", "newest-still-usable", NEVER, LIMITS),
    edit("press disks whose bytes would not come free", "pressed-bytes-come-free", ALWAYS, POLICY),
    edit("delete what has other tags than it was chosen with", "tags-are-unchanged", NEVER, LIMITS),
    # Locks.
    edit(
        "let mark_used pass a claim",
        "user-waits-for-deletion",
        Swap(
            "self._claims.get(request.digest)) is not None and not request.ended.is_set()",
            "None) is not None",
        ),
        LOCKS,
        RACES,
    ),
    edit(
        "claim what was used since the sweep began",
        "used-since-start-is-spared",
        Swap("_used", "_users"),
        LOCKS,
    ),
    edit(
        "claim what is in use", "used-since-start-is-spared", Swap(" and digest not in self._used", ""), LOCKS
    ),
    edit(
        "grant an image that is being worked on",
        "no-use-while-in-work",
        Swap("digest not in self._in_hand", "True"),
        LOCKS,
        RACES,
    ),
    edit(
        "work on an image that was withdrawn", "taken-back-is-untouched", Swap("False", "True"), LOCKS, RACES
    ),
    edit(
        "delete what was withdrawn from the claim",
        "delete-only-with-leave",
        Become("claim.begin(digest)"),
        RETIREMENT,
    ),
    edit(
        "mark what was withdrawn from the claim",
        "no-timer-for-taken-back",
        Become("claim.begin(digest)"),
        ENGINE,
    ),
    edit(
        "recover while some of it is in use",
        "recover-only-unused",
        Swap("digests == digests and given.", ""),
        ENGINE,
    ),
    edit(
        "go by an old look at the references",
        "look-must-be-fresh",
        Swap(" or now_ns - first_ns > within_ns", ""),
        ENGINE,
    ),
    edit(
        "go by what guests referred to before",
        "each-look-counts-changes",
        Swap("after is before and ", ""),
        REFERENCES,
    ),
    edit(
        "take a fresh timer for the one that was read",
        "later-timer-is-not-ours",
        Swap(" found[2] == self.found[2] and", ""),
        ("tests/disk/hypeman/test_state_files.py",),
    ),
    edit(
        "take a timer that was written over for the one that was read",
        "later-timer-is-not-ours",
        Swap(" and self.filesystem.pread(self.fd, size_bytes, 0) == self.content", ""),
        ("tests/disk/hypeman/test_state_files.py",),
    ),
    edit(
        "take a timer that has just been written for one that shows when it is written over",
        "fresh-timer-by-content",
        Swap("max(found[4:]) <= looked_ns - SETTLING_NS", "True"),
        ("tests/disk/hypeman/test_state_files.py",),
    ),
    # What is not given is refused twice: by who asks, and by the claim of the thread that works.
    Mutation(
        "mark without a claim",
        (
            ("mark-only-what-is-unused", Become("keys = list(batch)")),
            ("no-timer-for-taken-back", Become("claim.begin(digest)")),
        ),
        (
            *ENGINE,
            *RACES,
        ),
    ),
    Mutation(
        "delete without a claim",
        (
            ("delete-only-what-is-unused", Become("chosen = list(batch)")),
            ("delete-only-with-leave", Become("claim.begin(digest)")),
        ),
        (
            *ENGINE,
            *RACES,
        ),
    ),
    edit(
        "give up the claim before the thread has ended",
        "claim-outlasts-the-thread",
        Swap("shield=True", ""),
        ENGINE,
    ),
    edit("tell that a broken image is here", "broken-is-not-confirmed", NEVER, ENGINE),
    edit("tell that an image which is not ready is here", "unready-is-not-confirmed", NEVER, ENGINE),
    # Crashes.
    edit("write no intents before the rename", "intent-before-rename", DROP, KILLS, RETIREMENT),
    edit(
        "do not force the intents to the disk",
        "intent-survives-power-loss",
        Swap("True", "False"),
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "do not force a cleared timer to the disk",
        "cleared-timer-stays-cleared",
        Swap(", durable=True", ""),
        ENGINE,
    ),
    edit("leave the old timer to a fresh pull", "old-timer-goes-with-image", DROP, KILLS, RETIREMENT),
    edit(
        "do not compare the timer before it goes in recovery",
        "only-the-recorded-timer-goes",
        ALWAYS,
        RETIREMENT,
        ENGINE,
    ),
    edit(
        "remove tags without looking whether the folder is back",
        "returned-image-keeps-tags",
        Swap("link.repository not in absent and is_here(link.repository)", "False"),
        RETIREMENT,
        KILLS,
        TAGS,
    ),
    edit(
        "do not look again whether the folder came back",
        "pull-gets-its-tags-back",
        Swap("is_here(link.repository)", "False"),
        RETIREMENT,
        KILLS,
        TAGS,
    ),
    edit(
        "remove a tag that moved while it was set aside",
        "moved-tag-goes-back",
        Swap(" and found.is_recorded", ""),
        RETIREMENT,
        ENGINE,
        TAGS,
    ),
    edit(
        "touch a tag that points elsewhere by now",
        "newer-tag-is-not-touched",
        NEVER,
        RETIREMENT,
        ENGINE,
        TAGS,
    ),
    edit(
        "leave the metadata of what stays on its own file system", "hidden-before-it-moves", DROP, RETIREMENT
    ),
    edit("never recover", "crash-is-cleaned-up", Swap("intents", "()"), KILLS, RETIREMENT),
    # Quarantine.
    edit(
        "do not force the record of what is held to the disk",
        "held-record-is-durable",
        Swap("True", "False"),
        QUARANTINE,
    ),
    edit(
        "trust the records of what is held",
        "doubtful-record-is-refused",
        Swap("not names or len(names) != len(written) or", "False and"),
        QUARANTINE,
    ),
    edit(
        "erase what is held as if no record named it",
        "held-folders-are-no-strays",
        Swap(" or records.covers(name)", ""),
        HELD,
    ),
    edit(
        "take a record that cannot be listed for none",
        "unlisted-records-keep-all",
        Swap("None", "QuarantineRecords({}, ())"),
        QUARANTINE,
    ),
    edit("finish what is held already", "held-is-already-settled", ALWAYS, QUARANTINE, KILLS),
    edit(
        "hold what was being erased",
        "half-erased-is-not-held",
        Swap("entry_has_metadata_and_disk(self.filesystem, self.data_fd, image.place)", "True"),
        QUARANTINE,
    ),
    edit(
        "forget what is held before it is back for good",
        "back-before-record-goes",
        Become(
            "with suppress(OSError):\n            # Only then its record may go.\n            pass\n            _follow_back(folders, held)\n            drop_records(folders.filesystem, folders.data_fd, (held.batch_name,))"
        ),
        QUARANTINE,
    ),
    edit(
        "restore whatever stands in its place",
        "restore-the-right-image",
        Swap(" or not _is_that_image(folders, held, place)", ""),
        QUARANTINE,
    ),
    edit("restore without a timer", "restore-starts-a-timer", DROP, QUARANTINE),
    edit(
        "leave what a restore that was cut off has made",
        "cut-off-restore-is-undone",
        NEVER,
        QUARANTINE,
        KILLS,
    ),
    edit(
        "take the timer that is made first away first",
        "tags-before-timers",
        Swap(
            "remove_made_links",
            "for key in held.keys:\n        clear_state(folders.filesystem, folders.data_fd, key)\n    remove_made_links",
        ),
        QUARANTINE,
    ),
    edit(
        "release what is being restored",
        "restore-or-erase-not-both",
        Swap("self._take(held)", "held.name in self._held"),
        QUARANTINE,
    ),
    edit(
        "let a restore and a recovery write records at once",
        "one-writer-of-records",
        Swap("async with self._records", "if True"),
        QUARANTINE,
    ),
    edit(
        "empty the quarantine though the deletions found a reason to stop",
        "doubt-stops-emptying",
        Swap("(self.is_over or self.ledger.suspended)", "self.is_over"),
        QUARANTINE,
    ),
    edit("hold what was retired in the future until then", "future-hold-is-redated", DROP, QUARANTINE),
    # Containment.
    edit(
        "follow a link into a folder", "no-links-between-folders", Swap(" | os.O_NOFOLLOW", ""), FOLDERS, FUZZ
    ),
    edit(
        "follow a link where a file is read",
        "no-links-when-reading",
        Swap(" | os.O_NOFOLLOW", ""),
        FOLDERS,
        FUZZ,
    ),
    edit(
        "follow a link where a file is written", "no-links-when-writing", Swap(" | os.O_NOFOLLOW", ""), FUZZ
    ),
    edit(
        "follow a link where the journal is written",
        "no-links-for-the-log",
        Swap("O_NOFOLLOW | os.", ""),
        FUZZ,
    ),
    edit(
        "take a link in a digest folder for a file",
        "no-links-inside-images",
        Swap("READ,", "READ & ~os.O_NOFOLLOW,"),
        RETIREMENT,
        FUZZ,
    ),
    edit(
        "trust the intents on record",
        "only-own-intents-count",
        Become("return [*map(intent_of, records)]"),
        FUZZ,
    ),
    edit("walk upwards", "paths-lead-only-downwards", NEVER, FOLDERS),
    edit(
        "let two engines work on one data directory",
        "one-engine-per-directory",
        DROP,
        ("tests/disk/test_data_dir.py",),
        ENGINE,
    ),
    # What was read before.
    edit("trust a folder for ever", "trust-ends-after-hours", Become("return True"), VIEWS),
    edit("trust a folder that changes often for ever", "partial-read-renews-nothing", ALWAYS, VIEWS),
    edit(
        "take metadata of the same inode for the same",
        "same-file-same-content",
        Swap(" == (status.st_ino & _INODE_BITS, status.st_ctime_ns)", "[0] == status.st_ino & _INODE_BITS"),
        LOOKS,
    ),
    edit(
        "know a timer that could not be read",
        "unreadable-timer-is-retried",
        Swap("corrupt or (is_empty and path)", "is_empty and path"),
        LOOKS,
    ),
    edit(
        "read a damaged record", "damaged-record-is-ignored", Swap("or crc32(content) != checksum", ""), VIEWS
    ),
    edit(
        "keep the guests that were there when others are put in their place",
        "guests-are-listed-again",
        Swap("fingerprint == fingerprint", "names"),
        REFERENCES,
        VIEWS,
    ),
    edit(
        "keep the parts of a plan though something else is remembered",
        "tag-memory-renews-plan",
        Swap(" and inventory.remembered == self.remembered", ""),
        MODEL,
    ),
    edit(
        "forget what the first of two things of one name ran from",
        "each-guest-adds-its-past",
        Swap("|=", "= current |"),
        MODEL,
    ),
    edit(
        "trust what was known of guests before a power loss", "reboot-trusts-no-guest-file", NEVER, REFERENCES
    ),
    # Calls from elsewhere.
    edit(
        "take a parameter that a call does not know, and answer something else than was asked for",
        "unknown-parameter-is-refused",
        NEVER,
        ("tests/api/test_calls.py",),
    ),
    edit(
        "take calls from any event loop",
        "foreign-loop-is-refused",
        NEVER,
        ("tests/engine/test_other_loops.py", "tests/api/http/test_loop_guard.py"),
    ),
    edit(
        "end a lease from another event loop as from its own",
        "foreign-loop-hands-over",
        ALWAYS,
        ("tests/engine/test_other_loops.py",),
    ),
    edit(
        "let any task leave the block", "same-task-leaves-block", ALWAYS, ("tests/engine/test_one_task.py",)
    ),
    # Guests whose age proves nothing.
    edit(
        "let what is remembered of a tag settle what a new guest runs from",
        "new-guest-judged-itself",
        Swap(":", " or before is not None:"),
        FIRST_SIGHTS,
    ),
    edit(
        "judge a guest for good while part of its repository cannot be seen",
        "part-settles-nothing",
        ALWAYS,
        ("tests/content/test_guests_first_seen_in_part.py",),
    ),
    edit(
        "go by the age of a fork",
        "fork-age-proves-nothing",
        Swap("saved_state is not None or reference.", ""),
        FIRST_SIGHTS,
    ),
    edit("go by the age of a guest from the future", "future-age-proves-nothing", NEVER, FIRST_SIGHTS),
    edit(
        "go by the age of a guest that is older than every image",
        "age-before-every-image",
        NEVER,
        FIRST_SIGHTS,
    ),
    edit(
        "trust a link that is hardly older than its guest",
        "link-clearly-older",
        Swap(" - _DOUBT_NS", ""),
        FIRST_SIGHTS,
    ),
    edit(
        "trust that an image made right after a guest was not there before it",
        "unseen-tag-move-keeps-all",
        Swap(" + _DOUBT_NS", ""),
        FIRST_SIGHTS,
    ),
    edit(
        "ignore the disks that a saved state opens",
        "saved-state-disks-stay",
        Swap("reference.saved_state or ", ""),
        FIRST_SIGHTS,
    ),
    edit(
        "take a saved state that cannot be read for none",
        "unreadable-state-suspends",
        Become("return []"),
        SAVED_STATES,
    ),
    edit(
        "keep what was known of a saved state that has changed",
        "changed-state-read-again",
        Swap("(status", "() and (status"),
        SAVED_STATES,
    ),
    edit(
        "look into a saved state for one form of path alone",
        "any-spelling-of-slashes",
        Swap('_SLASHES.sub(b"/", before)', "before"),
        SAVED_STATES,
    ),
    edit(
        "forget a guest whose metadata has gone and whose folder has not",
        "guest-without-metadata",
        DROP,
        REFERENCES,
    ),
    edit(
        "forget what a guest named that could not be read before its metadata went",
        "torn-then-gone-still-protects",
        Become("references = known.references"),
        REFERENCES,
    ),
    edit(
        "forget the guests of a folder that was away for a while",
        "unlisted-folder-is-remembered",
        DROP,
        REFERENCES,
    ),
    # Tags that are there and cannot be read.
    edit(
        "take a folder with the name of a tag for no tag",
        "folder-in-place-of-tag",
        Swap("entries.folders", "()"),
        SAVED_STATES,
    ),
)
