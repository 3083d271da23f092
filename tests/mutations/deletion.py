"""Checks that a sweep's deletions rest on while they are carried out, each taken away."""

from mutations.mutation import DROP, NEVER, Become, Swap, edit

__all__ = ["DELETION_MUTATIONS"]

INSTEAD = ("tests/engine/test_in_place_of_what_fails.py",)
IN_ONE_CALL = ("tests/disk/deletion/test_in_one_call.py",)
FULL = ("tests/engine/test_full_disk.py",)
RETURNED = ("tests/engine/test_returned_tags.py",)
LATE = ("tests/content/test_situations_of_odd_trees.py",)
CUT_OFF = ("tests/disk/deletion/recovery/test_tags_after_interruptions.py",)
FAULTS = ("tests/engine/test_faults.py",)
TAGS = ("tests/disk/deletion/tags/test_taken_links.py",)
RESTORED = ("tests/disk/deletion/recovery/test_quarantine.py",)
DISK = ("tests/disk/test_filesystem.py",)
RELOAD = ("tests/engine/test_reload_in_a_sweep.py",)

DELETION_MUTATIONS = (
    edit(
        "delete on by the settings of before a reload",
        "reload-interrupts-batch",
        Swap("self.new_settings.are_waiting", "False"),
        RELOAD,
    ),
    edit("go on after a reload with what it forbids", "both-settings-let-go", Become("return True"), RELOAD),
    edit(
        "empty the quarantine by the settings of before a reload",
        "reload-stops-emptying",
        Become("return True"),
        RELOAD,
    ),
    edit(
        "go on after a reload that switches off",
        "switch-off-ends-sweep",
        Become("if not config.active:\n                pass"),
        RELOAD,
    ),
    edit(
        "remove a tag that a restore made in vain where hypeman can move it",
        "made-tag-is-set-aside",
        Become("folders.filesystem.unlink(link.tag, dir_fd=fd)"),
        TAGS,
    ),
    edit(
        "make the tags of an image before one that moved is back",
        "parked-tags-first",
        Become("pass"),
        CUT_OFF,
    ),
    edit(
        "erase what is set aside of the tags of an image that stands",
        "tags-of-standing-return",
        NEVER,
        CUT_OFF,
    ),
    edit("give a ghost its disk before its tags", "tags-before-disk", Become("pass"), CUT_OFF),
    edit("take the tags of a new image for those of a restore", "tags-of-new-image-stay", NEVER, CUT_OFF),
    edit("forget what could not be undone of a restore", "timers-tell-what-is-left", Become("pass"), CUT_OFF),
    edit("write the journal when the sweep has ended", "each-batch-in-journal", Become("pass"), FAULTS),
    edit("put an odd file over a tag that was set since", "odd-file-replaces-nothing", NEVER, TAGS),
    edit("let nothing go in place of what cannot be deleted", "next-in-place-of-failed", DROP, INSTEAD),
    edit(
        "delete in place of what failed beyond the limits of a sweep",
        "replacements-within-limit",
        DROP,
        INSTEAD,
        RELOAD,
    ),
    edit(
        "forget at the end of a process what failed",
        "failures-outlast-restart",
        Swap("(one.repository, one.digest): one for one in failures", ""),
        INSTEAD,
    ),
    edit(
        "write an intent on a full disk without the reserve", "intent-in-reserved-room", Become("raise"), FULL
    ),
    edit(
        "forget that its leases were taken, of an image that is carried out in one call",
        "leases-of-call-remembered",
        NEVER,
        IN_ONE_CALL,
    ),
    edit(
        "hold a disk that has another name, of an image that is carried out in one call",
        "second-name-takes-slow-path",
        Swap("and all(found.st_nlink == 1 for found in folder.found.values())", ""),
        IN_ONE_CALL,
    ),
    edit(
        "look for replacements below its own repository alone, of an image that is carried out in one call",
        "replacements-in-every-place",
        Swap("(CONTENT, *intent.repositories)", "intent.repositories"),
        IN_ONE_CALL,
    ),
    edit(
        "go on with its tags as if none had been set aside, of an image that is carried out in one call",
        "tags-aside-settled",
        Swap("None if step is Step.LOOKED else ", ""),
        IN_ONE_CALL,
    ),
    edit(
        "tell of no tag that is gone, of an image that is carried out in one call",
        "removed-tags-reported",
        Swap(" if prefetched is None else prefetched.gone", ""),
        IN_ONE_CALL,
    ),
    edit(
        "look at no recent deletion again after the host was started",
        "power-loss-returns-no-tag",
        NEVER,
        RETURNED,
    ),
    edit("leave the tags that led to a ghost", "tags-go-with-ghost", NEVER, LATE),
    edit("leave the tags of what is held to a power loss", "tags-of-held-go-again", DROP, RETURNED),
    edit(
        "restore an image before its tags are on the disk", "restored-tags-survive-power-loss", DROP, RESTORED
    ),
    edit("list an open folder from wherever its descriptor stands", "listing-shows-latecomers", DROP, DISK),
    edit("leave intents that have two names in the trash", "twice-named-intents-go", DROP, RETURNED),
)
