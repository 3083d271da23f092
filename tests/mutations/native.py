"""Checks of the native core."""

from mutations.mutation import DROP, NEVER, Become, Swap, edit

__all__ = ["NATIVE_MUTATIONS"]

_CORE = "disk/_native.c"
_DELETION = "disk/_deletion.c"
_RETIREMENT = "disk/_retirement.c"
_ALIKE = ("tests/disk/test_native_core.py",)
_AS_FAR = ("tests/disk/test_native_retirement.py",)

NATIVE_MUTATIONS = (
    edit(
        "follow a link in the place of a folder of tags or timers, natively",
        "native-whole-folder-no-links",
        Swap("O_NOFOLLOW | ", ""),
        _ALIKE,
    ),
    edit(
        "follow a link to read metadata, natively", "native-read-no-links", Swap("O_NOFOLLOW | ", ""), _ALIKE
    ),
    edit(
        "follow a link in the place of a disk, natively",
        "native-disk-no-links",
        Swap("AT_SYMLINK_NOFOLLOW", "0"),
        _ALIKE,
    ),
    edit(
        "follow a link to tell whether a file has changed, natively",
        "native-stat-no-links",
        Swap("AT_SYMLINK_NOFOLLOW", "0"),
        _ALIKE,
    ),
    edit(
        "take a disk that cannot be looked at for none, natively",
        "native-unseen-disk-not-absent",
        NEVER,
        _ALIKE,
    ),
    edit("take a link for a file, natively", "native-links-listed-as-links", Swap("l", "f"), _ALIKE),
    edit(
        "follow a link in the place of a digest folder, natively",
        "native-folder-no-links",
        Swap("O_NOFOLLOW | ", ""),
        _ALIKE,
    ),
    edit(
        "open what a link in a digest folder leads to, natively",
        "native-open-no-links",
        Swap(")", " & ~O_NOFOLLOW)"),
        _ALIKE,
    ),
    edit(
        "take no lease, natively",
        "native-lease-every-file",
        Swap("fcntl(fd, F_SETLEASE, F_WRLCK) < ", ""),
        _ALIKE,
    ),
    edit(
        "go on where a lease is refused for an opener, natively",
        "native-first-refusal-decides",
        NEVER,
        _ALIKE,
    ),
    edit(
        "ask only the last lease, natively", "native-every-lease-counts", Swap("== F_WRLCK", ">= 0"), _ALIKE
    ),
    edit(
        "end the process by whoever opens a disk that is leased, natively",
        "native-lease-every-file",
        Swap("fcntl(fd, F_SETSIG, SIGURG) < 0 ||", ""),
        _ALIKE,
    ),
    edit(
        "take a link for a disk, natively",
        "native-disk-is-a-file",
        Swap("S_ISREG(found.st_mode) ? (long long)found.st_blocks : -1", "(long long)found.st_blocks"),
        _ALIKE,
    ),
    edit(
        "take a folder with a pipe in it for one of files only, natively",
        "native-files-and-no-more",
        Swap("== DT_REG", "!= DT_LNK && entry->type != DT_DIR"),
        _ALIKE,
    ),
    edit(
        "follow a link to the folder of an image, natively",
        "native-plain-folder-no-links",
        Swap("READ_FLAGS", "O_RDONLY"),
        _ALIKE,
    ),
    edit(
        "take a path with another device for the same, natively",
        "native-every-stamp-counts",
        Swap("mark[0] == found->st_dev", "1"),
        _ALIKE,
    ),
    edit(
        "take a path with another inode for the same, natively",
        "native-every-stamp-counts",
        Swap("mark[1] == found->st_ino", "1"),
        _ALIKE,
    ),
    edit(
        "take a path with another mtime for the same, natively",
        "native-every-stamp-counts",
        Swap("mark[2] == (uint64_t)nanoseconds(found->st_mtim)", "1"),
        _ALIKE,
    ),
    edit(
        "take a path with another ctime for the same, natively",
        "native-every-stamp-counts",
        Swap("mark[3] == (uint64_t)nanoseconds(found->st_ctim)", "1"),
        _ALIKE,
    ),
    edit(
        "take a path with another inode by its short mark for the same, natively",
        "native-short-stamp-counts",
        Swap("mark[0] == (int64_t)(found->st_ino & INT64_MAX)", "1"),
        _ALIKE,
    ),
    edit(
        "take a path with another ctime by its short mark for the same, natively",
        "native-short-stamp-counts",
        Swap("mark[1] == nanoseconds(found->st_ctim)", "1"),
        _ALIKE,
    ),
    edit(
        "take whatever tag has come in the place of another, natively",
        "native-tag-on-record-only",
        NEVER,
        _ALIKE,
    ),
    edit(
        "count what is freed of a disk that has other names, natively",
        "native-last-name-frees",
        Swap(" && found.st_nlink == 1", ""),
        _ALIKE,
    ),
    edit(
        "take no lease, in the one call that carries a deletion out",
        "native-lease-before-rename",
        Swap("fcntl(fd, F_SETLEASE, F_WRLCK) < ", ""),
        _AS_FAR,
    ),
    edit(
        "ask no lease again, in the one call that carries a deletion out",
        "native-lease-after-rename",
        Swap("all_leased(going) ? 0 : EBUSY", "0"),
        _AS_FAR,
    ),
    edit(
        "rename an image whose metadata was written over, in the one call that carries a deletion out",
        "native-metadata-unchanged",
        NEVER,
        _AS_FAR,
    ),
    edit(
        "rename another folder of content, in the one call that carries a deletion out",
        "native-same-folder",
        Become("return 0;"),
        _AS_FAR,
    ),
    edit(
        "look at nothing that has come into the folder, in the one call that carries a deletion out",
        "native-nothing-came-in",
        Swap("nanoseconds(found.st_mtim) != going->changed_ns", "0"),
        _AS_FAR,
    ),
    edit(
        "leave content unsynced, in the one call that carries a deletion out",
        "native-sync-before-tags",
        NEVER,
        _AS_FAR,
    ),
    edit(
        "take tags though something has come in the image's place, in the one call that carries a deletion out",
        "native-no-replacement-before-tags",
        NEVER,
        _AS_FAR,
    ),
    edit(
        "look for no pull once the tags are aside, in the one call that carries a deletion out",
        "native-no-replacement-after-tags",
        Swap("has_come(going)) || (*error = ", ""),
        _AS_FAR,
    ),
    edit(
        "take what cannot be looked at for absent, in the one call that carries a deletion out",
        "native-unseen-not-absent",
        NEVER,
        _AS_FAR,
    ),
    edit(
        "remove a tag that leads elsewhere, in the one call that carries a deletion out",
        "native-tag-leads-here",
        Swap("memcmp(heap->bytes + aside.start, target, strlen(target)) != ", ""),
        _AS_FAR,
    ),
    edit(
        "let the tag that shadows another go last, in the one call that carries a deletion out",
        "native-hiding-tag-goes-first",
        Swap(
            "going->tags.names.count - 1; number >= 0; number--",
            "0; number < going->tags.names.count; number++",
        ),
        _AS_FAR,
    ),
    edit(
        "remove a timer that was written over, in the one call that carries a deletion out",
        "native-timer-unchanged",
        Swap("mark[5] != nanoseconds(found.st_ctim)", "0"),
        _AS_FAR,
    ),
    edit(
        "keep openers waiting until all is done, in the one call that carries a deletion out",
        "native-release-openers",
        DROP,
        _AS_FAR,
    ),
)
