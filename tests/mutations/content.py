"""Checks that images of today's layout rest on, each taken away."""

from mutations.mutation import ALWAYS, DROP, NEVER, Become, Mutation, Swap, edit

__all__ = ["CONTENT_MUTATIONS"]

CONTENT = (
    *("tests/disk/deletion/test_examination.py", "tests/disk/deletion/tags/test_taken_links.py"),
    *(
        "tests/disk/deletion/tags/test_tag_view.py",
        "tests/disk/hypeman/test_rows.py",
        "tests/disk/hypeman/test_content.py",
    ),
    *("tests/disk/deletion/test_units.py", "tests/disk/deletion/recovery/test_units_in_quarantine.py"),
    *("tests/model/plan/test_shared_content.py", "tests/model/test_builds.py", "tests/model/test_origins.py"),
    *("tests/content/test_situations_of_units.py", "tests/content/test_situations_of_use.py"),
    *("tests/content/test_situations_of_races.py", "tests/content/test_situations_of_odd_trees.py"),
    *("tests/content/test_neighbours_of_units.py", "tests/content/test_neighbours_of_use.py"),
    *("tests/content/test_neighbours_of_limits.py", "tests/content/test_pullable.py"),
    "tests/content/test_hypeman_race_table.py",
)
UNITS = ("tests/disk/deletion/test_units.py",)
WANTED = ("tests/content/test_wanted_again.py",)
USE = ("tests/content/test_situations_of_use.py",)
FOLDERS = ("tests/disk/deletion/tags/test_empty_tag_folders.py",)
GHOSTS = ("tests/disk/deletion/test_late_ghosts.py",)

CONTENT_MUTATIONS = (
    # Who has it.
    edit("delete content that another repository has by now", "new-owner-keeps-content", NEVER, CONTENT),
    edit("delete content that one of its repositories has let go", "moved-tag-keeps-content", NEVER, CONTENT),
    edit("delete content by a name that is another by now", "same-name-in-metadata", NEVER, CONTENT),
    edit(
        "delete content to which a tag is being made",
        "tag-in-the-making-keeps",
        Swap("*tag_snapshot.staged(digest), *self._staged_legacy(names, digest)", ""),
        CONTENT,
    ),
    edit("delete content at whose owner's folder hypeman is at work", "own-folder-at-rest", NEVER, CONTENT),
    edit("delete a folder whose content is being made", "content-beside-at-rest", NEVER, CONTENT),
    edit(
        "delete a folder whose content is broken",
        "damaged-content-beside",
        Swap("content is not None", "False"),
        CONTENT,
    ),
    edit("delete a folder that is content by now", "folder-became-content", NEVER, CONTENT),
    edit("delete a folder to which a tag is being made", "coming-tag-keeps-folder", NEVER, CONTENT),
    edit(
        "let a tag that lookups do not see make an owner",
        "hidden-tags-own-nothing",
        Swap('not self.folders.exists(f"{folder}/{tag}")', "True"),
        CONTENT,
    ),
    edit(
        "take a folder that cannot be listed for empty of tags", "unlisted-tags-are-unknown", NEVER, CONTENT
    ),
    edit("overlook tags that are being made", "fresh-stage-counts", ALWAYS, CONTENT),
    edit("go by the tags that the scan has seen", "changed-tag-folders-relisted", NEVER, CONTENT),
    # All of it or nothing.
    edit("delete shared content though one of its rows stays", "every-owner-lets-go", ALWAYS, CONTENT),
    edit("press shared content though one of its rows stays", "every-owner-can-spare", ALWAYS, CONTENT),
    edit(
        "delete shared content in spite of what stops one row",
        "one-veto-stops-all",
        Become("first = Reason.EXPIRED"),
        CONTENT,
    ),
    edit(
        "rename content first",
        "content-goes-last",
        Swap("self.opened.items(", "reversed(self.opened.items()"),
        CONTENT,
    ),
    edit("open a disk by each of its names", "one-lease-per-inode", NEVER, CONTENT),
    # What comes meanwhile.
    edit("leave a ghost as it is", "disk-back-to-late-tag", Become("return False"), CONTENT),
    edit(
        "move a disk over another",
        "never-over-another-disk",
        Swap(" or any(exists(filesystem, target_fd, name) for name in ROOTFS_NAMES)", ""),
        WANTED,
    ),
    edit(
        "give a ghost its disk alone",
        "rest-before-disk",
        Become("pass"),
        WANTED,
    ),
    edit(
        "erase content though a repository has a folder of it by now",
        "new-folder-needs-content",
        NEVER,
        WANTED,
    ),
    edit("do not look who wants it before it is erased", "last-look-before-erase", NEVER, CONTENT),
    edit(
        "erase the disk of a promotion that was cut off",
        "cut-off-promotion-healed",
        Become("is_promotion = False"),
        WANTED,
    ),
    edit(
        "let an image go that a tag leads to by now", "new-tag-brings-back", Become("return False"), CONTENT
    ),
    edit(
        "put a tag back that could not be looked at",
        "unread-tag-stays-aside",
        Swap(" and doubt in (0, *NO_TAG)", ""),
        UNITS,
    ),
    edit(
        "leave the older tags that others hide",
        "hidden-tag-goes-along",
        Swap("(*shadowed, *legacy)", "legacy"),
        UNITS,
    ),
    edit("take the timer of a row that lives on as content", "timer-goes-on-as-content", ALWAYS, CONTENT),
    edit(
        "take the folder of a pull that began in it",
        "give-way-to-a-pull",
        ALWAYS,
        ("tests/disk/deletion/test_retirement.py",),
    ),
    # Crashes.
    edit("leave owners' folders out though their content stands", "standing-content-undoes", NEVER, UNITS),
    edit("forget what is hidden and not renamed", "finish-hidden-folders", DROP, CONTENT),
    edit("free what is wanted in a recovery", "recovery-looks-before-erase", DROP, CONTENT),
    edit(
        "leave the tags of what was erased before a crash", "tags-of-erased-go", Become("return True"), UNITS
    ),
    edit(
        "restore an index whose layers have gone", "no-restore-without-layers", Swap("layers", "()"), CONTENT
    ),
    # What is needed.
    edit(
        "ignore who needs content by a name that does not own it",
        "any-name-protects-owners",
        Swap(" if name in owners else owners", ""),
        CONTENT,
    ),
    edit(
        "trust a tag behind the tag of another repository",
        "tag-of-parent-hides",
        Swap("above is not None and (folder in above.tags or folder in above.odd_tags)", "False"),
        ("tests/model/test_protection_of_content.py",),
    ),
    edit(
        "trust a tag that is none",
        "odd-tag-target-unknown",
        Swap("tag in repository.odd_tags\n        or tag in repository.folder_tags", "False"),
        CONTENT,
    ),
    edit(
        "take timers that cannot be listed for none",
        "early-use-clears-every-timer",
        Swap("return None", "return TimerIndex((), ())"),
        ("tests/content/test_neighbours_of_use.py",),
    ),
    edit(
        "leave timers that were started since the last look to who may come to own the content",
        "fresh-timers-cleared-too",
        Swap(", *started", ""),
        ("tests/content/test_neighbours_of_use.py",),
    ),
    edit(
        "ignore a use by a name that does not own it",
        "foreign-use-counts",
        NEVER,
        ("tests/content/test_neighbours_of_use.py",),
    ),
    edit("clear one timer of content that others own", "use-clears-every-timer", NEVER, USE),
    edit(
        "take whoever uses content for its owner before the first scan",
        "ownership-needs-a-tag",
        Swap("has_tag_to", "owners is None or has_tag_to"),
        ("tests/content/test_neighbours_of_use.py",),
    ),
    Mutation(
        "ask who owns content before its timer is cleared, and not after",
        (
            (
                "own-timer-first",
                Swap(
                    "cleared", "owned = self._is_owner(images_fd, key, tag, owners)\n                cleared"
                ),
            ),
            ("use-clears-every-timer", Swap("self._is_owner(images_fd, key, tag, owners)", "owned")),
        ),
        ("tests/content/test_neighbours_of_use.py",),
    ),
    edit(
        "take hypeman's own builds for images that can be pulled again",
        "builds-are-irreplaceable",
        Swap("or _BUILD.fullmatch(repository) is not None", ""),
        CONTENT,
    ),
    edit(
        "take what builds have made for images that can be pulled again",
        "build-digests-count",
        Swap("_common(builds.digests, images.keys()", "set("),
        CONTENT,
    ),
    edit("take tags that builds have given for those of pulled images", "build-tags-count", NEVER, CONTENT),
    # What a row stands for.
    edit(
        "see past content that has no disk",
        "diskless-content-hides",
        Swap(' or (content.status == "ready" and content.broken is not None)', ""),
        CONTENT,
    ),
    edit(
        "delete what hypeman is at work on beside it",
        "unfinished-content-waits",
        Become('note = ""'),
        CONTENT,
    ),
    edit("delete what an older server is pulling into", "older-server-may-be-pulling", ALWAYS, CONTENT),
    edit("let content have no owner where no link leads to it", "untagged-content-has-owner", NEVER, CONTENT),
    # Leavings.
    edit(
        "clear away what changed a moment ago", "leftover-of-own-deletion", Swap(" <= latest_ns", ""), GHOSTS
    ),
    edit(
        "clear away what was there before the deletion",
        "leftover-of-own-deletion",
        Swap("earliest_ns <= ", ""),
        GHOSTS,
    ),
    edit(
        "set aside what holds more than metadata",
        "metadata-alone-is-leftover",
        Swap(" if _names_in(filesystem, content_fd, hexadecimal) == [METADATA] else None", ""),
        GHOSTS,
    ),
    edit(
        "clear away what holds more than metadata by now",
        "leftover-checked-aside",
        Swap("names == [METADATA]", "METADATA in names"),
        GHOSTS,
    ),
    edit("remove a folder in which a tag is about to be made", "empty-tag-folder-waits", ALWAYS, CONTENT),
    edit("remove a folder that hides an older tag", "hidden-tag-stays-hidden", NEVER, FOLDERS),
)
